//! Questions to a manager: the calls and the output of `swarmctl`'s own commands.

use std::io::{self, Write};

use events::Timestamp;
use tokio_stream::StreamExt;
use wire::v1::{
    EventRecord, EventsRequest, FindPointRequest, ListNodesRequest, ListServicesRequest, ListTasksRequest, LogsRequest,
    PointView,
};

use super::entry;
use super::question::{Answer, Line, Noun, Object, Output, Question, Shown, Subject};
use super::rows::{self, Rows};
use crate::failure::{Failure, Kind};
use crate::format::operations::Operations;
use crate::format::{task, view::View};
use crate::manager::Manager;
use crate::session::{Clock, Env, NoConsole};
use crate::usage::Stop;
use crate::values::point::Point;
use crate::values::start::Place;

/// Maximum number of history entries on a page.
const EVENTS_MAX: u64 = 500;
/// Number of entries after a command that are searched for its consequences.
const FOLLOWING_MAX: u64 = 2_000;
/// Maximum number of tasks on a page.
const TASKS_MAX: u64 = 500;
/// Number of past lines at the start of a log page.
const LOG_TAIL: u64 = 200;
/// Maximum output of a command on a page, in bytes. Longer output is cut off.
const OUTPUT_MAX: usize = 1 << 20;

/// The settings of the page for questions.
#[derive(Clone, Copy)]
pub struct PageLoader<'a> {
    /// The clock.
    pub clock: &'a dyn Clock,
    /// Whether ids are shown instead of names.
    pub ids: bool,
}

impl PageLoader<'_> {
    /// Asks one question.
    ///
    /// # Errors
    /// When the manager refuses it or cannot be reached.
    pub async fn ask<M: Manager>(self, manager: &mut M, question: &Question) -> Result<Answer, Failure> {
        manager.return_to_present();
        let (subject, columns, at, since, containing) = match question {
            Question::Find(point) => return Ok(Answer::Found(manager.find_point(self.point(point)).await?)),
            Question::Page { subject, columns, at, since, containing, page: _ } => {
                (subject, *columns, *at, *since, containing)
            }
        };
        let head = manager.find_point(point_at(Place::Time(Timestamp::from_unix_ns(i64::MAX)))).await?;
        let point = match at {
            Some(index) => Some(manager.go_to(point_at(Place::Index(index))).await?),
            None => None,
        };
        let now = point.map_or_else(|| self.clock.now(), |point| point.log_time);
        let view = View { now, ids: self.ids, width: Some(columns) };
        let mut total = None;
        let (heading, lines) = match subject {
            Subject::Logs(of) => {
                let parts = manager.logs(logs(of, since, point)).await?;
                return Ok(Answer::Logs(parts));
            }
            Subject::Output(output) => (String::new(), self.output(manager, output, at, columns).await?),
            Subject::Entry(of) => (String::new(), self.entry(manager, of, columns).await?),
            Subject::Services => rows::services(&manager.list_services(ListServicesRequest::default()).await?, view),
            Subject::Nodes => rows::nodes(&manager.list_nodes(ListNodesRequest::default()).await?, view),
            Subject::Tasks { of, finished } => {
                let request = task_request(of.as_ref(), *finished, containing);
                let mut list = manager.tasks(request).await?;
                total = list.total.filter(|total| *total > list.tasks.len() as u64);
                task::sort(&mut list.tasks);
                rows::tasks(&list.tasks, view)
            }
            Subject::Events { about } => {
                events(manager, about.as_ref().map(|(reference, _)| reference.clone()), at, view).await?
            }
        };
        Ok(Answer::Page(Shown { head, point, heading, lines, total, containing: containing.clone() }))
    }

    fn point(self, point: &Point) -> FindPointRequest {
        match point {
            Point::Start(start) => point_at(start.at(self.clock.now())),
            Point::Tag(tag) => FindPointRequest { tag: Some(tag.clone()), ..Default::default() },
        }
    }

    /// One entry of history: the event, the other events in the same frame, the placement of a task, and the consequences of a
    /// command.
    async fn entry<M: Manager>(self, manager: &mut M, of: &Object, columns: usize) -> Result<Vec<Line>, Failure> {
        let (index, ordinal) = of.id.split_once('/').unwrap_or((&of.id, ""));
        let (index, ordinal) = (index.parse().unwrap_or_default(), ordinal.parse().unwrap_or_default());
        let request =
            |to, limit| EventsRequest { from: Some(index), to, limit, with_before: Some(true), ..Default::default() };
        let frame = records(manager, request(Some(index), None)).await?;
        let mut operations = Operations::default();
        records(manager, request(None, Some(FOLLOWING_MAX))).await?.iter().for_each(|record| operations.add(record));
        let operation = operations.window().into_iter().find(|operation| operation.index == index);
        let mut lines = entry::lines(&frame, ordinal, operation.as_ref(), columns);
        if let Some(task) = frame.iter().find(|record| record.ordinal == ordinal).and_then(entry::task) {
            let explain = Output::about(["explain", "task"], &of.name, task, false);
            lines.push(Line::text(""));
            match self.output(manager, &explain, Some(index), columns).await {
                Ok(explained) => lines.extend(explained),
                // The task was removed in this frame.
                Err(failure) if failure.kind == Kind::NotFound => lines.push(Line::text(failure.sentence)),
                Err(failure) => return Err(failure),
            }
        }
        Ok(lines)
    }

    /// The output of `swarmctl` for a command line.
    async fn output<M: Manager>(
        self,
        manager: &mut M,
        output: &Output,
        at: Option<u64>,
        columns: usize,
    ) -> Result<Vec<Line>, Failure> {
        let mut words = output.words.clone();
        if let (Some(index), Some(position)) = (at, output.at_position) {
            words.splice(position..position, ["--at".to_owned(), index.to_string()]);
        }
        if self.ids {
            words.insert(0, "--no-resolve".to_owned());
        }
        let (mut out, mut err) = (Bounded::default(), Bounded::default());
        let cli = crate::parse(std::iter::once("swarmctl".to_owned()).chain(words)).map_err(|stop| match stop {
            Stop::Wrong { failure, .. } => failure,
            Stop::Help(_) | Stop::NoCommand(_) => Failure::new(Kind::Usage, "the command is not complete"),
        })?;
        let env = Env {
            out: &mut out,
            err: &mut err,
            interactive: false,
            width: Some(columns),
            coloured: false,
            clock: self.clock,
            // Commands that run here change nothing, so their ids need not be unique.
            command_ids: &mut || events::Id::from_bits(0),
            interrupt: Box::pin(std::future::pending()),
            console: &mut NoConsole,
        };
        // On the heap: the command that shows this page is one of those that could be run.
        match Box::pin(crate::attempt(&cli, manager, env)).await {
            // The output is longer than what is shown.
            Err(failure) if failure.kind == Kind::OutputClosed => {}
            ended => _ = ended?,
        }
        let lines = out.lines().chain(err.lines());
        Ok(lines.map(Line::text).collect())
    }
}

fn point_at(place: Place) -> FindPointRequest {
    match place {
        Place::Index(index) => FindPointRequest { index: Some(index), ..Default::default() },
        Place::Time(time) => FindPointRequest { time: Some(time), ..Default::default() },
    }
}

/// For a point of the past, the log up to then.
fn logs(of: &Object, since: Option<Timestamp>, point: Option<PointView>) -> LogsRequest {
    let request = LogsRequest {
        follow: point.is_none(),
        tail: since.is_none().then_some(LOG_TAIL),
        since,
        until: point.map(|point| point.log_time),
        ..Default::default()
    };
    match of.noun {
        Noun::Service => LogsRequest { services: vec![of.id.clone()], ..request },
        Noun::Task | Noun::Node | Noun::Entry => LogsRequest { tasks: vec![of.id.clone()], ..request },
    }
}

fn task_request(of: Option<&Object>, finished: bool, containing: &str) -> ListTasksRequest {
    let named = |noun| of.filter(|of| of.noun == noun).map(|of| of.id.clone());
    let (service, node) = (named(Noun::Service), named(Noun::Node));
    let containing = Some(containing.to_owned()).filter(|text| !text.is_empty());
    ListTasksRequest { service, node, live: Some(!finished), limit: Some(TASKS_MAX), containing, ..Default::default() }
}

async fn events<M: Manager>(
    manager: &mut M,
    object: Option<String>,
    to: Option<u64>,
    view: View,
) -> Result<Rows, Failure> {
    let request = EventsRequest { object, to, tail: Some(EVENTS_MAX), with_before: Some(true), ..Default::default() };
    let mut records = records(manager, request).await?;
    records.reverse();
    Ok(rows::events(&records, view))
}

async fn records<M: Manager>(manager: &mut M, request: EventsRequest) -> Result<Vec<EventRecord>, Failure> {
    let mut history = manager.events(request).await?;
    let mut records = Vec::new();
    while let Some(record) = history.next().await {
        records.push(record?);
    }
    Ok(records)
}

/// Output up to a limit; then the command ends as if its reader had closed the pipe.
#[derive(Default)]
struct Bounded(Vec<u8>);

impl Bounded {
    fn lines(&self) -> impl Iterator<Item = String> {
        let text = String::from_utf8_lossy(&self.0);
        text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_MAX {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_ends_at_its_bound_as_if_its_reader_had_gone() {
        let mut output = Bounded::default();
        let line = format!("{}\n", "x".repeat(1023));
        let written = std::iter::repeat_with(|| output.write_all(line.as_bytes()));
        let refused = written.take(OUTPUT_MAX).find_map(Result::err).expect("there is a bound");
        assert_eq!(Failure::from(refused).kind, Kind::OutputClosed);
        assert_eq!(output.lines().count(), OUTPUT_MAX / 1024);
    }
}
