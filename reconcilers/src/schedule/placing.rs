//! Explains the placement of a task: how the scheduler would judge every node for it now, as if it had no node yet. It uses the
//! same filters and the same ranks; nothing is decided here.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use events::{
    Event, Kind, NodeId, PlacementStrategy, Reconciler, ServiceId, TaskId, TaskReported, TaskState, TaskStatus,
    Timestamp,
};
use projections::{Cluster, Service, Stamp, Task};

use super::filters::{Filters, Unfit};
use super::layout::Layout;
use super::leaf::{Entry, Look, rank};
use super::nodes::Nodes;
use super::run::Run;
use super::spread::{Spread, failures};

/// The scheduler's judgement of every node for one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Placing {
    /// How it chooses among suitable nodes.
    pub strategy: PlacementStrategy,
    /// Number of nodes in the cluster.
    pub nodes: usize,
    /// For each reason the number of nodes that were rejected, in the order of the filters.
    pub refused: Vec<(&'static str, u64)>,
    /// The suitable nodes, best first by their own merits.
    pub suitable: Vec<Merits>,
    /// The node that would be chosen now.
    pub choice: Option<NodeId>,
}

/// The ranking criteria of a node, the smaller the better, in order of precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merits {
    /// The node.
    pub node: NodeId,
    /// The values of the labels that the tasks are spread over.
    pub preferences: Vec<String>,
    /// Recent failures of the service there, once there are many.
    pub failures: u64,
    /// Weight of the preferred affinities that it does not meet.
    pub lacks: u64,
    /// Tasks of the service that should run there.
    pub of_service: u64,
    /// All tasks that should run there.
    pub tasks: u64,
    /// CPU that is not reserved, in billionths of a core.
    pub free_nano_cpus: u64,
    /// Memory that is not reserved.
    pub free_memory_bytes: u64,
}

/// The scheduler's judgement for a task, as if it had not been placed.
pub fn of_task(cluster: &Cluster, task: &Task, now: Timestamp) -> Placing {
    let cluster = without(cluster, task);
    let filters = Filters::of(&cluster, task);
    let bound = task.node.filter(|_| task.is_bound());
    placing(&cluster, &filters, (task.service, task.spec_version), bound, task.id, now)
}

/// The scheduler's judgement for one more task of a service with its current spec.
pub fn of_service(cluster: &Cluster, service: &Service, now: Timestamp) -> Placing {
    let filters = Filters::of_spec(cluster, service.id, &service.spec);
    placing(cluster, &filters, (service.id, service.template_version), None, TaskId::default(), now)
}

/// The state as if the task had ended successfully, so that it uses nothing on its node.
fn without(cluster: &Cluster, task: &Task) -> Cluster {
    let mut cluster = cluster.clone();
    if task.occupies_node() {
        let status = TaskStatus { state: TaskState::Shutdown.into(), ..TaskStatus::default() };
        let kind = Kind::TaskReported(TaskReported { task: task.id, status });
        let at = Stamp { index: cluster.position.index + 1, time: cluster.position.time };
        cluster.apply(&Event::by_reconciler(Reconciler::Schedule, kind), &at);
    }
    cluster
}

fn placing(
    cluster: &Cluster,
    filters: &Filters<'_>,
    group: (ServiceId, u64),
    bound: Option<NodeId>,
    task: TaskId,
    now: Timestamp,
) -> Placing {
    let mut known = Nodes::default();
    known.follow(cluster);
    let is_global = cluster.services.get(group.0).is_some_and(|service| service.spec.is_global());
    let Nodes { pool, layouts } = &mut known;
    let mut run = Run::new(cluster, pool);
    run.count_service(group.0);
    let layout = layouts.of(filters.placement(), filters, run.pool);
    let failures = failures(cluster, group, now, run.pool);
    let (mut refused, mut suitable): (BTreeMap<Unfit, u64>, Vec<_>) = (BTreeMap::new(), Vec::new());
    let numbers = run.pool.numbers().filter(|number| bound.is_none_or(|node| run.pool.get(*number).id == node));
    for number in numbers.collect::<Vec<usize>>() {
        match filters.judge_knowing(number, layout.leaf_of(number).map(|_| ()), &mut run) {
            Err(refusal) => *refused.entry(refusal).or_default() += 1,
            Ok(()) => {
                let rank =
                    rank(number, layout.penalty_of(number), &mut Look { failures: &failures, filters, run: &mut run });
                suitable.push((rank, merits(number, layout, rank, &run)));
            }
        }
    }
    // The greatest entry is the best one.
    suitable.sort_by(|(one, _), (other, _)| other.cmp(one));
    let choice = match bound {
        Some(node) => Some(node).filter(|_| !suitable.is_empty()),
        // Each suitable node gets one.
        None if is_global => None,
        None => Spread::new(layout, failures, filters, &mut run)
            .next(task, filters, &mut run)
            .map(|number| run.pool.get(number).id),
    };
    Placing {
        strategy: filters.strategy(),
        nodes: run.pool.len(),
        refused: refused.into_iter().map(|(refusal, count)| (refusal.words(), count)).collect(),
        suitable: suitable.into_iter().map(|(_, merits)| merits).collect(),
        choice,
    }
}

fn merits(number: usize, layout: &Layout, Reverse((failures, lacks, ..)): Entry, run: &Run<'_>) -> Merits {
    let candidate = run.pool.get(number);
    Merits {
        node: candidate.id,
        preferences: layout.leaf_of(number).map(|leaf| layout.path(leaf).to_vec()).unwrap_or_default(),
        failures,
        lacks,
        of_service: run.active_of_service(number),
        tasks: candidate.active,
        free_nano_cpus: candidate.free_nano_cpus,
        free_memory_bytes: candidate.free_memory_bytes,
    }
}
