//! Decodes keys: a terminal sends bytes, and for some keys sequences of bytes.

/// Maximum length of a key sequence; no terminal has longer ones.
const SEQUENCE_MAX: usize = 32;
/// Starts the sequences of special keys; alone it is the Escape key.
const ESCAPE: u8 = 0x1b;

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the keys")]
pub enum Key {
    Char(char),
    Ctrl(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
}

/// Decodes keys from bytes as they arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    /// An incomplete sequence or character.
    held: Vec<u8>,
}

/// The start of some bytes.
enum First {
    /// A key, or something that is not a key, with its length in bytes.
    Bytes(Option<Key>, usize),
    /// An incomplete sequence.
    Part,
}

impl Decoder {
    /// The keys that these bytes complete.
    pub fn take(&mut self, typed: &[u8]) -> Vec<Key> {
        self.held.extend_from_slice(typed);
        let (mut keys, mut at) = (Vec::new(), 0);
        while let Some(rest @ [_, ..]) = self.held.get(at..) {
            match first(rest) {
                First::Bytes(key, length) => {
                    keys.extend(key);
                    at += length;
                }
                First::Part => break,
            }
        }
        self.held.drain(..at);
        keys
    }
}

fn first(bytes: &[u8]) -> First {
    match bytes {
        [ESCAPE, b'[', sequence @ ..] => match sequence.iter().position(|byte| (0x40..=0x7e).contains(byte)) {
            Some(end) => First::Bytes(sequence_key(&sequence[..end], sequence[end]), end + 3),
            None if bytes.len() < SEQUENCE_MAX => First::Part,
            None => First::Bytes(None, bytes.len()),
        },
        [ESCAPE, b'O', last, ..] => First::Bytes(sequence_key(&[], *last), 3),
        [ESCAPE, b'O'] => First::Part,
        // A terminal sends a sequence at once, so a single Escape byte is the key.
        [ESCAPE, ..] => First::Bytes(Some(Key::Escape), 1),
        [b'\r' | b'\n', ..] => First::Bytes(Some(Key::Enter), 1),
        [0x7f | 0x08, ..] => First::Bytes(Some(Key::Backspace), 1),
        [b'\t', ..] => First::Bytes(Some(Key::Tab), 1),
        [letter @ 1..=26, ..] => First::Bytes(Some(Key::Ctrl(char::from(letter + b'a' - 1))), 1),
        _ => character(bytes),
    }
}

/// The key of a sequence, by its last byte and the parameters before it: the key's number, or modifiers.
fn sequence_key(before: &[u8], last: u8) -> Option<Key> {
    let number = before.split(|byte| *byte == b';').next().unwrap_or_default();
    match (last, number) {
        (b'A', _) => Some(Key::Up),
        (b'B', _) => Some(Key::Down),
        (b'C', _) => Some(Key::Right),
        (b'D', _) => Some(Key::Left),
        (b'H', _) | (b'~', b"1" | b"7") => Some(Key::Home),
        (b'F', _) | (b'~', b"4" | b"8") => Some(Key::End),
        (b'~', b"5") => Some(Key::PageUp),
        (b'~', b"6") => Some(Key::PageDown),
        _ => None,
    }
}

fn character(bytes: &[u8]) -> First {
    let length = match bytes.first() {
        Some(0x20..=0x7e) => 1,
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        Some(_) | None => return First::Bytes(None, 1),
    };
    let Some(bytes) = bytes.get(..length) else { return First::Part };
    match std::str::from_utf8(bytes) {
        Ok(text) => First::Bytes(text.chars().next().map(Key::Char), length),
        Err(_) => First::Bytes(None, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_keys_however_they_are_divided() {
        let table: [(&[u8], &[Key]); 12] = [
            (b"j:", &[Key::Char('j'), Key::Char(':')]),
            ("é漢🚀".as_bytes(), &[Key::Char('é'), Key::Char('漢'), Key::Char('🚀')]),
            (b"\r\t\x7f\x03", &[Key::Enter, Key::Tab, Key::Backspace, Key::Ctrl('c')]),
            (b"\x1b[A\x1b[B\x1b[C\x1b[D", &[Key::Up, Key::Down, Key::Right, Key::Left]),
            (b"\x1bOA\x1bOH\x1bOF", &[Key::Up, Key::Home, Key::End]),
            (b"\x1b[5~\x1b[6~\x1b[1~\x1b[8~", &[Key::PageUp, Key::PageDown, Key::Home, Key::End]),
            (b"\x1b[1;5C\x1b[5;2~", &[Key::Right, Key::PageUp]),
            // Sequences that are not keys here: F5, mouse reports, invalid UTF-8.
            (b"\x1b[15~x", &[Key::Char('x')]),
            (b"\x1b[<0;10;10Mx", &[Key::Char('x')]),
            (b"\xff\xc3x", &[Key::Char('x')]),
            (b"\x00x", &[Key::Char('x')]),
            (b"\xe6\xbc\xa2", &[Key::Char('漢')]),
        ];
        for (typed, keys) in table {
            assert_eq!(Decoder::default().take(typed), keys, "{typed:?}");
            let mut decoder = Decoder::default();
            // Only the Escape key is ambiguous until the next byte arrives.
            let (mut single, mut rest) = (Vec::new(), typed);
            while let [first, after @ ..] = rest {
                let count = if *first == ESCAPE { 2 } else { 1 };
                single.extend(decoder.take(&rest[..count]));
                rest = if count == 2 { &rest[2..] } else { after };
            }
            assert_eq!(single, keys, "byte by byte: {typed:?}");
        }
    }

    #[test]
    fn escape_alone_is_a_key_at_once() {
        assert_eq!(Decoder::default().take(b"\x1b"), [Key::Escape]);
        assert_eq!(Decoder::default().take(b"\x1bq"), [Key::Escape, Key::Char('q')]);
    }

    #[test]
    fn a_sequence_without_an_end_is_held_up_to_a_bound() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.take(b"\x1b[1"), []);
        assert_eq!(decoder.take(&[b'1'; SEQUENCE_MAX]), []);
        assert!(decoder.held.is_empty());
    }
}
