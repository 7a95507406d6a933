//! Running a node: a manager's core and sockets where this node is one, and the agent everywhere.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use events::{Id, NodeId, Role};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::docker::DockerExecutor;
use crate::agent::executor::Executor;
use crate::agent::process::ProcessExecutor;
use crate::agent::{Agent, Config as AgentConfig};
use crate::api::Context;
use crate::clock;
use crate::config::{ExecutorKind, RunArgs};
use crate::core::{self, Core};
use crate::dev;
use crate::failure::{Failure, code};
use crate::membership::{self, MemberConnect, Patience};
use crate::security::{CertificateStore, Credentials, Identity, IdentityError};
use crate::serve;
use crate::state_dir::StateDir;

/// How long connections may take to end once the node is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(8);

/// Runs a node until it is told to stop.
///
/// # Errors
/// When it cannot start, or cannot go on.
pub async fn run(args: RunArgs) -> Result<(), Failure> {
    let shutdown = stop_on_signal(args.dev)?;
    // Whatever the flags alone can get wrong comes before the first file is made.
    let hostname = hostname(&args)?;
    let executor = executor(&args)?;
    let state_dir = StateDir::open(&args.state_dir)?;
    let certificates = CertificateStore::new(state_dir.path());
    let manager = core::is_manager(&state_dir);
    let member = manager || has_identity(&certificates)?;
    if manager && args.join_addr.is_some() {
        tracing::warn!("this node is a manager of a cluster already: --join-addr and --join-token say nothing to it");
    }
    if !member {
        if args.join_addr.is_none() && args.join_token.is_some() {
            let hint = "add --join-addr; or, for a new cluster, leave out --join-token (and unset SWARM_JOIN_TOKEN)";
            return Err(Failure::new("a join token is given, but no address to join at", hint).with_code(code::USAGE));
        }
        require_working(executor.as_ref()).await?;
    }
    let worker = !manager && (member || args.join_addr.is_some());
    let result = if worker {
        run_worker(&args, &state_dir, &certificates, hostname, executor, shutdown).await
    } else {
        run_manager(&args, &state_dir, &certificates, hostname, executor, shutdown).await
    };
    drop(state_dir);
    result
}

/// Whether this node is a member of a cluster already. A damaged identity is an error, not a reason for a new cluster.
fn has_identity(certificates: &CertificateStore) -> Result<bool, Failure> {
    match certificates.load(clock::now()) {
        Ok(_) => Ok(true),
        Err(IdentityError::Missing(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A node that cannot run anything begins and joins no cluster. A member waits for its engine instead, which may start
/// later than `swarmd` does.
async fn require_working(executor: &dyn Executor) -> Result<(), Failure> {
    let hint = "start the engine, name its socket with --engine-addr, or run plain processes with --executor process";
    executor.describe().await.map(drop).map_err(|error| Failure::new(error, hint))
}

async fn run_worker(
    args: &RunArgs,
    state_dir: &StateDir,
    certificates: &CertificateStore,
    hostname: String,
    executor: Arc<dyn Executor>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let managers = Managers::load(state_dir, args.join_addr.clone())?;
    let identity = match certificates.load(clock::now()) {
        Ok(identity) => {
            // The process may have ended between the two.
            certificates.forget_pending_join()?;
            identity
        }
        Err(IdentityError::Missing(_)) => {
            let token = args.join_token.as_deref().ok_or_else(|| {
                let hint = "`swarmctl cluster inspect` on a manager shows the token for --join-token";
                Failure::new("a join token is needed to join a cluster", hint).with_code(code::USAGE)
            })?;
            membership::join(certificates, &managers.first, token, &hostname, Patience::OF_A_JOINER).await?
        }
        Err(error) => return Err(error.into()),
    };
    managers.save(state_dir)?;
    tracing::info!(node = %identity.subject().node, manager = managers.first, "this node is a worker");
    let credentials = Arc::new(Credentials::new(identity.clone()).map_err(|error| Failure::new(error, ""))?);
    let renewal = membership::keep_renewed(
        Arc::clone(&credentials),
        certificates.clone(),
        managers.first.clone(),
        shutdown.clone(),
    );
    tokio::spawn(renewal);
    let agent = agent(args, state_dir, &identity, hostname, managers.first, executor, credentials);
    agent
        .run(shutdown)
        .await
        .map_err(|error| Failure::new(error, "check the owner, mode and disk of the state directory"))
}

async fn run_manager(
    args: &RunArgs,
    state_dir: &StateDir,
    certificates: &CertificateStore,
    hostname: String,
    executor: Arc<dyn Executor>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let remote = serve::bind_remote(args.listen_remote_api).await?;
    let bound = remote.local_addr().map_err(|error| Failure::new(error, ""))?;
    let remote_addr = args.advertise_remote_api.clone().unwrap_or_else(|| advertised(bound));
    let control = serve::bind_control(&args.listen_control_api).await?;
    let core = core::start(state_dir, NodeId::from_bits(rand::random()))?;
    core.ensure_cluster(certificates, &hostname, &remote_addr).await?;
    let identity = core.identity(certificates).await?;
    require_own(&core, &identity)?;
    let credentials = Arc::new(Credentials::new(identity.clone()).map_err(|error| Failure::new(error, ""))?);
    let Core { handle, store, node, thread } = core;
    tracing::info!(%node, remote = %bound, control = %args.listen_control_api.display(), "this node is the manager");
    let context = Context { core: handle.clone(), store, node, hostname: hostname.clone(), remote_addr, stopping: shutdown.clone() };
    let own = local_addr(bound).to_string();
    let mut tasks = JoinSet::new();
    let hint = "see the log above";
    let served = serve::remote(remote, Arc::clone(&credentials), context.clone(), shutdown.clone());
    tasks.spawn(async move { served.await.map_err(|error| Failure::new(error, hint)) });
    let served = serve::control(control, args.listen_control_api.clone(), context, shutdown.clone());
    tasks.spawn(async move { served.await.map_err(|error| Failure::new(error, hint)) });
    let renewal =
        membership::keep_renewed(Arc::clone(&credentials), certificates.clone(), own.clone(), shutdown.clone());
    tokio::spawn(renewal);
    let agent = agent(args, state_dir, &identity, hostname, own, Arc::clone(&executor), credentials);
    let ending = shutdown.clone();
    tasks.spawn(async move { agent.run(ending).await.map_err(|error| Failure::new(error, hint)) });
    announce(args);
    let ended = watch(&mut tasks, handle.states(), &shutdown).await;
    shutdown.cancel();
    // Whoever still waits for an answer gets it before the core goes.
    let drained = tokio::time::timeout(STOP_PATIENCE, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    if args.dev {
        dev::sweep(executor.as_ref(), identity.subject()).await;
    }
    handle.stop();
    let stopped = tokio::task::spawn_blocking(move || thread.join()).await;
    match stopped {
        Ok(Ok(result)) => result?,
        Ok(Err(_)) | Err(_) => {
            return Err(Failure::new(
                "the core broke off: the state and an event did not fit",
                "report this as a bug, with the log above",
            ));
        }
    }
    ended
}

/// Waits until the node is told to stop, or a part of it ends by itself.
async fn watch(
    tasks: &mut JoinSet<Result<(), Failure>>,
    mut states: tokio::sync::watch::Receiver<Arc<crate::driver::Published>>,
    shutdown: &CancellationToken,
) -> Result<(), Failure> {
    let core_ended = async { while states.changed().await.is_ok() {} };
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        // The thread's own error is reported once it is joined.
        () = core_ended => Ok(()),
        ended = tasks.join_next() => match ended {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(Failure::new(format!("a part of the node broke off: {error}"), "report this as a bug")),
            None => Ok(()),
        },
    }
}

/// A certificate and a log that were put together from two nodes would confuse everybody.
fn require_own(core: &Core, identity: &Identity) -> Result<(), Failure> {
    let subject = identity.subject();
    if subject.node == core.node && subject.role == Role::Manager {
        return Ok(());
    }
    let sentence = format!("the certificate is for {subject}, the log for manager {}", core.node);
    Err(Failure::new(sentence, "restore the state directory from a backup").with_code(code::NOT_ALLOWED))
}

fn agent(
    args: &RunArgs,
    state_dir: &StateDir,
    identity: &Identity,
    hostname: String,
    manager: String,
    executor: Arc<dyn Executor>,
    credentials: Arc<Credentials>,
) -> Agent {
    let config = AgentConfig {
        cluster: identity.subject().cluster,
        node: identity.subject().node,
        hostname,
        advertise_addr: args.advertise_remote_api.clone(),
        managers: vec![manager],
        state_dir: state_dir.path().to_owned(),
        generic_resources: args.generic_node_resources.clone().map(|generic| generic.0).unwrap_or_default(),
    };
    Agent { config, executor, connector: Arc::new(MemberConnect(credentials)), clock: Arc::new(clock::now) }
}

fn executor(args: &RunArgs) -> Result<Arc<dyn Executor>, Failure> {
    match args.executor {
        ExecutorKind::Docker => {
            let hint = "give --engine-addr in the form unix:///var/run/docker.sock";
            let executor = DockerExecutor::new(&args.engine_addr);
            Ok(Arc::new(executor.map_err(|error| Failure::new(error, hint).with_code(code::USAGE))?))
        }
        ExecutorKind::Process => {
            let swarmd = std::env::current_exe()
                .map_err(|error| Failure::new(format!("swarmd cannot find itself: {error}"), ""))?;
            let supervisor = move |dir: &std::path::Path| {
                let mut command = std::process::Command::new(&swarmd);
                command.arg("supervise").arg("--task-dir").arg(dir);
                command
            };
            Ok(Arc::new(ProcessExecutor::new(args.state_dir.join("processes"), supervisor)))
        }
    }
}

fn hostname(args: &RunArgs) -> Result<String, Failure> {
    let own = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let hostname = args.hostname.clone().unwrap_or_else(own);
    if commands::is_hostname(&hostname) {
        return Ok(hostname);
    }
    let hint = "give a host name of up to 253 characters without spaces with --hostname";
    Err(Failure::new(format!("a node cannot be called \"{hostname}\""), hint).with_code(code::USAGE))
}

/// Where a manager can be reached from the outside, as far as it can tell.
fn advertised(bound: SocketAddr) -> String {
    if !bound.ip().is_unspecified() {
        return bound.to_string();
    }
    let addr = outgoing_ip().map_or_else(|| local_addr(bound), |ip| SocketAddr::new(ip, bound.port()));
    addr.to_string()
}

/// The address that packets to elsewhere leave from. Nothing is sent: connecting a datagram socket only looks up the route,
/// here to an address that is reserved for documentation.
fn outgoing_ip() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip())
}

/// Where this machine itself reaches what is bound there.
fn local_addr(bound: SocketAddr) -> SocketAddr {
    match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], bound.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], bound.port())),
        IpAddr::V4(_) | IpAddr::V6(_) => bound,
    }
}

fn announce(args: &RunArgs) {
    if args.dev {
        let socket = args.listen_control_api.display();
        eprintln!("a cluster of one node is up, and gone when swarmd ends; in another terminal:");
        eprintln!("  export SWARM_SOCKET={socket}");
        eprintln!("  swarmctl node ls");
    }
}

fn stop_on_signal(dev: bool) -> Result<CancellationToken, Failure> {
    let token = CancellationToken::new();
    let listen = |kind| signal(kind).map_err(|error| Failure::new(format!("signals cannot be handled: {error}"), ""));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("stopping; {}", if dev { "containers end as well" } else { "containers go on" });
        stop.cancel();
    });
    Ok(token)
}

/// The managers that a worker knows, kept for its next start.
struct Managers {
    first: String,
}

impl Managers {
    const FILE: &'static str = "manager.addr";

    fn load(state_dir: &StateDir, given: Option<String>) -> Result<Self, Failure> {
        let path = state_dir.path().join(Self::FILE);
        let first = match given {
            Some(addr) => addr,
            None => std::fs::read_to_string(&path).map(|addr| addr.trim().to_owned()).map_err(|error| {
                let sentence = format!("no manager is known: {} cannot be read: {error}", path.display());
                Failure::new(sentence, "give the address of a manager with --join-addr")
            })?,
        };
        Ok(Self { first })
    }

    fn save(&self, state_dir: &StateDir) -> Result<(), Failure> {
        let path: PathBuf = state_dir.path().join(Self::FILE);
        std::fs::write(&path, &self.first)
            .map_err(|error| Failure::new(format!("{} cannot be written: {error}", path.display()), ""))
    }
}
