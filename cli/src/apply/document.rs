//! Specs in files: each document is a map with one key, `service` or `config`, whose value is the spec.

use events::{Annotations, ConfigSpec, ServiceSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Wanted, WantedConfig};
use crate::failure::{Failure, Kind};
use crate::yaml::{self, Fault, Node, Value};

const HINT: &str = "each document is `service:` or `config:` with a spec below it, as `swarmctl service export` writes them; nothing was changed";

/// A config with its data, which is text.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ConfigDocument {
    annotations: Annotations,
    template_driver: String,
    data: String,
}

/// Reads all objects of a file and adds them to `wanted`. A document may also be a list of objects.
///
/// # Errors
/// When the file is malformed, or an object is defined twice.
pub fn read(file: &str, text: &str, wanted: &mut Wanted) -> Result<(), Failure> {
    let refused = |fault: Fault| Failure::new(Kind::Usage, fault.to_string()).hint(HINT);
    let before = wanted.services.len() + wanted.configs.len();
    for document in yaml::documents(file, text).map_err(refused)? {
        let objects = match &document.value {
            Value::List(objects) => objects.as_slice(),
            Value::Map(_) | Value::Scalar { .. } => std::slice::from_ref(&document),
        };
        objects.iter().try_for_each(|object| add(wanted, object)).map_err(refused)?;
    }
    if wanted.services.len() + wanted.configs.len() == before {
        return Err(Failure::new(Kind::Usage, format!("{file} has no objects")).hint(HINT));
    }
    Ok(())
}

fn add(wanted: &mut Wanted, object: &Node) -> Result<(), Fault> {
    let Value::Map(entries) = &object.value else {
        return Err(Fault::new(&object.at, format!("an object is a map, not {}", object.kind())));
    };
    for (key, node) in entries {
        match key.text.as_str() {
            "service" => {
                let spec: ServiceSpec = yaml::from_node(node)?;
                let known = wanted.services.iter().any(|known| known.name() == spec.name());
                named("service", spec.name(), known, node)?;
                wanted.sources.add("service", spec.name(), node);
                wanted.services.push(spec);
            }
            "config" => {
                let ConfigDocument { annotations, template_driver, data } = yaml::from_node(node)?;
                let known = wanted.configs.iter().any(|known| known.spec.name() == annotations.name);
                named("config", &annotations.name, known, node)?;
                wanted.sources.add("config", &annotations.name, node);
                let spec = ConfigSpec { annotations: Some(annotations), template_driver };
                wanted.configs.push(WantedConfig { spec, data: data.into_bytes() });
            }
            other => {
                return Err(Fault::new(
                    &key.at,
                    format!("there is no object of kind {other}: write service or config"),
                ));
            }
        }
    }
    Ok(())
}

fn named(kind: &str, name: &str, known: bool, node: &Node) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(Fault::new(&node.at, format!("the {kind} has no name below annotations")));
    }
    if known { Err(Fault::new(&node.at, format!("the {kind} {name} is given twice"))) } else { Ok(()) }
}

/// The shortest document that describes this service: fields with their default value are left out.
///
/// # Errors
/// When a spec cannot be serialized, which is a bug in this program.
pub fn of_service(spec: &ServiceSpec) -> Result<Json, Failure> {
    let mut spec = spec.clone();
    let task = crate::spec::task(&mut spec);
    task.force_update = 0;
    let container = crate::spec::container(&mut spec);
    container.registry_auth_key.clear();
    container.env_secrets.iter_mut().for_each(|secret| secret.key.clear());
    // Another cluster has other ids for its configs and secrets, and other revisions.
    for reference in &mut container.configs {
        reference.config = None;
        reference.revision = if reference.pinned { reference.revision } else { 0 };
    }
    for reference in &mut container.secrets {
        reference.secret = None;
        reference.revision = if reference.pinned { reference.revision } else { 0 };
    }
    let mut document = serde_json::to_value(&spec).map_err(std::io::Error::from)?;
    let paths = leaves(&document, "");
    paths.iter().rev().for_each(|path| shorten(&mut document, path, &spec));
    Ok(json!({ "service": document }))
}

/// The paths of all fields, each field before those nested in it.
fn leaves(value: &Json, path: &str) -> Vec<String> {
    let parts: Vec<(String, &Json)> = match value {
        Json::Object(fields) => {
            fields.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Json::Array(items) => items.iter().enumerate().map(|(position, item)| (position.to_string(), item)).collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => Vec::new(),
    };
    let below = parts.into_iter().flat_map(|(part, value)| {
        let path = format!("{path}/{part}");
        let below = leaves(value, &path);
        std::iter::once(path).chain(below)
    });
    below.collect()
}

/// Removes a field if the document means the same without it. List items are kept.
fn shorten(document: &mut Json, path: &str, spec: &ServiceSpec) {
    let Some((parent, key)) = path.rsplit_once('/') else { return };
    let key = key.replace("~1", "/").replace("~0", "~");
    let Some(removed) =
        document.pointer_mut(parent).and_then(Json::as_object_mut).and_then(|fields| fields.remove(&key))
    else {
        return;
    };
    let is_same = serde_json::from_value::<ServiceSpec>(document.clone()).is_ok_and(|read| read == *spec);
    if !is_same && let Some(fields) = document.pointer_mut(parent).and_then(Json::as_object_mut) {
        fields.insert(key, removed);
    }
}

#[cfg(test)]
mod tests {
    use events::{
        ContainerSpec, EndpointSpec, EnvSecret, GlobalMode, PortConfig, ResourceRequirements, Resources, UpdateConfig,
        service_spec::Mode,
    };

    use super::*;
    use crate::format::samples;

    fn read(file: &str, text: &str) -> Result<Wanted, Failure> {
        let mut wanted = Wanted::default();
        super::read(file, text, &mut wanted).map(|()| wanted)
    }

    fn spec() -> ServiceSpec {
        let mut spec = samples::spec();
        spec.update = Some(UpdateConfig { parallelism: Some(0), ..Default::default() });
        spec.endpoint = Some(EndpointSpec {
            ports: vec![PortConfig { name: "http".to_owned(), target_port: 80, ..Default::default() }],
        });
        let task = crate::spec::task(&mut spec);
        let limits = Some(Resources { memory_bytes: 1 << 20, ..Default::default() });
        task.resources = Some(ResourceRequirements { limits, ..Default::default() });
        spec.annotations.get_or_insert_default().labels = [("a/b~c".to_owned(), String::new())].into();
        spec
    }

    #[test]
    fn a_document_says_no_more_than_it_takes() {
        let text = yaml::to_text(&of_service(&spec()).expect("a document"));
        let written = "service:\n  annotations:\n    labels:\n      \"a/b~c\": \"\"\n    name: web\n  endpoint:\n    ports:\n      - name: http\n";
        assert!(text.starts_with(written), "{text}");
        assert!(text.contains("  mode:\n    replicated:\n      replicas: 2\n"), "{text}");
        assert!(text.contains("\n    parallelism: 0\n") && !text.contains("tty"), "{text}");
    }

    #[test]
    fn what_is_written_reads_back_as_the_same_spec() {
        let global = ServiceSpec { mode: Some(Mode::Global(GlobalMode {})), ..samples::spec() };
        for spec in [spec(), samples::spec(), global] {
            let text = yaml::to_text(&of_service(&spec).expect("a document"));
            assert_eq!(read("f", &text).expect(&text).services, [spec], "{text}");
        }
    }

    #[test]
    fn what_only_one_cluster_knows_is_left_out() {
        let mut spec = samples::spec();
        crate::spec::task(&mut spec).force_update = 7;
        let container: &mut ContainerSpec = crate::spec::container(&mut spec);
        container.registry_auth_key = "registry-auth/x".to_owned();
        container.env_secrets = vec![EnvSecret { name: "TOKEN".to_owned(), key: "env-secret/x".to_owned() }];
        let text = yaml::to_text(&of_service(&spec).expect("a document"));
        assert!(!text.contains("registry") && !text.contains("env-secret/") && !text.contains("force"), "{text}");
        assert!(text.contains("TOKEN"), "{text}");
    }

    #[test]
    fn files_have_several_objects_and_are_read_strictly() {
        let service = |name: &str| format!("service: {{annotations: {{name: {name}}}}}");
        let several =
            format!("{}\n---\n- {}\n- config: {{annotations: {{name: c}}, data: x}}\n", service("a"), service("b"));
        let read_several = read("f", &several).expect("objects");
        assert_eq!((read_several.services.len(), read_several.configs.len()), (2, 1));
        assert_eq!(
            read("f", "[{\"service\": {\"annotations\": {\"name\": \"a\"}}}]").map(|wanted| wanted.services.len()),
            Ok(1)
        );
        for (text, why) in [
            ("", "f has no objects"),
            ("- web\n", "f:1:3: an object is a map, not a single value"),
            ("volume: {}\n", "f:1:1: there is no object of kind volume"),
            ("service: {anotations: {name: a}}\n", "f:1:11: there is no key anotations here"),
            ("service: {}\n", "f:1:10: the service has no name"),
            ("config: {annotations: {name: a}, file: x}\n", "f:1:34: there is no key file here"),
            (&format!("- {}\n- {}\n", service("a"), service("a")), "f:2:12: the service a is given twice"),
        ] {
            let refused = read("f", text).expect_err(text);
            assert!(refused.sentence.starts_with(why), "{text}: {}", refused.sentence);
        }
    }
}
