//! Where lines of the log go: to stderr, with every character escaped that could steer a terminal or break a line. Much of what
//! is logged are the words of others, such as a host name or what an engine says.

use std::borrow::Cow;
use std::io::{self, Write};

use events::escape;

/// The way of a line of text.
pub fn text() -> impl Write {
    Lines { out: io::stderr(), escape: escape::line }
}

/// The way of a line of JSON.
pub fn json() -> impl Write {
    Lines { out: io::stderr(), escape: escape::json }
}

/// Takes one line at a time.
struct Lines<W> {
    out: W,
    escape: fn(&str) -> Cow<'_, str>,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        let escaped = (self.escape)(line.trim_end_matches('\n'));
        // In one write, so that lines of several threads do not mix.
        self.out.write_all(format!("{escaped}\n").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
