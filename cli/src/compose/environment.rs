//! Environment variables: `environment`, and the files of `env_file`.

use std::collections::BTreeMap;

use events::ServiceSpec;

use super::interpolate;
use super::scope::{KeyRule, Scope, put};
use crate::spec::container;
use crate::yaml::{At, Node, Value};

/// Variables by their names.
pub type Variables = BTreeMap<String, String>;

/// Reads `environment`. A name without a value takes the value from the local environment, if it is set there.
pub(super) fn read(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    let mut given = Variables::new();
    for (at, name, value) in scope.pairs(node) {
        if name.is_empty() {
            let sentence = format!("{} has a value without a name", scope.path());
            scope.wrong(&at, sentence);
        } else if let Some(value) = value.or_else(|| (scope.local.variable)(&name)) {
            given.insert(name, value);
        }
    }
    add(spec, given);
}

/// Reads `env_file`: later files override earlier ones, and `environment` overrides both.
pub(super) fn read_files(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    let single = std::slice::from_ref(node);
    let items = if let Value::Map(_) = node.value { single } else { scope.items(node) };
    let mut from_files = Variables::new();
    for item in items {
        let mut file = EnvFile { required: true, ..EnvFile::default() };
        match &item.value {
            Value::Map(_) => scope.fields(&mut file, item, &ENV_FILE),
            Value::Scalar { .. } | Value::List(_) => file.path = scope.text(item).map(str::to_owned),
        }
        from_files.extend(variables(&file, &item.at, scope));
    }
    // The variables of `environment` may be in the spec already, or are added later; either way they win.
    let mut present = listed(spec);
    from_files.append(&mut present);
    add(spec, from_files);
}

#[derive(Default)]
struct EnvFile {
    path: Option<String>,
    required: bool,
    raw: bool,
}

const ENV_FILE: [(&str, KeyRule<EnvFile>); 3] = [
    ("path", KeyRule::Read(|file, node, scope| file.path = scope.text(node).map(str::to_owned))),
    ("required", KeyRule::Read(|file, node, scope| put(&mut file.required, scope.boolean(node)))),
    ("format", KeyRule::Read(|file, node, scope| put(&mut file.raw, scope.word(node, &[("raw", true)])))),
];

fn variables(file: &EnvFile, at: &At, scope: &mut Scope<'_>) -> Variables {
    let Some(path) = &file.path else {
        let sentence = format!("{} names no file", scope.path());
        scope.wrong(at, sentence);
        return Variables::new();
    };
    let text = (scope.local.read)(&scope.local.directory.join(path));
    let text = text.and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
    match text {
        Ok(text) => match parse(path, &text, file.raw, scope.local.variable) {
            Ok(variables) => variables,
            Err(why) => {
                scope.wrong(at, why);
                Variables::new()
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !file.required => Variables::new(),
        Err(error) => {
            let sentence = format!("cannot read {path}: {error}");
            scope.wrong(at, sentence);
            Variables::new()
        }
    }
}

/// Reads lines of `NAME=VALUE`. A value may be quoted. Unless the file is raw or the quotes are single, a value may contain
/// variables, including those of earlier lines. A name alone takes the value from the local environment, if it is set there.
///
/// # Errors
/// When a line has none of these forms; the error names the line.
pub fn parse(
    file: &str,
    text: &str,
    raw: bool,
    variable_of: &dyn Fn(&str) -> Option<String>,
) -> Result<Variables, String> {
    let mut variables = Variables::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = |why: String| format!("{file}:{}: {why}", number + 1);
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name.trim_end(), Some(value)));
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(place(format!("\"{name}\" is not a name of a variable; write NAME=VALUE")));
        }
        let value = match value {
            None => variable_of(name),
            Some(value) if raw => Some(value.to_owned()),
            Some(value) => {
                let known = |name: &str| variables.get(name).cloned().or_else(|| variable_of(name));
                Some(unquoted(value.trim(), &known).map_err(place)?)
            }
        };
        variables.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(variables)
}

fn unquoted(value: &str, known: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let between = |quote: char| value.strip_prefix(quote)?.rsplit_once(quote).map(|(inside, _)| inside);
    if let Some(inside) = between('\'') {
        return Ok(inside.to_owned());
    }
    if let Some(inside) = between('"') {
        let text = interpolate::text(inside, known)?;
        return Ok(text.replace("\\n", "\n").replace("\\\"", "\""));
    }
    // A comment starts at a `#` after a space.
    let plain = value.split_once(" #").map_or(value, |(plain, _)| plain.trim_end());
    interpolate::text(plain, known)
}

fn listed(spec: &ServiceSpec) -> Variables {
    let env = spec.template().container().env.iter();
    env.filter_map(|entry| entry.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn add(spec: &mut ServiceSpec, given: Variables) {
    let mut all = listed(spec);
    all.extend(given);
    container(spec).env = all.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable_of(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn lines_of_a_file_are_variables() {
        let text =
            "# comment\n\nA=1\nexport B = two words # why\nC='$A'\nD=\"x\\n${A}\"\nE=$HOME/$A\nHOME\nNONE\nF=a#b\nG=\n";
        let read = parse("f", text, false, &variable_of).expect("variables");
        let pairs: Vec<String> = read.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(pairs, ["A=1", "B=two words", "C=$A", "D=x\n1", "E=/root/1", "F=a#b", "G=", "HOME=/root"]);
        let raw = parse("f", "A=\"$HOME\"\n", true, &variable_of).expect("variables");
        assert_eq!(raw["A"], "\"$HOME\"");
    }

    #[test]
    fn other_lines_are_refused_with_their_number() {
        for (text, why) in [
            ("A=1\n=2\n", "f:2: \"\" is not a name"),
            ("A B=1\n", "f:1: \"A B\" is not a name"),
            ("A=${B?}\n", "f:1: the variable B has no value"),
        ] {
            assert!(parse("f", text, false, &variable_of).expect_err(text).contains(why), "{text}");
        }
    }
}
