//! `swarmctl secret rm`.

use clap_complete::ArgValueCandidates;
use wire::v1::RemoveSecret;
use wire::v1::command_request::Command;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Remove secrets that no service uses
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Secrets: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "SECRET", add = ArgValueCandidates::new(completion::secrets))]
    secrets: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.require_secrets(&args.secrets).await?;
    for secret in &args.secrets {
        let remove = RemoveSecret { secret: secret.clone() };
        session.execute_and_print(Command::RemoveSecret(remove), secret).await?;
    }
    Ok(())
}
