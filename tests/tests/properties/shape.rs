//! Random services.

use events::{
    Annotations, ContainerSpec, EndpointSpec, FailureAction, JobSchedule, Overlap, Placement, PlacementPreference,
    PortConfig, PublishMode, Rebalance, Resources, RestartCondition, RestartPolicy, ServiceSpec, TaskSpec,
    UpdateConfig, UpdateOrder,
};
use proptest::prelude::*;

/// A service.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) replicas: Option<u64>,
    pub(super) image: u8,
    pub(super) memory: u8,
    pub(super) zone: Option<u8>,
    /// The service that it depends on, by its position among the existing ones.
    pub(super) depends_on: Option<usize>,
    pub(super) condition: RestartCondition,
    pub(super) delay_secs: Option<u64>,
    pub(super) attempts: u64,
    pub(super) parallelism: u64,
    pub(super) start_first: bool,
    pub(super) on_failure: FailureAction,
    pub(super) update_delay_secs: u64,
    pub(super) monitor_secs: u64,
    pub(super) failure_ppm: u32,
    pub(super) port: Option<u32>,
    pub(super) max_replicas: u64,
    pub(super) progress_deadline_secs: u64,
    /// For a job, how many of its tasks run at the same time.
    pub(super) job: Option<u64>,
    /// For a scheduled job, the schedule and the policy for overlapping runs.
    pub(super) schedule: Option<(&'static str, Overlap)>,
    /// Whether its tasks are spread over zones first, then over nodes.
    pub(super) over_zones: bool,
    /// Rebalancing: the number of tasks per step, and the seconds between steps.
    pub(super) rebalance: Option<(u64, u64)>,
}

/// Any service.
pub(super) fn shape() -> impl Strategy<Value = Shape> {
    let conditions =
        prop_oneof![Just(RestartCondition::Any), Just(RestartCondition::OnFailure), Just(RestartCondition::None)];
    let actions = prop_oneof![Just(FailureAction::Pause), Just(FailureAction::Continue), Just(FailureAction::Rollback)];
    let zone = (prop::option::weighted(0.3, 0..2_u8), prop::option::weighted(0.2, any::<usize>()));
    let what = (prop::option::weighted(0.8, 0..6_u64), 0..3_u8, 0..3_u8, zone);
    let restart = (conditions, prop::option::weighted(0.7, 0..7_u64), 0..3_u64);
    let ratio = prop_oneof![2 => Just(0), 1 => Just(300_000_u32), 1 => Just(500_000)];
    let update = (0..3_u64, any::<bool>(), actions, 0..8_u64, 0..8_u64, ratio);
    let place = (prop::option::weighted(0.2, 8080..8082_u32), prop_oneof![4 => Just(0), 1 => 1..3_u64]);
    let overlaps = prop_oneof![Just(Overlap::Forbid), Just(Overlap::Allow), Just(Overlap::Replace)];
    let job = (prop::option::weighted(0.2, 0..3_u64), prop::option::weighted(0.4, (Just("@hourly"), overlaps)));
    let balance = (prop::bool::weighted(0.3), prop::option::weighted(0.5, (1..4_u64, 1..40_u64)));
    let deadline = (prop_oneof![2 => Just(0), 1 => 1..60_u64], job, balance);
    (what, restart, update, place, deadline).prop_map(
        |(
            (replicas, image, memory, (zone, depends_on)),
            (condition, delay_secs, attempts),
            (parallelism, start_first, on_failure, update_delay_secs, monitor_secs, failure_ppm),
            (port, max_replicas),
            (progress_deadline_secs, (job, schedule), (over_zones, rebalance)),
        )| {
            Shape {
                replicas,
                image,
                memory,
                zone,
                depends_on,
                condition,
                delay_secs,
                attempts,
                parallelism,
                start_first,
                on_failure,
                update_delay_secs,
                monitor_secs,
                failure_ppm,
                port,
                max_replicas,
                progress_deadline_secs,
                job,
                schedule,
                over_zones,
                rebalance,
            }
        },
    )
}

impl Shape {
    pub(super) fn spec(&self, name: &str) -> ServiceSpec {
        let container = ContainerSpec { image: format!("image:{}", self.image), ..ContainerSpec::default() };
        let restart = RestartPolicy {
            condition: Some(self.condition.into()),
            delay_ns: self.delay_secs.map(|seconds| seconds * 1_000_000_000),
            max_attempts: self.attempts,
            ..RestartPolicy::default()
        };
        let mut task = TaskSpec {
            container: Some(container),
            restart: Some(restart),
            placement: Some(self.placement()),
            ..TaskSpec::default()
        };
        let reservations = Resources { memory_bytes: u64::from(self.memory) << 30, ..Resources::default() };
        task.resources.get_or_insert_default().reservations = Some(reservations);
        let order = if self.start_first { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
        let update = UpdateConfig {
            parallelism: Some(self.parallelism),
            failure_action: self.on_failure.into(),
            order: order.into(),
            delay_ns: self.update_delay_secs * 1_000_000_000,
            monitor_ns: Some(self.monitor_secs * 1_000_000_000),
            max_failure_ppm: self.failure_ppm,
            progress_deadline_ns: Some(self.progress_deadline_secs * 1_000_000_000),
        };
        let rollback = UpdateConfig { failure_action: FailureAction::Pause.into(), ..update };
        let port = |published_port| PortConfig {
            target_port: 80,
            published_port,
            publish_mode: PublishMode::Host.into(),
            ..PortConfig::default()
        };
        ServiceSpec {
            endpoint: Some(EndpointSpec { ports: self.port.map(port).into_iter().collect() }),
            annotations: Some(Annotations { name: name.to_owned(), ..Annotations::default() }),
            task: Some(task),
            mode: Some(self.mode()),
            // A job has no updates.
            update: self.job.is_none().then_some(update),
            rollback: self.job.is_none().then_some(rollback),
            schedule: self.job.and(self.schedule).map(|(cron, overlap)| JobSchedule {
                cron: cron.to_owned(),
                overlap: overlap.into(),
                ..JobSchedule::default()
            }),
            // Only replicas are moved.
            rebalance: self
                .rebalance
                .filter(|_| self.job.is_none() && self.replicas.is_some())
                .map(|(tasks, seconds)| Rebalance { max_tasks: Some(tasks), every_ns: Some(seconds * 1_000_000_000) }),
            ..ServiceSpec::default()
        }
    }

    fn placement(&self) -> Placement {
        let preference = PlacementPreference { spread: "node.labels.zone".to_owned() };
        Placement {
            constraints: self.zone.map(|zone| format!("node.labels.zone == {zone}")).into_iter().collect(),
            preferences: self.over_zones.then_some(preference).into_iter().collect(),
            max_replicas: self.max_replicas,
            ..Placement::default()
        }
    }
}
