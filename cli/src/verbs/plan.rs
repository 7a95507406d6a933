//! `swarmctl plan`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::failure::{Failure, Kind};
use crate::trial::Purpose;

/// Show what a command would do, and write it to a file that `swarmctl apply` carries out
///
/// The command is any that changes something. It is tried on a copy of the state, as with --dry-run, and nothing changes. `swarmctl apply
/// FILE` then does exactly that, unless something that the plan read has changed in the meantime. Ends with 2 if there is something to
/// do, and with 0 if there is not; then no file is written.
///
/// Example: swarmctl plan -o web.plan service update web --image nginx:1.28
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to write the plan to
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Command with its arguments, as it would be given without `plan`
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    words: Vec<OsString>,
}

impl Args {
    pub(super) fn about(&self) -> (Vec<OsString>, Purpose) {
        (self.words.clone(), Purpose::Plan(self.output.clone()))
    }
}

/// What is left of a plan once its command was taken out of it is a plan for a plan.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let failure = Failure::new(Kind::Usage, format!("{} would be the plan of a plan", args.output.display()));
    Err(failure.hint("name a command after `swarmctl plan -o FILE` that changes something"))
}
