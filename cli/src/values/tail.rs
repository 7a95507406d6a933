//! The number of last lines to show, or all.

use super::{Invalid, number};

/// More than any log has: a bound for the parser.
const LINES_MAX: u64 = 1_000_000_000_000;

/// This many lines, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail(pub Option<u64>);

/// Reads a number or `all`.
///
/// # Errors
/// When the text is neither.
pub fn parse(text: &str) -> Result<Tail, Invalid> {
    if text == "all" {
        return Ok(Tail(None));
    }
    let read = number::within(0..=LINES_MAX)(text);
    let hint = "write a number of lines, such as 100, or `all`";
    read.map(|lines| Tail(Some(lines))).map_err(|_| Invalid::new(format!("\"{text}\" is not a number of lines"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_all() {
        for (text, tail) in [("all", Tail(None)), ("0", Tail(Some(0))), ("100", Tail(Some(100)))] {
            assert_eq!(parse(text), Ok(tail));
        }
        for text in ["", "-1", "ALL", "1.5", "ten"] {
            assert!(parse(text).expect_err(text).sentence.contains("is not a number of lines"));
        }
    }
}
