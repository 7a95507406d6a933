//! The template engine, with limits: without them a short template could use up all memory, since quoting doubles a text and
//! `printf` repeats it any number of times. A manager tries templates in its turn.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use gotmpl::parse::{BranchNode, DefineNode, ListNode, Node, Parser, Pos};
use gotmpl::{MissingKey, Template, TemplateError, Value};

use super::TemplateScope;

/// Limits of templates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Maximum length of a template in bytes.
    pub(super) template_bytes: usize,
    /// Maximum total length of the templates that are expanded together, in bytes.
    pub(super) templates_bytes: usize,
    /// Maximum length of the input or output of one function, and of a template's output, in bytes.
    pub(super) text_bytes: usize,
    /// Maximum total length of the inputs and outputs of all functions, in bytes.
    pub(super) work_bytes: usize,
}

/// Fixed cost of each function call, in addition to its input and output.
const CALL_BYTES: usize = 64;
/// Maximum total iterations of all loops of a template. Only labels are useful in a loop.
const ROUNDS_MAX: u64 = 64;
/// Functions that produce text: SwarmKit's own, and those of the engine whose output may be longer than their input.
const FUNCTIONS: [(&str, Function); 7] = [
    ("join", join),
    ("print", builtin),
    ("println", builtin),
    ("printf", builtin),
    ("html", builtin),
    ("js", builtin),
    ("urlquery", builtin),
];

/// A function that produces text with this maximum length.
type Function = fn(&'static str, &[Value], usize) -> gotmpl::Result<String>;

/// Expands the templates of one container.
pub(super) struct Engine {
    data: Value,
    limits: Limits,
    /// The remaining total of function inputs and outputs.
    work: Arc<AtomicUsize>,
}

impl Engine {
    pub(super) fn new(scope: &TemplateScope<'_>, limits: Limits) -> Self {
        Self { data: scope.data(), limits, work: Arc::new(AtomicUsize::new(limits.work_bytes)) }
    }

    /// Expands one template, the last one of this total length.
    pub(super) fn expand(&self, source: &str, bytes: usize) -> Result<String, String> {
        self.expand_with(source, bytes, |_, template| template)
    }

    /// The same, with additional functions.
    pub(super) fn expand_with(
        &self,
        source: &str,
        bytes: usize,
        functions: impl FnOnce(&Self, Template) -> Template,
    ) -> Result<String, String> {
        let Limits { template_bytes, templates_bytes, text_bytes, .. } = self.limits;
        if source.len() > template_bytes {
            return Err(format!("it has {} bytes; the maximum is {template_bytes}", source.len()));
        }
        if bytes > templates_bytes {
            return Err(format!("the templates have more than {templates_bytes} bytes together"));
        }
        if let Some(word) = calls_templates(source) {
            return Err(format!("{{{{{word}}}}} is not supported"));
        }
        let mut template = Template::new("").missing_key(MissingKey::Error).max_range_iters(ROUNDS_MAX);
        template = template.func("index", index);
        for (name, function) in FUNCTIONS {
            template = self.with_function(template, name, move |args| function(name, args, text_bytes));
        }
        parse(source)?;
        let template = functions(self, template).parse(source).map_err(in_place)?;
        let mut out = Bounded::new(text_bytes);
        template.execute_fmt(&mut out, &self.data).map_err(in_place)?;
        Ok(out.text)
    }

    /// The template with a function that is limited in the length of its input and in the remaining work.
    pub(super) fn with_function(
        &self,
        template: Template,
        name: &str,
        call: impl Fn(&[Value]) -> gotmpl::Result<String> + Send + Sync + 'static,
    ) -> Template {
        let (work, bytes_max) = (Arc::clone(&self.work), self.limits.text_bytes);
        template.func(name, move |args| {
            let mut taken = Bounded::new(bytes_max);
            let fits = args.iter().all(|arg| write!(taken, "{arg}").is_ok());
            let made = if fits { call(args)? } else { return Err(too_much()) };
            let used = CALL_BYTES + taken.text.len() + made.len();
            match work.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(used)) {
                Ok(_) => Ok(Value::String(made.into())),
                Err(_) => Err(too_much()),
            }
        })
    }
}

/// Parses a template, and returns the templates that it defines as well.
///
/// The parser itself accepts a block without an end, and ignores everything after an end without a block. So an action is
/// appended to the template: it must be parsed as the last one, and outside of any block.
pub(super) fn parse(source: &str) -> Result<(ListNode, Vec<DefineNode>), String> {
    let read = |source: &str| Parser::new(source, "{{", "}}").and_then(Parser::parse).map_err(in_place);
    let parsed = read(source)?;
    let (marked, _) = read(&format!("{source}{{{{0}}}}"))?;
    match marked.nodes.last() {
        last if is_mark(last, source.len()) => Ok(parsed),
        Some(Node::If(block) | Node::With(block) | Node::Range(block)) if holds_mark(block, source.len()) => {
            Err(at(source, block.pos, "this block has no {{end}}"))
        }
        _ => Err("there is an {{end}} or {{else}} without a block".to_owned()),
    }
}

fn is_mark(node: Option<&Node>, offset: usize) -> bool {
    matches!(node, Some(Node::Action(action)) if action.pos.offset >= offset)
}

fn holds_mark(block: &BranchNode, offset: usize) -> bool {
    let last = block.else_body.as_ref().unwrap_or(&block.body).nodes.last();
    let within = match last {
        Some(Node::If(block) | Node::With(block) | Node::Range(block)) => holds_mark(block, offset),
        _ => false,
    };
    within || is_mark(last, offset)
}

/// An error at a position in a template.
pub(super) fn at(source: &str, pos: Pos, what: impl fmt::Display) -> String {
    let before = &source[..pos.offset.min(source.len())];
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    format!("line {}, column {column}: {what}", pos.line)
}

/// An error of the template engine as text, with its position if that is known.
fn in_place(error: TemplateError) -> String {
    match error {
        TemplateError::Parse { line, col, message, .. } | TemplateError::Lex { line, col, message, .. } => {
            format!("line {line}, column {col}: {message}")
        }
        TemplateError::Exec(why) => why,
        other => other.to_string(),
    }
}

pub(super) fn failure(why: impl Into<String>) -> TemplateError {
    TemplateError::Exec(why.into())
}

fn too_much() -> TemplateError {
    failure("it asks for too much text")
}

/// Templates that call templates could recurse exponentially.
fn calls_templates(source: &str) -> Option<&'static str> {
    let mut actions = source.split("{{").skip(1).map(|action| action.trim_start_matches('-').trim_start());
    actions.find_map(|action| ["template", "block", "define"].into_iter().find(|word| action.starts_with(word)))
}

/// A builtin function of the engine; it can only be called through templates.
fn builtin(name: &'static str, args: &[Value], bytes_max: usize) -> gotmpl::Result<String> {
    let mut call = format!("{{{{{name}");
    for position in 0..args.len() {
        call += &format!(" (index . {position})");
    }
    call += "}}";
    let mut made = Bounded::new(bytes_max);
    Template::new("").parse(&call)?.execute_fmt(&mut made, &Value::List(args.into()))?;
    Ok(made.text)
}

/// SwarmKit's own function: joins the other arguments with the first one between them.
fn join(_: &'static str, args: &[Value], bytes_max: usize) -> gotmpl::Result<String> {
    let Some((separator, texts)) = args.split_first() else { return Err(failure("join needs a separator")) };
    if let Some(odd) = args.iter().find(|arg| arg.as_str().is_none()) {
        return Err(failure(format!("join takes texts, not a {}", odd.type_name())));
    }
    let mut joined = Bounded::new(bytes_max);
    for (position, text) in texts.iter().enumerate() {
        let written = if position > 0 { write!(joined, "{separator}{text}") } else { write!(joined, "{text}") };
        written.map_err(|_| too_much())?;
    }
    Ok(joined.text)
}

/// Go's `index`: a missing label is empty, since labels are strings.
fn index(args: &[Value]) -> gotmpl::Result<Value> {
    let Some((first, keys)) = args.split_first() else { return Err(failure("index needs something to look in")) };
    let found = keys.iter().try_fold(first.clone(), |within, key| within.index(key))?;
    Ok(if matches!(found, Value::Nil) { Value::String(Arc::from("")) } else { found })
}

/// A text that cannot grow beyond its limit.
struct Bounded {
    text: String,
    bytes_max: usize,
}

impl Bounded {
    fn new(bytes_max: usize) -> Self {
        Self { text: String::new(), bytes_max }
    }
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.len() + text.len() > self.bytes_max {
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}
