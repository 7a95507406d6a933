//! The effect of events on services.

use std::mem::discriminant;
use std::sync::Arc;

use events::spec::affinity::{Affinity, Presence};
use events::{ServiceId, ServiceSpec, SpecChange};

use super::{Autoscaled, Rebalanced, Revision, Run, Service, Update, UpdateState, env_secrets, name_key, set_replicas};
use crate::{Cluster, ClusterSecret, Config, Stamp, Touched, counts, rollouts};

pub(crate) fn created(cluster: &mut Cluster, event: &events::ServiceCreated, at: &Stamp, touched: &mut Touched) {
    assert!(!cluster.services.contains(event.service), "service {} was made twice", event.service);
    let spec = Arc::new(event.spec.clone());
    let taken = cluster.service_names.insert(name_key(spec.name()), event.service);
    assert!(taken.is_none(), "the name {} was given twice", spec.name());
    if spec.is_global() {
        cluster.global_services.insert(event.service);
    }
    index_rules(cluster, event.service, &spec);
    cluster.apart.extend(kept_apart(event.service, &spec));
    cluster.dependents.extend(awaited(event.service, &spec));
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
        run: runs_at_once(&spec).then_some(Run { iteration: 1, started_at: at.time, concurrent_runs: 1 }),
        next_run: None,
        autoscaled: None,
        rebalanced: None,
        env_secrets: env_secrets(&spec).map(str::to_owned).collect(),
        spec_changes: vec![at.index],
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
    }
    cluster.services.update(id, |service| {
        for secret in &event.destroyed_secrets {
            service.env_secrets.remove(secret);
        }
        service.env_secrets.extend(env_secrets(&spec).map(str::to_owned));
        service.note_change(at.index);
    });
    index_names(cluster, id, &old.spec, &spec, touched);
    index_rules(cluster, id, &spec);
    let revision = (id, old.template_version);
    if cluster.revisions.get(revision).is_some_and(|revision| revision.spec.same_template(&spec)) {
        // Future tasks use the current credentials.
        cluster.revisions.update(revision, |revision: &mut Revision| revision.spec = Arc::clone(&spec));
        replace(cluster, id, |service| keep_template(service, spec, at));
    } else if awaits_next_run(&old.spec, &spec) {
        replace(cluster, id, |service| {
            service.previous = Some(Arc::clone(&service.spec));
            keep_template(service, spec, at);
        });
    } else {
        replace(cluster, id, |service| change_template(service, Arc::clone(&spec), event.change(), at));
        forget_revision(cluster, id, old.template_version);
        let is_job = spec.is_job();
        keep_revision(cluster, id, at.index, spec);
        // A job runs again, with all tasks at once.
        if !is_job {
            rollouts::begin(cluster, id, at.index);
        }
    }
    touched.services.insert(id);
}

/// Updates the indices of services with special rules.
fn index_rules(cluster: &mut Cluster, id: ServiceId, spec: &ServiceSpec) {
    let rules = [
        (&mut cluster.rebalancing, spec.rebalancing().is_some()),
        (&mut cluster.autoscaling, spec.autoscaling().is_some()),
    ];
    for (services, has_rule) in rules {
        if has_rule {
            services.insert(id);
        } else {
            services.remove(&id);
        }
    }
}

/// Whether it is a job that runs without being scheduled.
fn runs_at_once(spec: &ServiceSpec) -> bool {
    spec.is_job() && spec.schedule.is_none()
}

/// Whether the tasks of a scheduled job continue unchanged, and only its next run uses the new spec. A forced update runs it at
/// once.
fn awaits_next_run(old: &ServiceSpec, new: &ServiceSpec) -> bool {
    let is_forced = old.template().force_update != new.template().force_update;
    new.is_job() && new.schedule.is_some() && !is_forced
}

/// Updates the index of the other services that a service refers to.
fn index_names(cluster: &mut Cluster, id: ServiceId, old: &ServiceSpec, new: &ServiceSpec, touched: &mut Touched) {
    let apart = kept_apart(id, new);
    for entry in kept_apart(id, old) {
        // Tasks of a service to which this one no longer has an anti-affinity may now fit beside its tasks.
        let freed = cluster.service_names.get(&entry.0).filter(|_| !apart.contains(&entry));
        touched.waiting.extend(freed);
        cluster.apart.remove(&entry);
    }
    cluster.apart.extend(apart);
    for entry in awaited(id, old) {
        cluster.dependents.remove(&entry);
    }
    cluster.dependents.extend(awaited(id, new));
}

/// The names of the services that a service depends on, each with the service.
fn awaited(id: ServiceId, spec: &ServiceSpec) -> impl Iterator<Item = (Arc<str>, ServiceId)> {
    spec.depends_on.iter().map(move |name| (name_key(name), id))
}

/// The names of the services to which a service has an anti-affinity, whether or not they exist, each with the service.
fn kept_apart(id: ServiceId, spec: &ServiceSpec) -> Vec<(Arc<str>, ServiceId)> {
    let required = spec.template().placement().affinities.iter().filter(|affinity| affinity.weight.is_none());
    let names = required.filter_map(|affinity| match Affinity::parse(&affinity.expression) {
        Ok(Affinity::Service(name, Presence::Apart)) => Some(name_key(&name)),
        Ok(Affinity::Service(_, Presence::Near) | Affinity::Image(..) | Affinity::Node(_)) | Err(_) => None,
    });
    names.map(|name| (name, id)).collect()
}

/// What tasks run stays the same, so that a rollout continues, or stays paused.
fn keep_template(service: &mut Service, spec: Arc<ServiceSpec>, at: &Stamp) {
    if service.spec.replicas() != spec.replicas() {
        keep_replicas_for_rollback(service, spec.replicas());
    }
    reschedule(service, &spec);
    service.spec = spec;
    service.version = at.index;
    service.updated_at = at.time;
    service.update.take_if(|update| update.state.is_completed());
    // Without its schedule, a job that never ran runs now.
    if service.run.is_none() && runs_at_once(&service.spec) {
        service.run = Some(Run { iteration: 1, started_at: at.time, concurrent_runs: 1 });
    }
}

/// A changed schedule determines the next run again.
fn reschedule(service: &mut Service, spec: &ServiceSpec) {
    if service.spec.schedule != spec.schedule {
        service.next_run = None;
    }
}

/// What tasks run changes, and a rollout starts, or the next run of a job.
fn change_template(service: &mut Service, spec: Arc<ServiceSpec>, change: SpecChange, at: &Stamp) {
    if spec.is_job() {
        reschedule(service, &spec);
        service.previous = Some(std::mem::replace(&mut service.spec, spec));
        (service.version, service.template_version, service.updated_at) = (at.index, at.index, at.time);
        begin_run(service, at);
        return;
    }
    let (state, message) = match change {
        SpecChange::Update => {
            if service.is_rolled_out() {
                service.previous = Some(Arc::clone(&service.spec));
            }
            (UpdateState::Updating, "update in progress")
        }
        SpecChange::ManualRollback => {
            if service.is_rolled_out() {
                service.previous = Some(Arc::clone(&service.spec));
            }
            // Back at the spec that was last rolled out, there is no other spec to return to.
            service.previous.take_if(|previous| previous.same_template(&spec));
            (UpdateState::RollingBack, "rollback in progress")
        }
        SpecChange::AutomaticRollback => {
            // A rollback is never rolled back.
            service.previous = None;
            (UpdateState::RollingBack, "rollback in progress")
        }
    };
    service.spec = spec;
    service.version = at.index;
    service.template_version = at.index;
    service.updated_at = at.time;
    let requested = change == SpecChange::ManualRollback;
    let message = message.to_owned();
    service.update = Some(Update { state, started_at: at.time, completed_at: None, message, requested });
}

fn begin_run(service: &mut Service, at: &Stamp) {
    let iteration = service.run.map_or(0, |run| run.iteration) + 1;
    service.run = Some(Run { iteration, started_at: at.time, concurrent_runs: 1 });
}

pub(crate) fn run_scheduled(cluster: &mut Cluster, event: &events::RunScheduled, touched: &mut Touched) {
    change_job(cluster, event.service, touched, |service| service.next_run = Some(event.due));
}

/// The tasks of a run have the current spec, and a template version of their own. A concurrent run adds to the tasks that must
/// complete.
pub(crate) fn run_started(cluster: &mut Cluster, event: &events::RunStarted, at: &Stamp, touched: &mut Touched) {
    let renewed = cluster.services.get(event.service).map(|service| with_newest_files(cluster, &service.spec));
    let (spec, before) = change_job(cluster, event.service, touched, |service| {
        service.next_run = None;
        let before = service.template_version;
        if let Some(run) = service.run.as_mut().filter(|_| event.beside) {
            (run.iteration, run.concurrent_runs) = (run.iteration + 1, run.concurrent_runs + 1);
        } else {
            service.template_version = at.index;
            service.spec = renewed.unwrap_or_else(|| Arc::clone(&service.spec));
            begin_run(service, at);
        }
        (Arc::clone(&service.spec), before)
    });
    if !event.beside {
        forget_revision(cluster, event.service, before);
        keep_revision(cluster, event.service, at.index, spec);
    }
}

/// The spec with the newest revisions of the configs and secrets that it follows.
fn with_newest_files(cluster: &Cluster, spec: &Arc<ServiceSpec>) -> Arc<ServiceSpec> {
    if spec.template().container().files().next().is_none() {
        return Arc::clone(spec);
    }
    let mut spec = ServiceSpec::clone(spec);
    if let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut()) {
        for reference in container.configs.iter_mut().filter(|reference| !reference.pinned) {
            let newest = reference.config.and_then(|id| cluster.configs.get(id)).map(Config::newest);
            reference.revision = newest.unwrap_or(reference.revision);
        }
        for reference in container.secrets.iter_mut().filter(|reference| !reference.pinned) {
            let newest = reference.secret.and_then(|id| cluster.secrets.get(id)).map(ClusterSecret::newest);
            reference.revision = newest.unwrap_or(reference.revision);
        }
    }
    Arc::new(spec)
}

pub(crate) fn run_skipped(cluster: &mut Cluster, event: &events::RunSkipped, touched: &mut Touched) {
    change_job(cluster, event.service, touched, |service| service.next_run = None);
}

fn change_job<R>(
    cluster: &mut Cluster,
    id: ServiceId,
    touched: &mut Touched,
    change: impl FnOnce(&mut Service) -> R,
) -> R {
    touched.services.insert(id);
    let changed = cluster.services.update(id, |service| {
        assert!(service.spec.schedule.is_some(), "service {id} has no schedule");
        change(service)
    });
    changed.unwrap_or_else(|| panic!("service {id} is not there to run"))
}

/// A number of replicas that was set during an update survives a rollback.
fn keep_replicas_for_rollback(service: &mut Service, replicas: Option<u64>) {
    let unfinished = service.update.as_ref().is_some_and(|update| !update.state.is_completed());
    if let (Some(replicas), Some(previous)) = (replicas, service.previous.as_mut().filter(|_| unfinished)) {
        set_replicas(Arc::make_mut(previous), replicas);
    }
}

pub(crate) fn scaled(cluster: &mut Cluster, event: &events::ServiceScaled, at: &Stamp, touched: &mut Touched) {
    let scaled = cluster.services.update(event.service, |service| {
        set_replicas(Arc::make_mut(&mut service.spec), event.to);
        keep_replicas_for_rollback(service, Some(event.to));
        if let Some(reason) = event.reason.clone() {
            // No user changed the spec: versions read from it stay valid.
            service.autoscaled = Some(Autoscaled { at: at.time, from: event.from, reason });
            return;
        }
        service.note_change(at.index);
        service.version = at.index;
        service.updated_at = at.time;
    });
    assert!(scaled.is_some(), "service {} is not there to be scaled", event.service);
    touched.services.insert(event.service);
}

/// Its tasks change by separate events.
pub(crate) fn rebalanced(cluster: &mut Cluster, event: &events::ServiceRebalanced, at: &Stamp) {
    let rebalanced = cluster.services.update(event.service, |service| {
        service.rebalanced = Some(Rebalanced { at: at.time, reason: event.reason.clone() });
    });
    assert!(rebalanced.is_some(), "service {} is not there to be rebalanced", event.service);
}

pub(crate) fn removed(cluster: &mut Cluster, id: ServiceId, touched: &mut Touched) {
    let service = cluster.services.remove(id).unwrap_or_else(|| panic!("service {id} is not there to be removed"));
    cluster.service_names.remove(&name_key(service.spec.name()));
    cluster.global_services.remove(&id);
    cluster.rebalancing.remove(&id);
    cluster.autoscaling.remove(&id);
    for entry in kept_apart(id, &service.spec) {
        cluster.apart.remove(&entry);
    }
    for entry in awaited(id, &service.spec) {
        cluster.dependents.remove(&entry);
    }
    count_update(cluster, service.update_state(), None);
    forget_revision(cluster, id, service.template_version);
    rollouts::end(cluster, id);
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

pub(crate) fn update_resumed(cluster: &mut Cluster, id: ServiceId, at: &Stamp, touched: &mut Touched) {
    change_update(cluster, id, touched, |update| {
        let state = update.state.resumed().unwrap_or_else(|| panic!("the rollout of service {id} is not paused"));
        let what = if state.is_rollback() { "rollback" } else { "update" };
        update.state = state;
        update.message = format!("{what} in progress");
    });
    rollouts::resume(cluster, id, at);
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
    rollouts::end(cluster, id);
}

fn keep_revision(cluster: &mut Cluster, id: ServiceId, version: u64, spec: Arc<ServiceSpec>) {
    cluster.lookup.revision_kept(spec.name(), id, version);
    cluster.revisions.insert((id, version), Revision { spec });
}

/// Drops a revision that no task runs and that is not current.
pub(crate) fn forget_revision(cluster: &mut Cluster, id: ServiceId, version: u64) {
    let current = cluster.services.get(id).is_some_and(|service| service.template_version == version);
    let is_used = current || cluster.tasks_by_revision.is_run(id, version);
    if !is_used && let Some(dropped) = cluster.revisions.remove((id, version)) {
        cluster.lookup.revision_dropped(dropped.spec.name(), id, version);
    }
}

/// Changes one service and keeps the count of updates consistent.
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
    change_update(cluster, id, touched, |update| {
        assert!(update.state.is_open(), "service {id} has no rollout under way");
        change(update);
    });
}

fn change_update(cluster: &mut Cluster, id: ServiceId, touched: &mut Touched, change: impl FnOnce(&mut Update)) {
    let changed = replace(cluster, id, |service| service.update.as_mut().map(change));
    assert!(changed.flatten().is_some(), "service {id} is not there, or has no rollout");
    touched.services.insert(id);
}

/// Builds the indices of services.
pub(crate) fn derive(cluster: &mut Cluster) {
    let names = cluster.services.values().map(|service| (name_key(service.spec.name()), service.id));
    cluster.service_names = names.collect();
    let global = cluster.services.values().filter(|service| service.spec.is_global()).map(|service| service.id);
    cluster.global_services = global.collect();
    let rebalancing = cluster.services.values().filter(|service| service.spec.rebalancing().is_some());
    cluster.rebalancing = rebalancing.map(|service| service.id).collect();
    let autoscaling = cluster.services.values().filter(|service| service.spec.autoscaling().is_some());
    cluster.autoscaling = autoscaling.map(|service| service.id).collect();
    cluster.dependents = cluster.services.values().flat_map(|service| awaited(service.id, &service.spec)).collect();
    cluster.apart = cluster.services.values().flat_map(|service| kept_apart(service.id, &service.spec)).collect();
    for service in cluster.services.values() {
        if let Some(state) = service.update_state() {
            counts::up(&mut cluster.services_by_update, state);
        }
    }
}

#[cfg(test)]
mod tests;
