//! Erasing a value from frames of history. The frame's bytes are rewritten with a digest in place of the value, after the hash
//! and the leaf of the original: so the chain and the tree stay unchanged, and no longer verify the bytes. These are verified by
//! the event that announced the redaction, in a later frame: it contains the hash of the new bytes.
//!
//! ```text
//! original      header commands events                 hash, leaf: of these bytes
//! redacted      [hash, leaf] header commands events'   hash, leaf: those at the beginning
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use prost::Message;
use sha2::{Digest, Sha256};

use crate::frame::{self, FrameHash};
use crate::{Frame, Kind, RedactedBytes, ServiceId, ServiceSpec, codec};

/// The feature level from which every manager supports redacted frames.
pub const FEATURE_LEVEL: u32 = 3;
/// Maximum number of frames in one event: it takes a part of a frame's budget, and the state keeps a row for each.
pub const FRAMES_MAX: usize = 8_192;

/// Prefix of a digest that replaces a value.
const DIGEST_PREFIX: &str = "redacted:hmac-sha256:";
/// Hexadecimal digits after that.
const DIGEST_DIGITS: usize = 64;

/// The first bytes of a redacted frame, as protobuf encodes `RedactedFrame`: its only field and the length of that, then the tag
/// and the length of the hash. No other frame starts with these: its first field is the header.
const BEFORE_HASH: [u8; 4] = [0x7a, 68, 0x0a, 32];
/// The tag and the length of the leaf.
const BEFORE_LEAF: [u8; 2] = [0x12, 32];

/// The properties of a redacted frame's original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Original {
    /// Its hash in the chain.
    pub hash: FrameHash,
    /// Its leaf in the Merkle tree.
    pub leaf: FrameHash,
}

/// The properties of a frame before values were erased from it; `None` for an original frame.
pub fn original(stored: &[u8]) -> Option<Original> {
    let (hash, rest) = stored.strip_prefix(&BEFORE_HASH)?.split_first_chunk()?;
    let (leaf, _) = rest.strip_prefix(&BEFORE_LEAF)?.split_first_chunk()?;
    Some(Original { hash: *hash, leaf: *leaf })
}

/// The hash of the bytes of a redacted frame, as in the announcing event.
pub fn sha256(stored: &[u8]) -> FrameHash {
    Sha256::digest(stored).into()
}

/// Erases a value from a frame's stored bytes, which may already be redacted: the contents of this field of the service are
/// replaced by the digest. The result is the same on every manager.
///
/// # Errors
/// When the bytes are no frame, or the frame does not set the field.
pub fn redact(stored: &[u8], service: ServiceId, field: &Field, digest: &str) -> Result<Vec<u8>, String> {
    let mut frame = codec::decode_frame(stored).map_err(|error| error.to_string())?;
    let mut erased = false;
    for spec in specs_mut(&mut frame, service) {
        erased |= field.erase(spec, digest);
    }
    if !erased {
        return Err(format!("frame {} does not set {field} of service {service}", frame.header.index));
    }
    let original =
        original(stored).unwrap_or_else(|| Original { hash: frame::hash(stored), leaf: frame::leaf(stored) });
    let mut redacted = [BEFORE_HASH.as_slice(), &original.hash, &BEFORE_LEAF, &original.leaf].concat();
    redacted.extend(frame.encode_to_vec());
    Ok(redacted)
}

/// The frames whose redaction a frame announces, each with the hash of its bytes.
pub fn announced(frame: &Frame) -> impl Iterator<Item = (u64, FrameHash)> {
    let frames = codec::kinds(frame)
        .flat_map(|kind| if let Kind::HistoryRedacted(event) = kind { &event.frames[..] } else { &[] });
    frames.filter_map(|RedactedBytes { index, sha256 }| Some((*index, sha256.as_slice().try_into().ok()?)))
}

/// The redacted frames of a history read so far, each until its announcing frame is read.
#[derive(Debug, Clone, Default)]
pub struct Unannounced {
    frames: BTreeMap<u64, FrameHash>,
}

impl Unannounced {
    /// Processes the next frame; returns how many earlier ones it announces.
    pub fn take(&mut self, frame: &Frame, stored: &[u8]) -> u64 {
        let mut known = 0;
        for (index, sha256) in announced(frame) {
            if self.frames.get(&index) == Some(&sha256) {
                self.frames.remove(&index);
                known += 1;
            }
        }
        // After its events: no frame announces itself.
        if original(stored).is_some() {
            self.frames.insert(frame.header.index, sha256(stored));
        }
        known
    }

    /// Whether the history read so far yields the same state as when it was written.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The indexes of the frames.
    pub fn indexes(&self) -> impl Iterator<Item = u64> {
        self.frames.keys().copied()
    }
}

/// The service whose spec an event sets, and the spec.
pub fn spec_set_by(kind: &Kind) -> Option<(ServiceId, &ServiceSpec)> {
    if let Kind::ServiceCreated(event) = kind {
        Some((event.service, &event.spec))
    } else if let Kind::ServiceSpecUpdated(event) = kind {
        Some((event.service, &event.spec))
    } else {
        None
    }
}

fn specs_mut(frame: &mut Frame, service: ServiceId) -> impl Iterator<Item = &mut ServiceSpec> {
    frame.events.iter_mut().filter_map(move |event| {
        if let Some(Kind::ServiceCreated(ref mut event)) = event.kind {
            (event.service == service).then_some(&mut event.spec)
        } else if let Some(Kind::ServiceSpecUpdated(ref mut event)) = event.kind {
            (event.service == service).then_some(&mut event.spec)
        } else {
            None
        }
    })
}

/// The replacement of a value with this HMAC.
pub fn digest(hmac: &[u8; 32]) -> String {
    let digits = hmac.iter().map(|byte| format!("{byte:02x}"));
    std::iter::once(DIGEST_PREFIX.to_owned()).chain(digits).collect()
}

/// Whether a value is such a digest.
pub fn is_digest(value: &str) -> bool {
    value.strip_prefix(DIGEST_PREFIX).is_some_and(|digits| {
        digits.len() == DIGEST_DIGITS && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// A field of a service's spec from which a value can be erased: those whose text does not affect decisions of the cluster.
/// Written as in `blame` and `history diff`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// `env.NAME`.
    Env(String),
    /// `labels.KEY`.
    Label(String),
    /// `container.labels.KEY`.
    ContainerLabel(String),
    /// `command`, as a whole.
    Command,
    /// `args`, as a whole.
    Args,
}

/// Prefixes of the name of a variable and the keys of labels.
const ENV: &str = "env.";
const LABELS: &str = "labels.";
const CONTAINER_LABELS: &str = "container.labels.";

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |prefix: &str| text.strip_prefix(prefix).filter(|name| !name.is_empty()).map(str::to_owned);
        let field = match text {
            "command" => Some(Self::Command),
            "args" => Some(Self::Args),
            _ => named(ENV)
                .map(Self::Env)
                .or_else(|| named(LABELS).map(Self::Label))
                .or_else(|| named(CONTAINER_LABELS).map(Self::ContainerLabel)),
        };
        field.ok_or_else(|| {
            format!("{ENV}NAME, {LABELS}KEY, {CONTAINER_LABELS}KEY, args or command is expected, as `swarmctl blame` names fields")
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "{ENV}{name}"),
            Self::Label(key) => write!(f, "{LABELS}{key}"),
            Self::ContainerLabel(key) => write!(f, "{CONTAINER_LABELS}{key}"),
            Self::Command => f.write_str("command"),
            Self::Args => f.write_str("args"),
        }
    }
}

impl Field {
    /// The value of the field in a spec: for a list all items, each terminated by a zero byte.
    pub fn value(&self, spec: &ServiceSpec) -> Option<String> {
        let container = spec.template().container();
        let list = |items: &[String]| (!items.is_empty()).then(|| items.iter().flat_map(|item| [item, "\0"]).collect());
        match self {
            Self::Env(name) => container.env.iter().rev().find_map(|item| variable(item, name)).map(str::to_owned),
            Self::Label(key) => spec.annotations.as_ref()?.labels.get(key).cloned(),
            Self::ContainerLabel(key) => container.labels.get(key).cloned(),
            Self::Command => list(&container.command),
            Self::Args => list(&container.args),
        }
    }

    /// Replaces the value by a digest; returns whether there was one.
    pub fn erase(&self, spec: &mut ServiceSpec, digest: &str) -> bool {
        if let Self::Label(key) = self {
            let label = spec.annotations.as_mut().and_then(|annotations| annotations.labels.get_mut(key));
            return label.map(|label| digest.clone_into(label)).is_some();
        }
        let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut()) else { return false };
        match self {
            Self::Env(name) => {
                let mut erased = false;
                for item in container.env.iter_mut().filter(|item| variable(item, name).is_some()) {
                    *item = format!("{name}={digest}");
                    erased = true;
                }
                erased
            }
            Self::ContainerLabel(key) => container.labels.get_mut(key).map(|label| digest.clone_into(label)).is_some(),
            Self::Command => replace_list(&mut container.command, digest),
            Self::Args => replace_list(&mut container.args, digest),
            Self::Label(_) => false,
        }
    }
}

/// A field of a spec that contains a digest instead of a value.
pub fn redacted_field(spec: &ServiceSpec) -> Option<Field> {
    let container = spec.template().container();
    let of = |labels: &BTreeMap<String, String>, field: fn(String) -> Field| {
        labels.iter().find(|(_, value)| is_digest(value)).map(|(key, _)| field(key.clone()))
    };
    let is_redacted = |list: &[String]| list.iter().any(|item| is_digest(item));
    let variables = container.env.iter().filter_map(|item| item.split_once('='));
    variables
        .filter(|(_, value)| is_digest(value))
        .map(|(name, _)| Field::Env(name.to_owned()))
        .next()
        .or_else(|| of(&spec.annotations.as_ref()?.labels, Field::Label))
        .or_else(|| of(&container.labels, Field::ContainerLabel))
        .or_else(|| is_redacted(&container.command).then_some(Field::Command))
        .or_else(|| is_redacted(&container.args).then_some(Field::Args))
}

/// The value in `NAME=VALUE`, of the variable with this name.
fn variable<'a>(item: &'a str, name: &str) -> Option<&'a str> {
    item.strip_prefix(name)?.strip_prefix('=')
}

fn replace_list(list: &mut Vec<String>, digest: &str) -> bool {
    let erased = !list.is_empty();
    if erased {
        *list = vec![digest.to_owned()];
    }
    erased
}

#[cfg(test)]
mod tests;
