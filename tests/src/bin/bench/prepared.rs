//! Creates state directories as a manager would leave them: with nodes that joined and have certificates, services, and running
//! tasks. Nothing bypasses the core: every fact comes from a command that it decided.

pub mod lived;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use commands::{
    Actor, CertifyNode, Command, CreateService, JoinNode, RegisterNode, ReportTasks, ServiceSecrets, UpdateNode,
};
use events::service_spec::Mode;
use events::{
    Annotations, ContainerSpec, Id, NodeDescription, NodeId, NodeSpec, Placement, Platform, ReplicatedMode, Resources,
    Role, ServiceSpec, SessionId, TaskId, TaskSpec, TaskState,
};
use futures_util::future::try_join_all;
use node::manager::core::{self, Core};
use node::manager::replica::{Outcome, Request};

use node::daemon::state_dir::StateDir;
use node::security::{Authority, CertificateRequest, CertificateStore, JoinToken, Subject};

use crate::crowd::Identity;
use crate::fixture;

/// Number of nodes that join at a time: below the limit of members that never registered.
const JOIN_TOGETHER: usize = 500;
/// Number of nodes that report at a time.
const REPORT_TOGETHER: usize = 512;
/// Number of labels that are set at a time: the maximum number of requests in a core's queue.
const LABEL_TOGETHER: usize = 4_096;
/// Tasks of one service.
const SERVICE_TASKS: u64 = 10_000;
/// The interval of the nodes' heartbeats during the preparation.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// Delay between two checks of the assignments.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Creates the directory of a small cluster's manager with this many events in history.
pub async fn prepare_history(state_dir: &Path, events: u64) -> Result<()> {
    let preparing = found(state_dir).await?;
    let node = preparing.core.node;
    for first in (0..events).step_by(LABEL_TOGETHER) {
        let numbers = first..events.min(first + LABEL_TOGETHER as u64);
        try_join_all(numbers.map(|number| preparing.label(node, number))).await?;
    }
    Ok(preparing.core.end().await?)
}

/// Creates the directory of a manager with this many workers and tasks; returns the workers' credentials.
pub async fn prepare(state_dir: &Path, nodes: u64, tasks: u64) -> Result<Vec<Identity>> {
    let preparing = Arc::new(found(state_dir).await?);
    let heard = tokio::spawn(Arc::clone(&preparing).send_heartbeats());
    let identities = preparing.join_all(nodes).await;
    let made = preparing.run_tasks(tasks).await;
    heard.abort();
    // The task is cancelled at an await, and returns the core.
    let _ = heard.await;
    let preparing = Arc::into_inner(preparing).context("nothing else uses the core")?;
    preparing.core.end().await?;
    made?;
    identities
}

/// A new cluster in this directory, with its manager's core.
async fn found(state_dir: &Path) -> Result<Preparing> {
    let directory = StateDir::open(state_dir)?;
    let founder = core::Begin::Founder(NodeId::from_bits(rand::random()));
    let core = core::start(&directory, core::Read::default(), founder, |_, _| {})?;
    let certificates = CertificateStore::new(state_dir);
    core.ensure_cluster(&certificates, "manager", &SocketAddr::from(([127, 0, 0, 1], 0)).to_string()).await?;
    Preparing::new(core)
}

fn operator() -> Actor {
    Actor::Operator("bench".to_owned())
}

struct Preparing {
    core: Core,
    authority: Authority,
    token: JoinToken,
    sessions: Mutex<BTreeMap<NodeId, SessionId>>,
}

impl Preparing {
    fn new(core: Core) -> Result<Self> {
        let state = core.handle.state();
        let secret = |name: &str| state.keyring.text(name).with_context(|| format!("the cluster has no {name}"));
        let key = secret(projections::settings::ROOT_KEY)?;
        let authority = Authority::from_pem(&state.cluster.settings.root_cert_pem, key)?;
        let token = secret("join-token/worker")?.parse()?;
        drop(state);
        Ok(Self { core, authority, token, sessions: Mutex::default() })
    }

    async fn ask(&self, actor: Actor, command: Command) -> Result<Option<String>> {
        let request = Request::unnamed(actor, command);
        match self.core.handle.submit(request).await {
            Outcome::Committed { subject, .. } => Ok(subject),
            Outcome::Rejected(rejection) => bail!("a command was refused: {}", rejection.sentence),
            Outcome::Unknown => bail!("the core ended"),
        }
    }

    async fn label(&self, node: NodeId, number: u64) -> Result<Option<String>> {
        let labels = BTreeMap::from([("number".to_owned(), number.to_string())]);
        let annotations = Some(Annotations { labels, ..Annotations::default() });
        let spec = NodeSpec { annotations, role: Role::Manager.into(), ..NodeSpec::default() };
        let update = Command::UpdateNode(UpdateNode { node, spec, version: None });
        self.ask(operator(), update).await
    }

    fn sessions(&self) -> Vec<(NodeId, SessionId)> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(id, of)| (*id, *of)).collect()
    }

    async fn send_heartbeats(self: Arc<Self>) {
        loop {
            let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for (node, session) in sessions {
                if let Err(rejection) = self.core.handle.heartbeat(node, session, Vec::new()) {
                    eprintln!("bench: a heartbeat was refused: {}", rejection.sentence);
                }
            }
            tokio::time::sleep(HEARTBEAT_INTERVAL).await;
        }
    }

    async fn join_all(&self, nodes: u64) -> Result<Vec<Identity>> {
        let mut identities = Vec::new();
        let numbers: Vec<u64> = (0..nodes).collect();
        for together in numbers.chunks(JOIN_TOGETHER) {
            identities.extend(try_join_all(together.iter().map(|number| self.join(*number))).await?);
        }
        Ok(identities)
    }

    /// One node from its join to its registration, with the requests of the API.
    async fn join(&self, number: u64) -> Result<Identity> {
        let (hostname, addr) = (format!("worker-{number}"), crate::crowd::address(number).to_string());
        let secret_sha256 = self.token.secret_sha256();
        let join = Command::JoinNode(JoinNode { secret_sha256, hostname: hostname.clone(), addr: addr.clone() });
        let node = self.ask(Actor::Joiner(addr.clone()), join).await?.context("a join names the node")?;
        let node: NodeId = node.parse()?;
        let request = CertificateRequest::new()?;
        let state = self.core.handle.state();
        let subject = Subject { node, role: Role::Worker, cluster: state.cluster.id() };
        let expiry = state.cluster.spec().cert_expiry();
        drop(state);
        let issued = self.authority.sign(&request.csr_pem, subject, node::clock::now(), expiry)?;
        let (cert_pem, not_after) = (issued.cert_pem, issued.not_after);
        let certify =
            Command::CertifyNode(CertifyNode { node, role: Role::Worker, cert_pem: cert_pem.clone(), not_after });
        self.ask(Actor::Manager(self.core.node), certify).await?;
        let session = SessionId::from_bits(rand::random());
        let description = Box::new(description(number));
        let register = Command::RegisterNode(RegisterNode { node, session, description, addr });
        self.ask(Actor::Node { id: node, role: Role::Worker }, register).await?;
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(node, session);
        Ok(Identity { number, cert_pem, key_pem: request.key.to_pem().to_string() })
    }

    /// Creates services with this many tasks, which their nodes report as running.
    async fn run_tasks(&self, tasks: u64) -> Result<()> {
        for first in (0..tasks).step_by(SERVICE_TASKS as usize) {
            let spec = Box::new(service(first / SERVICE_TASKS, SERVICE_TASKS.min(tasks - first)));
            self.ask(operator(), Command::CreateService(CreateService { spec, secrets: ServiceSecrets::default() }))
                .await?;
        }
        let mut running = 0;
        while running < tasks {
            running += self.report_started().await?;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Every node starts its assigned tasks at once; returns the number of these tasks.
    async fn report_started(&self) -> Result<u64> {
        let state = self.core.handle.state();
        let sessions = self.sessions();
        let started = |node: NodeId| -> Vec<TaskId> {
            let of_node = state.cluster.tasks_of_node(node);
            of_node.filter(|task| task.state == TaskState::Assigned).map(|task| task.id).collect()
        };
        let mut reported = 0;
        for together in sessions.chunks(REPORT_TOGETHER) {
            let all = together.iter().map(|(node, session)| (*node, *session, started(*node)));
            let new: Vec<_> = all.filter(|(_, _, tasks)| !tasks.is_empty()).collect();
            reported += new.iter().map(|(_, _, tasks)| tasks.len() as u64).sum::<u64>();
            try_join_all(new.into_iter().map(|(node, session, tasks)| self.report(node, session, tasks))).await?;
        }
        Ok(reported)
    }

    async fn report(&self, node: NodeId, session: SessionId, tasks: Vec<TaskId>) -> Result<Option<String>> {
        let at = node::clock::now();
        let reports = tasks.iter().map(|id| (*id, fixture::status(id.bits(), TaskState::Running, None, at))).collect();
        let command = Command::ReportTasks(ReportTasks { node, session, reports });
        self.ask(Actor::Node { id: node, role: Role::Worker }, command).await
    }
}

/// The description of the agent with this number.
pub fn description(number: u64) -> NodeDescription {
    NodeDescription {
        hostname: format!("worker-{number}"),
        platform: Some(Platform { architecture: "x86_64".to_owned(), os: "linux".to_owned() }),
        resources: Some(Resources { nano_cpus: 64_000_000_000, memory_bytes: 256 << 30, generic: Vec::new() }),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        executor: "docker".to_owned(),
        ..NodeDescription::default()
    }
}

fn service(number: u64, replicas: u64) -> ServiceSpec {
    let container = ContainerSpec { image: "shop/web:1.0".to_owned(), ..ContainerSpec::default() };
    let placement = Placement { constraints: vec!["node.role==worker".to_owned()], ..Placement::default() };
    let task = TaskSpec { container: Some(container), placement: Some(placement), ..TaskSpec::default() };
    ServiceSpec {
        annotations: Some(Annotations { name: format!("service-{number}"), ..Annotations::default() }),
        task: Some(task),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas })),
        ..ServiceSpec::default()
    }
}
