//! Starts a node: checks its flags, its state directory and the machine before anything runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::agent;
use crate::agent::docker::DockerExecutor;
use crate::agent::executor::Executor;
use crate::agent::policy::Policy;
use crate::agent::process::ProcessExecutor;
use crate::clock;
use crate::daemon::config::{ExecutorKind, RunArgs};
use crate::daemon::failure::{Failure, code};
use crate::daemon::notify::Notifier;
use crate::daemon::roles::{Node, StartMode};
use crate::daemon::start_settings::StartSettings;
use crate::daemon::state_dir::{self, MANAGER_ADDR, StateDir};
use crate::daemon::state_dir_kind::{Leftover, StateDirKind};
use crate::daemon::{address, descriptors, join_token, leaving, memory_limit, unlock};
use crate::metrics;
use crate::security::CertificateStore;

/// The directory of containerd's socket: any client that reaches it can run anything as root.
const CONTAINERD_DIR: &str = "/run/containerd";

/// Runs a node until it is stopped.
///
/// # Errors
/// When it cannot start, or cannot continue.
pub async fn run(args: RunArgs) -> Result<(), Failure> {
    clock::require_sane()?;
    let shutdown = stop_on_signal(args.dev)?;
    // Errors that depend only on the flags are reported before the first file is created.
    hostname(args.hostname.as_ref())?;
    executor(&StartSettings::of(&args, None).0, &args.state_dir, args.process_allow_root)?;
    let mut token = join_token::given(&args);
    if !args.state_dir.exists() {
        token = Ok(token?);
    }
    let state_dir = StateDir::open(&args.state_dir)?;
    let last = StartSettings::load(state_dir.path())?;
    let (settings, changes) = StartSettings::of(&args, last.clone());
    let executor = executor(&settings, &args.state_dir, args.process_allow_root)?;
    let hostname = hostname(settings.hostname.as_ref())?;
    let socket = &settings.listen_control_api;
    if !unlock::unlock(&state_dir, args.unlock_key_file.as_deref(), socket, &shutdown).await? {
        return Ok(());
    }
    last.map_or(Ok(()), |last| settings.require_executor_of(&last, state_dir.path(), state_dir.keys()))?;
    let certificates = CertificateStore::new(state_dir.path()).locked_by(Arc::clone(state_dir.keys()));
    let kind = StateDirKind::of(state_dir.path(), &certificates, clock::now())?;
    if args.force_new_cluster {
        require_manager(kind, state_dir.path())?;
    }
    agent::require_usable_store(state_dir.path(), state_dir.keys())?;
    let newcomer = matches!(kind, StateDirKind::Free | StateDirKind::Leftover(_));
    // A member needs no token, even if one is left in its environment.
    let token = if newcomer { token? } else { None };
    let start_mode = start_mode(kind, &args, token.is_some())?;
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
    if kind == StateDirKind::Leftover(Leftover::Left) {
        leaving::remove_note(state_dir.path())?;
    }
    // Before a cluster is created or joined, which takes time: until then the readiness probe reports that.
    let (metrics_addr, probe) = serve_metrics(settings.metrics_addr, &state_dir, &shutdown).await?;
    let settings = StartSettings { metrics_addr, ..settings };
    let (measures, cluster_info, notifier) = (Arc::default(), Arc::default(), Notifier::from_environment());
    let node = Node {
        args,
        settings,
        state_dir,
        certificates,
        hostname,
        executor,
        shutdown,
        measures,
        probe,
        notifier,
        cluster_info,
    };
    node.start(start_mode, token).await
}

/// Serves metrics and probes, if configured. Returns the address, and the probe that reports the start.
async fn serve_metrics(
    addr: Option<SocketAddr>,
    state_dir: &StateDir,
    shutdown: &CancellationToken,
) -> Result<(Option<SocketAddr>, metrics::Probe), Failure> {
    let probe = metrics::Probe::new(state_dir.path().to_owned());
    let Some(addr) = addr else { return Ok((None, probe)) };
    let listener = metrics::bind(addr).await?;
    // A port that the system chose is stored from here on.
    let addr = listener.local_addr().unwrap_or(addr);
    tracing::info!(%addr, "metrics are served");
    tokio::spawn(metrics::serve(listener, probe.clone(), shutdown.clone()));
    Ok((Some(addr), probe))
}

/// How the node starts, depending on the state directory and the flags.
fn start_mode(kind: StateDirKind, args: &RunArgs, has_token: bool) -> Result<StartMode, Failure> {
    match kind {
        StateDirKind::Manager => {
            if args.join_addr.is_some() {
                tracing::warn!("--join-addr and --join-token are ignored: this node is already a manager");
            }
            Ok(StartMode::Log)
        }
        StateDirKind::Joining => Ok(StartMode::Joining),
        StateDirKind::Worker => Ok(StartMode::Certificate),
        // An unfinished leave must be completed first.
        StateDirKind::Leftover(left @ Leftover::Leaving) => Err(left.refuse(&args.state_dir)),
        StateDirKind::Free | StateDirKind::Leftover(_) if args.join_addr.is_some() => Ok(StartMode::Certificate),
        StateDirKind::Free | StateDirKind::Leftover(_) if has_token => Err(no_address()),
        StateDirKind::Free => Ok(StartMode::Log),
        StateDirKind::Leftover(left) => Err(left.refuse(&args.state_dir)),
    }
}

/// Only a node with a log can continue from it.
fn require_manager(kind: StateDirKind, dir: &Path) -> Result<(), Failure> {
    let dir = dir.display();
    let what = match kind {
        StateDirKind::Manager => return Ok(()),
        StateDirKind::Worker => format!("{dir} belongs to a worker, which has no log"),
        StateDirKind::Joining => format!("{dir} belongs to a manager that was joining a cluster"),
        StateDirKind::Free | StateDirKind::Leftover(_) => format!("{dir} holds no log"),
    };
    let hint = "use --force-new-cluster with the state directory of a manager that survived; `swarmd restore` begins with a backup";
    Err(Failure::new(format!("there is no cluster to continue: {what}"), hint).with_code(code::USAGE))
}

fn no_address() -> Failure {
    let hint = "add --join-addr; or, for a new cluster, leave out --join-token (and unset SWARM_JOIN_TOKEN)";
    Failure::new("a join token is given, but no address of a manager", hint).with_code(code::USAGE)
}

/// A node without a working executor does not create or join a cluster. A member waits for its engine instead, which may start
/// later than `swarmd`.
async fn require_working(executor: &dyn Executor) -> Result<(), Failure> {
    let hint = "start the engine, give its socket with --engine-addr, or run plain processes with --executor process";
    executor.describe().await.map(drop).map_err(|error| Failure::new(error, hint))
}

/// The policy of the flags. The sockets of the engine and of its containerd, and our own paths, are protected.
pub(super) fn policy(args: &RunArgs, settings: &StartSettings) -> Policy {
    let engine = settings.engine_addr.strip_prefix("unix://").map(PathBuf::from);
    let ours = [args.state_dir.clone(), settings.listen_control_api.clone(), PathBuf::from(CONTAINERD_DIR)];
    Policy::protecting(ours.into_iter().chain(engine).collect())
        .allow_mounts(args.allow_mount.clone())
        .allow_capabilities(&args.allow_capability)
        .allow_devices(args.allow_device.clone())
        .allow_privileged(args.allow_privileged)
        .disable_exec(args.disable_exec)
}

/// The executor of a node with these settings.
///
/// # Errors
/// When the engine's address is invalid, or the path of this program cannot be determined.
pub(super) fn executor(
    settings: &StartSettings,
    state_dir: &Path,
    allow_root: bool,
) -> Result<Arc<dyn Executor>, Failure> {
    match settings.executor {
        ExecutorKind::Docker => {
            let hint = "give --engine-addr in the form unix:///var/run/docker.sock";
            let executor = DockerExecutor::new(&settings.engine_addr, state_dir.join("configs"));
            Ok(Arc::new(executor.map_err(|error| Failure::new(error, hint).with_code(code::USAGE))?))
        }
        ExecutorKind::Process => {
            let swarmd = std::env::current_exe()
                .map_err(|error| Failure::new(format!("cannot find the swarmd executable: {error}"), ""))?;
            // Tasks start with the original limit, which a manager raises for itself.
            let open_files = descriptors::soft_limit();
            let supervisor = move |dir: &std::path::Path| {
                let mut command = std::process::Command::new(&swarmd);
                command.arg("supervise").arg("--task-dir").arg(dir);
                command.args(open_files.map(|soft| format!("--open-files={soft}")));
                command
            };
            Ok(Arc::new(ProcessExecutor::new(state_dir.join("processes"), allow_root, supervisor)))
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

/// Prints the next steps for a user who tries Swarmlog.
pub(super) fn announce(dev: bool, settings: &StartSettings) {
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

/// The address of a manager, stored for a worker's next start.
pub(super) struct Managers {
    pub(super) first: String,
}

impl Managers {
    pub(super) fn load(state_dir: &StateDir, given: Option<String>) -> Result<Self, Failure> {
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

    pub(super) fn save(&self, state_dir: &StateDir) -> Result<(), Failure> {
        let path = state_dir.path().join(MANAGER_ADDR);
        // A worker with a full disk can still start, as long as there is nothing new to store.
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
    use events::{ContainerSpec, Device, DeviceRequest, Mount, MountType, Privileges, Seccomp, SeccompMode};

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
        let fuse = Device { source: "/dev/fuse".to_owned(), ..Device::default() };
        let gpu = DeviceRequest { count: -1, capabilities: vec!["gpu".to_owned()], ..DeviceRequest::default() };
        // A container spec, and the flag that allows it.
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
            (ContainerSpec { devices: vec![fuse], ..ContainerSpec::default() }, ["--allow-device", "/dev/fuse"]),
            (ContainerSpec { device_requests: vec![gpu], ..ContainerSpec::default() }, ["--allow-device", "gpu"]),
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
