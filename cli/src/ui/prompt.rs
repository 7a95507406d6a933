//! The input line.

use super::command;
use super::keys::Key;

/// Maximum number of characters.
const LENGTH_MAX: usize = 500;

/// A line that is being typed.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Its purpose.
    pub kind: PromptKind,
    /// The text so far.
    pub text: String,
}

/// The purpose of an input line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptKind {
    /// A command.
    Command,
    /// A filter for lines.
    Filter,
    /// A point of history.
    Time,
}

impl PromptKind {
    /// The sign before the text.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Command => ":",
            Self::Filter => "/",
            Self::Time => "go to index, time or tag: ",
        }
    }
}

impl Prompt {
    /// An empty line.
    pub fn new(kind: PromptKind) -> Self {
        Self { kind, text: String::new() }
    }

    /// Handles a key; returns whether the line stays open.
    pub fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Char(typed) if self.text.chars().count() < LENGTH_MAX => self.text.push(typed),
            Key::Backspace => return self.text.pop().is_some(),
            Key::Ctrl('u') => self.text.clear(),
            Key::Tab if self.kind == PromptKind::Command => self.complete(),
            Key::Char(_) | Key::Ctrl(_) | Key::Enter | Key::Escape | Key::Tab => {}
            Key::Up | Key::Down | Key::Left | Key::Right => {}
            Key::PageUp | Key::PageDown | Key::Home | Key::End => {}
        }
        true
    }

    /// Completes the name of a command as far as it is unique.
    fn complete(&mut self) {
        let names: Vec<&str> = command::NAMES.iter().filter(|name| name.starts_with(&self.text)).copied().collect();
        let Some(first) = names.first() else { return };
        let is_common = |length: &usize| names.iter().all(|name| name.get(..*length) == first.get(..*length));
        let common = (0..=first.len()).rev().find(is_common).unwrap_or_default();
        self.text = first.get(..common).unwrap_or_default().to_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str, keys: &[Key]) -> Option<String> {
        let mut prompt = Prompt::new(PromptKind::Command);
        let all = text.chars().map(Key::Char).chain(keys.iter().copied());
        all.map(|key| prompt.press(key)).last()?.then_some(prompt.text)
    }

    #[test]
    fn a_line_is_typed_corrected_and_completed() {
        for (text, keys, result) in [
            ("no", &[Key::Tab][..], Some("no")),
            ("nod", &[Key::Tab], Some("nodes")),
            ("h", &[Key::Tab], Some("h")),
            ("hi", &[Key::Tab], Some("history ")),
            ("x", &[Key::Tab], Some("x")),
            ("ab", &[Key::Backspace], Some("a")),
            ("a", &[Key::Backspace, Key::Backspace], None),
            ("abc", &[Key::Ctrl('u'), Key::Char('d')], Some("d")),
        ] {
            assert_eq!(typed(text, keys).as_deref(), result, "{text} {keys:?}");
        }
        assert_eq!(typed(&"a".repeat(LENGTH_MAX + 1), &[]).map(|text| text.len()), Some(LENGTH_MAX));
    }
}
