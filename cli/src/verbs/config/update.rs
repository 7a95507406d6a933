//! `swarmctl config update`.

use std::path::PathBuf;

use clap_complete::ArgValueCandidates;
use events::ConfigSpec;
use wire::v1::UpdateConfig;
use wire::v1::command_request::Command;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::{input, pair};

/// Give a config new data, or change its labels
///
/// New data creates a new revision. The services that use the config roll it out by their update settings. Services with a pinned
/// revision (--config source=NAME,revision=1) do not, and jobs get the newest revision in their next run. Earlier revisions are
/// kept as long as a service may need them, also for a rollback.
///
/// Example: swarmctl config update web.conf ./web.conf
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Config: its name, id or a unique prefix of its id
    #[arg(value_name = "CONFIG", add = ArgValueCandidates::new(completion::configs))]
    config: String,

    /// File with the new data; - for standard input
    #[arg(value_name = "FILE")]
    path: Option<PathBuf>,

    /// The same as FILE
    #[arg(short, long = "file", value_name = "FILE", conflicts_with = "path")]
    from: Option<PathBuf>,

    /// Label to add or change; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    label_add: Vec<(String, String)>,

    /// Label to remove; may be repeated
    #[arg(long, value_name = "KEY", value_parser = pair::key)]
    label_rm: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let path = args.path.as_deref().or(args.from.as_deref());
    let (mut spec, mut version) = (None, None);
    if !(args.label_add.is_empty() && args.label_rm.is_empty()) {
        let found = session.configs(vec![args.config.clone()]).await?;
        spec = found.first().map(|config| relabelled(args, config.spec.clone()));
        version = found.first().map(|config| config.meta.version);
    }
    let data = path.map(|path| input::read(path, "config", super::BYTES_MAX)).transpose()?;
    let update = UpdateConfig { config: args.config.clone(), spec, data, version };
    session.execute_and_print(Command::UpdateConfig(update), &args.config).await.map(drop)
}

fn relabelled(args: &Args, mut spec: ConfigSpec) -> ConfigSpec {
    let labels = &mut spec.annotations.get_or_insert_default().labels;
    labels.retain(|key, _| !args.label_rm.contains(key));
    labels.extend(args.label_add.iter().cloned());
    spec
}
