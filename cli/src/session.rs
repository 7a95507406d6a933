//! One run of a command: the manager it talks to, and the surroundings it runs in.

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

/// Something to await, on the thread that runs the command.
pub type Wait<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// The time of the process, or of a simulation.
pub trait Clock {
    /// The present instant.
    fn now(&self) -> Timestamp;
    /// Ends after this length of time.
    fn sleep(&self, length: Duration) -> Wait<'static>;
}

/// What a person, a pipe and the system give to a command that runs in a task.
pub trait Console {
    /// The size of the terminal that the standard input is; nothing if it is none.
    fn terminal(&self) -> Option<TerminalSize>;

    /// What is given from now on: the standard input, other sizes of the terminal, and signals. It ends with this process, and
    /// with it whatever was changed about the terminal.
    ///
    /// # Errors
    /// When the terminal cannot be changed.
    fn listen(&mut self, how: Listening) -> std::io::Result<TaskInputs>;
}

/// What to listen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// Whether the standard input is wanted.
    pub stdin: bool,
    /// Whether every key is, and not whole lines: the terminal is the task's.
    pub raw: bool,
    /// Whether a page is drawn on the terminal, in the place of what is on it, which comes back in the end.
    pub page: bool,
}

/// Nobody is there: an empty input, and no signals.
#[derive(Debug, Clone, Copy)]
pub struct NoConsole;

impl Console for NoConsole {
    fn terminal(&self) -> Option<TerminalSize> {
        None
    }

    fn listen(&mut self, how: Listening) -> std::io::Result<TaskInputs> {
        let end = how.stdin.then_some(wire::v1::task_input::Input::End(wire::v1::EndOfInput {}));
        Ok(Box::pin(tokio_stream::StreamExt::chain(tokio_stream::iter(end), tokio_stream::pending())))
    }
}

/// What a command takes from the process around it.
pub struct Env<'a> {
    /// Data, and nothing else.
    pub out: &'a mut dyn Write,
    /// Progress, notes and errors. Not a locked stderr: where `interactive`, another thread draws on that.
    pub err: &'a mut dyn Write,
    /// Whether `err` is a terminal: progress is drawn, and waits have no limit of their own.
    pub interactive: bool,
    /// Columns of the terminal that `out` is; `None` if it is none.
    pub width: Option<usize>,
    /// Whether names may be shown in colours.
    pub coloured: bool,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Names commands; never the same name twice.
    pub command_ids: &'a mut dyn FnMut() -> CommandId,
    /// Ends when the user wants the command to end.
    pub interrupt: Wait<'a>,
    /// What goes into tasks.
    pub console: &'a mut dyn Console,
}

/// One run of a command.
pub struct Session<'a, M> {
    /// Who is asked.
    pub manager: &'a mut M,
    /// What the process around gives.
    pub around: Env<'a>,
    /// The flags that every command takes.
    pub globals: &'a Globals,
    /// The first change that was asked for: those after it belong to the same operation.
    pub operation: Option<CommandId>,
    /// The point of the past that is looked at.
    pub point: Option<PastPoint>,
    /// Index of the frame that the changes undo.
    pub undoes: Option<u64>,
    /// The changes that would be asked for, where the command is only tried.
    pub trial: Option<Vec<PreviewStep>>,
    /// How many of them what is read is after: those of the lines of a script before this one.
    pub read_after: usize,
    /// Ids that are those of a copy alone.
    pub tentative: BTreeSet<String>,
    /// The line of the script that each of them comes from, where there is a script.
    pub lines: Vec<String>,
    /// Where the objects are described that a command is about, where files do that.
    pub sources: Sources,
    /// Whether what would happen leaves tasks without a node.
    pub leaves_tasks_over: bool,
    /// How a command in a task ended, which is how this one ends.
    pub exit_code: Option<u8>,
}

impl<M> Session<'_, M> {
    /// Notes a step of a plan, where that is only tried.
    pub fn try_step(&mut self, step: PreviewStep) {
        self.trial.get_or_insert_default().push(step);
    }

    /// Notes what is supposed to happen.
    pub fn suppose(&mut self, step: Step) {
        self.try_step(PreviewStep { at_rest: false, step: Some(step) });
    }
}

/// A point of the past that is looked at.
pub struct PastPoint {
    view: PointView,
    /// How it was named.
    asked: FindPointRequest,
    /// Whether the output says so already.
    told: bool,
}

impl<M: Manager> Session<'_, M> {
    /// Asks for one change; where the command is only tried, notes it.
    ///
    /// # Errors
    /// When the manager refuses it or cannot be reached.
    pub async fn execute(&mut self, command: Command) -> Result<CommandReply, Failure> {
        self.execute_after(command, false).await
    }

    /// The same for a change that makes sense only once what was asked for before has been done, tasks and all.
    ///
    /// # Errors
    /// When the manager refuses it or cannot be reached.
    pub async fn execute_at_rest(&mut self, command: Command) -> Result<CommandReply, Failure> {
        self.execute_after(command, true).await
    }

    /// Asks for changes that are made together or not at all; the answers in their order.
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
        // A manager of an older build would leave out what is joined.
        if !joined.is_empty() && self.manager.cluster(false).await?.feature_level < JOINED_LEVEL {
            let failure = Failure::new(Kind::Conflict, "not every manager knows changes that are made together");
            return Err(failure.hint("upgrade all managers first, or make one change after the other"));
        }
        let mut reply = self.manager.execute(CommandRequest { joined, ..first }).await?;
        let joined = std::mem::take(&mut reply.joined);
        Ok(std::iter::once(reply).chain(joined).collect())
    }

    /// A command of this operation.
    fn request(&mut self, command: Command) -> CommandRequest {
        let id = (self.around.command_ids)();
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

    /// Refuses to try what cannot be tried on a copy of the state.
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

    /// Asks for one change and prints what it is about: the id, or what the manager answered as JSON.
    ///
    /// # Errors
    /// When the manager refuses it, or the output cannot be written.
    pub async fn execute_and_tell(&mut self, command: Command, reference: &str) -> Result<CommandReply, Failure> {
        let reply = self.execute(command).await?;
        self.tell(&reply, reference)?;
        Ok(reply)
    }

    /// Prints the object of an answer: its id, or `reference` if the manager named none.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn tell(&mut self, reply: &CommandReply, reference: &str) -> Result<(), Failure> {
        if self.is_trial() {
            return Ok(());
        }
        match self.globals.format {
            Format::Json => self.json(reply),
            Format::Table => self.line(reply.subject.as_deref().unwrap_or(reference)),
        }
    }

    /// Makes sure of all services before the first is changed: one that is mistyped leaves nothing half done. Of a single one
    /// the change itself finds out.
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

    /// The one service that a reference names.
    ///
    /// # Errors
    /// When there is none.
    pub async fn service(&mut self, reference: &str) -> Result<ServiceView, Failure> {
        let found = self.services(vec![reference.to_owned()]).await?;
        found.into_iter().next().ok_or_else(|| missing("service", reference))
    }

    /// The one node that a reference names.
    ///
    /// # Errors
    /// When there is none.
    pub async fn node(&mut self, reference: &str) -> Result<NodeView, Failure> {
        let found = self.nodes(vec![reference.to_owned()]).await?;
        found.into_iter().next().ok_or_else(|| missing("node", reference))
    }

    /// What tables and blocks depend on besides what they show.
    pub fn view(&self) -> View {
        let now = self.point.as_ref().map_or_else(|| self.around.clock.now(), |point| point.view.log_time);
        View { now, ids: self.globals.no_resolve, width: self.around.width }
    }

    /// Goes to a point of the past, if one is given: what is read from here on is as it was then.
    ///
    /// # Errors
    /// When there is no such point, or the manager cannot be reached.
    pub async fn at(&mut self, at: &At) -> Result<(), Failure> {
        let Some(at) = &at.at else { return Ok(()) };
        let asked = self.point_request(at)?;
        let view = self.manager.go_to(asked.clone()).await?;
        self.point = Some(PastPoint { view, asked, told: false });
        Ok(())
    }

    /// Finds a point of history without going there.
    ///
    /// # Errors
    /// When there is no such point, or the manager cannot be reached.
    pub async fn find_point(&mut self, point: &Point) -> Result<PointView, Failure> {
        let asked = self.point_request(point)?;
        self.manager.find_point(asked).await
    }

    /// The index or the time of a point; a tag is looked up.
    ///
    /// # Errors
    /// When there is no such tag, or the manager cannot be reached.
    pub async fn start(&mut self, point: Option<&Point>) -> Result<Option<Start>, Failure> {
        Ok(match point {
            None => None,
            Some(Point::Start(start)) => Some(*start),
            Some(tag @ Point::Tag(_)) => Some(Start::Index(self.find_point(tag).await?.index)),
        })
    }

    fn point_request(&self, point: &Point) -> Result<FindPointRequest, Failure> {
        let now = self.around.clock.now();
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

    /// Index of the point that is looked at; nothing where that is the present.
    pub fn point_index(&self) -> Option<u64> {
        self.point.as_ref().map(|point| point.view.index)
    }

    /// Says above the first text which point is looked at.
    fn tell_point(&mut self) -> Result<(), Failure> {
        let Some(heading) = self.point_heading() else { return Ok(()) };
        Ok(writeln!(self.around.out, "{heading}:\n")?)
    }

    /// The same in a comment, where the text is one that other programs read.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn tell_point_in_comment(&mut self) -> Result<(), Failure> {
        let Some(heading) = self.point_heading() else { return Ok(()) };
        Ok(writeln!(self.around.out, "# {heading}")?)
    }

    /// Which point is looked at, once.
    fn point_heading(&mut self) -> Option<String> {
        let point = self.point.as_mut().filter(|point| !point.told)?;
        point.told = true;
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
        Ok(writeln!(self.around.out, "{}", escape::line(text))?)
    }

    /// Prints text that has its own line ends.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.tell_point()?;
        Ok(self.around.out.write_all(text.as_bytes())?)
    }

    /// Prints one object as one line of JSON.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn json(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(object).map_err(std::io::Error::from)?;
        Ok(writeln!(self.around.out, "{}", escape::json(&line))?)
    }

    /// Prints objects, one a line: ids if only those are wanted, JSON if that is the format, or else `table` of them.
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

    /// Says something to the person, not to the reader of data.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.around.err, "{}", escape::line(text))?)
    }
}

/// A failure that came before the first of several changes.
fn unchanged(failure: Failure) -> Failure {
    Failure { sentence: format!("{}; nothing was changed", failure.sentence), ..failure }
}

fn missing(noun: &str, reference: &str) -> Failure {
    Failure::new(Kind::NotFound, format!("there is no {noun} {reference}"))
        .hint(format!("`swarmctl {noun} ls` shows what exists"))
}
