//! Where a reading of history begins: at an index or at a time.

use events::Timestamp;

use super::Invalid;

const HINT: &str = "write an index such as 120, or a time such as 2026-01-31T12:00:00Z";

/// A place in history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The frame with this index.
    Index(u64),
    /// The first frame at or after this time.
    Time(Timestamp),
}

/// Reads an index or an RFC 3339 time in UTC.
///
/// # Errors
/// When the text is neither.
pub fn parse(text: &str) -> Result<Start, Invalid> {
    if let Ok(index) = text.parse() {
        return Ok(Start::Index(index));
    }
    text.parse().map(Start::Time).map_err(|_| Invalid::new(format!("\"{text}\" is neither an index nor a time"), HINT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_an_index_and_the_rest_a_time() {
        assert_eq!(parse("120"), Ok(Start::Index(120)));
        assert_eq!(parse("1970-01-01T00:00:01Z"), Ok(Start::Time(Timestamp::from_unix_ns(1_000_000_000))));
        for text in ["", "yesterday", "-1", "2026-01-31"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
