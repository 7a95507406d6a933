//! A point of history: an index, a time, or a tag.

use super::Invalid;
use super::start::{self, Start};

/// A point of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// An index or a time.
    Start(Start),
    /// A tag.
    Tag(String),
}

/// Reads a point. A text that starts with a letter and is not a time is taken for a tag, which the manager resolves.
///
/// # Errors
/// When the text is none of these.
pub fn parse(text: &str) -> Result<Point, Invalid> {
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    match start::parse(text) {
        Ok(start) => Ok(Point::Start(start)),
        Err(_) if is_word && text.starts_with(|first: char| first.is_ascii_alphabetic()) => {
            Ok(Point::Tag(text.to_owned()))
        }
        Err(refused) => Err(Invalid::new(
            refused.sentence.replace("neither an index nor a time", "neither an index, a time nor a tag"),
            refused.hint,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_an_index_nor_a_time_may_be_a_tag() {
        for text in ["7", "now", "yesterday", "2d", "03:12"] {
            assert_eq!(parse(text), start::parse(text).map(Point::Start), "{text}");
        }
        for text in ["before-migration", "v1.2", "tomorrow"] {
            assert_eq!(parse(text), Ok(Point::Tag(text.to_owned())));
        }
        for text in ["", "yesterday 25:00", "-x", "7x", "a/b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
