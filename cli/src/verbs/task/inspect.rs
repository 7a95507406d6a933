//! `swarmctl task inspect`.

use clap_complete::ArgValueCandidates;
use wire::v1::ListTasksRequest;

use crate::completion;
use crate::failure::Failure;
use crate::format::{Format, task};
use crate::manager::Manager;
use crate::session::Session;

/// Show tasks with their state and what they run
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tasks: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "TASK", add = ArgValueCandidates::new(completion::tasks))]
    tasks: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let request = ListTasksRequest { tasks: args.tasks.clone(), ..Default::default() };
    let tasks = session.manager.tasks(request).await?.tasks;
    let view = session.view();
    for (position, task) in tasks.iter().enumerate() {
        if session.globals.format == Format::Json {
            session.json(task)?;
            continue;
        }
        let gap = if position == 0 { "" } else { "\n" };
        session.text(&format!("{gap}{}", task::block(task, view)))?;
    }
    Ok(())
}
