//! Objects as plain values that can be compared and restored, and the commands that do so.

use events::{ClusterSpec, ConfigSpec, ContainerSpec, Named, NodeId, NodeSpec, SecretSpec, ServiceSpec};
use projections::Cluster;
use projections::views::difference::{self, Object};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Inverse, Problem};

/// The object of an undone change. Names, not ids: an object that is removed and created again has a new id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The cluster's own settings.
    Cluster,
    /// A node.
    Node(NodeId),
    /// A config, by its name.
    Config(String),
    /// A secret, by its name.
    Secret(String),
    /// An operator, by the name.
    Operator(String),
    /// A service, by its name.
    Service(String),
    /// A tag, by its name.
    Tag(String),
}

impl Key {
    /// The objects that differ between two states.
    pub(super) fn changed(before: &Cluster, after: &Cluster) -> Vec<Self> {
        let name = |object| difference::name(object, before, after).to_owned();
        let keys = difference::changed(before, after).into_iter().filter_map(|object| match object {
            Object::Cluster => Some(Self::Cluster),
            Object::Node(id) => Some(Self::Node(id)),
            Object::Operator(_) => Some(Self::Operator(name(object))),
            Object::Config(_) => Some(Self::Config(name(object))),
            Object::Secret(_) => Some(Self::Secret(name(object))),
            Object::Service(_) => Some(Self::Service(name(object))),
            Object::Place(..) => None,
        });
        let mut keys: Vec<Self> = keys.collect();
        let (was, is) = (&before.settings.tags, &after.settings.tags);
        let tags = was.keys().chain(is.keys()).filter(|name| was.get(*name) != is.get(*name));
        keys.extend(tags.cloned().map(Self::Tag));
        keys.sort();
        // An object that was removed and created again in between is one object here.
        keys.dedup();
        keys
    }

    /// The object as text, such as `service web`.
    pub fn text(&self, cluster: &Cluster) -> String {
        match self {
            Self::Cluster => "the cluster's settings".to_owned(),
            Self::Node(id) => {
                let node = cluster.nodes.get(*id);
                format!("node {}", node.map_or_else(|| id.to_string(), |node| node.name().to_owned()))
            }
            Self::Config(name) => format!("config {name}"),
            Self::Secret(name) => format!("secret {name}"),
            Self::Operator(name) => format!("operator {name}"),
            Self::Service(name) => format!("service {name}"),
            Self::Tag(name) => format!("tag {name}"),
        }
    }

    /// The value of the object that is compared and restored; null if it does not exist.
    pub fn value(&self, cluster: &Cluster) -> Value {
        match self {
            Self::Cluster => plain(&*cluster.settings.spec),
            Self::Node(id) => cluster.nodes.get(*id).map_or(Value::Null, |node| plain(&*node.spec)),
            Self::Config(name) => cluster
                .config_named(name)
                .map_or(Value::Null, |config| json!({ "spec": plain(&*config.spec), "data": hex(config.data()) })),
            Self::Secret(name) => cluster
                .secret_named(name)
                .map_or(Value::Null, |secret| json!({ "spec": plain(&*secret.spec), "revision": secret.newest() })),
            Self::Operator(name) => {
                cluster.operator_named(name).map_or(Value::Null, |operator| json!({ "role": operator.role.name() }))
            }
            Self::Service(name) => {
                cluster.service_named(name).map_or(Value::Null, |service| plain(&comparable(&service.spec)))
            }
            Self::Tag(name) => cluster
                .settings
                .tags
                .get(name)
                .map_or(Value::Null, |tag| json!({ "index": tag.index, "time": plain(&tag.time) })),
        }
    }

    /// The command that changes the object from its current value to the given one.
    pub(super) fn commands(&self, now: &Cluster, wanted: &Value, problems: &mut Vec<Problem>) -> Option<Inverse> {
        let found = match self {
            Self::Cluster => read(wanted).map(|spec: ClusterSpec| {
                Some(Inverse::UpdateCluster { spec: Box::new(spec), version: now.settings.version })
            }),
            Self::Node(id) => of_node(*id, now, wanted),
            Self::Config(name) => of_config(name, now, wanted),
            Self::Secret(name) => of_secret(name, now, wanted),
            Self::Operator(name) => of_operator(name, now, wanted),
            Self::Service(name) => of_service(name, now, wanted, problems),
            Self::Tag(name) => of_tag(name, now, wanted),
        };
        found.unwrap_or_else(|why| {
            problems.push(Problem::impossible(self.text(now), why));
            None
        })
    }
}

type Found = Result<Option<Inverse>, String>;

fn of_node(id: NodeId, now: &Cluster, wanted: &Value) -> Found {
    let Some(node) = now.nodes.get(id) else {
        return Err("a node that was removed has to join again".to_owned());
    };
    if wanted.is_null() {
        return Err("a node that joined is taken out with `swarmctl node rm`".to_owned());
    }
    let spec: NodeSpec = read(wanted)?;
    Ok(Some(Inverse::UpdateNode { node: id, spec, version: node.version }))
}

fn of_config(name: &str, now: &Cluster, wanted: &Value) -> Found {
    let present = now.config_named(name);
    if wanted.is_null() {
        return Ok(present.map(|config| Inverse::RemoveConfig { config: config.id }));
    }
    let spec: ConfigSpec = read(&wanted["spec"])?;
    let data = unhex(wanted["data"].as_str().unwrap_or_default())?;
    let Some(config) = present else { return Ok(Some(Inverse::CreateConfig { spec, data })) };
    let spec = (spec != *config.spec).then_some(spec);
    let data = (data != config.data()).then_some(data);
    Ok(Some(Inverse::UpdateConfig { config: config.id, spec, data, version: config.version }))
}

fn of_secret(name: &str, now: &Cluster, wanted: &Value) -> Found {
    let present = now.secret_named(name);
    match (wanted.is_null(), present) {
        (true, secret) => Ok(secret.map(|secret| Inverse::RemoveSecret { secret: secret.id })),
        (false, None) => Err("a secret that was removed is destroyed: create it again".to_owned()),
        (false, Some(secret)) if wanted["revision"] != json!(secret.newest()) => {
            Err("the former data of a secret is destroyed: set it again with `swarmctl secret update`".to_owned())
        }
        (false, Some(secret)) => {
            let spec: SecretSpec = read(&wanted["spec"])?;
            Ok(Some(Inverse::UpdateSecret { secret: secret.id, spec, version: secret.version }))
        }
    }
}

fn of_operator(name: &str, now: &Cluster, wanted: &Value) -> Found {
    match (wanted.is_null(), now.operator_named(name)) {
        (true, operator) => Ok(operator.map(|operator| Inverse::RevokeOperator { operator: operator.id })),
        (false, _) => Err("a revoked certificate stays revoked: create the operator again".to_owned()),
    }
}

fn of_tag(name: &str, now: &Cluster, wanted: &Value) -> Found {
    let (is_present, name) = (now.settings.tags.contains_key(name), name.to_owned());
    match (wanted.is_null(), is_present) {
        (true, is_present) => Ok(is_present.then_some(Inverse::UntagHistory { name })),
        (false, true) => Err(format!("it is another point now: `swarmctl history untag {name}` comes first")),
        (false, false) => {
            let index = read(&wanted["index"])?;
            Ok(Some(Inverse::TagHistory { name, index, time: read(&wanted["time"])? }))
        }
    }
}

fn of_service(name: &str, now: &Cluster, wanted: &Value, problems: &mut Vec<Problem>) -> Found {
    let present = now.service_named(name);
    if wanted.is_null() {
        return Ok(present.map(|service| Inverse::RemoveService { service: service.id }));
    }
    let mut spec: ServiceSpec = read(wanted)?;
    let subject = format!("service {name}");
    if let Some(lost) = remove_destroyed_secrets(&mut spec, present.map(|service| &*service.spec)) {
        problems.push(Problem::note(&subject, lost));
    }
    if let Some(container) = container(&mut spec) {
        refer(container, present.map(|service| service.spec.template().container()), now);
    }
    let Some(service) = present else {
        problems.push(Problem::note(
            &subject,
            "it comes back with another id, and without registry credentials".to_owned(),
        ));
        return Ok(Some(Inverse::CreateService { spec: Box::new(spec) }));
    };
    if std::mem::discriminant(&spec.mode()) != std::mem::discriminant(&service.spec.mode()) {
        return Err("it is in another mode now, which cannot be changed".to_owned());
    }
    Ok(Some(Inverse::UpdateService { service: service.id, spec: Box::new(spec), version: service.version }))
}

/// A spec without the parts filled in by managers: names of payloads, and followed revisions.
fn comparable(spec: &ServiceSpec) -> ServiceSpec {
    let mut spec = spec.clone();
    let Some(container) = container(&mut spec) else { return spec };
    container.registry_auth_key = String::new();
    container.env_secrets.iter_mut().for_each(|secret| secret.key = String::new());
    container.configs.iter_mut().filter(|of| !of.pinned).for_each(|of| (of.revision, of.config) = (0, None));
    container.secrets.iter_mut().filter(|of| !of.pinned).for_each(|of| (of.revision, of.secret) = (0, None));
    spec
}

fn container(spec: &mut ServiceSpec) -> Option<&mut ContainerSpec> {
    spec.task.as_mut().and_then(|task| task.container.as_mut())
}

/// Removes the secret variables whose values are destroyed: those that the current spec does not have.
fn remove_destroyed_secrets(spec: &mut ServiceSpec, present: Option<&ServiceSpec>) -> Option<String> {
    let known = present.map(|spec| spec.template().container().env_secrets.as_slice()).unwrap_or_default();
    let has_value = |name: &str| known.iter().any(|secret| secret.name == name);
    let container = container(spec)?;
    let lost: Vec<String> = container.env_secrets.iter().map(|secret| secret.name.clone()).collect();
    let lost: Vec<String> = lost.into_iter().filter(|name| !has_value(name)).collect();
    container.env_secrets.retain(|secret| has_value(&secret.name));
    (!lost.is_empty()).then(|| {
        format!("the values of secret variables are destroyed, give them again with --env-secret: {}", lost.join(", "))
    })
}

/// Sets the current ids of references to configs and secrets by name, and the revisions of the current spec. Missing objects have
/// no id yet: the caller that submits the commands fills it in.
fn refer(container: &mut ContainerSpec, present: Option<&ContainerSpec>, now: &Cluster) {
    for reference in &mut container.configs {
        reference.config = now.config_named(&reference.name).map(|config| config.id);
        let same =
            present.and_then(|known| known.configs.iter().find(|of| of.config == reference.config && !of.pinned));
        if !reference.pinned {
            reference.revision = same.map_or(0, |same| same.revision);
        }
    }
    for reference in &mut container.secrets {
        reference.secret = now.secret_named(&reference.name).map(|secret| secret.id);
        let same =
            present.and_then(|known| known.secrets.iter().find(|of| of.secret == reference.secret && !of.pinned));
        if !reference.pinned {
            reference.revision = same.map_or(0, |same| same.revision);
        }
    }
}

fn plain<T: Serialize>(spec: &T) -> Value {
    // Specs are plain data, which always becomes JSON.
    serde_json::to_value(spec).unwrap_or_default()
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|error| format!("its former state cannot be read: {error}"))
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16)?.try_into().ok()).collect();
    let digits = digits.ok_or_else(|| "its former data cannot be read".to_owned())?;
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| (byte << 4) | digit)).collect())
}
