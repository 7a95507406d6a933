//! The index of history finds the same events as reading all of history, and a state of the past equals the one that was
//! published then.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use cli::Manager;
use events::service_spec::Mode;
use events::{Availability, CommandId, Id, NodeSpec, ReplicatedMode, RestartPolicy, ServiceSpec};
use futures_util::{FutureExt, StreamExt};
use node::log::LogStore;
use node::manager::indexer::add_segment;
use node::manager::past::{Past as States, memory_bytes};
use node::manager::replica::Intervals;
use projections::Cluster;
use tests::script::machine;
use tests::socket::Socket;
use tests::world::World;
use wire::v1::command_request::Command;
use wire::v1::{
    CommandRequest, CreateService, EventRecord, EventsRequest, RemoveService, ScaleService, UpdateNode, UpdateService,
};

/// Number of frames: more than a few segments of the index.
const FRAMES_MIN: u64 = 800;

/// A cluster with a history of failures, moves, changes and removals.
struct Past {
    socket: Socket,
    commands: u128,
    /// Published states, by their indexes.
    published: RefCell<BTreeMap<u64, Cluster>>,
}

impl Past {
    fn make() -> Self {
        let intervals = Intervals { checkpoint_frames: 50, ..Intervals::default() };
        let mut world = World::new(7, machine("n1"), 1_000, intervals).expect("a cluster");
        for name in ["n2", "n3"] {
            world.join(machine(name), None).expect("a node joins");
        }
        let mut past =
            Self { socket: Socket::new(Rc::new(RefCell::new(world))), commands: 0, published: RefCell::default() };
        past.live();
        past
    }

    fn live(&mut self) {
        self.pass(5);
        self.create("web", "sim/ok:1", 3);
        self.create("crash", "sim/exit-1-after-1s", 2);
        self.create("gone", "sim/ok:1", 2);
        self.pass(60);
        let services = [("web", "sim/ok:2"), ("web", "sim/ok:3")];
        for (service, image) in services {
            self.ask(Command::UpdateService(UpdateService {
                service: service.to_owned(),
                spec: Box::new(spec(service, image, 3)),
                ..Default::default()
            }));
            self.pass(90);
        }
        self.availability("n2", Availability::Drain);
        self.pass(60);
        self.ask(Command::RemoveService(RemoveService { service: "gone".to_owned() }));
        self.pass(120);
        self.availability("n2", Availability::Active);
        self.ask(Command::ScaleService(ScaleService { service: "web".to_owned(), replicas: 5 }));
        for _ in 0..60 {
            self.pass(60);
            if self.head() > FRAMES_MIN {
                break;
            }
        }
        self.create("late", "sim/ok:1", 1);
        self.pass(10);
    }

    fn create(&mut self, name: &str, image: &str, replicas: u64) {
        let spec = spec(name, image, replicas);
        self.ask(Command::CreateService(CreateService { spec: Box::new(spec), ..Default::default() }));
    }

    fn availability(&mut self, node: &str, availability: Availability) {
        let spec = NodeSpec { availability: availability.into(), ..Default::default() };
        self.ask(Command::UpdateNode(UpdateNode { node: node.to_owned(), spec, version: None }));
    }

    fn ask(&mut self, command: Command) {
        self.commands += 1;
        let reason = (self.commands % 2 == 1).then(|| format!("Ticket {}", self.commands));
        let id = CommandId::from_bits(self.commands);
        let request = CommandRequest { id, command: Some(command), reason, ..CommandRequest::default() };
        self.socket.execute(request).now_or_never().expect("at once").expect("it takes effect");
    }

    fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            let mut world = self.socket.world.borrow_mut();
            world.advance(Duration::from_secs(1)).expect("time passes");
            let cluster = world.state().expect("it runs").cluster;
            self.published.borrow_mut().insert(cluster.position.index, cluster);
        }
    }

    fn head(&self) -> u64 {
        self.socket.world.borrow().state().expect("it runs").cluster.position.index
    }

    fn store(&self) -> std::sync::Arc<dyn LogStore> {
        std::sync::Arc::clone(self.socket.world.borrow().manager.store().expect("it runs"))
    }

    fn find(&mut self, request: EventsRequest) -> Result<Vec<EventRecord>, String> {
        let stream = self.socket.events(request).now_or_never().expect("at once");
        let records = stream.map_err(|failure| failure.sentence)?.collect::<Vec<_>>().now_or_never().expect("at once");
        records.into_iter().map(|record| record.map_err(|failure| failure.sentence)).collect()
    }
}

fn spec(name: &str, image: &str, replicas: u64) -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    spec.annotations.get_or_insert_default().name = name.to_owned();
    spec.task.get_or_insert_default().container.get_or_insert_default().image = image.to_owned();
    // Failed tasks fail again soon, which adds much to history.
    let restart = RestartPolicy { delay_ns: Some(1_000_000_000), ..Default::default() };
    spec.task.get_or_insert_default().restart = Some(restart);
    spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas }));
    spec
}

/// The positions and kinds of events.
fn places(records: &[EventRecord]) -> Vec<String> {
    let kind = |record: &EventRecord| record.event.kind.as_ref().map_or("", events::Kind::name);
    records.iter().map(|record| format!("{}.{} {}", record.index, record.ordinal, kind(record))).collect()
}

/// Requests with every filter, alone and combined, over all of history and parts of it.
fn requests(head: u64) -> Vec<EventsRequest> {
    let text = |text: &str| Some(text.to_owned());
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let mut filters = Vec::new();
    for object in ["web", "crash", "gone", "late", "n2", "web.1", "crash.2", "gone.1", "nothing", "gone.7"] {
        filters.push(EventsRequest { object: text(object), ..Default::default() });
    }
    for place in ["web.1", "crash.1", "gone.2", "late.1", "nothing.1"] {
        filters.push(EventsRequest { place: text(place), ..Default::default() });
    }
    filters.extend([
        EventsRequest::default(),
        EventsRequest { object: text("n2"), with_tasks: Some(true), ..Default::default() },
        EventsRequest { node: text("n3"), ..Default::default() },
        EventsRequest { node: text("n3"), object: text("web"), ..Default::default() },
        EventsRequest { kinds: list(&["service_created", "node_spec_updated"]), ..Default::default() },
        EventsRequest { kinds: list(&["task_assigned"]), object: text("gone"), ..Default::default() },
        EventsRequest { kinds: list(&["service_spec_updated", "service_scaled"]), ..Default::default() },
        EventsRequest { commands: list(&["service.update", "service.scale"]), ..Default::default() },
        EventsRequest { commands: list(&["service.update"]), object: text("crash"), ..Default::default() },
        EventsRequest { actors: list(&["root"]), ..Default::default() },
        EventsRequest { actors: list(&["n2"]), object: text("web"), ..Default::default() },
        EventsRequest { reason: text("tICKET 5"), ..Default::default() },
        EventsRequest { asked: Some(true), ..Default::default() },
        EventsRequest { asked: Some(true), object: text("web"), ..Default::default() },
    ]);
    let parts = [(None, None, None), (Some(head / 3), Some(head / 2), None)];
    let tails = [(None, None, Some(5)), (Some(40), Some(head * 2 / 3), Some(40))];
    let parts = parts.into_iter().chain(tails);
    let with_before = Some(true);
    let of_part = |(from, to, tail)| {
        filters.iter().map(move |filter| EventsRequest { from, to, tail, with_before, ..filter.clone() })
    };
    parts.flat_map(of_part).collect()
}

#[test]
fn the_index_finds_what_reading_everything_finds() {
    let mut past = Past::make();
    let head = past.head();
    assert!(head > FRAMES_MIN, "{head} frames are no history");
    let all: Vec<_> = requests(head).into_iter().map(|request| (request.clone(), past.find(request))).collect();
    let store = past.store();
    let mut segments = 0;
    while add_segment(&*store).expect("history is read") {
        segments += 1;
    }
    assert_eq!(store.indexed_to().expect("it is known"), segments * node::log::SEGMENT);
    assert!(segments >= 3, "{segments} segments");
    let mut found = 0;
    for (request, expected) in all {
        let by_index = past.find(request.clone());
        if let (Ok(by_index), Ok(expected)) = (&by_index, &expected) {
            assert_eq!(places(by_index), places(expected), "{request:?}");
            assert_eq!(by_index, expected, "{request:?}");
            found += by_index.len();
        } else {
            assert_eq!(by_index, expected, "{request:?}");
        }
    }
    assert!(found > 2_000, "{found} events are few");
    // A removed index is built again; until then history itself is read.
    let request = EventsRequest { object: Some("web".to_owned()), ..Default::default() };
    let before = past.find(request.clone());
    store.discard_index().expect("it is discarded");
    assert_eq!(past.find(request.clone()), before);
    while add_segment(&*store).expect("history is read") {}
    assert_eq!((past.find(request), store.indexed_to().expect("it is known")), (before, segments * node::log::SEGMENT));
}

#[test]
fn a_state_of_the_past_is_the_one_that_was_published_then() {
    let past = Past::make();
    let (store, published) = (past.store(), past.published.borrow());
    assert!(published.len() > 300, "{} states", published.len());
    let checkpoints: Vec<u64> = (0..=past.head())
        .filter(|index| store.checkpoint_before(*index).expect("they are read") == Some(*index))
        .collect();
    assert!(checkpoints.len() > 4, "{checkpoints:?}");
    // In an order in which the cache is useful, and in one in which it is not.
    for reverse in [false, true] {
        let states = States::of(std::sync::Arc::clone(&store));
        let mut indexes: Vec<u64> = published.keys().copied().step_by(7).collect();
        if reverse {
            indexes.reverse();
        }
        for index in indexes {
            let found = states.at(index, &|| false).expect("history is read").published;
            assert_eq!(found.cluster.position, published[&index].position);
            assert_eq!(found.cluster.state_hash(), published[&index].state_hash(), "at {index}");
        }
    }
    assert!(States::of(store).at(past.head(), &|| true).is_err(), "nobody waits for it");
}

#[test]
fn states_of_the_past_are_kept_for_so_many_bytes() {
    let past = Past::make();
    let (store, published) = (past.store(), past.published.borrow());
    let asked = |states: &States, index: &u64| states.at(*index, &|| false).expect("history is read").published;
    let indexes: Vec<u64> = published.keys().copied().step_by(published.len() / 12).collect();
    let bytes = indexes.iter().map(|index| memory_bytes(&published[index])).max().expect("there are some");
    assert!(bytes > 1_024 * published[indexes.last().expect("one")].tasks.len(), "{bytes}");
    for (room, expected) in [(0, 1), (2 * bytes, 2), (usize::MAX, 4)] {
        let states = States::keeping(std::sync::Arc::clone(&store), room);
        let made: Vec<_> = indexes.iter().map(|index| asked(&states, index)).collect();
        assert_eq!(states.kept_indexes().len(), expected, "with room for {room} bytes");
        // What is kept is what was asked last, and what is not is made again.
        assert_eq!(states.kept_indexes().last(), indexes.last());
        for (index, made) in indexes.iter().zip(&made) {
            assert_eq!(asked(&states, index).cluster.state_hash(), made.cluster.state_hash(), "at {index}");
        }
    }
}
