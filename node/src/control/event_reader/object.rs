//! What a reference means to who asks for history: also what is gone can be named.

use commands::{Rejection, RejectionKind};
use events::{ConfigId, Id, NodeId, SecretId, ServiceId, TaskId};
use projections::Cluster;
use projections::views::history::{Found, NameLookup};
use projections::views::overview::{
    ReferenceError, resolve_config, resolve_node, resolve_secret, resolve_service, resolve_task,
};

use super::history::History;

/// The id of what a reference means: of a living object, whose whole id wins over every name, or else the id as it is, or
/// else of what had that name last, or the one that has an id which begins so.
pub(super) fn object(history: &History, cluster: &Cluster, reference: &str) -> Result<String, Rejection> {
    if is_whole_id(cluster, reference) {
        return Ok(reference.to_owned());
    }
    let named = named(cluster, reference);
    if named.len() > 1 {
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
            Ok(id) => return Ok(id),
            Err(error @ ReferenceError::Ambiguous { .. }) => return Err(error.into()),
            Err(ReferenceError::NotFound { .. }) => {}
        }
    }
    if reference.parse::<TaskId>().is_ok() {
        return Ok(reference.to_owned());
    }
    let mut bearer = NameLookup::of(reference);
    history.each(0..u64::MAX, |kind| bearer.see(kind))?;
    match bearer.found() {
        Found::One(id) => Ok(id),
        Found::Several(ids) => {
            let sentence = format!("\"{reference}\" could be several objects of the past: {}", ids.join(", "));
            Err(Rejection::new(RejectionKind::Invalid, "object", sentence, "give more of the id"))
        }
        Found::Nothing => Err(unknown(reference)),
    }
}

/// Objects listed when a name has several.
const LISTED_MAX: usize = 5;

/// The living objects of all nouns that have this name: a service, a config and a secret may have the same.
fn named(cluster: &Cluster, name: &str) -> Vec<String> {
    let service = cluster.service_named(name).map(|service| format!("service {}", service.id));
    let config = cluster.config_named(name).map(|config| format!("config {}", config.id));
    let secret = cluster.secret_named(name).map(|secret| format!("secret {}", secret.id));
    let nodes = cluster.nodes_called(name).map(|node| format!("node {}", node.id));
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
            || cluster.tasks.contains(TaskId::from_bits(bits))
    })
}
