//! One run of a command: the connection to the manager and the process environment.

use std::collections::BTreeSet;
use std::io::Write;
use std::pin::Pin;
use std::time::Duration;

use events::frame::JOINED_LEVEL;
use events::{CommandId, Timestamp};
use serde::Serialize;
use wire::v1::{
    CommandReply, CommandRequest, FindPointRequest, ListTasksRequest, NodeView, PointView, PreviewStep, ServiceView,
    TerminalSize, command_request::Command, preview_step::Step,
};

use crate::Globals;
use crate::apply::Sources;
use crate::failure::{Failure, Kind};
use crate::format::{Format, escape, view::View};
use crate::manager::{Manager, TaskInputs};
use crate::trial;
use crate::values::at::At;
use crate::values::point::Point;
use crate::values::start::{Place, Start};

/// A future on the thread that runs the command.
pub type Wait<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// The time of the process, or of a simulation.
pub trait Clock {
    /// The current time.
    fn now(&self) -> Timestamp;
    /// Resolves after this duration.
    fn sleep(&self, length: Duration) -> Wait<'static>;
}

/// The terminal, standard input and signals, for a command that runs in a task.
pub trait Console {
    /// The size of the terminal, if standard input is one.
    fn terminal(&self) -> Option<TerminalSize>;

    /// Everything from now on: standard input, new sizes of the terminal, and signals. Dropping the stream restores the terminal.
    ///
    /// # Errors
    /// When the terminal's mode cannot be changed.
    fn listen(&mut self, how: ConsoleOptions) -> std::io::Result<TaskInputs>;
}

/// The inputs to listen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsoleOptions {
    /// Whether standard input is read.
    pub stdin: bool,
    /// Whether the terminal is put into raw mode: each key goes to the task at once.
    pub raw: bool,
    /// Whether a page is drawn on the terminal's alternate screen; the old contents return at the end.
    pub page: bool,
}

/// A console with an empty input and no signals.
#[derive(Debug, Clone, Copy)]
pub struct NoConsole;

impl Console for NoConsole {
    fn terminal(&self) -> Option<TerminalSize> {
        None
    }

    fn listen(&mut self, how: ConsoleOptions) -> std::io::Result<TaskInputs> {
        let end = how.stdin.then_some(wire::v1::task_input::Input::End(wire::v1::EndOfInput {}));
        Ok(Box::pin(tokio_stream::StreamExt::chain(tokio_stream::iter(end), tokio_stream::pending())))
    }
}

/// The process environment of a command.
pub struct Env<'a> {
    /// Data only.
    pub out: &'a mut dyn Write,
    /// Progress, notes and errors. Not a locked stderr: if `interactive`, another thread draws on it.
    pub err: &'a mut dyn Write,
    /// Whether `err` is a terminal: then progress is drawn, and waits have no default time limit.
    pub interactive: bool,
    /// The width of the terminal that `out` is; `None` if it is not a terminal.
    pub width: Option<usize>,
    /// Whether names are coloured.
    pub coloured: bool,
    /// The clock.
    pub clock: &'a dyn Clock,
    /// Generates command ids; never the same twice.
    pub command_ids: &'a mut dyn FnMut() -> CommandId,
    /// Resolves when the user interrupts the command.
    pub interrupt: Wait<'a>,
    /// The input of tasks.
    pub console: &'a mut dyn Console,
}

/// One run of a command.
pub struct Session<'a, M> {
    /// The manager.
    pub manager: &'a mut M,
    /// The process environment.
    pub env: Env<'a>,
    /// The global flags.
    pub globals: &'a Globals,
    /// The first change of this run: later ones belong to the same operation.
    pub operation: Option<CommandId>,
    /// The point of the past that is read.
    pub point: Option<PastPoint>,
    /// Index of the frame that the changes undo.
    pub undoes: Option<u64>,
    /// The changes so far, if the command is only tried.
    pub trial: Option<Vec<PreviewStep>>,
    /// The number of these changes that reads take into account: those of the script's lines before this one.
    pub read_after: usize,
    /// Ids that exist only in the copy of the state.
    pub tentative: BTreeSet<String>,
    /// The script line of each change, if there is a script.
    pub lines: Vec<String>,
    /// The locations of the objects that a command is about, if they are described in files.
    pub sources: Sources,
    /// Whether the preview leaves tasks without a node.
    pub leaves_tasks_over: bool,
    /// The exit code of a command in a task, which becomes ours.
    pub exit_code: Option<u8>,
}

impl<M> Session<'_, M> {
    /// Adds a step to the trial, if the command is only tried.
    pub fn try_step(&mut self, step: PreviewStep) {
        self.trial.get_or_insert_default().push(step);
    }

    /// Adds a hypothetical step.
    pub fn suppose(&mut self, step: Step) {
        self.try_step(PreviewStep { at_rest: false, step: Some(step) });
    }
}

/// A point of the past that is read.
pub struct PastPoint {
    view: PointView,
    /// The point as the user named it.
    asked: FindPointRequest,
    /// Whether the output mentions it already.
    is_shown: bool,
}

impl<M: Manager> Session<'_, M> {
    /// Makes one change; if the command is only tried, adds it to the trial.
    ///
    /// # Errors
    /// When the manager refuses it or cannot be reached.
    pub async fn execute(&mut self, command: Command) -> Result<CommandReply, Failure> {
        self.execute_after(command, false).await
    }

    /// The same for a change that depends on the ones before it and on their tasks: it is made once the cluster has settled.
    ///
    /// # Errors
    /// When the manager refuses it or cannot be reached.
    pub async fn execute_at_rest(&mut self, command: Command) -> Result<CommandReply, Failure> {
        self.execute_after(command, true).await
    }

    /// Makes several changes atomically; returns the answers in the same order.
    ///
    /// # Errors
    /// When the manager refuses one of them or cannot be reached.
    pub async fn execute_together(&mut self, commands: Vec<Command>) -> Result<Vec<CommandReply>, Failure> {
        let mut requests: Vec<CommandRequest> = commands.into_iter().map(|command| self.request(command)).collect();
        if let Some(steps) = &mut self.trial {
            let replies = vec![CommandReply::default(); requests.len()];
            let requests = requests.into_iter().map(trial::without_versions_of_a_copy);
            steps.extend(requests.map(|request| PreviewStep { at_rest: false, step: Some(Step::Command(request)) }));
            return Ok(replies);
        }
        let joined = requests.split_off(requests.len().min(1));
        let Some(first) = requests.pop() else { return Ok(Vec::new()) };
        // A manager of an older build would ignore the joined commands.
        if !joined.is_empty() && self.manager.cluster(false).await?.feature_level < JOINED_LEVEL {
            let failure = Failure::new(Kind::Conflict, "not every manager supports changes that are made together");
            return Err(failure.hint("upgrade all managers first, or make one change after the other"));
        }
        let mut reply = self.manager.execute(CommandRequest { joined, ..first }).await?;
        let joined = std::mem::take(&mut reply.joined);
        Ok(std::iter::once(reply).chain(joined).collect())
    }

    /// A request that belongs to this operation.
    fn request(&mut self, command: Command) -> CommandRequest {
        let id = (self.env.command_ids)();
        let reason = self.globals.reason.clone();
        let correlation = self.operation;
        self.operation.get_or_insert(id);
        CommandRequest {
            id,
            reason,
            correlation,
            undoes: self.undoes,
            command: Some(command),
            ..CommandRequest::default()
        }
    }

    async fn execute_after(&mut self, command: Command, at_rest: bool) -> Result<CommandReply, Failure> {
        let request = self.request(command);
        if let Some(steps) = &mut self.trial {
            let request = trial::without_versions_of_a_copy(request);
            steps.push(PreviewStep { at_rest, step: Some(Step::Command(request)) });
            return Ok(CommandReply::default());
        }
        self.manager.execute(request).await
    }

    /// Whether the command is only tried: nothing changes, and there is nothing to wait for.
    pub fn is_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Refuses a command that cannot be tried on a copy of the state.
    ///
    /// # Errors
    /// When the command is only tried.
    pub fn refuse_trial(&self, why: &str) -> Result<(), Failure> {
        if !self.is_trial() {
            return Ok(());
        }
        let failure = Failure::new(Kind::Usage, format!("--dry-run is not possible here: {why}"));
        Err(failure.hint("`--help` after the command says what it does"))
    }

    /// Makes one change and prints its object: the id, or the manager's answer as JSON.
    ///
    /// # Errors
    /// When the manager refuses it, or the output cannot be written.
    pub async fn execute_and_print(&mut self, command: Command, reference: &str) -> Result<CommandReply, Failure> {
        let reply = self.execute(command).await?;
        self.print_object(&reply, reference)?;
        Ok(reply)
    }

    /// Prints the object of an answer: its id, or `reference` if the answer has none.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn print_object(&mut self, reply: &CommandReply, reference: &str) -> Result<(), Failure> {
        if self.is_trial() {
            return Ok(());
        }
        match self.globals.format {
            Format::Json => self.json(reply),
            Format::Table => self.line(reply.subject.as_deref().unwrap_or(reference)),
        }
    }

    /// Checks that all services exist before the first is changed, so that a mistyped name leaves nothing half done. With a
    /// single one, the change itself fails.
    ///
    /// # Errors
    /// When one of several does not exist.
    pub async fn require_services(&mut self, references: &[String]) -> Result<(), Failure> {
        if references.len() > 1 {
            self.services(references.to_vec()).await.map_err(unchanged)?;
        }
        Ok(())
    }

    /// The same for nodes.
    ///
    /// # Errors
    /// When one of several does not exist.
    pub async fn require_nodes(&mut self, references: &[String]) -> Result<(), Failure> {
        if references.len() > 1 {
            self.nodes(references.to_vec()).await.map_err(unchanged)?;
        }
        Ok(())
    }

    /// The same for configs.
    ///
    /// # Errors
    /// When one of several does not exist.
    pub async fn require_configs(&mut self, references: &[String]) -> Result<(), Failure> {
        if references.len() > 1 {
            self.configs(references.to_vec()).await.map_err(unchanged)?;
        }
        Ok(())
    }

    /// The same for secrets.
    ///
    /// # Errors
    /// When one of several does not exist.
    pub async fn require_secrets(&mut self, references: &[String]) -> Result<(), Failure> {
        if references.len() > 1 {
            self.secrets(references.to_vec()).await.map_err(unchanged)?;
        }
        Ok(())
    }

    /// The same for sinks.
    ///
    /// # Errors
    /// When one of several does not exist.
    pub async fn require_sinks(&mut self, references: &[String]) -> Result<(), Failure> {
        if references.len() > 1 {
            self.manager.sinks(references.to_vec()).await.map_err(unchanged)?;
        }
        Ok(())
    }

    /// The same for tasks.
    ///
    /// # Errors
    /// When one of several does not exist.
    pub async fn require_tasks(&mut self, references: &[String]) -> Result<(), Failure> {
        if references.len() > 1 {
            let request = ListTasksRequest { tasks: references.to_vec(), ..Default::default() };
            self.tasks(request).await.map_err(unchanged)?;
        }
        Ok(())
    }

    /// The service with this reference.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn service(&mut self, reference: &str) -> Result<ServiceView, Failure> {
        let found = self.services(vec![reference.to_owned()]).await?;
        found.into_iter().next().ok_or_else(|| missing("service", reference))
    }

    /// The node with this reference.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn node(&mut self, reference: &str) -> Result<NodeView, Failure> {
        let found = self.nodes(vec![reference.to_owned()]).await?;
        found.into_iter().next().ok_or_else(|| missing("node", reference))
    }

    /// The display settings of tables and blocks.
    pub fn view(&self) -> View {
        let now = self.point.as_ref().map_or_else(|| self.env.clock.now(), |point| point.view.log_time);
        View { now, ids: self.globals.no_resolve, width: self.env.width }
    }

    /// Selects a point of the past, if one is given: later reads show the state at that point.
    ///
    /// # Errors
    /// When the point does not exist, or the manager cannot be reached.
    pub async fn at(&mut self, at: &At) -> Result<(), Failure> {
        let Some(at) = &at.at else { return Ok(()) };
        let asked = self.point_request(at)?;
        let view = self.manager.go_to(asked.clone()).await?;
        self.point = Some(PastPoint { view, asked, is_shown: false });
        Ok(())
    }

    /// Finds a point of history without selecting it.
    ///
    /// # Errors
    /// When the point does not exist, or the manager cannot be reached.
    pub async fn find_point(&mut self, point: &Point) -> Result<PointView, Failure> {
        let asked = self.point_request(point)?;
        self.manager.find_point(asked).await
    }

    /// The index or the time of a point; tags are resolved.
    ///
    /// # Errors
    /// When the tag does not exist, or the manager cannot be reached.
    pub async fn start(&mut self, point: Option<&Point>) -> Result<Option<Start>, Failure> {
        Ok(match point {
            None => None,
            Some(Point::Start(start)) => Some(*start),
            Some(tag @ Point::Tag(_)) => Some(Start::Index(self.find_point(tag).await?.index)),
        })
    }

    fn point_request(&self, point: &Point) -> Result<FindPointRequest, Failure> {
        let now = self.env.clock.now();
        let start = match point {
            Point::Start(start) => start.at(now),
            Point::Tag(tag) => return Ok(FindPointRequest { tag: Some(tag.clone()), ..Default::default() }),
        };
        match start {
            Place::Index(index) => Ok(FindPointRequest { index: Some(index), ..Default::default() }),
            Place::Time(time) if time > now => {
                let failure = Failure::new(Kind::Usage, format!("{time} is in the future: it is {now}"));
                Err(failure.hint("give an earlier time, or an index"))
            }
            Place::Time(time) => Ok(FindPointRequest { time: Some(time), ..Default::default() }),
        }
    }

    /// Index of the selected point; `None` for the present.
    pub fn point_index(&self) -> Option<u64> {
        self.point.as_ref().map(|point| point.view.index)
    }

    /// Prints the selected point above the first text.
    fn print_point(&mut self) -> Result<(), Failure> {
        let Some(heading) = self.point_heading() else { return Ok(()) };
        Ok(writeln!(self.env.out, "{heading}:\n")?)
    }

    /// The same as a comment, for output that other programs read.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn print_point_as_comment(&mut self) -> Result<(), Failure> {
        let Some(heading) = self.point_heading() else { return Ok(()) };
        Ok(writeln!(self.env.out, "# {heading}")?)
    }

    /// The selected point, the first time this is called.
    fn point_heading(&mut self) -> Option<String> {
        let point = self.point.as_mut().filter(|point| !point.is_shown)?;
        point.is_shown = true;
        let (index, time) = (point.view.index, point.view.log_time);
        let asked = match (&point.asked.tag, point.asked.time) {
            (Some(tag), _) => format!(" (tag {tag})"),
            (None, Some(asked)) => format!(" (asked for {asked})"),
            (None, None) => String::new(),
        };
        Some(format!("As of index {index}, {time}{asked}"))
    }

    /// Prints one line of data.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.env.out, "{}", escape::line(text))?)
    }

    /// Prints text that has its own line ends.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.print_point()?;
        Ok(self.env.out.write_all(text.as_bytes())?)
    }

    /// Prints one object as one line of JSON.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn json(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(object).map_err(std::io::Error::from)?;
        Ok(writeln!(self.env.out, "{}", escape::json(&line))?)
    }

    /// Prints objects, one per line: ids if only those are requested, JSON in that format, or else `table` of them.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn list<T: Serialize>(
        &mut self,
        objects: &[T],
        only_ids: bool,
        id: impl Fn(&T) -> String,
        table: impl FnOnce(&[T]) -> String,
    ) -> Result<(), Failure> {
        match self.globals.format {
            _ if only_ids => objects.iter().try_for_each(|object| self.line(&id(object))),
            Format::Json => objects.iter().try_for_each(|object| self.json(object)),
            Format::Table => self.text(&table(objects)),
        }
    }

    /// Prints a note for the user, apart from the data.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn note(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.env.err, "{}", escape::line(text))?)
    }
}

/// A failure before the first of several changes was made.
fn unchanged(failure: Failure) -> Failure {
    Failure { sentence: format!("{}; nothing was changed", failure.sentence), ..failure }
}

fn missing(noun: &str, reference: &str) -> Failure {
    Failure::new(Kind::NotFound, format!("there is no {noun} {reference}"))
        .hint(format!("`swarmctl {noun} ls` shows what exists"))
}
