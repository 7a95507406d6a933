//! Compares the scheduler with one that visits every node for every task, on small random clusters drawn from seeds.

use std::collections::BTreeMap;

use events::spec::Constraint;
use events::spec::affinity::{Affinity, Presence};
use events::{
    Annotations, ClusterId, ContainerSpec, Event, Id, IdGenerator, Kind, NodeDescribed, NodeDescription, NodeId,
    NodeJoined, NodeRegistered, NodeSpec, Placement, PlacementPreference, PlacementStrategy, Reconciler,
    ResourceRequirements, Resources, ServiceCreated, ServiceId, ServiceSpec, SessionId, TaskCreated, TaskId,
    TaskReported, TaskState, TaskStatus,
};
use projections::{Stamp, Task};

use super::leaf::POINTS;
use super::order::{mixed, scattered};
use super::*;
use crate::{Budget, Candidates};

const CORE: u64 = 1_000_000_000;
const GIB: u64 = 1 << 30;
/// Two affinities of each service are drawn from these.
const AFFINITIES: [(&str, Option<u32>); 14] = [
    ("service==service-1", None),
    ("service==service-2", None),
    ("service!=service-1", None),
    ("service!=service-2", None),
    ("service==nothing", None),
    ("image==image-1", None),
    ("node.labels.zone==a", None),
    ("service==service-1", Some(2)),
    ("service!=service-2", Some(3)),
    ("service!=nothing", Some(3)),
    ("image==image-2", Some(1)),
    ("image!=image-1", Some(4)),
    ("node.labels.zone=~[bc]", Some(2)),
    ("node.hostname==node-1", Some(5)),
];
const ZONES: [&str; 3] = ["a", "b", "c"];
const SEEDS: u64 = 200;
/// Runs of the scheduler for each seed, each with tasks of its own.
const ROUNDS: u64 = 3;

/// Numbers drawn from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = mixed(self.0);
        self.0 % end
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// A cluster with the naive scheduler's own data.
struct World {
    cluster: Cluster,
    index: u64,
    tasks: u128,
}

impl World {
    fn draw(draw: &mut Draw) -> Self {
        let mut world = Self { cluster: Cluster::default(), index: 1, tasks: 0 };
        for number in 1..=2 + draw.below(8) {
            world.add_node(number.into(), draw);
        }
        world
    }

    fn apply(&mut self, kind: Kind) {
        let at = Stamp { index: self.index, time: Timestamp::default() };
        self.cluster.apply(&Event::by_reconciler(Reconciler::Schedule, kind), &at);
    }

    fn add_node(&mut self, number: u128, draw: &mut Draw) {
        let (node, hostname, addr) = (NodeId::from_bits(number), format!("node-{number}"), "10.0.0.1:1".to_owned());
        let labels = [("zone".to_owned(), draw.one_of(&ZONES).to_owned())].into();
        let annotations = Some(Annotations { labels, ..Annotations::default() });
        let spec = NodeSpec { annotations, ..NodeSpec::default() };
        let resources = Some(Resources {
            nano_cpus: draw.below(5) * CORE,
            memory_bytes: draw.below(5) * GIB,
            ..Resources::default()
        });
        let description = NodeDescription { hostname: hostname.clone(), resources, ..NodeDescription::default() };
        self.apply(Kind::NodeJoined(NodeJoined { node, spec, hostname, addr: addr.clone() }));
        self.apply(Kind::NodeRegistered(NodeRegistered { node, session: SessionId::from_bits(number), addr }));
        self.apply(Kind::NodeDescribed(Box::new(NodeDescribed { node, description })));
    }

    fn add_service(&mut self, number: u128, draw: &mut Draw) {
        self.index += 1;
        let spread = |spread: &str| PlacementPreference { spread: spread.to_owned() };
        let placement = Placement {
            constraints: draw
                .one_of(&[&[][..], &["node.labels.zone!=b"]])
                .iter()
                .map(|text| (*text).to_owned())
                .collect(),
            preferences: draw.one_of(&[&[][..], &["node.labels.zone"]]).iter().map(|label| spread(label)).collect(),
            max_replicas: draw.one_of(&[0, 0, 2]),
            strategy: draw.one_of(&[
                None,
                Some(PlacementStrategy::Spread.into()),
                Some(PlacementStrategy::Binpack.into()),
                Some(PlacementStrategy::Random.into()),
            ]),
            affinities: Self::draw_affinities(draw),
            ..Placement::default()
        };
        let reservations = Some(Resources {
            nano_cpus: draw.below(3) * CORE / 2,
            memory_bytes: draw.below(3) * GIB / 2,
            ..Resources::default()
        });
        let annotations = Some(Annotations { name: format!("service-{number}"), ..Annotations::default() });
        let mut spec = ServiceSpec { annotations, ..ServiceSpec::default() };
        let template = spec.task.get_or_insert_default();
        template.placement = Some(placement);
        template.container = Some(ContainerSpec { image: format!("image-{number}"), ..ContainerSpec::default() });
        template.resources = Some(ResourceRequirements { reservations, ..ResourceRequirements::default() });
        self.apply(Kind::ServiceCreated(Box::new(ServiceCreated { service: ServiceId::from_bits(number), spec })));
    }

    fn draw_affinities(draw: &mut Draw) -> Vec<events::Affinity> {
        let drawn = (0..draw.below(6) / 2).map(|_| draw.one_of(&AFFINITIES));
        drawn.map(|(expression, weight)| events::Affinity { expression: expression.to_owned(), weight }).collect()
    }

    /// Marks some of the placed tasks as running.
    fn run_some(&mut self, draw: &mut Draw) {
        let placed: Vec<TaskId> =
            self.cluster.tasks.values().filter(|task| task.state == TaskState::Assigned).map(|task| task.id).collect();
        for task in placed {
            if draw.below(2) == 0 {
                let status = TaskStatus { state: TaskState::Running.into(), ..TaskStatus::default() };
                self.apply(Kind::TaskReported(TaskReported { task, status }));
            }
        }
    }

    fn add_task(&mut self, service: u128) {
        self.tasks += 1;
        let service = ServiceId::from_bits(service);
        let spec_version = self.cluster.services.get(service).expect("the service").template_version;
        let (task, slot) = (TaskId::from_bits(self.tasks), self.tasks as u64);
        let desired = TaskState::Running.into();
        self.apply(Kind::TaskCreated(TaskCreated {
            task,
            service,
            spec_version,
            slot,
            desired,
            ..TaskCreated::default()
        }));
    }

    /// The scheduler's events.
    fn schedule(&self, candidates: &mut Candidates) -> Vec<Kind> {
        let mut ids = IdGenerator::new(ClusterId::from_bits(1), 1_000);
        let mut ctx = Ctx {
            now: Timestamp::default(),
            ids: &mut ids,
            presence: &crate::Presence::new(),
            peers: &crate::Peers::default(),
            uses: &crate::Uses::new(),
            candidates,
        };
        let mut out = Correction::with_room(Budget::FRAME);
        reconcile(&self.cluster, &Scope::everything(&self.cluster), &mut ctx, &mut out);
        out.events
    }

    /// Applies the scheduler's events; returns whether any task was placed.
    fn place(&mut self, kept: &mut Candidates, case: &str) -> bool {
        let said = self.schedule(kept);
        assert_eq!(said, self.schedule(&mut Candidates::default()), "{case}: what is kept counts");
        let mut has_placed = false;
        for kind in said {
            if let Kind::TaskAssigned(event) = &kind {
                let task = self.cluster.tasks.get(event.task).expect("the task");
                assert_eq!(Some(event.node), choose(&self.cluster, task), "{case}, {task:?}");
                has_placed = true;
            }
            self.apply(kind);
        }
        has_placed
    }
}

/// Whether a node is suitable for the task's service, regardless of what is running there.
fn suits(cluster: &Cluster, task: &Task, node: NodeId) -> bool {
    let node = cluster.nodes.get(node).expect("the node");
    let constraints = &cluster.spec_of(task).template().placement().constraints;
    let holds = |text: &String| Constraint::parse(text).expect("a constraint").matches(&node.facts());
    let affinities = affinities(cluster, task);
    constraints.iter().all(holds)
        && affinities.iter().all(|(affinity, weight)| match affinity {
            Affinity::Node(constraint) => weight.is_some() || constraint.matches(&node.facts()),
            Affinity::Service(..) | Affinity::Image(..) => true,
        })
}

fn affinities(cluster: &Cluster, task: &Task) -> Vec<(Affinity, Option<u32>)> {
    let all = cluster.spec_of(task).template().placement().affinities.iter();
    all.map(|affinity| (Affinity::parse(&affinity.expression).expect("an affinity"), affinity.weight)).collect()
}

/// Whether a node meets an affinity.
fn meets(cluster: &Cluster, affinity: &Affinity, node: NodeId) -> bool {
    let name = |task: &Task| cluster.spec_of(task).name().to_owned();
    let image = |task: &Task| cluster.spec_of(task).template().container().image.clone();
    let (is_there, presence) = match affinity {
        Affinity::Node(constraint) => return constraint.matches(&cluster.nodes.get(node).expect("the node").facts()),
        Affinity::Service(service, presence) => {
            (cluster.tasks_of_node(node).any(|task| name(task) == *service), presence)
        }
        Affinity::Image(wanted, presence) => {
            let runs = |task: &Task| task.state == TaskState::Running && image(task) == *wanted;
            (cluster.tasks_of_node(node).any(runs), presence)
        }
    };
    is_there == (*presence == Presence::Near)
}

/// Whether a node meets the required affinities, and those that services on it have to this one.
fn meets_required(cluster: &Cluster, task: &Task, node: NodeId) -> bool {
    let own = cluster.spec_of(task).name().to_owned();
    let is_first = cluster.tasks.values().all(|other| other.service != task.service || other.node.is_none());
    let near_own = Affinity::Service(own.clone(), Presence::Near);
    let required = affinities(cluster, task).into_iter().filter(|(_, weight)| weight.is_none());
    let apart = Affinity::Service(own, Presence::Apart);
    let keeps_apart =
        |other: &Task| other.service != task.service && affinities(cluster, other).contains(&(apart.clone(), None));
    required.into_iter().all(|(affinity, _)| (is_first && affinity == near_own) || meets(cluster, &affinity, node))
        && !cluster.tasks_of_node(node).any(keeps_apart)
}

/// Weight of the unmet preferences on a node.
fn lacks(cluster: &Cluster, task: &Task, node: NodeId) -> u64 {
    let unmet = affinities(cluster, task).into_iter().filter(|(affinity, _)| !meets(cluster, affinity, node));
    unmet.filter_map(|(_, weight)| weight).map(u64::from).sum()
}

/// Free resources of a node: CPU and memory.
fn free(cluster: &Cluster, node: NodeId) -> (u64, u64) {
    let offers = cluster.nodes.get(node).and_then(|node| node.offers()).expect("its offers");
    let tasks = || cluster.tasks_of_node(node);
    let cpus: u64 = tasks().map(|task| task.nano_cpus).sum();
    let memory: u64 = tasks().map(|task| task.memory_bytes).sum();
    (offers.nano_cpus - cpus, offers.memory_bytes - memory)
}

/// Tasks of the task's service on a node.
fn of_service(cluster: &Cluster, task: &Task, node: NodeId) -> u64 {
    cluster.tasks_of_node(node).filter(|other| other.service == task.service).count() as u64
}

fn fits(cluster: &Cluster, task: &Task, node: NodeId) -> bool {
    let (cpus, memory) = free(cluster, node);
    let most = cluster.spec_of(task).template().placement().max_replicas;
    let has_room = task.nano_cpus <= cpus && task.memory_bytes <= memory;
    has_room
        && suits(cluster, task, node)
        && meets_required(cluster, task, node)
        && (most == 0 || of_service(cluster, task, node) < most)
}

/// The value of the label that the tasks are spread over.
fn zone(cluster: &Cluster, task: &Task, node: NodeId) -> String {
    let node = cluster.nodes.get(node).expect("the node");
    let is_spread = !cluster.spec_of(task).template().placement().preferences.is_empty();
    let labels = &node.spec.annotations.as_ref().expect("its labels").labels;
    if is_spread { labels["zone"].clone() } else { String::new() }
}

/// The smaller, the better.
fn score(cluster: &Cluster, task: &Task, node: NodeId) -> (u64, u64, u64, NodeId) {
    let lacks = lacks(cluster, task, node);
    let count = cluster.tasks_of_node(node).count() as u64;
    let offers = cluster.nodes.get(node).and_then(|node| node.offers()).expect("its offers");
    let (cpus, memory) = free(cluster, node);
    let share = |part: u64, whole: u64| (u128::from(part) * 1_000_000).checked_div(whole.into()).unwrap_or(0) as u64;
    match cluster.settings.spec.strategy_of(cluster.spec_of(task).template().placement()) {
        PlacementStrategy::Spread => (lacks, of_service(cluster, task, node), count, node),
        PlacementStrategy::Binpack => match (task.nano_cpus, task.memory_bytes) {
            (0, 0) => (lacks, 0, u64::MAX - count, node),
            (_, 0) => (lacks, 0, cpus, node),
            (0, _) => (lacks, 0, memory, node),
            (_, _) => (lacks, 0, share(cpus, offers.nano_cpus).min(share(memory, offers.memory_bytes)), node),
        },
        PlacementStrategy::Random => (lacks, of_service(cluster, task, node), scattered(node), node),
    }
}

/// The node nearest to one of the task's points, of all suitable ones; only then whether it has room.
fn at_random(task: &Task, suited: &[NodeId], fitting: &[NodeId]) -> Option<NodeId> {
    let mut near: Vec<(u64, NodeId)> = Vec::new();
    for point in (0..POINTS).map(|point| mixed(scattered(task.id) ^ point)) {
        near.extend(suited.iter().map(|node| (scattered(*node).wrapping_sub(point), *node)).min());
    }
    near.sort_unstable();
    near.into_iter().map(|(_, node)| node).find(|node| fitting.contains(node))
}

/// The node for a task.
fn choose(cluster: &Cluster, task: &Task) -> Option<NodeId> {
    let nodes: Vec<NodeId> = cluster.nodes.iter().map(|(id, _)| id).collect();
    let mut zones: BTreeMap<String, (u64, Vec<NodeId>, Vec<NodeId>)> = BTreeMap::new();
    for node in nodes.into_iter().filter(|node| suits(cluster, task, *node)) {
        let (tasks, suited, fitting) = zones.entry(zone(cluster, task, node)).or_default();
        *tasks += of_service(cluster, task, node);
        suited.push(node);
        fitting.extend(Some(node).filter(|node| fits(cluster, task, *node)));
    }
    let with_room = zones.into_values().filter(|(_, _, fitting)| !fitting.is_empty());
    let (_, suited, fitting) = with_room.min_by_key(|(tasks, _, _)| *tasks)?;
    let strategy = cluster.settings.spec.strategy_of(cluster.spec_of(task).template().placement());
    let least = fitting.iter().map(|node| lacks(cluster, task, *node)).min()?;
    let is_best = |node: &NodeId| lacks(cluster, task, *node) == least && is_ordinary(cluster, task, *node);
    let mut ordinary: Vec<NodeId> = fitting.iter().copied().filter(is_best).collect();
    if strategy == PlacementStrategy::Random && !ordinary.is_empty() {
        let alike: Vec<NodeId> = suited
            .into_iter()
            .filter(|node| penalty(cluster, task, *node) == penalty(cluster, task, ordinary[0]))
            .collect();
        ordinary.sort_by_key(|node| scattered(*node));
        return at_random(task, &alike, &ordinary).or(ordinary.first().copied());
    }
    Some(fitting).and_then(|fitting| fitting.into_iter().min_by_key(|node| score(cluster, task, *node)))
}

/// Weight of the preferred properties that a node lacks.
fn penalty(cluster: &Cluster, task: &Task, node: NodeId) -> u64 {
    let unmet = affinities(cluster, task).into_iter().filter(|(affinity, _)| match affinity {
        Affinity::Node(_) => !meets(cluster, affinity, node),
        Affinity::Service(..) | Affinity::Image(..) => false,
    });
    unmet.filter_map(|(_, weight)| weight).map(u64::from).sum()
}

/// Whether no affinity of the task affects the node, and the task may go elsewhere too.
fn is_ordinary(cluster: &Cluster, task: &Task, node: NodeId) -> bool {
    let own = cluster.spec_of(task).name();
    let is_first = cluster.tasks.values().all(|other| other.service != task.service || other.node.is_none());
    affinities(cluster, task).into_iter().all(|(affinity, weight)| match &affinity {
        Affinity::Node(_) => true,
        Affinity::Service(name, Presence::Near) if weight.is_none() => is_first && name == own,
        Affinity::Image(_, Presence::Near) if weight.is_none() => false,
        Affinity::Service(_, presence) | Affinity::Image(_, presence) => {
            weight.is_none() || meets(cluster, &affinity, node) == (*presence == Presence::Apart)
        }
    })
}

#[test]
fn every_choice_is_the_naive_ones() {
    for seed in 0..SEEDS {
        let mut draw = Draw(seed);
        let (mut world, mut kept) = (World::draw(&mut draw), Candidates::default());
        let services = 1 + u128::from(draw.below(3));
        (1..=services).for_each(|number| world.add_service(number, &mut draw));
        for round in 0..ROUNDS {
            for _ in 0..draw.below(12) {
                world.add_task(1 + u128::from(draw.below(services as u64)));
            }
            // A task that must be near another one placed after it is placed when it is retried.
            while world.place(&mut kept, &format!("seed {seed}, round {round}")) {
                world.run_some(&mut draw);
            }
            let waiting = world.cluster.tasks.values().filter(|task| task.awaits_placement());
            let placeable: Vec<_> = waiting.filter(|task| choose(&world.cluster, task).is_some()).collect();
            assert!(placeable.is_empty(), "seed {seed}, round {round}: {placeable:?} could be placed");
        }
    }
}

#[test]
fn tasks_at_random_are_anywhere() {
    const NODES: u64 = 20;
    const TASKS: u64 = 4_000;
    let mut world = World { cluster: Cluster::default(), index: 1, tasks: 0 };
    for number in 1..=NODES {
        world.add_node(number.into(), &mut Draw(number));
    }
    let mut spec = ServiceSpec::default();
    let strategy = Some(PlacementStrategy::Random.into());
    spec.task.get_or_insert_default().placement = Some(Placement { strategy, ..Placement::default() });
    world.apply(Kind::ServiceCreated(Box::new(ServiceCreated { service: ServiceId::from_bits(1), spec })));
    let mut counts: BTreeMap<NodeId, u64> = BTreeMap::new();
    for _ in 0..TASKS / 1_000 {
        (0..1_000).for_each(|_| world.add_task(1));
        for kind in world.schedule(&mut Candidates::default()) {
            if let Kind::TaskAssigned(event) = &kind {
                *counts.entry(event.node).or_default() += 1;
            }
            world.apply(kind);
        }
    }
    let (least, most) = (counts.values().min().copied(), counts.values().max().copied());
    assert_eq!(counts.len() as u64, NODES);
    assert!(least > Some(TASKS / NODES / 2) && most < Some(TASKS / NODES * 2), "{least:?} to {most:?} tasks a node");
}
