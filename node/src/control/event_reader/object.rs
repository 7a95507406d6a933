//! What a reference means to who asks for history: also what is gone can be named.

use commands::{Rejection, RejectionKind};
use events::{ConfigId, Id, NodeId, SecretId, ServiceId, SinkId, TaskId};
use projections::views::history::{Found, NameLookup};
use projections::views::overview::{
    ReferenceError, resolve_config, resolve_node, resolve_secret, resolve_service, resolve_task,
};
use projections::views::terms::Term;
use projections::{Cluster, Instance};

use super::finder::Finder;
use super::history::History;

/// The id of what a reference means: of a living object, or else the id as it is, or else of what had that name last, or the one
/// that has an id which begins so.
pub(super) fn object(
    history: &History,
    finder: &mut Finder,
    cluster: &Cluster,
    reference: &str,
) -> Result<String, Rejection> {
    if let Some(living) = living_object(cluster, reference)? {
        return Ok(living);
    }
    if reference.parse::<TaskId>().is_ok() {
        return Ok(reference.to_owned());
    }
    match past_object(history, finder, cluster, reference)? {
        Found::One(id) => Ok(id),
        Found::Several(ids) => {
            let sentence = format!("\"{reference}\" could be several objects of the past: {}", ids.join(", "));
            Err(Rejection::new(RejectionKind::Invalid, "object", sentence, "give more of the id"))
        }
        Found::Nothing => Err(unknown(reference)),
    }
}

/// The id of the living object that a reference means, if there is one: a whole id wins over every name, and a name over the beginning
/// of an id.
///
/// # Errors
/// When it could mean several.
pub fn living_object(cluster: &Cluster, reference: &str) -> Result<Option<String>, Rejection> {
    if is_whole_id(cluster, reference) {
        return Ok(Some(reference.to_owned()));
    }
    let named = named(cluster, reference);
    if let [(_, only)] = &named[..] {
        return Ok(Some(only.clone()));
    }
    if named.len() > 1 {
        let named: Vec<String> = named.iter().map(|(noun, id)| format!("{noun} {id}")).collect();
        let sentence = format!("\"{reference}\" could be several objects: {}", named.join(", "));
        return Err(Rejection::new(RejectionKind::Invalid, "object", sentence, "give the id of the one that is meant"));
    }
    let candidates = [
        resolve_service(cluster, reference).map(|id| id.to_string()),
        resolve_config(cluster, reference).map(|id| id.to_string()),
        resolve_secret(cluster, reference).map(|id| id.to_string()),
        resolve_node(cluster, reference).map(|id| id.to_string()),
        resolve_task(cluster, reference).map(|id| id.to_string()),
    ];
    for candidate in candidates {
        match candidate {
            Ok(id) => return Ok(Some(id)),
            Err(error @ ReferenceError::Ambiguous { .. }) => return Err(error.into()),
            Err(ReferenceError::NotFound { .. }) => {}
        }
    }
    Ok(None)
}

/// What had this name last, or has an id that begins so. A name costs what the index does not cover; the beginning of an id one pass
/// over history.
fn past_object(history: &History, finder: &mut Finder, cluster: &Cluster, reference: &str) -> Result<Found, Rejection> {
    let mut recent = NameLookup::of(reference);
    let service = match reference.rsplit_once('.') {
        Some((service, _)) => service_id(history, finder, cluster, service)?,
        None => None,
    };
    if let (Some(service), Some((name, _))) = (service, reference.rsplit_once('.')) {
        recent.know(service.bits(), name);
    }
    history.each(finder.reach()..u64::MAX, |kind| recent.see(kind))?;
    if let Some(id) = recent.named() {
        return Ok(Found::One(id));
    }
    if let Some(id) = named_by_index(history, finder, reference)? {
        return Ok(Found::One(id));
    }
    if let Some(service) = service
        && let Some(instance) = instance(history, finder, cluster, reference)?
        && let Some(task) = finder.last_task(history, service, instance)?
    {
        return Ok(Found::One(task.to_string()));
    }
    if finder.reach() == 0 || !recent.can_be_id() {
        return Ok(recent.found());
    }
    let mut whole = NameLookup::of(reference);
    history.each(0..u64::MAX, |kind| whole.see(kind))?;
    Ok(whole.found())
}

/// The last thing that got this name in the part of history that the index covers.
fn named_by_index(history: &History, finder: &Finder, name: &str) -> Result<Option<String>, Rejection> {
    let Some(index) = finder.last(Term::Named(name), u64::MAX)? else { return Ok(None) };
    let mut bearer = NameLookup::of(name);
    history.at(index)?.iter().flat_map(events::codec::kinds).for_each(|kind| bearer.see(kind));
    Ok(bearer.named())
}

/// The service that has or had this name or id.
fn service_id(
    history: &History,
    finder: &mut Finder,
    cluster: &Cluster,
    reference: &str,
) -> Result<Option<ServiceId>, Rejection> {
    if let Ok(service) = resolve_service(cluster, reference) {
        return Ok(Some(service));
    }
    let mut recent = NameLookup::of(reference);
    history.each(finder.reach()..u64::MAX, |kind| recent.see(kind))?;
    let id = match recent.named() {
        Some(id) => Some(id),
        None => named_by_index(history, finder, reference)?,
    };
    Ok(id.and_then(|id| id.parse().ok()))
}

/// The place in a service that follows the last dot of a reference: a slot, or a node.
fn instance(
    history: &History,
    finder: &mut Finder,
    cluster: &Cluster,
    reference: &str,
) -> Result<Option<Instance>, Rejection> {
    let Some((_, place)) = reference.rsplit_once('.') else { return Ok(None) };
    if let Ok(slot) = place.parse() {
        return Ok(Some(Instance::Slot(slot)));
    }
    let node = match resolve_node(cluster, place) {
        Ok(node) => Some(node),
        Err(_) => named_by_index(history, finder, place)?.and_then(|id| id.parse().ok()),
    };
    Ok(node.map(Instance::Node))
}

/// The place that a reference such as `web.1` names, whether a task stands there or stood there once.
pub(super) fn place(
    history: &History,
    finder: &mut Finder,
    cluster: &Cluster,
    reference: &str,
) -> Result<(ServiceId, Instance), Rejection> {
    let service = match reference.rsplit_once('.') {
        Some((service, _)) => service_id(history, finder, cluster, service)?,
        None => None,
    };
    match (service, instance(history, finder, cluster, reference)?) {
        (Some(service), Some(instance)) => Ok((service, instance)),
        (None, _) | (_, None) => {
            let hint = "write SERVICE.SLOT, such as web.1, or SERVICE.NODE for a global service";
            Err(Rejection { hint: hint.to_owned(), ..Rejection::not_found("place", reference) })
        }
    }
}

/// Objects listed when a name has several.
const LISTED_MAX: usize = 5;

/// The living objects of all nouns that have this name, each with its noun: a service, a config and a secret may have the same.
fn named(cluster: &Cluster, name: &str) -> Vec<(&'static str, String)> {
    let service = cluster.service_named(name).map(|service| ("service", service.id.to_string()));
    let config = cluster.config_named(name).map(|config| ("config", config.id.to_string()));
    let secret = cluster.secret_named(name).map(|secret| ("secret", secret.id.to_string()));
    let nodes = cluster.nodes_called(name).map(|node| ("node", node.id.to_string()));
    service.into_iter().chain(config).chain(secret).chain(nodes).take(LISTED_MAX).collect()
}

fn unknown(reference: &str) -> Rejection {
    let hint = "give the name or id of a service, config, secret, node or task; of one that is gone, its last name or its id, \
                    which `swarmctl events --kind service_created --format json` shows";
    Rejection { hint: hint.to_owned(), ..Rejection::not_found("object", reference) }
}

/// Whether this is the whole id of a living service, config, secret, node or task.
fn is_whole_id(cluster: &Cluster, reference: &str) -> bool {
    // Every noun's ids have the same form, and no two objects the same id.
    reference.parse().map(TaskId::bits).is_ok_and(|bits| {
        let (service, node) = (ServiceId::from_bits(bits), NodeId::from_bits(bits));
        cluster.services.contains(service)
            || cluster.nodes.contains(node)
            || cluster.configs.contains(ConfigId::from_bits(bits))
            || cluster.secrets.contains(SecretId::from_bits(bits))
            || cluster.sinks.contains(SinkId::from_bits(bits))
            || cluster.tasks.contains(TaskId::from_bits(bits))
    })
}
