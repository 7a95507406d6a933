//! Verbs about the machines of the cluster.

mod activate;
mod change;
mod drain;
mod inspect;
mod ls;
mod pause;
mod rm;
mod update;

use clap::Subcommand;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// The verbs of the noun.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Ls(ls::Args),
    Inspect(inspect::Args),
    Update(update::Args),
    Activate(activate::Args),
    Pause(pause::Args),
    Drain(drain::Args),
    #[command(alias = "remove")]
    Rm(rm::Args),
}

impl Verb {
    /// Does it.
    pub async fn run<M: Manager>(&self, session: &mut Session<'_, M>) -> Result<(), Failure> {
        match self {
            Self::Ls(args) => ls::run(args, session).await,
            Self::Inspect(args) => inspect::run(args, session).await,
            Self::Update(args) => update::run(args, session).await,
            Self::Activate(args) => activate::run(args, session).await,
            Self::Pause(args) => pause::run(args, session).await,
            Self::Drain(args) => drain::run(args, session).await,
            Self::Rm(args) => rm::run(args, session).await,
        }
    }
}
