//! Commands that a cluster wants a reason for, so that its history says why as well as who and when.

use projections::Cluster;

use crate::{Command, Rejection};

/// Commands that a reason may be required for: what operators ask. A certificate is renewed by a program, and keys are shown to
/// whoever must unlock a manager now.
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

/// Judges whether a command says enough about why it is asked for.
///
/// # Errors
/// When the cluster wants a reason for it, and there is none.
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
