//! `swarmctl undo`.

use events::CommandId;
use wire::v1::PlanUndoRequest;

use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;
use crate::undo::{self, Consent};

/// Undo the changes of a command, by default the last one
///
/// Shows the commands that reverse the operation's changes, asks for confirmation, and runs them as one operation, which can be
/// undone in turn. Other fields keep the values that later commands set. Removed objects are created again with a new id;
/// destroyed data, such as a secret, cannot be restored.
///
/// Example: swarmctl undo 120 --reason "the new image crashes"
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The operation: the index of one of its commands, or the id of its first command (default the last one)
    #[arg(value_name = "INDEX|COMMAND")]
    operation: Option<String>,

    /// On a conflict, undo the field and override later commands
    #[arg(long, conflicts_with = "theirs")]
    ours: bool,

    /// On a conflict, keep the values that later commands set
    #[arg(long)]
    theirs: bool,

    #[command(flatten)]
    consent: Consent,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let mut request =
        PlanUndoRequest { ours: Some(args.ours), theirs: Some(args.theirs), ..PlanUndoRequest::default() };
    if let Some(reference) = &args.operation {
        match (reference.parse::<u64>(), reference.parse::<CommandId>()) {
            (Ok(index), _) => request.index = Some(index),
            (Err(_), Ok(id)) => request.operation = Some(id),
            (Err(_), Err(_)) => {
                let failure =
                    Failure::new(Kind::Usage, format!("\"{reference}\" is neither an index nor a command's id"));
                return Err(failure.hint("`swarmctl events --by-operation` lists the commands, each with its index"));
            }
        }
    }
    let plan = session.manager.plan_undo(request).await?;
    undo::run(plan, args.ours || args.theirs, &args.consent, session).await
}
