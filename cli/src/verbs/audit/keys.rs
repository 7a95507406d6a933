//! `swarmctl audit keys`.

use wire::v1::AuditKey;

use crate::failure::Failure;
use crate::format::table::Table;
use crate::format::view::View;
use crate::manager::Manager;
use crate::session::Session;

/// List the keys that verify the managers' signatures
///
/// Includes former managers: their keys verify what they signed before they were removed.
///
/// Keep the keys elsewhere, together with a checkpoint: verifying with keys that the cluster shows at that moment means trusting
/// the cluster.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show keys only
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let keys = session.manager.audit_keys().await?;
    let view = session.view();
    session.list(&keys, args.quiet, |key| key.key.clone(), |keys| table(keys, view))
}

fn table(keys: &[AuditKey], view: View) -> String {
    let mut table = Table::new(&["MANAGER", "IN THE LOG", "KEY"]);
    for key in keys {
        let recorded = match key.former_until {
            Some(until) => format!("until index {until}"),
            None if key.recorded => "yes".to_owned(),
            None => "not yet".to_owned(),
        };
        table.row([key.hostname.clone(), recorded, key.key.clone()]);
    }
    table.render(view.width)
}
