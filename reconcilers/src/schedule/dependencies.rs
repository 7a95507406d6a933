//! Services with dependencies: their first tasks wait until the services that they depend on serve. Later tasks never wait: a
//! restarted, moved or updated task handles missing dependencies by itself.

use std::sync::Arc;

use events::service_spec::Mode;
use events::{ServiceId, TaskCause, TaskId};
use projections::views::overview::{ended, replicas};
use projections::{Cluster, Service};

use crate::Scope;

/// What the first tasks of a service wait for, if any of its dependencies does not serve yet.
pub(super) fn awaited(cluster: &Cluster, service: ServiceId) -> Option<Arc<str>> {
    let service = cluster.services.get(service)?;
    let unmet = service
        .spec
        .depends_on
        .iter()
        .find(|name| !cluster.service_named(name).is_some_and(|of| serves(cluster, of)))?;
    let reason = match cluster.service_named(unmet) {
        Some(other) if other.spec.is_job() => format!("waiting for job {unmet} to complete"),
        Some(_) => format!("waiting for service {unmet} to run"),
        None => format!("waiting for service {unmet}, which does not exist"),
    };
    Some(reason.into())
}

/// Whether a task waits for the dependencies of its service.
pub(super) fn is_first(cluster: &Cluster, task: TaskId) -> bool {
    cluster.tasks.get(task).is_some_and(|task| match task.cause {
        TaskCause::Scale => task.replaces.is_none(),
        TaskCause::Restart | TaskCause::Update | TaskCause::Moved | TaskCause::Rebalanced => false,
    })
}

/// Services with tasks that waited for dependencies, one of which changed, and that no longer have to wait.
pub(super) fn released(cluster: &Cluster, scope: &Scope) -> Vec<ServiceId> {
    let changed = scope.concerned().into_iter().filter_map(|id| cluster.services.get(id));
    let dependents = changed.flat_map(|service| cluster.dependents_of(service.spec.name()));
    let waits = |service: &ServiceId| cluster.unplaced().first_tried_of(*service).is_some();
    dependents.filter(waits).filter(|service| awaited(cluster, *service).is_none()).collect()
}

/// Whether all tasks that should run are running, and at least one is if there should be any; for a job, whether it has
/// completed. A task with a health check counts as running once it is healthy.
fn serves(cluster: &Cluster, service: &Service) -> bool {
    let count = replicas(cluster, service);
    match service.spec.mode() {
        Mode::Replicated(_) => count.running >= count.desired,
        Mode::Global(_) => count.desired > 0 && count.running >= count.desired,
        Mode::ReplicatedJob(_) => {
            service.spec.completions().is_none_or(|of| ended(cluster, service).finished >= of.total)
        }
        Mode::GlobalJob(_) => {
            let ended = ended(cluster, service);
            count.desired == 0 && ended.finished > 0 && ended.failed == 0
        }
    }
}
