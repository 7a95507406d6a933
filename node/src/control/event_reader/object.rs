//! Resolves references in history requests, including references to removed objects.

use std::collections::BTreeSet;

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

/// The kinds of objects that a reference may mean, in the order of the search.
const NOUNS: [&str; 5] = ["service", "config", "secret", "node", "task"];

/// The id of the object that a reference means: an existing object, otherwise a complete id, the last object with this name, or
/// the object with this id prefix.
pub(super) fn object(
    history: &History,
    finder: &mut Finder,
    cluster: &Cluster,
    reference: &str,
) -> Result<String, Rejection> {
    let (noun, name) = parts(reference);
    object_among(history, finder, cluster, noun, name)
}

/// The id of the node that a reference means, even if another object has the same name.
pub(super) fn node(
    history: &History,
    finder: &mut Finder,
    cluster: &Cluster,
    reference: &str,
) -> Result<String, Rejection> {
    object_among(history, finder, cluster, Some("node"), reference)
}

fn object_among(
    history: &History,
    finder: &mut Finder,
    cluster: &Cluster,
    noun: Option<&'static str>,
    name: &str,
) -> Result<String, Rejection> {
    if let Some(living) = living_among(cluster, noun, name)? {
        return Ok(living);
    }
    if name.parse::<TaskId>().is_ok() {
        return Ok(name.to_owned());
    }
    match past_object(history, finder, cluster, noun, name)? {
        Found::One(id) => Ok(id),
        Found::Several(ids) => {
            let sentence = format!("\"{name}\" could be several objects of the past: {}", ids.join(", "));
            Err(Rejection::new(RejectionKind::Invalid, "object", sentence, "give more of the id"))
        }
        Found::Nothing => Err(unknown(name)),
    }
}

/// The kind in a reference such as `service/web`, if it has one, and the name or id.
fn parts(reference: &str) -> (Option<&'static str>, &str) {
    let known = reference.split_once('/').and_then(|(given, name)| {
        let noun = NOUNS.into_iter().find(|noun| *noun == given)?;
        Some((Some(noun), name))
    });
    known.unwrap_or((None, reference))
}

/// The id of the existing object that a reference means, if there is one: a complete id takes precedence over a name, and a
/// name over an id prefix. With a kind before it, such as `service/web`, only objects of that kind are meant.
///
/// # Errors
/// When it is ambiguous.
pub fn living_object(cluster: &Cluster, reference: &str) -> Result<Option<String>, Rejection> {
    let (noun, name) = parts(reference);
    living_among(cluster, noun, name)
}

fn living_among(cluster: &Cluster, noun: Option<&str>, name: &str) -> Result<Option<String>, Rejection> {
    if noun.is_none() {
        if is_whole_id(cluster, name) {
            return Ok(Some(name.to_owned()));
        }
        let named = named(cluster, name);
        match &named[..] {
            [] => {}
            [(_, only)] => return Ok(Some(only.clone())),
            [_, _, ..] => return Err(ambiguous(name, &named)),
        }
    }
    for meant in NOUNS.into_iter().filter(|of| noun.is_none_or(|noun| noun == *of)) {
        match living(cluster, meant, name) {
            Ok(id) => return Ok(Some(id)),
            Err(error @ ReferenceError::Ambiguous { .. }) => return Err(error.into()),
            Err(ReferenceError::NotFound { .. }) => {}
        }
    }
    Ok(None)
}

/// The id of the existing object of a kind that a reference means.
fn living(cluster: &Cluster, noun: &str, reference: &str) -> Result<String, ReferenceError> {
    match noun {
        "service" => resolve_service(cluster, reference).map(|id| id.to_string()),
        "config" => resolve_config(cluster, reference).map(|id| id.to_string()),
        "secret" => resolve_secret(cluster, reference).map(|id| id.to_string()),
        "node" => resolve_node(cluster, reference).map(|id| id.to_string()),
        _ => resolve_task(cluster, reference).map(|id| id.to_string()),
    }
}

/// The rejection when several existing objects have the name.
fn ambiguous(name: &str, named: &[(&'static str, String)]) -> Rejection {
    let listed: Vec<String> = named.iter().map(|(noun, id)| format!("{noun} {id}")).collect();
    let sentence = format!("\"{name}\" could be several objects: {}", listed.join(", "));
    let nouns: BTreeSet<&str> = named.iter().map(|(noun, _)| *noun).collect();
    let hint = if nouns.len() == named.len() {
        let forms: Vec<String> = named.iter().map(|(noun, _)| format!("{noun}/{name}")).collect();
        format!("write {}", forms.join(" or "))
    } else {
        "give the id of the one that is meant".to_owned()
    };
    Rejection::new(RejectionKind::Invalid, "object", sentence, hint)
}

/// The last object with this name, or the one with this id prefix. A name costs the frames that the index does not cover, an id
/// prefix one pass over history.
fn past_object(
    history: &History,
    finder: &mut Finder,
    cluster: &Cluster,
    noun: Option<&'static str>,
    reference: &str,
) -> Result<Found, Rejection> {
    let mut recent = NameLookup::of(reference).among(noun);
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
    if let Some(id) = named_by_index(history, finder, noun, reference)? {
        return Ok(Found::One(id));
    }
    if noun.is_none_or(|noun| noun == "task")
        && let Some(service) = service
        && let Some(instance) = instance(history, finder, cluster, reference)?
        && let Some(task) = finder.last_task(history, service, instance)?
    {
        return Ok(Found::One(task.to_string()));
    }
    if finder.reach() == 0 || !recent.can_be_id() {
        return Ok(recent.found());
    }
    let mut whole = NameLookup::of(reference).among(noun);
    history.each(0..u64::MAX, |kind| whole.see(kind))?;
    Ok(whole.found())
}

/// The last object that was given this name, in the part of history that the index covers.
fn named_by_index(
    history: &History,
    finder: &Finder,
    noun: Option<&'static str>,
    name: &str,
) -> Result<Option<String>, Rejection> {
    let mut before = u64::MAX;
    while let Some(index) = finder.last(Term::Named(name), before)? {
        let mut bearer = NameLookup::of(name).among(noun);
        history.at(index)?.iter().flat_map(events::codec::kinds).for_each(|kind| bearer.see(kind));
        if let Some(id) = bearer.named() {
            return Ok(Some(id));
        }
        before = index;
    }
    Ok(None)
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
    let noun = Some("service");
    let mut recent = NameLookup::of(reference).among(noun);
    history.each(finder.reach()..u64::MAX, |kind| recent.see(kind))?;
    let id = match recent.named() {
        Some(id) => Some(id),
        None => named_by_index(history, finder, noun, reference)?,
    };
    Ok(id.and_then(|id| id.parse().ok()))
}

/// The instance of a service after the last dot of a reference: a slot, or a node.
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
        Err(_) => named_by_index(history, finder, Some("node"), place)?.and_then(|id| id.parse().ok()),
    };
    Ok(node.map(Instance::Node))
}

/// The place that a reference such as `web.1` means, whether it has a task or had one.
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

/// Maximum objects listed for an ambiguous name.
const LISTED_MAX: usize = 5;

/// The existing objects of all kinds with this name, each with its kind: a service, a config and a secret may have the same
/// name.
fn named(cluster: &Cluster, name: &str) -> Vec<(&'static str, String)> {
    let service = cluster.service_named(name).map(|service| ("service", service.id.to_string()));
    let config = cluster.config_named(name).map(|config| ("config", config.id.to_string()));
    let secret = cluster.secret_named(name).map(|secret| ("secret", secret.id.to_string()));
    let nodes = cluster.nodes_called(name).map(|node| ("node", node.id.to_string()));
    service.into_iter().chain(config).chain(secret).chain(nodes).take(LISTED_MAX).collect()
}

fn unknown(reference: &str) -> Rejection {
    let hint = "give the name or id of a service, config, secret, node or task, or such as service/web; of one that is gone, its last name or its id, \
                    which `swarmctl events --kind service_created --format json` shows";
    Rejection { hint: hint.to_owned(), ..Rejection::not_found("object", reference) }
}

/// Whether this is the complete id of an existing service, config, secret, node or task.
fn is_whole_id(cluster: &Cluster, reference: &str) -> bool {
    // The ids of all kinds have the same form, and no two objects have the same id.
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
