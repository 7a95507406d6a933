//! Properties of the pure core under random inputs in any order: commands, reports, time and silent nodes are drawn at random,
//! and a failing case is shrunk to a few steps.
//!
//! The seeded simulation runs the real loop. Here there is none, so that the reconcilers' own guarantees are tested in isolation:
//! a turn of any size loses nothing, a scope has the same result as everything, and a timer fires before there is anything to do.

#[path = "properties/files.rs"]
mod files;
#[path = "properties/jobs.rs"]
mod jobs;
#[path = "properties/plans.rs"]
mod plans;
#[path = "properties/rebalance.rs"]
mod rebalance;
#[path = "properties/references.rs"]
mod references;
#[path = "properties/rollouts.rs"]
mod rollouts;
#[path = "properties/shape.rs"]
mod shape;
#[path = "properties/undo.rs"]
mod undo;

use std::collections::BTreeMap;
use std::time::Duration;

use commands::{Actor, Command, InitialiseCluster, SecretText, ServiceSecrets};
use events::service_spec::Mode;
use events::{
    Annotations, Availability, ClusterId, ClusterSpec, ContainerStatus, Event, FailureAction, Frame, FrameHeader,
    GlobalMode, Id, IdGenerator, Kind, NodeDescription, NodeId, NodeSpec, ReplicatedMode, Resources, RestartCondition,
    Role, ServiceId, ServiceSpec, SessionId, TaskId, TaskState, TaskStatus, Timestamp, UpdateOrder, codec,
};
use files::FileStep;
use projections::{Cluster, Liveness, Stamp, Touched, check, snapshot};
use proptest::prelude::*;
use reconcilers::{Budget, Candidates, LastSeen, Presence, Settled, TimerKey, settle};
use shape::{Shape, shape};

const TOKEN: [u8; 32] = [7; 32];
/// Maximum number of turns until reconcilers have settled.
const TURNS_MAX: u64 = 10_000;

/// One random step. Objects are named by their position among the existing ones, so that every step is meaningful.
#[derive(Debug, Clone)]
enum Step {
    Join {
        memory: u8,
        zone: u8,
    },
    FallSilent(usize),
    Return(usize),
    SetNode {
        node: usize,
        availability: Availability,
        zone: u8,
        /// The time limit of the drain.
        deadline_secs: Option<u64>,
    },
    RemoveNode(usize),
    Create(Shape),
    Update(usize, Shape),
    Scale(usize, u64),
    /// Roll back to the previous spec.
    RollBack(usize),
    Pause(usize),
    Resume(usize),
    RemoveService(usize),
    RemoveTask(usize),
    /// About a config or a secret.
    File(FileStep),
    Report(usize, TaskState),
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let availability =
        prop_oneof![3 => Just(Availability::Active), 1 => Just(Availability::Pause), 1 => Just(Availability::Drain)];
    let states = prop_oneof![
        1 => Just(TaskState::Accepted),
        1 => Just(TaskState::Ready),
        4 => Just(TaskState::Running),
        1 => Just(TaskState::Complete),
        2 => Just(TaskState::Shutdown),
        2 => Just(TaskState::Failed),
        1 => Just(TaskState::Rejected),
    ];
    let any = any::<usize>;
    prop_oneof![
        2 => (1..6_u8, 0..2_u8).prop_map(|(memory, zone)| Step::Join { memory, zone }),
        2 => any().prop_map(Step::FallSilent),
        2 => any().prop_map(Step::Return),
        2 => (any(), availability, 0..2_u8, prop::option::weighted(0.3, 1..100_u64)).prop_map(
            |(node, availability, zone, deadline_secs)| Step::SetNode { node, availability, zone, deadline_secs },
        ),
        1 => any().prop_map(Step::RemoveNode),
        3 => shape().prop_map(Step::Create),
        3 => (any(), shape()).prop_map(|(service, shape)| Step::Update(service, shape)),
        3 => (any(), 0..8_u64).prop_map(|(service, replicas)| Step::Scale(service, replicas)),
        1 => any().prop_map(Step::RollBack),
        1 => any().prop_map(Step::Pause),
        1 => any().prop_map(Step::Resume),
        1 => any().prop_map(Step::RemoveService),
        1 => any().prop_map(Step::RemoveTask),
        3 => files::step().prop_map(Step::File),
        16 => (any(), states).prop_map(|(task, state)| Step::Report(task, state)),
        6 => prop_oneof![4 => 0..10_u64, 1 => 10..90_000_u64].prop_map(Step::Advance),
    ]
}

/// The budget of one turn: often less than it needs.
fn room() -> impl Strategy<Value = Budget> {
    let full = Budget::FRAME;
    prop_oneof![
        Just(full),
        (1..6_usize).prop_map(move |events| Budget { events, ..full }),
        (36..200_usize).prop_map(move |bytes| Budget { bytes, ..full }),
    ]
}

/// The core, without the leader's loop.
struct Core {
    cluster: Cluster,
    now: Timestamp,
    room: Budget,
    /// Nodes that send heartbeats.
    heard: Vec<NodeId>,
    presence: Presence,
    /// The scheduler's candidates, which are kept between turns.
    candidates: Candidates,
    wakes: BTreeMap<TimerKey, Timestamp>,
    frames: Vec<Vec<u8>>,
    sessions: u128,
    ledger: rollouts::Ledger,
}

impl Core {
    fn new(room: Budget) -> Self {
        let mut core = Self {
            cluster: Cluster::default(),
            now: Timestamp::from_unix_ns(1_700_000_000_000_000_000),
            room,
            heard: Vec::new(),
            presence: Presence::new(),
            candidates: Candidates::default(),
            wakes: BTreeMap::new(),
            frames: Vec::new(),
            sessions: 0,
            ledger: rollouts::Ledger::default(),
        };
        let secret = || SecretText("secret".to_owned());
        let first = InitialiseCluster {
            cluster: ClusterId::from_bits(1),
            spec: ClusterSpec::default(),
            root_cert_pem: "root".to_owned(),
            root_digest: "digest".to_owned(),
            root_key_pem: secret(),
            worker_token: (secret(), TOKEN),
            manager_token: (secret(), [8; 32]),
            node: NodeId::from_bits(1),
            raft_id: 1,
            audit_key: None,
            feature_level_max: events::frame::FEATURE_LEVEL,
            hostname: "manager".to_owned(),
            addr: "10.0.0.1".to_owned(),
            cert_pem: "certificate".to_owned(),
            cert_not_after: core.now,
        };
        core.ask(&Actor::Manager(NodeId::from_bits(1)), &Command::InitialiseCluster(Box::new(first)));
        core
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Join { memory, zone } => self.join(*memory, *zone),
            Step::FallSilent(node) => {
                let node = self.node(*node);
                self.heard.retain(|heard| Some(*heard) != node);
            }
            Step::Return(node) => {
                if let Some(node) = self.node(*node) {
                    self.register(node, 4);
                }
            }
            Step::SetNode { node, availability, zone, deadline_secs } => {
                let Some(node) = self.node(*node) else { return };
                let deadline = deadline_secs.filter(|_| *availability == Availability::Drain);
                let drain_deadline_ns = deadline.map(|seconds| seconds * 1_000_000_000);
                let spec = NodeSpec { drain_deadline_ns, ..node_spec(*availability, *zone) };
                self.operator(&Command::UpdateNode(commands::UpdateNode { node, spec, version: None }));
            }
            Step::RemoveNode(node) => {
                let Some(node) = self.node(*node).filter(|node| node.bits() != 1) else { return };
                self.operator(&Command::RemoveNode(commands::RemoveNode { node, force: true }));
            }
            Step::Create(shape) => {
                let spec = Box::new(self.spec(shape, &format!("service-{}", self.frames.len())));
                self.operator(&Command::CreateService(commands::CreateService {
                    spec,
                    secrets: ServiceSecrets::default(),
                }));
            }
            Step::Update(service, shape) => {
                let Some(service) = self.service(*service) else { return };
                let name = self.cluster.services.get(service).map(|service| service.spec.name().to_owned());
                let spec = Box::new(self.spec(shape, &name.unwrap_or_default()));
                self.operator(&Command::UpdateService(commands::UpdateService {
                    service,
                    spec,
                    version: None,
                    secrets: ServiceSecrets::default(),
                }));
            }
            Step::Scale(service, replicas) => {
                let Some(service) = self.service(*service) else { return };
                self.operator(&Command::ScaleService(commands::ScaleService { service, replicas: *replicas }));
            }
            Step::RollBack(service) => {
                let Some(service) = self.service(*service) else { return };
                self.operator(&Command::RollbackService(commands::RollbackService { service, to: None }));
            }
            Step::Pause(service) => {
                let Some(service) = self.service(*service) else { return };
                self.operator(&Command::PauseUpdate(commands::PauseUpdate { service }));
            }
            Step::Resume(service) => {
                let Some(service) = self.service(*service) else { return };
                self.operator(&Command::ResumeUpdate(commands::ResumeUpdate { service }));
            }
            Step::RemoveService(service) => {
                let Some(service) = self.service(*service) else { return };
                self.operator(&Command::RemoveService(commands::RemoveService { service }));
            }
            Step::RemoveTask(task) => {
                let Some(task) = self.task(*task) else { return };
                self.operator(&Command::RemoveTask(commands::RemoveTask { task }));
            }
            Step::File(step) => self.take_file(step),
            Step::Report(task, state) => self.report(*task, *state),
            Step::Advance(seconds) => self.advance(Duration::from_secs(*seconds)),
        }
    }

    fn node(&self, at: usize) -> Option<NodeId> {
        nth(self.cluster.nodes.iter().map(|(id, _)| id).collect(), at)
    }

    fn service(&self, at: usize) -> Option<ServiceId> {
        nth(self.cluster.services.iter().map(|(id, _)| id).collect(), at)
    }

    fn spec(&self, shape: &Shape, name: &str) -> ServiceSpec {
        let other = shape.depends_on.and_then(|at| self.cluster.services.get(self.service(at)?));
        let depends_on = other.map(|service| service.spec.name().to_owned()).into_iter().collect();
        ServiceSpec { depends_on, ..shape.spec(name) }
    }

    fn task(&self, at: usize) -> Option<TaskId> {
        nth(self.cluster.tasks.iter().map(|(id, _)| id).collect(), at)
    }

    fn operator(&mut self, command: &Command) {
        self.ask(&Actor::Operator("user".to_owned()), command);
    }

    fn join(&mut self, memory: u8, zone: u8) {
        let addr = "10.0.0.2".to_owned();
        let hostname = format!("node-{}", self.frames.len());
        let command = Command::JoinNode(commands::JoinNode { secret_sha256: TOKEN, hostname, addr: addr.clone() });
        let Some(subject) = self.ask(&Actor::Joiner(addr), &command) else { return };
        let node: NodeId = subject.parse().expect("a joiner receives its id");
        self.operator(&Command::UpdateNode(commands::UpdateNode {
            node,
            spec: node_spec(Availability::Active, zone),
            version: None,
        }));
        self.register(node, memory);
    }

    fn register(&mut self, node: NodeId, memory: u8) {
        self.sessions += 1;
        let resources =
            Some(Resources { memory_bytes: u64::from(memory) << 30, nano_cpus: 4_000_000_000, ..Resources::default() });
        let description =
            Box::new(NodeDescription { resources, hostname: "host".to_owned(), ..NodeDescription::default() });
        let session = SessionId::from_bits(self.sessions);
        self.heard.retain(|heard| *heard != node);
        self.heard.push(node);
        self.heartbeat();
        let actor = Actor::Node { id: node, role: Role::Worker };
        self.ask(
            &actor,
            &Command::RegisterNode(commands::RegisterNode { node, session, description, addr: "10.0.0.2".to_owned() }),
        );
    }

    fn report(&mut self, task: usize, state: TaskState) {
        let assigned: Vec<_> = self.cluster.tasks.values().filter(|task| task.state >= TaskState::Assigned).collect();
        let Some((task, node)) = nth(assigned, task).and_then(|task| Some((task.id, task.node?))) else { return };
        let Some(session) = self.cluster.nodes.get(node).and_then(|node| node.session) else { return };
        let container = Some(ContainerStatus { exit_code: Some(0), ..ContainerStatus::default() });
        let status = TaskStatus { state: state.into(), at: Some(self.now), container, ..TaskStatus::default() };
        let actor = Actor::Node { id: node, role: Role::Worker };
        self.ask(&actor, &Command::ReportTasks(commands::ReportTasks { node, session, reports: vec![(task, status)] }));
    }

    /// Decides a command twice, to check that the decision is deterministic, and takes the turn that it starts.
    fn ask(&mut self, actor: &Actor, command: &Command) -> Option<String> {
        let at = self.next_stamp();
        let judge = || {
            let mut ctx = commands::Ctx {
                now: at.time,
                ids: IdGenerator::new(self.cluster.id(), at.index),
                reached: Default::default(),
            };
            commands::decide(&self.cluster, actor, command, &mut ctx).map(|decision| (decision, ctx.ids))
        };
        let (first, again) = (judge(), judge());
        assert_eq!(first.as_ref().map(|(decision, _)| decision), again.as_ref().map(|(decision, _)| decision));
        let (decision, ids) = first.ok()?;
        let events = decision.events.into_iter().map(|kind| Event::by_command(0, kind)).collect();
        self.turns(events, Touched::default(), ids);
        decision.subject
    }

    /// Lets time pass. Before the first timer, there must be nothing to do.
    fn advance(&mut self, time: Duration) {
        let later = self.now + time;
        loop {
            self.now = self.next_wake().map_or(later, |wake| wake.min(later)).max(self.now);
            self.heartbeat();
            let due: Vec<TimerKey> =
                self.wakes.iter().filter(|(_, at)| **at <= self.now).map(|(due, _)| *due).collect();
            if due.is_empty() {
                break;
            }
            self.look(due);
        }
        self.expect_rest();
    }

    /// When something may happen next. A node with continuous heartbeats is checked every few seconds, without a result: of these
    /// checks, only the last one before another event is made. So a day does not cost more than its events.
    fn next_wake(&self) -> Option<Timestamp> {
        let is_heard = |node: NodeId| {
            let ready = self.cluster.nodes.get(node).is_some_and(|node| node.liveness == Liveness::Ready);
            ready && self.heard.contains(&node)
        };
        let passes = |key: &TimerKey| matches!(key, TimerKey::Node(node) if is_heard(*node));
        self.wakes.iter().filter(|(key, _)| !passes(key)).map(|(_, at)| *at).min()
    }

    /// The turns that start with these timers.
    fn look(&mut self, due: Vec<TimerKey>) {
        let mut touched = Touched::default();
        for subject in due {
            self.wakes.remove(&subject);
            match subject {
                TimerKey::Node(node) => touched.overdue.insert(node),
                TimerKey::Service(service) => touched.services.insert(service),
                TimerKey::Rollout(service) => touched.rollouts.insert(service),
                TimerKey::Balance(service) => touched.balances.insert(service),
                TimerKey::Scaling(service) => touched.scalings.insert(service),
                TimerKey::Place(service, instance) => touched.places.insert((service, instance)),
            };
        }
        let ids = IdGenerator::new(self.cluster.id(), self.next_stamp().index);
        self.turns(Vec::new(), touched, ids);
    }

    fn heartbeat(&mut self) {
        let timeout = self.cluster.heartbeat_timeout();
        self.presence.extend(self.heard.iter().map(|node| (*node, LastSeen { at: self.now, timeout })));
    }

    fn next_stamp(&self) -> Stamp {
        Stamp { index: self.cluster.position.index + 1, time: self.now }
    }

    /// Turns with this budget, each with a frame, until nothing is left; then invariants must hold, and there is nothing to do.
    fn turns(&mut self, mut events: Vec<Event>, mut touched: Touched, mut ids: IdGenerator) {
        for _ in 0..TURNS_MAX {
            let at = self.next_stamp();
            for event in &events {
                self.cluster.apply_into(event, &at, &mut touched);
            }
            let settled = self.settle_twice(touched, ids, &at);
            events.extend(settled.events);
            for (subject, wake) in settled.wakes {
                match wake {
                    Some(time) => self.wakes.insert(subject, time),
                    None => self.wakes.remove(&subject),
                };
            }
            self.conclude(std::mem::take(&mut events), at);
            touched = settled.left;
            ids = IdGenerator::new(self.cluster.id(), at.index + 1);
            if touched.is_empty() {
                assert_eq!(check::check(&self.cluster), Vec::<String>::new());
                self.ledger.expect_rest();
                return self.expect_rest();
            }
        }
        panic!("turns of {:?} do not come to an end; left is {touched:?}", self.room);
    }

    /// Settles with the scheduler's candidates from earlier turns, after a turn that was dropped: the result must be that of a
    /// scheduler without candidates.
    fn settle_twice(&mut self, touched: Touched, ids: IdGenerator, at: &Stamp) -> Settled {
        let settle = |cluster: &mut Cluster, candidates: &mut Candidates, room| {
            let mut ids = ids.clone();
            let mut ctx = reconcilers::Ctx {
                now: at.time,
                ids: &mut ids,
                presence: &self.presence,
                peers: &reconcilers::Peers::default(),
                uses: &reconcilers::Uses::new(),
                candidates,
            };
            settle(cluster, touched.clone(), &mut ctx, at, room)
        };
        let mut fresh = self.cluster.clone();
        let expected = settle(&mut fresh, &mut Candidates::default(), self.room);
        settle(&mut self.cluster.clone(), &mut self.candidates, Budget::FRAME);
        let settled = settle(&mut self.cluster, &mut self.candidates, self.room);
        assert_eq!(settled.events, expected.events, "what the scheduler keeps between turns changes what it decides");
        assert_eq!((&settled.left, &settled.wakes), (&expected.left, &expected.wakes));
        settled
    }

    fn conclude(&mut self, events: Vec<Event>, at: Stamp) {
        if events.is_empty() {
            return;
        }
        let header = FrameHeader { index: at.index, log_time: at.time, ..FrameHeader::default() };
        let frame = Frame { header, commands: Vec::new(), events };
        self.cluster.conclude(&frame, &at);
        self.ledger.follow(&frame);
        self.frames.push(codec::encode_entry(&frame, Vec::new()));
    }

    /// A look at everything must find the same as the looks at parts: nothing more to do. Only the reason why a task waits may be
    /// worded differently: when nodes fill up, waiting tasks are not tried again.
    fn expect_rest(&mut self) {
        self.heartbeat();
        let (mut next, at) = (self.cluster.clone(), self.next_stamp());
        let mut ids = IdGenerator::new(self.cluster.id(), at.index);
        let mut candidates = Candidates::default();
        let (ids, presence, candidates) = (&mut ids, &self.presence, &mut candidates);
        let mut ctx = reconcilers::Ctx {
            now: at.time,
            ids,
            presence,
            peers: &reconcilers::Peers::default(),
            uses: &reconcilers::Uses::new(),
            candidates,
        };
        let everything = Touched { everything: true, ..Touched::default() };
        let settled = settle(&mut next, everything, &mut ctx, &at, Budget::FRAME);
        let waits = |task: &TaskId| self.cluster.tasks.get(*task).is_some_and(|task| task.waiting.is_some());
        let said: Vec<&Event> = settled
            .events
            .iter()
            .filter(|event| !matches!(&event.kind, Some(Kind::TaskPlacementFailed(failed)) if failed.tasks.iter().all(waits)))
            .collect();
        assert!(said.is_empty(), "a look at everything still finds {said:#?}");
    }

    /// Replaying the frames gives the state, and so does a snapshot.
    fn expect_repeatable(&self) {
        let mut replayed = Cluster::default();
        for entry in &self.frames {
            let sections = codec::split_entry(entry).expect("an entry can be split");
            replayed.apply_frame(&codec::decode_frame(sections.frame).expect("a frame can be read"));
        }
        assert_eq!(replayed.state_hash(), self.cluster.state_hash());
        let read = snapshot::read(snapshot::chunks(&self.cluster)).expect("a snapshot can be read");
        assert_eq!(read.state_hash(), self.cluster.state_hash());
        assert_eq!(check::check(&read), Vec::<String>::new());
        references::expect_as_by_a_walk(&read);
    }
}

fn nth<T: Clone>(all: Vec<T>, at: usize) -> Option<T> {
    let place = at.checked_rem(all.len())?;
    all.get(place).cloned()
}

fn node_spec(availability: Availability, zone: u8) -> NodeSpec {
    let labels = [("zone".to_owned(), zone.to_string())].into();
    let annotations = Some(Annotations { labels, ..Annotations::default() });
    NodeSpec { availability: availability.into(), annotations, ..NodeSpec::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_core_keeps_its_promises(room in room(), steps in prop::collection::vec(step(), 1..80)) {
        let mut core = Core::new(room);
        for step in &steps {
            core.take(step);
        }
        core.expect_repeatable();
    }
}
