//! `swarmctl stack deploy`.

use events::SecretText;

use super::files::FileFlags;
use crate::apply;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::WaitFlags;

/// Create or update a stack from Compose files
///
/// Services without changes are not touched. All changes belong to one operation in the history. If the files set no number of
/// replicas for a service, it keeps its present number.
///
/// Example: swarmctl stack deploy -c compose.yaml shop
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the stack (default: the name in the files)
    #[arg(value_name = "STACK")]
    stack: Option<String>,

    #[command(flatten)]
    files: FileFlags,

    /// Remove services, configs and secrets of the stack that are not in the files
    #[arg(long)]
    prune: bool,

    /// Credentials for the registry, in the form of Docker's X-Registry-Auth header; never shown again
    #[arg(long, value_name = "AUTH", env = "SWARM_REGISTRY_AUTH", hide_env_values = true)]
    registry_auth: Option<SecretText>,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let files = args.files.read()?;
    let stack = files.stack_name(args.stack.as_deref())?;
    let wanted = apply::Wanted { prune: args.prune, ..files.wanted(&stack, session)? };
    let plan = apply::plan(wanted, session).await?;
    apply::run(plan, args.registry_auth.as_ref(), &args.wait, session).await
}
