//! Regular expressions in specs. Matching takes time linear in the text, and compiling is bounded, so that no expression delays a
//! manager. Specs are parsed again for each task that is judged: recently compiled expressions are cached.

use std::cell::RefCell;
use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

/// Maximum length of an expression in bytes: typical ones have a tenth of it.
const LENGTH_MAX: usize = 256;
/// Maximum memory of a compiled expression, which also bounds the time to compile it.
const SIZE_MAX: usize = 256 * 1_024;
/// Maximum number of cached expressions: 16 MiB in the worst case.
const KEPT_MAX: usize = 64;

thread_local! {
    /// The recently used expressions.
    static KEPT: RefCell<BTreeMap<String, Regex>> = RefCell::default();
}

/// A regular expression that is searched anywhere in a text, ignoring case unless it sets that itself.
#[derive(Debug, Clone)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Compiles an expression, or returns why that is impossible.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("has an empty regular expression");
        }
        if text.len() > LENGTH_MAX {
            return Err("has a regular expression of more than 256 bytes");
        }
        KEPT.with_borrow_mut(|kept| match kept.get(text) {
            Some(regex) => Ok(Self(regex.clone())),
            None => {
                let regex = compiled(text)?;
                if kept.len() >= KEPT_MAX {
                    kept.clear();
                }
                kept.insert(text.to_owned(), regex.clone());
                Ok(Self(regex))
            }
        })
    }

    /// Whether it matches some part of a text.
    pub(super) fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

fn compiled(text: &str) -> Result<Regex, &'static str> {
    let regex = RegexBuilder::new(text).case_insensitive(true).size_limit(SIZE_MAX).build();
    regex.map_err(|_| "has a regular expression that cannot be read, or is too large once compiled")
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forgotten_is_made_again() {
        for round in 0..2 {
            for number in 0..2 * KEPT_MAX {
                let pattern = Pattern::parse(&format!("^node-{number}$")).expect("a pattern");
                assert!(pattern.is_in(&format!("NODE-{number}")) && !pattern.is_in("node-x"), "{round} {number}");
            }
        }
    }

    #[test]
    fn what_would_take_long_is_refused() {
        for text in ["", "(", "(?P<a", "(a{100}){100}", "\\w{500}", &"a".repeat(257)] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
        for text in ["^\\w+-\\d+$", "(a+)+$", "^(east|west)\\b", &"a".repeat(256)] {
            assert!(Pattern::parse(text).is_ok(), "{text}");
        }
    }
}
