//! Effects of a new revision of a config or a secret on services: those that follow it are updated in the same frame, and roll it
//! out like any change. Jobs are not: they get the newest revision when they run again.

use std::collections::{BTreeMap, BTreeSet};

use events::spec::FileReference;
use events::{ContainerSpec, Kind, ServiceSpecUpdated, SpecChange};
use projections::Cluster;

use crate::text::quote;
use crate::validate::Fault;

/// Maximum number of services that follow one config or secret: as many events as a frame takes.
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

/// The revision for a reference: the requested one, or the newest.
///
/// # Errors
/// When the object is not found by its id and name, or has no such revision.
pub(crate) fn revision<T>(
    reference: &impl FileReference,
    asked: Option<u64>,
    known: Option<&BTreeMap<u64, T>>,
) -> Result<u64, Fault> {
    let (noun, name) = (reference.noun(), reference.name());
    let Some(revisions) = known else {
        let sentence = format!("there is no {noun} {} with the id that the spec has for it", quote(name));
        return Err(Fault::invalid(sentence, format!("`swarmctl {noun} ls` shows what exists")));
    };
    let newest = || revisions.last_key_value().map(|(revision, _)| *revision);
    let given = asked.or_else(newest).filter(|revision| revisions.contains_key(revision));
    given.ok_or_else(|| {
        let hint = format!("`swarmctl {noun} inspect {name}` shows the revisions that are kept");
        Fault::invalid(format!("{noun} {name} has no revision {}", asked.unwrap_or_default()), hint)
    })
}

/// The revisions that are no longer needed once there is a newer one.
pub(crate) fn unused(present: impl Iterator<Item = u64>, used: &BTreeSet<u64>) -> Vec<u64> {
    present.filter(|revision| !used.contains(revision)).collect()
}

/// The rejection of an empty update.
pub(crate) fn nothing_asked(noun: &str) -> Fault {
    Fault::invalid("nothing to update", format!("give the new data of the {noun}, or labels to add or to remove"))
}

/// The rejection of a changed name.
pub(crate) fn renamed(noun: &str, old: &str, new: &str) -> Fault {
    let sentence = format!("{noun} {old} cannot be renamed to {}", quote(new));
    Fault::invalid(sentence, format!("create another {noun} with the new name"))
}

/// The rejection of a changed template driver: existing data would be interpreted differently.
pub(crate) fn other_driver(noun: &str, name: &str) -> Fault {
    let sentence = format!("the template driver of {noun} {name} cannot be changed");
    Fault::invalid(sentence, format!("create another {noun}, and update the services that use this one"))
}
