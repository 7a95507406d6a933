//! `swarmctl apply`.

use std::path::PathBuf;

use events::SecretText;

use super::stack::text;
use crate::apply::{self, Wanted, document};
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::WaitFlags;

/// Make services and configs as files describe them
///
/// The files have specs in YAML or JSON, as `service export` writes them, several in a file if `---` is between them or they are a list.
/// What does not exist is created, what differs is changed, and what is as described is left alone: one operation in the history.
///
/// Example: swarmctl apply -f services.yaml --reason "move to 1.28"
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File of specs, or - for standard input; may be repeated
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Credentials for the registry, in the form of Docker's X-Registry-Auth header; never shown again
    #[arg(long, value_name = "AUTH", env = "SWARM_REGISTRY_AUTH", hide_env_values = true)]
    registry_auth: Option<SecretText>,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let mut wanted = Wanted::default();
    for path in &args.files {
        document::read(&path.display().to_string(), &text(path)?, &mut wanted)?;
    }
    let plan = apply::plan(wanted, session).await?;
    if args.dry_run {
        return apply::tell(&plan, session);
    }
    apply::run(plan, args.registry_auth.as_ref(), &args.wait, session).await
}
