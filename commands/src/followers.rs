//! What a new revision of a config or a secret means for services: those that follow it are updated in the same frame, and roll it
//! out as they do any change. Jobs are not: they are given the newest when they run again.

use std::collections::BTreeSet;

use events::{ContainerSpec, Kind, ServiceSpecUpdated, SpecChange};
use projections::Cluster;

use crate::text::quote;
use crate::validate::Fault;

/// Most services that follow one config or secret: as many events as a frame takes.
const FOLLOWERS_MAX: usize = events::frame::EVENTS_MAX;

/// The updates of all services whose containers refer to an earlier revision and follow the newest.
pub(crate) fn follow(
    state: &Cluster,
    noun: &str,
    refers: impl Fn(&ContainerSpec) -> bool,
    renew: impl Fn(&mut ContainerSpec),
) -> Result<Vec<Kind>, Fault> {
    let mut updates = Vec::new();
    let followers = state.services.values().filter(|service| !service.spec.is_job());
    for service in followers.filter(|service| refers(service.spec.template().container())) {
        let mut spec = (*service.spec).clone();
        if let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut()) {
            renew(container);
        }
        if updates.len() == FOLLOWERS_MAX {
            let sentence = format!("more than {FOLLOWERS_MAX} services follow the {noun}");
            let hint = format!("create another {noun}, and update the services one after the other");
            return Err(Fault::exhausted(sentence, hint));
        }
        updates.push(Kind::ServiceSpecUpdated(Box::new(ServiceSpecUpdated {
            service: service.id,
            spec,
            change: SpecChange::Update.into(),
            credentials: None,
            destroyed_secrets: Vec::new(),
            restored: None,
        })));
    }
    Ok(updates)
}

/// The revisions that nothing needs once there is a newer one.
pub(crate) fn unused(present: impl Iterator<Item = u64>, used: &BTreeSet<u64>) -> Vec<u64> {
    present.filter(|revision| !used.contains(revision)).collect()
}

/// The refusal of an update that says nothing.
pub(crate) fn nothing_asked(noun: &str) -> Fault {
    Fault::invalid("nothing to update", format!("give the new data of the {noun}, or labels to add or to remove"))
}

/// The refusal of another name.
pub(crate) fn renamed(noun: &str, old: &str, new: &str) -> Fault {
    let sentence = format!("{noun} {old} cannot be renamed to {}", quote(new));
    Fault::invalid(sentence, format!("create another {noun} with the new name"))
}
