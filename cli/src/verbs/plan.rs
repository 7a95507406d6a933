//! `swarmctl plan`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::script;
use crate::session::Session;
use crate::trial::Purpose;

/// Show what a command would do, and write it to a file that `swarmctl apply` carries out
///
/// The command is any that changes something. It is tried on a copy of the state, as with --dry-run, and nothing changes. `swarmctl apply
/// FILE` then does exactly that, unless something that the plan read has changed in the meantime. Ends with 2 if there is something to
/// do, and with 0 if there is not; then no file is written.
///
/// With --script it is several commands, one a line, which are tried one after the other on the same copy: each is made for what the lines
/// before it lead to.
///
/// Example: swarmctl plan -o web.plan service update web --image nginx:1.28
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to write the plan to
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// File with a command on each line, or - for standard input; a line that begins with # is a comment
    #[arg(long, value_name = "SCRIPT", conflicts_with = "words")]
    script: Option<PathBuf>,

    /// Command with its arguments, as it would be given without `plan`
    #[arg(
        required_unless_present = "script",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    words: Vec<OsString>,
}

impl Args {
    /// The command that is planned, if it is one.
    pub(super) fn about(&self) -> Option<(Vec<OsString>, Purpose)> {
        self.script.is_none().then(|| (self.words.clone(), self.purpose()))
    }

    pub(super) fn purpose(&self) -> Purpose {
        Purpose::Plan(self.output.clone())
    }
}

/// What is left of a plan once its command was taken out of it is a script, or a plan for a plan.
pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    if let Some(path) = &args.script {
        return script::run(path, session).await;
    }
    let failure = Failure::new(Kind::Usage, format!("{} would be the plan of a plan", args.output.display()));
    Err(failure.hint("name a command after `swarmctl plan -o FILE` that changes something"))
}
