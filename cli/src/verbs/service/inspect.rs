//! `swarmctl service inspect`.

use clap_complete::ArgValueCandidates;
use wire::v1::ListTasksRequest;

use crate::completion;
use crate::failure::Failure;
use crate::format::{Format, service, task};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// Show services with their settings and tasks
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    services: Vec<String>,

    /// Show finished tasks as well
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let services = session.manager.services(args.services.clone()).await?;
    for (position, service) in services.iter().enumerate() {
        if session.globals.format == Format::Json {
            session.json(service)?;
            continue;
        }
        let request =
            ListTasksRequest { service: Some(service.id.to_string()), live: Some(!args.all), ..Default::default() };
        let mut tasks = session.manager.tasks(request).await?.tasks;
        task::sort(&mut tasks);
        let gap = if position == 0 { "" } else { "\n" };
        let block = service::block(service, session.view());
        session.text(&format!("{gap}{block}"))?;
        if !tasks.is_empty() {
            session.text(&format!("\n{}", task::table_in_service(&tasks, session.view())))?;
        }
    }
    Ok(())
}
