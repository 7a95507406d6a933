//! What a turn visits for a large service: counts of places, since these show how its cost grows without a clock.

mod support;

use events::service_spec::Mode;
use events::{
    Annotations, ClusterId, ContainerSpec, Duration, Event, GlobalMode, Id, IdGenerator, Kind, NodeDescribed,
    NodeDescription, NodeId, Placement, Reconciler, ReplicatedMode, ResourceRequirements, Resources, ServiceCreated,
    ServiceId, ServiceSpec, ServiceSpecUpdated, SpecChange, TaskReported, TaskSpec, TaskState, TaskStatus, Timestamp,
    UpdateConfig,
};
use projections::{Cluster, Stamp, Task, Touched, UpdateState};
use reconcilers::{Budget, Candidates, Ctx, Presence, Settled, TimerKey, settle};
use support::node;

const SERVICE: u128 = 1;
const NODES: u128 = 10;
/// Tasks replaced at the same time.
const PARALLELISM: u64 = 10;
/// Turns that process a service as a whole, part by part, and those that take the first places of a rollout.
const FIRST_TURNS: u64 = 20;
/// Turns that are measured.
const TURNS: u64 = 20;

/// A manager that takes turns, and agents that follow their assignments at once.
struct World {
    cluster: Cluster,
    candidates: Candidates,
    touched: Touched,
    index: u64,
}

impl World {
    /// A service with this many running replicas.
    fn new(replicas: u64) -> Self {
        let mut world = Self::empty(NODES);
        world.create(spec(replicas, "old"));
        assert_eq!(world.running("old"), replicas);
        world
    }

    /// This many nodes.
    fn empty(nodes: u128) -> Self {
        let mut world = Self {
            cluster: Cluster::default(),
            candidates: Candidates::default(),
            touched: Touched::default(),
            index: 1,
        };
        world.fold((1..=nodes).flat_map(node));
        world
    }

    /// Creates the service, and waits until nothing is left to do.
    fn create(&mut self, spec: ServiceSpec) {
        self.fold([Kind::ServiceCreated(Box::new(ServiceCreated { service: id(), spec }))]);
        self.rest();
    }

    /// Takes turns until nothing is left to do.
    fn rest(&mut self) {
        while !self.touched.is_empty() || self.report() > 0 {
            self.turn();
        }
    }

    fn at(&self) -> Stamp {
        Stamp { index: self.index, time: Timestamp::from_unix_ns(0) + Duration::from_secs(self.index) }
    }

    fn fold(&mut self, kinds: impl IntoIterator<Item = Kind>) {
        let at = self.at();
        for kind in kinds {
            let event = Event::by_reconciler(Reconciler::Schedule, kind);
            self.cluster.apply_into(&event, &at, &mut self.touched);
        }
    }

    fn turn(&mut self) -> Settled {
        self.index += 1;
        let (presence, mut ids) = (Presence::new(), IdGenerator::new(ClusterId::from_bits(1), self.index));
        let at = self.at();
        let (ids, candidates) = (&mut ids, &mut self.candidates);
        let mut ctx = Ctx {
            now: at.time,
            ids,
            presence: &presence,
            peers: &reconcilers::Peers::default(),
            uses: &reconcilers::Uses::new(),
            candidates,
        };
        let touched = std::mem::take(&mut self.touched);
        let settled = settle(&mut self.cluster, touched, &mut ctx, &at, Budget::FRAME);
        self.touched = settled.left.clone();
        // A second passes between turns: the rollout's timer is due.
        if settled.wakes.get(&TimerKey::Rollout(id())).is_some_and(Option::is_some) {
            self.touched.rollouts.insert(id());
        }
        settled
    }

    /// Agents start and stop their tasks as assigned; returns the number of their reports.
    fn report(&mut self) -> usize {
        let next = |task: &Task| match task.desired {
            TaskState::Running if task.state == TaskState::Assigned => Some(TaskState::Running),
            TaskState::Shutdown if !task.state.is_terminal() => Some(TaskState::Shutdown),
            _ => None,
        };
        let news = self.cluster.tasks.values().filter_map(|task| Some((task.id, next(task)?)));
        let status = |state: TaskState| TaskStatus { state: state.into(), ..TaskStatus::default() };
        let reports: Vec<Kind> =
            news.map(|(task, state)| Kind::TaskReported(TaskReported { task, status: status(state) })).collect();
        let count = reports.len();
        self.fold(reports);
        count
    }

    /// How many tasks are running this image.
    fn running(&self, image: &str) -> u64 {
        let runs = |task: &&Task| {
            let spec = self.cluster.spec_of(task);
            let container = spec.task.as_ref().and_then(|task| task.container.as_ref());
            task.state == TaskState::Running && container.is_some_and(|container| container.image == image)
        };
        self.cluster.tasks.values().filter(runs).count() as u64
    }

    fn update(&mut self, replicas: u64, image: &str) {
        let spec = spec(replicas, image);
        let change = SpecChange::Update.into();
        self.index += 1;
        self.fold([Kind::ServiceSpecUpdated(Box::new(ServiceSpecUpdated {
            service: id(),
            spec,
            change,
            credentials: None,
            destroyed_secrets: Vec::new(),
            restored: None,
        }))]);
    }

    fn state(&self) -> Option<UpdateState> {
        self.cluster.services.get(id())?.update.as_ref().map(|update| update.state)
    }
}

fn id() -> ServiceId {
    ServiceId::from_bits(SERVICE)
}

fn spec(replicas: u64, image: &str) -> ServiceSpec {
    let update = UpdateConfig { parallelism: Some(PARALLELISM), ..UpdateConfig::default() };
    let container = Some(ContainerSpec { image: image.to_owned(), ..ContainerSpec::default() });
    let placement = Some(Placement::default());
    ServiceSpec {
        annotations: Some(Annotations { name: "web".to_owned(), ..Annotations::default() }),
        task: Some(TaskSpec { container, placement, ..TaskSpec::default() }),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas })),
        update: Some(update),
        ..ServiceSpec::default()
    }
}

/// The maximum of places visited in a turn of a rollout in progress.
fn most_places_in_a_turn(replicas: u64) -> usize {
    let mut world = World::new(replicas);
    world.update(replicas, "new");
    for _ in 0..FIRST_TURNS {
        world.turn();
        world.report();
    }
    let before = world.running("new");
    let turns = (0..TURNS).map(|_| {
        let places = world.turn().places;
        world.report();
        places
    });
    let most = turns.max().unwrap_or_default();
    assert_eq!(world.state(), Some(UpdateState::Updating));
    assert!(world.running("new") > before, "it goes on: {before} before, {} now", world.running("new"));
    most
}

#[test]
fn a_turn_of_a_rollout_looks_at_the_places_that_changed_however_many_there_are() {
    let few = most_places_in_a_turn(600);
    assert!(few < 100, "{few} places");
    assert_eq!(most_places_in_a_turn(3_000), few);
}

#[test]
fn a_rollout_of_a_large_service_gets_to_its_end() {
    let replicas = 1_500;
    let mut world = World::new(replicas);
    world.update(replicas, "new");
    let mut turns = 0;
    while world.state() == Some(UpdateState::Updating) {
        world.turn();
        world.report();
        turns += 1;
        assert!(turns < 20 * replicas, "{} of {replicas} tasks run the new spec", world.running("new"));
    }
    assert_eq!(world.state(), Some(UpdateState::Completed));
    assert_eq!(world.running("new"), replicas);
}

#[test]
fn a_rollout_of_a_very_large_service_begins_part_by_part() {
    let replicas = 11_000;
    let mut world = World::new(replicas);
    world.update(replicas, "new");
    let mut turns = 0;
    while world.cluster.rollout_tallies.get(id()).is_none_or(|tally| tally.taken == 0) {
        let places = world.turn().places;
        assert!(places < 15_000, "{places} places in turn {turns}");
        turns += 1;
        assert!(turns < 10);
    }
    assert!(turns > 1, "one look is not enough");
    let tally = world.cluster.rollout_tallies.get(id()).expect("a rollout is under way");
    assert_eq!(tally.slots, Some(replicas));
}

#[test]
fn when_a_node_changes_the_task_of_a_global_service_that_waits_there_is_tried_again_and_no_other() {
    let places = |nodes: u128| {
        let mut world = World::empty(nodes);
        let mut spec = spec(0, "old");
        spec.mode = Some(Mode::Global(GlobalMode {}));
        let reservations = Some(Resources { nano_cpus: 5_000_000_000, ..Resources::default() });
        let resources = ResourceRequirements { reservations, ..ResourceRequirements::default() };
        spec.task.get_or_insert_default().resources = Some(resources);
        world.create(spec);
        assert_eq!(world.cluster.unplaced().len() as u128, nodes);
        world.index += 1;
        let (resources, node) = (Resources { nano_cpus: 6_000_000_000, ..Resources::default() }, NodeId::from_bits(3));
        let description = NodeDescription { resources: Some(resources), ..NodeDescription::default() };
        world.fold([Kind::NodeDescribed(Box::new(NodeDescribed { node, description }))]);
        let places = world.turn().places;
        assert_eq!(world.cluster.unplaced().len() as u128, nodes - 1);
        places
    };
    let few = places(10);
    assert!(few < 10, "{few} places");
    assert_eq!(places(500), few);
}
