//! Frames and events: how they are made, and how one frame is chained to the one before it.

use sha2::{Digest, Sha256};

use crate::schema::{Event, Reconciler, VolatilePayload};
use crate::{Cause, Kind, redaction};

/// Meaning of the frames that this build writes.
pub const FORMAT: u32 = 1;
/// Highest feature level whose events this build understands.
pub const FEATURE_LEVEL: u32 = 4;
/// The feature level of a cluster before it is raised: managers of it know everything but what [`Kind::feature_level`] says.
pub const FEATURE_LEVEL_MIN: u32 = 1;
/// From this level on, every manager knows requests that have others joined to them.
pub const JOINED_LEVEL: u32 = 4;
/// From this level on, every manager knows sinks that choose by object and node, and that leave values out.
pub const SINK_FILTERS_LEVEL: u32 = 4;
/// Events after which a frame takes no more; the rest is the next turn's first work. Keeps a turn short enough to answer
/// others.
pub const EVENTS_MAX: usize = 1_000;
/// Bytes of events after which a turn takes no more commands, and then as many again after which it settles no more:
/// several frames then fit into one network message.
pub const BYTES_SOFT_MAX: usize = 512 * 1024;
/// Bytes above which one command is refused: SwarmKit's limit of one transaction. So a frame's commands take at most the
/// soft bound and one command; what settling adds is at most the soft bound and one spec.
pub const BYTES_HARD_MAX: usize = 1_536 * 1024;

/// SHA-256 of a frame's stored bytes; the next frame carries it.
pub type FrameHash = [u8; 32];

/// The hash that chains the frame after the one with these bytes. A redacted frame keeps that of its original: whoever takes it from
/// elsewhere has to know that the redaction was announced.
pub fn hash(stored: &[u8]) -> FrameHash {
    redaction::original(stored).map_or_else(|| Sha256::digest(stored).into(), |original| original.hash)
}

/// The frame's leaf in the tree of frames, as RFC 6962 hashes it. A redacted frame keeps that of its original, too.
pub fn leaf(stored: &[u8]) -> FrameHash {
    let leaf = || Sha256::new_with_prefix([0]).chain_update(stored).finalize().into();
    redaction::original(stored).map_or_else(leaf, |original| original.leaf)
}

impl Event {
    /// A fact that follows from the command at `position` in its frame.
    pub fn by_command(position: usize, kind: Kind) -> Self {
        Self {
            cause: Some(Cause::Command(u32::try_from(position).unwrap_or(u32::MAX))),
            kind: Some(kind),
            ignorable: None,
        }
    }

    /// A fact that a reconciler established.
    pub fn by_reconciler(reconciler: Reconciler, kind: Kind) -> Self {
        Self { cause: Some(Cause::Reconciler(reconciler.into())), kind: Some(kind), ignorable: None }
    }
}

impl VolatilePayload {
    /// A secret to keep under `key`.
    pub fn keep(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }

    /// The order to destroy what is kept under `key`.
    pub fn destroy(key: impl Into<String>) -> Self {
        Self { key: key.into(), value: None }
    }
}
