//! `swarmctl history tags`.

use wire::v1::TagView;

use crate::failure::Failure;
use crate::format::age;
use crate::format::table::Table;
use crate::format::view::View;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// List the tags of points of history
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show names only
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let tags = session.manager.cluster(false).await?.tags;
    let view = session.view();
    session.list(&tags, args.quiet, |tag| tag.name.clone(), |tags| table(tags, view))
}

fn table(tags: &[TagView], view: View) -> String {
    let mut table = Table::new(&["NAME", "INDEX", "TIME", "AGE"]);
    for tag in tags {
        table.row([tag.name.clone(), tag.index.to_string(), tag.time.to_string(), age::ago(tag.time, view.now)]);
    }
    table.render(view.width)
}
