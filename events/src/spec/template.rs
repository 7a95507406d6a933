//! Go's text/template in a container's spec, as in Docker's Swarm mode: `{{.Node.Hostname}}-{{.Task.Slot}}`. A task's node
//! expands them when it creates the container; a manager tries them on an example task, so that an error is reported when the
//! service is created.
//!
//! These fields are expanded: the values of the environment, the hostname, sources and targets of mounts, and labels and driver
//! options of volumes. In addition to Go's own functions there is `join SEPARATOR TEXT...`. The data of a config or a secret may
//! be a template too (`payload.rs`).

mod engine;
mod payload;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use gotmpl::Value;

use self::engine::{Engine, Limits};
use crate::{ContainerSpec, NodeId, Platform, ServiceId, ServiceSpec, TaskId};

pub use payload::{Found, LookUp, Payload, PayloadError, Source, TEMPLATE_DRIVER, check_payload, expand_payload};

/// The limits of templates in a spec.
const LIMITS: Limits =
    Limits { template_bytes: 4 * 1024, templates_bytes: 64 * 1024, text_bytes: 64 * 1024, work_bytes: 1024 * 1024 };

/// The fields available to a template.
#[derive(Debug, Clone, Copy)]
pub struct TemplateScope<'a> {
    /// `.Service.ID`
    pub service: ServiceId,
    /// `.Service.Name` and `.Service.Labels`
    pub spec: &'a ServiceSpec,
    /// `.Node.ID`
    pub node: NodeId,
    /// `.Node.Hostname`
    pub hostname: &'a str,
    /// `.Node.Platform.Architecture` and `.Node.Platform.OS`
    pub platform: &'a Platform,
    /// `.Task.ID`
    pub task: TaskId,
    /// `.Task.Name`
    pub task_name: &'a str,
    /// The number of `.Task.Slot`; for a task of a global service that is its node's id.
    pub slot: u64,
}

/// A template that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// The field that contains it: "the hostname".
    pub place: String,
    /// The error from the template engine. It may repeat a part of the template, which may be a secret: only the author may see
    /// it.
    pub reason: String,
}

/// Does not repeat any part of the template.
impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the template in {} cannot be expanded", self.place)
    }
}

impl std::error::Error for TemplateError {}

/// Whether a container's spec contains templates.
pub fn has_templates(container: &ContainerSpec) -> bool {
    let mut found = false;
    let mut look = |_: fmt::Arguments<'_>, text: &mut String| {
        found |= is_template(text);
        Ok(())
    };
    // This visitor never fails.
    visit(&mut container.clone(), &mut look).is_ok() && found
}

/// The container's spec with its templates expanded for one task.
///
/// # Errors
/// When a template is malformed, refers to something that does not exist, or exceeds its limits.
pub fn expand<'a>(
    container: &'a ContainerSpec,
    scope: &TemplateScope<'_>,
) -> Result<Cow<'a, ContainerSpec>, TemplateError> {
    let (mut expanded, engine) = (container.clone(), Engine::new(scope, LIMITS));
    let (mut found, mut bytes) = (false, 0);
    visit(&mut expanded, &mut |place, text| {
        if is_template(text) {
            found = true;
            bytes += text.len();
            *text = engine.expand(text, bytes).map_err(|reason| TemplateError { place: place.to_string(), reason })?;
        }
        Ok(())
    })?;
    Ok(if found { Cow::Owned(expanded) } else { Cow::Borrowed(container) })
}

fn is_template(text: &str) -> bool {
    text.contains("{{")
}

type Visit<'a> = dyn FnMut(fmt::Arguments<'_>, &mut String) -> Result<(), TemplateError> + 'a;

/// Every text of a container's spec that may be a template.
fn visit(container: &mut ContainerSpec, act: &mut Visit<'_>) -> Result<(), TemplateError> {
    act(format_args!("the hostname"), &mut container.hostname)?;
    for entry in &mut container.env {
        if let Some((name, value)) = entry.split_once('=') {
            let mut value = value.to_owned();
            act(format_args!("the environment variable {name}"), &mut value)?;
            *entry = format!("{name}={value}");
        }
    }
    for mount in &mut container.mounts {
        act(format_args!("the source of a mount"), &mut mount.source)?;
        act(format_args!("the target of a mount"), &mut mount.target)?;
        let Some(volume) = &mut mount.volume else { continue };
        for (key, value) in &mut volume.labels {
            act(format_args!("the volume label {key}"), value)?;
        }
        for (key, value) in volume.driver.iter_mut().flat_map(|driver| &mut driver.options) {
            act(format_args!("the volume option {key}"), value)?;
        }
    }
    Ok(())
}

impl TemplateScope<'_> {
    fn data(&self) -> Value {
        let text = |text: &str| Value::from(text);
        let labels = self.spec.annotations().labels.iter().map(|(key, value)| (key.clone(), text(value)));
        let slot = if self.spec.is_global() { self.node.to_string() } else { self.slot.to_string() };
        map([
            (
                "Service",
                map([
                    ("ID", text(&self.service.to_string())),
                    ("Name", text(self.spec.name())),
                    ("Labels", labels.collect::<BTreeMap<String, Value>>().into()),
                ]),
            ),
            (
                "Node",
                map([
                    ("ID", text(&self.node.to_string())),
                    ("Hostname", text(self.hostname)),
                    (
                        "Platform",
                        map([("Architecture", text(&self.platform.architecture)), ("OS", text(&self.platform.os))]),
                    ),
                ]),
            ),
            (
                "Task",
                map([("ID", text(&self.task.to_string())), ("Name", text(self.task_name)), ("Slot", text(&slot))]),
            ),
        ])
    }
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::from_entries(fields.map(|(name, value)| (name.to_owned(), value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Id;
    use crate::{Annotations, Driver, Mount, VolumeOptions};

    fn spec() -> ServiceSpec {
        let labels = BTreeMap::from([("tier".to_owned(), "front".to_owned()), ("com.a.b".to_owned(), "x".to_owned())]);
        ServiceSpec { annotations: Some(Annotations { name: "web".to_owned(), labels }), ..Default::default() }
    }

    fn expanded(container: &ContainerSpec) -> Result<ContainerSpec, TemplateError> {
        let platform = Platform { architecture: "x86_64".to_owned(), os: "linux".to_owned() };
        let (spec, name) = (spec(), format!("web.3.{}", TaskId::from_bits(3)));
        let scope = TemplateScope {
            service: ServiceId::from_bits(1),
            spec: &spec,
            node: NodeId::from_bits(2),
            hostname: "n1",
            platform: &platform,
            task: TaskId::from_bits(3),
            task_name: &name,
            slot: 3,
        };
        expand(container, &scope).map(Cow::into_owned)
    }

    fn hostname(template: &str) -> Result<String, String> {
        let container = ContainerSpec { hostname: template.to_owned(), ..Default::default() };
        expanded(&container).map(|container| container.hostname).map_err(|error| error.reason)
    }

    #[test]
    fn every_field_can_be_asked_for() {
        let table = [
            ("{{.Service.ID}}", ServiceId::from_bits(1).to_string()),
            ("{{.Service.Name}}", "web".to_owned()),
            ("{{.Service.Labels.tier}}", "front".to_owned()),
            (r#"{{index .Service.Labels "com.a.b"}}"#, "x".to_owned()),
            (r#"a{{index .Service.Labels "none"}}b"#, "ab".to_owned()),
            ("{{.Node.ID}}", NodeId::from_bits(2).to_string()),
            ("{{.Node.Hostname}}-{{.Task.Slot}}", "n1-3".to_owned()),
            ("{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}", "linux/x86_64".to_owned()),
            ("{{.Task.ID}}", TaskId::from_bits(3).to_string()),
            ("{{.Task.Name}}", format!("web.3.{}", TaskId::from_bits(3))),
            (r#"{{join "-" .Service.Name .Task.Slot}}"#, "web-3".to_owned()),
            (r#"{{printf "%s-%3s" .Service.Name .Task.Slot}}"#, "web-  3".to_owned()),
            (r#"{{if eq .Service.Labels.tier "front"}}f{{else}}b{{end}}"#, "f".to_owned()),
            (r#"{{range $k, $v := .Service.Labels}}{{$k}}={{$v}};{{end}}"#, "com.a.b=x;tier=front;".to_owned()),
            (r#"{{"{{"}}"#, "{{".to_owned()),
        ];
        for (template, result) in table {
            assert_eq!(hostname(template), Ok(result), "{template}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        let table = [
            ("{{.Task.Slt}}", "map has no entry for key: Slt"),
            ("{{.Service.Labels.none}}", "map has no entry for key: none"),
            ("{{frob 1}}", "frob"),
            ("{{.Task.Slot", "unclosed"),
            ("{{if true}}a", "this block has no {{end}}"),
            ("a{{end}}b", "without a block"),
            (r#"{{join .Service.Labels ","}}"#, "join takes texts"),
            (r#"{{template "x"}}"#, "not supported"),
            ("{{- define \"x\"}}{{end}}", "not supported"),
        ];
        for (template, words) in table {
            let error = hostname(template).expect_err(template);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn an_error_shows_the_template_only_in_its_reason() {
        let container = ContainerSpec { env: vec![r#"A={{.a (b "hunter2"}}"#.to_owned()], ..Default::default() };
        let error = expanded(&container).expect_err("this is no template");
        assert_eq!(error.to_string(), "the template in the environment variable A cannot be expanded");
    }

    #[test]
    fn no_template_asks_for_more_than_there_is() {
        let doubling = r#"{{$x := "ab"}}"#.to_owned() + &r"{{$x = print $x $x}}".repeat(150) + "{{$x}}";
        let quoting = r#"{{"\"""#.to_owned() + &r#" | printf "%q""#.repeat(200) + "}}";
        let wide = r#"{{printf "%60000d" 1}}"#.repeat(2);
        let looping = "{{range 1000000}}x{{end}}".to_owned();
        let long = "{{1}}".repeat(LIMITS.template_bytes);
        let unseen = r#"{{$x := printf "%60000d%60000d" 1 1}}"#.to_owned();
        let joined = format!(r#"{{{{$x := join "{}" {}}}}}"#, "s".repeat(2_000), "\"\" ".repeat(600));
        let table = [
            (doubling, "too much text"),
            (quoting, "write error"),
            (wide, "write error"),
            (looping, "range iteration budget exhausted"),
            (long, "the maximum is 4096"),
            (unseen, "write error"),
            (joined, "too much text"),
        ];
        for (template, words) in table {
            let error = hostname(&template).expect_err(&template[..20]);
            assert!(error.contains(words), "{}: {error}", &template[..20]);
        }
    }

    #[test]
    fn many_templates_together_have_bounds_too() {
        let of = |template: &str, count: usize| {
            let env = (0..count).map(|number| format!("A{number}={template}")).collect();
            expanded(&ContainerSpec { env, ..Default::default() })
        };
        assert!(of("{{.Task.Slot}}", 1_000).is_ok());
        assert!(of(r#"{{printf "%09s" .Task.Slot}}"#, 1_000).is_ok());
        assert!(of("{{.Task.Slot}}", 10_000).is_err(), "too many bytes of templates");
        assert!(of(r#"{{$x := printf "%60000d" 1}}"#, 100).is_err(), "too much work");
    }

    #[test]
    fn templates_are_expanded_where_docker_expands_them_and_nowhere_else() {
        let driver =
            Driver { name: "local".to_owned(), options: [("o".to_owned(), "{{.Task.Slot}}".to_owned())].into() };
        let volume = VolumeOptions {
            labels: [("l".to_owned(), "{{.Service.Name}}".to_owned())].into(),
            driver: Some(driver),
            ..Default::default()
        };
        let mount = Mount {
            source: "data-{{.Task.Slot}}".to_owned(),
            target: "/{{.Service.Name}}".to_owned(),
            volume: Some(volume),
            ..Default::default()
        };
        let container = ContainerSpec {
            image: "{{.Task.Slot}}".to_owned(),
            env: vec!["A={{.Task.Slot}}={{.Node.Hostname}}".to_owned(), "{{B}}".to_owned(), "C=c".to_owned()],
            args: vec!["{{.Task.Slot}}".to_owned()],
            mounts: vec![mount],
            ..Default::default()
        };
        assert!(has_templates(&container));
        let result = expanded(&container).expect("these are sound");
        assert_eq!(result.env, ["A=3=n1", "{{B}}", "C=c"]);
        assert_eq!((result.image.as_str(), result.args[0].as_str()), ("{{.Task.Slot}}", "{{.Task.Slot}}"));
        let mount = &result.mounts[0];
        assert_eq!((mount.source.as_str(), mount.target.as_str()), ("data-3", "/web"));
        let volume = mount.volume.as_ref().expect("its options stay");
        assert_eq!(volume.labels["l"], "web");
        assert_eq!(volume.driver.as_ref().expect("its driver stays").options["o"], "3");
    }

    #[test]
    fn a_spec_without_templates_is_left_alone() {
        let container = ContainerSpec { env: vec!["A=b".to_owned()], ..Default::default() };
        assert!(!has_templates(&container));
        assert_eq!(expanded(&container), Ok(container));
    }
}
