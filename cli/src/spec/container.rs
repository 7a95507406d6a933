//! The process in a container, its environment and its names.

use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use events::{Isolation, NetworkMode, PullPolicy, SecretText, ServiceSpec};
use wire::v1::EnvSecretValue;

use super::{ns, replace, set};
use crate::failure::{Failure, Kind};
use crate::values::env_secret::EnvSecret;
use crate::values::{container, duration, env, env_secret, host, pair};

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Container")]
pub(super) struct ContainerFlags {
    /// Word of the command that replaces the image's entrypoint; repeat it for each word
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    command: Vec<String>,

    /// Argument of the command; repeat it for each argument
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    args: Vec<String>,

    /// Environment variable; KEY alone unsets what the image sets; replaces all
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = env::parse)]
    env: Vec<SecretText>,

    /// Secret environment variable, read from a file or, without one, from the environment of swarmctl; its value is never stored
    /// in specs or history; replaces the one of the same name
    #[arg(long, value_name = "NAME[=FILE]", value_parser = env_secret::parse)]
    env_secret: Vec<EnvSecret>,

    /// Host name inside the container; may be a template such as {{.Node.Hostname}}
    #[arg(long, value_name = "NAME", value_parser = container::hostname)]
    hostname: Option<String>,

    /// Working directory of the command
    #[arg(long, visible_alias = "workdir", value_name = "PATH")]
    dir: Option<String>,

    /// Allocate a terminal for the container
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tty: Option<bool>,

    /// Keep standard input open
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    open_stdin: Option<bool>,

    /// Run a small init that forwards signals and reaps processes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    init: Option<bool>,

    /// When nodes pull the image
    #[arg(long, value_name = "POLICY")]
    pull: Option<Pull>,

    /// Isolation of the container on Windows
    #[arg(long, value_name = "ISOLATION")]
    isolation: Option<IsolationMode>,

    /// Network of the container
    #[arg(long, value_name = "NETWORK")]
    network: Option<Network>,

    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,

    /// Time between that signal and SIGKILL (default 10s)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    stop_grace_period: Option<Duration>,

    /// Label of the container; replaces all
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    container_label: Vec<(String, String)>,

    /// Entry of the container's hosts file; replaces all
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = host::parse)]
    host: Vec<String>,

    /// Name server of the container; replaces all
    #[arg(long, value_name = "ADDRESS", value_parser = container::nameserver)]
    dns: Vec<IpAddr>,

    /// Search domain of the container; replaces all
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,

    /// Resolver option of the container; replaces all
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pull {
    /// If the node does not have it
    Missing,
    /// Before each container is created
    Always,
    /// Never: a node without it rejects the task
    Never,
}

impl From<Pull> for PullPolicy {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Missing => Self::Missing,
            Pull::Always => Self::Always,
            Pull::Never => Self::Never,
        }
    }
}

/// The network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Network {
    /// The engine's default network
    Default,
    /// The network of the node
    Host,
    /// Only a loopback interface
    None,
}

impl From<Network> for NetworkMode {
    fn from(network: Network) -> Self {
        match network {
            Network::Default => Self::Default,
            Network::Host => Self::Host,
            Network::None => Self::None,
        }
    }
}

/// How containers are isolated on Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IsolationMode {
    /// The engine's default
    Default,
    /// Process isolation
    Process,
    /// Hyper-V isolation, in a virtual machine
    Hyperv,
}

impl From<IsolationMode> for Isolation {
    fn from(mode: IsolationMode) -> Self {
        match mode {
            IsolationMode::Default => Self::Default,
            IsolationMode::Process => Self::Process,
            IsolationMode::Hyperv => Self::Hyperv,
        }
    }
}

impl ContainerFlags {
    /// The secret variables with their values.
    pub(super) fn env_secrets(&self) -> Result<Vec<EnvSecretValue>, Failure> {
        let value = |secret: &EnvSecret| match secret.value() {
            Ok(value) => Ok(EnvSecretValue { name: secret.name.clone(), value: value.0.clone() }),
            Err(invalid) => Err(Failure::new(Kind::Usage, invalid.sentence).hint(invalid.hint)),
        };
        self.env_secret.iter().map(value).collect()
    }

    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        let container = super::container(spec);
        replace(&mut container.command, &self.command);
        replace(&mut container.args, &self.args);
        replace(&mut container.env, &self.env.iter().map(|variable| variable.0.clone()).collect::<Vec<_>>());
        set(&mut container.hostname, &self.hostname);
        set(&mut container.dir, &self.dir);
        set(&mut container.tty, &self.tty);
        set(&mut container.open_stdin, &self.open_stdin);
        set(&mut container.init, &self.init.map(Some));
        set(&mut container.pull_policy, &self.pull.map(|pull| PullPolicy::from(pull).into()));
        set(&mut container.network, &self.network.map(|network| NetworkMode::from(network).into()));
        set(&mut container.isolation, &self.isolation.map(|mode| Isolation::from(mode).into()));
        set(&mut container.stop_signal, &self.stop_signal);
        set(&mut container.stop_grace_period_ns, &self.stop_grace_period.map(|period| Some(ns(period))));
        if !self.container_label.is_empty() {
            container.labels = self.container_label.iter().cloned().collect();
        }
        replace(&mut container.hosts, &self.host);
        if !(self.dns.is_empty() && self.dns_search.is_empty() && self.dns_option.is_empty()) {
            let dns = container.dns.get_or_insert_default();
            replace(&mut dns.nameservers, &self.dns.iter().map(IpAddr::to_string).collect::<Vec<_>>());
            replace(&mut dns.search, &self.dns_search);
            replace(&mut dns.options, &self.dns_option);
        }
    }
}
