//! `swarmctl cluster inspect`.

use wire::v1::ClusterView;

use crate::failure::{Failure, Kind};
use crate::format::{Format, cluster};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// Show the cluster's settings and join tokens
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id of the cluster; may be omitted, as a manager has one cluster
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let cluster = session.manager.cluster(true).await?;
    if let Some(other) = args.cluster.as_ref().filter(|name| !is_called(&cluster, name)) {
        let failure = Failure::new(Kind::NotFound, format!("there is no cluster {other}"));
        return Err(failure.hint("`swarmctl cluster ls` shows its name"));
    }
    match session.globals.format {
        Format::Json => session.json(&cluster),
        Format::Table => session.text(&cluster::block(&cluster, session.view())),
    }
}

fn is_called(cluster: &ClusterView, reference: &str) -> bool {
    cluster.name == reference || (!reference.is_empty() && cluster.id.to_string().starts_with(reference))
}
