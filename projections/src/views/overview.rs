//! How services are doing, and what a reference means.

use std::fmt;

use events::{Id, NodeId, ServiceId, TaskId, TaskState, Timestamp, id::prefix_range};
use serde::Serialize;

use crate::{Cluster, Instance, Service, Table, Task};

/// How many tasks a service should have and has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Tasks that should run.
    pub desired: u64,
    /// Tasks that run.
    pub running: u64,
}

/// How many tasks a service should have and has.
pub fn replicas(cluster: &Cluster, service: &Service) -> Replicas {
    let live = || cluster.tasks_of_service(service.id).filter(|task| task.is_live());
    let desired = service.spec.replicas().unwrap_or_else(|| live().count() as u64);
    let running = live().filter(|task| task.state == TaskState::Running).count() as u64;
    Replicas { desired, running }
}

/// How it stands with what fails again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restarting<'a> {
    /// Places that wait for their next attempt, or make it now.
    pub tasks: u64,
    /// Failures in a row; of several places the most.
    pub failures: u64,
    /// Why the last attempt failed.
    pub last_failure: &'a str,
    /// When the next attempt begins, or began; of several the first.
    pub next_attempt: Option<Timestamp>,
}

/// How it stands with the restarts of a task, if it does not run because its place fails again and again.
pub fn restarting<'a>(cluster: &'a Cluster, task: &Task) -> Option<Restarting<'a>> {
    if !task.is_wanted() || task.state == TaskState::Running {
        return None;
    }
    let restarts = cluster.restarts.get((task.service, task.instance()))?;
    let last_failure = &*restarts.last_failure;
    (restarts.failures > 0).then_some(Restarting {
        tasks: 1,
        failures: restarts.failures,
        last_failure,
        next_attempt: task.start_after,
    })
}

/// How it stands with all places of a service that fail again and again, if any does.
pub fn restarting_places<'a>(cluster: &'a Cluster, service: &Service) -> Option<Restarting<'a>> {
    let failing = cluster.restarts.range((service.id, Instance::FIRST)..=(service.id, Instance::LAST));
    let failing = failing.filter(|(_, restarts)| restarts.failures > 0);
    let tasks = failing.flat_map(|((service, instance), _)| cluster.tasks_of_instance(service, instance));
    tasks.filter_map(|task| restarting(cluster, task)).reduce(|all, one| Restarting {
        tasks: all.tasks + 1,
        last_failure: if one.failures > all.failures { one.last_failure } else { all.last_failure },
        failures: all.failures.max(one.failures),
        next_attempt: all.next_attempt.into_iter().chain(one.next_attempt).min(),
    })
}

/// Why a reference names no single object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReferenceError {
    /// Nothing has this name or id.
    NotFound {
        /// The noun: "service".
        noun: &'static str,
        /// What was given.
        reference: String,
    },
    /// Several objects do.
    Ambiguous {
        /// The noun: "service".
        noun: &'static str,
        /// What was given.
        reference: String,
        /// Ids of the first few.
        candidates: Vec<String>,
    },
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { noun, reference } => write!(f, "there is no {noun} \"{reference}\""),
            Self::Ambiguous { noun, reference, candidates } => {
                write!(f, "\"{reference}\" could be {} {noun}s: {}", candidates.len(), candidates.join(", "))
            }
        }
    }
}

impl std::error::Error for ReferenceError {}

/// The service with this name, id or unique beginning of an id.
///
/// # Errors
/// When there is none, or several.
pub fn resolve_service(cluster: &Cluster, reference: &str) -> Result<ServiceId, ReferenceError> {
    match cluster.service_named(reference) {
        Some(service) => Ok(service.id),
        None => by_prefix(&cluster.services, reference),
    }
}

/// The node with this id, hostname (`self` is not one) or unique beginning of an id.
///
/// # Errors
/// When there is none, or several.
pub fn resolve_node(cluster: &Cluster, reference: &str) -> Result<NodeId, ReferenceError> {
    let named: Vec<NodeId> =
        cluster.nodes.values().filter(|node| node.hostname() == reference).map(|node| node.id).collect();
    match named[..] {
        [only] => Ok(only),
        [] => by_prefix(&cluster.nodes, reference),
        _ if cluster.nodes.contains(reference.parse().unwrap_or_default()) => by_prefix(&cluster.nodes, reference),
        _ => Err(ambiguous(reference, &named)),
    }
}

/// The task with this id, unique beginning of an id, or name: `<service>.<slot>.<id>`, or `<service>.<slot>` for the one that
/// is live, or else the newest of the place. A place of a global service is its node, by host name or id.
///
/// # Errors
/// When there is none, or several.
pub fn resolve_task(cluster: &Cluster, reference: &str) -> Result<TaskId, ReferenceError> {
    let Some((service, place)) = reference.split_once('.') else { return by_prefix(&cluster.tasks, reference) };
    let tasks: Vec<&Task> = match resolve_service(cluster, service) {
        Ok(service) => cluster.tasks_of_service(service).collect(),
        // Tasks may outlive their service for a while.
        Err(ReferenceError::NotFound { .. }) => {
            cluster.tasks.values().filter(|task| cluster.spec_of(task).name().eq_ignore_ascii_case(service)).collect()
        }
        Err(ReferenceError::Ambiguous { .. }) => Vec::new(),
    };
    let full = tasks.iter().find(|task| cluster.task_name(task) == reference);
    let in_place = || {
        let there = tasks.iter().filter(|task| is_at(cluster, task, place));
        there.max_by_key(|task| (task.is_live(), task.is_wanted(), task.created_index, task.id))
    };
    let found = full.or_else(in_place).map(|task| task.id);
    found.ok_or_else(|| ReferenceError::NotFound { noun: TaskId::NOUN, reference: reference.to_owned() })
}

/// Whether a task is in the place that is called so.
fn is_at(cluster: &Cluster, task: &Task, place: &str) -> bool {
    match task.instance() {
        Instance::Slot(slot) => slot.to_string() == place,
        Instance::Node(node) => {
            node.to_string() == place || cluster.nodes.get(node).is_some_and(|node| node.hostname() == place)
        }
    }
}

fn by_prefix<I: Id + Serialize, V: Clone + Serialize>(
    table: &Table<I, V>,
    reference: &str,
) -> Result<I, ReferenceError> {
    /// Candidates listed in the message.
    const LISTED_MAX: usize = 5;
    let not_found = || ReferenceError::NotFound { noun: I::NOUN, reference: reference.to_owned() };
    let (low, high) = prefix_range::<I>(reference).ok_or_else(not_found)?;
    let found: Vec<I> = table.range(low..=high).take(LISTED_MAX).map(|(id, _)| id).collect();
    match found[..] {
        [only] => Ok(only),
        [] => Err(not_found()),
        _ => Err(ambiguous(reference, &found)),
    }
}

fn ambiguous<I: Id>(reference: &str, found: &[I]) -> ReferenceError {
    let candidates = found.iter().map(ToString::to_string).collect();
    ReferenceError::Ambiguous { noun: I::NOUN, reference: reference.to_owned(), candidates }
}
