//! Commands for which a cluster can require a reason, so that history answers why as well as who and when.

use projections::Cluster;

use crate::{Command, Rejection};

/// Commands for which a reason can be required: those of operators. Certificates are renewed by a program, and keys are needed at
/// once to unlock a manager.
pub const MAY_REQUIRE: [&str; 32] = [
    "cluster.rotate-root",
    "cluster.rotate-token",
    "cluster.rotate-unlock-key",
    "cluster.update",
    "config.create",
    "config.remove",
    "config.update",
    "history.redact",
    "history.tag",
    "history.untag",
    "node.remove",
    "node.update",
    "operator.create",
    "operator.revoke",
    "secret.create",
    "secret.remove",
    "secret.update",
    "service.create",
    "service.pause",
    "service.remove",
    "service.resume",
    "service.rollback",
    "service.scale",
    "service.update",
    "sink.create",
    "sink.pause",
    "sink.remove",
    "sink.resume",
    "task.attach",
    "task.cp",
    "task.exec",
    "task.remove",
];

/// Checks that a command has a reason, if one is required.
///
/// # Errors
/// When the cluster requires a reason for it, and there is none.
pub fn require_reason(state: &Cluster, command: &Command, reason: Option<&str>) -> Result<(), Rejection> {
    let name = command.name();
    if state.spec().require_reason.iter().any(|verb| verb == name)
        && reason.is_none_or(|reason| reason.trim().is_empty())
    {
        let sentence = format!("this cluster wants a reason for {name}");
        return Err(Rejection::invalid(name, sentence, "say why with --reason TEXT"));
    }
    Ok(())
}
