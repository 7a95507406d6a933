//! `swarmctl task rm`.

use clap_complete::ArgValueCandidates;
use wire::v1::RemoveTask;
use wire::v1::command_request::Command;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Stop tasks; their services replace them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tasks: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "TASK", add = ArgValueCandidates::new(completion::tasks))]
    tasks: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.require_tasks(&args.tasks).await?;
    for task in &args.tasks {
        let remove = RemoveTask { task: task.clone() };
        session.execute_and_print(Command::RemoveTask(remove), task).await?;
    }
    Ok(())
}
