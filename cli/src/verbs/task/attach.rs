//! `swarmctl task attach`.

use clap_complete::ArgValueCandidates;
use wire::v1::interaction::What;
use wire::v1::{AttachSpec, Interaction, ListTasksRequest};

use crate::completion;
use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::{ConsoleOptions, Session};
use crate::values::keys::{self, Keys};
use crate::verbs::interact::{OnExit, interact};

/// Show the output of a running task from now on, and forward input to it
///
/// Ends with the exit code of the task when the task ends. Ctrl-C, or the detach keys if the task has a terminal, ends swarmctl,
/// and the task keeps running. History permanently records who attached to which task.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Do not forward standard input to the task; a task without open standard input accepts none
    #[arg(long)]
    no_stdin: bool,

    /// Keys that detach swarmctl from a task with a terminal, such as ctrl-a,d
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q", value_parser = keys::parse)]
    detach_keys: Keys,

    /// Task: name, id or unique prefix of an id
    #[arg(value_name = "TASK", add = ArgValueCandidates::new(completion::tasks))]
    task: String,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.refuse_trial("input of a task cannot be previewed")?;
    let request = ListTasksRequest { tasks: vec![args.task.clone()], ..Default::default() };
    let known = session.manager.tasks(request).await?.tasks.into_iter().next();
    let known = known.ok_or_else(|| Failure::new(Kind::NotFound, format!("there is no task {}", args.task)))?;
    let spec = known.spec.unwrap_or_default();
    let container = spec.template().container();
    let (stdin, size) = (container.open_stdin && !args.no_stdin, session.env.console.terminal());
    let raw = stdin && container.tty && size.is_some();
    let attach = AttachSpec { stdin, terminal: size.filter(|_| container.tty) };
    if !container.open_stdin && !args.no_stdin {
        session.note("the task takes no input: its service has no --open-stdin")?;
    }
    let reason = session.globals.reason.clone();
    let wanted = Interaction { task: args.task.clone(), reason, what: Some(What::Attach(attach)) };
    interact(wanted, ConsoleOptions { stdin, raw, page: false }, OnExit::Detach(args.detach_keys.clone()), session)
        .await
}
