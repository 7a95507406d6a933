//! Variables in values: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?why}`, `${NAME?why}`,
//! `${NAME:+other}`, `${NAME+other}`, and `$$` for a dollar sign. Defaults may contain variables themselves. Keys are not
//! interpolated.

use crate::yaml::{Fault, Node, Value};

/// Maximum nesting of defaults. They are read recursively, and no person writes deeper ones.
const DEPTH_MAX: usize = 16;

type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Interpolates all values of a tree.
///
/// # Errors
/// When a value has a malformed variable, or a required variable is not set.
pub(super) fn tree(node: &mut Node, variable: Variable<'_>) -> Result<(), Fault> {
    match &mut node.value {
        Value::Scalar { text, .. } if text.contains('$') => {
            *text = self::text(text, variable).map_err(|why| Fault::new(&node.at, why))?;
            Ok(())
        }
        Value::Scalar { .. } => Ok(()),
        Value::List(items) => items.iter_mut().try_for_each(|item| tree(item, variable)),
        Value::Map(entries) => entries.iter_mut().try_for_each(|(_, value)| tree(value, variable)),
    }
}

/// Interpolates one text.
///
/// # Errors
/// When a variable is malformed, or required and not set.
pub(super) fn text(text: &str, variable: Variable<'_>) -> Result<String, String> {
    expand(text, variable, 0)
}

fn expand(text: &str, variable: Variable<'_>, depth: usize) -> Result<String, String> {
    if depth > DEPTH_MAX {
        return Err(format!("defaults of variables are nested more than {DEPTH_MAX} deep"));
    }
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(braced) = after.strip_prefix('{') {
            let end = closing(braced).ok_or_else(|| format!("a variable has no closing brace in \"{text}\""))?;
            expanded.push_str(&substitute(&braced[..end], variable, depth)?);
            rest = &braced[end + 1..];
        } else {
            let (name, after) = split_name(after);
            if name.is_empty() {
                return Err(format!("a dollar sign without a variable in \"{text}\"; write $$ for a dollar sign"));
            }
            expanded.push_str(&variable(name).unwrap_or_default());
            rest = after;
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The position of the closing brace.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0usize;
    for (position, character) in text.char_indices() {
        match character {
            '{' => open += 1,
            '}' if open == 0 => return Some(position),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn split_name(text: &str) -> (&str, &str) {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let end = text.find(|character| !is_part(character)).unwrap_or(text.len());
    // A name does not start with a digit.
    let end = if text.starts_with(|first: char| first.is_ascii_digit()) { 0 } else { end };
    text.split_at(end)
}

/// The value of the expression between braces.
fn substitute(inside: &str, variable: Variable<'_>, depth: usize) -> Result<String, String> {
    let (name, rest) = split_name(inside);
    if name.is_empty() {
        return Err(format!("\"${{{inside}}}\" names no variable; write $$ for a dollar sign"));
    }
    let value = variable(name);
    let (value, rest) = match rest.strip_prefix(':') {
        // With a colon, an empty value counts as unset.
        Some(rest) => (value.filter(|value| !value.is_empty()), rest),
        None => (value, rest),
    };
    let (operator, operand) = rest.split_at_checked(1).unwrap_or(("", ""));
    match (operator, value) {
        ("", value) if inside == name => Ok(value.unwrap_or_default()),
        ("-" | "?", Some(value)) => Ok(value),
        ("-", None) | ("+", Some(_)) => expand(operand, variable, depth + 1),
        ("+", None) => Ok(String::new()),
        ("?", None) => {
            let why = expand(operand, variable, depth + 1)?;
            let why = if why.is_empty() { "it is required".to_owned() } else { why };
            Err(format!("the variable {name} has no value: {why}"))
        }
        _ => Err(format!("\"${{{inside}}}\" is not a variable; write $$ for a dollar sign")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_filled_in() {
        for (given, filled) in [
            ("plain", "plain"),
            ("$A-${A}.$Ax", "a-a."),
            ("$$A and $${A}", "$A and ${A}"),
            ("${B}", ""),
            ("${B-x} ${EMPTY-x} ${EMPTY:-x}", "x  x"),
            ("${B:-${A:-y}z}", "az"),
            ("${B:-}", ""),
            ("${A:+set} ${B:+set} ${EMPTY+set} ${EMPTY:+set}", "set  set "),
            ("${A?why}", "a"),
            ("{{.Node.Hostname}}", "{{.Node.Hostname}}"),
        ] {
            assert_eq!(text(given, &variable).as_deref(), Ok(filled), "{given}");
        }
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        let nested = format!("{}{}", "${B:-".repeat(20), "}".repeat(20));
        for (given, why) in [
            ("${B?}", "the variable B has no value: it is required"),
            ("${B:?set $A}", "the variable B has no value: set a"),
            ("${EMPTY:?x}", "has no value"),
            ("${A", "no closing brace"),
            ("cost $5", "a dollar sign without a variable"),
            ("$", "write $$"),
            ("${}", "names no variable"),
            ("${A!x}", "is not a variable"),
            ("${A:}", "is not a variable"),
            (&nested, "nested more than 16 deep"),
        ] {
            let refused = text(given, &variable).expect_err(given);
            assert!(refused.contains(why), "{given}: {refused}");
        }
    }
}
