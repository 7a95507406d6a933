//! Configs that a container is given as files.

use clap::Args;
use events::{ConfigReference, ServiceSpec};

use super::container;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::config_file;

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Configs")]
pub(super) struct ConfigFlags {
    /// Config to place as a file, by default at /NAME with mode 0444; replaces all configs
    #[arg(long, value_name = "NAME|source=NAME,target=PATH,...", value_parser = config_file::parse)]
    config: Vec<ConfigReference>,
}

impl ConfigFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        super::replace(&mut container(spec).configs, &self.config);
    }
}

/// Finds the configs that flags named, whose ids are not known yet.
///
/// # Errors
/// When one of them does not exist.
pub async fn resolve<M: Manager>(spec: &mut ServiceSpec, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let container = spec.task.as_mut().and_then(|task| task.container.as_mut());
    let Some(container) = container.filter(|container| !container.configs.is_empty()) else { return Ok(()) };
    let mut open: Vec<&mut ConfigReference> =
        container.configs.iter_mut().filter(|reference| reference.config.is_none()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let found = session.manager.configs(open.iter().map(|reference| reference.name.clone()).collect()).await?;
    for (reference, config) in open.iter_mut().zip(found) {
        reference.config = Some(config.id);
        reference.name = config.spec.name().to_owned();
    }
    Ok(())
}
