//! Verbs about the cluster itself.

mod inspect;
mod ls;
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
}

impl Verb {
    /// Does it.
    pub async fn run<M: Manager>(&self, session: &mut Session<'_, M>) -> Result<(), Failure> {
        match self {
            Self::Ls(args) => ls::run(args, session).await,
            Self::Inspect(args) => inspect::run(args, session).await,
            Self::Update(args) => update::run(args, session).await,
        }
    }
}
