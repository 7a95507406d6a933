//! Objects with a version, by the text of their id.

use crate::Cluster;

/// The common properties of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<'a> {
    /// Its noun, such as `service`.
    pub kind: &'static str,
    /// Its name.
    pub name: &'a str,
    /// Index of the frame that last changed its spec.
    pub version: u64,
}

/// The object with this id, if users can change it.
pub fn find<'a>(cluster: &'a Cluster, id: &str) -> Option<Object<'a>> {
    let service = id.parse().ok().and_then(|id| cluster.services.get(id));
    let service = service.map(|service| ("service", service.spec.name(), service.version));
    let node =
        || id.parse().ok().and_then(|id| cluster.nodes.get(id)).map(|node| ("node", node.hostname(), node.version));
    let config = || {
        let config = id.parse().ok().and_then(|id| cluster.configs.get(id));
        config.map(|config| ("config", config.spec.name(), config.version))
    };
    let secret = || {
        let secret = id.parse().ok().and_then(|id| cluster.secrets.get(id));
        secret.map(|secret| ("secret", secret.spec.name(), secret.version))
    };
    let whole = || {
        let settings = &cluster.settings;
        (id == cluster.id().to_string()).then_some(("cluster", settings.name.as_str(), settings.version))
    };
    let found = service.or_else(node).or_else(config).or_else(secret).or_else(whole)?;
    let (kind, name, version) = found;
    Some(Object { kind, name, version })
}
