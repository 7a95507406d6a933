//! Verbs about configs.

mod create;
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
    Create(create::Args),
    Ls(ls::Args),
    Inspect(inspect::Args),
    #[command(alias = "remove")]
    Rm(rm::Args),
}

impl Verb {
    /// Does it.
    pub async fn run<M: Manager>(&self, session: &mut Session<'_, M>) -> Result<(), Failure> {
        match self {
            Self::Create(args) => create::run(args, session).await,
            Self::Ls(args) => ls::run(args, session).await,
            Self::Inspect(args) => inspect::run(args, session).await,
            Self::Rm(args) => rm::run(args, session).await,
        }
    }
}
