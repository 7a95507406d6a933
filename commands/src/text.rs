//! Text from outside, truncated before it is used in a message or in the log.

/// The start of a text, at most `bytes_max` bytes, never cut within a character.
pub(crate) fn clip(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A text in quotation marks, for a message: shortened, with control characters escaped.
pub fn quote(text: &str) -> String {
    /// Enough to recognise the input; messages are sent in headers, which have a size limit.
    const QUOTED_BYTES_MAX: usize = 80;
    let shown = clip(text, QUOTED_BYTES_MAX);
    let more = if shown.len() < text.len() { "..." } else { "" };
    format!("\"{}{more}\"", shown.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(clip("aé", 3), "aé");
        assert_eq!(clip("aé", 2), "a");
        assert_eq!(clip("é", 1), "");
        assert_eq!(clip("", 5), "");
    }

    #[test]
    fn quoted_text_is_short_and_on_one_line() {
        assert_eq!(quote("a\nb"), "\"a\\nb\"");
        let long = quote(&"é".repeat(1_000));
        assert!(long.len() < 100 && long.ends_with("...\""), "{long}");
    }
}
