//! `swarmctl service export`.

use clap_complete::ArgValueCandidates;
use wire::v1::ListServicesRequest;

use crate::apply::document;
use crate::completion;
use crate::failure::Failure;
use crate::format::Format;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;
use crate::yaml;

/// Write the specs of services in YAML, as `swarmctl apply` reads them
///
/// Data that is specific to this cluster is omitted: ids, credentials, the values of secret variables.
///
/// Example: swarmctl service export web db > services.yaml
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services: names, ids or unique prefixes of ids (default: all services)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    services: Vec<String>,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let mut references = args.services.clone();
    if references.is_empty() {
        let all = session.manager.list_services(ListServicesRequest::default()).await?;
        references.extend(all.iter().map(|service| service.id.to_string()));
    }
    let services = if references.is_empty() { Vec::new() } else { session.manager.services(references).await? };
    for (position, service) in services.iter().enumerate() {
        let document = document::of_service(&service.spec)?;
        if session.globals.format == Format::Json {
            session.json(&document)?;
            continue;
        }
        session.print_point_as_comment()?;
        let gap = if position == 0 { "" } else { "---\n" };
        session.text(&format!("{gap}{}", yaml::to_text(&document)))?;
    }
    Ok(())
}
