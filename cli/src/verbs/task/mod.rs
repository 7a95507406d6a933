//! Verbs about tasks.

mod inspect;
mod ls;
mod rm;

use clap::Subcommand;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// The verbs of the noun.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Ls(ls::Args),
    Inspect(inspect::Args),
    #[command(alias = "remove")]
    Rm(rm::Args),
}

impl Verb {
    /// Does it.
    pub async fn run<M: Manager>(&self, session: &mut Session<'_, M>) -> Result<(), Failure> {
        match self {
            Self::Ls(args) => ls::run(args, session).await,
            Self::Inspect(args) => inspect::run(args, session).await,
            Self::Rm(args) => rm::run(args, session).await,
        }
    }
}
