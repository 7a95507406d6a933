//! What may be asked once every manager of the cluster knows it: one of an older build would leave it out and say nothing.

use projections::Cluster;

use crate::Rejection;

/// Refuses what needs this feature level while a manager knows less.
///
/// # Errors
/// Conflict, saying what not every manager knows.
pub fn require_level(state: &Cluster, level: u32, subject: impl Into<String>, what: &str) -> Result<(), Rejection> {
    if state.feature_level() >= level {
        return Ok(());
    }
    let hint = "upgrade all managers first: `swarmctl node ls` shows them";
    Err(Rejection::conflict(subject, format!("not every manager knows {what}"), hint))
}
