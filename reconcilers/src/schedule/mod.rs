//! Where tasks go: filters say which nodes will do, ranking says which is best, and what cannot be placed is explained.
//!
//! Tasks of the same spec are placed as one group. [`Candidates`] keeps the nodes in the order in which they would be chosen,
//! so that a group costs the nodes with tasks of its service and those that it looks at before it finds enough, and a turn
//! what changed since the last. Only to say why nothing will do all nodes are judged.

pub mod filters;

mod candidates;
mod explain;
mod layout;
mod run;
mod spread;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use events::{Kind, TaskAssigned, TaskId, TaskPlacementFailed, Timestamp};
use projections::unplaced::Group;
use projections::{Cluster, Instance, Touched};

use crate::{Correction, Ctx, Scope};
pub use candidates::Candidates;
use explain::Explanation;
use filters::Filters;
use layout::{Layout, Layouts};
use run::Run;
use spread::{Spread, failures};

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    if scope.is_empty() || cluster.unplaced().is_empty() {
        return;
    }
    ctx.candidates.follow(cluster);
    let Candidates { pool, layouts, .. } = &mut *ctx.candidates;
    let mut run = Run::new(cluster, pool);
    let groups = due(cluster, scope, &mut run);
    if groups.is_empty() {
        return;
    }
    let mut left: VecDeque<Work> = groups.into_iter().map(|(group, all)| Work { group, all, done: 0 }).collect();
    while let Some(mut work) = left.pop_front() {
        // A large group goes on when all others have had their share.
        let most = if left.is_empty() { usize::MAX } else { out.share() };
        let is_through = !out.is_full() && place(&mut work, most, &mut run, layouts, ctx.now, out);
        // One that filled the turn may not be through.
        if !is_through || out.is_full() {
            left.push_back(work);
        }
        if out.is_full() {
            break;
        }
    }
    let waiting = left.iter().filter(|work| work.all).map(|work| work.group.0).collect();
    out.unreached = Some(Touched { waiting, placement: !left.is_empty(), ..Touched::default() });
}

/// A group on its way through a turn.
struct Work {
    group: Group,
    /// Whether to try again those of its tasks that waited in vain. New ones will fare no better, should nothing have changed.
    all: bool,
    /// So many tasks were looked at.
    done: usize,
}

/// The groups to place, in their order, but for services that are set aside; and of each whether all of its tasks are tried.
fn due(cluster: &Cluster, scope: &Scope, run: &mut Run<'_>) -> BTreeMap<Group, bool> {
    let mut due = due_of_all(cluster, scope, run);
    due.retain(|(service, _), _| !scope.aside.contains(service));
    due
}

/// Groups with new tasks, and of those that waited in vain the ones for which a node changed, or one has more room now that
/// would do. All tasks of the latter are tried.
fn due_of_all(cluster: &Cluster, scope: &Scope, run: &mut Run<'_>) -> BTreeMap<Group, bool> {
    let unplaced = cluster.unplaced();
    let mut due: BTreeMap<Group, bool> = unplaced.fresh_groups().map(|group| (group, false)).collect();
    if !scope.nodes.is_empty() || !scope.contacts.is_empty() {
        due.extend(unplaced.tried_groups().map(|group| (group, true)));
        return due;
    }
    let services = scope.services.iter().chain(&scope.waiting);
    due.extend(services.flat_map(|service| unplaced.tried_groups_of(*service)).map(|group| (group, true)));
    let roomier: Vec<usize> = scope.roomier.iter().filter_map(|node| run.pool.number(*node)).collect();
    if !roomier.is_empty() {
        let suited = unplaced.tried_groups().filter(|group| is_suited(cluster, *group, &roomier, run));
        due.extend(suited.map(|group| (group, true)));
    }
    due
}

/// Whether one of these nodes would do for a group that waited in vain.
fn is_suited(cluster: &Cluster, group: Group, nodes: &[usize], run: &mut Run<'_>) -> bool {
    let first = cluster.unplaced().tasks_of(group, true).next();
    let Some(first) = first.and_then(|(_, id)| cluster.tasks.get(id)) else { return false };
    let filters = Filters::of(cluster, first);
    nodes.iter().any(|number| filters.judge(*number, run).is_ok())
}

/// Looks at up to `most` more tasks of a group, which all have the same spec, and places as many of them as will fit into the
/// cluster and the turn. Whether none is left.
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
    let mut left = unplaced.tasks_of(work.group, work.all).skip(work.done).peekable();
    let Some((instance, first)) = left.peek().copied() else { return true };
    let Some(first) = cluster.tasks.get(first) else { return true };
    let filters = Filters::of(cluster, first);
    run.count_service(work.group.0);
    let mut refused: Vec<(TaskId, Arc<str>)> = Vec::new();
    let mut nodes: Option<Spread<'_>> = None;
    // Tasks that have their node already come after those that have none.
    let placement = cluster.spec_of(first).template().placement();
    let has_choice = matches!(instance, Instance::Slot(_));
    let layout = has_choice.then(|| layouts.of(placement, &filters, run.pool));
    let most = work.done.saturating_add(most);
    while work.done < most && !out.is_full() {
        let Some((instance, task)) = left.next() else { break };
        work.done += 1;
        let (Some(layout), Instance::Slot(_)) = (layout, instance) else {
            confirm((instance, task), &filters, run, out, &mut refused);
            continue;
        };
        let nodes = nodes.get_or_insert_with(|| {
            let failures = failures(cluster, work.group, now, run.pool);
            Spread::new(layout, failures, &filters, run)
        });
        let Some(number) = nodes.next(&filters, run) else {
            // What does not fit now will not fit for the next one either. More than the turn may say are left to the next.
            let text: Arc<str> = reasons(layout, &filters, run).into();
            if unplaced.all_wait_for(work.group, &text) {
                // Those that waited before need not be told.
                let is_before = |other: &(Instance, TaskId)| *other <= (instance, task);
                let before = unplaced.tasks_of(work.group, false).take_while(is_before).count();
                left = unplaced.tasks_of(work.group, false).skip(before).peekable();
            }
            let others = std::iter::once(task).chain(left.by_ref().map(|(_, task)| task));
            let news = others.filter(|task| !is_known(cluster, *task, &text)).take(out.most_tasks());
            refused.extend(news.map(|task| (task, Arc::clone(&text))));
            break;
        };
        assign(task, number, &filters, run, out);
        nodes.put_back(number, &filters, run);
    }
    explain(cluster, refused, out);
    left.peek().is_none()
}

fn assign(task: TaskId, number: usize, filters: &Filters<'_>, run: &mut Run<'_>, out: &mut Correction) {
    let claims = run.take(number, filters);
    let node = run.pool.get(number).id;
    out.push(Kind::TaskAssigned(TaskAssigned { task, node, claims }));
}

/// Whether it is known of a task that it waits for this reason.
fn is_known(cluster: &Cluster, task: TaskId, reason: &str) -> bool {
    cluster.tasks.get(task).and_then(|task| task.waiting.as_deref()) == Some(reason)
}

/// Why no node will do, counted over all of them.
fn reasons(layout: &Layout, filters: &Filters<'_>, run: &mut Run<'_>) -> String {
    let mut explanation = Explanation::default();
    for number in run.pool.numbers().collect::<Vec<usize>>() {
        if let Err(refusal) = filters.judge_knowing(number, layout.leaf_of(number).map(|_| ()), run) {
            explanation.count(refusal);
        }
    }
    explanation.sentence(run.pool.len())
}

/// A task of a global service has its node already; it only has to fit.
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

/// Says why tasks are not placed, each reason once, and nothing where it is known already.
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
mod tests;
