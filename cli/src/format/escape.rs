//! Text from elsewhere, such as an engine's words or a name that a machine gave itself, as a terminal may show it: nothing
//! in it moves the cursor, changes colours, or turns the order of what is read around.

use std::borrow::Cow;

/// Format characters (Unicode's category Cf) and separators of lines: they show nothing, and change how the rest is read.
const FORMAT: [(char, char); 24] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{2064}'),
    ('\u{2066}', '\u{206f}'),
    ('\u{fdd0}', '\u{fdef}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{fffe}', '\u{ffff}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e007f}'),
    ('\u{e0080}', '\u{e0fff}'),
    ('\u{f0000}', '\u{10ffff}'),
];

/// Whether a terminal may show a character as it is.
fn is_harmless(c: char) -> bool {
    !c.is_control() && !FORMAT.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// A text on one line, with every character that is not harmless written out: `\u{1b}`. A tab or a line break becomes a
/// space, which is what it means to a reader.
pub fn line(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if is_harmless(c) => shown.push(c),
            c => shown.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(shown)
}

/// JSON with the same characters as `\u` escapes, which a reader of JSON takes for what they are. Only texts in it can have
/// such a character.
pub fn json(document: &str) -> Cow<'_, str> {
    if document.chars().all(is_harmless) {
        return Cow::Borrowed(document);
    }
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        if is_harmless(c) {
            shown.push(c);
        } else {
            shown.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One character of each sort that must not reach a terminal.
    pub(crate) const HOSTILE: &str =
        "a\u{1b}[31m\u{7}\u{8}\u{9b}2J\u{202e}\u{2066}\u{200b}\u{ad}\u{feff}\u{e0041}\u{2028}\r\nz";

    /// Checks that a text from a formatter, whose own line ends are its own, has nothing hostile in it.
    #[track_caller]
    pub(crate) fn assert_harmless(shown: &str) {
        let bad: Vec<char> = shown.chars().filter(|c| *c != '\n' && !is_harmless(*c)).collect();
        assert!(bad.is_empty(), "{bad:?} in {shown:?}");
    }

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(line("plain é 漢 🚀"), "plain é 漢 🚀");
        assert!(matches!(line("plain"), Cow::Borrowed(_)));
        assert_eq!(line("a\tb\r\nc"), "a b  c");
        assert_eq!(line("\u{1b}[2J"), r"\u{1b}[2J");
        assert_eq!(line("admin\u{202e}nimda"), r"admin\u{202e}nimda");
        let shown = line(HOSTILE);
        assert_harmless(&shown);
        assert!(shown.starts_with(r"a\u{1b}[31m\u{7}") && shown.ends_with('z') && !shown.contains('\n'), "{shown}");
    }

    #[test]
    fn json_means_the_same_afterwards() {
        let document = serde_json::to_string(&[HOSTILE, "é 🚀"]).expect("JSON");
        let shown = json(&document);
        assert_harmless(&shown);
        let read: Vec<String> = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(read, [HOSTILE, "é 🚀"]);
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(FORMAT.iter().all(|(first, last)| first <= last));
        assert!(FORMAT.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }
}
