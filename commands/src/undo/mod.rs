//! Computes how to revert commands: the commands to run, conflicts with later changes, and what cannot be undone. A pure function
//! of past states and the current one.
//!
//! Absent on purpose: rollouts, placement and restarts. The specs of services and nodes are restored; tasks follow as always.

mod dependencies;
mod merge;
mod object;

use std::collections::BTreeMap;

use events::{
    ClusterSpec, CommandRecord, ConfigId, ConfigSpec, NodeId, NodeSpec, OperatorId, SecretId, SecretSpec, ServiceId,
    ServiceSpec, Timestamp,
};
use projections::Cluster;
use serde_json::Value;

pub use merge::{Clash, Prefer};
pub use object::Key;

use crate::{
    Command, CreateConfig, CreateService, PauseUpdate, RemoveConfig, RemoveSecret, RemoveService, ResumeUpdate,
    RevokeOperator, ServiceSecrets, TagHistory, UntagHistory, UpdateCluster, UpdateConfig, UpdateNode, UpdateSecret,
    UpdateService,
};

/// A command that restores something.
#[derive(Debug, Clone, PartialEq)]
pub enum Inverse {
    /// Creates a config again.
    CreateConfig {
        /// Its name and labels.
        spec: ConfigSpec,
        /// Its contents.
        data: Vec<u8>,
    },
    /// Restores a config.
    UpdateConfig {
        /// The config.
        config: ConfigId,
        /// Its labels, if they differ.
        spec: Option<ConfigSpec>,
        /// Its data, if it differs.
        data: Option<Vec<u8>>,
        /// The current version.
        version: u64,
    },
    /// Restores the labels of a secret.
    UpdateSecret {
        /// The secret.
        secret: SecretId,
        /// Its name and labels.
        spec: SecretSpec,
        /// The current version.
        version: u64,
    },
    /// Restores the settings of the cluster.
    UpdateCluster {
        /// The settings.
        spec: Box<ClusterSpec>,
        /// The current version.
        version: u64,
    },
    /// Restores the name of a point of history.
    TagHistory {
        /// The name.
        name: String,
        /// Index of the frame.
        index: u64,
        /// The frame's time.
        time: Timestamp,
    },
    /// Removes the name of a point of history.
    UntagHistory {
        /// The name.
        name: String,
    },
    /// Restores a node's spec.
    UpdateNode {
        /// The node.
        node: NodeId,
        /// Its former spec.
        spec: NodeSpec,
        /// The current version.
        version: u64,
    },
    /// Creates a service again. Configs and secrets that it refers to by name may have no id yet.
    CreateService {
        /// Its former spec.
        spec: Box<ServiceSpec>,
    },
    /// Restores a service's spec.
    UpdateService {
        /// The service.
        service: ServiceId,
        /// Its former spec.
        spec: Box<ServiceSpec>,
        /// The current version.
        version: u64,
    },
    /// Resumes a rollout that was paused.
    ResumeUpdate {
        /// The service.
        service: ServiceId,
    },
    /// Pauses a rollout that was resumed.
    PauseUpdate {
        /// The service.
        service: ServiceId,
    },
    /// Removes a service that was created.
    RemoveService {
        /// The service.
        service: ServiceId,
    },
    /// Removes a config that was created.
    RemoveConfig {
        /// The config.
        config: ConfigId,
    },
    /// Removes a secret that was created.
    RemoveSecret {
        /// The secret.
        secret: SecretId,
    },
    /// Revokes an operator that was created.
    RevokeOperator {
        /// The operator.
        operator: OperatorId,
    },
}

impl Inverse {
    /// Sort key: objects are created before those that refer to them, and removed after them.
    fn rank(&self) -> u8 {
        match self {
            Self::CreateConfig { .. } => 0,
            Self::UpdateConfig { .. } | Self::UpdateSecret { .. } => 1,
            Self::UpdateCluster { .. } | Self::TagHistory { .. } | Self::UntagHistory { .. } => 2,
            Self::UpdateNode { .. } => 3,
            Self::CreateService { .. } => 4,
            Self::UpdateService { .. } => 5,
            Self::ResumeUpdate { .. } | Self::PauseUpdate { .. } => 6,
            Self::RemoveService { .. } => 7,
            Self::RemoveConfig { .. } | Self::RemoveSecret { .. } => 8,
            Self::RevokeOperator { .. } => 9,
        }
    }

    /// The command itself.
    pub fn command(self) -> Command {
        let secrets = ServiceSecrets::default();
        match self {
            Self::CreateConfig { spec, data } => Command::CreateConfig(CreateConfig { spec, data }),
            Self::UpdateConfig { config, spec, data, version } => {
                Command::UpdateConfig(UpdateConfig { config, spec, data, version: Some(version) })
            }
            Self::UpdateSecret { secret, spec, version } => {
                let (spec, version) = (Some(spec), Some(version));
                Command::UpdateSecret(UpdateSecret { secret, spec, data: None, version })
            }
            Self::UpdateCluster { spec, version } => Command::UpdateCluster(UpdateCluster {
                spec: *spec,
                version: Some(version),
                unlock_key: None,
                archive_key: None,
            }),
            Self::TagHistory { name, index, time } => Command::TagHistory(TagHistory { name, index, time }),
            Self::UntagHistory { name } => Command::UntagHistory(UntagHistory { name }),
            Self::UpdateNode { node, spec, version } => {
                Command::UpdateNode(UpdateNode { node, spec, version: Some(version) })
            }
            Self::CreateService { spec } => Command::CreateService(CreateService { spec, secrets }),
            Self::UpdateService { service, spec, version } => {
                Command::UpdateService(UpdateService { service, spec, version: Some(version), secrets })
            }
            Self::ResumeUpdate { service } => Command::ResumeUpdate(ResumeUpdate { service }),
            Self::PauseUpdate { service } => Command::PauseUpdate(PauseUpdate { service }),
            Self::RemoveService { service } => Command::RemoveService(RemoveService { service }),
            Self::RemoveConfig { config } => Command::RemoveConfig(RemoveConfig { config }),
            Self::RemoveSecret { secret } => Command::RemoveSecret(RemoveSecret { secret }),
            Self::RevokeOperator { operator } => Command::RevokeOperator(RevokeOperator { operator }),
        }
    }
}

/// The changes made by a command.
#[derive(Debug, Clone)]
pub struct Effect {
    /// Its name, such as `service.update`.
    command: String,
    /// The object that it concerned.
    subject: Option<String>,
    /// Each object with its values before and after.
    objects: Vec<(Key, Value, Value)>,
}

impl Effect {
    /// The effect of a command, from the states before its events and after them.
    pub fn of(command: &CommandRecord, before: &Cluster, after: &Cluster) -> Self {
        let objects = Key::changed(before, after).into_iter().filter_map(|key| {
            let (was, is) = (key.value(before), key.value(after));
            (was != is).then_some((key, was, is))
        });
        Self { command: command.kind.clone(), subject: command.subject.clone(), objects: objects.collect() }
    }

    /// Each object that it changed, with its values before and after.
    pub fn objects(&self) -> impl Iterator<Item = (&Key, &Value, &Value)> {
        self.objects.iter().map(|(key, before, after)| (key, before, after))
    }
}

/// A field on which a later change conflicts with an undo.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// The object, such as `service web`.
    pub object: String,
    /// The field, and its values.
    pub clash: Clash,
}

/// A limitation of an undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The object concerned, such as `secret db`.
    pub subject: String,
    /// A sentence without its subject.
    pub sentence: String,
    /// Whether it stays unchanged: otherwise it is restored, but not completely.
    pub is_impossible: bool,
}

impl Problem {
    fn impossible(subject: impl Into<String>, sentence: String) -> Self {
        Self { subject: subject.into(), sentence, is_impossible: true }
    }

    fn note(subject: impl Into<String>, sentence: String) -> Self {
        Self { subject: subject.into(), sentence, is_impossible: false }
    }
}

/// How to revert something.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UndoPlan {
    /// The commands, in order, each with its object.
    pub commands: Vec<(Key, Inverse)>,
    /// Fields that were set again later. Without a preference, nothing should be done while there are any.
    pub conflicts: Vec<Conflict>,
    /// What cannot be restored, or not completely.
    pub problems: Vec<Problem>,
}

/// How to undo the effects of commands, given oldest first.
pub fn undo(effects: &[Effect], now: &Cluster, prefer: Option<Prefer>) -> UndoPlan {
    let mut plan = UndoPlan::default();
    let mut wanted: BTreeMap<Key, Value> = BTreeMap::new();
    for effect in effects.iter().rev() {
        for (key, before, after) in &effect.objects {
            let present = wanted.get(key).cloned().unwrap_or_else(|| key.value(now));
            let mut clashes = Vec::new();
            let field = merge::Field { before, after, now: &present };
            wanted.insert(key.clone(), merge::restore(field, prefer, &mut clashes));
            let object = key.text(now);
            plan.conflicts.extend(clashes.into_iter().map(|clash| Conflict { object: object.clone(), clash }));
        }
        if effect.objects.is_empty() {
            plan.undo_other(effect, now);
        }
    }
    plan.restore(wanted, now);
    plan
}

/// How to restore objects to an earlier state, for those that `is_meant` selects. Operators are excluded: access to the cluster
/// is not changed as a side effect. So are tags, which name points of history and are not part of the state at that time.
pub fn revert(then: &Cluster, now: &Cluster, is_meant: impl Fn(&Key) -> bool) -> UndoPlan {
    let mut plan = UndoPlan::default();
    let keys = Key::changed(then, now).into_iter();
    let keys = keys.filter(|key| !matches!(key, Key::Operator(_) | Key::Tag(_)) && is_meant(key));
    plan.restore(keys.map(|key| (key.clone(), key.value(then))).collect(), now);
    plan
}

impl UndoPlan {
    /// Adds the commands that set objects to the given values.
    fn restore(&mut self, wanted: BTreeMap<Key, Value>, now: &Cluster) {
        let changed = wanted.into_iter().filter(|(key, value)| *value != key.value(now));
        let commands = changed.filter_map(|(key, value)| {
            let command = key.commands(now, &value, &mut self.problems)?;
            Some((key, command))
        });
        let commands: Vec<(Key, Inverse)> = commands.collect();
        self.commands.extend(commands);
        self.commands.sort_by_key(|(_, command)| command.rank());
        for (key, fault) in dependencies::order(now, &mut self.commands) {
            let object = key.text(now);
            let why = fault.about(&object).sentence;
            self.problems.push(Problem::impossible(object, why));
        }
    }

    /// Undoes a command that changed no object's settings.
    fn undo_other(&mut self, effect: &Effect, now: &Cluster) {
        let service = effect.subject.as_deref().and_then(|subject| now.services.get(subject.parse().ok()?));
        let is_paused = service.and_then(|service| Some(service.update.as_ref()?.state.is_paused()));
        let inverse = match (effect.command.as_str(), service, is_paused) {
            ("service.pause", Some(service), Some(true)) => Inverse::ResumeUpdate { service: service.id },
            ("service.resume", Some(service), Some(false)) => Inverse::PauseUpdate { service: service.id },
            (command, ..) if command.starts_with("sink.") => {
                let sentence = "delivered events cannot be recalled; `swarmctl sink` changes sinks".to_owned();
                return self.problems.push(Problem::impossible(format!("command {command}"), sentence));
            }
            (command, ..) => {
                let subject = format!("command {command}");
                return self
                    .problems
                    .push(Problem::impossible(subject, "it changed nothing that can be put back".to_owned()));
            }
        };
        if let Some(service) = service {
            self.commands.push((Key::Service(service.spec.name().to_owned()), inverse));
        }
    }
}
