//! The lists and maps of a spec: the flag of each, and the key of an entry.

use std::collections::{BTreeMap, BTreeSet};

use events::{Affinity, MountType, PortConfig, ServiceSpec};

use super::devices;
use crate::values::{device, port, security_opt};

/// A list or map that flags change.
struct List {
    /// The common prefix of the flags' names.
    flag: &'static str,
    keys: fn(&ServiceSpec) -> Vec<String>,
}

/// Those with a flag that replaces all entries.
const LISTS: [List; 29] = [
    List { flag: "label", keys: |spec| keys(&spec.annotations().labels) },
    List { flag: "container-label", keys: |spec| keys(&spec.template().container().labels) },
    List { flag: "env", keys: |spec| spec.template().container().env.iter().map(|entry| variable(entry)).collect() },
    List {
        flag: "constraint",
        keys: |spec| {
            spec.template().placement().constraints.iter().map(|constraint| plain_constraint(constraint)).collect()
        },
    },
    List { flag: "affinity", keys: |spec| affinities(spec, |weight| weight.is_none()) },
    List { flag: "affinity-pref", keys: |spec| affinities(spec, |weight| weight.is_some()) },
    List { flag: "depends-on", keys: |spec| spec.depends_on.clone() },
    List {
        flag: "placement-pref",
        keys: |spec| {
            spec.template().placement().preferences.iter().map(|preference| preference.spread.clone()).collect()
        },
    },
    List {
        flag: "ports",
        keys: |spec| spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports).map(|port| port.name.clone()).collect(),
    },
    List { flag: "bind", keys: |spec| targets(spec, MountType::Bind) },
    List { flag: "volume", keys: |spec| targets(spec, MountType::Volume) },
    List { flag: "tmpfs", keys: |spec| targets(spec, MountType::Tmpfs) },
    List { flag: "config", keys: |spec| configs(spec) },
    List {
        flag: "secret",
        keys: |spec| spec.template().container().secrets.iter().map(|reference| reference.name.clone()).collect(),
    },
    List { flag: "host", keys: |spec| spec.template().container().hosts.clone() },
    List { flag: "dns", keys: |spec| dns(spec, |dns| &dns.nameservers) },
    List { flag: "dns-search", keys: |spec| dns(spec, |dns| &dns.search) },
    List { flag: "dns-option", keys: |spec| dns(spec, |dns| &dns.options) },
    List { flag: "group", keys: |spec| spec.template().container().groups.clone() },
    List { flag: "cap-add", keys: |spec| spec.template().container().capability_add.clone() },
    List { flag: "cap-drop", keys: |spec| spec.template().container().capability_drop.clone() },
    List {
        flag: "security-opt",
        keys: |spec| spec.template().container().privileges.iter().flat_map(security_opt::show).collect(),
    },
    List { flag: "device", keys: |spec| devices::names(spec.template().container()) },
    List {
        flag: "gpus",
        keys: |spec| {
            let requests = spec.template().container().device_requests.iter();
            requests.filter(|request| !devices::is_named(request)).map(device::show_request).collect()
        },
    },
    List { flag: "device-cgroup-rule", keys: |spec| spec.template().container().device_cgroup_rules.clone() },
    List { flag: "sysctl", keys: |spec| keys(&spec.template().container().sysctls) },
    List {
        flag: "ulimit",
        keys: |spec| spec.template().container().ulimits.iter().map(|ulimit| ulimit.name.clone()).collect(),
    },
    List {
        flag: "generic-resources",
        keys: |spec| spec.template().reserved().generic.iter().map(|resource| resource.kind.clone()).collect(),
    },
    List {
        flag: "log-opt",
        keys: |spec| spec.template().log_driver.as_ref().map(|driver| keys(&driver.options)).unwrap_or_default(),
    },
];

/// Those with flags of other names that add entries.
const ADDED_TO: [List; 3] = [
    List {
        flag: "publish",
        keys: |spec| spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports).map(target).collect(),
    },
    List {
        flag: "mount",
        keys: |spec| spec.template().container().mounts.iter().map(|mount| mount.target.clone()).collect(),
    },
    List {
        flag: "env-secret",
        keys: |spec| spec.template().container().env_secrets.iter().map(|secret| secret.name.clone()).collect(),
    },
];

/// A constraint without whitespace, which has no meaning.
pub(super) fn plain_constraint(constraint: &str) -> String {
    constraint.split_whitespace().collect()
}

/// An affinity's expression without whitespace.
pub(super) fn written(affinity: &Affinity) -> String {
    plain_constraint(&affinity.expression)
}

/// The container side of a published port: `80/tcp`.
pub(super) fn target(port: &PortConfig) -> String {
    format!("{}/{}", port.target_port, port::protocol(port))
}

/// The name of a variable; its value may be secret.
pub(super) fn variable(entry: &str) -> String {
    entry.split('=').next().unwrap_or_default().to_owned()
}

fn keys(map: &BTreeMap<String, String>) -> Vec<String> {
    map.keys().cloned().collect()
}

fn targets(spec: &ServiceSpec, kind: MountType) -> Vec<String> {
    let mounts = spec.template().container().mounts.iter().filter(|mount| mount.r#type() == kind);
    mounts.map(|mount| mount.target.clone()).collect()
}

fn affinities(spec: &ServiceSpec, is_of_kind: fn(Option<u32>) -> bool) -> Vec<String> {
    let all = spec.template().placement().affinities.iter();
    all.filter(|affinity| is_of_kind(affinity.weight)).map(written).collect()
}

fn configs(spec: &ServiceSpec) -> Vec<String> {
    let files = spec.template().container().configs.iter().filter(|reference| !reference.runtime);
    files.map(|reference| reference.name.clone()).collect()
}

fn dns(spec: &ServiceSpec, list: fn(&events::DnsConfig) -> &Vec<String>) -> Vec<String> {
    spec.template().container().dns.as_ref().map(|dns| list(dns).clone()).unwrap_or_default()
}

/// The entries that a replacing flag dropped from each list, in one sentence per list.
pub fn dropped(before: &ServiceSpec, after: &ServiceSpec) -> Vec<String> {
    let sentence = |list: &List| {
        let kept: BTreeSet<String> = (list.keys)(after).into_iter().collect();
        let gone: Vec<String> = (list.keys)(before).into_iter().filter(|key| !kept.contains(key)).collect();
        let flag = list.flag;
        // There are no flags that add to the two capability lists separately; both are given together.
        let instead = match flag {
            "cap-add" | "cap-drop" | "security-opt" | "gpus" => "name it again to keep it".to_owned(),
            _ => format!("--{flag}-add keeps what is there"),
        };
        (!gone.is_empty()).then(|| format!("--{flag} replaces the whole list: dropped {}; {instead}", gone.join(", ")))
    };
    LISTS.iter().filter_map(sentence).collect()
}

/// The keys that a list does not contain, in one sentence, if there are any.
pub(super) fn absent(flag: &str, keys: &[String], spec: &ServiceSpec) -> Option<String> {
    let list = LISTS.iter().chain(&ADDED_TO).find(|list| list.flag == flag)?;
    let present = (list.keys)(spec);
    let absent: Vec<&str> = keys.iter().filter(|key| !present.contains(key)).map(String::as_str).collect();
    (!absent.is_empty()).then(|| format!("--{flag}-rm: the service has no {}", absent.join(", ")))
}
