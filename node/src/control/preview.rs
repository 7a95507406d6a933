//! Previews commands and hypothetical events on a copy of the state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use commands::{Actor, Rejection, RejectionKind};
use events::spec::Constraint;
use events::{
    Kind, NodeBecameReady, NodeDeclaredDown, NodeDescribed, NodeId, NodeJoined, NodeRegistered, ServiceId, SessionId,
    Timestamp,
};
use projections::views::objects::{self, Object};
use projections::views::overview::{resolve_node, unplaced};
use projections::{Cluster, Instance, Liveness, configs, secrets};
use prost::Message;
use sha2::{Digest, Sha256};
use wire::v1::preview_step::Step;
use wire::v1::{
    AddNodes, CommandRequest, LoseNodes, NodeRoom, ObjectDifference, ObjectSpec, PreviewReply, PreviewRequest,
    PreviewStep, PreviewedStep, ReadObject, TaskAction, TaskDifference, UnplacedTasks,
};

use crate::manager::driver::{Published, stopping};
use crate::sandbox::{
    Action, Difference, EVENTS_MAX, Ending, Judged, ObjectChange, Sandbox, Spec, TURNS_MAX, TaskChange,
};

use super::command::{CreatedNames, check_reason, to_command, unknown_command};
use super::{Control, views};

/// Maximum steps of one request: more than the number of objects in the largest stack.
const STEPS_MAX: usize = 1_000;
/// Maximum nodes added at once.
const NEW_NODES_MAX: u64 = 1_000;
/// Maximum tasks in a response, so that it does not exceed the maximum message size.
const TASKS_MAX: usize = 10_000;
/// Number of fullest nodes in a response.
const FULLEST_MAX: usize = 3;

impl Control {
    /// Tries steps on a copy of the state. May take long; only the caller waits for it.
    ///
    /// # Errors
    /// When the request is malformed, or the caller has cancelled. A refused step is part of the response.
    pub fn preview(
        &self,
        actor: &Actor,
        request: PreviewRequest,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<PreviewReply, Rejection> {
        let mut trial = Trial { what_if: request.what_if, ..Trial::of(self, actor, &request.steps)? };
        let mut without = trial.sandbox.clone();
        without.run_until_settled(is_stopped);
        let (mut steps, mut refusal) = (Vec::new(), None);
        for step in request.steps {
            match trial.step(step, is_stopped) {
                Ok(step) => steps.push(step),
                Err(rejection) => {
                    refusal = Some(views::refusal(rejection));
                    break;
                }
            }
        }
        let rest = trial.sandbox.run_until_settled(is_stopped);
        if rest == Ending::Stopped {
            return Err(stopping());
        }
        Ok(PreviewReply { steps, refusal, ..trial.reply(&without, rest) })
    }

    /// The manager's state after the steps. May take long; only the caller waits for it.
    ///
    /// # Errors
    /// When a step is refused, or the caller has cancelled.
    pub(super) fn after(
        &self,
        actor: &Actor,
        steps: Vec<PreviewStep>,
        draft: &Draft,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Control, Rejection> {
        let mut trial = Trial::of(self, actor, &steps)?;
        let name = |steps: &[PreviewStep]| digest(self.state.cluster.position.index, actor, steps);
        let mut done = 0;
        let fits = |of: &TriedSteps| steps.get(..of.steps).is_some_and(|before| name(before) == of.digest);
        if let Some(tried) = draft.take().filter(fits) {
            (trial.sandbox, done) = (tried.sandbox, tried.steps);
        }
        for step in steps.iter().skip(done) {
            if is_stopped() {
                return Err(stopping());
            }
            trial.step(step.clone(), is_stopped)?;
        }
        draft.keep(TriedSteps { digest: name(&steps), steps: steps.len(), sandbox: trial.sandbox.clone() });
        Ok(trial.now())
    }

    /// A copy of the state.
    pub(super) fn sandbox(&self) -> Sandbox {
        let quarantined = self.state.quarantined.iter().filter(|(_, until)| **until > self.now);
        Sandbox::of(self.state.cluster.clone(), self.now, quarantined.map(|(service, _)| *service).collect())
    }
}

/// The copy that was last used. The next line of a script has the same steps followed by some more, and continues from there:
/// without this, the cost of a script would grow with the square of its lines.
#[derive(Default)]
pub struct Draft(Mutex<Option<TriedSteps>>);

impl Draft {
    fn take(&self) -> Option<TriedSteps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, tried: TriedSteps) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tried);
    }
}

/// A copy of the state after steps, of which only the number and a digest are kept: they may contain secrets.
struct TriedSteps {
    digest: [u8; 32],
    steps: usize,
    sandbox: Sandbox,
}

fn digest(index: u64, actor: &Actor, steps: &[PreviewStep]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("{index} {actor:?}\n"));
    steps.iter().for_each(|step| hash.update(step.encode_length_delimited_to_vec()));
    hash.finalize().into()
}

/// A request in progress.
struct Trial<'a> {
    control: &'a Control,
    actor: &'a Actor,
    /// Whether the steps are only hypothetical.
    what_if: bool,
    sandbox: Sandbox,
    /// The objects that the steps refer to, by id.
    read: BTreeMap<String, ReadObject>,
}

impl<'a> Trial<'a> {
    fn of(control: &'a Control, actor: &'a Actor, steps: &[PreviewStep]) -> Result<Self, Rejection> {
        if steps.len() > STEPS_MAX {
            let sentence = format!("{} steps at once are more than {STEPS_MAX}", steps.len());
            return Err(Rejection::invalid("preview", sentence, "try them in several requests"));
        }
        Ok(Self { control, actor, what_if: false, sandbox: control.sandbox(), read: BTreeMap::new() })
    }

    /// The manager with the current state of the copy.
    fn now(&self) -> Control {
        let state = Published {
            cluster: self.sandbox.cluster().clone(),
            keyring: Arc::clone(&self.control.state.keyring),
            ..Published::default()
        };
        Control { state: Arc::new(state), ..self.control.clone() }
    }

    fn step(&mut self, step: PreviewStep, is_stopped: &dyn Fn() -> bool) -> Result<PreviewedStep, Rejection> {
        if step.at_rest {
            self.sandbox.run_until_settled(is_stopped);
        }
        match step.step.ok_or_else(unknown_command)? {
            Step::Command(request) => self.command(request),
            Step::Lose(LoseNodes { nodes, constraints }) => {
                let lost = self.select_nodes(&nodes, &constraints)?;
                self.sandbox.apply(node_failures(self.sandbox.cluster(), lost, self.sandbox.began()));
                Ok(hypothetical_step("nodes lost"))
            }
            Step::Add(AddNodes { count, like }) => {
                let added = self.added(&like, count)?;
                self.sandbox.apply(added);
                Ok(hypothetical_step("nodes added"))
            }
        }
    }

    fn command(&mut self, request: CommandRequest) -> Result<PreviewedStep, Rejection> {
        let CommandRequest { reason, command, joined, .. } = request;
        check_reason(reason.as_deref())?;
        if !joined.is_empty() {
            let sentence = "a step of a preview is one command, and others are joined to this one";
            return Err(Rejection::invalid("preview", sentence, "make a step of each"));
        }
        // References are resolved in the copy: they may name what an earlier step makes.
        let control = self.now();
        let command = to_command(&control, command.ok_or_else(unknown_command)?, &CreatedNames::default())?;
        if !self.what_if {
            commands::require_reason(&control.state.cluster, &command, reason.as_deref())?;
        }
        let Judged { subject, changes } = self.sandbox.judge(self.actor, &command)?;
        let read = subject.as_ref().map_or_else(Vec::new, |id| self.note(id, &control.state.cluster));
        Ok(PreviewedStep { name: command.name().to_owned(), subject, changes, read })
    }

    /// Records the object of a step, and the objects that its spec refers to. Returns those that no earlier step changed.
    fn note(&mut self, id: &str, before_step: &Cluster) -> Vec<ReadObject> {
        let before = &self.control.state.cluster;
        let service = id.parse::<ServiceId>().ok();
        let specs = [before, self.sandbox.cluster()].map(|cluster| service.and_then(|id| cluster.services.get(id)));
        let mut ids: BTreeSet<String> = [id.to_owned()].into();
        for service in specs.into_iter().flatten() {
            ids.extend(configs::referenced(&service.spec).map(|(config, _)| config.to_string()));
            ids.extend(secrets::referenced(&service.spec).filter_map(|of| of.secret).map(|id| id.to_string()));
        }
        let read: Vec<ReadObject> = ids.iter().filter_map(|id| object(before, id)).collect();
        self.read.extend(read.iter().map(|object| (object.id.clone(), object.clone())));
        read.into_iter().filter(|object| self::object(before_step, &object.id).as_ref() == Some(object)).collect()
    }

    /// The nodes with these references, and those that meet all constraints, if there are any.
    fn select_nodes(&self, references: &[String], constraints: &[String]) -> Result<BTreeSet<NodeId>, Rejection> {
        let cluster = self.sandbox.cluster();
        let mut nodes: BTreeSet<NodeId> =
            references.iter().map(|reference| resolve_node(cluster, reference)).collect::<Result<_, _>>()?;
        let parsed = constraints.iter().map(|text| {
            let hint = "write it as in `service create --constraint`, such as node.labels.rack==a";
            Constraint::parse(text).map_err(|error| Rejection::invalid("constraint", error.to_string(), hint))
        });
        let parsed: Vec<Constraint> = parsed.collect::<Result<_, _>>()?;
        let meets = |node: &&projections::Node| parsed.iter().all(|constraint| constraint.matches(&node.facts()));
        if !parsed.is_empty() {
            nodes.extend(cluster.nodes.values().filter(meets).map(|node| node.id));
        }
        if nodes.is_empty() {
            let sentence = "no node matches";
            return Err(Rejection::new(
                RejectionKind::NotFound,
                "node",
                sentence,
                "`swarmctl node ls` shows the nodes",
            ));
        }
        Ok(nodes)
    }

    fn added(&self, like: &str, count: u64) -> Result<Vec<Kind>, Rejection> {
        let cluster = self.sandbox.cluster();
        if count > NEW_NODES_MAX {
            let sentence = format!("{count} nodes at once are more than {NEW_NODES_MAX}");
            return Err(Rejection::invalid("node", sentence, "add fewer of them"));
        }
        let like = cluster.nodes.get(resolve_node(cluster, like)?);
        let Some((like, description)) = like.and_then(|node| Some((node, node.description.clone()?))) else {
            let sentence = "the node to copy has not registered yet";
            return Err(Rejection::invalid("node", sentence, "name one that has registered"));
        };
        let join = |number: u64| {
            let (node, session) = (self.sandbox.next_id::<NodeId>(number), self.sandbox.next_id::<SessionId>(number));
            let hostname = format!("{}+{number}", like.hostname());
            let description = events::NodeDescription { hostname: hostname.clone(), ..(*description).clone() };
            let mut spec = (*like.spec).clone();
            spec.set_role(events::Role::Worker);
            let joined = NodeJoined { node, spec, hostname, ..NodeJoined::default() };
            [
                Kind::NodeJoined(joined),
                Kind::NodeDescribed(Box::new(NodeDescribed { node, description })),
                Kind::NodeRegistered(NodeRegistered { node, session, ..NodeRegistered::default() }),
                Kind::NodeBecameReady(NodeBecameReady { node }),
            ]
        };
        Ok((1..=count).flat_map(join).collect())
    }

    /// The response, from the final state of the copy.
    fn reply(self, without: &Sandbox, rest: Ending) -> PreviewReply {
        let (before, after, began) = (&self.control.state.cluster, self.sandbox.cluster(), self.sandbox.began());
        let usual = Difference::between(before, without.cluster(), began);
        let difference = Difference::between(before, after, began).without(&usual);
        let tasks = difference.tasks.iter().take(TASKS_MAX).map(|change| task(before, after, change));
        PreviewReply {
            index: before.position.index,
            log_time: before.position.time,
            tasks_total: difference.tasks.len() as u64,
            tasks: tasks.collect(),
            objects: difference.objects.into_iter().map(object_difference).collect(),
            duration_ns: views::ns(self.sandbox.elapsed()),
            unfinished: unfinished(rest),
            read: self.read.into_values().collect(),
            unplaced: newly_unplaced(before, after),
            fullest: fullest(after),
            ..PreviewReply::default()
        }
    }
}

/// Events that mark these nodes as down, unless they already are.
pub(super) fn node_failures(cluster: &Cluster, nodes: impl IntoIterator<Item = NodeId>, at: Timestamp) -> Vec<Kind> {
    let is_up = |node: &NodeId| cluster.nodes.get(*node).is_some_and(|node| node.liveness != Liveness::Down);
    let lost = nodes.into_iter().filter(is_up);
    lost.map(|node| Kind::NodeDeclaredDown(NodeDeclaredDown { node, last_heard: at, unheard: None })).collect()
}

fn hypothetical_step(name: &str) -> PreviewedStep {
    PreviewedStep { name: name.to_owned(), changes: true, ..PreviewedStep::default() }
}

fn unfinished(rest: Ending) -> Option<String> {
    match rest {
        Ending::Settled | Ending::Stopped => None,
        Ending::TimeLimit => Some("it continues for more than 24 hours; later changes are not shown".to_owned()),
        Ending::WorkLimit => Some(format!(
            "it takes more than {TURNS_MAX} turns or {EVENTS_MAX} events; what comes after that is not shown"
        )),
    }
}

/// The object with this id, if it has a version.
fn object(cluster: &Cluster, id: &str) -> Option<ReadObject> {
    let Object { kind, name, version } = objects::find(cluster, id)?;
    Some(ReadObject { kind: kind.to_owned(), id: id.to_owned(), name: name.to_owned(), version })
}

fn object_difference(change: ObjectChange) -> ObjectDifference {
    let ObjectChange { id, name, before, after } = change;
    let kind = match before.as_ref().or(after.as_ref()) {
        Some(Spec::Service(_)) => "service",
        Some(Spec::Node(_)) => "node",
        Some(Spec::Config(..)) => "config",
        Some(Spec::Secret(..)) => "secret",
        Some(Spec::Operator(_)) => "operator",
        Some(Spec::Cluster(_)) | None => "cluster",
    };
    ObjectDifference { kind: kind.to_owned(), id, name, before: before.map(object_spec), after: after.map(object_spec) }
}

fn object_spec(spec: Spec) -> ObjectSpec {
    let none = ObjectSpec::default();
    match spec {
        Spec::Service(spec) => ObjectSpec { service: Some(Arc::unwrap_or_clone(spec)), ..none },
        Spec::Node(spec) => ObjectSpec { node: Some(Arc::unwrap_or_clone(spec)), ..none },
        Spec::Cluster(spec) => ObjectSpec { cluster: Some(*spec), ..none },
        Spec::Config(spec, revision) => {
            ObjectSpec { config: Some(Arc::unwrap_or_clone(spec)), revision: Some(revision), ..none }
        }
        Spec::Secret(spec, revision) => {
            ObjectSpec { secret: Some(Arc::unwrap_or_clone(spec)), revision: Some(revision), ..none }
        }
        Spec::Operator(_) => none,
    }
}

fn task(before: &Cluster, after: &Cluster, change: &TaskChange) -> TaskDifference {
    let hostname = |id: NodeId| {
        let node = after.nodes.get(id).or_else(|| before.nodes.get(id));
        node.map_or_else(|| id.to_string(), |node| views::node_name(node).to_owned())
    };
    let (service, instance) = change.place;
    let slot = match instance {
        Instance::Slot(slot) => slot.to_string(),
        Instance::Node(node) => hostname(node),
    };
    let action = match change.action {
        Action::Start => TaskAction::Start,
        Action::Stop => TaskAction::Stop,
        Action::Replace => TaskAction::Replace,
        Action::Move => TaskAction::Move,
    };
    TaskDifference {
        service,
        service_name: change.service.clone(),
        place: format!("{}.{slot}", change.service),
        action: action.into(),
        from: change.from.map(hostname),
        to: change.to.map(hostname),
        after_ns: views::ns(change.after),
        waiting: change.waits.clone(),
    }
}

/// The services with more unplaced tasks than before.
pub(super) fn newly_unplaced(before: &Cluster, after: &Cluster) -> Vec<UnplacedTasks> {
    let waiting = |cluster: &Cluster, service| cluster.unplaced().count_of(service);
    let more = after.services.values().filter(|service| waiting(after, service.id) > waiting(before, service.id));
    let unplaced = more.map(|service| UnplacedTasks {
        service_name: service.spec.name().to_owned(),
        tasks: waiting(after, service.id),
        reason: unplaced(after, service.id).unwrap_or("no suitable node").to_owned(),
    });
    unplaced.collect()
}

/// The nodes with the highest share of CPU or memory reserved.
fn fullest(cluster: &Cluster) -> Vec<NodeRoom> {
    let room = |node: &projections::Node| {
        let (usage, offers) = (cluster.usage.of(node.id), node.description.as_ref()?.resources.clone()?);
        Some(NodeRoom {
            hostname: views::node_name(node).to_owned(),
            tasks: usage.tasks,
            reserved_nano_cpus: usage.nano_cpus,
            nano_cpus: offers.nano_cpus,
            reserved_memory_bytes: usage.memory_bytes,
            memory_bytes: offers.memory_bytes,
        })
    };
    let share = |reserved: u64, of: u64| u128::from(reserved) * 1_000_000 / u128::from(of.max(1));
    let fullness = |room: &NodeRoom| {
        let cpus = share(room.reserved_nano_cpus, room.nano_cpus);
        cpus.max(share(room.reserved_memory_bytes, room.memory_bytes))
    };
    let mut rooms: Vec<NodeRoom> = cluster.nodes.values().filter(|node| node.takes_tasks()).filter_map(room).collect();
    rooms.retain(|room| fullness(room) > 0);
    rooms.sort_by(|one, other| fullness(other).cmp(&fullness(one)).then_with(|| one.hostname.cmp(&other.hostname)));
    rooms.truncate(FULLEST_MAX);
    rooms
}
