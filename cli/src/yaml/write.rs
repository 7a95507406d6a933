//! Writes values as text that people can read and edit, and that parses to the same values.

use serde_json::{Map, Value};

/// Words that a YAML parser could take for something other than text, including older parsers.
const WORDS: [&str; 13] = ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "<<", "="];

/// The document of a value.
pub fn to_text(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => map(&mut text, fields, 0),
        Value::Array(items) if !items.is_empty() => list(&mut text, items, 0),
        value => text = format!("{}\n", scalar(value)),
    }
    text
}

fn map(text: &mut String, fields: &Map<String, Value>, indent: usize) {
    for (position, (key, value)) in fields.iter().enumerate() {
        // The first entry of a map in a list follows the dash.
        if position > 0 || !text.ends_with("- ") {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str(&word(key));
        text.push(':');
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                text.push('\n');
                map(text, fields, indent + 2);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                list(text, items, indent + 2);
            }
            Value::String(lines) if is_block(lines) => block(text, lines, indent + 2),
            value => text.push_str(&format!(" {}\n", scalar(value))),
        }
    }
}

fn list(text: &mut String, items: &[Value], indent: usize) {
    for item in items {
        text.push_str(&" ".repeat(indent));
        text.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() => map(text, fields, indent + 2),
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                list(text, items, indent + 2);
            }
            item => text.push_str(&format!("{}\n", scalar(item))),
        }
    }
}

/// Whether a text is easier to read as a block scalar.
fn is_block(text: &str) -> bool {
    let is_printable = |line: &str| line.chars().all(|character| !character.is_control());
    let lines = text.strip_suffix('\n').unwrap_or(text);
    lines.contains('\n')
        && !text.starts_with([' ', '\n'])
        && !text.ends_with("\n\n")
        && lines.split('\n').all(is_printable)
}

fn block(text: &mut String, lines: &str, indent: usize) {
    text.push_str(if lines.ends_with('\n') { " |\n" } else { " |-\n" });
    for line in lines.strip_suffix('\n').unwrap_or(lines).split('\n') {
        if !line.is_empty() {
            text.push_str(&" ".repeat(indent));
            text.push_str(line);
        }
        text.push('\n');
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => word(text),
        // Only empty lists and maps get here; JSON is YAML.
        other => other.to_string(),
    }
}

/// A text without quotes if it is unambiguous, otherwise quoted as in JSON.
fn word(text: &str) -> String {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "_./-@+%=:, {}[]<>!*&|'()$;".contains(character);
    let begins_plainly = text.starts_with(|first: char| first.is_ascii_alphabetic() || "/_".contains(first))
        || text.starts_with("./")
        || text.starts_with("../");
    let plain = begins_plainly
        && text.chars().all(is_plain)
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_for_people() {
        let value = json!({
            "name": "web", "number": "8080", "flag": "no", "empty": [], "none": {},
            "lines": "one\n\ntwo\n", "list": ["a", {"b": 1, "c": [true, ["x"]]}, "node.role == worker"],
        });
        let text = "empty: []\nflag: \"no\"\nlines: |\n  one\n\n  two\nlist:\n  - a\n  - b: 1\n    c:\n      - true\n      - \n        - x\n  \
                    - node.role == worker\nname: web\nnone: {}\nnumber: \"8080\"\n";
        assert_eq!(to_text(&value), text);
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in [
            "",
            "a: b",
            "a #b",
            "- x",
            "1e3",
            "0x10",
            "~",
            "\u{1b}[0m",
            "é",
            "a\tb",
            "x\n y",
            " x",
            "x\n\n",
            "x\ny",
            "k:",
            "!t",
            "*a",
            "a, b",
        ] {
            let value = json!({"k": text, "l": [text]});
            let node = crate::yaml::one("f", &to_text(&value)).expect("it is YAML").expect("a document");
            let back: serde_json::Value = crate::yaml::from_node(&node).expect("a value");
            assert_eq!(back, value, "{text:?} as {}", to_text(&value));
        }
    }
}
