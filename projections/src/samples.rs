//! Small clusters for the tables of cases beside the projections, described in a few words.

use events::service_spec::Mode;
use events::{
    Annotations, ContainerSpec, DesiredCause, Event, Id, Kind, NodeId, NodeJoined, Reconciler, ReplicatedMode,
    RestartPolicy, ServiceCreated, ServiceId, ServiceRemoved, ServiceScaled, ServiceSpec, ServiceSpecUpdated,
    SpecChange, TaskAssigned, TaskCause, TaskCreated, TaskDesiredStateSet, TaskId, TaskReaped, TaskReported, TaskState,
    TaskStatus, Timestamp, UpdateCompleted, UpdateConfig, UpdatePaused, UpdateResumed, UpdateStarted,
    UpdateTasksOverdue,
};

use crate::check::check;
use crate::{Cluster, Instance, Service, Stamp, Task};

/// The one service.
pub const SERVICE: ServiceId = ServiceId::MAX;
/// The node of all tasks that have no other when they report.
const NODE: NodeId = NodeId::MAX;

/// This many seconds after the epoch.
pub fn at(seconds: u64) -> Timestamp {
    Timestamp::default() + std::time::Duration::from_secs(seconds)
}

/// A cluster with one service, created in frame 1, and its time in seconds.
#[derive(Default)]
pub struct Sample {
    pub cluster: Cluster,
    now: u64,
    tasks: u128,
}

impl Sample {
    /// The service `web` that runs the image `a`, restarted under this policy.
    pub fn new(policy: RestartPolicy) -> Self {
        let mut sample = Self::default();
        let mut spec = ServiceSpec {
            annotations: Some(Annotations { name: "web".to_owned(), ..Annotations::default() }),
            mode: Some(Mode::Replicated(ReplicatedMode { replicas: 3 })),
            ..ServiceSpec::default()
        };
        let template = spec.task.get_or_insert_default();
        template.restart = Some(policy);
        template.container = Some(ContainerSpec { image: "a".to_owned(), ..ContainerSpec::default() });
        sample.apply(Kind::ServiceCreated(Box::new(ServiceCreated { service: SERVICE, spec })));
        let (joined, at) = (NodeJoined { node: NODE, ..NodeJoined::default() }, sample.cluster.position);
        sample.cluster.apply(&Event::by_reconciler(Reconciler::Replicated, Kind::NodeJoined(joined)), &at);
        sample
    }

    /// The same under the default policy, after these steps.
    pub fn after(words: &[&str]) -> Self {
        let mut sample = Self::new(RestartPolicy::default());
        words.iter().for_each(|words| sample.apply_words(words));
        sample
    }

    /// Applies an event as a separate frame.
    pub fn apply(&mut self, kind: Kind) {
        let stamp = Stamp { index: self.cluster.position.index + 1, time: at(self.now) };
        self.cluster.apply(&Event::by_reconciler(Reconciler::Replicated, kind), &stamp);
        self.cluster.position = stamp;
    }

    /// Applies the event for a word, which is followed by a number or a name: of a slot, of a node, of seconds.
    pub fn apply_words(&mut self, words: &str) {
        let (word, of) = words.split_once(' ').unwrap_or((words, ""));
        let number = || of.parse::<u64>().unwrap_or_else(|_| panic!("a number: {words}"));
        match word {
            "wait" => self.now += number(),
            "node" => {
                let (node, hostname) = (NodeId::from_bits(number().into()), format!("node-{of}"));
                self.apply(Kind::NodeJoined(NodeJoined { node, hostname, ..NodeJoined::default() }));
            }
            "make" => self.make(number(), TaskCause::Scale),
            "take" => self.make(number(), TaskCause::Update),
            "restart" => self.make(number(), TaskCause::Restart),
            "move" => self.make(number(), TaskCause::Moved),
            "run" => self.report(number(), TaskState::Running),
            "exit" => self.report(number(), TaskState::Complete),
            "fail" => self.report(number(), TaskState::Failed),
            "reap" => {
                let tasks = self.cluster.tasks_of_instance(SERVICE, Instance::Slot(number())).map(|task| task.id);
                let tasks = tasks.collect();
                self.apply(Kind::TaskReaped(TaskReaped { tasks }));
            }
            "stop" => self.want(number(), TaskState::Shutdown),
            "abandon" => self.want(number(), TaskState::Remove),
            "image" => self.update(SpecChange::Update, None, |spec| set_image(spec, of)),
            "back" => self.update(SpecChange::ManualRollback, None, |spec| set_image(spec, of)),
            "resume" => {
                self.apply(Kind::UpdateResumed(UpdateResumed { service: SERVICE, ..UpdateResumed::default() }));
            }
            "overdue" => {
                let task = self.newest(number()).expect("a task is there").id;
                self.apply(Kind::UpdateTasksOverdue(UpdateTasksOverdue { service: SERVICE, tasks: vec![task] }));
            }
            "undo" => self.update(SpecChange::AutomaticRollback, None, |spec| set_image(spec, of)),
            "login" => self.update(SpecChange::Update, Some(true), |_| ()),
            "label" => self.update(SpecChange::Update, None, |spec| {
                let labels = [(of.to_owned(), String::new())].into();
                spec.annotations.get_or_insert_default().labels = labels;
            }),
            "replicas" => self.update(SpecChange::Update, None, |spec| {
                spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas: number() }));
            }),
            "scale" => {
                self.apply(Kind::ServiceScaled(ServiceScaled {
                    service: SERVICE,
                    from: 0,
                    to: number(),
                    reason: None,
                }));
            }
            "count" => self.apply(Kind::UpdateStarted(UpdateStarted {
                service: SERVICE,
                slots: number(),
                ..UpdateStarted::default()
            })),
            "pause" => self.apply(Kind::UpdatePaused(UpdatePaused {
                service: SERVICE,
                reason: "why".to_owned(),
                ..UpdatePaused::default()
            })),
            "complete" => {
                self.apply(Kind::UpdateCompleted(UpdateCompleted { service: SERVICE, ..UpdateCompleted::default() }))
            }
            "remove" => self.apply(Kind::ServiceRemoved(ServiceRemoved { service: SERVICE })),
            other => panic!("nobody knows the word {other}"),
        }
    }

    /// Sets the service's update policy.
    pub fn configure(&mut self, policy: UpdateConfig) {
        self.update(SpecChange::Update, None, |spec| spec.update = Some(policy));
    }

    /// Assigns the newest task of a slot to a node.
    pub fn assign(&mut self, slot: u64, node: u64) {
        self.assign_to(slot, NodeId::from_bits(node.into()));
    }

    fn assign_to(&mut self, slot: u64, node: NodeId) {
        let task = self.newest(slot).expect("a task is there").id;
        self.apply(Kind::TaskAssigned(TaskAssigned { task, node, claims: Vec::new() }));
    }

    /// Violations in the state, except for the tasks of a removed service: releasing them is the reconcilers' next step.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = check(&self.cluster);
        faults.retain(|fault| !fault.ends_with("is wanted by a service that is gone"));
        faults
    }

    /// The service, unless it was removed.
    pub fn service(&self) -> Option<&Service> {
        self.cluster.services.get(SERVICE)
    }

    /// The newest task of a slot.
    pub fn newest(&self, slot: u64) -> Option<&Task> {
        let tasks = self.cluster.tasks_of_instance(SERVICE, Instance::Slot(slot));
        tasks.max_by_key(|task| (task.created_index, task.id))
    }

    fn make(&mut self, slot: u64, cause: TaskCause) {
        self.tasks += 1;
        let spec_version = self.service().expect("the service is there").template_version;
        let replaces = self.newest(slot).map(|task| task.id);
        let desired = TaskState::Running.into();
        self.apply(Kind::TaskCreated(TaskCreated {
            task: TaskId::from_bits(self.tasks),
            service: SERVICE,
            spec_version,
            slot,
            desired,
            replaces,
            cause: cause.into(),
            ..TaskCreated::default()
        }));
    }

    /// Lowers the desired state of the tasks of a slot.
    fn want(&mut self, slot: u64, desired: TaskState) {
        let tasks = self.cluster.tasks_of_instance(SERVICE, Instance::Slot(slot)).filter(|task| task.desired < desired);
        let (tasks, cause) = (tasks.map(|task| task.id).collect(), DesiredCause::ScaleDown.into());
        self.apply(Kind::TaskDesiredStateSet(TaskDesiredStateSet { tasks, desired: desired.into(), cause }));
    }

    fn report(&mut self, slot: u64, state: TaskState) {
        if self.newest(slot).is_some_and(|task| task.node.is_none()) {
            self.assign_to(slot, NODE);
        }
        let task = self.newest(slot).expect("a task is there").id;
        let error = if state == TaskState::Failed { "no such file".to_owned() } else { String::new() };
        let status = TaskStatus { state: state.into(), error, ..TaskStatus::default() };
        self.apply(Kind::TaskReported(TaskReported { task, status }));
    }

    fn update(&mut self, change: SpecChange, credentials: Option<bool>, change_spec: impl FnOnce(&mut ServiceSpec)) {
        let mut spec = (*self.service().expect("the service is there").spec).clone();
        change_spec(&mut spec);
        self.apply(Kind::ServiceSpecUpdated(Box::new(ServiceSpecUpdated {
            service: SERVICE,
            spec,
            change: change.into(),
            credentials,
            destroyed_secrets: Vec::new(),
            restored: None,
        })));
    }
}

fn set_image(spec: &mut ServiceSpec, image: &str) {
    spec.task.get_or_insert_default().container.get_or_insert_default().image = image.to_owned();
}

/// How many rows of the records of services, places and nodes differ between two states.
pub fn changed_rows(before: &Cluster, after: &Cluster) -> usize {
    after.services.changed_since(&before.services).count()
        + after.revisions.changed_since(&before.revisions).count()
        + after.tasks.changed_since(&before.tasks).count()
        + after.restarts.changed_since(&before.restarts).count()
        + after.failures.changed_since(&before.failures).count()
        + after.rollout_steps.changed_since(&before.rollout_steps).count()
        + after.rollout_tallies.changed_since(&before.rollout_tallies).count()
}
