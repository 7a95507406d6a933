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

/// Replay a part of history under another policy, and compare
///
/// The commands of users and the states of nodes are replayed, from one point to another, on two copies of the cluster: with the
/// original policy, and with the other one. Tasks are created, placed and restarted in both. Both leave out removals by
/// `task rm`, decisions of autoscaling, and failures of tasks with their consequences.
///
/// Example: swarmctl whatif replay --from "yesterday 08:00" --to "yesterday 20:00" --strategy binpack
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Start: an index, a time or a tag, as for --at
    #[arg(long, value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    from: Point,

    /// End (default now)
    #[arg(long, value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    to: Option<Point>,

    /// Placement strategy of services that set none
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
