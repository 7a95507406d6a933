//! Verbs about services.

mod create;
mod inspect;
mod ls;
mod rm;
mod scale;
mod update;

use clap::Subcommand;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// The verbs of the noun.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Create(Box<create::Args>),
    Ls(ls::Args),
    Inspect(inspect::Args),
    Update(Box<update::Args>),
    Scale(scale::Args),
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
            Self::Update(args) => update::run(args, session).await,
            Self::Scale(args) => scale::run(args, session).await,
            Self::Rm(args) => rm::run(args, session).await,
        }
    }
}
