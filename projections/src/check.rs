//! Invariants across tables, checked after every turn in tests and at start and end of a replay.

use std::collections::BTreeMap;

use events::TaskState;

use crate::{Cluster, Instance, configs, members, secrets, settings};

/// Returns every violation found in a state, one sentence each; empty if it is valid.
pub fn check(cluster: &Cluster) -> Vec<String> {
    let mut faults = Vec::new();
    check_tasks(cluster, &mut faults);
    check_services(cluster, &mut faults);
    check_capacity(cluster, &mut faults);
    check_records(cluster, &mut faults);
    configs::check(cluster, &mut faults);
    secrets::check(cluster, &mut faults);
    settings::check(cluster, &mut faults);
    members::check(cluster, &mut faults);
    check_indices(cluster, &mut faults);
    faults
}

fn check_tasks(cluster: &Cluster, faults: &mut Vec<String>) {
    for task in cluster.tasks.values() {
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("task {} {what}", task.id));
            }
        };
        expect(task.state != TaskState::Remove, "has REMOVE as its state, which can only be desired");
        expect(
            task.state < TaskState::Assigned || task.node.is_some() || task.state.is_terminal(),
            "runs without a node",
        );
        expect(cluster.revisions.contains((task.service, task.spec_version)), "runs a spec that is not kept");
        expect(cluster.services.contains(task.service) || !task.is_wanted(), "is wanted by a service that is gone");
        expect(
            task.state.is_terminal() == task.ended_at.is_some(),
            "is over without a time, or has a time and is not over",
        );
        if let Some(node) = task.node.filter(|_| task.occupies_node()) {
            expect(cluster.nodes.contains(node), "is on a node that is not a member");
        }
    }
}

fn check_services(cluster: &Cluster, faults: &mut Vec<String>) {
    for service in cluster.services.values() {
        if !cluster.revisions.contains((service.id, service.template_version)) {
            faults.push(format!("service {} has no revision {}", service.id, service.template_version));
        }
        for secret in &service.spec.template().container().env_secrets {
            if !service.env_secrets.contains(&secret.key) {
                faults.push(format!("service {} does not know its secret {}", service.id, secret.key));
            }
        }
        let mut running: BTreeMap<Instance, usize> = BTreeMap::new();
        for task in
            cluster.tasks_of_service(service.id).filter(|task| task.is_wanted() && task.state == TaskState::Running)
        {
            *running.entry(task.instance()).or_default() += 1;
        }
        for (instance, count) in running.into_iter().filter(|(_, count)| *count > 2) {
            faults.push(format!("service {} has {count} wanted tasks running in {instance:?}", service.id));
        }
    }
    for ((service, version), _) in cluster.revisions.iter() {
        let current = cluster.services.get(service).is_some_and(|service| service.template_version == version);
        if !current && !cluster.tasks_by_revision.is_run(service, version) {
            faults.push(format!("revision {version} of service {service} is kept, and no task runs it"));
        }
    }
}

fn check_capacity(cluster: &Cluster, faults: &mut Vec<String>) {
    for node in cluster.nodes.values() {
        // After a node shrank, tasks that are shutting down may still exceed its resources.
        let wanted = cluster.tasks_of_node(node.id).filter(|task| task.is_live() && task.occupies_node());
        let (cpus, memory) =
            wanted.fold((0, 0), |(cpus, memory), task| (cpus + task.nano_cpus, memory + task.memory_bytes));
        if let Some(offers) = node.offers().filter(|_| node.takes_tasks())
            && (cpus > offers.nano_cpus || memory > offers.memory_bytes)
        {
            faults.push(format!("node {} has promised more than it offers", node.id));
        }
    }
}

/// The record of a place is removed with its last task.
fn check_records(cluster: &Cluster, faults: &mut Vec<String>) {
    for ((service, instance), _) in cluster.restarts.iter() {
        if cluster.tasks_of_instance(service, instance).next().is_none() {
            faults.push(format!("restarts of service {service} in {instance:?} are remembered without a task there"));
        }
    }
    for ((service, instance), _) in cluster.rollout_steps.iter() {
        if cluster.tasks_of_instance(service, instance).next().is_none() {
            faults.push(format!("a rollout of service {service} took {instance:?}, and no task is there any more"));
        }
    }
    for service in cluster.services.values() {
        let unfinished = service.update.as_ref().is_some_and(|update| !update.state.is_completed());
        if unfinished != cluster.rollout_tallies.contains(service.id) {
            faults.push(format!("service {} has a rollout without numbers, or numbers without a rollout", service.id));
        }
    }
}

/// Indices that are maintained incrementally must equal those derived from scratch.
fn check_indices(cluster: &Cluster, faults: &mut Vec<String>) {
    let inconsistent = cluster.inconsistent_indices().into_iter();
    faults.extend(inconsistent.map(|what| format!("the index of {what} is not true to its table")));
}
