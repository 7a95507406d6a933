//! Numbers and versions in labels, which constraints can order.
//!
//! `16`, `-3`, `v29.6.1`, `5.15.0-91-generic`: parts are compared one by one as numbers; missing parts are 0. A suffix after a
//! dash that starts with a digit adds parts; one that starts with a letter denotes an earlier version, like `-rc.1`. A suffix
//! after a plus sign does not affect the order.

use std::cmp::Ordering;

/// Maximum number of parts of a version: kernel versions have four.
const PARTS_MAX: usize = 16;

/// A number or a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    /// Without trailing zeros.
    parts: Vec<i64>,
    /// The pre-release identifiers: `rc`, `1`. Empty for a release.
    before: Vec<Identifier>,
}

/// Numbers sort before words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Word(String),
}

impl Version {
    /// Parses one; `None` if the text is not a version.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (text, sign) = text.strip_prefix('-').map_or((text, 1), |rest| (rest, -1));
        let text = if sign == 1 { text.strip_prefix(['v', 'V']).unwrap_or(text) } else { text };
        let text = text.split_once('+').map_or(text, |(version, _build)| version);
        let mut dashed = text.split('-');
        let mut parts: Vec<i64> = numbers(dashed.next()?).collect::<Option<_>>()?;
        let mut before = Vec::new();
        for piece in dashed {
            let is_number = piece.starts_with(|first: char| first.is_ascii_digit());
            match numbers(piece).collect::<Option<Vec<i64>>>() {
                Some(more) if before.is_empty() && is_number => parts.extend(more),
                Some(_) | None if piece.is_empty() => return None,
                Some(_) | None => before.extend(piece.split('.').map(Identifier::of)),
            }
        }
        if parts.len() > PARTS_MAX || before.len() > PARTS_MAX {
            return None;
        }
        parts[0] *= sign;
        // A kernel's flavour does not affect its order: only a suffix after at most three parts denotes an earlier version.
        if parts.len() > RELEASE_PARTS {
            before.clear();
        }
        while parts.last() == Some(&0) {
            parts.pop();
        }
        Some(Self { parts, before })
    }
}

/// Number of parts of a release in semantic versioning.
const RELEASE_PARTS: usize = 3;

fn numbers(text: &str) -> impl Iterator<Item = Option<i64>> {
    text.split('.').map(|part| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?)
}

impl Identifier {
    fn of(text: &str) -> Self {
        text.parse().map_or_else(|_| Identifier::Word(text.to_ascii_lowercase()), Identifier::Number)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let most = self.parts.len().max(other.parts.len());
        let part = |version: &Self, at: usize| version.parts.get(at).copied().unwrap_or(0);
        let parts = (0..most).map(|at| part(self, at).cmp(&part(other, at)));
        let is_release = |version: &Self| version.before.is_empty();
        let differs = |order: &Ordering| order.is_ne();
        parts.into_iter().find(differs).unwrap_or_else(|| match (is_release(self), is_release(other)) {
            (true, true) | (false, false) => self.before.cmp(&other.before),
            (false, true) => Ordering::Less,
            (true, false) => Ordering::Greater,
        })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_part_by_part() {
        let ascending = [
            "-20",
            "-3",
            "0",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1",
            "1.5",
            "1.10",
            "2",
            "5.4",
            "5.15.0",
            "5.15.0-91-generic",
            "5.15.0-92-generic",
            "v20.10.24",
            "29.6.1",
            "100",
        ];
        let versions: Vec<Version> = ascending.iter().map(|text| Version::parse(text).expect(text)).collect();
        for (pair, texts) in versions.windows(2).zip(ascending.windows(2)) {
            assert!(pair[0] < pair[1], "{texts:?}");
        }
    }

    #[test]
    fn the_same_version_can_be_written_differently() {
        for (one, other) in [("1", "1.0.0"), ("v1.2", "1.2"), ("1.2+build7", "1.2"), ("1-RC1", "1.0-rc1"), ("007", "7")]
        {
            assert_eq!(Version::parse(one), Version::parse(other), "{one} {other}");
        }
    }

    #[test]
    fn other_text_is_none() {
        for text in ["", "v", "-", "a", "1.", ".1", "1..2", "1-", "1.x", "one", "99999999999999999999"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
