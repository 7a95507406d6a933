//! `deploy`: how many tasks a service has, where they run, and how they are updated.

use events::spec::limits::{REPLICAS_MAX, RESTART_ATTEMPTS_MAX};
use events::{
    FailureAction, GlobalJobMode, GlobalMode, Placement, PlacementPreference, ReplicatedJobMode, ReplicatedMode,
    RestartCondition, RestartPolicy, UpdateConfig, UpdateOrder, service_spec::Mode,
};

use super::resources;
use super::scope::{KeyRule, Scope, put};
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

const KEYS: [(&str, KeyRule<Service>); 9] = [
    ("mode", KeyRule::Read(|_, _, _| {})),
    ("replicas", KeyRule::Read(replicas)),
    (
        "labels",
        KeyRule::Read(|of, node, scope| {
            of.spec.annotations.get_or_insert_default().labels.extend(scope.labels(node));
        }),
    ),
    (
        "update_config",
        KeyRule::Read(|of, node, scope| {
            scope.fields(of.spec.update.get_or_insert_default(), node, &UPDATE);
        }),
    ),
    (
        "rollback_config",
        KeyRule::Read(|of, node, scope| {
            scope.fields(of.spec.rollback.get_or_insert_default(), node, &UPDATE);
        }),
    ),
    (
        "restart_policy",
        KeyRule::Read(|of, node, scope| {
            scope.fields(task(&mut of.spec).restart.get_or_insert_default(), node, &RESTART);
        }),
    ),
    (
        "placement",
        KeyRule::Read(|of, node, scope| {
            scope.fields(task(&mut of.spec).placement.get_or_insert_default(), node, &PLACEMENT);
        }),
    ),
    ("resources", KeyRule::Read(|of, node, scope| resources::read(&mut of.spec, node, scope))),
    ("endpoint_mode", KeyRule::Unsupported("ports are published on the nodes that run the tasks, in this version")),
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

const UPDATE: [(&str, KeyRule<UpdateConfig>); 7] = [
    ("parallelism", KeyRule::Read(|update, node, scope| update.parallelism = scope.number(node, 0..=REPLICAS_MAX))),
    ("delay", KeyRule::Read(|update, node, scope| put(&mut update.delay_ns, length(node, scope)))),
    (
        "failure_action",
        KeyRule::Read(|update, node, scope| {
            let actions = [
                ("pause", FailureAction::Pause),
                ("continue", FailureAction::Continue),
                ("rollback", FailureAction::Rollback),
            ];
            put(&mut update.failure_action, scope.word(node, &actions).map(Into::into));
        }),
    ),
    ("monitor", KeyRule::Read(|update, node, scope| update.monitor_ns = length(node, scope))),
    (
        "max_failure_ratio",
        KeyRule::Read(|update, node, scope| {
            put(&mut update.max_failure_ppm, scope.value(node, ratio::parse));
        }),
    ),
    (
        "order",
        KeyRule::Read(|update, node, scope| {
            let orders = [("stop-first", UpdateOrder::StopFirst), ("start-first", UpdateOrder::StartFirst)];
            put(&mut update.order, scope.word(node, &orders).map(Into::into));
        }),
    ),
    ("progress_deadline", KeyRule::Read(|update, node, scope| update.progress_deadline_ns = length(node, scope))),
];

const RESTART: [(&str, KeyRule<RestartPolicy>); 4] = [
    (
        "condition",
        KeyRule::Read(|restart, node, scope| {
            let conditions = [
                ("any", RestartCondition::Any),
                ("on-failure", RestartCondition::OnFailure),
                ("none", RestartCondition::None),
            ];
            restart.condition = scope.word(node, &conditions).map(Into::into);
        }),
    ),
    ("delay", KeyRule::Read(|restart, node, scope| restart.delay_ns = length(node, scope))),
    (
        "max_attempts",
        KeyRule::Read(|restart, node, scope| {
            put(&mut restart.max_attempts, scope.number(node, 0..=RESTART_ATTEMPTS_MAX));
        }),
    ),
    ("window", KeyRule::Read(|restart, node, scope| put(&mut restart.window_ns, length(node, scope)))),
];

const PLACEMENT: [(&str, KeyRule<Placement>); 5] = [
    (
        "constraints",
        KeyRule::Read(|placement, node, scope| {
            placement.constraints = scope.values(node, constraint::parse);
        }),
    ),
    (
        "preferences",
        KeyRule::Read(|placement, node, scope| {
            for item in scope.items(node) {
                scope.fields(placement, item, &PREFERENCE);
            }
        }),
    ),
    (
        "affinities",
        KeyRule::Read(|placement, node, scope| {
            let affinities = scope.values(node, affinity::parse);
            placement.affinities.extend(affinities);
        }),
    ),
    (
        "affinity_preferences",
        KeyRule::Read(|placement, node, scope| {
            let affinities = scope.values(node, affinity::parse_preferred);
            placement.affinities.extend(affinities);
        }),
    ),
    (
        "max_replicas_per_node",
        KeyRule::Read(|placement, node, scope| {
            put(&mut placement.max_replicas, scope.number(node, 0..=REPLICAS_MAX));
        }),
    ),
];

const PREFERENCE: [(&str, KeyRule<Placement>); 1] = [(
    "spread",
    KeyRule::Read(|placement, node, scope| {
        let spread = scope.value(node, |label| constraint::parse_preference(&format!("spread={label}")));
        placement.preferences.extend(spread.map(|spread| PlacementPreference { spread }));
    }),
)];
