//! `swarmctl revert`.

use wire::v1::PlanUndoRequest;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::undo::{self, Consent};
use crate::values::point::{self, Point};

/// Restore objects to their state at a point of history
///
/// Applies to services, configs, labels of secrets, nodes and the cluster's settings: all of them, or those given. Shows the
/// necessary commands, asks for confirmation, and runs them as one operation, which can be undone. Tasks follow from services, as
/// always.
///
/// Example: swarmctl revert --to before-migration web
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The point: an index, a time such as 03:12 or 2h ago, or a tag
    #[arg(long, value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    to: Point,

    /// Objects to revert: names such as web, or config/web to name the kind as well, or `cluster` for its settings (default
    /// everything)
    #[arg(value_name = "OBJECT")]
    objects: Vec<String>,

    #[command(flatten)]
    consent: Consent,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let to = session.find_point(&args.to).await?.index;
    let request = PlanUndoRequest { to: Some(to), objects: args.objects.clone(), ..PlanUndoRequest::default() };
    let plan = session.manager.plan_undo(request).await?;
    undo::run(plan, true, &args.consent, session).await
}
