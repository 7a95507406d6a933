//! Small clusters for the tables of cases beside the reconcilers.

use std::collections::BTreeSet;

use events::service_spec::Mode;
use events::{
    ClusterId, Event, GlobalMode, Id, IdGenerator, Kind, NodeDescribed, NodeDescription, NodeId, NodeJoined,
    NodeRegistered, NodeSpec, Placement, Reconciler, ReplicatedMode, ResourceRequirements, Resources, RestartPolicy,
    ServiceCreated, ServiceId, ServiceSpec, SessionId, TaskAssigned, TaskCreated, TaskId, TaskReported, TaskState,
    TaskStatus, Timestamp,
};
use projections::{Cluster, Stamp, Touched};

use crate::{Budget, Candidates, Correction, Ctx, Presence, Reconcile, Scope};

/// One core in billionths.
const CORE: u64 = 1_000_000_000;

/// This many seconds after the epoch.
pub fn at(seconds: u64) -> Timestamp {
    Timestamp::default() + std::time::Duration::from_secs(seconds)
}

/// A cluster built from events.
#[derive(Default)]
pub struct Sample {
    pub cluster: Cluster,
    pub presence: Presence,
    pub uses: crate::Uses,
    policy: Option<RestartPolicy>,
    frames: u64,
}

impl Sample {
    /// Applies an event as a separate frame, in this second.
    pub fn apply(&mut self, second: u64, kind: Kind) {
        self.frames += 1;
        let stamp = Stamp { index: self.frames, time: at(second) };
        self.cluster.apply(&Event::by_reconciler(Reconciler::Replicated, kind), &stamp);
    }

    /// What one more event touches.
    pub fn touched_by(&mut self, kind: Kind) -> Touched {
        self.frames += 1;
        let (stamp, mut touched) = (Stamp { index: self.frames, time: at(1) }, Touched::default());
        self.cluster.apply_into(&Event::by_reconciler(Reconciler::Replicated, kind), &stamp, &mut touched);
        touched
    }

    /// A node that joined and registered in second 0 with four cores.
    pub fn with_node(mut self, number: u128, spec: NodeSpec) -> Self {
        let node = NodeId::from_bits(number);
        let session = SessionId::from_bits(number);
        let hostname = format!("node-{number}");
        self.apply(0, Kind::NodeJoined(NodeJoined { node, spec, hostname, ..NodeJoined::default() }));
        self.apply(0, Kind::NodeRegistered(NodeRegistered { node, session, ..NodeRegistered::default() }));
        self.offering(number, 4)
    }

    /// A node registers with this many cores.
    pub fn offering(mut self, number: u128, cores: u64) -> Self {
        let node = NodeId::from_bits(number);
        let resources = Some(Resources { nano_cpus: cores * CORE, ..Resources::default() });
        let description =
            NodeDescription { hostname: format!("node-{number}"), resources, ..NodeDescription::default() };
        self.apply(0, Kind::NodeDescribed(Box::new(NodeDescribed { node, description })));
        self
    }

    /// The restart policy of the service to create.
    pub fn with_policy(mut self, policy: RestartPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Service 1, created in second 0, whose tasks reserve one core.
    pub fn with_service(self, mode: Mode, constraints: &[&str]) -> Self {
        self.with_spec(ServiceSpec { mode: Some(mode), ..ServiceSpec::default() }, constraints)
    }

    /// The service with this spec.
    pub fn with_spec(mut self, mut spec: ServiceSpec, constraints: &[&str]) -> Self {
        let constraints = constraints.iter().map(|text| (*text).to_owned()).collect();
        let template = spec.task.get_or_insert_default();
        template.restart = self.policy;
        template.placement = Some(Placement { constraints, ..template.placement.take().unwrap_or_default() });
        let reservations = Some(Resources { nano_cpus: CORE, ..Resources::default() });
        template.resources = Some(ResourceRequirements { reservations, ..ResourceRequirements::default() });
        self.apply(0, Kind::ServiceCreated(Box::new(ServiceCreated { service: service(), spec })));
        self
    }

    /// A task of the service, in a slot or on a node, that is reported in this state.
    pub fn with_task(mut self, number: u128, slot: u64, node: Option<u128>, state: TaskState) -> Self {
        let task = TaskId::from_bits(number);
        let spec_version = self.cluster.services.get(service()).map_or(0, |service| service.template_version);
        let node = node.map(NodeId::from_bits);
        let desired = TaskState::Running.into();
        let created =
            TaskCreated { task, service: service(), spec_version, slot, node, desired, ..TaskCreated::default() };
        self.apply(0, Kind::TaskCreated(created));
        if state > TaskState::Pending { self.reported(number, state) } else { self }
    }

    /// A task is reported in this state.
    pub fn reported(mut self, number: u128, state: TaskState) -> Self {
        let status = TaskStatus { state: state.into(), ..TaskStatus::default() };
        self.apply(0, Kind::TaskReported(TaskReported { task: TaskId::from_bits(number), status }));
        self
    }

    /// A task is assigned to a node.
    pub fn assigned(mut self, task: u128, node: u128) -> Self {
        let (task, node) = (TaskId::from_bits(task), NodeId::from_bits(node));
        self.apply(0, Kind::TaskAssigned(TaskAssigned { task, node, claims: Vec::new() }));
        self
    }

    /// A reconciler's output for everything in this second: each event in a word or two, and when it wants to run again.
    pub fn ask(&self, reconcile: Reconcile, second: u64) -> Vec<String> {
        self.ask_about(&Scope::everything(&self.cluster), reconcile, second)
    }

    /// A reconciler's output for a part of the cluster.
    pub fn ask_about(&self, scope: &Scope, reconcile: Reconcile, second: u64) -> Vec<String> {
        let (mut ids, mut candidates) = (IdGenerator::new(ClusterId::from_bits(1), 1_000), Candidates::default());
        let mut ctx = Ctx {
            now: at(second),
            ids: &mut ids,
            presence: &self.presence,
            peers: &crate::Peers::default(),
            uses: &self.uses,
            candidates: &mut candidates,
        };
        let mut out = Correction::with_room(Budget::FRAME);
        reconcile(&self.cluster, scope, &mut ctx, &mut out);
        let wakes = out.wakes.iter().map(|(time, _)| format!("look at {}", time.since(at(0)).as_secs()));
        let wakes: BTreeSet<String> = wakes.collect();
        out.events.iter().map(words).chain(wakes).collect()
    }
}

/// The one service.
pub fn service() -> ServiceId {
    ServiceId::from_bits(1)
}

pub fn global() -> Mode {
    Mode::Global(GlobalMode {})
}

pub fn replicated(replicas: u64) -> Mode {
    Mode::Replicated(ReplicatedMode { replicas })
}

/// An event in the notation of the tables.
fn words(kind: &Kind) -> String {
    let numbers = |tasks: &[TaskId]| tasks.iter().map(|id| format!(" {}", id.bits())).collect::<String>();
    match kind {
        Kind::NodeDeclaredDown(event) => {
            let heard = if event.unheard() { "not heard since" } else { "heard at" };
            format!("down, {heard} {}", event.last_heard.since(at(0)).as_secs())
        }
        Kind::RunScheduled(event) => format!("next at {}", event.due.since(at(0)).as_secs()),
        Kind::RunStarted(event) => {
            let beside = if event.beside { " beside" } else { "" };
            format!("run of {}{beside}", event.due.since(at(0)).as_secs())
        }
        Kind::RunSkipped(event) => format!("skip {} {:?}", event.due.since(at(0)).as_secs(), event.cause()),
        Kind::NodeRemoved(event) => format!("remove node {}", event.node.bits()),
        Kind::TaskOrphaned(event) => format!("orphan{}", numbers(&event.tasks)),
        Kind::TaskReaped(event) => format!("reap{}", numbers(&event.tasks)),
        Kind::TaskRejected(event) => format!("reject {}", event.task.bits()),
        Kind::TaskDesiredStateSet(event) => format!("{:?}{}", event.desired(), numbers(&event.tasks)).to_lowercase(),
        Kind::TaskCreated(event) => match event.node {
            Some(node) => format!("make on {}", node.bits()),
            None => format!("make in {}", event.slot),
        },
        Kind::TaskAssigned(event) => format!("place on {}", event.node.bits()),
        Kind::ServiceRebalanced(event) => {
            format!("move {} from {} to {}", event.task.bits(), event.from.bits(), event.to.bits())
        }
        Kind::ServiceScaled(event) => format!("scale to {}: {}", event.to, event.reason()),
        Kind::UpdateStarted(event) => format!("{} places to replace", event.slots),
        Kind::UpdatePaused(_) => "pause".to_owned(),
        Kind::UpdateTasksOverdue(event) => format!("overdue{}", numbers(&event.tasks)),
        Kind::UpdateCompleted(_) => "complete".to_owned(),
        Kind::RollbackStarted(_) => "roll back".to_owned(),
        Kind::ServiceSpecUpdated(event) => format!("spec of {:?}", event.change()),
        other => format!("{other:?}"),
    }
}
