//! Templates in configs and secrets, as with Docker's `--template-driver golang`. In addition to the functions in specs there are
//! three: `env "NAME"`, a variable of the container, and `secret "TARGET"` and `config "TARGET"`, the contents of a file in the
//! same container. Their results are not expanded again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use gotmpl::Value;
use gotmpl::parse::{CommandNode, Expr, ListNode, Node, PipeNode, Pos};

use super::engine::{self, Engine, Limits, failure};
use super::{TemplateScope, map};

/// The only template driver.
pub const TEMPLATE_DRIVER: &str = "golang";

/// Maximum length of a template in bytes: a manager parses it in its turn.
const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// The limits of a template: as much text as a config may have and a function adds to it.
const LIMITS: Limits = Limits {
    template_bytes: PAYLOAD_BYTES_MAX,
    templates_bytes: PAYLOAD_BYTES_MAX,
    text_bytes: 1024 * 1024,
    work_bytes: 4 * 1024 * 1024,
};
/// Functions of Go's text/template, and `join`.
const FUNCTIONS: [&str; 20] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "join", "js", "le", "len", "lt", "ne", "not", "or", "print",
    "printf", "println", "slice", "urlquery",
];
/// Lookup functions.
const SOURCES: [(&str, Source); 3] =
    [("config", Source::Config), ("env", Source::Variable), ("secret", Source::Secret)];
/// The field whose own fields are user-defined.
const LABELS: &str = "Labels";

/// The source of a lookup function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The container's variables, by name.
    Variable,
    /// Its secrets, by the target in the spec.
    Secret,
    /// Its configs, likewise.
    Config,
}

/// The result of a lookup.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its contents.
    pub data: Vec<u8>,
    /// Whether it is a secret.
    pub is_secret: bool,
}

/// Looks up a name in a template.
pub type LookUp = dyn Fn(Source, &str) -> Option<Found> + Send + Sync;

/// The result of expanding a template.
#[derive(Debug)]
pub struct Payload {
    /// The data of the file.
    pub data: Vec<u8>,
    /// Whether a secret was read, so that it may be in the data.
    pub reads_secret: bool,
}

/// A template that cannot be expanded.
#[derive(Debug)]
pub struct PayloadError {
    /// The error from the template engine, which may repeat a part of the template or of its input.
    pub reason: String,
    /// Whether a secret was read before, so that it may be in the reason.
    pub reads_secret: bool,
}

/// Checks a template for the data of a config or a secret, as far as possible without a task: its syntax, its fields, and its
/// functions.
///
/// # Errors
/// The error and its position, in a message that may repeat a part of the template.
pub fn check_payload(data: &[u8]) -> Result<(), String> {
    let source = text(data)?;
    let (tree, defines) = engine::parse(source)?;
    let check = Check { source, fields: fields() };
    if let Some(define) = defines.first() {
        return Err(check.at(define.pos, "{{define}} and {{block}} are not supported"));
    }
    check.list(&tree, true)
}

/// Expands a template for one task, with a maximum length.
///
/// # Errors
/// When it is malformed, refers to something that does not exist, or exceeds its limits.
pub fn expand_payload(
    data: &[u8],
    scope: &TemplateScope<'_>,
    look_up: &Arc<LookUp>,
    bytes_max: usize,
) -> Result<Payload, PayloadError> {
    let read = Arc::new(AtomicBool::new(false));
    let expanded = text(data).and_then(|source| {
        let engine = Engine::new(scope, LIMITS);
        engine.expand_with(source, source.len(), |engine, template| {
            SOURCES.iter().fold(template, |template, (name, source)| {
                let (look_up, read, source) = (Arc::clone(look_up), Arc::clone(&read), *source);
                engine.with_function(template, name, move |args| found(&*look_up, source, args, &read))
            })
        })
    });
    let fits = |text: String| match text.len() {
        bytes if bytes > bytes_max => Err(format!("it comes to {bytes} bytes; the maximum is {bytes_max}")),
        _ => Ok(text.into_bytes()),
    };
    let (expanded, reads_secret) = (expanded.and_then(fits), read.load(Relaxed));
    expanded.map(|data| Payload { data, reads_secret }).map_err(|reason| PayloadError { reason, reads_secret })
}

fn text(data: &[u8]) -> Result<&str, String> {
    if data.len() > PAYLOAD_BYTES_MAX {
        return Err(format!("it has {} bytes; the maximum of a template is {PAYLOAD_BYTES_MAX}", data.len()));
    }
    std::str::from_utf8(data).map_err(|_| "it is not text".to_owned())
}

/// The result of a lookup function for its only argument. As in SwarmKit, an unset variable is empty.
fn found(look_up: &LookUp, source: Source, args: &[Value], read: &AtomicBool) -> gotmpl::Result<String> {
    let [name] = args else { return Err(failure(format!("{} takes one name", source.name()))) };
    let Some(name) = name.as_str() else { return Err(failure(format!("{} takes a text", source.name()))) };
    let Some(Found { data, is_secret }) = look_up(source, name) else {
        let missing = || failure(format!("the container has no {} with the target {name:?}", source.name()));
        return if source == Source::Variable { Ok(String::new()) } else { Err(missing()) };
    };
    if is_secret {
        read.store(true, Relaxed);
    }
    String::from_utf8(data).map_err(|_| failure(format!("what is in the {} {name:?} is not text", source.name())))
}

impl Source {
    fn name(self) -> &'static str {
        SOURCES.iter().find(|(_, source)| *source == self).map_or("", |(name, _)| name)
    }
}

/// The fields available for every task.
fn fields() -> Value {
    let text = || Value::from("");
    let labels = Value::from_entries([]);
    map([
        ("Service", map([("ID", text()), ("Name", text()), (LABELS, labels)])),
        (
            "Node",
            map([("ID", text()), ("Hostname", text()), ("Platform", map([("Architecture", text()), ("OS", text())]))]),
        ),
        ("Task", map([("ID", text()), ("Name", text()), ("Slot", text())])),
    ])
}

/// Checks a template without a task.
struct Check<'a> {
    source: &'a str,
    fields: Value,
}

impl Check<'_> {
    fn at(&self, pos: Pos, what: impl std::fmt::Display) -> String {
        engine::at(self.source, pos, what)
    }

    /// A list of nodes. The value of the dot after `with` and `range` is unknown.
    fn list(&self, list: &ListNode, dot_is_root: bool) -> Result<(), String> {
        list.nodes.iter().try_for_each(|node| match node {
            Node::List(list) => self.list(list, dot_is_root),
            Node::Action(action) => self.pipe(&action.pipe, dot_is_root),
            Node::If(branch) => {
                self.pipe(&branch.pipe, dot_is_root)?;
                self.list(&branch.body, dot_is_root)?;
                branch.else_body.as_ref().map_or(Ok(()), |list| self.list(list, dot_is_root))
            }
            Node::With(branch) | Node::Range(branch) => {
                self.pipe(&branch.pipe, dot_is_root)?;
                self.list(&branch.body, false)?;
                branch.else_body.as_ref().map_or(Ok(()), |list| self.list(list, dot_is_root))
            }
            Node::Template(of) => Err(self.at(of.pos, "{{template}} is not supported")),
            Node::Define(of) => Err(self.at(of.pos, "{{define}} is not supported")),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        })
    }

    fn pipe(&self, pipe: &PipeNode, dot_is_root: bool) -> Result<(), String> {
        let words = pipe.commands.iter().flat_map(|CommandNode { args, .. }| args);
        words.into_iter().try_for_each(|word| self.word(word, dot_is_root))
    }

    fn word(&self, word: &Expr, dot_is_root: bool) -> Result<(), String> {
        match word {
            Expr::Field(pos, chain) if dot_is_root => self.field(*pos, chain.iter().map(|field| field.as_str())),
            Expr::Variable(pos, name, chain) if name == "$" => {
                self.field(*pos, chain.iter().map(|field| field.as_str()))
            }
            Expr::Identifier(pos, name) => self.function(*pos, name),
            Expr::Pipe(_, pipe) => self.pipe(pipe, dot_is_root),
            Expr::Chain(_, word, _) => self.word(word, dot_is_root),
            Expr::Dot(_)
            | Expr::Field(..)
            | Expr::Variable(..)
            | Expr::String(..)
            | Expr::Number(..)
            | Expr::Bool(..)
            | Expr::Nil(_) => Ok(()),
        }
    }

    fn function(&self, pos: Pos, name: &str) -> Result<(), String> {
        if FUNCTIONS.contains(&name) || SOURCES.iter().any(|(known, _)| *known == name) {
            return Ok(());
        }
        Err(self.at(pos, format_args!("there is no function {name:?}")))
    }

    fn field<'a>(&self, pos: Pos, chain: impl Iterator<Item = &'a str>) -> Result<(), String> {
        let mut within = &self.fields;
        for name in chain {
            let Some(field) = within.field(name) else {
                return Err(self.at(pos, format_args!("there is no field {name:?}")));
            };
            if name == LABELS {
                return Ok(());
            }
            within = field;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Id, NodeId, Platform, ServiceId, ServiceSpec, TaskId};

    fn expanded(template: &str) -> Result<(String, bool), PayloadError> {
        let platform = Platform { architecture: "x86_64".to_owned(), os: "linux".to_owned() };
        let spec = ServiceSpec::default();
        let scope = TemplateScope {
            service: ServiceId::from_bits(1),
            spec: &spec,
            node: NodeId::from_bits(2),
            hostname: "n1",
            platform: &platform,
            task: TaskId::from_bits(3),
            task_name: "web.3",
            slot: 3,
        };
        let look_up: Arc<LookUp> = Arc::new(|source, name| {
            let (data, is_secret) = match (source, name) {
                (Source::Variable, "MODE") => ("fast", false),
                (Source::Variable, "TOKEN") => ("t0ken", true),
                (Source::Secret, "key") => ("hunter2", true),
                (Source::Config, "base") => ("{{.Task.Slot}}", false),
                (Source::Config, "picture") => return Some(Found { data: vec![0xff], is_secret: false }),
                _ => return None,
            };
            Some(Found { data: data.into(), is_secret })
        });
        let payload = expand_payload(template.as_bytes(), &scope, &look_up, 40)?;
        Ok((String::from_utf8(payload.data).expect("text"), payload.reads_secret))
    }

    #[test]
    fn a_payload_is_expanded_for_its_task() {
        let table = [
            ("listen {{.Task.Slot}}\n", "listen 3\n", false),
            (r#"{{env "MODE"}}{{env "NONE"}}"#, "fast", false),
            (r#"{{env "TOKEN"}}"#, "t0ken", true),
            (r#"{{if eq (env "MODE") "fast"}}f{{else}}{{secret "key"}}{{end}}"#, "f", false),
            (r#"pw={{secret "key" | printf "%q"}}"#, "pw=\"hunter2\"", true),
            (r#"{{config "base"}}"#, "{{.Task.Slot}}", false),
            (r#"{{join "-" .Node.Hostname (env "MODE")}}"#, "n1-fast", false),
            ("plain", "plain", false),
        ];
        for (template, result, reads_secret) in table {
            assert_eq!(check_payload(template.as_bytes()), Ok(()), "{template}");
            assert_eq!(expanded(template).expect(template), (result.to_owned(), reads_secret), "{template}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_says_whether_it_may_repeat_a_secret() {
        let wasteful = r#"{{$x := printf "%60000d" 1}}"#.repeat(100);
        let table = [
            (r#"{{secret "none"}}"#, "no secret with the target \"none\"", false),
            (r#"{{secret "key"}}{{config "none"}}"#, "no config with the target \"none\"", true),
            (r#"{{config "picture"}}"#, "is not text", false),
            ("{{env 1}}", "env takes a text", false),
            (r#"{{env "A" "B"}}"#, "env takes one name", false),
            (r#"{{printf "%50d" 1}}"#, "it comes to 50 bytes; the maximum is 40", false),
            (wasteful.as_str(), "too much text", false),
        ];
        for (template, words, reads_secret) in table {
            let error = expanded(template).expect_err(template);
            assert!(error.reason.contains(words), "{template:.40}: {}", error.reason);
            assert_eq!(error.reads_secret, reads_secret, "{template:.40}");
        }
    }

    #[test]
    fn a_template_is_judged_without_a_task_and_its_mistakes_have_a_place() {
        let sound = [
            "{{.Service.Labels.whatever}}{{index .Service.Labels \"a.b\"}}{{$.Node.Platform.OS}}",
            "{{with .Task}}{{.Slot}}{{.Anything}}{{else}}{{.Task.Slot}}{{end}}",
            "{{range $k, $v := .Service.Labels}}{{$k}}{{$v}}{{break}}{{end}}",
            "{{/* a comment */}}{{- \"x\" -}}",
            "{{if true}}a{{else if false}}b{{else}}c{{end}} text",
            "",
        ];
        for template in sound {
            assert_eq!(check_payload(template.as_bytes()), Ok(()), "{template}");
        }
        let table = [
            ("a\n  {{.Task.Slt}}", "line 2, column 5: there is no field \"Slt\""),
            ("{{.Task.Slot.More}}", "there is no field \"More\""),
            ("{{.Name}}", "there is no field \"Name\""),
            ("{{range .Service.Labels}}{{$.Nde}}{{end}}", "line 1, column 28: there is no field \"Nde\""),
            ("é{{if (frob 1)}}{{end}}", "line 1, column 8: there is no function \"frob\""),
            ("a\n{{if true}}\n{{range .Task}}{{end}}", "line 2, column 3: this block has no {{end}}"),
            ("{{if 1}}{{else}}{{with 1}}", "line 1, column 3: this block has no {{end}}"),
            ("{{if 1}}{{end}}\nall this would be lost{{end}}", "an {{end}} or {{else}} without a block"),
            ("{{else}}", "an {{end}} or {{else}} without a block"),
            ("{{.Task.Slot", "line 1, column "),
            ("{{define \"x\"}}{{end}}", "{{define}} and"),
            ("{{template \"x\"}}", "{{template}} is not supported"),
            (&"{{if 1}}".repeat(1_000), "nesting depth"),
        ];
        for (template, words) in table {
            let error = check_payload(template.as_bytes()).expect_err(template);
            assert!(error.contains(words), "{template:.40}: {error}");
        }
        assert_eq!(check_payload(&[0xff]), Err("it is not text".to_owned()));
        assert!(check_payload(&vec![b'x'; PAYLOAD_BYTES_MAX + 1]).is_err());
    }

    /// The functions listed here are those of the engine.
    #[test]
    fn every_function_that_passes_the_check_can_be_called() {
        for name in FUNCTIONS {
            let error = expanded(&format!("{{{{{name}}}}}")).map_or_else(|error| error.reason, |(text, _)| text);
            assert!(!error.contains("undefined function"), "{name}: {error}");
        }
    }
}
