//! `swarmctl whatif ...`

mod add;
mod lose;
mod replay;
mod survive;

use std::ffi::OsString;

use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;
use crate::trial::Purpose;
use crate::values::at::At;

/// Show what would happen, on a copy of the present or a past state
///
/// Nothing changes. Shows where tasks would be placed, those that would find no node and why, the nodes with the least free
/// resources, and how long it would take. Exits with 2 if tasks that have a node now would be left without one.
///
/// Example: swarmctl whatif lose --where node.labels.rack==a
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    at: At,

    #[command(subcommand)]
    verb: Verb,
}

/// Hypothetical changes.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    Lose(lose::Args),
    Add(add::Args),
    /// Move all tasks away from nodes: the arguments are those of `swarmctl node drain`
    Drain(Words),
    /// Change the number of tasks of services: the arguments are those of `swarmctl service scale`
    Scale(Words),
    /// Change a service: the arguments are those of `swarmctl service update`
    Update(Words),
    Survive(survive::Args),
    Replay(replay::Args),
}

/// The arguments of another command.
#[derive(Debug, clap::Args)]
struct Words {
    /// Arguments of that command
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    words: Vec<OsString>,
}

impl Args {
    /// The command to try, if there is one.
    pub(super) fn about(&self) -> Option<(Vec<OsString>, Purpose)> {
        let (noun, verb, Words { words }) = match &self.verb {
            Verb::Drain(words) => ("node", "drain", words),
            Verb::Scale(words) => ("service", "scale", words),
            Verb::Update(words) => ("service", "update", words),
            Verb::Lose(_) | Verb::Add(_) | Verb::Survive(_) | Verb::Replay(_) => return None,
        };
        let command = [noun.into(), verb.into()].into_iter().chain(words.iter().cloned());
        Some((command.collect(), self.purpose()))
    }

    /// Hypothetical changes are shown like a dry run.
    pub(super) fn purpose(&self) -> Purpose {
        Purpose::WhatIf(self.at.clone())
    }
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    match &args.verb {
        Verb::Lose(args) => lose::run(args, session),
        Verb::Add(args) => add::run(args, session),
        Verb::Survive(args) => survive::run(args, session).await,
        Verb::Replay(args) => replay::run(args, session).await,
        Verb::Drain(_) | Verb::Scale(_) | Verb::Update(_) => {
            let failure = Failure::new(Kind::Usage, "`swarmctl whatif` cannot be combined with a plan or a dry run");
            Err(failure.hint("run `swarmctl whatif` alone; `swarmctl plan -o FILE` takes the command itself"))
        }
    }
}
