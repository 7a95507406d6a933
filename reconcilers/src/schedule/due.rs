//! Selects which of the tasks that wait for a node are tried.

use std::collections::{BTreeMap, BTreeSet};

use events::{NodeId, TaskId};
use projections::unplaced::Group;
use projections::{Cluster, Instance, Unplaced};

use super::dependencies::released;
use super::filters::Filters;
use super::run::Run;
use crate::Scope;

/// Maximum of changed nodes that are looked up individually in the groups whose tasks are bound to nodes. If more changed, all
/// tasks of these groups are tried, as if every node had changed.
const NODES_LOOKED_UP_MAX: usize = 1_000;

/// Which tasks of a group are tried, in addition to those that never were.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Retried {
    /// None.
    None,
    /// Those that are bound to one of these nodes.
    OnNodes(BTreeSet<NodeId>),
    /// All that could not be placed.
    All,
}

/// The groups to place, in order, except for quarantined services: those with new tasks, and of those that could not be placed
/// the ones for which a node changed, or a suitable one has more room now.
pub(super) fn due(cluster: &Cluster, scope: &Scope, run: &mut Run<'_>) -> BTreeMap<Group, Retried> {
    let unplaced = cluster.unplaced();
    let mut due: BTreeMap<Group, Retried> = unplaced.fresh_groups().map(|group| (group, Retried::None)).collect();
    let changed: BTreeSet<NodeId> = scope.nodes.union(&scope.roomier).copied().collect();
    if !changed.is_empty() {
        let may_suit_others = !scope.nodes.is_empty() || !scope.contacts.is_empty();
        let roomier: Vec<usize> = changed.iter().filter_map(|node| run.pool.number(*node)).collect();
        for group in unplaced.tried_groups() {
            let retried = if is_bound(unplaced, group) {
                on_nodes(unplaced, group, &changed)
            } else if may_suit_others || is_suited(cluster, group, &roomier, run) {
                Retried::All
            } else {
                Retried::None
            };
            if retried != Retried::None {
                due.insert(group, retried);
            }
        }
    }
    let services = scope.services.iter().chain(&scope.waiting);
    let released = released(cluster, scope);
    due.extend(
        services
            .chain(&released)
            .flat_map(|service| unplaced.tried_groups_of(*service))
            .map(|group| (group, Retried::All)),
    );
    due.retain(|(service, _), _| !scope.quarantined.contains(service));
    due
}

/// The tasks of a group that are tried.
pub(super) fn tasks<'a>(
    unplaced: &'a Unplaced,
    group: Group,
    retried: &'a Retried,
) -> Box<dyn Iterator<Item = (Instance, TaskId)> + 'a> {
    match retried {
        Retried::None => Box::new(unplaced.tasks_of(group, false)),
        Retried::All => Box::new(unplaced.tasks_of(group, true)),
        Retried::OnNodes(nodes) => {
            let tried = nodes.iter().flat_map(move |node| unplaced.tried_at(group, Instance::Node(*node)));
            Box::new(unplaced.tasks_of(group, false).chain(tried))
        }
    }
}

/// Whether the tasks of a group that could not be placed are bound to a node: then other nodes do not matter.
fn is_bound(unplaced: &Unplaced, group: Group) -> bool {
    unplaced.tasks_of(group, true).next().is_some_and(|(instance, _)| instance.node().is_some())
}

fn on_nodes(unplaced: &Unplaced, group: Group, changed: &BTreeSet<NodeId>) -> Retried {
    if changed.len() > NODES_LOOKED_UP_MAX {
        return Retried::All;
    }
    let waits = |node: &&NodeId| unplaced.tried_at(group, Instance::Node(**node)).next().is_some();
    let nodes: BTreeSet<NodeId> = changed.iter().filter(waits).copied().collect();
    if nodes.is_empty() { Retried::None } else { Retried::OnNodes(nodes) }
}

/// Whether one of these nodes is suitable for a group that could not be placed.
fn is_suited(cluster: &Cluster, group: Group, nodes: &[usize], run: &mut Run<'_>) -> bool {
    let first = cluster.unplaced().tasks_of(group, true).next();
    let Some(first) = first.and_then(|(_, id)| cluster.tasks.get(id)) else { return false };
    let filters = Filters::of(cluster, first);
    nodes.iter().any(|number| filters.judge(*number, run).is_ok())
}
