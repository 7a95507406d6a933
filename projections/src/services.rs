//! Services: the current spec, the previous one, and the progress of the rollout.

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
    /// The spec that the user set.
    pub spec: Arc<ServiceSpec>,
    /// Index of the frame that last changed the spec: an update must state it.
    pub version: u64,
    /// Index of the frame that last changed what tasks run; a task with a different one is outdated.
    pub template_version: u64,
    /// The last earlier spec whose rollout was completed: the target of a rollback.
    pub previous: Option<Arc<ServiceSpec>>,
    /// Index of the frame with the last registry credentials.
    pub credentials_version: u64,
    /// When the service was created.
    pub created_at: Timestamp,
    /// When its spec last changed.
    pub updated_at: Timestamp,
    /// The last rollout. A completed one is dropped with the next change of the spec.
    pub update: Option<Update>,
    /// The current run of a job; `None` for any other service.
    pub run: Option<Run>,
    /// When the next run of a scheduled job is due.
    pub next_run: Option<Timestamp>,
    /// The last change of its number of replicas by autoscaling.
    pub autoscaled: Option<Autoscaled>,
    /// The last of its tasks that was moved to a node with fewer tasks of it.
    pub rebalanced: Option<Rebalanced>,
    /// Names of the volatile payloads with values of its secret variables, of the current spec and of earlier ones.
    pub env_secrets: BTreeSet<String>,
    /// Indexes of the frames that changed its spec, oldest first, where history has its revisions. Only the last
    /// [`SPEC_CHANGES_MAX`] of them.
    pub spec_changes: Vec<u64>,
}

/// The current run of a job. Its tasks are those of the current template version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The number of runs so far, including this one.
    pub iteration: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// How many runs are in progress together: 1, and one more for each that started while earlier ones were running.
    pub concurrent_runs: u64,
}

/// An autoscaling change of the number of replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autoscaled {
    /// When.
    pub at: Timestamp,
    /// The earlier number.
    pub from: u64,
    /// The resource use, as a message.
    pub reason: String,
}

/// A move of a task to a node with fewer tasks of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebalanced {
    /// When.
    pub at: Timestamp,
    /// The number of tasks on either node, as a message.
    pub reason: String,
}

/// The progress of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Its state.
    pub state: UpdateState,
    /// When it started.
    pub started_at: Timestamp,
    /// When it was completed.
    pub completed_at: Option<Timestamp>,
    /// The state as a message.
    pub message: String,
    /// Whether it is a rollback requested by an operator.
    pub requested: bool,
}

/// The state of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UpdateState {
    /// Tasks are being replaced.
    Updating,
    /// It stopped after failures, or on request.
    Paused,
    /// Every task has the new spec.
    Completed,
    /// Tasks are being returned to the previous spec.
    RollingBack,
    /// The rollback stopped after failures, or on request.
    RollbackPaused,
    /// Every task has the previous spec again.
    RolledBack,
}

impl UpdateState {
    /// Whether tasks are being replaced, forwards or backwards.
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

    /// The state after it is resumed, if it is paused.
    pub fn resumed(self) -> Option<Self> {
        match self {
            UpdateState::Paused => Some(UpdateState::Updating),
            UpdateState::RollbackPaused => Some(UpdateState::RollingBack),
            UpdateState::Updating | UpdateState::Completed | UpdateState::RollingBack | UpdateState::RolledBack => None,
        }
    }

    /// Whether it returns to the previous spec.
    pub fn is_rollback(self) -> bool {
        matches!(self, UpdateState::RollingBack | UpdateState::RollbackPaused | UpdateState::RolledBack)
    }
}

impl Service {
    /// The configuration of the current rollout: the rollback's own while it rolls back.
    pub fn rollout(&self) -> events::spec::Rollout {
        match &self.update {
            Some(update) if update.state.is_rollback() => self.spec.rollback_rollout(),
            Some(_) | None => self.spec.update_rollout(),
        }
    }

    /// How many tasks of a job that is not bound to nodes run at the same time and must complete, over all runs in progress.
    /// Before the first run of a scheduled job, none.
    pub fn completions(&self) -> Option<Completions> {
        let of = self.spec.completions()?;
        let runs = self.run.map_or(0, |run| run.concurrent_runs);
        Some(Completions { concurrent: of.concurrent.saturating_mul(runs), total: of.total.saturating_mul(runs) })
    }

    /// Whether tasks are to be created for it: for a scheduled job not before its first run.
    pub fn has_started(&self) -> bool {
        self.run.is_some() || !self.spec.is_job()
    }

    /// The state of its rollout, if it has one.
    pub fn update_state(&self) -> Option<UpdateState> {
        self.update.as_ref().map(|update| update.state)
    }

    /// Whether a rollout is in progress.
    pub fn is_rolling(&self) -> bool {
        self.update.as_ref().is_some_and(|update| update.state.is_open())
    }

    /// Whether a rollout stopped before it was completed.
    pub fn is_paused(&self) -> bool {
        self.update.as_ref().is_some_and(|update| update.state.is_paused())
    }

    /// Index of the frame that started the current record of restarts: when what tasks run changed, or the credentials did.
    pub fn record(&self) -> u64 {
        self.template_version.max(self.credentials_version)
    }

    /// Whether what tasks run was completely rolled out before, so that a rollback may return to it. During a rollback, this
    /// holds if there is no other spec to return to.
    fn is_rolled_out(&self) -> bool {
        let returns = |state: UpdateState| state.is_rollback() && self.previous.is_none();
        self.update.as_ref().is_none_or(|update| update.state.is_completed() || returns(update.state))
    }

    /// Records a frame that changed its spec. The oldest of very many changes are dropped from the list; history still has them.
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
    /// The spec for new tasks of a service. A scheduled job that was changed uses the new one only from its next run on.
    pub fn spec_in_force<'a>(&'a self, service: &'a Service) -> &'a ServiceSpec {
        let of_run =
            service.spec.schedule.as_ref().and_then(|_| self.revisions.get((service.id, service.template_version)));
        of_run.map_or(&service.spec, |revision| &revision.spec)
    }

    /// The values of secret variables that a service cannot need again once it has this spec: neither the spec itself, nor one
    /// that it may be rolled back to now or later, nor one that tasks run.
    pub fn unused_env_secrets(&self, service: &Service, next: &ServiceSpec) -> Vec<String> {
        let past = service.previous.iter().map(|spec| &**spec);
        let run = self.revisions.range((service.id, 0)..=(service.id, u64::MAX)).map(|(_, revision)| &*revision.spec);
        let specs = [next, &service.spec].into_iter().chain(past).chain(run);
        let used: BTreeSet<&str> = specs.flat_map(env_secrets).collect();
        service.env_secrets.iter().filter(|secret| !used.contains(secret.as_str())).cloned().collect()
    }
}

/// A spec that tasks run, retained as long as one of them does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// The spec.
    pub spec: Arc<ServiceSpec>,
}

/// Names are unique, ignoring case.
pub(crate) fn name_key(name: &str) -> Arc<str> {
    name.to_ascii_lowercase().into()
}

pub(crate) fn set_replicas(spec: &mut ServiceSpec, replicas: u64) {
    spec.mode = Some(events::service_spec::Mode::Replicated(events::ReplicatedMode { replicas }));
}
