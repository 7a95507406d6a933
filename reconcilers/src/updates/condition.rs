//! The condition of one place with respect to a rollout.

use events::{Availability, Timestamp, UpdateOrder};
use projections::{Cluster, Node, Service, Task};

use crate::global;
use crate::slots::{Slot, has_to_leave, is_rebalanced, serves};
use crate::templates::Templates;

/// The condition of one place.
pub(super) enum Condition<'a> {
    /// Its task has an outdated spec.
    OutOfDate,
    /// A task of the current spec serves, or may only start once these others stop.
    Superseded(Vec<&'a Task>),
    /// Nothing to do.
    Done,
}

pub(super) fn condition<'a>(
    cluster: &Cluster,
    service: &Service,
    templates: &Templates,
    order: UpdateOrder,
    slot: &Slot<'a>,
) -> Condition<'a> {
    let is_clean = |task: &&&Task| task.is_live() && !templates.is_out_of_date(cluster, task);
    let beside = |kept: &Task| -> Vec<&'a Task> {
        slot.iter().copied().filter(|task| task.is_wanted() && task.id != kept.id).collect()
    };
    // One that has to leave its node, or is being replaced, serves only until another one does.
    let leaves = |task: &Task| has_to_leave(cluster, task) || is_rebalanced(cluster, task);
    let stays = |task: &&&Task| serves(task) && is_clean(task) && !leaves(task);
    let serving = slot.iter().rev().find(stays);
    let coming = slot.iter().rev().find(is_clean);
    let others = match (serving, coming) {
        (Some(serving), _) => beside(serving),
        // The old task may hold a port that the new one needs.
        (None, Some(coming)) if order == UpdateOrder::StopFirst => beside(coming),
        (None, Some(_)) => return Condition::Done,
        (None, None) => {
            let task = slot.iter().rev().find(|task| task.is_live()).or(slot.last());
            let changes =
                |task: &&&Task| templates.is_out_of_date(cluster, task) && takes_change(cluster, service, task);
            return if task.filter(changes).is_some() { Condition::OutOfDate } else { Condition::Done };
        }
    };
    if others.is_empty() { Condition::Done } else { Condition::Superseded(others) }
}

/// Until when a place stays down because its old task failed, and gets a new one only after the restart delay. That delay applies
/// to failed tasks, not to those of the rollout.
pub(super) fn waits_for_restart(
    cluster: &Cluster,
    templates: &Templates,
    slot: &Slot<'_>,
    now: Timestamp,
) -> Option<Timestamp> {
    let waiting = slot.last().filter(|task| task.is_wanted()).filter(|_| !slot.iter().any(|task| serves(task)))?;
    let until = waiting.start_after.filter(|start_after| now < *start_after)?;
    let failed = slot.iter().find(|task| waiting.replaces == Some(task.id))?;
    (failed.state.is_terminal() && templates.is_out_of_date(cluster, failed)).then_some(until)
}

/// A node that takes no tasks, or is not (or no longer) suitable for a global service, gets no new one: its tasks are stopped
/// elsewhere. A node that becomes suitable again gets its task without a rollout.
fn takes_change(cluster: &Cluster, service: &Service, task: &Task) -> bool {
    let Some(node) = task.node.filter(|_| task.is_bound()) else { return true };
    let suits = |node: &Node| node.spec.availability() == Availability::Active && global::suits(cluster, service, node);
    !task.had_to_leave() && cluster.nodes.get(node).is_some_and(suits)
}
