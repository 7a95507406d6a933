//! Text from external sources, such as an engine's messages or a machine's own name, escaped for a terminal: nothing in it moves
//! the cursor, changes colours, or reverses the reading order.

use std::borrow::Cow;

/// Format characters (Unicode's category Cf) and line separators: they are invisible, and change how the rest is read.
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

/// Whether a terminal may print a character unchanged.
pub fn is_harmless(c: char) -> bool {
    // Most text is ASCII, of which the table has nothing.
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    !c.is_control() && !FORMAT.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// Whether a terminal may show a text as it is. Of ASCII alone that is seen many bytes at a time: exports are made of it.
fn is_all_harmless(text: &str) -> bool {
    text.bytes().fold(true, |all, byte| all & matches!(byte, b' '..=b'~')) || text.chars().all(is_harmless)
}

/// A text on one line, with every character that is not harmless written out: `\u{1b}`. A tab or a line break becomes a
/// space, which is what it means to a reader.
pub fn line(text: &str) -> Cow<'_, str> {
    if is_all_harmless(text) {
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

/// JSON with the same characters as `\u` escapes, which JSON readers decode. Only strings in it can contain such characters.
pub fn json(document: &str) -> Cow<'_, str> {
    if is_all_harmless(document) {
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
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(FORMAT.iter().all(|(first, last)| first <= last));
        assert!(FORMAT.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }
}
