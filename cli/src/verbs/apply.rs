//! `swarmctl apply`.

use std::path::{Path, PathBuf};

use events::SecretText;
use wire::v1::Plan;

use super::stack::text;
use crate::apply::{self, Wanted, document};
use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::WaitFlags;

/// Create or update services and configs from files, or apply a plan
///
/// `swarmctl apply FILE` makes exactly the changes that `swarmctl plan -o FILE` showed. If something that the plan read has
/// changed since, it refuses and names the command that changed it. Otherwise:
///
/// The files contain specs in YAML or JSON, as `service export` writes them; a file may have several, separated by `---` or in a
/// list. Objects that do not exist are created, and those that differ are updated: one operation in the history.
///
/// Example: swarmctl apply -f services.yaml --reason "move to 1.28"
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with a plan
    #[arg(value_name = "PLAN", required_unless_present = "files", conflicts_with = "files")]
    plan: Option<PathBuf>,

    /// File of specs, or - for standard input; may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Credentials for the registry, in the form of Docker's X-Registry-Auth header; never shown again
    #[arg(long, value_name = "AUTH", env = "SWARM_REGISTRY_AUTH", hide_env_values = true)]
    registry_auth: Option<SecretText>,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    if let Some(path) = &args.plan {
        return apply::carry_out(plan(path, &text(path)?)?, &args.wait, session).await;
    }
    let mut wanted = Wanted::default();
    for path in &args.files {
        let text = text(path)?;
        if wire::plan::is_plan(&text) {
            let failure = Failure::new(Kind::Usage, format!("{} is a plan, not a file of specs", path.display()));
            return Err(failure.hint(format!("`swarmctl apply {}` applies it", path.display())));
        }
        document::read(&path.display().to_string(), &text, &mut wanted)?;
    }
    session.sources = std::mem::take(&mut wanted.sources);
    let plan = apply::plan(wanted, session).await?;
    apply::run(plan, args.registry_auth.as_ref(), &args.wait, session).await
}

fn plan(path: &Path, text: &str) -> Result<Plan, Failure> {
    let wrong = |why: &str| Failure::new(Kind::Usage, format!("{} is not a plan: {why}", path.display()));
    if !wire::plan::is_plan(text) {
        let hint = "use -f for files of specs; `swarmctl plan` creates plans";
        return Err(wrong("it has none of a plan's fields").hint(hint));
    }
    wire::plan::read(text).map_err(|why| wrong(why).hint("make the plan again with `swarmctl plan`"))
}
