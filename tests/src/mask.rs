//! Replaces ids in transcripts by readable names: `<n1>` for a node, `<web>` for a service, `<web.2b>` for the second task in
//! slot 2. So a transcript does not change when an earlier frame does.

use std::collections::BTreeMap;

use events::{Frame, Kind, codec};

/// Characters of an id.
const ID_LENGTH: usize = 25;
/// Characters of a root certificate's digest.
const DIGEST_LENGTH: usize = 50;
/// Hexadecimal digits of a frame's hash.
const HASH_LENGTH: usize = 64;
/// Number of letters of a checkpoint's root, and of a signature on it.
const ROOT_LENGTH: usize = 44;
const SIGNATURE_LENGTH: usize = 92;
/// The prefix of join tokens.
const TOKEN_PREFIX: &str = "SWMTKN-1-";
/// The prefix of unlock keys.
const KEY_PREFIX: &str = "SWMKEY-1-";

/// The names of ids, learned from history.
#[derive(Debug, Default)]
pub struct MaskNames {
    known: BTreeMap<String, String>,
    /// Number of tasks created so far in each slot.
    places: BTreeMap<String, usize>,
}

impl MaskNames {
    /// Learns from a frame.
    pub fn learn(&mut self, frame: &Frame) {
        for kind in codec::kinds(frame) {
            if let Kind::ClusterInitialised(event) = kind {
                self.known.insert(event.cluster.to_string(), "cluster".to_owned());
            } else if let Kind::NodeJoined(event) = kind {
                self.known.insert(event.node.to_string(), event.hostname.clone());
            } else if let Kind::ServiceCreated(event) = kind {
                self.known.insert(event.service.to_string(), event.spec.name().to_owned());
            } else if let Kind::TaskCreated(event) = kind {
                let service = self.of(&event.service.to_string()).to_owned();
                let node = event.node.map(|node| self.of(&node.to_string()).to_owned());
                let place = format!("{service}.{}", node.unwrap_or_else(|| event.slot.to_string()));
                let count = self.places.entry(place.clone()).or_default();
                *count += 1;
                let name = format!("{place}{}", ordinal(*count));
                self.known.insert(event.task.to_string(), name);
            }
        }
    }

    /// The id that this word stands for in a transcript; any other word unchanged.
    pub fn resolve(&self, word: String) -> String {
        let shown = word.strip_prefix('<').and_then(|name| name.strip_suffix('>'));
        let known = shown.and_then(|name| self.known.iter().find(|(_, known)| *known == name));
        known.map_or(word.clone(), |(id, _)| id.clone())
    }

    fn of<'a>(&'a self, id: &'a str) -> &'a str {
        self.known.get(id).map_or("id", String::as_str)
    }
}

/// `a` for the first, `z` for the 26th, `a27` for the next.
fn ordinal(count: usize) -> String {
    match u8::try_from(count) {
        Ok(small @ 1..=26) => char::from(b'a' + small - 1).to_string(),
        Ok(_) | Err(_) => format!("a{count}"),
    }
}

/// Masks the transcript of one scenario.
#[derive(Debug, Default)]
pub struct Mask {
    /// Join tokens in the order of their appearance.
    tokens: Vec<String>,
}

impl Mask {
    /// A text without ids.
    pub fn apply(&mut self, text: &str, names: &MaskNames) -> String {
        let mut masked = String::with_capacity(text.len());
        let (mut rest, mut begins) = (text, true);
        while !rest.is_empty() {
            if let Some((shown, after)) = begins.then(|| encoded(rest)).flatten() {
                masked.push_str(shown);
                rest = after;
                continue;
            }
            begins = rest.starts_with(|c: char| !is_base64(c));
            if let Some(after) = rest.strip_prefix(KEY_PREFIX) {
                let end =
                    after.find(|c: char| !c.is_ascii_alphanumeric() && c != '+' && c != '/').unwrap_or(after.len());
                masked.push_str("<unlock key>");
                rest = &after[end..];
                continue;
            }
            if let Some(after) = rest.strip_prefix(TOKEN_PREFIX) {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(after.len());
                masked.push_str(&self.token(&after[..end]));
                rest = &after[end..];
                continue;
            }
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            if end == 0 {
                let next = rest.chars().next().map_or(1, char::len_utf8);
                masked.push_str(&rest[..next]);
                rest = &rest[next..];
                continue;
            }
            // A token's prefix is a separate word.
            let word = &rest[..end];
            rest = &rest[end..];
            masked.push_str(&replaced(word, rest, names));
        }
        masked
    }

    fn token(&mut self, token: &str) -> String {
        let known = self.tokens.iter().position(|known| known == token);
        let position = known.unwrap_or_else(|| {
            self.tokens.push(token.to_owned());
            self.tokens.len() - 1
        });
        format!("<token-{}>", position + 1)
    }

    /// The token that a transcript shows as `<token-N>`.
    pub fn token_shown_as(&self, shown: &str) -> Option<String> {
        let number: usize = shown.strip_prefix("<token-")?.strip_suffix('>')?.parse().ok()?;
        let token = self.tokens.get(number.checked_sub(1)?)?;
        Some(format!("{TOKEN_PREFIX}{token}"))
    }
}

fn is_base64(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "+/=".contains(letter)
}

/// The replacement of a base64 root or signature at the start of the text, and the rest of the text.
fn encoded(text: &str) -> Option<(&'static str, &str)> {
    let (word, after) = text.split_at(text.find(|c: char| !is_base64(c)).unwrap_or(text.len()));
    match word.len() {
        ROOT_LENGTH if word.ends_with('=') => Some(("<root>", after)),
        SIGNATURE_LENGTH if word.ends_with('=') => Some(("<signature>", after)),
        _ => None,
    }
}

/// The replacement of a word; padded to the same width if a table column follows.
fn replaced(word: &str, after: &str, names: &MaskNames) -> String {
    let is_id = |length| word.len() == length && word.bytes().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase());
    let shown = match () {
        () if is_id(ID_LENGTH) => format!("<{}>", names.of(word)),
        () if is_id(DIGEST_LENGTH) => "<root digest>".to_owned(),
        () if is_id(HASH_LENGTH) => "<frame hash>".to_owned(),
        () => return word.to_owned(),
    };
    if after.starts_with("  ") { format!("{shown:<width$}", width = word.len()) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_give_way_to_names_and_columns_stay() {
        let names = MaskNames { known: [("0".repeat(25), "web.1a".to_owned())].into(), places: BTreeMap::new() };
        let id = "0".repeat(25);
        let text = format!("{id}  web.1\nsim-{id} of {id}.\n");
        let expected = "<web.1a>                   web.1\nsim-<web.1a> of <web.1a>.\n";
        assert_eq!(Mask::default().apply(&text, &names), expected);
    }

    #[test]
    fn tokens_are_numbered_as_they_appear() {
        let token = |secret: &str| format!("{TOKEN_PREFIX}{}-{secret}", "d".repeat(50));
        let (one, two) = (token(&"a".repeat(25)), token(&"b".repeat(25)));
        let mut mask = Mask::default();
        let shown = mask.apply(&format!("{one} {two} {one}"), &MaskNames::default());
        assert_eq!(shown, "<token-1> <token-2> <token-1>");
        assert_eq!(mask.token_shown_as("<token-2>"), Some(two));
    }
}
