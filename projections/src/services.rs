//! Services: the spec that counts, the one before it, and how far its rollout is.

use std::collections::BTreeSet;
use std::mem::discriminant;
use std::sync::Arc;

use events::{NodeId, ServiceId, ServiceSpec, SpecChange, Timestamp};
use serde::{Deserialize, Serialize};

use crate::tasks::Instance;
use crate::{Cluster, Stamp, Touched, counts, rollouts};

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
    /// Names of the volatile payloads with values of its secret variables, of the present spec and of earlier ones.
    pub env_secrets: BTreeSet<String>,
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
}

/// What a rollout does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

    /// Whether nothing is replaced until what tasks run changes.
    pub fn is_paused(self) -> bool {
        matches!(self, UpdateState::Paused | UpdateState::RollbackPaused)
    }

    /// Whether every task was replaced.
    pub fn is_completed(self) -> bool {
        matches!(self, UpdateState::Completed | UpdateState::RolledBack)
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

    /// What its rollout does, if it has one.
    fn update_state(&self) -> Option<UpdateState> {
        self.update.as_ref().map(|update| update.state)
    }

    /// Whether a rollout is under way.
    pub fn is_rolling(&self) -> bool {
        self.update.as_ref().is_some_and(|update| update.state.is_open())
    }

    /// Whether a rollout stopped after failures.
    pub fn is_paused(&self) -> bool {
        self.update.as_ref().is_some_and(|update| update.state.is_paused())
    }

    /// Whether what tasks run was rolled out before: a rollback may go back to it.
    fn is_rolled_out(&self) -> bool {
        self.update.as_ref().is_none_or(|update| update.state.is_completed() || update.state.is_rollback())
    }
}

/// The names of the volatile payloads with the values of a spec's secret variables.
fn env_secrets(spec: &ServiceSpec) -> impl Iterator<Item = &str> {
    spec.template().container().env_secrets.iter().map(|secret| secret.key.as_str())
}

impl Cluster {
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

pub(crate) fn created(cluster: &mut Cluster, event: &events::ServiceCreated, at: &Stamp, touched: &mut Touched) {
    assert!(!cluster.services.contains(event.service), "service {} was made twice", event.service);
    let spec = Arc::new(event.spec.clone());
    let taken = cluster.service_names.insert(name_key(spec.name()), event.service);
    assert!(taken.is_none(), "the name {} was given twice", spec.name());
    if spec.is_global() {
        cluster.global_services.insert(event.service);
    }
    let service = Service {
        id: event.service,
        spec: Arc::clone(&spec),
        version: at.index,
        template_version: at.index,
        previous: None,
        credentials_version: at.index,
        created_at: at.time,
        updated_at: at.time,
        update: None,
        env_secrets: env_secrets(&spec).map(str::to_owned).collect(),
    };
    cluster.services.insert(event.service, service);
    keep_revision(cluster, event.service, at.index, spec);
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
    assert!(discriminant(&old.spec.mode()) == discriminant(&spec.mode()), "the mode of service {id} never changes");
    if event.credentials() {
        cluster.services.update(id, |service| service.credentials_version = at.index);
        forget_restarts(cluster, id);
    }
    cluster.services.update(id, |service| {
        for secret in &event.destroyed_secrets {
            service.env_secrets.remove(secret);
        }
        service.env_secrets.extend(env_secrets(&spec).map(str::to_owned));
    });
    if old.spec.same_template(&spec) {
        // Tasks to come find the present credentials.
        cluster
            .revisions
            .update((id, old.template_version), |revision: &mut Revision| revision.spec = Arc::clone(&spec));
        replace(cluster, id, |service| keep_template(service, spec, at));
    } else {
        replace(cluster, id, |service| change_template(service, Arc::clone(&spec), event.change(), at));
        forget_revision(cluster, id, old.template_version);
        keep_revision(cluster, id, at.index, spec);
        forget_restarts(cluster, id);
        forget_failures(cluster, id);
        rollouts::begin(cluster, id);
    }
    touched.services.insert(id);
}

/// What tasks run stays the same, so that a rollout goes on, or stays paused.
fn keep_template(service: &mut Service, spec: Arc<ServiceSpec>, at: &Stamp) {
    if service.spec.replicas() != spec.replicas() {
        keep_replicas_for_rollback(service, spec.replicas());
    }
    service.spec = spec;
    service.version = at.index;
    service.updated_at = at.time;
    service.update.take_if(|update| update.state.is_completed());
}

/// What tasks run changes, and a rollout begins.
fn change_template(service: &mut Service, spec: Arc<ServiceSpec>, change: SpecChange, at: &Stamp) {
    let (state, message) = match change {
        SpecChange::Update | SpecChange::ManualRollback => {
            if service.is_rolled_out() {
                service.previous = Some(Arc::clone(&service.spec));
            }
            (UpdateState::Updating, "update in progress")
        }
        SpecChange::AutomaticRollback => {
            // A rollback never rolls back.
            service.previous = None;
            (UpdateState::RollingBack, "rollback in progress")
        }
    };
    service.spec = spec;
    service.version = at.index;
    service.template_version = at.index;
    service.updated_at = at.time;
    service.update = Some(Update { state, started_at: at.time, completed_at: None, message: message.to_owned() });
}

/// A number of replicas that was accepted during an update is not undone with it.
fn keep_replicas_for_rollback(service: &mut Service, replicas: Option<u64>) {
    let unfinished = service.update.as_ref().is_some_and(|update| !update.state.is_completed());
    if let (Some(replicas), Some(previous)) = (replicas, service.previous.as_mut().filter(|_| unfinished)) {
        set_replicas(Arc::make_mut(previous), replicas);
    }
}

pub(crate) fn set_replicas(spec: &mut ServiceSpec, replicas: u64) {
    spec.mode = Some(events::service_spec::Mode::Replicated(events::ReplicatedMode { replicas }));
}

pub(crate) fn scaled(cluster: &mut Cluster, event: &events::ServiceScaled, at: &Stamp, touched: &mut Touched) {
    let scaled = cluster.services.update(event.service, |service| {
        set_replicas(Arc::make_mut(&mut service.spec), event.to);
        keep_replicas_for_rollback(service, Some(event.to));
        service.version = at.index;
        service.updated_at = at.time;
    });
    assert!(scaled.is_some(), "service {} is not there to be scaled", event.service);
    touched.services.insert(event.service);
}

pub(crate) fn removed(cluster: &mut Cluster, id: ServiceId, touched: &mut Touched) {
    let service = cluster.services.remove(id).unwrap_or_else(|| panic!("service {id} is not there to be removed"));
    cluster.service_names.remove(&name_key(service.spec.name()));
    cluster.global_services.remove(&id);
    count_update(cluster, service.update_state(), None);
    forget_revision(cluster, id, service.template_version);
    forget_restarts(cluster, id);
    forget_failures(cluster, id);
    rollouts::forget(cluster, id);
    touched.services.insert(id);
}

pub(crate) fn update_started(cluster: &mut Cluster, event: &events::UpdateStarted, touched: &mut Touched) {
    rollouts::count_slots(cluster, event.service, event.slots);
    touched.services.insert(event.service);
}

pub(crate) fn rollback_started(cluster: &mut Cluster, event: &events::RollbackStarted, touched: &mut Touched) {
    change_open_update(cluster, event.service, touched, |update| {
        assert!(update.state.is_rollback(), "service {} is not put back to its previous spec", event.service);
        update.message.clone_from(&event.reason);
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
    rollouts::forget(cluster, id);
}

fn keep_revision(cluster: &mut Cluster, id: ServiceId, version: u64, spec: Arc<ServiceSpec>) {
    cluster.lookup.revision_kept(spec.name(), id, version);
    cluster.revisions.insert((id, version), Revision { spec });
}

/// Drops a revision that no task runs and no service is at.
pub(crate) fn forget_revision(cluster: &mut Cluster, id: ServiceId, version: u64) {
    let current = cluster.services.get(id).is_some_and(|service| service.template_version == version);
    let is_used = current || cluster.tasks_by_revision.contains_key(&(id, version));
    if !is_used && let Some(dropped) = cluster.revisions.remove((id, version)) {
        cluster.lookup.revision_dropped(dropped.spec.name(), id, version);
    }
}

/// A new template starts with a clean record, and so do new credentials: restarts before say nothing about them.
fn forget_restarts(cluster: &mut Cluster, id: ServiceId) {
    let restarts = (id, Instance::FIRST)..=(id, Instance::LAST);
    let restarts: Vec<_> = cluster.restarts.range(restarts).map(|(key, _)| key).collect();
    for key in restarts {
        cluster.restarts.remove(key);
    }
}

/// Failures of the old template say nothing about the new one.
fn forget_failures(cluster: &mut Cluster, id: ServiceId) {
    let failures = (id, NodeId::default())..=(id, NodeId::MAX);
    let failures: Vec<_> = cluster.failures.range(failures).map(|(key, _)| key).collect();
    for key in failures {
        cluster.failures.remove(key);
    }
}

/// Changes one service and keeps the count of updates true to it.
fn replace<R>(cluster: &mut Cluster, id: ServiceId, change: impl FnOnce(&mut Service) -> R) -> Option<R> {
    let (result, before, after) = cluster.services.update(id, |service| {
        let before = service.update_state();
        let result = change(service);
        (result, before, service.update_state())
    })?;
    count_update(cluster, before, after);
    Some(result)
}

fn count_update(cluster: &mut Cluster, before: Option<UpdateState>, after: Option<UpdateState>) {
    if before != after {
        before.into_iter().for_each(|state| counts::down(&mut cluster.services_by_update, state));
        after.into_iter().for_each(|state| counts::up(&mut cluster.services_by_update, state));
    }
}

fn change_open_update(cluster: &mut Cluster, id: ServiceId, touched: &mut Touched, change: impl FnOnce(&mut Update)) {
    let changed = replace(cluster, id, |service| match &mut service.update {
        Some(update) if update.state.is_open() => change(update),
        Some(_) | None => panic!("service {id} has no rollout under way"),
    });
    assert!(changed.is_some(), "service {id} is not there to be rolled out");
    touched.services.insert(id);
}

/// Names are unique without regard to case.
pub(crate) fn name_key(name: &str) -> Arc<str> {
    name.to_ascii_lowercase().into()
}

/// Makes the indices of services.
pub(crate) fn derive(cluster: &mut Cluster) {
    let names = cluster.services.values().map(|service| (name_key(service.spec.name()), service.id));
    cluster.service_names = names.collect();
    let global = cluster.services.values().filter(|service| service.spec.is_global()).map(|service| service.id);
    cluster.global_services = global.collect();
    for service in cluster.services.values() {
        if let Some(state) = service.update_state() {
            counts::up(&mut cluster.services_by_update, state);
        }
    }
}
