//! Describes this machine and its engine. Pure, except for the two requests that `mod.rs` makes.

use std::collections::BTreeMap;

use bollard::models::{PluginsInfo, SystemInfo, SystemVersion};
use events::{EngineDescription, EnginePlugin, NodeDescription, Platform, Resources};

/// The node as its engine describes it.
pub(super) fn node(info: SystemInfo, version: SystemVersion) -> NodeDescription {
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
    NodeDescription {
        hostname: info.name.unwrap_or_default(),
        platform: Some(Platform {
            architecture: info.architecture.unwrap_or_default(),
            os: info.os_type.unwrap_or_default(),
        }),
        resources: Some(Resources {
            nano_cpus: positive(info.ncpu).saturating_mul(1_000_000_000),
            memory_bytes: positive(info.mem_total),
            generic: Vec::new(),
        }),
        engine: Some(EngineDescription {
            version: info.server_version.unwrap_or_default(),
            api_version: version.api_version.unwrap_or_default(),
            labels: labels(&info.labels.unwrap_or_default()),
            plugins: plugins(info.plugins.unwrap_or_default()),
        }),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        executor: "docker".to_owned(),
    }
}

/// Engine labels have the form `key=value`; a label without `=` is a key with an empty value.
fn labels(texts: &[String]) -> BTreeMap<String, String> {
    let pairs = texts.iter().map(|text| text.split_once('=').unwrap_or((text, "")));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn plugins(info: PluginsInfo) -> Vec<EnginePlugin> {
    let kinds =
        [("Volume", info.volume), ("Network", info.network), ("Authorization", info.authorization), ("Log", info.log)];
    let all =
        kinds.into_iter().flat_map(|(kind, names)| names.unwrap_or_default().into_iter().map(move |name| (kind, name)));
    all.map(|(kind, name)| EnginePlugin { r#type: kind.to_owned(), name }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_labels_and_plugins_are_read() {
        let info = SystemInfo {
            name: Some("host-a".into()),
            ncpu: Some(4),
            mem_total: Some(8 << 30),
            labels: Some(vec!["disk=ssd".into(), "old".into(), "a=b=c".into()]),
            plugins: Some(PluginsInfo { volume: Some(vec!["local".into()]), ..Default::default() }),
            ..Default::default()
        };
        let node = node(info, SystemVersion { api_version: Some("1.41".into()), ..Default::default() });
        let resources = node.resources.expect("resources");
        assert_eq!((resources.nano_cpus, resources.memory_bytes), (4_000_000_000, 8 << 30));
        let engine = node.engine.expect("an engine");
        assert_eq!(engine.api_version, "1.41");
        assert_eq!(engine.labels["disk"], "ssd");
        assert_eq!(engine.labels["old"], "");
        assert_eq!(engine.labels["a"], "b=c");
        assert_eq!((engine.plugins[0].r#type.as_str(), engine.plugins[0].name.as_str()), ("Volume", "local"));
    }
}
