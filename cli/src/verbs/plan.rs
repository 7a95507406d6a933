//! `swarmctl plan`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::script;
use crate::session::Session;
use crate::trial::Purpose;

/// Show what a command would do, and write it to a plan file for `swarmctl apply`
///
/// Any command that changes something can be planned. It is tried on a copy of the state, as with --dry-run, and nothing changes.
/// `swarmctl apply FILE` then makes exactly these changes, unless something that the plan read has changed in the meantime. Exits
/// with 2 if there is something to do, and with 0 if there is nothing; then no file is written.
///
/// With --script, the plan contains several commands, one per line. They are tried one after the other on the same copy: each
/// command sees the state after the lines before it.
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
    /// The command to plan, if there is one.
    pub(super) fn about(&self) -> Option<(Vec<OsString>, Purpose)> {
        self.script.is_none().then(|| (self.words.clone(), self.purpose()))
    }

    pub(super) fn purpose(&self) -> Purpose {
        Purpose::Plan(self.output.clone())
    }
}

/// Only a script, or a plan inside a plan, is left when this runs: a command was taken out before.
pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    if let Some(path) = &args.script {
        return script::run(path, session).await;
    }
    let failure = Failure::new(Kind::Usage, format!("{} cannot be planned again", args.output.display()));
    Err(failure.hint("name a command after `swarmctl plan -o FILE` that changes something"))
}
