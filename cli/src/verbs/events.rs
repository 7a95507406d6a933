//! `swarmctl events`.

mod export;
mod resume;

use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap_complete::ArgValueCandidates;
use events::Timestamp;
use tokio_stream::StreamExt;
use wire::v1::{EventRecord, EventsRequest};

use crate::completion;
use crate::failure::{Failure, Kind};
use crate::format::operations::{OPERATIONS_MAX, Operation, Operations};
use crate::format::{Format, RecordNames, escape, event_lines};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::point::{self, Point};
use crate::values::start::{Place, Start};
use crate::values::{command, number};

/// The maximum number of last events that a manager keeps in memory for a request.
const TAIL_MAX: u64 = 10_000;
/// More than any history has: a bound for the parser.
const LIMIT_MAX: u64 = 1_000_000_000_000;

/// Show the history of the cluster, oldest first
///
/// Contains every change since the cluster was created, with the user or component that caused it. `--follow` continues with new
/// events. If several filters are given, all must match; --reason TEXT shows only events of commands with this text in their
/// reason.
///
/// Example: swarmctl events --object web --since yesterday --follow
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// Start at this index, or at this time: 2026-01-31T12:00:00+01:00, "2026-01-31 12:00" or 2026-01-31 (UTC where there is
    /// no offset), 03:12 (the last one, UTC), 1h30m or 2d (ago), today, yesterday, or at a tag
    #[arg(long, visible_alias = "since", value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    from: Option<Point>,

    /// End with this index, or at this time, written as for --from
    #[arg(long, value_name = "INDEX|TIME|TAG", value_parser = point::parse, conflicts_with = "follow")]
    until: Option<Point>,

    /// Show only this many last events, or last commands with --by-operation, at most 10000
    #[arg(long, value_name = "NUMBER", value_parser = number::within(0..=TAIL_MAX))]
    tail: Option<u64>,

    /// Stop after this many events, or commands with --by-operation
    #[arg(long, value_name = "NUMBER", value_parser = number::within(0..=LIMIT_MAX))]
    limit: Option<u64>,

    /// Continue with new events, until Ctrl-C or until the manager stops
    #[arg(short, long)]
    follow: bool,

    /// Only events about this object, and events that changed its tasks, such as a drain of their node; for a service also events
    /// about its tasks. A name refers to the object that has it now, or else to the last one that had it; use the id for an older
    /// one. If objects of several kinds have the name, write it such as service/web
    #[arg(long, value_name = "REFERENCE", add = ArgValueCandidates::new(completion::objects))]
    object: Option<String>,

    /// Only events of this kind, such as service_created; may be repeated
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(events::catalogue::NAMES), hide_possible_values = true)]
    kind: Vec<String>,

    /// Only events about this node and the tasks on it
    #[arg(long, value_name = "REFERENCE", add = ArgValueCandidates::new(completion::nodes))]
    node: Option<String>,

    /// Only events caused by commands of this user, operator or node; may be repeated
    #[arg(long, value_name = "NAME")]
    actor: Vec<String>,

    /// Only events caused by this command, such as service.update; may be repeated
    #[arg(long, value_name = "COMMAND", value_parser = command::parse)]
    command: Vec<String>,

    /// Group events by command: one entry for each command of a person or a tool, followed by its consequences
    #[arg(long, conflicts_with = "follow")]
    by_operation: bool,

    #[command(flatten)]
    resume: resume::Resume,
}

/// Other operations on history.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    Export(export::Args),
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    if let Some(Verb::Export(args)) = &args.verb {
        return export::run(args, session).await;
    }
    let (from, until) = (session.start(args.from.as_ref()).await?, session.start(args.until.as_ref()).await?);
    let mut request = request(args, range(from, until, session.env.clock.now())?);
    request.reason = session.globals.reason.clone();
    if args.by_operation {
        return by_operation(EventsRequest { tail: None, limit: None, ..request }, args, session).await;
    }
    if let Some(file) = args.resume.file() {
        let count = resume::run(&args.resume, file, request, session).await?;
        return if is_cut_off(args, count) { Err(resume::continued(Failure::stopped(), file)) } else { Ok(()) };
    }
    let mut history = session.manager.events(request).await?;
    let (table, width) = (session.globals.format == Format::Table, session.env.width);
    if table {
        session.text(&event_lines::heading(width))?;
    }
    let (mut last, mut count) = (None, 0_u64);
    while let Some(record) = history.next().await {
        let record = record.map_err(|failure| resumable(failure, args, last))?;
        last = Some(record.index);
        count += 1;
        let line = shown(&record, session)?;
        session.text(&line)?;
    }
    if count == 0 && table && !args.follow {
        return session.note("no events match");
    }
    if is_cut_off(args, count) {
        return Err(resumable(Failure::stopped(), args, last));
    }
    Ok(())
}

/// Whether the manager's stop cut the output short: following has no end of its own.
fn is_cut_off(args: &Args, count: u64) -> bool {
    args.follow && args.limit.is_none_or(|limit| count < limit)
}

/// An event as a line of the output.
fn shown<M>(record: &EventRecord, session: &Session<'_, M>) -> Result<String, Failure> {
    Ok(match session.globals.format {
        Format::Json => {
            let line = serde_json::to_string(record).map_err(std::io::Error::from)?;
            format!("{}\n", escape::json(&line))
        }
        Format::Table => {
            let names = if session.globals.no_resolve { RecordNames::none() } else { RecordNames::with(record) };
            event_lines::line(record, names, session.env.width)
        }
    })
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new(Kind::Other, format!("cannot write {}: {error}", path.display()));
    failure.hint("choose a file in a writable directory, on a disk with enough space")
}

/// Shows history grouped by command, limited to the first or last operations: consequences of a command may be anywhere after it.
async fn by_operation<M: Manager>(
    request: EventsRequest,
    args: &Args,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let at_most = |number| usize::try_from(number).unwrap_or(usize::MAX);
    let mut history = session.manager.events(request).await?;
    let (tail, mut left) = (args.tail, args.limit.map_or(usize::MAX, at_most));
    let mut operations = Operations::default();
    while left > 0
        && let Some(record) = history.next().await
    {
        operations.add(&record?);
        let mut older = operations.hand_out();
        if tail.is_none() {
            older.truncate(left);
            left -= older.len();
            show(&older, session)?;
        }
    }
    let handed_out = operations.handed_out();
    let mut shown = operations.window();
    let wanted = tail.map_or(shown.len(), at_most);
    shown.drain(..shown.len().saturating_sub(wanted));
    shown.truncate(left);
    show(shown.make_contiguous(), session)?;
    match (session.globals.format, tail) {
        (Format::Table, None) if handed_out > 0 => session.note(&format!(
            "for the first {handed_out} commands, only consequences within about {OPERATIONS_MAX} later commands are shown; use --from for the rest"
        )),
        (Format::Table, _) if shown.is_empty() => session.note("no command matches"),
        (Format::Table | Format::Json, _) => Ok(()),
    }
}

fn show<M: Manager>(operations: &[Operation], session: &mut Session<'_, M>) -> Result<(), Failure> {
    match session.globals.format {
        Format::Json => operations.iter().try_for_each(|operation| session.json(operation)),
        Format::Table => session.text(&operations.iter().map(Operation::text).collect::<String>()),
    }
}

/// Adds a hint how to continue when the manager is back. A frame may have been shown in part, so it is shown again.
fn resumable(failure: Failure, args: &Args, last: Option<u64>) -> Failure {
    match last {
        Some(index) if matches!(failure.kind, Kind::Unreachable | Kind::Stopped) => {
            let follow = if args.follow { "--follow " } else { "" };
            failure.hint(format!(
                "once swarmd runs again, the same command with `{follow}--from {index}` continues where this one ended"
            ))
        }
        Some(_) | None => failure,
    }
}

/// The part of history between two places.
///
/// # Errors
/// When it ends before it begins.
fn range(from: Option<Start>, until: Option<Start>, now: Timestamp) -> Result<EventsRequest, Failure> {
    let (from, since) = place(from, now);
    let (to, until) = place(until, now);
    let ends_first = from.zip(to).is_some_and(|(from, to)| to < from)
        || since.zip(until).is_some_and(|(since, until)| until < since);
    if ends_first {
        let hint = "give an --until that comes after --from; a time of day alone is the last one that there was";
        return Err(Failure::new(Kind::Usage, "--until comes before --from").hint(hint));
    }
    Ok(EventsRequest { from, since, to, until, ..Default::default() })
}

fn request(args: &Args, range: EventsRequest) -> EventsRequest {
    EventsRequest {
        follow: args.follow,
        object: args.object.clone(),
        kinds: args.kind.clone(),
        limit: args.limit,
        tail: args.tail,
        with_before: Some(true),
        node: args.node.clone(),
        actors: args.actor.clone(),
        commands: args.command.clone(),
        ..range
    }
}

/// The index or the time of a position.
fn place(start: Option<Start>, now: Timestamp) -> (Option<u64>, Option<Timestamp>) {
    match start.map(|start| start.at(now)) {
        Some(Place::Index(index)) => (Some(index), None),
        Some(Place::Time(time)) => (None, Some(time)),
        None => (None, None),
    }
}
