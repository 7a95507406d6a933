//! The status of services, and the resolution of references.

use std::fmt;

use events::service_spec::Mode;
use events::spec::defaults::RESTART_HEALTHY_AFTER;
use events::{
    ConfigId, Id, NodeId, OperatorId, SecretId, ServiceId, SinkId, TaskId, TaskState, Timestamp, id::prefix_range,
};
use serde::Serialize;

use crate::tasks::End;
use crate::views::progress::is_current;
use crate::{Cluster, Instance, Service, Table, Task};

/// How many tasks a service should have, and how many are running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Tasks that should run.
    pub desired: u64,
    /// Tasks that run.
    pub running: u64,
}

/// How many tasks a service should have, and how many are running. A place whose task failed and waits for its restart counts.
pub fn replicas(cluster: &Cluster, service: &Service) -> Replicas {
    let running = cluster.tasks_by_revision().total(service.id).running;
    let desired = match service.spec.mode() {
        Mode::Replicated(mode) => mode.replicas,
        // One for each suitable node, including those whose task ended for good, as a replicated service counts its slots.
        Mode::Global(_) => cluster.places().wanted(service.id) + current_ended(cluster, service),
        Mode::GlobalJob(_) => cluster.places().wanted(service.id),
        Mode::ReplicatedJob(_) => service.completions().map_or(0, |of| {
            let Ended { finished, failed } = ended(cluster, service);
            of.total.saturating_sub(finished + failed).min(of.concurrent)
        }),
    };
    Replicas { desired, running }
}

/// Places of a service whose tasks ended and are not restarted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// Those whose task ended without an error.
    pub finished: u64,
    /// Those whose task failed.
    pub failed: u64,
}

/// How many places of a service have tasks that ended by themselves and are not restarted.
pub fn ended(cluster: &Cluster, service: &Service) -> Ended {
    let places = cluster.places();
    Ended { finished: places.ended(service.id, End::Finished), failed: places.ended(service.id, End::Failed) }
}

/// How many places of a service have tasks of the current spec that ended and are not restarted.
fn current_ended(cluster: &Cluster, service: &Service) -> u64 {
    let ended = |version, end| cluster.places().ended_at(service.id, version, end);
    let revisions = cluster.tasks_by_revision().of_service(service.id);
    let ended = revisions.map(|(version, _)| (version, ended(version, End::Finished) + ended(version, End::Failed)));
    ended.filter(|(version, count)| *count > 0 && is_current(cluster, service, *version)).map(|(_, count)| count).sum()
}

/// Why a task of a service has no node: the scheduler's reason for the first one that could not be placed.
pub fn unplaced(cluster: &Cluster, service: ServiceId) -> Option<&str> {
    cluster.tasks.get(cluster.unplaced().first_tried_of(service)?)?.waiting.as_deref()
}

/// The status of repeatedly failing places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restarting<'a> {
    /// Places that wait for their next attempt, or are in it; if there are none, those that are running again.
    pub tasks: u64,
    /// Failures in a row; the maximum over the places.
    pub failures: u64,
    /// Exits without an error in the same row; the maximum over the places.
    pub exits: u64,
    /// Why the last attempt failed.
    pub last_failure: &'a str,
    /// When the next attempt starts, or started; the earliest over the places.
    pub next_attempt: Option<Timestamp>,
    /// Whether they are running, though not yet long enough to count as healthy.
    pub running_again: bool,
}

/// The restart status of a task, if its place fails repeatedly: until it has run long enough to count as healthy.
pub fn restarting<'a>(cluster: &'a Cluster, task: &Task, now: Timestamp) -> Option<Restarting<'a>> {
    let running_again = task.state == TaskState::Running;
    if !task.is_wanted() || (running_again && task.is_healthy(now)) {
        return None;
    }
    let restarts = cluster.restarts_in((task.service, task.instance()))?;
    let last_failure = &*restarts.last_failure;
    (restarts.in_a_row() > 0).then_some(Restarting {
        tasks: 1,
        failures: restarts.failures,
        exits: restarts.exits,
        last_failure,
        next_attempt: task.start_after.filter(|_| !running_again).max(cluster.tried_again_at(task)),
        running_again,
    })
}

/// Maximum number of failing places of a service that are visited for its status: the cost of listing services does not grow with
/// the number of failing places.
const FAILING_LOOKED_AT_MAX: usize = 64;

/// The status of all places of a service that fail repeatedly, if any. Those that are running again are listed only if all are,
/// the newest 64 of them. The number of waiting places and the maximum of failures cover all places; the next attempt is the
/// earliest of the 64 that failed most.
pub fn restarting_places<'a>(cluster: &'a Cluster, service: &Service, now: Timestamp) -> Option<Restarting<'a>> {
    let of_places = |places: &mut dyn Iterator<Item = Instance>| {
        let tasks = places.take(FAILING_LOOKED_AT_MAX).flat_map(|at| cluster.tasks_of_instance(service.id, at));
        tasks.filter_map(|task| restarting(cluster, task, now)).reduce(both)
    };
    let down = cluster.failing_down(service.id);
    if down == 0 {
        return of_places(&mut cluster.recovered_places(service.id, now - RESTART_HEALTHY_AFTER));
    }
    let looked_at = of_places(&mut cluster.failing_places(service.id))?;
    Some(Restarting { tasks: down, ..looked_at })
}

/// Combines two places, or groups of them.
fn both<'a>(all: Restarting<'a>, one: Restarting<'a>) -> Restarting<'a> {
    match (all.running_again, one.running_again) {
        (true, false) => one,
        (false, true) => all,
        (true, true) | (false, false) => Restarting {
            tasks: all.tasks + one.tasks,
            last_failure: if one.failures > all.failures { one.last_failure } else { all.last_failure },
            failures: all.failures.max(one.failures),
            exits: all.exits.max(one.exits),
            next_attempt: all.next_attempt.into_iter().chain(one.next_attempt).min(),
            running_again: all.running_again,
        },
    }
}

/// Why a reference does not resolve to a single object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReferenceError {
    /// No object has this name or id.
    NotFound {
        /// The noun: "service".
        noun: &'static str,
        /// The reference.
        reference: String,
    },
    /// Several objects do.
    Ambiguous {
        /// The noun: "service".
        noun: &'static str,
        /// The reference.
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
                // The search stopped after these.
                let or_more = if candidates.len() == LISTED_MAX { " or more" } else { "" };
                let (count, candidates) = (candidates.len(), candidates.join(", "));
                write!(f, "\"{reference}\" could be {count}{or_more} {noun}s: {candidates}")
            }
        }
    }
}

impl std::error::Error for ReferenceError {}

/// Objects listed when a reference is ambiguous.
const LISTED_MAX: usize = 5;

/// The service with this id, or else the one with this name, or else the one with this id prefix.
///
/// # Errors
/// When there is none, or several.
pub fn resolve_service(cluster: &Cluster, reference: &str) -> Result<ServiceId, ReferenceError> {
    resolve_name_or_prefix(&cluster.services, reference, cluster.service_named(reference).map(|service| service.id))
}

/// The config with this id, or else the one with this name, or else the one with this id prefix.
///
/// # Errors
/// When there is none, or several.
pub fn resolve_config(cluster: &Cluster, reference: &str) -> Result<ConfigId, ReferenceError> {
    resolve_name_or_prefix(&cluster.configs, reference, cluster.config_named(reference).map(|config| config.id))
}

/// The secret with this id, or else the one with this name, or else the one with this id prefix.
///
/// # Errors
/// When there is none, or several.
pub fn resolve_secret(cluster: &Cluster, reference: &str) -> Result<SecretId, ReferenceError> {
    resolve_name_or_prefix(&cluster.secrets, reference, cluster.secret_named(reference).map(|secret| secret.id))
}

/// The sink with this id, or else the one with this name, or else the one with this id prefix.
///
/// # Errors
/// When there is none, or several.
pub fn resolve_sink(cluster: &Cluster, reference: &str) -> Result<SinkId, ReferenceError> {
    resolve_name_or_prefix(&cluster.sinks, reference, cluster.sink_named(reference).map(|sink| sink.id))
}

/// The operator with this id, or else the one with this name, or else the one with this id prefix.
///
/// # Errors
/// When there is none, or several.
pub fn resolve_operator(cluster: &Cluster, reference: &str) -> Result<OperatorId, ReferenceError> {
    resolve_name_or_prefix(&cluster.operators, reference, cluster.operator_named(reference).map(|operator| operator.id))
}

/// The node with this id, or else the one with this host name, or else the one with this id prefix (`self` is none of these).
/// Machines choose their own host names: a host name of several nodes resolves to none of them.
///
/// # Errors
/// When there is none, or several.
pub fn resolve_node(cluster: &Cluster, reference: &str) -> Result<NodeId, ReferenceError> {
    let named = cluster.nodes_called(reference).map(|node| node.id);
    resolve_name_or_prefix(&cluster.nodes, reference, named)
}

/// The rule for all nouns: a complete id takes precedence over every name, and a name over an id prefix. Otherwise a name would
/// stop working because another object was created.
fn resolve_name_or_prefix<I: Id + Serialize, V: Clone + Serialize>(
    table: &Table<I, V>,
    reference: &str,
    named: impl IntoIterator<Item = I>,
) -> Result<I, ReferenceError> {
    if let Some(id) = exact_id(table, reference) {
        return Ok(id);
    }
    let named: Vec<I> = named.into_iter().take(LISTED_MAX).collect();
    if named.is_empty() { by_prefix(table, reference) } else { only(reference, &named) }
}

/// The task with this id, unique id prefix, or name: `<service>.<slot>.<id>`, or `<service>.<slot>` for the live one, or else the
/// newest of the place. A place of a global service is its node, by host name or id.
///
/// # Errors
/// When there is none, or several.
pub fn resolve_task(cluster: &Cluster, reference: &str) -> Result<TaskId, ReferenceError> {
    let Some((service, place)) = reference.split_once('.') else { return by_prefix(&cluster.tasks, reference) };
    let id = reference.rsplit_once('.').and_then(|(_, id)| exact_id(&cluster.tasks, id));
    let full = id.filter(|id| cluster.tasks.get(*id).is_some_and(|task| is_called(cluster, task, reference)));
    let found = full.or_else(|| task_in_place(cluster, service, place));
    found.ok_or_else(|| ReferenceError::NotFound { noun: TaskId::NOUN, reference: reference.to_owned() })
}

/// Whether this is the full name of a task: a place of a global service is its node, by id or by host name.
fn is_called(cluster: &Cluster, task: &Task, reference: &str) -> bool {
    if cluster.task_name(task) == reference {
        return true;
    }
    let Instance::Node(node) = task.instance() else { return false };
    let service = cluster.spec_of(task).name();
    let shown = |node: &crate::Node| format!("{service}.{}.{}", node.hostname(), task.id) == reference;
    cluster.nodes.get(node).is_some_and(shown)
}

/// The task of a place: the live one, or else the newest.
fn task_in_place(cluster: &Cluster, service: &str, place: &str) -> Option<TaskId> {
    let services: Vec<ServiceId> = match resolve_service(cluster, service) {
        Ok(service) => vec![service],
        // Tasks may outlive their service for a while.
        Err(ReferenceError::NotFound { .. }) => cluster.services_remembered_as(service).collect(),
        Err(ReferenceError::Ambiguous { .. }) => Vec::new(),
    };
    let places = places_called(cluster, place);
    let places = services.iter().flat_map(|service| places.iter().map(|place| (*service, *place)));
    let tasks = places.flat_map(|(service, place)| cluster.tasks_of_instance(service, place));
    tasks.max_by_key(|task| (task.is_live(), task.is_wanted(), task.created_index, task.id)).map(|task| task.id)
}

/// The places of a service that match: a slot by its number, a node by its id, even if it was removed, or by its host name.
fn places_called(cluster: &Cluster, place: &str) -> Vec<Instance> {
    let slot = place.parse::<u64>().ok().filter(|slot| slot.to_string() == place).map(Instance::Slot);
    let node = place.parse::<NodeId>().ok().filter(|node| node.to_string() == place).map(Instance::Node);
    let called = cluster.nodes_called(place).map(|node| Instance::Node(node.id));
    slot.into_iter().chain(node).chain(called).collect()
}

/// The object with this complete id, which takes precedence over every name.
fn exact_id<I: Id + Serialize, V: Clone + Serialize>(table: &Table<I, V>, reference: &str) -> Option<I> {
    reference.parse().ok().filter(|id| table.contains(*id))
}

fn by_prefix<I: Id + Serialize, V: Clone + Serialize>(
    table: &Table<I, V>,
    reference: &str,
) -> Result<I, ReferenceError> {
    only(reference, &with_id_prefix(table, reference).collect::<Vec<_>>())
}

/// The first few objects whose ids have this prefix.
fn with_id_prefix<'a, I: Id + Serialize, V: Clone + Serialize>(
    table: &'a Table<I, V>,
    reference: &str,
) -> impl Iterator<Item = I> + use<'a, I, V> {
    let range = prefix_range::<I>(reference).into_iter();
    range.flat_map(|(low, high)| table.range(low..=high)).take(LISTED_MAX).map(|(id, _)| id)
}

fn only<I: Id>(reference: &str, found: &[I]) -> Result<I, ReferenceError> {
    match *found {
        [only] => Ok(only),
        [] => Err(ReferenceError::NotFound { noun: I::NOUN, reference: reference.to_owned() }),
        _ => Err(ambiguous(reference, found)),
    }
}

fn ambiguous<I: Id>(reference: &str, found: &[I]) -> ReferenceError {
    let candidates = found.iter().map(ToString::to_string).collect();
    ReferenceError::Ambiguous { noun: I::NOUN, reference: reference.to_owned(), candidates }
}

#[cfg(test)]
mod tests {
    use events::{Annotations, Event, Kind, NodeJoined, ServiceCreated, ServiceSpec, id::TEXT_LENGTH};

    use super::*;
    use crate::Stamp;

    /// An id with this prefix.
    fn id(beginning: &str) -> String {
        format!("{beginning:0<TEXT_LENGTH$}")
    }

    /// Nodes and services with these id prefixes and names.
    fn cluster(nodes: &[(&str, &str)], services: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::default();
        let joined = nodes.iter().map(|(beginning, hostname)| {
            let (node, hostname) = (id(beginning).parse().expect("an id"), (*hostname).to_owned());
            Kind::NodeJoined(NodeJoined { node, hostname, ..Default::default() })
        });
        let created = services.iter().map(|(beginning, name)| {
            let annotations = Some(Annotations { name: (*name).to_owned(), ..Default::default() });
            let (service, spec) =
                (id(beginning).parse().expect("an id"), ServiceSpec { annotations, ..Default::default() });
            Kind::ServiceCreated(Box::new(ServiceCreated { service, spec }))
        });
        for kind in joined.chain(created) {
            cluster.apply(&Event::by_command(0, kind), &Stamp { index: 1, ..Stamp::default() });
        }
        cluster
    }

    #[test]
    fn a_complete_id_takes_precedence_over_every_name_and_a_name_over_an_id_prefix() {
        let victim = id("0abc");
        let nodes =
            [("0abc", "db"), ("1", victim.as_str()), ("2", "0abc"), ("3", "twin"), ("4", "twin"), ("0abd", "x")];
        let services = [
            ("5", "web"),
            ("6", "5"),
            ("0web", "y"),
            ("7", victim.as_str()),
            ("0lon", "a"),
            ("9", "0lon"),
            ("0xy", "b"),
        ];
        let cluster = cluster(&nodes, &services);
        // The reference, and the prefixes of the ids that it could mean.
        let of_nodes: [(&str, &[&str]); 9] = [
            (&victim, &["0abc"]),
            ("db", &["0abc"]),
            ("1", &["1"]),
            ("0abc", &["2"]),
            ("0abd", &["0abd"]),
            ("0ab", &["0abc", "0abd"]),
            ("twin", &["3", "4"]),
            ("", &[]),
            ("nobody", &[]),
        ];
        for (reference, meant) in of_nodes {
            check(resolve_node(&cluster, reference), reference, meant);
        }
        let of_services: [(&str, &[&str]); 7] = [
            ("web", &["5"]),
            (&id("5"), &["5"]),
            ("5", &["6"]),
            ("0web", &["0web"]),
            (&victim, &["7"]),
            ("0lon", &["9"]),
            ("0xy", &["0xy"]),
        ];
        for (reference, meant) in of_services {
            check(resolve_service(&cluster, reference), reference, meant);
        }
    }

    fn check<I: Id>(found: Result<I, ReferenceError>, reference: &str, meant: &[&str]) {
        let meant: Vec<String> = meant.iter().map(|beginning| id(beginning)).collect();
        match (found, &meant[..]) {
            (Ok(found), [meant]) => assert_eq!(&found.to_string(), meant, "{reference}"),
            (Err(ReferenceError::NotFound { .. }), []) => {}
            (Err(ReferenceError::Ambiguous { candidates, .. }), [_, _, ..]) => {
                assert_eq!(candidates, meant, "{reference}")
            }
            (found, meant) => panic!("\"{reference}\" means {found:?}, not {meant:?}"),
        }
    }
}
