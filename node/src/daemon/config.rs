//! The command line of `swarmd`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use events::spec::{self, generic};
use events::{GenericResource, SecretText};
use serde::{Deserialize, Serialize};

use crate::daemon::address;
use crate::sinks::SinkSettings;

/// The port on which managers serve nodes, as in SwarmKit.
pub const REMOTE_PORT: u16 = 4242;
/// The default state directory.
pub const STATE_DIR: &str = "/var/lib/swarmd";
/// The default address of the Docker Engine.
pub const ENGINE_ADDR: &str = "unix:///var/run/docker.sock";

/// Run a node of a Swarmlog cluster.
///
/// Without --join-addr and on an empty state directory this starts a new cluster, with this machine as its first manager.
/// With --join-addr and --join-token it joins a cluster. Later starts need neither.
#[derive(Debug, Parser)]
#[command(name = "swarmd", version, disable_version_flag = true, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Work on a state directory instead of running a node.
    #[command(subcommand)]
    pub command: Option<Offline>,
    /// How to run the node.
    #[command(flatten)]
    pub run: RunArgs,
    /// Print the version.
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// Work on a state directory of a node that is not running.
#[derive(Debug, Subcommand)]
pub enum Offline {
    /// Replay and verify the whole history of a manager: the hash chain and every recorded hash of the state.
    Replay {
        /// The manager's state directory.
        #[arg(short = 'd', long, default_value = STATE_DIR)]
        state_dir: PathBuf,
        /// File with the cluster's unlock key, if the manager's keys are locked.
        #[arg(long, value_name = "PATH")]
        unlock_key_file: Option<PathBuf>,
    },
    /// Write the frames of a manager's history to a file for `swarmlog-verify`, even while the manager is running.
    Export(crate::manager::export::Args),
    /// Create the state directory of a manager from a backup of `swarmctl cluster backup`.
    Restore(crate::backup::restore::Args),
    /// Set aside the damaged log of a manager: its next start fetches the log from the other managers.
    Reseed(crate::daemon::reseed::Args),
    /// Remove a node whose daemon is not running from its cluster; for a running one use `swarmctl node leave`.
    Leave(crate::daemon::leave::Args),
    /// Supervise one child process of the process executor; started by swarmd itself.
    #[command(hide = true)]
    Supervise {
        /// The task's directory.
        #[arg(long)]
        task_dir: PathBuf,
        /// Open files limit of the command: the soft limit that swarmd was started with.
        #[arg(long)]
        open_files: Option<u64>,
    },
}

/// How to run a node.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Config file in TOML, with flags by the same names; flags on the command line take precedence (default
    /// /etc/swarmlog/swarmd.toml, if it exists).
    #[arg(long, value_name = "PATH", conflicts_with = "dev")]
    pub config: Option<PathBuf>,
    /// Directory for the node's keys, log and tasks.
    #[arg(short = 'd', long, default_value = STATE_DIR)]
    pub state_dir: PathBuf,
    /// Address (host:port) of a manager of the cluster to join.
    #[arg(long, value_name = "HOST:PORT", requires = "token", value_parser = address::parse)]
    pub join_addr: Option<String>,
    /// Join token of the cluster; `swarmctl cluster inspect` shows it.
    #[arg(long, value_name = "TOKEN", env = "SWARM_JOIN_TOKEN", hide_env_values = true, group = "token")]
    pub join_token: Option<SecretText>,
    /// File with the join token; unlike --join-token, this does not expose the token to other users of the machine.
    #[arg(long, value_name = "PATH", group = "token")]
    pub join_token_file: Option<PathBuf>,
    /// File with the cluster's unlock key, for a manager whose keys are locked; without it, such a manager waits for `swarmctl
    /// cluster unlock`.
    #[arg(long, value_name = "PATH")]
    pub unlock_key_file: Option<PathBuf>,
    /// Address on which a manager serves other nodes (default that of the last start, or else 0.0.0.0:4242).
    #[arg(long, value_name = "IP:PORT", value_parser = address::parse_listening)]
    pub listen_remote_api: Option<SocketAddr>,
    /// Address at which other nodes reach this node (default that of the last start, or else derived from the listening
    /// address).
    #[arg(long, value_name = "HOST:PORT", value_parser = address::parse_advertised)]
    pub advertise_remote_api: Option<String>,
    /// Unix socket on which a manager serves operators (default that of the last start, or else /var/run/swarmd.sock).
    #[arg(long, value_name = "PATH")]
    pub listen_control_api: Option<PathBuf>,
    /// Name of this node (default that of the last start, or else the machine's host name).
    #[arg(long)]
    pub hostname: Option<String>,
    /// Address of the Docker Engine (default that of the last start, or else unix:///var/run/docker.sock).
    #[arg(long, value_name = "URL")]
    pub engine_addr: Option<String>,
    /// Generic resources of this node, such as `fpga=2,gpu=UUID1,gpu=UUID2`.
    #[arg(long, value_name = "LIST", value_parser = parse_generic)]
    pub generic_node_resources: Option<Generic>,
    /// Minimum level of the messages that are logged to stderr.
    #[arg(short = 'l', long, default_value = "info")]
    pub log_level: LogLevel,
    /// Format of the log (default text on a terminal, JSON otherwise).
    #[arg(long)]
    pub log_format: Option<LogFormat>,
    /// Address on which Prometheus metrics, /healthz and /readyz are served, without authentication: use a loopback address
    /// such as 127.0.0.1:9420; or off (default that of the last start, or else off).
    #[arg(long, value_name = "IP:PORT|off", value_parser = parse_metrics_addr)]
    pub metrics_addr: Option<MetricsAddr>,
    /// Directory for archives of this manager's history: history older than `swarmctl cluster update --history-keep` is moved
    /// there; or off (default that of the last start, or else off).
    #[arg(long, value_name = "DIR|off", value_parser = parse_archive)]
    pub history_archive: Option<ArchiveDir>,
    /// Executor of the tasks (default that of the last start, or else docker).
    #[arg(long)]
    pub executor: Option<ExecutorKind>,
    /// Path of this machine that tasks may mount, with everything below it; may be repeated (default everything but the sockets
    /// of the engine and of swarmd, and the state directory).
    #[arg(long, value_name = "PATH", value_parser = parse_place)]
    pub allow_mount: Vec<PathBuf>,
    /// Capability that containers may have in addition to the engine's defaults; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = parse_capability)]
    pub allow_capability: Vec<String>,
    /// Device that containers may use: a path such as /dev/fuse, with everything below it; or a driver or capability of device
    /// requests, such as gpu, nvidia or cdi; may be repeated.
    #[arg(long, value_name = "PATH|NAME", value_parser = parse_device)]
    pub allow_device: Vec<String>,
    /// Allow containers all capabilities and devices, and to run without the engine's security profiles.
    #[arg(long, value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(default_value_t = false, default_missing_value = "true", hide_default_value = true)]
    pub allow_privileged: bool,
    /// Disallow commands in the tasks of this node, such as `swarmctl task exec`.
    #[arg(long, value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(default_value_t = false, default_missing_value = "true", hide_default_value = true)]
    pub disable_exec: bool,
    /// Directory in which the leading manager writes the files of sinks (`swarmctl sink create --file`); without it, they fail.
    #[arg(long, value_name = "PATH", value_parser = parse_place)]
    pub sink_dir: Option<PathBuf>,
    /// File with the CA certificates (PEM) that verify the certificates of webhooks (default the system's).
    #[arg(long, value_name = "PATH", value_parser = parse_place)]
    pub sink_ca: Option<PathBuf>,
    /// Allow core dumps of this process; they contain its keys and secrets.
    #[arg(long, value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(default_value_t = false, default_missing_value = "true", hide_default_value = true)]
    pub allow_core_dumps: bool,
    /// Allow plain processes to run as root, or in root's group, if a service names that user.
    #[arg(long, value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(default_value_t = false, default_missing_value = "true", hide_default_value = true)]
    pub process_allow_root: bool,
    /// Continue as the only manager, with the state in this manager's log: for when most managers are permanently lost. The
    /// others are fenced, and join again as new managers with an empty state directory.
    #[arg(long, conflicts_with_all = ["join_addr", "token", "dev"])]
    pub force_new_cluster: bool,
    /// Run a single-node cluster in a temporary directory, which is removed when swarmd exits.
    #[arg(long, conflicts_with_all = ["join_addr", "token", "listen_control_api", "listen_remote_api", "state_dir"])]
    pub dev: bool,
}

impl RunArgs {
    /// The flags about sinks.
    pub fn sinks(&self) -> SinkSettings {
        SinkSettings { dir: self.sink_dir.clone(), roots: self.sink_ca.clone() }
    }
}

/// The address of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAddr {
    /// Metrics are not served.
    Off,
    /// On this address.
    At(SocketAddr),
}

/// The directory of history archives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveDir {
    /// None: all of history stays in the database.
    Off,
    /// This directory.
    At(PathBuf),
}

fn parse_archive(text: &str) -> Result<ArchiveDir, String> {
    let path = PathBuf::from(text);
    match text {
        "off" => Ok(ArchiveDir::Off),
        _ if path.is_absolute() => Ok(ArchiveDir::At(path)),
        _ => Err("give an absolute path such as /srv/swarmlog-archive, or off".to_owned()),
    }
}

fn parse_metrics_addr(text: &str) -> Result<MetricsAddr, String> {
    if text == "off" {
        return Ok(MetricsAddr::Off);
    }
    let form = "the form is IP:PORT, such as 127.0.0.1:9420, with a port up to 65535; or off";
    text.parse().map(MetricsAddr::At).map_err(|_| form.to_owned())
}

/// A parsed list of generic resources.
#[derive(Debug, Clone)]
pub struct Generic(pub Vec<GenericResource>);

fn parse_generic(text: &str) -> Result<Generic, String> {
    generic::parse(text).map(Generic).map_err(|error| format!("{error}; the form is fpga=2,gpu=UUID1,gpu=UUID2"))
}

fn parse_place(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("give an absolute path such as /srv".to_owned()) }
}

fn parse_capability(text: &str) -> Result<String, String> {
    if spec::is_capability(text) { Ok(text.to_owned()) } else { Err(spec::CAPABILITY_HINT.to_owned()) }
}

/// A path that is not absolute, and a name that no request can have, would allow nothing.
fn parse_device(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty() && !text.contains(['/', ' ', '=']) && !text.starts_with('.');
    if is_name || text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err("give an absolute path such as /dev/fuse, or a driver or capability such as gpu".to_owned())
}

/// The log level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Every step.
    Debug,
    /// Normal operation.
    Info,
    /// Conditions that may need attention.
    Warn,
    /// Errors.
    Error,
}

impl LogLevel {
    /// The filter directive for this crate; other crates are logged only for warnings, or at debug level.
    pub fn directive(self) -> &'static str {
        match self {
            LogLevel::Debug => "info,node=debug,swarmd=debug",
            LogLevel::Info => "warn,node=info,swarmd=info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        }
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable: time, level, message, fields.
    Text,
    /// One JSON object.
    Json,
}

/// The executor of the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutorKind {
    /// Containers of the Docker Engine.
    Docker,
    /// Plain child processes.
    Process,
}

impl fmt::Display for ExecutorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExecutorKind::Docker => "docker",
            ExecutorKind::Process => "process",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parsed_command_line_prints_no_token() {
        let cli = Cli::parse_from(["swarmd", "--join-addr", "10.0.0.1:4242", "--join-token", "SWMTKN-1-the-secret"]);
        assert_eq!(cli.run.join_token, Some(SecretText("SWMTKN-1-the-secret".to_owned())));
        let printed = format!("{cli:?}");
        assert!(!printed.contains("the-secret") && printed.contains("(hidden)"), "{printed}");
    }
}
