//! Where tasks go: filters say which nodes will do, ranking says which is best, and what cannot be placed is explained.
//!
//! Tasks of the same spec are placed as one group: nodes are filtered once and kept in a heap. For `t` tasks in `g` groups
//! on `n` nodes the cost is `g * n` for filtering and `t * log n` for placing.

pub mod filters;

mod candidates;
mod explain;
mod spread;

use events::{Kind, TaskAssigned, TaskId, TaskPlacementFailed};
use projections::{Cluster, Task};

use crate::{Correction, Ctx, Scope};
use candidates::Candidates;
use explain::Explanation;
use filters::Filters;
use spread::Spread;

/// Tasks of one service with the same spec, to be placed together.
struct Group<'a> {
    tasks: Vec<&'a Task>,
}

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    if scope.is_empty() {
        return;
    }
    let groups: Vec<Group<'_>> = groups(cluster).into_iter().filter(|group| is_due(cluster, group, scope)).collect();
    if groups.is_empty() {
        return;
    }
    let mut candidates = Candidates::of(cluster);
    for group in &groups {
        if out.is_full() {
            return;
        }
        place(cluster, group, &mut candidates, ctx, out);
    }
}

fn groups(cluster: &Cluster) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for task in cluster.unplaced_tasks() {
        let same = |group: &Group<'_>| {
            group
                .tasks
                .first()
                .is_some_and(|first| (first.service, first.spec_version) == (task.service, task.spec_version))
        };
        match groups.last_mut().filter(|group| same(group)) {
            Some(group) => group.tasks.push(task),
            None => groups.push(Group { tasks: vec![task] }),
        }
    }
    groups
}

/// A group that waited in vain is tried again only when a node changed, or one that has more room now would do.
fn is_due(cluster: &Cluster, group: &Group<'_>, scope: &Scope) -> bool {
    let Some(first) = group.tasks.first() else { return false };
    let new = group.tasks.iter().any(|task| task.waiting.is_none());
    if new || !scope.nodes.is_empty() || scope.services.contains(&first.service) {
        return true;
    }
    let filters = Filters::of(cluster, first);
    let mut roomier = scope.roomier.iter().filter_map(|node| cluster.nodes.get(*node));
    let with_ports = filters.ports().next().is_some();
    roomier.any(|node| filters.judge(&Candidates::one(cluster, node, with_ports)).is_ok())
}

fn place(cluster: &Cluster, group: &Group<'_>, candidates: &mut Candidates<'_>, ctx: &Ctx<'_>, out: &mut Correction) {
    let (bound, free): (Vec<&Task>, Vec<&Task>) = group.tasks.iter().copied().partition(|task| task.bound);
    let mut refused: Vec<(TaskId, String)> = Vec::new();
    for task in bound {
        confirm(cluster, task, candidates, out, &mut refused);
    }
    if let Some(first) = free.first() {
        let filters = Filters::of(cluster, first);
        let mut explanation = Explanation::default();
        let mut spread = Spread::of(cluster, first, &filters, candidates, &mut explanation, ctx.now);
        let mut left = free.iter();
        for task in left.by_ref().take(out.room()) {
            let Some(index) = spread.next(candidates) else {
                refused.push((task.id, String::new()));
                break;
            };
            let claims = candidates.take(index, task, &filters);
            spread.put_back(index, candidates, &filters);
            let node = candidates.node(index);
            out.events.push(Kind::TaskAssigned(TaskAssigned { task: task.id, node, claims }));
        }
        if let Some((_, text)) = refused.last_mut().filter(|(_, text)| text.is_empty()) {
            // What filled up while placing is counted as well.
            *text = spread.explain(&filters, candidates, explanation);
            let text = text.clone();
            refused.extend(left.map(|task| (task.id, text.clone())));
        }
    }
    explain(cluster, refused, out);
}

/// A task of a global service has its node already; it only has to fit.
fn confirm(
    cluster: &Cluster,
    task: &Task,
    candidates: &mut Candidates<'_>,
    out: &mut Correction,
    refused: &mut Vec<(TaskId, String)>,
) {
    let filters = Filters::of(cluster, task);
    let Some(index) = task.node.and_then(|node| candidates.position(node)) else {
        refused.push((task.id, "its node is not a member of the cluster".to_owned()));
        return;
    };
    match filters.judge(candidates.get(index)) {
        Ok(()) => {
            let claims = candidates.take(index, task, &filters);
            let node = candidates.node(index);
            out.events.push(Kind::TaskAssigned(TaskAssigned { task: task.id, node, claims }));
        }
        Err(refusal) => {
            let mut explanation = Explanation::default();
            explanation.count(refusal);
            refused.push((task.id, explanation.sentence(1)));
        }
    }
}

/// Says why tasks are not placed, each reason once, and nothing where it is known already.
fn explain(cluster: &Cluster, refused: Vec<(TaskId, String)>, out: &mut Correction) {
    let mut reasons: std::collections::BTreeMap<String, Vec<TaskId>> = std::collections::BTreeMap::new();
    for (task, reason) in refused {
        let known = cluster.tasks.get(task).and_then(|task| task.waiting.as_deref());
        if known != Some(reason.as_str()) {
            reasons.entry(reason).or_default().push(task);
        }
    }
    for (explanation, tasks) in reasons {
        out.events.push(Kind::TaskPlacementFailed(TaskPlacementFailed { tasks, explanation }));
    }
}
