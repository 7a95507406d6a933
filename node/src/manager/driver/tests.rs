//! The real thread: which watchers a commit wakes, and what a hanging disk delays.

use std::path::Path;

use commands::{Actor, Command};
use events::{
    Annotations, Availability, CommandId, ContainerSpec, Id, NodeDescription, NodeId, NodeSpec, ReplicatedMode,
    ServiceSpec, SessionId, TaskId, TaskSpec, TaskState, TaskStatus, service_spec::Mode,
};
use futures_util::FutureExt;

use tokio::sync::Notify;

use super::*;
use crate::daemon::state_dir::StateDir;
use crate::log::Consensus;
use crate::log::fixtures::HangingDisk;
use crate::manager::core::tests::{cluster, node};
use crate::manager::core::{self, Core};
use crate::manager::fold::Folded;
use crate::manager::replica::Intervals;
use crate::security::{CertificateStore, JoinToken};

#[test]
fn missed_ticks_are_not_made_up_for() {
    let begin = Instant::now();
    let ms = Duration::from_millis;
    // How late a tick came, and how long after it the next one is due.
    for (late, next) in [(0, 100), (1, 99), (99, 1), (100, 100), (101, 100), (30_000, 100)] {
        let now = begin + ms(late);
        assert_eq!(tick_after(begin, now), now + ms(next), "{late} ms late");
    }
}

/// Sessions connected to a manager.
const SESSIONS: u64 = 200;

/// A manager with one worker per session, each of them watched.
struct Followed {
    core: Core,
    notifiers: BTreeMap<NodeId, Arc<Notify>>,
}

impl Followed {
    async fn start(dir: &Path) -> Self {
        let state_dir = StateDir::open(dir).expect("a state directory");
        let core =
            core::start(&state_dir, core::Read::default(), core::Begin::Founder(NodeId::from_bits(1)), |_, _| {})
                .expect("a core");
        core.ensure_cluster(&CertificateStore::new(dir), "m1", "10.0.0.1:4242").await.expect("a cluster");
        let mut followed = Self { core, notifiers: BTreeMap::new() };
        let state = followed.core.handle.state();
        let token: JoinToken = state.keyring.text("join-token/worker").expect("a token").parse().expect("a good one");
        for number in 1..=SESSIONS {
            let (hostname, addr) = (format!("w{number}"), format!("10.0.1.{number}"));
            let join = Command::JoinNode(commands::JoinNode {
                secret_sha256: token.secret_sha256(),
                hostname: hostname.clone(),
                addr,
            });
            let node = followed.ask(Actor::Joiner(String::new()), join).await.expect("an id");
            let node: NodeId = node.parse().expect("a node's id");
            let description = Box::new(NodeDescription { hostname, ..NodeDescription::default() });
            let session = SessionId::from_bits(number.into());
            let register = Command::RegisterNode(commands::RegisterNode {
                node,
                session,
                description,
                addr: format!("10.0.1.{number}:4242"),
            });
            followed.ask(Actor::Node { id: node, role: events::Role::Worker }, register).await;
            followed.notifiers.insert(node, followed.core.handle.follow(node));
        }
        followed
    }

    /// Submits a command, and waits until the thread has done everything that follows from it.
    async fn ask(&self, actor: Actor, command: Command) -> Option<String> {
        let committed = self.core.handle.submit(Request::unnamed(actor, command)).await;
        let nothing = Command::RemoveConfig(commands::RemoveConfig { config: Default::default() });
        let refused = self.core.handle.submit(Request::unnamed(Actor::Operator("somebody".to_owned()), nothing)).await;
        assert!(matches!(refused, Outcome::Rejected(_)), "{refused:?}");
        match committed {
            Outcome::Committed { subject, .. } => subject,
            refused => panic!("not committed: {refused:?}"),
        }
    }

    /// The sessions that were woken since the last call.
    fn woken(&self) -> Vec<NodeId> {
        let rung = self.notifiers.iter().filter(|(_, notifier)| notifier.notified().now_or_never().is_some());
        rung.map(|(node, _)| *node).collect()
    }

    /// The nodes with tasks, and their tasks.
    fn assigned(&self) -> BTreeMap<NodeId, TaskId> {
        let state = self.core.handle.state();
        state.cluster.tasks.values().filter_map(|task| Some((task.node?, task.id))).collect()
    }

    async fn end(self) -> BTreeMap<NodeId, Arc<Notify>> {
        self.core.end().await.expect("a good end");
        self.notifiers
    }
}

fn service(replicas: u64) -> Command {
    let container = Some(ContainerSpec { image: "x".to_owned(), ..ContainerSpec::default() });
    let spec = ServiceSpec {
        annotations: Some(Annotations { name: "web".to_owned(), ..Annotations::default() }),
        task: Some(TaskSpec { container, ..TaskSpec::default() }),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas })),
        ..ServiceSpec::default()
    };
    Command::CreateService(commands::CreateService {
        spec: Box::new(spec),
        secrets: commands::ServiceSecrets::default(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_wakes_the_sessions_that_it_concerns_and_no_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let followed = Followed::start(dir.path()).await;
    let operator = || Actor::Operator("somebody".to_owned());
    followed.woken();

    followed.ask(operator(), service(3)).await;
    let assigned = followed.assigned();
    let workers: Vec<NodeId> = assigned.keys().copied().filter(|node| followed.notifiers.contains_key(node)).collect();
    assert!(assigned.len() == 3 && workers.len() >= 2, "{assigned:?}");
    assert_eq!(followed.woken(), workers, "one wake for each node that got a task, of {SESSIONS} sessions");

    let (node, task) = (workers[0], assigned[&workers[0]]);
    let session = followed.core.handle.state().cluster.nodes.get(node).and_then(|node| node.session).expect("one");
    followed.core.handle.heartbeat(node, session, Vec::new()).expect("heard");
    assert_eq!(followed.woken(), [], "a heartbeat wakes nobody");

    let status = TaskStatus { state: TaskState::Running.into(), ..TaskStatus::default() };
    let report = Command::ReportTasks(commands::ReportTasks { node, session, reports: vec![(task, status)] });
    followed.ask(Actor::Node { id: node, role: events::Role::Worker }, report).await;
    assert_eq!(followed.woken(), [node], "a report concerns its own node");

    let paused = NodeSpec { availability: Availability::Pause.into(), ..NodeSpec::default() };
    followed.ask(operator(), Command::UpdateNode(commands::UpdateNode { node, spec: paused, version: None })).await;
    assert_eq!(followed.woken(), [node], "so does a change of the node itself");
    let notifiers = followed.end().await;
    assert!(
        notifiers.values().all(|notifier| notifier.notified().now_or_never().is_some()),
        "the end concerns everybody"
    );
}

/// A core on a disk that can hang, with a cluster and no worker.
async fn on_hanging_disk(disk: &HangingDisk) -> (Handle, JoinHandle<Result<(), FatalError>>) {
    let store = disk.store();
    store.load().expect("an empty log");
    Consensus::bootstrap(&*store, 1).expect("a log that begins");
    let loaded = store.load().expect("a log");
    let consensus = Consensus::open(Arc::clone(&store), 1, &loaded).expect("a voter");
    let leader = Replica::new(node(), "0.1.0", consensus, Folded::default(), Intervals::default());
    let (handle, thread) = spawn(leader, store).expect("a thread");
    handle.states().wait_for(|state| state.leads).await.expect("it leads");
    let command = Command::InitialiseCluster(Box::new(cluster()));
    let started = handle.submit(request(1, Actor::Manager(node()), command)).await;
    assert!(matches!(started, Outcome::Committed { .. }), "{started:?}");
    (handle, thread)
}

fn request(id: u128, actor: Actor, command: Command) -> Request {
    Request::named(CommandId::from_bits(id), actor, command)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_holds_up_neither_turns_nor_heartbeats_and_nothing_is_answered_before_it() {
    let disk = HangingDisk::default();
    let (handle, thread) = on_hanging_disk(&disk).await;
    let operator = || Actor::Operator("somebody".to_owned());
    let (own, session) = (node(), SessionId::from_bits(5));
    let register = Command::RegisterNode(commands::RegisterNode {
        node: own,
        session,
        description: Box::new(NodeDescription { hostname: "m1".to_owned(), ..NodeDescription::default() }),
        addr: "10.0.0.1:4242".to_owned(),
    });
    let actor = Actor::Node { id: own, role: events::Role::Manager };
    let registered = handle.submit(request(2, actor, register)).await;
    assert!(matches!(registered, Outcome::Committed { .. }), "{registered:?}");

    disk.close(true);
    let before = handle.state().cluster.position.index;
    let waiting = tokio::spawn(handle.submit(request(3, operator(), service(1))));
    // Judged by a state that is not on the disk: the cause of the rejection may never be.
    let same_name = tokio::spawn(handle.submit(request(4, operator(), service(1))));
    handle.heartbeat(own, session, Vec::new()).expect("heard");
    assert!(!waiting.is_finished() && handle.state().cluster.position.index == before, "nothing is acknowledged");
    assert!(!same_name.is_finished(), "and nothing is refused");

    disk.close(false);
    let created = waiting.await.expect("an answer");
    assert!(matches!(created, Outcome::Committed { index, .. } if index > before), "{created:?}");
    let refused = same_name.await.expect("an answer");
    assert!(matches!(refused, Outcome::Rejected(_)), "{refused:?}");
    handle.stop();
    thread.join().expect("no panic").expect("a good end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_ends_the_core_and_nothing_more_is_acknowledged() {
    let disk = HangingDisk::default();
    let (handle, thread) = on_hanging_disk(&disk).await;
    let before = handle.state().cluster.position.index;
    disk.fail_after(0);
    let outcome = handle.submit(request(3, Actor::Operator("somebody".to_owned()), service(1))).await;
    assert_eq!(outcome, Outcome::Unknown);
    assert!(matches!(thread.join().expect("no panic"), Err(FatalError::Log(_))));
    assert_eq!(handle.state().cluster.position.index, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_beside_the_core_ends_it() {
    let (handle, thread) = on_hanging_disk(&HangingDisk::default()).await;
    handle.fail(LogError::Storage { action: "write to the log", reason: "the disk failed".to_owned() });
    assert!(matches!(thread.join().expect("no panic"), Err(FatalError::Log(LogError::Storage { .. }))));
}
