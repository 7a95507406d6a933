//! `swarmctl config rm`.

use clap_complete::ArgValueCandidates;
use wire::v1::RemoveConfig;
use wire::v1::command_request::Command;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Remove configs that no service uses
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configs: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "CONFIG", add = ArgValueCandidates::new(completion::configs))]
    configs: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.require_configs(&args.configs).await?;
    for config in &args.configs {
        let remove = RemoveConfig { config: config.clone() };
        session.execute_and_print(Command::RemoveConfig(remove), config).await?;
    }
    Ok(())
}
