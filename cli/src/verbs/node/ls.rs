//! `swarmctl node ls`.

use wire::v1::ListNodesRequest;

use crate::failure::Failure;
use crate::format::node;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;
use crate::values::filter::{self, Filter};

/// List the nodes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,

    /// Show only what matches, such as role=worker or label=zone=east; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::of_nodes)]
    filter: Vec<Filter>,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let nodes = session.manager.list_nodes(request(&args.filter)?).await?;
    let view = session.view();
    session.list(&nodes, args.quiet, |node| node.id.to_string(), |nodes| node::table(nodes, view))
}

fn request(filters: &[Filter]) -> Result<ListNodesRequest, Failure> {
    let role = filter::one(filters, "role", |filter| if let Filter::Role(role) = filter { Some(*role) } else { None })?;
    let availability = |filter: &Filter| if let Filter::Availability(of) = filter { Some(*of) } else { None };
    let availability = filter::one(filters, "availability", availability)?;
    let select = filter::selection(filters);
    Ok(ListNodesRequest { select, role: role.map(Into::into), availability: availability.map(Into::into) })
}
