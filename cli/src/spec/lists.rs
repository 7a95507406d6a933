//! The lists and maps of a spec: each with its flag, and what identifies an entry in it.

use std::collections::{BTreeMap, BTreeSet};

use events::{MountType, ServiceSpec};

/// A list, or a map, that a flag of its name replaces.
struct List {
    flag: &'static str,
    keys: fn(&ServiceSpec) -> Vec<String>,
}

/// All of them.
const LISTS: [List; 21] = [
    List { flag: "label", keys: |spec| keys(&spec.annotations().labels) },
    List { flag: "container-label", keys: |spec| keys(&spec.template().container().labels) },
    List { flag: "env", keys: |spec| spec.template().container().env.iter().map(|entry| variable(entry)).collect() },
    List { flag: "constraint", keys: |spec| spec.template().placement().constraints.clone() },
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
    List { flag: "host", keys: |spec| spec.template().container().hosts.clone() },
    List { flag: "dns", keys: |spec| dns(spec, |dns| &dns.nameservers) },
    List { flag: "dns-search", keys: |spec| dns(spec, |dns| &dns.search) },
    List { flag: "dns-option", keys: |spec| dns(spec, |dns| &dns.options) },
    List { flag: "group", keys: |spec| spec.template().container().groups.clone() },
    List { flag: "cap-add", keys: |spec| spec.template().container().capability_add.clone() },
    List { flag: "cap-drop", keys: |spec| spec.template().container().capability_drop.clone() },
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

/// The name of a variable, whose value may be secret.
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

fn configs(spec: &ServiceSpec) -> Vec<String> {
    spec.template().container().configs.iter().map(|reference| reference.name.clone()).collect()
}

fn dns(spec: &ServiceSpec, list: fn(&events::DnsConfig) -> &Vec<String>) -> Vec<String> {
    spec.template().container().dns.as_ref().map(|dns| list(dns).clone()).unwrap_or_default()
}

/// What flags that replace a list dropped from it, in a sentence for each list.
pub fn dropped(before: &ServiceSpec, after: &ServiceSpec) -> Vec<String> {
    let sentence = |list: &List| {
        let kept: BTreeSet<String> = (list.keys)(after).into_iter().collect();
        let gone: Vec<String> = (list.keys)(before).into_iter().filter(|key| !kept.contains(key)).collect();
        let flag = list.flag;
        // Docker's own names for the two lists of capabilities leave no name for flags that add to them.
        let instead =
            if flag.starts_with("cap-") { String::new() } else { format!("; --{flag}-add keeps what is there") };
        (!gone.is_empty()).then(|| format!("--{flag} replaces the whole list: dropped {}{instead}", gone.join(", ")))
    };
    LISTS.iter().filter_map(sentence).collect()
}
