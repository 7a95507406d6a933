//! The scheduler: filters decide which nodes are suitable, ranking decides which is best, and tasks that cannot be placed get an
//! explanation.
//!
//! Tasks of the same spec are placed as one group. [`Nodes`] keeps the nodes in the order in which they would be chosen, so that
//! the cost of a group depends on the nodes with tasks of its service and those visited until enough are found, and the cost of a
//! turn on what changed since the last one. All nodes are judged only to explain why none is suitable.

pub mod filters;
pub mod placing;
pub(crate) mod rebalance;

mod affinities;
mod crowds;
mod dependencies;
mod due;
mod explain;
mod layout;
mod leaf;
mod nodes;
mod order;
mod pool;
mod run;
mod spread;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use events::{Kind, TaskAssigned, TaskId, TaskPlacementFailed, Timestamp};
use projections::unplaced::Group;
use projections::{Cluster, Instance, Touched};

use crate::{Correction, Ctx, Scope};
pub(crate) use crowds::Crowds;
use due::{Retried, due, tasks};
use explain::Explanation;
use filters::Filters;
use layout::{Layout, Layouts};
pub(crate) use nodes::Nodes;
use run::Run;
use spread::{Spread, failures};

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    if scope.is_empty() || cluster.unplaced().is_empty() {
        return;
    }
    ctx.candidates.nodes.follow(cluster);
    let Nodes { pool, layouts } = &mut ctx.candidates.nodes;
    let mut run = Run::new(cluster, pool);
    let groups = due(cluster, scope, &mut run);
    if groups.is_empty() {
        return;
    }
    let mut left: VecDeque<Work> =
        groups.into_iter().map(|(group, retried)| Work { group, retried, done: 0 }).collect();
    while let Some(mut work) = left.pop_front() {
        // A large group continues after all others have had their share.
        let most = if left.is_empty() { usize::MAX } else { out.share() };
        let is_through = !out.is_full() && place(&mut work, most, &mut run, layouts, ctx.now, out);
        // One that filled the turn may not be complete.
        if !is_through || out.is_full() {
            left.push_back(work);
        }
        if out.is_full() {
            break;
        }
    }
    out.unreached = Some(unreached(left));
}

/// What to reconcile again to continue with these.
fn unreached(left: VecDeque<Work>) -> Touched {
    let (mut waiting, mut tasks_of_nodes, placement) = (BTreeSet::new(), BTreeSet::new(), !left.is_empty());
    for work in left {
        match work.retried {
            Retried::None => {}
            Retried::OnNodes(mut nodes) => tasks_of_nodes.append(&mut nodes),
            Retried::All => {
                waiting.insert(work.group.0);
            }
        }
    }
    Touched { waiting, tasks_of_nodes, placement, ..Touched::default() }
}

/// A group being placed in a turn.
struct Work {
    group: Group,
    /// Which of its tasks that could not be placed are retried. Without a change, the result would be the same.
    retried: Retried,
    /// Number of tasks visited.
    done: usize,
}

/// Visits up to `most` more tasks of a group, which all have the same spec, and places as many of them as fit into the cluster
/// and the turn. Returns whether none is left.
fn place(
    work: &mut Work,
    most: usize,
    run: &mut Run<'_>,
    layouts: &mut Layouts,
    now: Timestamp,
    out: &mut Correction,
) -> bool {
    let cluster = run.cluster;
    let unplaced = cluster.unplaced();
    let awaited = awaited(cluster, work);
    let mut left = tasks(unplaced, work.group, &work.retried).skip(work.done).peekable();
    let Some((instance, first)) = left.peek().copied() else { return true };
    let Some(first) = cluster.tasks.get(first) else { return true };
    let filters = Filters::of(cluster, first);
    let has_choice = matches!(instance, Instance::Slot(_));
    run.count(work.group.0, has_choice || filters.count_service());
    let mut refused: Vec<(TaskId, Arc<str>)> = Vec::new();
    let mut spread: Option<Spread<'_>> = None;
    // Tasks bound to a node sort after those that are not.
    let placement = cluster.spec_of(first).template().placement();
    let layout = has_choice.then(|| layouts.of(placement, &filters, run.pool));
    let most = work.done.saturating_add(most);
    while work.done < most && !out.is_full() && refused.len() < out.most_tasks().max(1) {
        let Some((instance, task)) = left.next() else { break };
        work.done += 1;
        if let Some(reason) = awaited.as_ref().filter(|_| dependencies::is_first(cluster, task)) {
            refused.push((task, Arc::clone(reason)));
            continue;
        }
        let (Some(layout), Instance::Slot(_)) = (layout, instance) else {
            out.places += 1;
            confirm((instance, task), &filters, run, out, &mut refused);
            continue;
        };
        let nodes = spread.get_or_insert_with(|| {
            let failures = failures(cluster, work.group, now, run.pool);
            Spread::new(layout, failures, &filters, run)
        });
        let Some(number) = nodes.next(task, &filters, run) else {
            // If this one does not fit now, the next one does not either. Tasks beyond the turn's budget are left to the next.
            let text: Arc<str> = reasons(layout, &filters, run).into();
            if unplaced.all_wait_for(work.group, &text) {
                // Those that waited before already have their reason.
                let is_before = |other: &(Instance, TaskId)| *other <= (instance, task);
                let before = unplaced.tasks_of(work.group, false).take_while(is_before).count();
                left = tasks(unplaced, work.group, &Retried::None).skip(before).peekable();
            }
            let others = std::iter::once(task).chain(left.by_ref().map(|(_, task)| task));
            let news = others.filter(|task| !is_known(cluster, *task, &text)).take(out.most_tasks());
            refused.extend(news.map(|task| (task, Arc::clone(&text))));
            break;
        };
        let is_alone = filters.affinities().is_first(run);
        assign(task, number, &filters, run, out);
        if is_alone {
            // The others are placed near the first one.
            spread = None;
        } else {
            nodes.put_back(number, &filters, run);
        }
    }
    explain(cluster, refused, out);
    left.peek().is_none()
}

/// What the first tasks of a group wait for, if the service has dependencies. Those that already waited for it continue to.
fn awaited(cluster: &Cluster, work: &mut Work) -> Option<Arc<str>> {
    let reason = dependencies::awaited(cluster, work.group.0)?;
    if cluster.unplaced().all_wait_for(work.group, &reason) {
        work.retried = Retried::None;
    }
    Some(reason)
}

fn assign(task: TaskId, number: usize, filters: &Filters<'_>, run: &mut Run<'_>, out: &mut Correction) {
    let claims = filters.take(number, run);
    let node = run.pool.get(number).id;
    out.push(Kind::TaskAssigned(TaskAssigned { task, node, claims }));
}

/// Whether a task is already recorded as waiting for this reason.
fn is_known(cluster: &Cluster, task: TaskId, reason: &str) -> bool {
    cluster.tasks.get(task).and_then(|task| task.waiting.as_deref()) == Some(reason)
}

/// Why no node is suitable, counted over all of them.
fn reasons(layout: &Layout, filters: &Filters<'_>, run: &mut Run<'_>) -> String {
    let mut explanation = Explanation::default();
    for number in run.pool.numbers().collect::<Vec<usize>>() {
        if let Err(refusal) = filters.judge_knowing(number, layout.leaf_of(number).map(|_| ()), run) {
            explanation.count(refusal);
        }
    }
    explanation.sentence(run.pool.len())
}

/// A task of a global service is already bound to its node; it only has to fit.
fn confirm(
    (instance, task): (Instance, TaskId),
    filters: &Filters<'_>,
    run: &mut Run<'_>,
    out: &mut Correction,
    refused: &mut Vec<(TaskId, Arc<str>)>,
) {
    let node = match instance {
        Instance::Slot(_) => None,
        Instance::Node(node) => run.pool.number(node),
    };
    let Some(number) = node else {
        refused.push((task, "its node is not a member of the cluster".into()));
        return;
    };
    match filters.judge(number, run) {
        Ok(()) => assign(task, number, filters, run, out),
        Err(refusal) => {
            let mut explanation = Explanation::default();
            explanation.count(refusal);
            refused.push((task, explanation.sentence(1).into()));
        }
    }
}

/// Records why tasks are not placed, one event per reason, and none if it is already recorded.
fn explain(cluster: &Cluster, refused: Vec<(TaskId, Arc<str>)>, out: &mut Correction) {
    let mut reasons: BTreeMap<Arc<str>, Vec<TaskId>> = BTreeMap::new();
    for (task, reason) in refused {
        if !is_known(cluster, task, &reason) {
            reasons.entry(reason).or_default().push(task);
        }
    }
    for (explanation, tasks) in reasons {
        let explanation = explanation.to_string();
        out.push_about(tasks, |tasks| Kind::TaskPlacementFailed(TaskPlacementFailed { tasks, explanation }));
    }
}

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
