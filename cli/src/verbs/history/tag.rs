//! `swarmctl history tag`.

use wire::v1::TagHistory;
use wire::v1::command_request::Command;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::point::{self, Point};

/// Name a point of history; the tag can be used wherever a point is expected
///
/// Example: swarmctl history tag before-migration
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name: letters, digits, - _ and ., starting with a letter
    #[arg(value_name = "NAME")]
    name: String,

    /// The point: an index, a time such as 03:12 or 2h ago, or another tag (default now)
    #[arg(value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    point: Option<Point>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let index = match &args.point {
        Some(point) => Some(session.find_point(point).await?.index),
        None => None,
    };
    let tag = TagHistory { name: args.name.clone(), index };
    session.execute_and_print(Command::TagHistory(tag), &args.name).await?;
    Ok(())
}
