//! Escapes text from untrusted sources for a terminal (see [`events::escape`]).

pub use events::escape::*;

#[cfg(test)]
pub(crate) mod tests {
    use std::borrow::Cow;

    use super::*;

    /// One character of each class that must not reach a terminal.
    pub(crate) const HOSTILE: &str =
        "a\u{1b}[31m\u{7}\u{8}\u{9b}2J\u{202e}\u{2066}\u{200b}\u{ad}\u{feff}\u{e0041}\u{2028}\r\nz";

    /// Checks that a formatted text contains nothing hostile; its own line ends are allowed.
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
}
