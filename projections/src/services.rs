//! Services: the spec that counts, the one before it, and how far its rollout is.

use std::collections::BTreeSet;
use std::sync::Arc;

use events::spec::Completions;
use events::spec::limits::SPEC_CHANGES_MAX;
use events::{ServiceId, ServiceSpec, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Cluster;

pub(crate) mod fold;

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// The service's id.
    pub id: ServiceId,
    /// What the user asks for.
    pub spec: Arc<ServiceSpec>,
    /// Index of the frame that last changed the spec: what an update has to name.
    pub version: u64,
    /// Index of the frame that last changed what tasks run; a task with another one is out of date.
    pub template_version: u64,
    /// The last spec before this one whose rollout was completed: what a rollback goes back to.
    pub previous: Option<Arc<ServiceSpec>>,
    /// Index of the frame that last brought registry credentials.
    pub credentials_version: u64,
    /// When the service was made.
    pub created_at: Timestamp,
    /// When its spec last changed.
    pub updated_at: Timestamp,
    /// The last rollout. One that is completed is forgotten with the next change of spec.
    pub update: Option<Update>,
    /// The present run of a job; nothing for any other service.
    pub run: Option<Run>,
    /// When the next run of a scheduled job is due.
    pub next_run: Option<Timestamp>,
    /// The last change of its number of replicas that followed from what its tasks use.
    pub autoscaled: Option<Autoscaled>,
    /// The last of its tasks that was moved to a node with fewer.
    pub rebalanced: Option<Rebalanced>,
    /// Names of the volatile payloads with values of its secret variables, of the present spec and of earlier ones.
    pub env_secrets: BTreeSet<String>,
    /// Indexes of the frames that changed its spec, oldest first: there history has its revisions. The last of them, if there were more
    /// than [`SPEC_CHANGES_MAX`].
    pub spec_changes: Vec<u64>,
}

/// The present run of a job. Its tasks are those of the present template version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// How many runs there were, this one included.
    pub iteration: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// How many runs are under way as one: 1, and one more for each that began beside those before it.
    pub abreast: u64,
}

/// That the number of replicas was changed because of what tasks use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autoscaled {
    /// When.
    pub at: Timestamp,
    /// The number before.
    pub from: u64,
    /// What they used, in words.
    pub reason: String,
}

/// That a task was moved to a node with fewer of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebalanced {
    /// When.
    pub at: Timestamp,
    /// How many tasks there were on either side.
    pub reason: String,
}

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// What it does.
    pub state: UpdateState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended well.
    pub completed_at: Option<Timestamp>,
    /// The state in words.
    pub message: String,
    /// Whether it is a rollback that an operator asked for.
    pub requested: bool,
}

/// What a rollout does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UpdateState {
    /// Tasks are being replaced.
    Updating,
    /// It stopped after failures, or was asked to.
    Paused,
    /// Every task has the new spec.
    Completed,
    /// Tasks are being put back to the previous spec.
    RollingBack,
    /// The rollback stopped after failures, or was asked to.
    RollbackPaused,
    /// Every task has the previous spec again.
    RolledBack,
}

impl UpdateState {
    /// Whether tasks are being replaced, forwards or back.
    pub fn is_open(self) -> bool {
        matches!(self, UpdateState::Updating | UpdateState::RollingBack)
    }

    /// Whether nothing is replaced until it is resumed, or what tasks run changes.
    pub fn is_paused(self) -> bool {
        matches!(self, UpdateState::Paused | UpdateState::RollbackPaused)
    }

    /// Whether every task was replaced.
    pub fn is_completed(self) -> bool {
        matches!(self, UpdateState::Completed | UpdateState::RolledBack)
    }

    /// What it does once it is resumed, if it is paused.
    pub fn resumed(self) -> Option<Self> {
        match self {
            UpdateState::Paused => Some(UpdateState::Updating),
            UpdateState::RollbackPaused => Some(UpdateState::RollingBack),
            UpdateState::Updating | UpdateState::Completed | UpdateState::RollingBack | UpdateState::RolledBack => None,
        }
    }

    /// Whether it leads back to the previous spec.
    pub fn is_rollback(self) -> bool {
        matches!(self, UpdateState::RollingBack | UpdateState::RollbackPaused | UpdateState::RolledBack)
    }
}

impl Service {
    /// The rules of the rollout under way: the rollback's own while it rolls back.
    pub fn rollout(&self) -> events::spec::Rollout {
        match &self.update {
            Some(update) if update.state.is_rollback() => self.spec.rollback_rollout(),
            Some(_) | None => self.spec.update_rollout(),
        }
    }

    /// How many tasks of a job that is not tied to nodes run at the same time and have to complete, of all runs that are under way.
    /// Before the first run of a scheduled job, none.
    pub fn completions(&self) -> Option<Completions> {
        let of = self.spec.completions()?;
        let runs = self.run.map_or(0, |run| run.abreast);
        Some(Completions { concurrent: of.concurrent.saturating_mul(runs), total: of.total.saturating_mul(runs) })
    }

    /// Whether tasks are to be made for it: of a scheduled job not before its first run.
    pub fn is_begun(&self) -> bool {
        self.run.is_some() || !self.spec.is_job()
    }

    /// What its rollout does, if it has one.
    pub fn update_state(&self) -> Option<UpdateState> {
        self.update.as_ref().map(|update| update.state)
    }

    /// Whether a rollout is under way.
    pub fn is_rolling(&self) -> bool {
        self.update.as_ref().is_some_and(|update| update.state.is_open())
    }

    /// Whether a rollout stopped before it was completed.
    pub fn is_paused(&self) -> bool {
        self.update.as_ref().is_some_and(|update| update.state.is_paused())
    }

    /// Index of the frame that began the present record of restarts: when what tasks run changed, or the credentials did.
    pub fn record(&self) -> u64 {
        self.template_version.max(self.credentials_version)
    }

    /// Whether what tasks run was rolled out before: a rollback may go back to it. While it rolls back, that is so where nothing else
    /// is there to go back to.
    fn is_rolled_out(&self) -> bool {
        let returns = |state: UpdateState| state.is_rollback() && self.previous.is_none();
        self.update.as_ref().is_none_or(|update| update.state.is_completed() || returns(update.state))
    }

    /// A frame changed its spec. Of very many changes the oldest are not listed any more; history still has them.
    fn note_change(&mut self, index: u64) {
        if self.spec_changes.last() == Some(&index) {
            return;
        }
        if self.spec_changes.len() >= SPEC_CHANGES_MAX {
            self.spec_changes.remove(0);
        }
        self.spec_changes.push(index);
    }
}

/// The names of the volatile payloads with the values of a spec's secret variables.
fn env_secrets(spec: &ServiceSpec) -> impl Iterator<Item = &str> {
    spec.template().container().env_secrets.iter().map(|secret| secret.key.as_str())
}

impl Cluster {
    /// The spec of the tasks that a service is to have now. A scheduled job that was changed has the new one only from its next run on.
    pub fn spec_in_force<'a>(&'a self, service: &'a Service) -> &'a ServiceSpec {
        let of_run =
            service.spec.schedule.as_ref().and_then(|_| self.revisions.get((service.id, service.template_version)));
        of_run.map_or(&service.spec, |revision| &revision.spec)
    }

    /// The values of secret variables that nothing of a service can need again once it has this spec: neither the spec
    /// itself, nor one that it may be rolled back to now or then, nor one that tasks run.
    pub fn unused_env_secrets(&self, service: &Service, next: &ServiceSpec) -> Vec<String> {
        let past = service.previous.iter().map(|spec| &**spec);
        let run = self.revisions.range((service.id, 0)..=(service.id, u64::MAX)).map(|(_, revision)| &*revision.spec);
        let specs = [next, &service.spec].into_iter().chain(past).chain(run);
        let used: BTreeSet<&str> = specs.flat_map(env_secrets).collect();
        service.env_secrets.iter().filter(|secret| !used.contains(secret.as_str())).cloned().collect()
    }
}

/// A spec that tasks run, kept as long as one of them does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// The spec.
    pub spec: Arc<ServiceSpec>,
}

/// Names are unique without regard to case.
pub(crate) fn name_key(name: &str) -> Arc<str> {
    name.to_ascii_lowercase().into()
}

pub(crate) fn set_replicas(spec: &mut ServiceSpec, replicas: u64) {
    spec.mode = Some(events::service_spec::Mode::Replicated(events::ReplicatedMode { replicas }));
}
