//! `swarmctl node update`.

use clap::ValueEnum;
use clap_complete::ArgValueCandidates;

use super::change::{self, change};
use crate::completion;
use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::pair;
use crate::wait::{NodeGoal, WaitFlags, for_nodes};

/// Change the labels of a node, or its availability
///
/// Only the given settings change. Constraints such as node.labels.zone==east match labels. Draining and pausing wait as `node
/// drain` and `node pause` do.
///
/// Example: swarmctl node update worker-1 --label zone=east --label-rm rack
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Node: a name, an id or a unique prefix of an id
    #[arg(value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    node: String,

    /// Label to set; may be repeated
    #[arg(long, visible_alias = "label-add", value_name = "KEY=VALUE", value_parser = pair::parse)]
    label: Vec<(String, String)>,

    /// Label to remove; may be repeated
    #[arg(long, value_name = "KEY", value_parser = pair::key)]
    label_rm: Vec<String>,

    /// Whether the node accepts tasks
    #[arg(long, value_name = "AVAILABILITY")]
    availability: Option<Wanted>,

    #[command(flatten)]
    wait: WaitFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Wanted {
    /// Accepts tasks
    Active,
    /// Keeps its tasks and accepts no new ones
    Pause,
    /// Moves its tasks to other nodes
    Drain,
}

impl Wanted {
    fn wanted(self) -> change::Wanted {
        match self {
            Self::Active => change::Wanted::Active,
            Self::Pause => change::Wanted::Paused,
            Self::Drain => change::Wanted::Drained(None),
        }
    }

    /// The condition to wait for.
    fn goal(self) -> Option<NodeGoal> {
        match self {
            Self::Active => None,
            Self::Pause => Some(NodeGoal::Paused),
            Self::Drain => Some(NodeGoal::Drained),
        }
    }
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    if args.label.is_empty() && args.label_rm.is_empty() && args.availability.is_none() {
        let failure = Failure::new(Kind::Usage, "nothing to update");
        return Err(failure.hint("name labels with --label and --label-rm, or an --availability"));
    }
    let mut absent = Vec::new();
    let edit = |spec: &mut events::NodeSpec| {
        let labels = &mut spec.annotations.get_or_insert_default().labels;
        absent.extend(args.label_rm.iter().filter(|key| labels.remove(*key).is_none()).cloned());
        labels.extend(args.label.iter().cloned());
        if let Some(wanted) = args.availability {
            wanted.wanted().apply(spec);
        }
    };
    let since = change(session, &args.node, edit).await?;
    if !absent.is_empty() {
        session.note(&format!("--label-rm: the node has no {}", absent.join(", ")))?;
    }
    match args.availability.and_then(Wanted::goal) {
        Some(goal) => for_nodes(session, &args.wait, std::slice::from_ref(&args.node), goal, since).await,
        None => Ok(()),
    }
}
