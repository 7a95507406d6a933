//! Which nodes are suitable: each filter in order, with the reason of the first one that rejects.

use events::spec::{Constraint, generic};
use events::{GenericResource, Placement, PlacementStrategy, Platform, Resources, ServiceId, ServiceSpec, TaskSpec};
use projections::{Cluster, Node, Task};

use super::affinities::Affinities;
use super::order::Order;
use super::run::{HostPort, Run};

/// The types of plugins that engines list.
const VOLUME_PLUGIN: &str = "Volume";
const LOG_PLUGIN: &str = "Log";

/// Why a node is not suitable, in the order of the filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// Down, unknown, paused or drained.
    NotReady,
    /// Too little CPU.
    Cpu,
    /// Too little memory.
    Memory,
    /// Too little of a generic resource.
    Generic,
    /// A volume or log driver is missing.
    Plugin,
    /// Tasks are plain processes there, which cannot have configs or secrets.
    Files,
    /// A constraint is not met.
    Constraint,
    /// A required affinity or anti-affinity is not met.
    Affinity,
    /// Another operating system or architecture.
    Platform,
    /// A host port is taken.
    HostPort,
    /// The maximum of tasks of the service per node is reached.
    MaxReplicas,
}

impl Unfit {
    /// The reason as text.
    pub fn words(self) -> &'static str {
        match self {
            Unfit::NotReady => "not available for new tasks",
            Unfit::Cpu => "insufficient CPU",
            Unfit::Memory => "insufficient memory",
            Unfit::Generic => "insufficient generic resources",
            Unfit::Plugin => "missing plugin",
            Unfit::Files => "target or mode of a config or secret not supported by the process executor",
            Unfit::Constraint => "constraints not met",
            Unfit::Affinity => "affinities not met",
            Unfit::Platform => "unsupported platform",
            Unfit::HostPort => "host port in use",
            Unfit::MaxReplicas => "maximum replicas per node reached",
        }
    }
}

/// The requirements of a group of tasks, read from its spec once.
pub struct Filters<'a> {
    service: ServiceId,
    reserved: &'a Resources,
    constraints: Vec<Constraint>,
    /// A constraint that does not parse is rejected when the service is created; if there is one anyway, no node is suitable.
    malformed: bool,
    /// Types and names of the engine's plugins that the tasks use.
    plugins: Vec<(&'static str, &'a str)>,
    /// Whether the tasks have a config or a secret, which requires a container.
    needs_container: bool,
    platforms: &'a [Platform],
    ports: Vec<HostPort>,
    max_replicas: u64,
    affinities: Affinities,
    placement: &'a Placement,
    strategy: PlacementStrategy,
    /// The ranking of suitable nodes.
    order: Order,
}

impl<'a> Filters<'a> {
    /// The requirements of a task.
    pub(crate) fn of(cluster: &'a Cluster, task: &Task) -> Self {
        Self::of_spec(cluster, task.service, cluster.spec_of(task))
    }

    /// The requirements of a service's tasks with this spec.
    pub(super) fn of_spec(cluster: &'a Cluster, service: ServiceId, spec: &'a ServiceSpec) -> Self {
        let template = spec.template();
        let placement = template.placement();
        let constraints: Result<_, _> = placement.constraints.iter().map(|text| Constraint::parse(text)).collect();
        let strategy = cluster.settings.spec.strategy_of(placement);
        Self {
            service,
            reserved: template.reserved(),
            malformed: constraints.is_err(),
            constraints: constraints.unwrap_or_default(),
            plugins: plugins(template),
            needs_container: template.container().files().any(|file| file.needs_container()),
            platforms: &placement.platforms,
            ports: spec.host_ports().map(|port| (port.protocol, port.published_port)).collect(),
            max_replicas: placement.max_replicas,
            affinities: Affinities::of(cluster, service, spec),
            placement,
            strategy,
            order: Order::of(strategy, template.reserved()),
        }
    }

    /// The ranking of suitable nodes.
    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// The resources that one task reserves.
    pub(super) fn reserved(&self) -> &Resources {
        self.reserved
    }

    /// The placement in the spec.
    pub(super) fn placement(&self) -> &'a Placement {
        self.placement
    }

    /// The placement strategy in the spec.
    pub(super) fn strategy(&self) -> PlacementStrategy {
        self.strategy
    }

    /// The affinities of the tasks.
    pub(super) fn affinities(&self) -> &Affinities {
        &self.affinities
    }

    /// Whether the number of the service's tasks on a node matters.
    pub(super) fn count_service(&self) -> bool {
        self.max_replicas > 0
    }

    /// Whether a node is suitable, or why not.
    pub(super) fn judge(&self, number: usize, run: &mut Run<'_>) -> Result<(), Unfit> {
        let suits = run.pool.node(number).map_or(Err(Unfit::NotReady), |node| self.suits(node));
        self.judge_knowing(number, suits, run)
    }

    /// Like [`Filters::judge`], if the result of [`Filters::suits`] is already known.
    pub(super) fn judge_knowing(
        &self,
        number: usize,
        suits: Result<(), Unfit>,
        run: &mut Run<'_>,
    ) -> Result<(), Unfit> {
        if !run.pool.get(number).takes_tasks {
            return Err(Unfit::NotReady);
        }
        self.judge_room(number, run)?;
        suits?;
        self.judge_crowd(number, run)
    }

    /// Whether a node is suitable regardless of what is running on it: the filters that depend on the placement and the plugins
    /// alone.
    pub(super) fn suits(&self, node: &Node) -> Result<(), Unfit> {
        if !self.plugins.iter().all(|(kind, name)| has_plugin(node, kind, name)) {
            return Err(Unfit::Plugin);
        }
        if self.needs_container && node.description.as_ref().is_some_and(|node| node.runs_processes()) {
            return Err(Unfit::Files);
        }
        if self.malformed || !self.constraints_hold(node) {
            return Err(Unfit::Constraint);
        }
        if !self.affinities.suit(node) {
            return Err(Unfit::Affinity);
        }
        if Self::platform_fits(self.platforms, node) { Ok(()) } else { Err(Unfit::Platform) }
    }

    /// Whether one more task fits on a suitable node that takes tasks: the filters whose result changes as tasks are placed.
    pub(super) fn judge_again(&self, number: usize, run: &mut Run<'_>) -> Result<(), Unfit> {
        self.judge_room(number, run).and_then(|()| self.judge_crowd(number, run))
    }

    fn constraints_hold(&self, node: &Node) -> bool {
        if self.constraints.is_empty() {
            return true;
        }
        let facts = node.facts();
        self.constraints.iter().all(|constraint| constraint.matches(&facts))
    }

    fn judge_room(&self, number: usize, run: &mut Run<'_>) -> Result<(), Unfit> {
        let candidate = run.pool.get(number);
        if self.reserved.nano_cpus > candidate.free_nano_cpus {
            return Err(Unfit::Cpu);
        }
        if self.reserved.memory_bytes > candidate.free_memory_bytes {
            return Err(Unfit::Memory);
        }
        if self.reserved.generic.is_empty() {
            return Ok(());
        }
        let free = run.free_generic(number);
        let lacks = |wanted: &GenericResource| generic::available(free, &wanted.kind) < generic::amount(wanted);
        if self.reserved.generic.iter().any(lacks) { Err(Unfit::Generic) } else { Ok(()) }
    }

    fn judge_crowd(&self, number: usize, run: &mut Run<'_>) -> Result<(), Unfit> {
        if !self.ports.is_empty() {
            let taken = run.ports(number);
            if self.ports.iter().any(|port| taken.contains(port)) {
                return Err(Unfit::HostPort);
            }
        }
        if self.max_replicas > 0 && run.active_of_service(number) >= self.max_replicas {
            return Err(Unfit::MaxReplicas);
        }
        if self.affinities.hold(number, run) { Ok(()) } else { Err(Unfit::Affinity) }
    }

    /// Reserves one task's resources on a suitable node; returns the generic resources that it claims.
    pub(super) fn take(&self, number: usize, run: &mut Run<'_>) -> Vec<GenericResource> {
        run.give(number, self.service, self.reserved.nano_cpus, self.reserved.memory_bytes);
        if !self.ports.is_empty() {
            run.ports(number).extend(&self.ports);
        }
        if self.reserved.generic.is_empty() {
            return Vec::new();
        }
        generic::claim(run.free_generic(number), &self.reserved.generic).unwrap_or_default()
    }

    /// Types and names of the engine's plugins that the tasks use.
    pub(super) fn plugins(&self) -> &[(&'static str, &'a str)] {
        &self.plugins
    }

    /// Whether the tasks have a config or a secret, which requires a container.
    pub(super) fn needs_container(&self) -> bool {
        self.needs_container
    }

    /// Whether a platform of the list matches the node's; an empty list or field matches any.
    pub(crate) fn platform_fits(platforms: &[Platform], node: &Node) -> bool {
        if platforms.is_empty() {
            return true;
        }
        let facts = node.facts();
        let same = |wanted: &str, is: &str| wanted.is_empty() || canonical(wanted) == canonical(is);
        platforms.iter().any(|wanted| same(&wanted.os, facts.os) && same(&wanted.architecture, facts.architecture))
    }
}

/// The volume and log drivers used by tasks of a template, except for those that every engine has.
fn plugins(template: &TaskSpec) -> Vec<(&'static str, &str)> {
    let volumes = template.container().mounts.iter().filter_map(|mount| mount.volume.as_ref()?.driver.as_ref());
    let volumes = volumes.map(|driver| (VOLUME_PLUGIN, driver.name.as_str()));
    let logs = template.log_driver.iter().map(|driver| (LOG_PLUGIN, driver.name.as_str()));
    volumes.chain(logs).filter(|(_, name)| !["", "local", "none"].contains(name)).collect()
}

/// Whether a node's engine has a plugin, with or without the tag of its newest version. A node that reports no engine, and an
/// engine that reports no log drivers, is assumed to have it.
fn has_plugin(node: &Node, kind: &str, name: &str) -> bool {
    let engine = node.description.as_ref().and_then(|description| description.engine.as_ref());
    let Some(engine) = engine else { return true };
    let bare = |name: &str| name.strip_suffix(":latest").unwrap_or(name).to_owned();
    let mut of_kind = engine.plugins.iter().filter(|plugin| plugin.r#type == kind).peekable();
    let untold = kind == LOG_PLUGIN && of_kind.peek().is_none();
    untold || of_kind.any(|plugin| bare(&plugin.name) == bare(name))
}

/// Whether a node meets all constraints.
pub(crate) fn meets_constraints(constraints: &[String], node: &Node) -> bool {
    let facts = node.facts();
    constraints.iter().all(|text| Constraint::parse(text).is_ok_and(|constraint| constraint.matches(&facts)))
}

/// Maps Docker's and uname's names of the same architecture to one.
fn canonical(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use events::{
        ContainerSpec, Driver, EngineDescription, EnginePlugin, Id, Mount, NodeDescription, NodeId, VolumeOptions,
    };
    use projections::Liveness;

    use super::*;

    fn node(plugins: Option<&[(&str, &str)]>) -> Node {
        let plugin =
            |(kind, name): &(&str, &str)| EnginePlugin { r#type: (*kind).to_owned(), name: (*name).to_owned() };
        let engine = |plugins: &[(&str, &str)]| EngineDescription {
            plugins: plugins.iter().map(plugin).collect(),
            ..EngineDescription::default()
        };
        let description = NodeDescription { engine: plugins.map(engine), ..NodeDescription::default() };
        Node {
            id: NodeId::from_bits(1),
            spec: Arc::default(),
            version: 1,
            created_at: events::Timestamp::default(),
            updated_at: events::Timestamp::default(),
            role: events::Role::Worker,
            certificate_not_after: None,
            certificate_index: 0,
            certificate_digest: None,
            moved_at: 0,
            joined_as: String::new(),
            description: Some(Arc::new(description)),
            liveness: Liveness::Ready,
            liveness_since: events::Timestamp::default(),
            addr: String::new(),
            session: None,
            losses: Vec::new(),
            held_until: None,
            drain_deadline: None,
            stopped_at_deadline: 0,
        }
    }

    #[test]
    fn a_plugin_is_there_with_or_without_its_newest_tag() {
        let known: &[_] = &[("Volume", "rexray/ebs:latest"), ("Volume", "nfs"), ("Log", "json-file")];
        let table = [
            (Some(known), VOLUME_PLUGIN, "nfs", true),
            (Some(known), VOLUME_PLUGIN, "nfs:latest", true),
            (Some(known), VOLUME_PLUGIN, "rexray/ebs", true),
            (Some(known), VOLUME_PLUGIN, "rexray/ebs:1", false),
            (Some(known), VOLUME_PLUGIN, "json-file", false),
            (Some(known), LOG_PLUGIN, "json-file", true),
            (Some(known), LOG_PLUGIN, "fluentd", false),
            // An engine that lists no log drivers may have any; every engine lists its volume drivers.
            (Some(&[]), LOG_PLUGIN, "fluentd", true),
            (Some(&[]), VOLUME_PLUGIN, "nfs", false),
            (None, VOLUME_PLUGIN, "nfs", true),
        ];
        for (plugins, kind, name, expected) in table {
            assert_eq!(has_plugin(&node(plugins), kind, name), expected, "{plugins:?} {kind} {name}");
        }
    }

    #[test]
    fn drivers_that_every_engine_has_are_not_looked_for() {
        let driver = |name: &str| Driver { name: name.to_owned(), ..Driver::default() };
        let mount = |name| {
            let volume = VolumeOptions { driver: Some(driver(name)), ..VolumeOptions::default() };
            Mount { volume: Some(volume), ..Mount::default() }
        };
        let mounts = vec![mount("local"), mount("nfs"), mount(""), Mount::default()];
        let container = Some(ContainerSpec { mounts, ..ContainerSpec::default() });
        let template =
            |log| TaskSpec { container: container.clone(), log_driver: Some(driver(log)), ..TaskSpec::default() };
        assert_eq!(plugins(&template("none")), [(VOLUME_PLUGIN, "nfs")]);
        assert_eq!(plugins(&template("fluentd")), [(VOLUME_PLUGIN, "nfs"), (LOG_PLUGIN, "fluentd")]);
    }
}
