//! `swarmctl node update`.

use clap_complete::ArgValueCandidates;

use super::change::change;
use crate::completion;
use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::pair;

/// Change the labels of a node
///
/// Labels that are not named stay. Constraints such as node.labels.zone==east look at them.
///
/// Example: swarmctl node update worker-1 --label zone=east --label-rm rack
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Node: a name, an id or the beginning of an id
    #[arg(value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    node: String,

    /// Label to set; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    label: Vec<(String, String)>,

    /// Label to take away; may be repeated
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    if args.label.is_empty() && args.label_rm.is_empty() {
        let failure = Failure::new(Kind::Usage, "nothing is named that should change");
        return Err(failure.hint("name labels with --label and --label-rm"));
    }
    let edit = |spec: &mut events::NodeSpec| {
        let labels = &mut spec.annotations.get_or_insert_default().labels;
        args.label_rm.iter().for_each(|key| {
            labels.remove(key);
        });
        labels.extend(args.label.iter().cloned());
    };
    change(session, &args.node, edit).await.map(drop)
}
