//! A manager that continues alone: most of the others are permanently lost, or its log was restored from a backup.
//!
//! Its log gets a new raft id and this manager as the only voter, in one write. All entries that it has count as committed: an
//! entry whose client was already answered may be among those that this manager had not seen committed. The first frame that it
//! then writes records this in history and fences the earlier managers. Until that frame is applied, a restart resumes an
//! interrupted recovery.

use projections::Cluster;
use projections::views::quorum;

use crate::daemon::failure::{Failure, code};
use crate::log::{Loaded, LogStore, Membership};

/// The raft id that this manager had before it continued alone, as long as its state does not yet record the change.
pub fn replaced(cluster: &Cluster, loaded: &Loaded) -> Option<u64> {
    let membership = loaded.membership.as_ref()?;
    let own = membership.own()?;
    membership.replaces.filter(|_| !cluster.knows_raft_id(own))
}

/// Draws a raft id that is not taken: 63 bits, and not 0. Nearly every number drawn is accepted at once.
pub fn draw_raft_id(draw: &mut dyn FnMut() -> u64, is_taken: impl Fn(u64) -> bool) -> u64 {
    loop {
        let raft_id = draw() >> 1;
        if raft_id > 0 && !is_taken(raft_id) {
            return raft_id;
        }
    }
}

/// Resets the log of a manager to have itself as the only voter, unless it already has. `draw` draws its new raft id. Returns
/// whether anything was written.
///
/// # Errors
/// When there is no cluster to continue, or the write fails.
pub fn begin(
    store: &dyn LogStore,
    loaded: &Loaded,
    cluster: &Cluster,
    draw: &mut dyn FnMut() -> u64,
) -> Result<bool, Failure> {
    let Some(own) = loaded.membership.as_ref().and_then(Membership::own).filter(|_| !cluster.members.is_empty()) else {
        let hint =
            "only a manager that was a member of a cluster can continue alone: use the state directory of another one";
        return Err(Failure::new("this manager's log holds no cluster yet", hint).with_code(code::USAGE));
    };
    if replaced(cluster, loaded).is_some() {
        tracing::info!("this manager continues alone: resuming an interrupted start");
        return Ok(false);
    }
    if quorum::voters(cluster).map(|member| member.raft_id).eq([own]) {
        tracing::warn!("--force-new-cluster is ignored: this manager is the only one that votes");
        return Ok(false);
    }
    let raft_id = draw_raft_id(draw, |drawn| cluster.knows_raft_id(drawn));
    tracing::warn!(
        managers = cluster.members.len(),
        index = loaded.last_index,
        "this manager continues alone with everything in its log; the earlier managers are fenced"
    );
    store.reset_to_single_voter(raft_id, own)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
