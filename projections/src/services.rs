//! Services: the spec that counts, the one before it, and how far its rollout is.

use std::sync::Arc;

use events::{FailureAction, NodeId, ServiceId, ServiceSpec, SpecChange, Timestamp};
use serde::{Deserialize, Serialize};

use crate::tasks::{Instance, Task};
use crate::{Cluster, Stamp, Touched};

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
    /// The spec before the last update, with its template's version, for a rollback.
    pub previous: Option<(Arc<ServiceSpec>, u64)>,
    /// When the service was made.
    pub created_at: Timestamp,
    /// When its spec last changed.
    pub updated_at: Timestamp,
    /// The last rollout, until the next change of spec.
    pub update: Option<Update>,
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
    /// Slots to replace when it began.
    pub slots: u64,
    /// Replaced tasks that failed too soon.
    pub failed: u64,
}

/// What a rollout does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateState {
    /// Tasks are being replaced.
    Updating,
    /// It stopped after failures.
    Paused,
    /// Every task has the new spec.
    Completed,
    /// Tasks are being put back to the previous spec.
    RollingBack,
    /// The rollback stopped after failures.
    RollbackPaused,
    /// Every task has the previous spec again.
    RolledBack,
}

impl UpdateState {
    /// Whether tasks are being replaced, forwards or back.
    pub fn is_open(self) -> bool {
        matches!(self, UpdateState::Updating | UpdateState::RollingBack)
    }

    /// Whether nothing is replaced until the spec changes.
    pub fn is_paused(self) -> bool {
        matches!(self, UpdateState::Paused | UpdateState::RollbackPaused)
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
}

/// A spec that tasks run, kept as long as one of them does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// The spec.
    pub spec: Arc<ServiceSpec>,
    /// Tasks that run it.
    pub tasks: u64,
}

pub(crate) fn created(cluster: &mut Cluster, event: &events::ServiceCreated, at: &Stamp, touched: &mut Touched) {
    assert!(!cluster.services.contains(event.service), "service {} was made twice", event.service);
    let spec = Arc::new(event.spec.clone());
    let taken = cluster.service_names.insert(name_key(spec.name()), event.service);
    assert!(taken.is_none(), "the name {} was given twice", spec.name());
    let service = Service {
        id: event.service,
        spec: Arc::clone(&spec),
        version: at.index,
        template_version: at.index,
        previous: None,
        created_at: at.time,
        updated_at: at.time,
        update: None,
    };
    cluster.services.insert(event.service, service);
    cluster.revisions.insert((event.service, at.index), Revision { spec, tasks: 0 });
    touched.services.insert(event.service);
}

pub(crate) fn spec_updated(
    cluster: &mut Cluster,
    event: &events::ServiceSpecUpdated,
    at: &Stamp,
    touched: &mut Touched,
) {
    let id = event.service;
    let spec = Arc::new(event.spec.clone());
    let old = cluster.services.share(id).unwrap_or_else(|| panic!("service {id} is not there to be updated"));
    let same_template = old.spec.same_template(&spec);
    let template_version = if same_template { old.template_version } else { at.index };
    let change = event.change();
    cluster.services.update(id, |service| {
        service.previous = match change {
            SpecChange::Update | SpecChange::ManualRollback => Some((Arc::clone(&old.spec), old.template_version)),
            // A rollback never rolls back.
            SpecChange::AutomaticRollback => None,
        };
        service.spec = Arc::clone(&spec);
        service.version = at.index;
        service.template_version = template_version;
        service.updated_at = at.time;
        service.update = None;
    });
    if same_template {
        // Tasks to come find the present credentials.
        cluster.revisions.update((id, template_version), |revision: &mut Revision| revision.spec = spec);
    } else {
        forget_revision(cluster, id, old.template_version);
        cluster.revisions.insert((id, template_version), Revision { spec, tasks: 0 });
        forget_past(cluster, id);
    }
    touched.services.insert(id);
}

pub(crate) fn scaled(cluster: &mut Cluster, event: &events::ServiceScaled, at: &Stamp, touched: &mut Touched) {
    let scaled = cluster.services.update(event.service, |service| {
        let replicated = events::ReplicatedMode { replicas: event.to };
        Arc::make_mut(&mut service.spec).mode = Some(events::service_spec::Mode::Replicated(replicated));
        service.version = at.index;
        service.updated_at = at.time;
    });
    assert!(scaled.is_some(), "service {} is not there to be scaled", event.service);
    touched.services.insert(event.service);
}

pub(crate) fn removed(cluster: &mut Cluster, id: ServiceId, touched: &mut Touched) {
    let service = cluster.services.remove(id).unwrap_or_else(|| panic!("service {id} is not there to be removed"));
    cluster.service_names.remove(&name_key(service.spec.name()));
    forget_revision(cluster, id, service.template_version);
    forget_past(cluster, id);
    touched.services.insert(id);
}

pub(crate) fn update_started(cluster: &mut Cluster, event: &events::UpdateStarted, at: &Stamp, touched: &mut Touched) {
    change_update(cluster, event.service, touched, |update| {
        let previous = update.take();
        let rollback = previous.as_ref().is_some_and(|update| update.state == UpdateState::RollingBack);
        *update = Some(Update {
            state: if rollback { UpdateState::RollingBack } else { UpdateState::Updating },
            started_at: at.time,
            completed_at: None,
            message: previous
                .filter(|_| rollback)
                .map_or_else(|| "update in progress".to_owned(), |update| update.message),
            slots: event.slots,
            failed: 0,
        });
    });
}

pub(crate) fn rollback_started(
    cluster: &mut Cluster,
    event: &events::RollbackStarted,
    at: &Stamp,
    touched: &mut Touched,
) {
    change_update(cluster, event.service, touched, |update| {
        *update = Some(Update {
            state: UpdateState::RollingBack,
            started_at: at.time,
            completed_at: None,
            message: event.reason.clone(),
            slots: 0,
            failed: 0,
        });
    });
}

pub(crate) fn update_paused(cluster: &mut Cluster, event: &events::UpdatePaused, touched: &mut Touched) {
    change_open_update(cluster, event.service, touched, |update| {
        update.state = if update.state.is_rollback() { UpdateState::RollbackPaused } else { UpdateState::Paused };
        update.message.clone_from(&event.reason);
    });
}

pub(crate) fn update_completed(cluster: &mut Cluster, id: ServiceId, at: &Stamp, touched: &mut Touched) {
    change_open_update(cluster, id, touched, |update| {
        let (state, message) = if update.state.is_rollback() {
            (UpdateState::RolledBack, "rollback completed")
        } else {
            (UpdateState::Completed, "update completed")
        };
        update.state = state;
        update.message = message.to_owned();
        update.completed_at = Some(at.time);
    });
}

/// Counts a task that ended too soon against the rollout that made it.
pub(crate) fn count_failure(cluster: &mut Cluster, task: &Task, at: &Stamp) {
    let Some(service) = cluster.services.get(task.service) else { return };
    let rollout = service.rollout();
    let open = service.update.as_ref().is_some_and(|update| update.state.is_open());
    let watched = task.running_at.is_none_or(|running| at.time.since(running) <= rollout.monitor);
    let counts = open && watched && rollout.failure_action != FailureAction::Continue;
    if counts && task.spec_version == service.template_version {
        cluster.services.update(task.service, |service| {
            if let Some(update) = &mut service.update {
                update.failed += 1;
            }
        });
    }
}

/// Drops a revision that no task runs and no service is at.
pub(crate) fn forget_revision(cluster: &mut Cluster, id: ServiceId, version: u64) {
    let current = cluster.services.get(id).is_some_and(|service| service.template_version == version);
    if !current && cluster.revisions.get((id, version)).is_some_and(|revision| revision.tasks == 0) {
        cluster.revisions.remove((id, version));
    }
}

/// A new template starts with a clean record: restarts and failures of the old one say nothing about it.
fn forget_past(cluster: &mut Cluster, id: ServiceId) {
    let restarts = (id, Instance::FIRST)..=(id, Instance::LAST);
    let restarts: Vec<_> = cluster.restarts.range(restarts).map(|(key, _)| key).collect();
    for key in restarts {
        cluster.restarts.remove(key);
    }
    let failures = (id, NodeId::default())..=(id, NodeId::MAX);
    let failures: Vec<_> = cluster.failures.range(failures).map(|(key, _)| key).collect();
    for key in failures {
        cluster.failures.remove(key);
    }
}

fn change_update(
    cluster: &mut Cluster,
    id: ServiceId,
    touched: &mut Touched,
    change: impl FnOnce(&mut Option<Update>),
) {
    let changed = cluster.services.update(id, |service| change(&mut service.update));
    assert!(changed.is_some(), "service {id} is not there to be rolled out");
    touched.services.insert(id);
}

fn change_open_update(cluster: &mut Cluster, id: ServiceId, touched: &mut Touched, change: impl FnOnce(&mut Update)) {
    change_update(cluster, id, touched, |update| match update {
        Some(update) if update.state.is_open() => change(update),
        Some(_) | None => panic!("service {id} has no rollout under way"),
    });
}

/// Names are unique without regard to case.
pub(crate) fn name_key(name: &str) -> Arc<str> {
    name.to_ascii_lowercase().into()
}
