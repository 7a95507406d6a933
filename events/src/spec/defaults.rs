//! Defaults. The log stores the user's sparse spec; readers fill the gaps here, so that all defaults are in one place. The values
//! are SwarmKit's (`api/defaults/service.go`).

use std::sync::LazyLock;
use std::time::Duration;

use crate::CommandId;
use crate::schema::service_spec::Mode;
use crate::schema::*;

/// Time between the stop signal and a kill.
pub const STOP_GRACE_PERIOD: Duration = Duration::from_secs(10);
/// Pause before a task is restarted after its first failure, if the policy sets none; each further failure in a row doubles it.
pub const RESTART_DELAY: Duration = Duration::from_secs(5);
/// Maximum of that pause: a task that never becomes healthy is still retried a dozen times an hour.
pub const RESTART_DELAY_MAX: Duration = Duration::from_secs(300);
/// A task that ran for this long was healthy: its failure is the first of a new row.
pub const RESTART_HEALTHY_AFTER: Duration = Duration::from_secs(600);
/// Ends in a row from which a task counts as being in a crash loop. By then the next attempt is more than a minute away, unless
/// the policy sets a delay.
pub const CRASH_LOOP_FROM: u64 = 5;
/// How long an updated task is monitored for failure.
pub const UPDATE_MONITOR: Duration = Duration::from_secs(5);
/// Tasks moved in one step of rebalancing.
pub const REBALANCE_TASKS: u64 = 1;
/// Time between two steps.
pub const REBALANCE_EVERY: Duration = Duration::from_secs(30);
/// Time over which the resource use of tasks is averaged for autoscaling.
pub const AUTOSCALE_WINDOW: Duration = Duration::from_secs(60);
/// Time after a change of the number of replicas before it can be lowered.
pub const AUTOSCALE_COOL_DOWN: Duration = Duration::from_secs(300);
/// One CPU, in billionths.
const PROCESSOR: u64 = 1_000_000_000;
/// Tasks kept in a slot, including the live one.
pub const TASK_HISTORY_LIMIT: i64 = 5;
/// Maximum time between two heartbeats of an agent.
pub const HEARTBEAT_PERIOD: Duration = Duration::from_secs(5);
/// Missed heartbeats after which a node is down.
pub const HEARTBEAT_GRACE: u32 = 3;
/// Lifetime of a node's certificate.
pub const NODE_CERT_EXPIRY: Duration = Duration::from_secs(2160 * 3600);
/// Maximum number of nodes.
pub const NODES_MAX: u32 = 100_000;
/// Name of the only cluster object.
pub const CLUSTER_NAME: &str = "default";

/// A restart policy with all defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// Which ends of a task require a replacement.
    pub condition: RestartCondition,
    /// Pause before the replacement starts, if the policy sets one.
    pub delay: Option<Duration>,
    /// Maximum number of restarts within the window; 0: no limit.
    pub max_attempts: u64,
    /// The window; zero: the whole lifetime of the task.
    pub window: Duration,
}

/// An update or rollback configuration with all defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollout {
    /// Slots replaced at the same time; 0: all.
    pub parallelism: u64,
    /// Pause after each slot.
    pub delay: Duration,
    /// How long a new task is monitored once it is running.
    pub monitor: Duration,
    /// The action after too many failures.
    pub failure_action: FailureAction,
    /// Tolerated share of failed tasks in millionths.
    pub max_failure_ppm: u32,
    /// Whether the old or the new task comes first.
    pub order: UpdateOrder,
    /// How long a new task may take until it is running; zero: no limit.
    pub progress_deadline: Duration,
}

/// How tasks are moved to nodes with fewer of them, with all defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebalancing {
    /// Maximum number of tasks moved in one step.
    pub max_tasks: u64,
    /// Time between two steps.
    pub every: Duration,
}

/// An autoscaling rule with all defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Autoscaling {
    /// Minimum number of replicas.
    pub min: u64,
    /// Maximum number of replicas.
    pub max: u64,
    /// Target for the CPU use of a task.
    pub cpu_percent: Option<u32>,
    /// Target for the memory use of a task.
    pub memory_percent: Option<u32>,
    /// The time over which use is averaged.
    pub window: Duration,
    /// Time after the last change before the number can be lowered.
    pub cool_down: Duration,
}

/// How many tasks of a job have to complete, and how many run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completions {
    /// Maximum number of concurrent tasks.
    pub concurrent: u64,
    /// Tasks that have to complete.
    pub total: u64,
}

impl Restart {
    /// The pause after this many failures in a row: the configured one, or one that grows.
    pub fn delay_after(&self, failures: u64) -> Duration {
        self.delay.unwrap_or_else(|| {
            let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
            RESTART_DELAY.saturating_mul(2_u32.saturating_pow(doublings)).min(RESTART_DELAY_MAX)
        })
    }
}

static EMPTY_TASK: LazyLock<TaskSpec> = LazyLock::new(TaskSpec::default);
static EMPTY_CONTAINER: LazyLock<ContainerSpec> = LazyLock::new(ContainerSpec::default);
static EMPTY_PLACEMENT: LazyLock<Placement> = LazyLock::new(Placement::default);
static EMPTY_RESOURCES: LazyLock<Resources> = LazyLock::new(Resources::default);
static EMPTY_ANNOTATIONS: LazyLock<Annotations> = LazyLock::new(Annotations::default);

impl ServiceSpec {
    /// The service's name and labels.
    pub fn annotations(&self) -> &Annotations {
        self.annotations.as_ref().unwrap_or(&EMPTY_ANNOTATIONS)
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.annotations().name
    }

    /// The spec of its tasks.
    pub fn template(&self) -> &TaskSpec {
        self.task.as_ref().unwrap_or(&EMPTY_TASK)
    }

    /// How many tasks it has, and where. A spec without a mode has one replica.
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::Replicated(ReplicatedMode { replicas: 1 }))
    }

    /// The number of replicas of a replicated service; `None` for any other.
    pub fn replicas(&self) -> Option<u64> {
        match self.mode() {
            Mode::Replicated(mode) => Some(mode.replicas),
            Mode::Global(_) | Mode::ReplicatedJob(_) | Mode::GlobalJob(_) => None,
        }
    }

    /// Whether every node gets one task.
    pub fn is_global(&self) -> bool {
        match self.mode() {
            Mode::Global(_) | Mode::GlobalJob(_) => true,
            Mode::Replicated(_) | Mode::ReplicatedJob(_) => false,
        }
    }

    /// Whether its tasks run once, and end when they have completed.
    pub fn is_job(&self) -> bool {
        match self.mode() {
            Mode::ReplicatedJob(_) | Mode::GlobalJob(_) => true,
            Mode::Replicated(_) | Mode::Global(_) => false,
        }
    }

    /// The numbers of a job that is not bound to nodes, with defaults filled in; `None` for any other service.
    pub fn completions(&self) -> Option<Completions> {
        match self.mode() {
            Mode::ReplicatedJob(ReplicatedJobMode { max_concurrent: 0, total_completions: total }) => {
                Some(Completions { concurrent: total, total })
            }
            Mode::ReplicatedJob(ReplicatedJobMode { max_concurrent: concurrent, total_completions: total }) => {
                Some(Completions { concurrent, total })
            }
            Mode::Replicated(_) | Mode::Global(_) | Mode::GlobalJob(_) => None,
        }
    }

    /// The desired state of a task that should run: for a job, that it completes.
    pub fn desired_state(&self) -> TaskState {
        if self.is_job() { TaskState::Complete } else { TaskState::Running }
    }

    /// When a task that ended is replaced. A completed task of a job never is.
    pub fn restart_policy(&self) -> Restart {
        let policy = self.template().restart_policy();
        match policy.condition {
            RestartCondition::Any if self.is_job() => Restart { condition: RestartCondition::OnFailure, ..policy },
            RestartCondition::Any | RestartCondition::OnFailure | RestartCondition::None => policy,
        }
    }

    /// Ports opened on the node that runs a task.
    pub fn host_ports(&self) -> impl Iterator<Item = &PortConfig> {
        let ports = self.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
        ports.filter(|port| port.publish_mode() == PublishMode::Host && port.published_port != 0)
    }

    /// Whether tasks of both specs are equal. New credentials for the registry do not affect a running task, and neither does
    /// anything invisible to it, such as the order of its variables.
    pub fn same_template(&self, other: &ServiceSpec) -> bool {
        let is_same = || self.template().as_seen_by_tasks() == other.template().as_seen_by_tasks();
        self.endpoint == other.endpoint && (self.template() == other.template() || is_same())
    }

    /// The rebalancing rule; `None` if it is not enabled, or the service is not replicated.
    pub fn rebalancing(&self) -> Option<Rebalancing> {
        let rule = self.rebalance.filter(|_| self.replicas().is_some())?;
        Some(Rebalancing {
            max_tasks: rule.max_tasks.unwrap_or(REBALANCE_TASKS),
            every: rule.every_ns.map_or(REBALANCE_EVERY, Duration::from_nanos),
        })
    }

    /// The autoscaling rule; `None` if it is not enabled, or the service is not replicated.
    pub fn autoscaling(&self) -> Option<Autoscaling> {
        let rule = self.autoscale.filter(|_| self.replicas().is_some())?;
        Some(Autoscaling {
            min: rule.min_replicas,
            max: rule.max_replicas,
            cpu_percent: rule.cpu_percent,
            memory_percent: rule.memory_percent,
            window: rule.window_ns.map_or(AUTOSCALE_WINDOW, Duration::from_nanos),
            cool_down: rule.cool_down_ns.map_or(AUTOSCALE_COOL_DOWN, Duration::from_nanos),
        })
    }

    /// The CPU and memory that correspond to a use of 100 %: the reservation, or else the limit, or else one CPU; for memory,
    /// otherwise none.
    pub fn whole_use(&self) -> Resources {
        let of = self.template().resources.as_ref();
        let known = |part: fn(&Resources) -> u64| {
            let given = of.into_iter().flat_map(|of| [of.reservations.as_ref(), of.limits.as_ref()]);
            given.flatten().map(part).find(|amount| *amount > 0)
        };
        let (nano_cpus, memory_bytes) = (known(|of| of.nano_cpus), known(|of| of.memory_bytes));
        Resources {
            nano_cpus: nano_cpus.unwrap_or(PROCESSOR),
            memory_bytes: memory_bytes.unwrap_or(0),
            ..Resources::default()
        }
    }

    /// The configuration of an update.
    pub fn update_rollout(&self) -> Rollout {
        rollout(self.update.as_ref())
    }

    /// The configuration of a rollback.
    pub fn rollback_rollout(&self) -> Rollout {
        rollout(self.rollback.as_ref())
    }
}

/// The name of a variable that is set or unset.
fn env_name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

fn rollout(config: Option<&UpdateConfig>) -> Rollout {
    let config = config.cloned().unwrap_or_default();
    Rollout {
        parallelism: config.parallelism.unwrap_or(1),
        delay: Duration::from_nanos(config.delay_ns),
        monitor: config.monitor_ns.map_or(UPDATE_MONITOR, Duration::from_nanos),
        failure_action: config.failure_action(),
        max_failure_ppm: config.max_failure_ppm,
        order: config.order(),
        progress_deadline: Duration::from_nanos(config.progress_deadline_ns.unwrap_or(0)),
    }
}

impl TaskSpec {
    /// The spec as visible to a task: without the name of its registry credentials and its pull policy, with lists sorted if
    /// their order makes no difference, and without values that equal the defaults.
    pub fn as_seen_by_tasks(&self) -> TaskSpec {
        let mut spec = self.clone();
        if let Some(placement) = &mut spec.placement {
            placement.constraints.sort();
        }
        if spec.placement.as_ref() == Some(&*EMPTY_PLACEMENT) {
            spec.placement = None;
        }
        if let Some(container) = &mut spec.container {
            container.registry_auth_key.clear();
            container.pull_policy = PullPolicy::Missing.into();
            // If a name is repeated, the last one counts.
            container.env.sort_by(|one, other| env_name(one).cmp(env_name(other)));
            container.capability_add.sort();
            container.capability_drop.sort();
            container.groups.sort();
            container.configs.iter_mut().for_each(|reference| reference.pinned = false);
            container.secrets.iter_mut().for_each(|reference| reference.pinned = false);
            container.mounts.sort_by(|one, other| one.target.cmp(&other.target));
            container.stop_grace_period_ns.take_if(|grace| Duration::from_nanos(*grace) == STOP_GRACE_PERIOD);
        }
        spec
    }

    /// The container of a task.
    pub fn container(&self) -> &ContainerSpec {
        self.container.as_ref().unwrap_or(&EMPTY_CONTAINER)
    }

    /// Placement rules.
    pub fn placement(&self) -> &Placement {
        self.placement.as_ref().unwrap_or(&EMPTY_PLACEMENT)
    }

    /// The resources that the scheduler reserves for each task.
    pub fn reserved(&self) -> &Resources {
        self.resources.as_ref().and_then(|resources| resources.reservations.as_ref()).unwrap_or(&EMPTY_RESOURCES)
    }

    /// When a task that ended is replaced.
    pub fn restart_policy(&self) -> Restart {
        let policy = self.restart.unwrap_or_default();
        Restart {
            condition: policy.condition.map_or(RestartCondition::Any, |_| policy.condition()),
            delay: policy.delay_ns.map(Duration::from_nanos),
            max_attempts: policy.max_attempts,
            window: Duration::from_nanos(policy.window_ns),
        }
    }
}

impl ConfigSpec {
    /// The config's name and labels.
    pub fn annotations(&self) -> &Annotations {
        self.annotations.as_ref().unwrap_or(&EMPTY_ANNOTATIONS)
    }

    /// The config's name.
    pub fn name(&self) -> &str {
        &self.annotations().name
    }

    /// Whether nodes expand its data as a template.
    pub fn is_template(&self) -> bool {
        !self.template_driver.is_empty()
    }
}

impl SecretSpec {
    /// The secret's name and labels.
    pub fn annotations(&self) -> &Annotations {
        self.annotations.as_ref().unwrap_or(&EMPTY_ANNOTATIONS)
    }

    /// The secret's name.
    pub fn name(&self) -> &str {
        &self.annotations().name
    }

    /// Whether nodes expand its data as a template.
    pub fn is_template(&self) -> bool {
        !self.template_driver.is_empty()
    }
}

impl NodeDescription {
    /// The name of the executor of plain processes.
    pub const PROCESS_EXECUTOR: &str = "process";

    /// Whether tasks are plain processes on this node.
    pub fn runs_processes(&self) -> bool {
        self.executor == Self::PROCESS_EXECUTOR
    }
}

impl ContainerSpec {
    /// Time between the stop signal and a kill.
    pub fn stop_grace(&self) -> Duration {
        self.stop_grace_period_ns.map_or(STOP_GRACE_PERIOD, Duration::from_nanos)
    }
}

impl ClusterSpec {
    /// Tasks kept in a slot, including the live one; negative: all.
    pub fn history_limit(&self) -> i64 {
        self.task_history_limit.unwrap_or(TASK_HISTORY_LIMIT)
    }

    /// Maximum time between two heartbeats of an agent: that of a cluster with many nodes.
    pub fn heartbeat_period(&self) -> Duration {
        self.heartbeat_period_ns.map_or(HEARTBEAT_PERIOD, Duration::from_nanos)
    }

    /// Missed heartbeats after which a node is down.
    pub fn heartbeats_missed(&self) -> u32 {
        self.heartbeat_grace.unwrap_or(HEARTBEAT_GRACE)
    }

    /// Maximum number of nodes.
    pub fn node_limit(&self) -> usize {
        self.nodes_max.unwrap_or(NODES_MAX) as usize
    }

    /// The placement strategy of a service with this placement.
    pub fn strategy_of(&self, placement: &Placement) -> PlacementStrategy {
        placement.strategy.map_or_else(|| self.placement_strategy(), |_| placement.strategy())
    }

    /// Lifetime of a node's certificate.
    pub fn cert_expiry(&self) -> Duration {
        self.node_cert_expiry_ns.map_or(NODE_CERT_EXPIRY, Duration::from_nanos)
    }
}

impl ActorKind {
    /// Whether it is a person or a tool, and not a node or a manager itself.
    pub fn is_user(self) -> bool {
        match self {
            ActorKind::Operator | ActorKind::CertifiedOperator | ActorKind::Joiner => true,
            ActorKind::Node | ActorKind::Manager => false,
        }
    }
}

impl CommandRecord {
    /// The operation that it belongs to: that of its correlation, or its own. A command without an id, such as one that reads a
    /// secret, has none: it is an operation by itself.
    pub fn operation(&self) -> Option<CommandId> {
        self.correlation.or(Some(self.id)).filter(|id| *id != CommandId::default())
    }
}

impl TaskState {
    /// Whether this state is final.
    pub fn is_terminal(self) -> bool {
        self > TaskState::Running
    }

    /// Whether a task with this desired state should run, now or later. One that should complete is wanted until it has.
    pub fn is_wanted(self) -> bool {
        match self {
            TaskState::New
            | TaskState::Pending
            | TaskState::Assigned
            | TaskState::Accepted
            | TaskState::Preparing
            | TaskState::Ready
            | TaskState::Starting
            | TaskState::Running
            | TaskState::Complete => true,
            TaskState::Shutdown | TaskState::Failed | TaskState::Rejected | TaskState::Remove | TaskState::Orphaned => {
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_what_its_name_says() {
        let table = [
            (None, Some(1), false),
            (Some(Mode::Replicated(ReplicatedMode { replicas: 0 })), Some(0), false),
            (Some(Mode::Replicated(ReplicatedMode { replicas: 7 })), Some(7), false),
            (Some(Mode::Global(GlobalMode {})), None, true),
            (Some(Mode::ReplicatedJob(ReplicatedJobMode { max_concurrent: 1, total_completions: 2 })), None, false),
            (Some(Mode::GlobalJob(GlobalJobMode {})), None, true),
        ];
        for (mode, replicas, is_global) in table {
            let spec = ServiceSpec { mode, ..ServiceSpec::default() };
            assert_eq!((spec.replicas(), spec.is_global()), (replicas, is_global), "{mode:?}");
        }
    }

    #[test]
    fn what_a_task_cannot_see_makes_no_other_template() {
        type Edit<'a> = &'a dyn Fn(&mut ContainerSpec);
        let spec = |edit: Edit| {
            let mut container = ContainerSpec { env: vec!["A=1".into(), "B=2".into()], ..ContainerSpec::default() };
            container.capability_add = vec!["NET_ADMIN".into(), "SYS_TIME".into()];
            edit(&mut container);
            let task = TaskSpec { container: Some(container), ..TaskSpec::default() };
            ServiceSpec { task: Some(task), ..ServiceSpec::default() }
        };
        let table: [(Edit, bool); 9] = [
            (&|_| {}, true),
            (&|container| container.env.reverse(), true),
            (&|container| container.capability_add.reverse(), true),
            (&|container| container.registry_auth_key = "key".into(), true),
            (&|container| container.pull_policy = PullPolicy::Always.into(), true),
            (&|container| container.stop_grace_period_ns = Some(10_000_000_000), true),
            (&|container| container.stop_grace_period_ns = Some(11_000_000_000), false),
            (&|container| container.env = vec!["A=1".into(), "B=3".into()], false),
            // Repeated names are not normalized: which value counts depends on the container.
            (&|container| container.env = vec!["A=1".into(), "B=3".into(), "B=2".into()], false),
        ];
        for (row, (edit, same)) in table.into_iter().enumerate() {
            assert_eq!(spec(&|_| {}).same_template(&spec(edit)), same, "row {row}");
        }
    }

    #[test]
    fn what_is_to_complete_is_wanted_and_what_is_to_stop_is_not() {
        let wanted = [TaskState::New, TaskState::Ready, TaskState::Running, TaskState::Complete];
        let unwanted = [TaskState::Shutdown, TaskState::Remove, TaskState::Orphaned];
        assert!(wanted.into_iter().all(TaskState::is_wanted));
        assert!(!unwanted.into_iter().any(TaskState::is_wanted));
    }

    #[test]
    fn a_named_delay_is_the_delay_and_any_other_doubles_to_five_minutes() {
        let seconds = |delay_ns: Option<u64>| {
            let policy = RestartPolicy { delay_ns, ..RestartPolicy::default() };
            let task = TaskSpec { restart: Some(policy), ..TaskSpec::default() };
            [0, 1, 2, 3, 6, 7, 8, 1_000, u64::MAX]
                .map(|failures| task.restart_policy().delay_after(failures).as_secs_f64())
        };
        assert_eq!(seconds(None), [5.0, 5.0, 10.0, 20.0, 160.0, 300.0, 300.0, 300.0, 300.0]);
        for named in [0.0, 0.3, 1.0, 900.0] {
            assert_eq!(seconds(Some((named * 1e9) as u64)), [named; 9]);
        }
    }
}
