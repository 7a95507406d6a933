//! Where tasks go: filters say which nodes will do, ranking says which is best, and what cannot be placed is explained.
//!
//! Tasks of the same spec are placed as one group: nodes are filtered once and kept in a heap. For `t` tasks in `g` groups
//! on `n` nodes the cost is `g * n` for filtering and `t * log n` for placing.

pub mod filters;

mod candidates;
mod explain;
mod layout;
mod spread;

use events::{Kind, ServiceId, TaskAssigned, TaskId, TaskPlacementFailed};
use projections::{Cluster, Task, Touched};

use crate::{Correction, Ctx, Scope};
use candidates::Candidates;
use explain::Explanation;
use filters::Filters;
use layout::Layouts;
use spread::{Spread, failures};

/// Tasks of one service with the same spec, to be placed together. Ids only: a full turn does not come to all of them.
struct Group {
    service: ServiceId,
    spec_version: u64,
    tasks: Vec<TaskId>,
}

impl Group {
    fn tasks<'a>(&self, cluster: &'a Cluster) -> impl Iterator<Item = &'a Task> {
        self.tasks.iter().filter_map(|id| cluster.tasks.get(*id))
    }

    /// Whether some of it was never tried.
    fn is_new(&self, cluster: &Cluster) -> bool {
        self.tasks(cluster).any(|task| task.waiting.is_none())
    }
}

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    if scope.is_empty() {
        return;
    }
    let mut groups: Vec<Group> = groups(cluster).into_iter().filter(|group| is_due(cluster, group, scope)).collect();
    if groups.is_empty() {
        return;
    }
    let tasks: usize = groups.iter().map(|group| group.tasks.len()).sum();
    // The turn does not hold all of them: the smallest groups come first, so that none waits for a larger one.
    if tasks > out.room.events {
        groups.sort_by_key(|group| group.tasks.len());
    }
    let mut candidates = Candidates::of(cluster);
    let mut layouts = Layouts::default();
    let mut left = groups.as_slice();
    while let Some((group, rest)) = left.split_first().filter(|_| !out.is_full()) {
        place(cluster, group, &mut candidates, &mut layouts, ctx, out);
        // A group that filled the turn may not be through.
        if !out.is_full() {
            left = rest;
        }
    }
    out.unreached = Some(unreached(cluster, left));
}

/// What has to be looked at again for these groups to be due again: new tasks are due by themselves.
fn unreached(cluster: &Cluster, groups: &[Group]) -> Touched {
    let waited = groups.iter().filter(|group| !group.is_new(cluster));
    let services = waited.map(|group| group.service).collect();
    Touched { services, placement: !groups.is_empty(), ..Touched::default() }
}

fn groups(cluster: &Cluster) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (service, spec_version, task) in cluster.unplaced() {
        let same = |group: &&mut Group| (group.service, group.spec_version) == (service, spec_version);
        match groups.last_mut().filter(same) {
            Some(group) => group.tasks.push(task),
            None => groups.push(Group { service, spec_version, tasks: vec![task] }),
        }
    }
    groups
}

/// A group that waited in vain is tried again only when a node changed, or one that has more room now would do.
fn is_due(cluster: &Cluster, group: &Group, scope: &Scope) -> bool {
    if group.is_new(cluster) || !scope.nodes.is_empty() || scope.services.contains(&group.service) {
        return true;
    }
    let Some(first) = group.tasks(cluster).next() else { return false };
    let filters = Filters::of(cluster, first);
    let mut roomier = scope.roomier.iter().filter_map(|node| cluster.nodes.get(*node));
    let with_ports = filters.ports().next().is_some();
    roomier.any(|node| filters.judge(&Candidates::one(cluster, node, with_ports)).is_ok())
}

fn place<'a>(
    cluster: &'a Cluster,
    group: &Group,
    candidates: &mut Candidates<'a>,
    layouts: &mut Layouts<'a>,
    ctx: &Ctx<'_>,
    out: &mut Correction,
) {
    let (bound, mut free): (Vec<&Task>, Vec<&Task>) = group.tasks(cluster).partition(|task| task.bound);
    // In an order that people see: ids have none.
    free.sort_by_key(|task| task.slot);
    let mut refused: Vec<(TaskId, String)> = Vec::new();
    // Both kinds of tasks are judged by what of their own service is on a node.
    if let Some(any) = bound.first().or(free.first()) {
        candidates.count_service(cluster, any);
    }
    for task in bound {
        if out.is_full() {
            break;
        }
        confirm(cluster, task, candidates, out, &mut refused);
    }
    if let Some(first) = free.first() {
        let filters = Filters::of(cluster, first);
        let mut explanation = Explanation::default();
        let layout = layouts.of(cluster.spec_of(first).template().placed(), &filters, candidates);
        let mut spread = Spread::new(layout, failures(cluster, first, ctx.now));
        spread.fill(candidates, &filters, &mut explanation);
        let mut left = free.iter();
        while !out.is_full() {
            let Some(task) = left.next() else { break };
            let Some(index) = spread.next() else {
                refused.push((task.id, String::new()));
                break;
            };
            let claims = candidates.take(index, task, &filters);
            spread.put_back(index, candidates, &filters);
            let node = candidates.node(index);
            out.push(Kind::TaskAssigned(TaskAssigned { task: task.id, node, claims }));
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
            out.push(Kind::TaskAssigned(TaskAssigned { task: task.id, node, claims }));
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
        out.push_about(tasks, |tasks| Kind::TaskPlacementFailed(TaskPlacementFailed { tasks, explanation }));
    }
}
