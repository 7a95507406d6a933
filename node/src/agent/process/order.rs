//! Converts a workload into an order for the supervisor, and reports which parts of the spec a plain process cannot have. Pure,
//! except that the user database and the current user are passed in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use events::{ContainerSpec, NetworkMode, PortConfig, Privileges, PublishMode};
use serde::{Deserialize, Serialize};

use super::user::{Ids, Users};
use crate::agent::executor::Workload;

/// The PATH if the spec sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command to run. It is sent from the agent to the supervisor through a socket and never written to disk, because an
/// environment often contains secrets.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Order {
    /// The program and its arguments; never empty.
    pub(super) argv: Vec<String>,
    /// The complete environment.
    pub(super) env: BTreeMap<String, String>,
    /// The working directory.
    pub(super) dir: PathBuf,
    /// The user to run as; `None`: the current one.
    pub(super) user: Option<Ids>,
    /// Limits by setrlimit(2).
    pub(super) ulimits: Vec<events::Ulimit>,
    /// Limits by a control group.
    pub(super) limits: Limits,
    /// Adjustment of the kernel's OOM score.
    pub(super) oom_score_adj: i64,
    /// The name of the control group.
    pub(super) name: String,
}

/// The limits of a control group; 0: no limit.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Limits {
    /// Billionths of a core.
    pub(super) nano_cpus: u64,
    /// Bytes.
    pub(super) memory_bytes: u64,
    /// Processes and threads.
    pub(super) pids: i64,
}

/// The order for a workload.
///
/// # Errors
/// A message for a workload that cannot run as a plain process.
pub(super) fn order(workload: &Workload, users: &Users) -> Result<Order, String> {
    let spec = workload.container();
    let argv: Vec<String> = spec.command.iter().chain(&spec.args).cloned().collect();
    if argv.is_empty() {
        return Err("the process executor has no images: give the service a command with --command".into());
    }
    if !spec.mounts.is_empty() {
        return Err("the process executor cannot mount: a process sees the files of its host".into());
    }
    if spec.network() == NetworkMode::None {
        return Err("the process executor cannot take a process off the network of its host".into());
    }
    if !spec.dir.is_empty() && !spec.dir.starts_with('/') {
        return Err(format!("working directory \"{}\" is not an absolute path", spec.dir));
    }
    let user = users.resolve(&spec.user)?;
    Ok(Order {
        argv,
        env: environment(workload),
        dir: PathBuf::from(if spec.dir.is_empty() { "/" } else { &spec.dir }),
        user,
        ulimits: spec.ulimits.clone(),
        limits: limits(workload),
        oom_score_adj: spec.oom_score_adj,
        name: workload.task.to_string(),
    })
}

/// The limits of the task's control group.
pub(super) fn limits(workload: &Workload) -> Limits {
    let limits = workload.spec.template().resources.as_ref().and_then(|resources| resources.limits.as_ref());
    Limits {
        nano_cpus: limits.map_or(0, |limits| limits.nano_cpus),
        memory_bytes: limits.map_or(0, |limits| limits.memory_bytes),
        pids: workload.container().pids_limit,
    }
}

/// A minimal environment, then the spec's: `KEY=value` sets, `KEY` alone unsets.
fn environment(workload: &Workload) -> BTreeMap<String, String> {
    let hostname = &workload.container().hostname;
    let hostname = if hostname.is_empty() { &workload.node_hostname } else { hostname };
    let base = [("PATH", DEFAULT_PATH), ("HOME", "/"), ("HOSTNAME", hostname)];
    let mut env: BTreeMap<String, String> = base.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    for entry in workload.environment() {
        match entry.split_once('=') {
            Some((key, value)) => drop(env.insert(key.to_owned(), value.to_owned())),
            None => drop(env.remove(&entry)),
        }
    }
    env
}

/// Messages about parts of the spec that have no effect on a plain process.
pub(super) fn warnings(workload: &Workload) -> Vec<String> {
    let spec = workload.container();
    let resources = workload.spec.template().resources.as_ref();
    let swap = resources.is_some_and(|r| r.swap_bytes.is_some() || r.memory_swappiness.is_some());
    let table = [
        (!spec.groups.is_empty(), "supplementary groups"),
        (has_profiles(spec), "security profiles"),
        (spec.read_only, "a read-only root filesystem"),
        (spec.tty || spec.open_stdin, "a terminal or open standard input"),
        (!spec.hosts.is_empty() || spec.dns.is_some(), "hosts and DNS settings"),
        (!spec.sysctls.is_empty(), "sysctls"),
        (!spec.capability_add.is_empty() || !spec.capability_drop.is_empty(), "capabilities"),
        (swap, "swap limits"),
        (spec.shm_size_bytes != 0, "a size of /dev/shm"),
        (!spec.cgroup_parent.is_empty(), "a parent cgroup"),
        (spec.privileged, "privileges"),
        (has_devices(spec), "devices"),
        (workload.spec.template().log_driver.is_some(), "a log driver"),
    ];
    let ignored: Vec<&str> = table.into_iter().filter(|(used, _)| *used).map(|(_, what)| what).collect();
    let mut warnings = Vec::new();
    if !ignored.is_empty() {
        warnings.push(format!("not applied by the process executor: {}", ignored.join(", ")));
    }
    let moved = host_ports(workload).filter(|port| port.published_port != 0 && port.published_port != port.target_port);
    warnings.extend(moved.map(|port| {
        format!(
            "port {} is not published as {}: a process listens on its host directly",
            port.target_port, port.published_port
        )
    }));
    warnings
}

/// Whether a spec has an SELinux, seccomp or AppArmor profile. No-new-privileges is not checked: it always applies.
fn has_profiles(spec: &ContainerSpec) -> bool {
    spec.privileges
        .as_ref()
        .is_some_and(|of| *of != Privileges { no_new_privileges: of.no_new_privileges, ..Default::default() })
}

fn has_devices(spec: &ContainerSpec) -> bool {
    !(spec.devices.is_empty() && spec.device_requests.is_empty() && spec.device_cgroup_rules.is_empty())
}

/// The ports that are open on the host: a process shares its network, so each target port is also the published one.
pub(super) fn ports(workload: &Workload) -> Vec<PortConfig> {
    host_ports(workload).map(|port| PortConfig { published_port: port.target_port, ..port.clone() }).collect()
}

fn host_ports(workload: &Workload) -> impl Iterator<Item = &PortConfig> {
    let ports = workload.spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
    ports.filter(|port| port.publish_mode() == PublishMode::Host)
}

#[cfg(test)]
mod tests {
    use events::Mount;

    use super::*;
    use crate::agent::executor::tests::workload;

    fn ordered(container: ContainerSpec) -> Result<Order, String> {
        let users =
            Users { passwd: String::new(), group: String::new(), own: Ids { uid: 1, gid: 1 }, allow_root: true };
        order(&workload(ContainerSpec { command: vec!["/bin/x".into()], ..container }), &users)
    }

    #[test]
    fn a_key_alone_unsets_and_the_rest_is_minimal() {
        let env = ["A=b=c".to_owned(), "HOME".to_owned(), "PATH=/bin".to_owned()];
        let order = ordered(ContainerSpec { env: env.into(), ..Default::default() }).expect("an order");
        let env: Vec<_> = order.env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(env, [("A", "b=c"), ("HOSTNAME", "host-a"), ("PATH", "/bin")]);
        let order = ordered(ContainerSpec { hostname: "own".into(), ..Default::default() }).expect("an order");
        assert_eq!(order.env["HOSTNAME"], "own");
        assert_eq!(order.dir, PathBuf::from("/"));
    }

    #[test]
    fn what_a_process_cannot_be_is_refused() {
        let rows = [
            (ContainerSpec { mounts: vec![Mount::default()], ..Default::default() }, "cannot mount"),
            (ContainerSpec { dir: "relative".into(), ..Default::default() }, "not an absolute path"),
            (ContainerSpec { network: NetworkMode::None.into(), ..Default::default() }, "off the network"),
            (ContainerSpec { user: "0".into(), ..Default::default() }, "only root can"),
        ];
        for (container, words) in rows {
            let refusal = ordered(container).err().expect("a refusal");
            assert!(refusal.contains(words), "{refusal}");
        }
        let users =
            Users { passwd: String::new(), group: String::new(), own: Ids { uid: 1, gid: 1 }, allow_root: true };
        assert!(order(&workload(ContainerSpec::default()), &users).err().expect("a refusal").contains("--command"));
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let container = ContainerSpec { read_only: true, capability_drop: vec!["ALL".into()], ..Default::default() };
        let wanted = "not applied by the process executor: a read-only root filesystem, capabilities";
        assert_eq!(warnings(&workload(container)), [wanted]);
        assert!(warnings(&workload(ContainerSpec::default())).is_empty());
    }
}
