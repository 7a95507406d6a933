//! Requests that require a feature level of every manager: one of an older build would silently ignore a part of them.

use projections::Cluster;

use crate::Rejection;

/// Rejects a request that requires this feature level while the cluster has a lower one.
///
/// # Errors
/// Conflict, with the unsupported feature.
pub fn require_level(state: &Cluster, level: u32, subject: impl Into<String>, what: &str) -> Result<(), Rejection> {
    if state.feature_level() >= level {
        return Ok(());
    }
    let hint = "upgrade all managers first: `swarmctl node ls` shows them";
    Err(Rejection::conflict(subject, format!("not every manager supports {what}"), hint))
}
