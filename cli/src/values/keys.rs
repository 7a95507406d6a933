//! Detach keys: `ctrl-p,ctrl-q`.

use super::Invalid;

/// The bits of a letter that Ctrl keeps.
const CTRL: u8 = 0x1f;

/// A key sequence, as bytes of a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<u8>);

/// Reads keys.
///
/// # Errors
/// When one of them is unknown.
pub fn parse(text: &str) -> Result<Keys, Invalid> {
    let keys = text.split(',').map(key).collect::<Option<_>>().map(Keys);
    keys.ok_or_else(|| Invalid::new(format!("\"{text}\" is not a list of keys"), "write ctrl-p,ctrl-q or ctrl-a,d"))
}

fn key(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [key] if key.is_ascii_graphic() => Some(*key),
        [b'c', b't', b'r', b'l', b'-', key] if matches!(key, b'a'..=b'z' | b'@' | b'['..=b'_') => Some(key & CTRL),
        _ => None,
    }
}

/// Finds the key sequence in the input.
#[derive(Debug)]
pub struct Finder {
    keys: Keys,
    /// The number of matched keys: they are held back until the match is decided.
    held: usize,
}

impl Finder {
    /// A fresh matcher.
    pub fn new(keys: Keys) -> Self {
        Self { keys, held: 0 }
    }

    /// The part of this that is input, and whether the key sequence was completed.
    pub fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut input = Vec::new();
        for byte in typed {
            while self.held > 0 && self.keys.0.get(self.held) != Some(byte) {
                // The first held key is input; the others may start a new match.
                let held: Vec<u8> = self.keys.0.iter().take(self.held).copied().collect();
                let begins = (1..self.held).find(|from| self.keys.0.starts_with(&held[*from..])).unwrap_or(self.held);
                input.extend_from_slice(&held[..begins]);
                self.held -= begins;
            }
            if self.keys.0.get(self.held) == Some(byte) {
                self.held += 1;
            } else {
                input.push(*byte);
            }
            if self.held == self.keys.0.len() {
                return (input, true);
            }
        }
        (input, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_letters_with_and_without_ctrl() {
        assert_eq!(parse("ctrl-p,ctrl-q").map(|keys| keys.0), Ok(vec![16, 17]));
        assert_eq!(parse("ctrl-@,ctrl-[,ctrl-_,x").map(|keys| keys.0), Ok(vec![0, 27, 31, b'x']));
        for text in ["", "ctrl-", "ctrl-P", "ctrl-1", "ab", "a,,b", "é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_found_across_pieces_and_everything_else_is_input() {
        let rows: [(&str, &[&str], &str, bool); 7] = [
            ("a,b", &["xab", "y"], "x", true),
            ("a,b", &["xa", "by"], "x", true),
            ("a,b", &["xa", "xb"], "xaxb", false),
            ("a,b", &["aab"], "a", true),
            ("a,b,a,c", &["ababac"], "ab", true),
            ("a,a,b", &["aaab"], "a", true),
            ("ctrl-p,ctrl-q", &["\u{10}\u{10}", "x"], "\u{10}\u{10}x", false),
        ];
        for (keys, pieces, expected, found) in rows {
            let mut finder = Finder::new(parse(keys).expect("keys"));
            let (mut input, mut ended) = (Vec::new(), false);
            for piece in pieces {
                let (more, end) = finder.take(piece.as_bytes());
                input.extend(more);
                ended = end;
                if end {
                    break;
                }
            }
            assert_eq!((String::from_utf8_lossy(&input).as_ref(), ended), (expected, found), "{keys} in {pieces:?}");
        }
    }
}
