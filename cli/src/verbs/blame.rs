//! `swarmctl blame`.

use tokio_stream::StreamExt;
use wire::v1::EventsRequest;

use crate::failure::{Failure, Kind};
use crate::format::blame::{self, Blame};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// Objects that have a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Noun {
    /// A service
    Service,
    /// A node
    Node,
    /// The cluster's own settings
    Cluster,
}

impl Noun {
    fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Node => "node",
            Self::Cluster => "cluster",
        }
    }

    /// The kinds of event that set or change the spec.
    fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Service => &["service_created", "service_spec_updated", "service_scaled"],
            Self::Node => &["node_joined", "node_spec_updated"],
            Self::Cluster => &["cluster_initialised", "cluster_spec_updated"],
        }
    }
}

/// Show for each field of a spec who set it, when, by which command and why
///
/// Works for removed objects as well, unless a newer object has the same name.
///
/// Example: swarmctl blame service web --all
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of the object
    #[arg(value_name = "NOUN")]
    noun: Noun,

    /// Service or node: a name, an id or a unique prefix of an id; none for the cluster
    #[arg(value_name = "REFERENCE", required_if_eq_any([("noun", "service"), ("noun", "node")]))]
    reference: Option<String>,

    /// Show earlier values as well
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    if let (Noun::Cluster, Some(reference)) = (args.noun, &args.reference) {
        let failure = Failure::new(Kind::Usage, format!("`blame cluster` takes no reference, but got {reference}"));
        return Err(failure.hint("a manager has one cluster: `swarmctl blame cluster`"));
    }
    let kinds = args.noun.kinds().iter().map(|kind| (*kind).to_owned()).collect();
    // By kind and name: a config or a secret may have the same name.
    let object = args.reference.as_ref().map(|reference| format!("{}/{reference}", args.noun.name()));
    let request = EventsRequest { object, kinds, to: session.point_index(), ..Default::default() };
    let mut history = session.manager.events(request).await?;
    let mut blamed = Blame::default();
    while let Some(record) = history.next().await {
        blamed.add(&record?, session.globals.no_resolve);
    }
    let lines = blamed.lines(args.all);
    if let (true, Some(reference)) = (lines.is_empty(), &args.reference) {
        let failure = Failure::new(Kind::NotFound, format!("there is no spec in history of {reference}"));
        return Err(failure.hint("give the name or id of what `blame` names: a service or a node"));
    }
    let view = session.view();
    session.list(&lines, false, |_| String::new(), |lines| blame::table(lines, view))
}
