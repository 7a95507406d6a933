//! Backups: the whole history of a cluster and its secrets as of one index, in one file that is sealed with a passphrase.
//!
//! ```text
//! magic, version | salt | rounds of the key derivation | head | history .. | secrets .. | end
//! ```
//!
//! A file is always sealed: history contains every service's spec, and the secrets include the cluster's root key and join
//! tokens. It contains no certificates and keys of nodes: a restored manager issues new ones to itself. Nor does it contain what
//! a start can rebuild, such as checkpoints, or what is specific to a machine, such as its addresses.
//!
//! Suggested order: [`sealed`] (chunks under a passphrase), [`record`] (what is in them), [`writer`], [`restore`].

mod record;
pub mod restore;
mod sealed;
pub mod writer;

use projections::{Cluster, Member};

pub use record::Head;
pub use sealed::BackupError;

/// Minimum length of a passphrase in bytes: a random one of this length cannot be guessed from a copy of the file.
pub const PASSPHRASE_BYTES_MIN: usize = 12;

/// The head of a backup of this manager's state.
pub fn head(cluster: &Cluster, member: &Member, hostname: &str, term: u64) -> Head {
    Head {
        cluster: cluster.id().to_string(),
        node: member.node.to_string(),
        hostname: hostname.to_owned(),
        raft_id: member.raft_id,
        term,
        index: cluster.position.index,
        log_time: cluster.position.time.unix_ns(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

#[cfg(test)]
mod tests;
