//! Whom a commit wakes, on the real thread over a log on a disk.

use std::path::Path;

use events::{
    Annotations, Availability, ContainerSpec, Id, NodeDescription, NodeSpec, ReplicatedMode, ServiceSpec, TaskId,
    TaskSpec, TaskState, TaskStatus, service_spec::Mode,
};
use futures_util::FutureExt;

use super::*;
use crate::core::{self, Core};
use crate::security::{CertificateStore, JoinToken};
use crate::state_dir::StateDir;

/// Sessions that follow a manager.
const SESSIONS: u64 = 200;

/// A manager with as many workers as there are sessions, each followed.
struct Followed {
    core: Core,
    bells: BTreeMap<NodeId, Arc<Notify>>,
}

impl Followed {
    async fn start(dir: &Path) -> Self {
        let state_dir = StateDir::open(dir).expect("a state directory");
        let core = core::start(&state_dir, core::Read::default(), NodeId::from_bits(1)).expect("a core");
        core.ensure_cluster(&CertificateStore::new(dir), "m1", "10.0.0.1:4242").await.expect("a cluster");
        let mut followed = Self { core, bells: BTreeMap::new() };
        let state = followed.core.handle.state();
        let token: JoinToken = state.keyring.text("join-token/worker").expect("a token").parse().expect("a good one");
        for number in 1..=SESSIONS {
            let (hostname, addr) = (format!("w{number}"), format!("10.0.1.{number}"));
            let join = Command::JoinNode { secret_sha256: token.secret_sha256(), hostname: hostname.clone(), addr };
            let node = followed.ask(Actor::Joiner(String::new()), join).await.expect("an id");
            let node: NodeId = node.parse().expect("a node's id");
            let description = Box::new(NodeDescription { hostname, ..NodeDescription::default() });
            let session = SessionId::from_bits(number.into());
            let register = Command::RegisterNode { node, session, description, addr: format!("10.0.1.{number}:4242") };
            followed.ask(Actor::Node { id: node, role: events::Role::Worker }, register).await;
            followed.bells.insert(node, followed.core.handle.follow(node));
        }
        followed
    }

    async fn ask(&self, actor: Actor, command: Command) -> Option<String> {
        let request = Request { id: CommandId::default(), actor, command, reason: None, correlation: None };
        match self.core.handle.submit(request).await {
            Outcome::Committed { subject, .. } => subject,
            refused => panic!("not committed: {refused:?}"),
        }
    }

    /// The sessions that were woken since they were last asked.
    fn woken(&self) -> Vec<NodeId> {
        let rung = self.bells.iter().filter(|(_, bell)| bell.notified().now_or_never().is_some());
        rung.map(|(node, _)| *node).collect()
    }

    /// The nodes with tasks, and their tasks.
    fn assigned(&self) -> BTreeMap<NodeId, TaskId> {
        let state = self.core.handle.state();
        state.cluster.tasks.values().filter_map(|task| Some((task.node?, task.id))).collect()
    }

    async fn end(self) -> BTreeMap<NodeId, Arc<Notify>> {
        self.core.end().await.expect("a good end");
        self.bells
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
    Command::CreateService { spec: Box::new(spec), secrets: commands::ServiceSecrets::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_wakes_the_sessions_that_it_concerns_and_no_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let followed = Followed::start(dir.path()).await;
    let operator = || Actor::Operator("somebody".to_owned());
    followed.woken();

    followed.ask(operator(), service(3)).await;
    let assigned = followed.assigned();
    let workers: Vec<NodeId> = assigned.keys().copied().filter(|node| followed.bells.contains_key(node)).collect();
    assert!(assigned.len() == 3 && workers.len() >= 2, "{assigned:?}");
    assert_eq!(followed.woken(), workers, "one wake for each node that got a task, of {SESSIONS} sessions");

    let (node, task) = (workers[0], assigned[&workers[0]]);
    let session = followed.core.handle.state().cluster.nodes.get(node).and_then(|node| node.session).expect("one");
    followed.core.handle.hear(node, session).expect("heard");
    assert_eq!(followed.woken(), [], "a heartbeat wakes nobody");

    let status = TaskStatus { state: TaskState::Running.into(), ..TaskStatus::default() };
    let report = Command::ReportTasks { node, session, reports: vec![(task, status)] };
    followed.ask(Actor::Node { id: node, role: events::Role::Worker }, report).await;
    assert_eq!(followed.woken(), [node], "a report concerns its own node");

    let paused = NodeSpec { availability: Availability::Pause.into(), ..NodeSpec::default() };
    followed.ask(operator(), Command::UpdateNode { node, spec: paused, version: None }).await;
    assert_eq!(followed.woken(), [node], "so does a change of the node itself");
    let bells = followed.end().await;
    assert!(bells.values().all(|bell| bell.notified().now_or_never().is_some()), "the end concerns everybody");
}
