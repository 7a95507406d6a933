//! `swarmctl events`.

use clap::builder::PossibleValuesParser;
use clap_complete::ArgValueCandidates;
use tokio_stream::StreamExt;
use wire::v1::EventsRequest;

use crate::completion;
use crate::failure::{Failure, Kind};
use crate::format::{Format, Names, story};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::start::{self, Start};

/// Tell the history of the cluster, oldest first
///
/// Every change since the cluster began is there, with who or what caused it. `--follow` goes on with what happens now.
///
/// Example: swarmctl events --object web --from 2026-01-31 --follow
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Begin at this index, or at this time: 2026-01-31T12:00:00+01:00, "2026-01-31 12:00" or 2026-01-31, in UTC where there
    /// is no offset
    #[arg(long, value_name = "INDEX|TIME", value_parser = start::parse)]
    from: Option<Start>,

    /// Go on with what happens now, until Ctrl-C or the end of the manager
    #[arg(short, long)]
    follow: bool,

    /// Only events about this object; those of a service are also about its tasks. A name means what has it now, or else
    /// the last that had it; an older one is named by its whole id
    #[arg(long, value_name = "REFERENCE", add = ArgValueCandidates::new(completion::objects))]
    object: Option<String>,

    /// Only events of this kind, such as service_created; may be repeated
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(events::catalogue::NAMES), hide_possible_values = true)]
    kind: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let mut history = session.manager.events(request(args)).await?;
    let table = session.globals.format == Format::Table;
    if table {
        session.text(&story::heading())?;
    }
    let mut last = None;
    while let Some(record) = history.next().await {
        let record = record.map_err(|failure| resumable(failure, args, last))?;
        last = Some(record.index);
        if !table {
            session.json(&record)?;
            continue;
        }
        let names = if session.globals.no_resolve { Names::none() } else { Names::with(&record) };
        session.text(&story::line(&record, names))?;
    }
    if args.follow {
        return Err(resumable(Failure::stopped(), args, last));
    }
    Ok(())
}

/// Says how to go on when the manager is back. A frame may have been told in part, so it is told again.
fn resumable(failure: Failure, args: &Args, last: Option<u64>) -> Failure {
    match last {
        Some(index) if matches!(failure.kind, Kind::Unreachable | Kind::Stopped) => {
            let follow = if args.follow { "--follow " } else { "" };
            failure.hint(format!(
                "once swarmd runs again, the same command with `{follow}--from {index}` goes on where this one ended"
            ))
        }
        Some(_) | None => failure,
    }
}

fn request(args: &Args) -> EventsRequest {
    let (from, since) = match args.from {
        Some(Start::Index(index)) => (Some(index), None),
        Some(Start::Time(time)) => (None, Some(time)),
        None => (None, None),
    };
    let (object, kinds) = (args.object.clone(), args.kind.clone());
    EventsRequest { from, since, follow: args.follow, object, kinds, ..Default::default() }
}
