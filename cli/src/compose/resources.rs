//! Reservations and limits of a task: `deploy.resources`, `ulimits` and `pids_limit`.

use events::spec::limits::PIDS_LIMITS;
use events::{DeviceRequest, GenericResource, Resources, ServiceSpec, Ulimit};

use super::devices;
use super::scope::{KeyRule, Scope, put};
use super::service::Service;
use crate::spec::{container, task};
use crate::values::{cpus, generic, size, ulimit};
use crate::yaml::{At, Node, Value};

pub(super) fn read(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    scope.fields(spec, node, &KEYS);
}

const KEYS: [(&str, KeyRule<ServiceSpec>); 2] = [
    (
        "limits",
        KeyRule::Read(|spec, node, scope| {
            let mut limits = Limits::default();
            scope.fields(&mut limits, node, &LIMITS);
            task(spec).resources.get_or_insert_default().limits = Some(limits.amounts);
            put(&mut container(spec).pids_limit, limits.pids);
        }),
    ),
    (
        "reservations",
        KeyRule::Read(|spec, node, scope| {
            let mut reservations = Reservations::default();
            scope.fields(&mut reservations, node, &RESERVATIONS);
            task(spec).resources.get_or_insert_default().reservations = Some(reservations.amounts);
            container(spec).device_requests.extend(reservations.devices);
        }),
    ),
];

#[derive(Default)]
struct Limits {
    amounts: Resources,
    pids: Option<i64>,
}

const LIMITS: [(&str, KeyRule<Limits>); 3] = [
    ("cpus", KeyRule::Read(|limits, node, scope| put(&mut limits.amounts.nano_cpus, scope.value(node, cpus::parse)))),
    (
        "memory",
        KeyRule::Read(|limits, node, scope| put(&mut limits.amounts.memory_bytes, scope.value(node, size::parse))),
    ),
    ("pids", KeyRule::Read(|limits, node, scope| limits.pids = pids(node, scope))),
];

const RESERVATIONS: [(&str, KeyRule<Reservations>); 4] = [
    ("cpus", KeyRule::Read(|of, node, scope| put(&mut of.amounts.nano_cpus, scope.value(node, cpus::parse)))),
    ("memory", KeyRule::Read(|of, node, scope| put(&mut of.amounts.memory_bytes, scope.value(node, size::parse)))),
    (
        "generic_resources",
        KeyRule::Read(|of, node, scope| {
            for item in scope.items(node) {
                scope.fields(&mut of.amounts.generic, item, &GENERIC);
            }
        }),
    ),
    ("devices", KeyRule::Read(|reservations, node, scope| reservations.devices = devices::read_requests(node, scope))),
];

const GENERIC: [(&str, KeyRule<Vec<GenericResource>>); 1] = [(
    "discrete_resource_spec",
    KeyRule::Read(|generic, node, scope| {
        let mut discrete = Discrete::default();
        scope.fields(&mut discrete, node, &DISCRETE);
        generic.extend(scope.valid(&node.at, generic::parse(&format!("{}={}", discrete.kind, discrete.value))));
    }),
)];

#[derive(Default)]
struct Reservations {
    amounts: Resources,
    devices: Vec<DeviceRequest>,
}

#[derive(Default)]
struct Discrete {
    kind: String,
    value: String,
}

const DISCRETE: [(&str, KeyRule<Discrete>); 2] = [
    ("kind", KeyRule::Read(|of, node, scope| put(&mut of.kind, scope.text(node).map(str::to_owned)))),
    ("value", KeyRule::Read(|of, node, scope| put(&mut of.value, scope.text(node).map(str::to_owned)))),
];

pub(super) fn pids(node: &Node, scope: &mut Scope<'_>) -> Option<i64> {
    scope.number(node, PIDS_LIMITS)
}

/// Memory plus swap, as Docker's tools count; -1 for no limit.
pub(super) fn memory_and_swap(node: &Node, scope: &mut Scope<'_>) -> Option<(At, i64)> {
    scope.value(node, size::parse_or_unlimited).map(|limit| (node.at.clone(), limit))
}

/// Sets the swap limit: memory plus swap, minus memory.
pub(super) fn limit_swap(service: &mut Service, scope: &mut Scope<'_>) {
    let Some((at, both)) = service.memory_and_swap.take() else { return };
    let resources = task(&mut service.spec).resources.get_or_insert_default();
    let memory = resources.limits.as_ref().map_or(0, |limits| limits.memory_bytes.cast_signed());
    if both == -1 {
        resources.swap_bytes = Some(-1);
    } else if memory > 0 && both >= memory {
        resources.swap_bytes = Some(both - memory);
    } else {
        let sentence = format!(
            "{}.memswap_limit is memory and swap together: it needs a memory limit that is not larger",
            scope.path()
        );
        scope.wrong(&at, sentence);
    }
}

/// `nofile: 1024`, or `nofile: {soft: 1024, hard: 2048}`.
pub(super) fn ulimits(node: &Node, scope: &mut Scope<'_>) -> Vec<Ulimit> {
    let mut ulimits = Vec::new();
    for (key, node) in scope.entries(node) {
        let mut bounds = Bounds::default();
        match &node.value {
            Value::Map(_) => scope.within(&key.text, |scope| scope.fields(&mut bounds, node, &ULIMIT)),
            Value::Scalar { .. } | Value::List(_) => bounds.soft = scope.text(node).unwrap_or_default().to_owned(),
        }
        let hard = if bounds.hard.is_empty() { String::new() } else { format!(":{}", bounds.hard) };
        ulimits.extend(scope.valid(&node.at, ulimit::parse(&format!("{}={}{hard}", key.text, bounds.soft))));
    }
    ulimits
}

#[derive(Default)]
struct Bounds {
    soft: String,
    hard: String,
}

const ULIMIT: [(&str, KeyRule<Bounds>); 2] = [
    ("soft", KeyRule::Read(|of, node, scope| put(&mut of.soft, scope.text(node).map(str::to_owned)))),
    ("hard", KeyRule::Read(|of, node, scope| put(&mut of.hard, scope.text(node).map(str::to_owned)))),
];
