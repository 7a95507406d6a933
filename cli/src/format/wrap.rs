//! Wraps text to the width of a terminal.

use unicode_width::UnicodeWidthStr;

/// Below this width, wrapping is left to the terminal.
const COLUMNS_MIN: usize = 20;

/// Wraps text at spaces. A word that is longer than a line stays whole, so that ids and tokens can be copied. There is always at
/// least one line.
pub fn wrap(text: &str, columns: usize) -> Vec<&str> {
    if columns < COLUMNS_MIN || text.width() <= columns {
        return vec![text];
    }
    let mut lines = Vec::new();
    let (mut rest, mut end) = (text, None);
    let blanks = text.match_indices(' ').map(|(at, _)| at).chain([text.len()]);
    let mut start = 0;
    for at in blanks {
        let is_full = text.get(start..at).is_some_and(|line| line.width() > columns);
        if let Some(divide) = end.filter(|_| is_full) {
            lines.push(text.get(start..divide).unwrap_or_default());
            start = divide + 1;
            rest = text.get(start..).unwrap_or_default();
        }
        end = (at > start).then_some(at);
    }
    lines.push(rest);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_divided_at_blanks_and_words_stay_whole() {
        let words = "no suitable node (insufficient memory on 2 nodes)";
        assert_eq!(wrap(words, 60), [words]);
        assert_eq!(wrap(words, 30), ["no suitable node (insufficient", "memory on 2 nodes)"]);
        assert_eq!(wrap(words, 29), ["no suitable node", "(insufficient memory on 2", "nodes)"]);
        assert_eq!(wrap(words, 5), [words]);
        let token = "SWMTKN-1-0123456789abcdefghijklmnopqrstuvwxyz";
        assert_eq!(wrap(&format!("a token {token} and more"), 20), ["a token", token, "and more"]);
        assert_eq!(wrap(token, 20), [token]);
        assert_eq!(wrap("", 20), [""]);
        assert_eq!(wrap("漢字漢字漢字 漢字漢字漢字", 20), ["漢字漢字漢字", "漢字漢字漢字"]);
    }
}
