//! One service of a file: the table of its keys.

use std::net::IpAddr;
use std::time::Duration;

use events::spec::limits::OOM_SCORES;
use events::{Driver, Isolation, Named, NetworkMode, ReplicatedMode, ServiceSpec, service_spec::Mode};

use super::configs::Noun;
use super::scope::{KeyRule, Scope, put};
use super::{STACK_LABEL, configs, deploy, devices, endpoint, environment, health, mounts, resources};
use crate::spec::{container, ns, task};
use crate::values::{Invalid, container as container_values, device, duration, host, image, name, size, words};
use crate::yaml::{At, Key, Node, Value};

/// A service as the file describes it.
#[derive(Default)]
pub(super) struct Service {
    pub spec: ServiceSpec,
    /// Whether the file sets the number of replicas.
    pub is_scaled: bool,
    /// Memory plus swap, and where the file sets it.
    pub memory_and_swap: Option<(At, i64)>,
}

/// Reads one service of the file.
pub(super) fn read(key: &Key, node: &Node, scope: &mut Scope<'_>) -> Service {
    let mut service = Service::default();
    let full_name = scope.named(&key.text);
    if let Some(name) = scope.valid(&key.at, name::parse(&full_name)) {
        service.spec.annotations.get_or_insert_default().name = name;
    }
    service.spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas: 1 }));
    container(&mut service.spec);
    scope.fields(&mut service, node, &KEYS);
    if service.spec.template().container().image.is_empty() {
        let sentence = format!("{} has no image", scope.path());
        scope.wrong(&key.at, sentence);
    }
    resources::limit_swap(&mut service, scope);
    let stack = scope.stack.to_owned();
    service.spec.annotations.get_or_insert_default().labels.insert(STACK_LABEL.to_owned(), stack.clone());
    container(&mut service.spec).labels.insert(STACK_LABEL.to_owned(), stack);
    service
}

/// Why a key for a single engine is not supported in a cluster.
const ONE_ENGINE: &str = "it is for containers of one engine, and services have no such setting";
const NO_NETWORKS: &str = "there are no networks in this version: services reach each other at published ports";
const NOT_YET: &str = "services have no such setting in this version";
const WITH_DEPLOY: &str = "the settings of a service are below deploy";

const KEYS: [(&str, KeyRule<Service>); 73] = [
    (
        "image",
        KeyRule::Read(|of, node, scope| put(&mut container(&mut of.spec).image, scope.value(node, image::parse))),
    ),
    ("deploy", KeyRule::Read(deploy::read)),
    ("entrypoint", KeyRule::Read(|of, node, scope| container(&mut of.spec).command = line(node, scope))),
    ("command", KeyRule::Read(|of, node, scope| container(&mut of.spec).args = line(node, scope))),
    ("environment", KeyRule::Read(|of, node, scope| environment::read(&mut of.spec, node, scope))),
    ("env_file", KeyRule::Read(|of, node, scope| environment::read_files(&mut of.spec, node, scope))),
    ("labels", KeyRule::Read(|of, node, scope| container(&mut of.spec).labels.extend(scope.labels(node)))),
    (
        "hostname",
        KeyRule::Read(|of, node, scope| {
            put(&mut container(&mut of.spec).hostname, scope.value(node, container_values::hostname));
        }),
    ),
    ("working_dir", KeyRule::Read(|of, node, scope| put(&mut container(&mut of.spec).dir, text(node, scope)))),
    ("user", KeyRule::Read(|of, node, scope| put(&mut container(&mut of.spec).user, text(node, scope)))),
    ("group_add", KeyRule::Read(|of, node, scope| container(&mut of.spec).groups = scope.texts(node))),
    ("tty", KeyRule::Read(|of, node, scope| put(&mut container(&mut of.spec).tty, scope.boolean(node)))),
    ("stdin_open", KeyRule::Read(|of, node, scope| put(&mut container(&mut of.spec).open_stdin, scope.boolean(node)))),
    ("init", KeyRule::Read(|of, node, scope| container(&mut of.spec).init = scope.boolean(node))),
    ("read_only", KeyRule::Read(|of, node, scope| put(&mut container(&mut of.spec).read_only, scope.boolean(node)))),
    ("stop_signal", KeyRule::Read(|of, node, scope| put(&mut container(&mut of.spec).stop_signal, text(node, scope)))),
    (
        "stop_grace_period",
        KeyRule::Read(|of, node, scope| {
            container(&mut of.spec).stop_grace_period_ns = length(node, scope);
        }),
    ),
    ("extra_hosts", KeyRule::Read(|of, node, scope| container(&mut of.spec).hosts = hosts(node, scope))),
    (
        "dns",
        KeyRule::Read(|of, node, scope| {
            let addresses = scope.values(node, container_values::nameserver);
            container(&mut of.spec).dns.get_or_insert_default().nameservers =
                addresses.iter().map(IpAddr::to_string).collect();
        }),
    ),
    (
        "dns_search",
        KeyRule::Read(|of, node, scope| {
            container(&mut of.spec).dns.get_or_insert_default().search = scope.texts(node);
        }),
    ),
    (
        "dns_opt",
        KeyRule::Read(|of, node, scope| {
            container(&mut of.spec).dns.get_or_insert_default().options = scope.texts(node);
        }),
    ),
    ("sysctls", KeyRule::Read(|of, node, scope| container(&mut of.spec).sysctls = scope.labels(node))),
    ("ulimits", KeyRule::Read(|of, node, scope| container(&mut of.spec).ulimits = resources::ulimits(node, scope))),
    (
        "cap_add",
        KeyRule::Read(|of, node, scope| {
            container(&mut of.spec).capability_add = scope.values(node, container_values::capability);
        }),
    ),
    (
        "cap_drop",
        KeyRule::Read(|of, node, scope| {
            container(&mut of.spec).capability_drop = scope.values(node, container_values::capability);
        }),
    ),
    (
        "pids_limit",
        KeyRule::Read(|of, node, scope| put(&mut container(&mut of.spec).pids_limit, resources::pids(node, scope))),
    ),
    (
        "oom_score_adj",
        KeyRule::Read(|of, node, scope| {
            put(&mut container(&mut of.spec).oom_score_adj, scope.number(node, OOM_SCORES));
        }),
    ),
    (
        "isolation",
        KeyRule::Read(|of, node, scope| {
            let isolation = scope.value(node, |text| {
                let hint = "write default, process or hyperv";
                Isolation::from_name(text)
                    .ok_or_else(|| Invalid::new(format!("there is no isolation \"{text}\""), hint))
            });
            put(&mut container(&mut of.spec).isolation, isolation.map(Into::into));
        }),
    ),
    ("ports", KeyRule::Read(|of, node, scope| endpoint::read(&mut of.spec, node, scope))),
    ("volumes", KeyRule::Read(|of, node, scope| mounts::read(&mut of.spec, node, scope))),
    ("tmpfs", KeyRule::Read(|of, node, scope| mounts::read_tmpfs(&mut of.spec, node, scope))),
    ("configs", KeyRule::Read(|of, node, scope| configs::refer(&mut of.spec, node, Noun::Config, scope))),
    ("healthcheck", KeyRule::Read(|of, node, scope| health::read(&mut of.spec, node, scope))),
    (
        "logging",
        KeyRule::Read(|of, node, scope| {
            scope.fields(task(&mut of.spec).log_driver.get_or_insert_default(), node, &LOGGING);
        }),
    ),
    ("secrets", KeyRule::Read(|of, node, scope| configs::refer(&mut of.spec, node, Noun::Secret, scope))),
    ("depends_on", KeyRule::Read(|of, node, scope| of.spec.depends_on = dependencies(node, scope))),
    ("networks", KeyRule::Unsupported(NO_NETWORKS)),
    (
        "network_mode",
        KeyRule::Read(|of, node, scope| {
            let network = scope.value(node, |text| {
                let known = NetworkMode::from_name(text).filter(|network| *network != NetworkMode::Default);
                known.ok_or_else(|| {
                    Invalid::new(format!("there is no network \"{text}\": {NO_NETWORKS}"), "write host or none")
                })
            });
            put(&mut container(&mut of.spec).network, network.map(Into::into));
        }),
    ),
    ("links", KeyRule::Unsupported(NO_NETWORKS)),
    ("external_links", KeyRule::Unsupported(NO_NETWORKS)),
    ("expose", KeyRule::Unsupported(NO_NETWORKS)),
    ("mac_address", KeyRule::Unsupported(NO_NETWORKS)),
    (
        "build",
        KeyRule::Unsupported("clusters run images that are built: build the image, push it and name it with image"),
    ),
    ("develop", KeyRule::Unsupported("clusters run images that are built")),
    ("container_name", KeyRule::Unsupported("a service has many containers, which are called after their tasks")),
    ("restart", KeyRule::Unsupported("write deploy.restart_policy")),
    ("scale", KeyRule::Unsupported("write deploy.replicas")),
    ("mem_limit", KeyRule::Unsupported("write deploy.resources.limits.memory")),
    ("mem_reservation", KeyRule::Unsupported("write deploy.resources.reservations.memory")),
    ("cpus", KeyRule::Unsupported("write deploy.resources.limits.cpus")),
    (
        "mem_swappiness",
        KeyRule::Read(|of, node, scope| {
            task(&mut of.spec).resources.get_or_insert_default().memory_swappiness = scope.number(node, -1..=100)
        }),
    ),
    ("memswap_limit", KeyRule::Read(|of, node, scope| of.memory_and_swap = resources::memory_and_swap(node, scope))),
    ("pull_policy", KeyRule::Read(|of, node, scope| devices::read_pull_policy(&mut of.spec, node, scope))),
    ("platform", KeyRule::Read(|of, node, scope| devices::read_platform(&mut of.spec, node, scope))),
    ("profiles", KeyRule::Unsupported("every service of a file is deployed")),
    ("extends", KeyRule::Unsupported("anchors, merge keys and several files do the same")),
    ("devices", KeyRule::Read(|of, node, scope| devices::read(&mut of.spec, node, scope))),
    ("gpus", KeyRule::Read(|of, node, scope| devices::read_gpus(&mut of.spec, node, scope))),
    ("privileged", KeyRule::Read(|of, node, scope| put(&mut container(&mut of.spec).privileged, scope.boolean(node)))),
    ("security_opt", KeyRule::Read(|of, node, scope| devices::read_security(&mut of.spec, node, scope))),
    (
        "shm_size",
        KeyRule::Read(|of, node, scope| {
            put(&mut container(&mut of.spec).shm_size_bytes, scope.value(node, size::parse))
        }),
    ),
    ("cgroup", KeyRule::Unsupported(NOT_YET)),
    (
        "cgroup_parent",
        KeyRule::Read(|of, node, scope| put(&mut container(&mut of.spec).cgroup_parent, text(node, scope))),
    ),
    ("credential_spec", KeyRule::Read(|of, node, scope| devices::read_credential_spec(&mut of.spec, node, scope))),
    (
        "device_cgroup_rules",
        KeyRule::Read(|of, node, scope| {
            container(&mut of.spec).device_cgroup_rules = scope.values(node, device::parse_rule)
        }),
    ),
    ("domainname", KeyRule::Unsupported(ONE_ENGINE)),
    ("ipc", KeyRule::Unsupported(ONE_ENGINE)),
    ("pid", KeyRule::Unsupported(ONE_ENGINE)),
    ("userns_mode", KeyRule::Unsupported(ONE_ENGINE)),
    ("uts", KeyRule::Unsupported(ONE_ENGINE)),
    ("volumes_from", KeyRule::Unsupported(ONE_ENGINE)),
    ("runtime", KeyRule::Unsupported(ONE_ENGINE)),
    ("replicas", KeyRule::Unsupported(WITH_DEPLOY)),
];

const LOGGING: [(&str, KeyRule<Driver>); 2] = [
    ("driver", KeyRule::Read(|driver, node, scope| put(&mut driver.name, text(node, scope)))),
    ("options", KeyRule::Read(|driver, node, scope| driver.options = scope.labels(node))),
];

pub(super) fn text(node: &Node, scope: &mut Scope<'_>) -> Option<String> {
    scope.text(node).map(str::to_owned)
}

/// A duration, in the unit of specs.
pub(super) fn length(node: &Node, scope: &mut Scope<'_>) -> Option<u64> {
    let length: Option<Duration> = scope.value(node, duration::parse);
    length.map(ns)
}

/// A command: a list of words, or a line that is split as a shell does.
fn line(node: &Node, scope: &mut Scope<'_>) -> Vec<String> {
    match &node.value {
        Value::List(_) => scope.texts(node),
        Value::Scalar { .. } | Value::Map(_) => {
            let unfinished = |line: &str| {
                Invalid::new(format!("\"{line}\" has an open quote"), "close it, or write a list of words")
            };
            scope.value(node, |line| words::split(line).ok_or_else(|| unfinished(line))).unwrap_or_default()
        }
    }
}

/// Dependencies: a list of services, or a map from each to its condition. A running service is healthy, if it has a health check.
fn dependencies(node: &Node, scope: &mut Scope<'_>) -> Vec<String> {
    let Value::Map(entries) = &node.value else {
        let items = scope.items(node).iter();
        let names = items.filter_map(|item| scope.text(item).and_then(|name| scope.service(&item.at, name)));
        return names.collect();
    };
    let mut names = Vec::new();
    for (key, condition) in entries {
        names.extend(scope.service(&key.at, &key.text));
        scope.within(&key.text, |scope| scope.fields(&mut (), condition, &DEPENDENCY));
    }
    names
}

const DEPENDENCY: [(&str, KeyRule<()>); 3] = [
    (
        "condition",
        KeyRule::Read(|(), node, scope| {
            let hint = "write service_started or service_healthy";
            let _: Option<()> = scope.value(node, |text| match text {
                "service_started" | "service_healthy" => Ok(()),
                _ => Err(Invalid::new(format!("services of a stack are never \"{text}\""), hint)),
            });
        }),
    ),
    ("restart", KeyRule::Unsupported("a service is not restarted with others")),
    ("required", KeyRule::Unsupported("every service of a file is deployed")),
];

/// Entries of the hosts file: a map of names, or a list of `NAME:ADDRESS` or `NAME=ADDRESS`.
fn hosts(node: &Node, scope: &mut Scope<'_>) -> Vec<String> {
    let entry = |text: &str| {
        let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
        host::parse(&format!("{name}:{}", address.trim_matches(['[', ']'])))
    };
    let Value::Map(entries) = &node.value else { return scope.values(node, entry) };
    let mut hosts = Vec::new();
    for (key, addresses) in entries {
        for address in scope.texts(addresses) {
            hosts.extend(scope.valid(&key.at, entry(&format!("{}={address}", key.text))));
        }
    }
    hosts
}
