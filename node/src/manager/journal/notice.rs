//! What an event means to the operator of the cluster: a line of the log, or nothing. Pure: its input is an event, and the states
//! before and after it, which have the names.

use std::collections::BTreeSet;

use events::catalogue::NUMBERS;
use events::spec::defaults::CRASH_LOOP_FROM;
use events::{
    ClusterInitialised, DesiredCause, FeatureLevelRaised, Kind, LeadershipAssumed, MemberAdded, Named,
    NodeDeclaredDown, NodeId, NodeJoined, NodeRegistered, NodeRemoved, QuorumForced, RollbackStarted,
    RootRotationCompleted, RootRotationStarted, RunSkipped, ServiceId, SinkId, SkipCause, TaskCause, TaskCreated,
    TaskId, TaskState, Timestamp, UpdatePaused, UpdateStarted,
};
use projections::views::quorum;
use projections::{Cluster, Instance, Node, Task};

use crate::manager::driver::Published;

/// Places whose crash loop is recorded as logged, some hundred kilobytes. Beyond this number a crash loop may be logged again, as
/// often as the quota of the log allows.
const CRASH_LOOPS_MAX: usize = 10_000;

/// The severity of a notice, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Information for an operator.
    Info,
    /// A condition that may need attention.
    Warn,
    /// A failure.
    Error,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The kind of event.
    pub topic: Topic,
    /// Its severity.
    pub level: Level,
    /// Index of the event's frame.
    pub index: Option<u64>,
    /// Id of the object concerned.
    pub object: Option<String>,
    /// The line.
    pub sentence: String,
}

macro_rules! topics {
    ($($variant:ident $name:literal $plural:literal;)*) => {
        /// The kinds of events that lines report; each has its own quota.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Topic { $($variant),* }

        impl Topic {
            /// The name of the event, or of the change of state.
            pub fn name(self) -> &'static str {
                match self { $(Topic::$variant => $name),* }
            }

            /// The plural, as in a summary.
            pub fn plural(self) -> &'static str {
                match self { $(Topic::$variant => $plural),* }
            }

            const ALL: &[Topic] = &[$(Topic::$variant),*];
        }
    };
}

topics! {
    ClusterInitialised "cluster_initialised" "clusters that were created";
    LeadershipAssumed "leadership_assumed" "changes of leadership";
    LeadershipLost "leadership_lost" "changes of leadership";
    FeatureLevelRaised "feature_level_raised" "feature levels that every manager supports";
    MemberAdded "member_added" "managers that follow the log";
    MemberPromoted "member_promoted" "managers that got a vote";
    MemberDemoted "member_demoted" "managers that lost their vote";
    MemberRemoved "member_removed" "managers that were removed";
    RootRotationStarted "root_rotation_started" "rotations of the root that started";
    RootRotationCompleted "root_rotation_completed" "rotations of the root that completed";
    QuorumForced "quorum_forced" "managers that continued alone";
    NodeJoined "node_joined" "nodes that joined";
    NodeRegistered "node_registered" "nodes that are up";
    NodeBecameReady "node_became_ready" "nodes that are up again";
    NodeDisconnected "node_disconnected" "nodes whose session ended";
    NodeDeclaredDown "node_declared_down" "nodes that went down";
    NodeRemoved "node_removed" "nodes that were removed";
    UpdateStarted "update_started" "updates that started";
    UpdatePaused "update_paused" "updates that paused";
    UpdateResumed "update_resumed" "updates that were resumed";
    UpdateCompleted "update_completed" "updates that completed";
    RollbackStarted "rollback_started" "updates that are rolled back";
    RunSkipped "run_skipped" "runs of jobs that were skipped";
    SinkFailed "sink_failed" "sinks that fail";
    SinkParked "sink_parked" "sinks that are parked";
    TaskGaveUp "task_desired_state_set" "tasks that are no longer restarted";
    TaskCrashLoop "task_created" "tasks that fail repeatedly";
    ServiceSetAside "service_set_aside" "services that are quarantined";
}

/// The [numbers](NUMBERS) of the kinds of events that are logged. Topics have the names of these kinds.
pub fn numbers() -> impl Iterator<Item = u32> {
    let is_topic = |name: &str| Topic::ALL.iter().any(|topic| topic.name() == name);
    NUMBERS.iter().filter(move |(name, _)| is_topic(name)).map(|(_, number)| *number)
}

/// The places whose crash loop was logged. Each is logged once, until its tasks have run long enough again to count as healthy.
#[derive(Debug, Default)]
pub struct CrashLoops {
    logged: BTreeSet<(ServiceId, Instance)>,
}

impl CrashLoops {
    /// Whether a place whose task is restarted is in a crash loop that was not logged yet. It is then marked as logged.
    fn is_new(&mut self, cluster: &Cluster, place: (ServiceId, Instance)) -> bool {
        let is_loop = |place| cluster.restarts_in(place).is_some_and(|restarts| restarts.in_a_row() >= CRASH_LOOP_FROM);
        if !is_loop(place) {
            self.logged.remove(&place);
            return false;
        }
        if self.logged.len() >= CRASH_LOOPS_MAX {
            self.logged.retain(|place| is_loop(*place));
        }
        if self.logged.len() >= CRASH_LOOPS_MAX {
            return !self.logged.contains(&place);
        }
        self.logged.insert(place)
    }
}

/// The context of an event: the states before and after it. The one after may include later events.
#[derive(Debug, Clone, Copy)]
pub struct Witness<'a> {
    /// Index of the event's frame.
    pub index: u64,
    /// A state before the event.
    pub before: &'a Cluster,
    /// A state after it.
    pub after: &'a Cluster,
}

impl Witness<'_> {
    /// The notice for an event. Each kind has one line: longer ones have a function of their own.
    pub fn notice(&self, kind: &Kind, crash_loops: &mut CrashLoops) -> Option<Notice> {
        use Level::{Info, Warn};
        let node = |topic, level, id: NodeId, what: &str| self.of(topic, level, id, self.node(id) + what);
        match kind {
            Kind::ClusterInitialised(e) => self.of_cluster(Topic::ClusterInitialised, initialised(e)),
            Kind::LeadershipAssumed(e) => node(Topic::LeadershipAssumed, Info, e.node, &leads(e)),
            Kind::FeatureLevelRaised(e) => self.of_cluster(Topic::FeatureLevelRaised, raised(e)),
            Kind::MemberAdded(e) => (!e.voter).then(|| node(Topic::MemberAdded, Info, e.node, &follows(e))).flatten(),
            Kind::MemberPromoted(e) => self.promoted(e.node),
            Kind::MemberDemoted(e) => node(Topic::MemberDemoted, Info, e.node, " no longer votes as a manager"),
            Kind::MemberRemoved(e) => node(Topic::MemberRemoved, Info, e.node, " is no longer a manager"),
            Kind::RootRotationStarted(e) => self.of_cluster(Topic::RootRotationStarted, rotation_started(e)),
            Kind::RootRotationCompleted(e) => self.of_cluster(Topic::RootRotationCompleted, rotation_completed(e)),
            Kind::QuorumForced(e) => node(Topic::QuorumForced, Warn, e.node, &forced(e)),
            Kind::NodeJoined(e) => self.of(Topic::NodeJoined, Info, e.node, joined(e)),
            Kind::NodeRegistered(e) => self.registered(e),
            Kind::NodeBecameReady(e) => node(Topic::NodeBecameReady, Info, e.node, " is up again in the same session"),
            Kind::NodeDisconnected(e) => node(Topic::NodeDisconnected, Info, e.node, DISCONNECTED),
            Kind::NodeDeclaredDown(e) => node(Topic::NodeDeclaredDown, Warn, e.node, &declared_down(e)),
            Kind::NodeRemoved(e) => node(Topic::NodeRemoved, Info, e.node, &removed(e)),
            Kind::UpdateStarted(e) => self.rollout(Topic::UpdateStarted, Info, e.service, e.rollback(), &started(e)),
            Kind::UpdatePaused(e) => self.paused(e),
            Kind::UpdateResumed(e) => self.rollout(Topic::UpdateResumed, Info, e.service, e.rollback(), "was resumed"),
            Kind::UpdateCompleted(e) => {
                self.rollout(Topic::UpdateCompleted, Info, e.service, e.rollback(), "completed")
            }
            Kind::RollbackStarted(e) => self.rolled_back(e),
            Kind::RunSkipped(e) => self.skipped(e),
            Kind::SinkFailed(e) => self.sink(Topic::SinkFailed, e.sink, "fails, and is retried", &e.reason),
            Kind::SinkParked(e) => {
                self.sink(Topic::SinkParked, e.sink, "failed for a day and is stopped (parked)", &e.reason)
            }
            Kind::TaskDesiredStateSet(e) if e.cause() == DesiredCause::Restart => self.gave_up(&e.tasks),
            Kind::TaskCreated(e) if e.cause() == TaskCause::Restart => self.crash_loop(e, crash_loops),
            Kind::TaskCreated(_)
            | Kind::TaskDesiredStateSet(_)
            | Kind::StateHashRecorded(_)
            | Kind::ClusterSpecUpdated(_)
            | Kind::JoinTokenRotated(_)
            | Kind::RootCaGenerated(_)
            | Kind::NodeMovedToRoot(_)
            | Kind::OperatorCreated(_)
            | Kind::OperatorRevoked(_)
            | Kind::OperatorRenewed(_)
            | Kind::SecretsRead(_)
            | Kind::AccessRefused(_)
            | Kind::UnlockKeyChanged(_)
            | Kind::HistoryTagged(_)
            | Kind::HistoryUntagged(_)
            | Kind::HistoryRedacted(_)
            | Kind::CertificateIssued(_)
            | Kind::ManagerAnnounced(_)
            | Kind::NodeDescribed(_)
            | Kind::NodeSpecUpdated(_)
            | Kind::ServiceCreated(_)
            | Kind::ServiceSpecUpdated(_)
            | Kind::ServiceScaled(_)
            | Kind::ServiceRebalanced(_)
            | Kind::ServiceRemoved(_)
            | Kind::UpdateTasksOverdue(_)
            | Kind::TaskAssigned(_)
            | Kind::TaskPlacementFailed(_)
            | Kind::TaskReported(_)
            | Kind::TaskRejected(_)
            | Kind::TaskOrphaned(_)
            | Kind::TaskReaped(_)
            | Kind::TaskAccessed(_)
            | Kind::ConfigCreated(_)
            | Kind::ConfigSpecUpdated(_)
            | Kind::ConfigRevised(_)
            | Kind::ConfigRemoved(_)
            | Kind::SecretCreated(_)
            | Kind::SecretSpecUpdated(_)
            | Kind::SecretRevised(_)
            | Kind::SecretRemoved(_)
            | Kind::SinkCreated(_)
            | Kind::SinkRemoved(_)
            | Kind::SinkPaused(_)
            | Kind::SinkResumed(_)
            | Kind::SinkProgressed(_)
            | Kind::RunScheduled(_)
            | Kind::RunStarted(_) => None,
        }
    }

    fn of_cluster(&self, topic: Topic, sentence: String) -> Option<Notice> {
        self.of(topic, Level::Info, self.after.id(), sentence)
    }

    fn registered(&self, event: &NodeRegistered) -> Option<Notice> {
        let (id, addr) = (event.node, &event.addr);
        let held = self.after.nodes.get(id).filter(|node| node.held_until.is_some());
        let (level, what) = match held.map(Node::liveness_message) {
            None => (Level::Info, format!(" is up, at {addr}")),
            Some(why) => (Level::Warn, format!(" is connected, at {addr}, and still counts as down: {why}")),
        };
        self.of(Topic::NodeRegistered, level, id, self.node(id) + &what)
    }

    fn promoted(&self, id: NodeId) -> Option<Notice> {
        let sentence = format!("{} has caught up, and votes as a manager", self.node(id));
        match quorum::warning(quorum::voters(self.after).count()) {
            None => self.of(Topic::MemberPromoted, Level::Info, id, sentence),
            Some(warning) => self.of(Topic::MemberPromoted, Level::Warn, id, format!("{sentence}; {warning}")),
        }
    }

    fn rollout(&self, topic: Topic, level: Level, id: ServiceId, is_rollback: bool, what: &str) -> Option<Notice> {
        let rollout = if is_rollback { "rollback" } else { "update" };
        self.of(topic, level, id, format!("the {rollout} of service {} {what}", self.service(id)))
    }

    fn paused(&self, event: &UpdatePaused) -> Option<Notice> {
        let what = format!("paused: {}", self.cause(&event.reason));
        self.rollout(Topic::UpdatePaused, Level::Warn, event.service, event.rollback(), &what)
    }

    fn rolled_back(&self, event: &RollbackStarted) -> Option<Notice> {
        let what = format!("is rolled back: {}", self.cause(&event.reason));
        self.rollout(Topic::RollbackStarted, Level::Warn, event.service, false, &what)
    }

    fn skipped(&self, event: &RunSkipped) -> Option<Notice> {
        let cause = match event.cause() {
            SkipCause::Overlap => "the previous one is still running",
            SkipCause::Late => "it would start after its deadline",
        };
        let name = self.service(event.service);
        let sentence = format!("job {name} does not run as it should have at {}: {cause}", event.due.minute());
        self.of(Topic::RunSkipped, Level::Warn, event.service, sentence)
    }

    fn sink(&self, topic: Topic, id: SinkId, what: &str, why: &str) -> Option<Notice> {
        let sink = self.after.sinks.get(id)?;
        self.of(topic, Level::Warn, id, format!("sink {} {what}: {why}", sink.spec.name))
    }

    fn of(&self, topic: Topic, level: Level, object: impl ToString, sentence: String) -> Option<Notice> {
        Some(Notice { topic, level, index: Some(self.index), object: Some(object.to_string()), sentence })
    }

    /// Of the released tasks, those that failed and are not replaced.
    fn gave_up(&self, tasks: &[TaskId]) -> Option<Notice> {
        let is_filled = |task: &Task| self.after.tasks_of_instance(task.service, task.instance()).any(Task::is_wanted);
        let failed = |task: &&Task| matches!(task.state, TaskState::Failed | TaskState::Rejected | TaskState::Orphaned);
        let known = tasks.iter().filter_map(|task| self.after.tasks.get(*task)).filter(failed);
        let mut given_up = known.filter(|task| self.after.services.contains(task.service) && !is_filled(task));
        let task = given_up.next()?;
        let why = task
            .status
            .as_ref()
            .map_or("", |status| if status.error.is_empty() { status.message.as_str() } else { status.error.as_str() });
        let place = self.place(task.service, task.instance());
        let more = match given_up.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let sentence = format!("task {place}{more} gave up: {why}; its restart policy does not start it again");
        self.of(Topic::TaskGaveUp, Level::Warn, task.id, sentence)
    }

    /// A place that fails repeatedly: the notice about it, unless it was already logged.
    fn crash_loop(&self, event: &TaskCreated, crash_loops: &mut CrashLoops) -> Option<Notice> {
        let task = self.after.tasks.get(event.task)?;
        if !crash_loops.is_new(self.after, (task.service, task.instance())) {
            return None;
        }
        let restarts = self.after.restarts_in((task.service, task.instance()))?;
        let times = restarts.in_a_row();
        let service = self.after.services.get(task.service)?;
        let pace = match service.spec.restart_policy().delay {
            Some(delay) => format!("it is restarted {delay:?} after each time"),
            None => "each restart is delayed longer than the one before, up to a limit".to_owned(),
        };
        let place = self.place(task.service, task.instance());
        let sentence = match &*restarts.last_failure {
            "" => format!("task {place} exited {times} times in a row, without an error; {pace}"),
            why => format!("task {place} failed {times} times in a row; {pace}: {why}"),
        };
        self.of(Topic::TaskCrashLoop, Level::Warn, event.task, sentence)
    }

    /// The cause of a stopped rollout: the failure of the task that ends the reason, if it is still recorded.
    fn cause(&self, reason: &str) -> String {
        let task = reason.rsplit(' ').next().and_then(|id| id.parse().ok());
        let task = task.and_then(|id| self.after.tasks.get(id).or_else(|| self.before.tasks.get(id)));
        let Some(task) = task else { return reason.to_owned() };
        let place = self.place(task.service, task.instance());
        match task.status.as_ref().map_or("", |status| &status.error) {
            "" if task.state == TaskState::Complete => format!("task {place} exited with code 0"),
            "" => format!("task {place} failed"),
            why => format!("task {place} failed: {why}"),
        }
    }

    fn node(&self, id: NodeId) -> String {
        let known = self.after.nodes.get(id).or_else(|| self.before.nodes.get(id));
        known.map_or_else(|| format!("node {id}"), |node| format!("node {}", node.hostname()))
    }

    fn service(&self, id: ServiceId) -> String {
        let known = self.after.services.get(id).or_else(|| self.before.services.get(id));
        known.map_or_else(|| id.to_string(), |service| service.spec.name().to_owned())
    }

    fn place(&self, service: ServiceId, instance: Instance) -> String {
        let service = self.service(service);
        match instance {
            Instance::Slot(slot) => format!("{service}.{slot}"),
            Instance::Node(node) => {
                let known = self.after.nodes.get(node).map(|node| node.hostname().to_owned());
                format!("{service}.{}", known.unwrap_or_else(|| node.to_string()))
            }
        }
    }
}

/// A time, truncated to seconds.
pub fn seconds(time: Timestamp) -> String {
    let text = time.to_string();
    text.split_once('.').map_or_else(|| text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

const DISCONNECTED: &str = " ended its session; unless it is back soon, it is down";

fn initialised(event: &ClusterInitialised) -> String {
    format!("cluster {} was created", event.cluster)
}

fn leads(event: &LeadershipAssumed) -> String {
    format!(" leads the cluster in term {}", event.term)
}

fn raised(event: &FeatureLevelRaised) -> String {
    format!("every manager supports feature level {}, which the log uses from here on", event.level)
}

fn follows(event: &MemberAdded) -> String {
    format!(" follows the log as a manager, at {}", event.addr)
}

fn rotation_started(event: &RootRotationStarted) -> String {
    format!("nodes move to another root certificate, {}", event.digest)
}

fn rotation_completed(event: &RootRotationCompleted) -> String {
    format!("every node has moved to the root certificate {}: only that is trusted now", event.digest)
}

fn joined(event: &NodeJoined) -> String {
    format!("node {} joined as {}, from {}", event.hostname, event.spec.role().name(), event.addr)
}

fn declared_down(event: &NodeDeclaredDown) -> String {
    let since = seconds(event.last_heard);
    // Heartbeats are not logged: the last one before is unknown.
    let leader = if event.unheard() { ", when a manager took over; it may have been down before" } else { "" };
    format!(" is down: no heartbeat since {since}{leader}")
}

fn started(event: &UpdateStarted) -> String {
    let tasks = if event.slots == 1 { "task" } else { "tasks" };
    format!("started: {} {tasks} to replace", event.slots)
}

fn removed(event: &NodeRemoved) -> String {
    let how = match (event.forced, event.forgotten) {
        (_, true) => " because it never registered",
        (true, false) => " by force",
        (false, false) => "",
    };
    format!(" was removed{how}")
}

fn forced(event: &QuorumForced) -> String {
    let fenced = event.fenced.len();
    format!(" continues as the only manager; the raft ids of the {fenced} earlier managers are refused from now on")
}

/// Notices about changes other than events: of state that only this manager has.
pub fn of_states(before: &Published, after: &Published) -> Vec<Notice> {
    let mut notices = Vec::new();
    if before.leads && !after.leads {
        let sentence = "this manager no longer leads the cluster".to_owned();
        let (topic, level) = (Topic::LeadershipLost, Level::Warn);
        notices.push(Notice { topic, level, index: None, object: None, sentence });
    }
    if std::sync::Arc::ptr_eq(&before.quarantined, &after.quarantined) {
        return notices;
    }
    let newly = after.quarantined.iter().filter(|(service, until)| before.quarantined.get(*service) != Some(*until));
    for (service, until) in newly {
        let name = after.cluster.services.get(*service).map_or("", |service| service.spec.name());
        let sentence = format!(
            "service {name} is quarantined until {}: the reconcilers do not converge on it, which is a bug \
             in swarmd; its tasks stay as they are",
            seconds(*until)
        );
        let (topic, level, object) = (Topic::ServiceSetAside, Level::Error, Some(service.to_string()));
        notices.push(Notice { topic, level, index: None, object, sentence });
    }
    notices
}

#[cfg(test)]
mod tests;
