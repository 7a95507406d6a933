//! Frames and events: their creation, and the chain of frames.

use sha2::{Digest, Sha256};

use crate::schema::{Event, Reconciler, VolatilePayload};
use crate::{Cause, Kind, redaction};

/// Version of the meaning of the frames that this build writes.
pub const FORMAT: u32 = 1;
/// Highest feature level whose events this build supports.
pub const FEATURE_LEVEL: u32 = 4;
/// The feature level of a cluster before it is raised: its managers support everything except what [`Kind::feature_level`] lists.
pub const FEATURE_LEVEL_MIN: u32 = 1;
/// From this level on, every manager supports joined requests.
pub const JOINED_LEVEL: u32 = 4;
/// From this level on, every manager supports sinks with filters by object and node, and without values.
pub const SINK_FILTERS_LEVEL: u32 = 4;
/// Events after which a frame takes no more; the rest is the first work of the next turn. Keeps turns short.
pub const EVENTS_MAX: usize = 1_000;
/// Bytes of events after which a turn takes no more commands; after as many again it settles no more: several frames then fit
/// into one network message.
pub const BYTES_SOFT_MAX: usize = 512 * 1024;
/// Bytes above which a single command is rejected: SwarmKit's limit of one transaction. So a frame's commands take at most the
/// soft limit and one command; settling adds at most the soft limit and one spec.
pub const BYTES_HARD_MAX: usize = 1_536 * 1024;

/// SHA-256 of a frame's stored bytes; the next frame carries it.
pub type FrameHash = [u8; 32];

/// The hash that chains the next frame to the one with these bytes. A redacted frame keeps that of its original: readers that get
/// it from elsewhere must verify that the redaction was announced.
pub fn hash(stored: &[u8]) -> FrameHash {
    redaction::original(stored).map_or_else(|| Sha256::digest(stored).into(), |original| original.hash)
}

/// The frame's leaf in the Merkle tree of frames, hashed as in RFC 6962. A redacted frame keeps that of its original, too.
pub fn leaf(stored: &[u8]) -> FrameHash {
    let leaf = || Sha256::new_with_prefix([0]).chain_update(stored).finalize().into();
    redaction::original(stored).map_or_else(leaf, |original| original.leaf)
}

impl Event {
    /// An event caused by the command at `position` in its frame.
    pub fn by_command(position: usize, kind: Kind) -> Self {
        Self {
            cause: Some(Cause::Command(u32::try_from(position).unwrap_or(u32::MAX))),
            kind: Some(kind),
            ignorable: None,
        }
    }

    /// An event caused by a reconciler.
    pub fn by_reconciler(reconciler: Reconciler, kind: Kind) -> Self {
        Self { cause: Some(Cause::Reconciler(reconciler.into())), kind: Some(kind), ignorable: None }
    }
}

impl VolatilePayload {
    /// A secret to store under `key`.
    pub fn keep(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }

    /// The instruction to destroy the secret stored under `key`.
    pub fn destroy(key: impl Into<String>) -> Self {
        Self { key: key.into(), value: None }
    }
}
