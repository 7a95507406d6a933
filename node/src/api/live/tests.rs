//! A follower gets the same events as a reader from disk, however far behind it is, and uses bounded memory.

use std::collections::BTreeMap;

use commands::{
    Actor, Command, CreateConfig, CreateSecret, CreateService, RemoveConfig, RemoveSecret, RemoveService, ScaleService,
    ServiceSecrets, UpdateCluster, UpdateNode, UpdateService,
};
use events::service_spec::Mode;
use events::{
    Annotations, ConfigSpec, ContainerSpec, Event, FrameHeader, Id, Kind, NodeId, NodeSpec, ReplicatedMode,
    SecretBytes, SecretSpec, ServiceSpec, TaskSpec,
};
use projections::Cluster;
use wire::v1::{EventRecord, EventsRequest};

use super::*;
use crate::control::event_reader::EventReader;
use crate::daemon::state_dir::StateDir;
use crate::manager::core::{self, Core};
use crate::security::CertificateStore;

struct Manager {
    core: Core,
    _dir: tempfile::TempDir,
}

impl Manager {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = StateDir::open(dir.path()).expect("a state directory");
        let begin = core::Begin::Founder(NodeId::from_bits(1));
        let core = core::start(&state_dir, core::Read::default(), begin, |_, _| {}).expect("a core");
        core.ensure_cluster(&CertificateStore::new(dir.path()), "m1", "127.0.0.1:1").await.expect("a cluster");
        Self { core, _dir: dir }
    }

    /// Executes a command. Returns the state with its effects.
    async fn ask(&self, command: Command) -> Arc<Published> {
        self.core.submit_as(Actor::Operator("ada".to_owned()), command).await.expect("it is accepted");
        self.core.handle.state()
    }

    /// The events of a client that reads from disk.
    fn read(&self, request: EventsRequest) -> Vec<EventRecord> {
        let state = self.core.handle.state();
        let mut reader = EventReader::open(Arc::clone(&self.core.store), &state.cluster, request).expect("history");
        std::iter::from_fn(|| reader.page(&state.cluster).expect("history")).flatten().collect()
    }
}

fn annotations(name: &str, labels: &[(&str, &str)]) -> Option<Annotations> {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>();
    Some(Annotations { name: name.to_owned(), labels: labels.into_iter().collect() })
}

fn web(image: &str) -> Box<ServiceSpec> {
    let container = ContainerSpec { image: image.to_owned(), ..ContainerSpec::default() };
    Box::new(ServiceSpec {
        annotations: annotations("web", &[]),
        task: Some(TaskSpec { container: Some(container), ..TaskSpec::default() }),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas: 2 })),
        ..ServiceSpec::default()
    })
}

/// Commands that create and remove every kind of named object, and change every kind of spec; computed from the current state.
fn steps() -> Vec<fn(&Cluster) -> Command> {
    vec![
        |_| Command::CreateService(CreateService { spec: web("web:1"), secrets: ServiceSecrets::default() }),
        |_| Command::CreateConfig(CreateConfig { spec: config(), data: b"x".to_vec() }),
        |state| Command::ScaleService(ScaleService { service: service(state), replicas: 3 }),
        |state| {
            let (service, secrets) = (service(state), ServiceSecrets::default());
            Command::UpdateService(UpdateService { service, spec: web("web:2"), version: None, secrets })
        },
        |state| {
            let node = state.nodes.values().next().expect("the manager's node");
            let spec = NodeSpec { annotations: annotations("", &[("zone", "a")]), ..node.spec.as_ref().clone() };
            Command::UpdateNode(UpdateNode { node: node.id, spec, version: None })
        },
        |state| {
            let mut spec = state.settings.spec.as_ref().clone();
            spec.task_history_limit = Some(9);
            Command::UpdateCluster(UpdateCluster { spec, version: None, unlock_key: None, archive_key: None })
        },
        |_| Command::CreateSecret(CreateSecret { spec: secret(), data: SecretBytes(b"hunter2".to_vec()) }),
        |state| Command::RemoveSecret(RemoveSecret { secret: state.secrets.values().next().expect("the secret").id }),
        |state| Command::RemoveConfig(RemoveConfig { config: state.configs.values().next().expect("the config").id }),
        |state| Command::RemoveService(RemoveService { service: service(state) }),
    ]
}

fn config() -> ConfigSpec {
    ConfigSpec { annotations: annotations("page", &[]), ..Default::default() }
}

fn secret() -> SecretSpec {
    SecretSpec { annotations: annotations("key", &[]), ..Default::default() }
}

fn service(state: &Cluster) -> events::ServiceId {
    state.services.values().next().expect("the service").id
}

/// The events of a client that follows, for these frames.
fn followed(manager: &Manager, begin: &Cluster, request: EventsRequest, frames: &[SharedFrame]) -> Vec<EventRecord> {
    let request = EventsRequest { follow: true, ..request };
    let mut reader = EventReader::open(Arc::clone(&manager.core.store), begin, request).expect("history");
    frames.iter().flat_map(|frame| reader.show(frame)).collect()
}

#[tokio::test]
async fn who_follows_is_shown_what_who_reads_from_the_disk_is() {
    let manager = Manager::start().await;
    let begin = manager.core.handle.state();
    let after = begin.cluster.position.index;
    let mut states = vec![Arc::clone(&begin)];
    for step in steps() {
        let command = step(&manager.core.handle.state().cluster);
        states.push(manager.ask(command).await);
    }
    // State by state, and in one step.
    let last = states.last().cloned().expect("a state");
    for path in [states, vec![Arc::clone(&begin), last]] {
        let mut reader = SharedReader::after(Arc::clone(&manager.core.store), after);
        let mut frames = Vec::new();
        for pair in path.windows(2) {
            reader.read(&pair[0].cluster, &pair[1].cluster, |frame| frames.push(frame)).expect("history");
        }
        let everything = EventsRequest { from: Some(after + 1), ..EventsRequest::default() };
        let with_before = EventsRequest { with_before: Some(true), with_hash: Some(true), ..everything.clone() };
        let kinds = vec!["service_spec_updated".to_owned(), "config_removed".to_owned(), "secret_removed".to_owned()];
        let some = EventsRequest { kinds, limit: Some(3), ..with_before.clone() };
        let of_service = EventsRequest { object: Some("web".to_owned()), ..with_before.clone() };
        let of_task = EventsRequest { object: Some("web.1".to_owned()), ..everything.clone() };
        let node = begin.cluster.nodes.values().next().map(|node| node.id.to_string());
        let on_node = EventsRequest { node, with_tasks: Some(true), ..everything.clone() };
        let commands = vec!["node.update".to_owned(), "secret.create".to_owned()];
        let by_command = EventsRequest { commands, actors: vec!["ada".to_owned()], ..everything.clone() };
        for request in [everything, with_before, some, of_service, of_task, on_node, by_command] {
            let read = manager.read(request.clone());
            let shown = followed(&manager, &begin.cluster, request.clone(), &frames);
            assert!(!read.is_empty() && shown == read, "{request:?}\n{shown:#?}\n{read:#?}");
        }
    }
}

fn frame(index: u64, bytes: usize) -> SharedFrame {
    let header = FrameHeader { index, ..FrameHeader::default() };
    let removed = events::ServiceRemoved { service: events::ServiceId::from_bits(1) };
    let event = Event::by_command(0, Kind::ServiceRemoved(removed));
    SharedFrame::sample(
        header,
        EventRecord { index, event, subjects: vec!["x".repeat(bytes)], ..EventRecord::default() },
    )
}

#[test]
fn the_tail_is_bounded_by_its_bytes_and_says_who_is_behind() {
    let mut tail = Tail { begin: 10, is_fed: true, ..Tail::default() };
    let indexes = |tail: &Tail, after| {
        tail.after(after).map(|frames| frames.iter().map(|frame| frame.index()).collect::<Vec<_>>())
    };
    assert_eq!((indexes(&tail, 9), indexes(&tail, 10)), (None, Some(vec![])));
    for index in 11..=14 {
        tail.push(frame(index, 3 * 1024 * 1024));
    }
    assert_eq!(tail.begin, 12, "two of them fit");
    assert_eq!((indexes(&tail, 11), indexes(&tail, 12), indexes(&tail, 14)), (None, Some(vec![13]), Some(vec![])));
    tail.push(frame(15, 2 * TAIL_BYTES_MAX));
    assert_eq!(indexes(&tail, 14), Some(vec![15]), "one always fits");
    for index in 16..=1_000 {
        tail.push(frame(index, 1_000));
    }
    let taken = indexes(&tail, 990).expect("kept");
    assert_eq!(taken, (991..=1_000).collect::<Vec<_>>());
    let taken = indexes(&tail, 500).expect("kept").len();
    assert!((30..=TAKEN_BYTES_MAX / 1_000).contains(&taken), "{taken} at once");
    tail.is_fed = false;
    assert_eq!(indexes(&tail, 1_000), None, "nobody feeds it");
}

#[tokio::test]
async fn one_thread_reads_for_all_and_ends_with_the_last_of_them() {
    let manager = Manager::start().await;
    let events: Arc<LiveEvents> = Arc::default();
    let feed = || Feed {
        store: Arc::clone(&manager.core.store),
        state: manager.core.handle.state(),
        states: manager.core.handle.states(),
        stopping: CancellationToken::new(),
    };
    let begin = manager.core.handle.state().cluster.position.index;
    let mut followers: Vec<Follower> = (0..3).map(|_| events.follow(feed).expect("a thread")).collect();
    let state = manager.ask(steps()[0](&Cluster::default())).await;
    for follower in &mut followers {
        let mut index = begin;
        while index < state.cluster.position.index {
            let frames = follower.after(index).expect("they are kept");
            match frames.last() {
                Some(last) => index = last.index(),
                None => follower.changed().await,
            }
        }
    }
    drop(followers);
    manager.ask(steps()[1](&state.cluster)).await;
    while events.tail().is_fed {
        tokio::task::yield_now().await;
    }
    assert!(events.tail().frames.is_empty());
}
