//! `swarmctl whatif replay`.

use clap_complete::ArgValueCandidates;
use wire::v1::ReplayRequest;

use crate::completion;
use crate::failure::Failure;
use crate::format::{Format, replay};
use crate::manager::Manager;
use crate::session::Session;
use crate::spec::Strategy;
use crate::values::at::At;
use crate::values::point::{self, Point};

/// Show what a stretch of history would have been like under another policy
///
/// What users asked and what became of nodes happens once more, from one point to another, in two copies of the cluster: as it was, and
/// under the other policy. Tasks are made, placed and started again in both. Left out in both are tasks removed by `task rm`, what
/// autoscaling decided, and failures of tasks with what followed from them.
///
/// Example: swarmctl whatif replay --from "yesterday 08:00" --to "yesterday 20:00" --strategy binpack
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Point at which it begins: an index, a time or a tag, as for --at
    #[arg(long, value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    from: Point,

    /// Point at which it ends (default now)
    #[arg(long, value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    to: Option<Point>,

    /// Strategy of services that name none
    #[arg(long, value_name = "STRATEGY", required_unless_present = "without")]
    strategy: Option<Strategy>,

    /// Node that is down all the time; may be repeated
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    without: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let to_index = match &args.to {
        Some(to) => Some(session.find_point(to).await?.index),
        None => None,
    };
    session.at(&At { at: Some(args.from.clone()) }).await?;
    let strategy = args.strategy.map(Strategy::number);
    let request = ReplayRequest { to_index, strategy, without: args.without.clone() };
    let reply = session.manager.replay(request).await?;
    match session.globals.format {
        Format::Json => session.json(&reply),
        Format::Table => session.text(&replay::text(&reply, session.view())),
    }
}
