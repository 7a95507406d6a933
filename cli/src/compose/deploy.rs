//! `deploy`: how many tasks a service has, where they run, and how they are updated.

use events::spec::limits::{REPLICAS_MAX, RESTART_ATTEMPTS_MAX};
use events::{
    FailureAction, GlobalJobMode, GlobalMode, Placement, PlacementPreference, ReplicatedJobMode, ReplicatedMode,
    RestartCondition, RestartPolicy, UpdateConfig, UpdateOrder, service_spec::Mode,
};

use super::resources;
use super::scope::{Scope, Use, put};
use super::service::{Service, length};
use crate::spec::task;
use crate::values::{affinity, constraint, ratio};
use crate::yaml::Node;

pub(super) fn read(service: &mut Service, node: &Node, scope: &mut Scope<'_>) {
    // The meaning of `replicas` depends on the mode, so the mode is read first wherever it stands.
    if let Some(mode) = node.get("mode") {
        let mode = scope.within("mode", |scope| scope.word(mode, &MODES));
        put(&mut service.spec.mode, mode.map(Some));
    }
    scope.fields(service, node, &KEYS);
}

const MODES: [(&str, Mode); 4] = [
    ("replicated", Mode::Replicated(ReplicatedMode { replicas: 1 })),
    ("global", Mode::Global(GlobalMode {})),
    ("replicated-job", Mode::ReplicatedJob(ReplicatedJobMode { max_concurrent: 0, total_completions: 1 })),
    ("global-job", Mode::GlobalJob(GlobalJobMode {})),
];

const KEYS: [(&str, Use<Service>); 9] = [
    ("mode", Use::Read(|_, _, _| {})),
    ("replicas", Use::Read(replicas)),
    (
        "labels",
        Use::Read(|of, node, scope| {
            of.spec.annotations.get_or_insert_default().labels.extend(scope.labels(node));
        }),
    ),
    (
        "update_config",
        Use::Read(|of, node, scope| {
            scope.fields(of.spec.update.get_or_insert_default(), node, &UPDATE);
        }),
    ),
    (
        "rollback_config",
        Use::Read(|of, node, scope| {
            scope.fields(of.spec.rollback.get_or_insert_default(), node, &UPDATE);
        }),
    ),
    (
        "restart_policy",
        Use::Read(|of, node, scope| {
            scope.fields(task(&mut of.spec).restart.get_or_insert_default(), node, &RESTART);
        }),
    ),
    (
        "placement",
        Use::Read(|of, node, scope| {
            scope.fields(task(&mut of.spec).placement.get_or_insert_default(), node, &PLACEMENT);
        }),
    ),
    ("resources", Use::Read(|of, node, scope| resources::read(&mut of.spec, node, scope))),
    ("endpoint_mode", Use::Not("ports are published on the nodes that run the tasks, in this version")),
];

fn replicas(service: &mut Service, node: &Node, scope: &mut Scope<'_>) {
    let Some(number) = scope.number(node, 0..=REPLICAS_MAX) else { return };
    service.is_scaled = true;
    match &mut service.spec.mode {
        Some(Mode::Replicated(mode)) => mode.replicas = number,
        Some(Mode::ReplicatedJob(job)) => job.total_completions = number,
        Some(Mode::Global(_) | Mode::GlobalJob(_)) => {
            let sentence = format!("{}: a global service has no number of replicas", scope.path());
            scope.wrong(&node.at, sentence);
        }
        None => {}
    }
}

const UPDATE: [(&str, Use<UpdateConfig>); 7] = [
    ("parallelism", Use::Read(|update, node, scope| update.parallelism = scope.number(node, 0..=REPLICAS_MAX))),
    ("delay", Use::Read(|update, node, scope| put(&mut update.delay_ns, length(node, scope)))),
    (
        "failure_action",
        Use::Read(|update, node, scope| {
            let actions = [
                ("pause", FailureAction::Pause),
                ("continue", FailureAction::Continue),
                ("rollback", FailureAction::Rollback),
            ];
            put(&mut update.failure_action, scope.word(node, &actions).map(Into::into));
        }),
    ),
    ("monitor", Use::Read(|update, node, scope| update.monitor_ns = length(node, scope))),
    (
        "max_failure_ratio",
        Use::Read(|update, node, scope| {
            put(&mut update.max_failure_ppm, scope.value(node, ratio::parse));
        }),
    ),
    (
        "order",
        Use::Read(|update, node, scope| {
            let orders = [("stop-first", UpdateOrder::StopFirst), ("start-first", UpdateOrder::StartFirst)];
            put(&mut update.order, scope.word(node, &orders).map(Into::into));
        }),
    ),
    ("progress_deadline", Use::Read(|update, node, scope| update.progress_deadline_ns = length(node, scope))),
];

const RESTART: [(&str, Use<RestartPolicy>); 4] = [
    (
        "condition",
        Use::Read(|restart, node, scope| {
            let conditions = [
                ("any", RestartCondition::Any),
                ("on-failure", RestartCondition::OnFailure),
                ("none", RestartCondition::None),
            ];
            restart.condition = scope.word(node, &conditions).map(Into::into);
        }),
    ),
    ("delay", Use::Read(|restart, node, scope| restart.delay_ns = length(node, scope))),
    (
        "max_attempts",
        Use::Read(|restart, node, scope| {
            put(&mut restart.max_attempts, scope.number(node, 0..=RESTART_ATTEMPTS_MAX));
        }),
    ),
    ("window", Use::Read(|restart, node, scope| put(&mut restart.window_ns, length(node, scope)))),
];

const PLACEMENT: [(&str, Use<Placement>); 5] = [
    (
        "constraints",
        Use::Read(|placement, node, scope| {
            placement.constraints = scope.values(node, constraint::parse);
        }),
    ),
    (
        "preferences",
        Use::Read(|placement, node, scope| {
            for item in scope.items(node) {
                scope.fields(placement, item, &PREFERENCE);
            }
        }),
    ),
    (
        "affinities",
        Use::Read(|placement, node, scope| {
            let affinities = scope.values(node, affinity::parse);
            placement.affinities.extend(affinities);
        }),
    ),
    (
        "affinity_preferences",
        Use::Read(|placement, node, scope| {
            let affinities = scope.values(node, affinity::parse_preferred);
            placement.affinities.extend(affinities);
        }),
    ),
    (
        "max_replicas_per_node",
        Use::Read(|placement, node, scope| {
            put(&mut placement.max_replicas, scope.number(node, 0..=REPLICAS_MAX));
        }),
    ),
];

const PREFERENCE: [(&str, Use<Placement>); 1] = [(
    "spread",
    Use::Read(|placement, node, scope| {
        let spread = scope.value(node, |label| constraint::parse_preference(&format!("spread={label}")));
        placement.preferences.extend(spread.map(|spread| PlacementPreference { spread }));
    }),
)];
