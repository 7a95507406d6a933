//! Running a node: a manager's core and sockets where this node is one, and the agent everywhere.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use events::{Id, NodeId, Role};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::docker::DockerExecutor;
use crate::agent::executor::Executor;
use crate::agent::policy::Policy;
use crate::agent::process::ProcessExecutor;
use crate::agent::{self, Agent, Config as AgentConfig, unusable_memory};
use crate::api::Context;
use crate::clock;
use crate::control::ManagerInfo;
use crate::daemon::config::{ExecutorKind, RunArgs};
use crate::daemon::disk_space::FreeSpace;
use crate::daemon::failure::{Failure, code};
use crate::daemon::notify::Notifier;
use crate::daemon::serve::{self, RemotePort, SocketFile};
use crate::daemon::start_settings::StartSettings;
use crate::daemon::state_dir::{self, MANAGER_ADDR, StateDir};
use crate::daemon::state_dir_kind::StateDirKind;
use crate::daemon::{address, descriptors, dev, join_token, memory_limit};
use crate::manager::core::{self, Core};
use crate::metrics::{self, Measures};
use crate::security::enrolment::{self, MemberConnect, Timeouts};
use crate::security::{CertificateStore, Credentials, Identity, IdentityError, JoinToken, Limits};

/// How long connections may take to end once the node is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(8);

/// Where containerd has the socket at which the engine, and whoever else reaches it, runs anything as root.
const CONTAINERD_DIR: &str = "/run/containerd";

/// Runs a node until it is told to stop.
///
/// # Errors
/// When it cannot start, or cannot go on.
pub async fn run(args: RunArgs) -> Result<(), Failure> {
    clock::require_sane()?;
    let shutdown = stop_on_signal(args.dev)?;
    // Whatever the flags alone can get wrong comes before the first file is made.
    hostname(args.hostname.as_ref())?;
    executor(&args, &StartSettings::of(&args, None).0)?;
    let mut token = join_token::given(&args);
    if !args.state_dir.exists() {
        token = Ok(token?);
    }
    let state_dir = StateDir::open(&args.state_dir)?;
    let last = StartSettings::load(state_dir.path())?;
    let (settings, changes) = StartSettings::of(&args, last.clone());
    last.map_or(Ok(()), |last| settings.require_executor_of(&last, state_dir.path()))?;
    let executor = executor(&args, &settings)?;
    let hostname = hostname(settings.hostname.as_ref())?;
    let certificates = CertificateStore::new(state_dir.path());
    let kind = StateDirKind::of(state_dir.path(), clock::now())?;
    agent::require_usable_memory(state_dir.path())?;
    let newcomer = matches!(kind, StateDirKind::Free | StateDirKind::Leftover(_));
    // A member needs no token, whatever was left in its environment.
    let token = if newcomer { token? } else { None };
    let worker = is_worker(kind, &args, token.is_some())?;
    if newcomer {
        let working = shutdown.run_until_cancelled(require_working(executor.as_ref()));
        let Some(working) = working.await else { return Ok(()) };
        working?;
    }
    for change in changes {
        tracing::warn!("{change}");
    }
    memory_limit::warn_if_short(0);
    tokio::spawn(memory_limit::watch(shutdown.clone()));
    // Before a cluster begins or is joined, which takes its time: until then the probe of readiness says so.
    let (metrics_addr, probe) = serve_metrics(settings.metrics_addr, &state_dir, &shutdown).await?;
    let settings = StartSettings { metrics_addr, ..settings };
    let node =
        Node { args, settings, state_dir, certificates, hostname, executor, shutdown, measures: Arc::default(), probe };
    if worker { node.work(token).await } else { node.manage().await }
}

/// Serves metrics and probes, where that is wanted; the address, and the way to say that the node has started.
async fn serve_metrics(
    addr: Option<SocketAddr>,
    state_dir: &StateDir,
    shutdown: &CancellationToken,
) -> Result<(Option<SocketAddr>, metrics::Probe), Failure> {
    let probe = metrics::Probe::new(state_dir.path().to_owned());
    let Some(addr) = addr else { return Ok((None, probe)) };
    let listener = metrics::bind(addr).await?;
    // A port that the system chose is the node's from here on.
    let addr = listener.local_addr().unwrap_or(addr);
    tracing::info!(%addr, "metrics are served");
    tokio::spawn(metrics::serve(listener, probe.clone(), shutdown.clone()));
    Ok((Some(addr), probe))
}

/// Whether the node is to be a worker, by what it is and what its flags ask.
fn is_worker(kind: StateDirKind, args: &RunArgs, has_token: bool) -> Result<bool, Failure> {
    match kind {
        StateDirKind::Manager => {
            if args.join_addr.is_some() {
                tracing::warn!("--join-addr and --join-token are ignored: this node is already a manager");
            }
            Ok(false)
        }
        StateDirKind::Worker => Ok(true),
        StateDirKind::Free | StateDirKind::Leftover(_) if args.join_addr.is_some() => Ok(true),
        StateDirKind::Free | StateDirKind::Leftover(_) if has_token => Err(no_address()),
        StateDirKind::Free => Ok(false),
        StateDirKind::Leftover(left) => Err(left.refuse(&args.state_dir)),
    }
}

fn no_address() -> Failure {
    let hint = "add --join-addr; or, for a new cluster, leave out --join-token (and unset SWARM_JOIN_TOKEN)";
    Failure::new("a join token is given, but no address to join at", hint).with_code(code::USAGE)
}

/// A node that cannot run anything begins and joins no cluster. A member waits for its engine instead, which may start
/// later than `swarmd` does.
async fn require_working(executor: &dyn Executor) -> Result<(), Failure> {
    let hint = "start the engine, give its socket with --engine-addr, or run plain processes with --executor process";
    executor.describe().await.map(drop).map_err(|error| Failure::new(error, hint))
}

/// What a node starts with.
struct Node {
    args: RunArgs,
    settings: StartSettings,
    state_dir: StateDir,
    certificates: CertificateStore,
    hostname: String,
    executor: Arc<dyn Executor>,
    shutdown: CancellationToken,
    /// What is counted of the agent's work.
    measures: Arc<Measures>,
    /// Whoever asks for metrics and whether the node is ready.
    probe: metrics::Probe,
}

/// Where a manager is reached: taken before anything is written anywhere.
struct Listeners {
    remote: RemotePort,
    /// The remote address that others get.
    remote_addr: String,
    control: UnixListener,
    socket: SocketFile,
}

impl Node {
    /// Runs a worker until it is told to stop.
    async fn work(self, token: Option<JoinToken>) -> Result<(), Failure> {
        let managers = Managers::load(&self.state_dir, self.args.join_addr.clone())?;
        let identity = match self.certificates.load(clock::now()) {
            Ok(identity) => {
                // The process may have ended between the two.
                self.certificates.forget_pending_join()?;
                identity
            }
            Err(IdentityError::Missing(_)) => {
                let token = token.ok_or_else(|| {
                    let hint =
                        "`swarmctl cluster inspect` on a manager shows the token for --join-token or --join-token-file";
                    Failure::new("a join token is needed to join a cluster", hint).with_code(code::USAGE)
                })?;
                let patience = Timeouts::OF_A_JOINER;
                let joining = enrolment::join(&self.certificates, &managers.first, &token, &self.hostname, patience);
                // What was begun is gone on with at the next start.
                let Some(joined) = self.shutdown.run_until_cancelled(joining).await else { return Ok(()) };
                joined?
            }
            Err(error) => return Err(error.into()),
        };
        managers.save(&self.state_dir)?;
        tracing::info!(node = %identity.subject().node, manager = managers.first, "this node is a worker");
        let credentials = Arc::new(Credentials::new(identity.clone()).map_err(|error| Failure::new(error, ""))?);
        self.keep_renewed(&credentials, managers.first.clone());
        let status = format!("worker of the manager at {}", managers.first);
        let agent = self.agent(&identity, managers.first, credentials).open().map_err(unusable_memory)?;
        // Only now nothing refuses this start any more.
        self.settings.save(self.state_dir.path())?;
        self.probe.started(Arc::clone(&self.measures), None);
        let notifier = Notifier::from_environment();
        notifier.ready(&status);
        tokio::spawn(notifier.clone().keep_alive(self.measures.progress.clone(), self.shutdown.clone()));
        tokio::spawn(tell_of_the_end(notifier, self.shutdown.clone()));
        agent.run(self.shutdown).await;
        Ok(())
    }

    /// Runs a manager, with its own agent, until it is told to stop.
    async fn manage(self) -> Result<(), Failure> {
        let remote = RemotePort::take(self.settings.listen_remote_api)?;
        let remote_addr = self.settings.advertise_remote_api.clone().unwrap_or_else(|| advertised(remote.addr()));
        let (control, socket) = serve::bind_control(&self.settings.listen_control_api).await?;
        let log = core::read(&self.state_dir)?;
        self.require_own(log.node())?;
        let mut core = core::start(&self.state_dir, log, NodeId::from_bits(rand::random()))?;
        core.log_events()?;
        let ended = self.manage_with(&core, Listeners { remote, remote_addr, control, socket }).await;
        // What the core died of is the reason of whatever else went wrong.
        core.end().await?;
        ended
    }

    /// A certificate and a log that were put together from two nodes would confuse everybody. A certificate that is not there,
    /// or has expired, is made again.
    fn require_own(&self, node: Option<NodeId>) -> Result<(), Failure> {
        let (Some(node), Ok(identity)) = (node, self.certificates.load(clock::now())) else { return Ok(()) };
        let subject = identity.subject();
        if subject.node == node && subject.role == Role::Manager {
            return Ok(());
        }
        let sentence = format!("the certificate is for {subject}, the log for manager {node}");
        Err(Failure::new(sentence, "restore the state directory from a backup").with_code(code::NOT_ALLOWED))
    }

    async fn manage_with(&self, core: &Core, doors: Listeners) -> Result<(), Failure> {
        let Listeners { remote, remote_addr, control, socket } = doors;
        let bound = remote.addr();
        let identity = async {
            core.ensure_cluster(&self.certificates, &self.hostname, &remote_addr).await?;
            core.identity(&self.certificates).await
        };
        let Some(identity) = self.shutdown.run_until_cancelled(identity).await else { return Ok(()) };
        let identity = identity?;
        // A port that the system chose is the node's from here on.
        StartSettings { listen_remote_api: bound, ..self.settings.clone() }.save(self.state_dir.path())?;
        let credentials = Arc::new(Credentials::new(identity.clone()).map_err(|error| Failure::new(error, ""))?);
        let control_path = self.settings.listen_control_api.display();
        tracing::info!(node = %core.node, addr = %bound, path = %control_path, "this node is the manager");
        let space = FreeSpace::default();
        tokio::spawn(space.clone().watch(self.state_dir.path().to_owned(), self.shutdown.clone()));
        let context = Context {
            core: core.handle.clone(),
            store: Arc::clone(&core.store),
            manager: Arc::new(ManagerInfo { node: core.node, hostname: self.hostname.clone(), remote_addr }),
            budgets: Arc::default(),
            space,
            stopping: self.shutdown.clone(),
        };
        let own = local_addr(bound).to_string();
        let mut tasks = JoinSet::new();
        let broke_off = |error| Failure::new(error, "see the log above");
        let limits = connection_limits();
        // Only now there is somebody to answer.
        let remote = remote.listen()?;
        let served = serve::remote(remote, Arc::clone(&credentials), context.clone(), limits, self.shutdown.clone());
        tasks.spawn(async move { served.await.map_err(broke_off) });
        let served = serve::control(control, socket, context, limits, self.shutdown.clone());
        tasks.spawn(async move { served.await.map_err(broke_off) });
        self.keep_renewed(&credentials, own.clone());
        tokio::spawn(core.handle.clone().listen());
        let (agent, ending) = (self.agent(&identity, own, credentials), self.shutdown.clone());
        tasks.spawn(async move { agent.run(ending).await.map_err(unusable_memory) });
        self.probe.started(core.handle.measures(), Some((core.handle.clone(), Arc::clone(&core.store))));
        announce(self.args.dev, &self.settings);
        let notifier = Notifier::from_environment();
        notifier.ready(&format!("manager, serving nodes on {bound}"));
        tokio::spawn(notifier.clone().keep_alive(core.handle.progress(), self.shutdown.clone()));
        tokio::spawn(tell_of_the_end(notifier, self.shutdown.clone()));
        let ended = watch(&mut tasks, core.handle.states(), &self.shutdown).await;
        self.shutdown.cancel();
        // Whoever still waits for an answer gets it before the core goes.
        let drained = tokio::time::timeout(STOP_PATIENCE, async { while tasks.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        if self.args.dev {
            dev::sweep(self.executor.as_ref(), identity.subject()).await;
        }
        ended
    }

    /// Keeps the certificate renewed, at this manager, for as long as the node runs.
    fn keep_renewed(&self, credentials: &Arc<Credentials>, manager: String) {
        let (credentials, certificates) = (Arc::clone(credentials), self.certificates.clone());
        tokio::spawn(enrolment::keep_renewed(credentials, certificates, manager, self.shutdown.clone()));
    }

    fn agent(&self, identity: &Identity, manager: String, credentials: Arc<Credentials>) -> Agent {
        let generic = self.args.generic_node_resources.clone();
        let config = AgentConfig {
            cluster: identity.subject().cluster,
            node: identity.subject().node,
            hostname: self.hostname.clone(),
            advertise_addr: self.settings.advertise_remote_api.clone(),
            managers: vec![manager],
            state_dir: self.state_dir.path().to_owned(),
            generic_resources: generic.map(|generic| generic.0).unwrap_or_default(),
            policy: policy(&self.args, &self.settings),
            measures: Arc::clone(&self.measures),
        };
        let connector = Arc::new(MemberConnect(credentials));
        Agent { config, executor: Arc::clone(&self.executor), connector, clock: Arc::new(clock::now) }
    }
}

/// How many connections the limit on open files allows. Few nodes fit under a low one.
fn connection_limits() -> Limits {
    let descriptors = descriptors::raise();
    let limits = Limits::of_descriptors(descriptors);
    let nodes = limits.members_max();
    if descriptors < descriptors::FEW {
        tracing::warn!(descriptors, nodes, "the limit on open files is low (`ulimit -Hn`): only few nodes can connect");
    } else {
        tracing::debug!(descriptors, nodes, "connections of nodes are bounded");
    }
    limits
}

/// What the flags let tasks have. The engine's socket, that of its containerd, and what is ours are protected.
fn policy(args: &RunArgs, settings: &StartSettings) -> Policy {
    let engine = settings.engine_addr.strip_prefix("unix://").map(PathBuf::from);
    let ours = [args.state_dir.clone(), settings.listen_control_api.clone(), PathBuf::from(CONTAINERD_DIR)];
    Policy::protecting(ours.into_iter().chain(engine).collect())
        .allow_mounts(args.allow_mount.clone())
        .allow_capabilities(&args.allow_capability)
        .allow_privileged(args.allow_privileged)
}

/// Waits until the node is told to stop, or a part of it ends by itself.
async fn watch(
    tasks: &mut JoinSet<Result<(), Failure>>,
    mut states: tokio::sync::watch::Receiver<Arc<crate::manager::driver::Published>>,
    shutdown: &CancellationToken,
) -> Result<(), Failure> {
    let core_ended = async { while states.changed().await.is_ok() {} };
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        // The thread's own error is reported once it is joined.
        () = core_ended => Ok(()),
        ended = tasks.join_next() => match ended {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(Failure::new(format!("a part of the node ended unexpectedly: {error}"), "report this as a bug")),
            None => Ok(()),
        },
    }
}

fn executor(args: &RunArgs, settings: &StartSettings) -> Result<Arc<dyn Executor>, Failure> {
    match settings.executor {
        ExecutorKind::Docker => {
            let hint = "give --engine-addr in the form unix:///var/run/docker.sock";
            let executor = DockerExecutor::new(&settings.engine_addr, args.state_dir.join("configs"));
            Ok(Arc::new(executor.map_err(|error| Failure::new(error, hint).with_code(code::USAGE))?))
        }
        ExecutorKind::Process => {
            let swarmd = std::env::current_exe()
                .map_err(|error| Failure::new(format!("cannot find the swarmd executable: {error}"), ""))?;
            // Tasks begin with the limit that a manager raises for itself.
            let open_files = descriptors::soft_limit();
            let supervisor = move |dir: &std::path::Path| {
                let mut command = std::process::Command::new(&swarmd);
                command.arg("supervise").arg("--task-dir").arg(dir);
                command.args(open_files.map(|soft| format!("--open-files={soft}")));
                command
            };
            Ok(Arc::new(ProcessExecutor::new(args.state_dir.join("processes"), args.process_allow_root, supervisor)))
        }
    }
}

fn hostname(named: Option<&String>) -> Result<String, Failure> {
    let own = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let hostname = named.cloned().unwrap_or_else(own);
    if commands::is_hostname(&hostname) {
        return Ok(hostname);
    }
    let hint =
        "with --hostname, give a name of up to 253 letters, digits, - . and _ that does not read as the id of a node";
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

/// Tells the service manager once the node begins to stop.
async fn tell_of_the_end(notifier: Notifier, shutdown: CancellationToken) {
    shutdown.cancelled().await;
    notifier.stopping();
}

fn announce(dev: bool, settings: &StartSettings) {
    if dev {
        let socket = settings.listen_control_api.display();
        eprintln!("a cluster of one node is running, and is removed when swarmd ends; in another terminal:");
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
        tracing::info!("stopping; {}", if dev { "containers stop as well" } else { "containers keep running" });
        stop.cancel();
    });
    Ok(token)
}

/// The managers that a worker knows, kept for its next start.
struct Managers {
    first: String,
}

impl Managers {
    fn load(state_dir: &StateDir, given: Option<String>) -> Result<Self, Failure> {
        if let Some(first) = given {
            return Ok(Self { first });
        }
        let path = state_dir.path().join(MANAGER_ADDR);
        let unknown = |why: String| {
            let hint = "give the address of a manager with --join-addr, and a join token, which is not used";
            Failure::new(format!("no manager is known: {} {why}", path.display()), hint)
        };
        let text = std::fs::read_to_string(&path).map_err(|error| unknown(format!("cannot be read: {error}")))?;
        let first = address::parse(text.trim()).map_err(|why| unknown(format!("holds no address: {why}")))?;
        Ok(Self { first })
    }

    fn save(&self, state_dir: &StateDir) -> Result<(), Failure> {
        let path = state_dir.path().join(MANAGER_ADDR);
        // A worker whose disk is full starts again all the same, as long as it has nothing new to keep.
        if std::fs::read_to_string(&path).is_ok_and(|kept| kept.trim() == self.first) {
            return Ok(());
        }
        state_dir::replace(&path, self.first.as_bytes()).map_err(|error| {
            let hint = "check the owner, mode and disk of the state directory";
            Failure::new(format!("{} cannot be written: {error}", path.display()), hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use events::{ContainerSpec, Mount, MountType, Privileges, Seccomp, SeccompMode};

    use super::*;
    use crate::agent::policy::real_path;
    use crate::daemon::config::{Cli, ENGINE_ADDR};

    fn bind(source: &str) -> ContainerSpec {
        let mount = Mount { r#type: MountType::Bind.into(), source: source.to_owned(), ..Mount::default() };
        ContainerSpec { mounts: vec![mount], ..ContainerSpec::default() }
    }

    #[test]
    fn by_default_tasks_get_neither_the_node_itself_nor_its_engine() {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = dir.path().to_str().expect("text");
        let engine = ENGINE_ADDR.strip_prefix("unix://").expect("a socket");
        let seccomp = Some(Seccomp { mode: SeccompMode::Unconfined.into(), profile: Vec::new() });
        let unconfined = Privileges { seccomp, ..Privileges::default() };
        // What a container asks for, and the flag that gives it that.
        let rows = [
            (bind(state_dir), ["--allow-mount", state_dir]),
            (bind(&format!("{state_dir}/raft")), ["--allow-mount", state_dir]),
            (bind(wire::DEFAULT_SOCKET), ["--allow-mount", wire::DEFAULT_SOCKET]),
            (bind(engine), ["--allow-mount", engine]),
            (bind(CONTAINERD_DIR), ["--allow-mount", CONTAINERD_DIR]),
            (
                ContainerSpec { capability_add: vec!["NET_ADMIN".to_owned()], ..ContainerSpec::default() },
                ["--allow-capability", "NET_ADMIN"],
            ),
            (
                ContainerSpec { privileges: Some(unconfined), ..ContainerSpec::default() },
                ["--allow-privileged", "--process-allow-root"],
            ),
        ];
        let judge = |flags: &[&str], container: &ContainerSpec| {
            let args = Cli::parse_from([&["swarmd", "--state-dir", state_dir], flags].concat()).run;
            let (settings, _) = StartSettings::of(&args, None);
            policy(&args, &settings).judge(container, real_path).map(drop)
        };
        for (container, flags) in rows {
            judge(&[], &container).expect_err("not by default");
            assert_eq!(judge(&flags, &container), Ok(()), "{flags:?}");
        }
        assert_eq!(judge(&[], &bind("/srv")), Ok(()));
        judge(&["--allow-mount", "/mnt"], &bind("/srv")).expect_err("other places only");
    }
}
