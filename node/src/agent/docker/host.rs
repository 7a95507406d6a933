//! The host configuration of a container: resources, mounts, ports, names, privileges. Pure.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    HostConfig, HostConfigIsolationEnum, HostConfigLogConfig, PortMap, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use events::{
    AppArmorMode, ContainerSpec, Driver, Isolation, NetworkMode, ResourceRequirements, Resources, SeccompMode,
};

use super::config::{list, number, signed, text};
use super::{devices, mounts};
use crate::agent::executor::Workload;

/// The host configuration of a workload's container.
pub(super) fn host_config(workload: &Workload, port_bindings: Option<PortMap>) -> HostConfig {
    let task = workload.spec.template();
    let spec = task.container();
    let dns = spec.dns.clone().unwrap_or_default();
    let (binds, mounts) = mounts::mounts(&spec.mounts);
    HostConfig {
        // A task is one-shot: the orchestrator creates another when this one ends.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        log_config: task.log_driver.as_ref().map(log_config),
        port_bindings,
        init: spec.init,
        readonly_rootfs: Some(spec.read_only),
        group_add: list(&spec.groups),
        security_opt: list(&security(workload)),
        binds: list(&binds),
        mounts: (!mounts.is_empty()).then_some(mounts),
        extra_hosts: list(&extra_hosts(&spec.hosts)),
        dns: list(&dns.nameservers),
        dns_search: list(&dns.search),
        dns_options: list(&dns.options),
        isolation: isolation(spec.isolation()),
        network_mode: network(spec.network()),
        pids_limit: number(spec.pids_limit),
        sysctls: map(&spec.sysctls),
        cap_add: list(&spec.capability_add),
        cap_drop: list(&spec.capability_drop),
        ulimits: ulimits(spec),
        oom_score_adj: number(spec.oom_score_adj),
        privileged: spec.privileged.then_some(true),
        shm_size: number(signed(spec.shm_size_bytes)),
        cgroup_parent: text(&spec.cgroup_parent),
        devices: devices::mappings(&spec.devices),
        device_requests: devices::requests(&spec.device_requests, &workload.claims),
        device_cgroup_rules: list(&spec.device_cgroup_rules),
        ..resources(workload)
    }
}

/// Limits and the memory reservation; CPU reservations concern only the scheduler.
fn resources(workload: &Workload) -> HostConfig {
    let Some(wanted) = workload.spec.template().resources.as_ref() else { return HostConfig::default() };
    let memory = |of: Option<&Resources>| of.and_then(|resources| number(signed(resources.memory_bytes)));
    HostConfig {
        nano_cpus: wanted.limits.as_ref().and_then(|limits| number(signed(limits.nano_cpus))),
        memory: memory(wanted.limits.as_ref()),
        memory_reservation: memory(wanted.reservations.as_ref()),
        memory_swap: memory_and_swap(wanted),
        memory_swappiness: wanted.memory_swappiness,
        ..Default::default()
    }
}

/// The engine has one limit for memory and swap together.
fn memory_and_swap(wanted: &ResourceRequirements) -> Option<i64> {
    let memory = wanted.limits.as_ref().map_or(0, |limits| signed(limits.memory_bytes));
    wanted.swap_bytes.map(|swap| if swap < 0 { swap } else { memory.saturating_add(swap) })
}

fn log_config(driver: &Driver) -> HostConfigLogConfig {
    HostConfigLogConfig { typ: text(&driver.name), config: map(&driver.options) }
}

/// Security options in the syntax of `docker run --security-opt`.
fn security(workload: &Workload) -> Vec<String> {
    let Some(privileges) = &workload.container().privileges else { return Vec::new() };
    let mut options = Vec::new();
    // A credential spec that contains a secret was refused before.
    options.extend(workload.credential_spec().ok().flatten().map(|of| format!("credentialspec={of}")));
    if let Some(selinux) = &privileges.selinux {
        if selinux.disable {
            options.push("label=disable".to_owned());
        }
        let parts =
            [("user", &selinux.user), ("role", &selinux.role), ("type", &selinux.r#type), ("level", &selinux.level)];
        options.extend(
            parts.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("label={key}:{value}")),
        );
    }
    if let Some(seccomp) = &privileges.seccomp {
        match seccomp.mode() {
            SeccompMode::Default => {}
            SeccompMode::Unconfined => options.push("seccomp=unconfined".to_owned()),
            SeccompMode::Custom => options.push(format!("seccomp={}", String::from_utf8_lossy(&seccomp.profile))),
        }
    }
    match privileges.apparmor() {
        AppArmorMode::Default => {}
        AppArmorMode::Disabled => options.push("apparmor=unconfined".to_owned()),
        AppArmorMode::Custom => options.push(format!("apparmor={}", privileges.apparmor_profile)),
    }
    if privileges.no_new_privileges {
        options.push("no-new-privileges=true".to_owned());
    }
    options
}

/// Converts lines of hosts(5), an address and its names, to the engine's form: `name:address`, one for each name.
fn extra_hosts(lines: &[String]) -> Vec<String> {
    let entries = lines.iter().flat_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next().unwrap_or_default();
        words.map(move |name| format!("{name}:{address}"))
    });
    entries.collect()
}

/// `None` for the engine's default.
fn network(network: NetworkMode) -> Option<String> {
    match network {
        NetworkMode::Default => None,
        NetworkMode::Host => Some("host".to_owned()),
        NetworkMode::None => Some("none".to_owned()),
    }
}

fn isolation(isolation: Isolation) -> Option<HostConfigIsolationEnum> {
    match isolation {
        Isolation::Default => None,
        Isolation::Process => Some(HostConfigIsolationEnum::PROCESS),
        Isolation::Hyperv => Some(HostConfigIsolationEnum::HYPERV),
    }
}

fn ulimits(spec: &ContainerSpec) -> Option<Vec<ResourcesUlimits>> {
    let limits = spec.ulimits.iter().map(|limit| ResourcesUlimits {
        name: Some(limit.name.clone()),
        soft: Some(limit.soft),
        hard: Some(limit.hard),
    });
    (!spec.ulimits.is_empty()).then(|| limits.collect())
}

/// `None` for an empty map.
pub(super) fn map(values: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!values.is_empty()).then(|| values.clone().into_iter().collect())
}
