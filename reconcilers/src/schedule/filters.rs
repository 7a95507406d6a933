//! Which nodes will do: each filter in order, with the reason of the first one that refuses.

use events::spec::{Constraint, generic};
use events::{GenericResource, Platform, Resources};
use projections::{Cluster, Node, Task};

use super::candidates::Candidate;

/// Why a node will not do; the order is the order of the filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Down, unknown, paused or drained.
    NotReady,
    /// Too little CPU.
    Cpu,
    /// Too little memory.
    Memory,
    /// Too little of a generic resource.
    Generic,
    /// A constraint does not hold.
    Constraint,
    /// Another operating system or architecture.
    Platform,
    /// A host port is taken.
    HostPort,
    /// As many tasks of the service as may be on one node.
    MaxReplicas,
}

/// What a group of tasks needs, read from its spec once.
pub struct Filters<'a> {
    reserved: &'a Resources,
    constraints: Vec<Constraint>,
    /// A constraint that does not parse is refused when the service is made; should one be there, no node will do.
    malformed: bool,
    platforms: &'a [Platform],
    ports: Vec<(i32, u32)>,
    max_replicas: u64,
}

impl<'a> Filters<'a> {
    /// The needs of a task.
    pub(crate) fn of(cluster: &'a Cluster, task: &Task) -> Self {
        let spec = cluster.spec_of(task);
        let template = spec.template();
        let placement = template.placed();
        let constraints: Result<_, _> = placement.constraints.iter().map(|text| Constraint::parse(text)).collect();
        Self {
            reserved: template.reserved(),
            malformed: constraints.is_err(),
            constraints: constraints.unwrap_or_default(),
            platforms: &placement.platforms,
            ports: spec.host_ports().map(|port| (port.protocol, port.published_port)).collect(),
            max_replicas: placement.max_replicas,
        }
    }

    /// Whether a node will do, or why not.
    pub(crate) fn judge(&self, candidate: &Candidate<'_>) -> Result<(), Refusal> {
        self.judge_knowing(candidate, self.suits(candidate.node))
    }

    /// Like [`Filters::judge`], where it is known already whether the node suits.
    pub(super) fn judge_knowing(&self, candidate: &Candidate<'_>, suits: Result<(), Refusal>) -> Result<(), Refusal> {
        if !candidate.takes_tasks {
            return Err(Refusal::NotReady);
        }
        self.judge_room(candidate)?;
        suits?;
        self.judge_crowd(candidate)
    }

    /// Whether a node suits, whatever runs on it: the filters whose answer depends on the placement alone.
    pub(super) fn suits(&self, node: &Node) -> Result<(), Refusal> {
        if self.malformed || !self.constraints_hold(node) {
            return Err(Refusal::Constraint);
        }
        if Self::platform_fits(self.platforms, node) { Ok(()) } else { Err(Refusal::Platform) }
    }

    /// Whether one more task fits on a node that would do: the filters whose answer changes as tasks are placed.
    pub(super) fn judge_again(&self, candidate: &Candidate<'_>) -> Result<(), Refusal> {
        self.judge_room(candidate).and_then(|()| self.judge_crowd(candidate))
    }

    fn constraints_hold(&self, node: &Node) -> bool {
        if self.constraints.is_empty() {
            return true;
        }
        let facts = node.facts();
        self.constraints.iter().all(|constraint| constraint.matches(&facts))
    }

    fn judge_room(&self, candidate: &Candidate<'_>) -> Result<(), Refusal> {
        if self.reserved.nano_cpus > candidate.free_nano_cpus {
            return Err(Refusal::Cpu);
        }
        if self.reserved.memory_bytes > candidate.free_memory_bytes {
            return Err(Refusal::Memory);
        }
        let lacks =
            |wish: &GenericResource| generic::available(&candidate.free_generic, &wish.kind) < generic::amount(wish);
        if self.reserved.generic.iter().any(lacks) { Err(Refusal::Generic) } else { Ok(()) }
    }

    fn judge_crowd(&self, candidate: &Candidate<'_>) -> Result<(), Refusal> {
        if self.ports.iter().any(|port| candidate.ports.contains(port)) {
            return Err(Refusal::HostPort);
        }
        if self.max_replicas > 0 && candidate.active_of_service >= self.max_replicas {
            return Err(Refusal::MaxReplicas);
        }
        Ok(())
    }

    pub(super) fn ports(&self) -> impl Iterator<Item = (i32, u32)> {
        self.ports.iter().copied()
    }

    pub(super) fn generic(&self) -> &[GenericResource] {
        &self.reserved.generic
    }

    /// Whether some platform of the list is the node's; an empty list or field matches any.
    pub(crate) fn platform_fits(platforms: &[Platform], node: &Node) -> bool {
        if platforms.is_empty() {
            return true;
        }
        let facts = node.facts();
        let same = |wanted: &str, is: &str| wanted.is_empty() || canonical(wanted) == canonical(is);
        platforms.iter().any(|wanted| same(&wanted.os, facts.os) && same(&wanted.architecture, facts.architecture))
    }
}

/// Whether all constraints hold on a node.
pub(crate) fn meets_constraints(constraints: &[String], node: &Node) -> bool {
    let facts = node.facts();
    constraints.iter().all(|text| Constraint::parse(text).is_ok_and(|constraint| constraint.matches(&facts)))
}

/// Docker's and uname's names of the same architecture.
fn canonical(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    }
}
