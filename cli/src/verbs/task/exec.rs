//! `swarmctl task exec`.

use clap_complete::ArgValueCandidates;
use events::SecretText;
use wire::v1::interaction::What;
use wire::v1::{ExecSpec, Interaction, TerminalSize};

use crate::completion;
use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::{ConsoleOptions, Session};
use crate::values::env;
use crate::verbs::interact::{OnExit, interact};

/// Run a command in a running task
///
/// Ends with the exit code of the command. History permanently records who ran which command in which task; input and output are
/// not recorded. If swarmctl ends first, the command is ended too. Signals of swarmctl are forwarded.
///
/// Example: swarmctl task exec -it web.1 sh
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Forward standard input to the command
    #[arg(short, long)]
    interactive: bool,

    /// Allocate a terminal for the command
    #[arg(short, long)]
    tty: bool,

    /// Detach: start the command and leave it running, without its output
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"])]
    detach: bool,

    /// Environment variable in addition to those of the task; KEY without a value takes it from the environment of swarmctl
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = env::parse)]
    env: Vec<SecretText>,

    /// User to run as: name or UID, and after a colon group or GID (default that of the task)
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Working directory (default that of the task)
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<String>,

    /// Task: name, id or unique prefix of an id
    #[arg(value_name = "TASK", add = ArgValueCandidates::new(completion::tasks))]
    task: String,

    /// Program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.refuse_trial("the effect of a command in a task cannot be previewed")?;
    let exec = ExecSpec {
        argv: args.command.clone(),
        env: args.env.iter().map(|variable| variable.0.clone()).collect(),
        user: args.user.clone(),
        dir: args.workdir.clone(),
        terminal: args.tty.then(|| terminal(args, session)).transpose()?,
        stdin: args.interactive,
        detach: args.detach,
    };
    let reason = session.globals.reason.clone();
    let wanted = Interaction { task: args.task.clone(), reason, what: Some(What::Exec(exec)) };
    let how = ConsoleOptions { stdin: args.interactive, raw: args.tty && args.interactive, page: false };
    interact(wanted, how, OnExit::Command, session).await
}

/// The terminal of the command: the same as the local one.
fn terminal<M>(args: &Args, session: &Session<'_, M>) -> Result<TerminalSize, Failure> {
    /// The default size of a terminal.
    const DEFAULT_SIZE: TerminalSize = TerminalSize { columns: 80, rows: 24 };
    match session.env.console.terminal() {
        Some(size) => Ok(size),
        None if !args.interactive => Ok(DEFAULT_SIZE),
        None => {
            let failure = Failure::new(Kind::Usage, "the standard input is not a terminal");
            Err(failure.hint("leave out -t: with -i alone the command reads what is piped in"))
        }
    }
}
