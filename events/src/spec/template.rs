//! Go's text/template in a container's spec, as Docker's Swarm mode has it: `{{.Node.Hostname}}-{{.Task.Slot}}`. A task's
//! node expands them when it makes the container; a manager tries them on a task that might be, so that a mistake is
//! reported when the service is made.
//!
//! Expanded are the values of the environment, the hostname, sources and targets of mounts, and labels and driver options
//! of volumes. Beyond Go's own functions there is `join SEPARATOR TEXT...`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use gotmpl::{MissingKey, Template, Value};

use crate::{ContainerSpec, NodeId, Platform, ServiceId, ServiceSpec, TaskId};

/// Longest template, and all templates of a container together, in bytes.
const TEMPLATE_BYTES_MAX: usize = 4 * 1024;
const TEMPLATES_BYTES_MAX: usize = 64 * 1024;
/// Longest text that one function of a template takes or makes, and that a template makes, in bytes. Without a bound a short
/// template could ask for more memory than there is: quoting doubles, and `printf` repeats as often as it is told.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Most that all functions of a container's templates take and make together, in bytes. A manager tries templates in its turn.
const WORK_BYTES_MAX: usize = 1024 * 1024;
/// What each call of a function counts for, whatever it takes and makes.
const CALL_BYTES: usize = 64;
/// Most rounds of all loops of a template together. Only labels are worth a loop.
const ROUNDS_MAX: u64 = 64;
/// Functions that make text: SwarmKit's own, and those of the engine whose result may be longer than what they are given.
const FUNCTIONS: [(&str, Function); 7] = [
    ("join", join),
    ("print", builtin),
    ("println", builtin),
    ("printf", builtin),
    ("html", builtin),
    ("js", builtin),
    ("urlquery", builtin),
];

/// What a template can ask for.
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
    /// The number behind `.Task.Slot`; a task of a global service has its node's id there.
    pub slot: u64,
}

/// A template that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// Where it stands: "the hostname".
    pub place: String,
    /// What is wrong with it, in the words of the template engine. They may repeat a part of it, which may be a secret: only
    /// for whoever wrote it.
    pub reason: String,
}

/// Says nothing of the template itself.
impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the template in {} cannot be expanded", self.place)
    }
}

impl std::error::Error for TemplateError {}

/// Whether there is anything to expand in a container's spec.
pub fn has_templates(container: &ContainerSpec) -> bool {
    let mut found = false;
    let mut look = |_: fmt::Arguments<'_>, text: &mut String| {
        found |= is_template(text);
        Ok(())
    };
    // Looking never fails.
    visit(&mut container.clone(), &mut look).is_ok() && found
}

/// The container's spec with its templates expanded for one task.
///
/// # Errors
/// When a template is malformed, asks for what is not there, or for more text than it may.
pub fn expand<'a>(
    container: &'a ContainerSpec,
    scope: &TemplateScope<'_>,
) -> Result<Cow<'a, ContainerSpec>, TemplateError> {
    let (mut expanded, engine) = (container.clone(), Engine::new(scope));
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

/// Expands the templates of one container, within bounds.
struct Engine {
    data: Value,
    /// What functions may still take and make.
    work: Arc<AtomicUsize>,
}

impl Engine {
    fn new(scope: &TemplateScope<'_>) -> Self {
        Self { data: scope.data(), work: Arc::new(AtomicUsize::new(WORK_BYTES_MAX)) }
    }

    /// One template, the last of so many bytes of templates.
    fn expand(&self, source: &str, bytes: usize) -> Result<String, String> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(format!("it has {} bytes; the maximum is {TEMPLATE_BYTES_MAX}", source.len()));
        }
        if bytes > TEMPLATES_BYTES_MAX {
            return Err(format!("the templates have more than {TEMPLATES_BYTES_MAX} bytes together"));
        }
        if let Some(word) = calls_templates(source) {
            return Err(format!("{{{{{word}}}}} is not for specs"));
        }
        let mut template = Template::new("").missing_key(MissingKey::Error).max_range_iters(ROUNDS_MAX);
        template = template.func("index", index);
        for (name, function) in FUNCTIONS {
            let work = Arc::clone(&self.work);
            template = template.func(name, move |args| bounded(&work, args, |args| function(name, args)));
        }
        let template = template.parse(source).map_err(|error| error.to_string())?;
        let mut out = Bounded(String::new());
        template.execute_fmt(&mut out, &self.data).map_err(|error| error.to_string())?;
        Ok(out.0)
    }
}

/// Calls a function on what is not too long, as long as there is work left.
fn bounded(
    work: &AtomicUsize,
    args: &[Value],
    call: impl FnOnce(&[Value]) -> gotmpl::Result<String>,
) -> gotmpl::Result<Value> {
    let mut taken = Bounded(String::new());
    let fits = args.iter().all(|arg| write!(taken, "{arg}").is_ok());
    let made = if fits { call(args)? } else { return Err(too_much()) };
    let used = CALL_BYTES + taken.0.len() + made.len();
    match work.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(used)) {
        Ok(_) => Ok(Value::String(made.into())),
        Err(_) => Err(too_much()),
    }
}

fn too_much() -> gotmpl::TemplateError {
    gotmpl::TemplateError::Exec("it asks for too much text".to_owned())
}

/// A function that makes text.
type Function = fn(&'static str, &[Value]) -> gotmpl::Result<String>;

/// Templates that call templates could branch without end.
fn calls_templates(source: &str) -> Option<&'static str> {
    let mut actions = source.split("{{").skip(1).map(|action| action.trim_start_matches('-').trim_start());
    actions.find_map(|action| ["template", "block", "define"].into_iter().find(|word| action.starts_with(word)))
}

/// A function of the engine's own; they can be reached through templates only.
fn builtin(name: &'static str, args: &[Value]) -> gotmpl::Result<String> {
    let mut call = format!("{{{{{name}");
    for position in 0..args.len() {
        call += &format!(" (index . {position})");
    }
    call += "}}";
    let mut text = Bounded(String::new());
    Template::new("").parse(&call)?.execute_fmt(&mut text, &Value::List(args.into()))?;
    Ok(text.0)
}

/// SwarmKit's own function: the first argument between the others.
fn join(_: &'static str, args: &[Value]) -> gotmpl::Result<String> {
    let Some((separator, texts)) = args.split_first() else {
        return Err(gotmpl::TemplateError::Exec("join needs a separator".to_owned()));
    };
    if let Some(odd) = args.iter().find(|arg| arg.as_str().is_none()) {
        return Err(gotmpl::TemplateError::Exec(format!("join takes texts, not a {}", odd.type_name())));
    }
    let mut joined = Bounded(String::new());
    for (position, text) in texts.iter().enumerate() {
        let written = if position > 0 { write!(joined, "{separator}{text}") } else { write!(joined, "{text}") };
        written.map_err(|_| too_much())?;
    }
    Ok(joined.0)
}

/// Go's `index`: a label that is not there is empty, since labels are texts.
fn index(args: &[Value]) -> gotmpl::Result<Value> {
    let Some((first, keys)) = args.split_first() else {
        return Err(gotmpl::TemplateError::Exec("index needs something to look in".to_owned()));
    };
    let found = keys.iter().try_fold(first.clone(), |within, key| within.index(key))?;
    Ok(if matches!(found, Value::Nil) { Value::String(Arc::from("")) } else { found })
}

/// A text that refuses to grow beyond its bound.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > TEXT_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
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
            (r#"{{join .Service.Labels ","}}"#, "join takes texts"),
            (r#"{{template "x"}}"#, "not for specs"),
            ("{{- define \"x\"}}{{end}}", "not for specs"),
        ];
        for (template, words) in table {
            let error = hostname(template).expect_err(template);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn an_error_shows_the_template_only_to_whoever_asks_for_the_reason() {
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
        let long = "{{1}}".repeat(TEMPLATE_BYTES_MAX);
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
