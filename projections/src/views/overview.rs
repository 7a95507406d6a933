//! How services are doing, and what a reference means.

use std::fmt;

use events::{Id, NodeId, ServiceId, TaskId, TaskState, id::prefix_range};
use serde::Serialize;

use crate::{Cluster, Service, Table};

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

/// The task with this id, unique beginning of an id, or name (`<service>.<slot>.<id>`, or `<service>.<slot>` for its live task).
///
/// # Errors
/// When there is none, or several.
pub fn resolve_task(cluster: &Cluster, reference: &str) -> Result<TaskId, ReferenceError> {
    let Some((service, rest)) = reference.split_once('.') else { return by_prefix(&cluster.tasks, reference) };
    let not_found = || ReferenceError::NotFound { noun: TaskId::NOUN, reference: reference.to_owned() };
    let service = resolve_service(cluster, service).map_err(|_| not_found())?;
    let full = cluster.tasks_of_service(service).find(|task| cluster.task_name(task) == reference);
    let live = || {
        let mut tasks = cluster.tasks_of_service(service).filter(|task| task.is_live());
        tasks.find(|task| task.slot.to_string() == rest)
    };
    full.or_else(live).map(|task| task.id).ok_or_else(not_found)
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
