//! Configs and secrets as files of a container.

use clap::Args;
use events::{ConfigReference, SecretReference, ServiceSpec};

use super::container;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::config_file;

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Configs and secrets")]
pub(super) struct FileFlags {
    /// Config to mount as a file, by default at /NAME with mode 0444; replaces all configs
    #[arg(long, value_name = "NAME|source=NAME,target=PATH,...", value_parser = config_file::parse)]
    config: Vec<ConfigReference>,
    /// Secret to mount as a file in memory, by default at /run/secrets/NAME with mode 0444; replaces all secrets
    #[arg(long, value_name = "NAME|source=NAME,target=PATH,...", value_parser = config_file::parse_secret)]
    secret: Vec<SecretReference>,
}

impl FileFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        let configs = &mut container(spec).configs;
        if !self.config.is_empty() {
            configs.retain(|of| of.runtime);
            configs.extend_from_slice(&self.config);
        }
        super::replace(&mut container(spec).secrets, &self.secret);
    }
}

/// Resolves the ids of the configs and secrets that flags named.
///
/// # Errors
/// When one of them does not exist.
pub async fn resolve<M: Manager>(spec: &mut ServiceSpec, session: &mut Session<'_, M>) -> Result<(), Failure> {
    // In a trial, a reference may be to an object created by an earlier step: the manager resolves it.
    if session.is_trial() {
        return Ok(());
    }
    let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut()) else { return Ok(()) };
    let mut configs: Vec<&mut ConfigReference> =
        container.configs.iter_mut().filter(|reference| reference.config.is_none()).collect();
    if !configs.is_empty() {
        let found = session.manager.configs(configs.iter().map(|reference| reference.name.clone()).collect()).await?;
        for (reference, config) in configs.iter_mut().zip(found) {
            reference.config = Some(config.id);
            reference.name = config.spec.name().to_owned();
        }
    }
    let mut secrets: Vec<&mut SecretReference> =
        container.secrets.iter_mut().filter(|reference| reference.secret.is_none()).collect();
    if !secrets.is_empty() {
        let found = session.manager.secrets(secrets.iter().map(|reference| reference.name.clone()).collect()).await?;
        for (reference, secret) in secrets.iter_mut().zip(found) {
            reference.secret = Some(secret.id);
            reference.name = secret.spec.name().to_owned();
        }
    }
    Ok(())
}
