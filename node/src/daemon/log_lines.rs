//! Writes log lines to stderr, with all characters escaped that could control a terminal or break a line. Much of what is
//! logged comes from outside, such as host names or messages of an engine.

use std::borrow::Cow;
use std::io::{self, Write};

use events::escape;

/// The writer for lines of text.
pub fn text() -> impl Write {
    Lines { out: io::stderr(), escape: escape::line }
}

/// The writer for lines of JSON.
pub fn json() -> impl Write {
    Lines { out: io::stderr(), escape: escape::json }
}

/// Writes one line per call.
struct Lines<W> {
    out: W,
    escape: fn(&str) -> Cow<'_, str>,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        let escaped = (self.escape)(line.trim_end_matches('\n'));
        // In one write, so that lines of several threads are not interleaved.
        self.out.write_all(format!("{escaped}\n").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The fields of every JSON line.
    const ALWAYS: [&str; 4] = ["timestamp", "level", "message", "target"];

    /// All source files of this crate.
    fn sources(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
        let files = entries.filter(|path| !path.ends_with("tests")).flat_map(|path| match path.extension() {
            None => sources(&path),
            Some(_) => vec![std::fs::read_to_string(path).expect("a file")],
        });
        files.collect()
    }

    /// The same without their tests.
    fn untested(dir: &Path) -> Vec<String> {
        let parts = |source: String| source.split("#[cfg(test)]\nmod tests {").next().map(str::to_owned);
        sources(dir).into_iter().filter_map(parts).collect()
    }

    /// The fields of one log statement: the macro arguments before its message.
    fn fields(arguments: &str) -> Vec<String> {
        let (mut depth, mut fields, mut field) = (0, Vec::new(), String::new());
        for letter in arguments.chars() {
            match letter {
                '"' if field.trim().is_empty() => return fields,
                ',' if depth == 0 => fields.push(std::mem::take(&mut field)),
                '(' | '[' => depth += 1,
                ')' | ']' if depth == 0 => return fields,
                ')' | ']' => depth -= 1,
                _ => {}
            }
            if letter != ',' {
                field.push(letter);
            }
        }
        fields
    }

    /// The name of a field: `%name`, `?name`, `name` or `name = value`.
    fn name(field: &str) -> String {
        let name = field.split(" = ").next().unwrap_or(field);
        name.trim().trim_start_matches(['%', '?']).to_owned()
    }

    #[test]
    fn the_fields_of_the_log_are_those_that_the_readme_lists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut used: BTreeSet<String> = ALWAYS.map(str::to_owned).into();
        for source in untested(&root.join("src")) {
            for level in ["info!(", "warn!(", "error!("] {
                let lines = source.split(level).skip(1).map(fields);
                used.extend(lines.flatten().map(|field| name(&field)).filter(|name| !name.starts_with("target:")));
            }
        }
        let readme = std::fs::read_to_string(root.join("../README.md")).expect("the README");
        let (_, table) = readme.split_once("| field | ").expect("the table of fields");
        let rows = table.lines().skip(2).take_while(|row| row.trim_start().starts_with('|'));
        let column = rows.map(|row| row.split('|').nth(1).expect("a column"));
        let listed = column.flat_map(|names| names.split('`').skip(1).step_by(2)).map(str::to_owned);
        assert_eq!(listed.collect::<BTreeSet<String>>(), used);
    }

    #[test]
    fn lengths_of_time_are_no_wider_than_a_number_of_json() {
        for source in untested(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
            // Milliseconds have 128 bits, which a line of JSON has as text.
            let mut wide = source.lines().filter(|line| line.contains(".as_millis()") && !line.contains("try_from("));
            assert_eq!(wide.next(), None);
        }
    }

    #[test]
    fn what_others_say_ends_no_line_and_steers_no_terminal() {
        let said = "host \u{1b}[2J\u{202e}x\r\nERROR forged\n";
        let quoted = format!("{{\"message\":{}}}\n", serde_json::to_string(said).expect("JSON"));
        type Escape = fn(&str) -> Cow<'_, str>;
        let table: [(Escape, &str, &str); 2] = [
            (escape::line, said, "host \\u{1b}[2J\\u{202e}x  ERROR forged\n"),
            (escape::json, &quoted, "{\"message\":\"host \\u001b[2J\\u202ex\\r\\nERROR forged\\n\"}\n"),
        ];
        for (escape, given, expected) in table {
            let mut out = Vec::new();
            Lines { out: &mut out, escape }.write_all(given.as_bytes()).expect("written");
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }
}
