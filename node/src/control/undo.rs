//! Plans an undo for clients: the commands that restore the previous state, and the conflicts.

use std::collections::BTreeSet;
use std::sync::Arc;

use commands::undo::{self, Clash, Effect, Inverse, Key, Prefer};
use commands::{MAY_REQUIRE, Rejection, RejectionKind};
use events::{Cause, CommandId, Frame, catalogue, codec};
use projections::views::overview::resolve_node;
use projections::{Cluster, Stamp};
use wire::v1::command_request::Command as Asked;
use wire::v1::{
    CommandRequest, EventsRequest, ObjectNoun, PlanUndoRequest, UndoConflict, UndoPlan, UndoProblem, UndoStep,
};

use crate::log::frame_at;
use crate::manager::past::Past;

use super::event_reader::EventReader;
use super::{Control, unreadable};

/// Maximum frames with commands of one operation: a past state is computed for each.
const FRAMES_MAX: usize = 100;

impl Control {
    /// Plans how to undo an operation, or to restore objects. Blocks on disk I/O, and may take long. Memory: three states.
    ///
    /// # Errors
    /// When the operation or object does not exist, history cannot be read, or the manager is stopping.
    pub fn plan_undo(
        &self,
        request: &PlanUndoRequest,
        past: &Past,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<UndoPlan, Rejection> {
        let now = &self.state.cluster;
        if let Some(to) = request.to {
            let then = self.clone().at(to, past, is_stopped)?;
            let meant = referenced_keys(&then.state.cluster, now, &request.objects)?;
            let plan =
                undo::revert(&then.state.cluster, now, |key| meant.as_ref().is_none_or(|keys| keys.contains(key)));
            return Ok(wire_plan(plan, to.saturating_add(1), now));
        }
        let (id, frames) = self.operation(request)?;
        let mut effects = Vec::new();
        for index in &frames {
            let before = self.clone().at(index.saturating_sub(1), past, is_stopped)?;
            let stored = frame_at(&*self.store, *index).map_err(|error| unreadable(&error))?;
            let frame = stored.map(|stored| codec::decode_frame(&stored)).transpose();
            let frame = frame.map_err(|error| super::past::broken(&error))?.ok_or_else(|| no_operation(*index))?;
            effects.extend(effects_of(&frame, id, before.state.cluster.clone()));
        }
        let prefer = match (request.theirs(), request.ours()) {
            (true, _) => Some(Prefer::Present),
            (false, true) => Some(Prefer::Former),
            (false, false) => None,
        };
        let first = frames.first().copied().unwrap_or_default();
        Ok(wire_plan(undo::undo(&effects, now, prefer), first, now))
    }

    /// The operation that a request refers to, and the frames of its commands, oldest first.
    fn operation(&self, request: &PlanUndoRequest) -> Result<(CommandId, Vec<u64>), Rejection> {
        let id = match (request.operation, request.index) {
            (Some(id), _) => id,
            (None, Some(index)) => {
                let asked = EventsRequest { from: Some(index), to: Some(index), ..Default::default() };
                only_operation(&self.commands(asked)?, index)?
            }
            (None, None) => self.last_operation()?,
        };
        let found = self.commands(EventsRequest { operation: Some(id), ..Default::default() })?;
        let frames: BTreeSet<u64> = found.into_iter().map(|(index, _)| index).collect();
        if frames.is_empty() {
            let hint = "`swarmctl events --by-operation --format json` shows the ids of commands";
            return Err(Rejection::new(
                RejectionKind::NotFound,
                "operation",
                format!("there is no operation {id}"),
                hint,
            ));
        }
        if frames.len() > FRAMES_MAX {
            let sentence =
                format!("operation {id} has commands in {} frames; the maximum is {FRAMES_MAX}", frames.len());
            let hint = "put objects back with `swarmctl revert --to POINT OBJECT`";
            return Err(Rejection::new(RejectionKind::Exhausted, "operation", sentence, hint));
        }
        Ok((id, frames.into_iter().collect()))
    }

    /// The last operation in which an operator changed something: reads are skipped, and joins of nodes cannot be undone.
    fn last_operation(&self) -> Result<CommandId, Rejection> {
        let changes = |kind: &&str| !catalogue::NOTES.contains(kind);
        let kinds = catalogue::NAMES.iter().copied().filter(changes).map(str::to_owned).collect();
        let commands = MAY_REQUIRE.iter().copied().map(str::to_owned).collect();
        let found = self.commands(EventsRequest { tail: Some(1), kinds, commands, ..Default::default() })?;
        let last = found.into_iter().filter_map(|(_, id)| id).next_back();
        last.ok_or_else(|| no_operation(self.state.cluster.position.index))
    }

    /// The frames with commands of operators and tools that a request selects, and their operations; some have no id.
    fn commands(&self, request: EventsRequest) -> Result<Vec<(u64, Option<CommandId>)>, Rejection> {
        let cluster = &self.state.cluster;
        let request = EventsRequest { asked: Some(true), ..request };
        let mut reader = EventReader::open(Arc::clone(&self.store), cluster, request)?;
        let mut found: Vec<(u64, Option<CommandId>)> = Vec::new();
        while let Some(page) = reader.page(cluster)? {
            let commands = page.iter().filter_map(|record| Some((record.index, record.command.as_ref()?.operation())));
            found.extend(commands);
            found.dedup();
        }
        Ok(found)
    }
}

/// The effects of an operation's commands in a frame, given the state before it.
fn effects_of(frame: &Frame, id: CommandId, mut cluster: Cluster) -> Vec<Effect> {
    let at = Stamp { index: frame.header.index, time: frame.header.log_time };
    let mut effects = Vec::new();
    for (position, command) in frame.commands.iter().enumerate() {
        let caused = |cause: Option<&Cause>| matches!(cause, Some(Cause::Command(of)) if *of as usize == position);
        let before = cluster.clone();
        for event in frame.events.iter().filter(|event| caused(event.cause.as_ref())) {
            cluster.apply(event, &at);
        }
        if command.actor.kind().is_user() && command.operation() == Some(id) {
            effects.push(Effect::of(command, &before, &cluster));
        }
    }
    effects
}

fn only_operation(found: &[(u64, Option<CommandId>)], index: u64) -> Result<CommandId, Rejection> {
    let ids: BTreeSet<CommandId> = found.iter().filter_map(|(_, id)| *id).collect();
    let mut ids = ids.into_iter();
    match (ids.next(), ids.next()) {
        (None, _) if found.is_empty() => Err(no_operation(index)),
        (None, _) => {
            let sentence = format!("what was asked at index {index} changed nothing that can be put back");
            let hint = "`swarmctl events --by-operation` lists the commands, each with what it changed";
            Err(Rejection::conflict("operation", sentence, hint))
        }
        (Some(only), None) => Ok(only),
        (Some(first), Some(second)) => {
            let sentence = format!("index {index} has commands of several operations, such as {first} and {second}");
            let hint = "name one of them; `swarmctl events --by-operation --format json` shows what each did";
            Err(Rejection::invalid("operation", sentence, hint))
        }
    }
}

fn no_operation(index: u64) -> Rejection {
    let sentence = format!("no command of a person or a tool took effect at index {index}");
    let hint = "`swarmctl events --by-operation` lists the commands, each with its index";
    Rejection::new(RejectionKind::NotFound, "operation", sentence, hint)
}

/// The objects that references match, in one of the states; `None` if there are no references.
fn referenced_keys(then: &Cluster, now: &Cluster, references: &[String]) -> Result<Option<BTreeSet<Key>>, Rejection> {
    if references.is_empty() {
        return Ok(None);
    }
    let mut meant = BTreeSet::new();
    for reference in references {
        let found: BTreeSet<Key> = [then, now].into_iter().flat_map(|cluster| named(cluster, reference)).collect();
        if found.is_empty() {
            let sentence = format!("nothing is or was called {reference} at that point");
            let hint = "name services, nodes, configs and secrets, or `cluster` for its settings";
            return Err(Rejection::new(RejectionKind::NotFound, reference, sentence, hint));
        }
        meant.extend(found);
    }
    Ok(Some(meant))
}

/// The objects with this name, such as `web`, or `config/web` for a single kind.
fn named(cluster: &Cluster, reference: &str) -> Vec<Key> {
    let (noun, name) = reference.split_once('/').map_or((None, reference), |(noun, name)| (Some(noun), name));
    let is = |other: &str| noun.is_none_or(|noun| noun == other);
    let mut keys = Vec::new();
    if is("service")
        && let Some(service) = cluster.service_named(name)
    {
        keys.push(Key::Service(service.spec.name().to_owned()));
    }
    if is("config")
        && let Some(config) = cluster.config_named(name)
    {
        keys.push(Key::Config(config.spec.name().to_owned()));
    }
    if is("secret")
        && let Some(secret) = cluster.secret_named(name)
    {
        keys.push(Key::Secret(secret.spec.name().to_owned()));
    }
    if is("node")
        && let Ok(node) = resolve_node(cluster, name)
    {
        keys.push(Key::Node(node));
    }
    if reference == "cluster" {
        keys.push(Key::Cluster);
    }
    keys
}

fn wire_plan(plan: undo::UndoPlan, undoes: u64, now: &Cluster) -> UndoPlan {
    let steps = plan.commands.into_iter().map(|(key, inverse)| step(&key, inverse, now));
    let conflicts = plan.conflicts.into_iter().map(|conflict| {
        let Clash { path, set, present, former } = conflict.clash;
        let [set, present, former] = [set, present, former].map(|value| value.to_string());
        UndoConflict { object: conflict.object, path, set, present, former }
    });
    let problems = plan.problems.into_iter().map(|problem| UndoProblem {
        subject: problem.subject,
        sentence: problem.sentence,
        impossible: problem.is_impossible,
    });
    UndoPlan { undoes, steps: steps.collect(), conflicts: conflicts.collect(), problems: problems.collect() }
}

fn step(key: &Key, inverse: Inverse, now: &Cluster) -> UndoStep {
    let noun = match key {
        Key::Cluster => ObjectNoun::Cluster,
        Key::Node(_) => ObjectNoun::Node,
        Key::Config(_) => ObjectNoun::Config,
        Key::Secret(_) => ObjectNoun::Secret,
        Key::Operator(_) => ObjectNoun::Operator,
        Key::Service(_) => ObjectNoun::Service,
        Key::Tag(_) => ObjectNoun::Tag,
    };
    let text = key.text(now);
    let name = match noun {
        ObjectNoun::Cluster => now.settings.name.as_str(),
        ObjectNoun::Node
        | ObjectNoun::Operator
        | ObjectNoun::Config
        | ObjectNoun::Secret
        | ObjectNoun::Service
        | ObjectNoun::Task
        | ObjectNoun::Tag => text.split_once(' ').map_or(text.as_str(), |(_, name)| name),
    };
    let command = CommandRequest { command: Some(asked(inverse)), ..CommandRequest::default() };
    UndoStep { noun: noun.into(), name: name.to_owned(), before: super::compare::side_of(key, now), command }
}

/// The command as a client request.
fn asked(inverse: Inverse) -> Asked {
    match inverse {
        Inverse::CreateConfig { spec, data } => Asked::CreateConfig(wire::v1::CreateConfig { spec, data }),
        Inverse::UpdateConfig { config, spec, data, version } => {
            let (config, version) = (config.to_string(), Some(version));
            Asked::UpdateConfig(wire::v1::UpdateConfig { config, spec, data, version })
        }
        Inverse::UpdateSecret { secret, spec, version } => {
            let (secret, spec, version) = (secret.to_string(), Some(spec), Some(version));
            Asked::UpdateSecret(wire::v1::UpdateSecret { secret, spec, data: None, version, if_changed: false })
        }
        Inverse::UpdateCluster { spec, version } => {
            Asked::UpdateCluster(wire::v1::UpdateCluster { spec: *spec, version: Some(version) })
        }
        Inverse::TagHistory { name, index, time: _ } => {
            Asked::TagHistory(wire::v1::TagHistory { name, index: Some(index) })
        }
        Inverse::UntagHistory { name } => Asked::UntagHistory(wire::v1::UntagHistory { name }),
        Inverse::UpdateNode { node, spec, version } => {
            Asked::UpdateNode(wire::v1::UpdateNode { node: node.to_string(), spec, version: Some(version) })
        }
        Inverse::CreateService { spec } => Asked::CreateService(wire::v1::CreateService { spec, ..Default::default() }),
        Inverse::UpdateService { service, spec, version } => Asked::UpdateService(wire::v1::UpdateService {
            service: service.to_string(),
            spec,
            version: Some(version),
            ..Default::default()
        }),
        Inverse::ResumeUpdate { service } => {
            Asked::ResumeUpdate(wire::v1::ResumeUpdate { service: service.to_string() })
        }
        Inverse::PauseUpdate { service } => Asked::PauseUpdate(wire::v1::PauseUpdate { service: service.to_string() }),
        Inverse::RemoveService { service } => {
            Asked::RemoveService(wire::v1::RemoveService { service: service.to_string() })
        }
        Inverse::RemoveConfig { config } => Asked::RemoveConfig(wire::v1::RemoveConfig { config: config.to_string() }),
        Inverse::RemoveSecret { secret } => Asked::RemoveSecret(wire::v1::RemoveSecret { secret: secret.to_string() }),
        Inverse::RevokeOperator { operator } => {
            Asked::RevokeOperator(wire::v1::RevokeOperator { operator: operator.to_string() })
        }
    }
}
