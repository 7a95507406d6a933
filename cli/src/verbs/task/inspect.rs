//! `swarmctl task inspect`.

use clap_complete::ArgValueCandidates;
use events::TaskState;
use tokio_stream::StreamExt;
use wire::v1::{ListTasksRequest, LogsRequest, TaskView};

use crate::completion;
use crate::failure::Failure;
use crate::format::{Format, task};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// Number of last log lines of a failed task.
const LAST_LINES: u64 = 10;

/// Show tasks with their state and what they run
///
/// For a failed task, the last lines of its log are shown as well.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tasks: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "TASK", add = ArgValueCandidates::new(completion::tasks))]
    tasks: Vec<String>,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let request = ListTasksRequest { tasks: args.tasks.clone(), ..Default::default() };
    let tasks = session.manager.tasks(request).await?.tasks;
    let view = session.view();
    for (position, task) in tasks.iter().enumerate() {
        if session.globals.format == Format::Json {
            session.json(task)?;
            continue;
        }
        let printed =
            if task.status.state() == TaskState::Failed { last_lines(task, session).await } else { Vec::new() };
        let gap = if position == 0 { "" } else { "\n" };
        session.text(&format!("{gap}{}", task::block(task, &printed, view)))?;
    }
    Ok(())
}

/// The last log lines of a task, or why they are not available.
async fn last_lines<M: Manager>(task: &TaskView, session: &mut Session<'_, M>) -> Vec<String> {
    let request = LogsRequest { tasks: vec![task.id.to_string()], tail: Some(LAST_LINES), ..Default::default() };
    let mut parts = match session.manager.logs(request).await {
        Ok(parts) => parts,
        Err(failure) => return vec![format!("({})", failure.sentence)],
    };
    let mut printed = Vec::new();
    while let Some(part) = parts.next().await {
        match part {
            Ok(part) => {
                let lines = part.batches.iter().flat_map(|batch| &batch.lines);
                printed.extend(lines.map(|line| String::from_utf8_lossy(&line.data).into_owned()));
                printed.extend(part.warnings.into_iter().map(|warning| format!("({warning})")));
            }
            Err(failure) => {
                printed.push(format!("({})", failure.sentence));
                return printed;
            }
        }
    }
    printed
}
