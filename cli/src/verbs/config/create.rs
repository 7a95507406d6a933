//! `swarmctl config create`.

use std::path::{Path, PathBuf};

use events::{Annotations, ConfigSpec};
use wire::v1::CreateConfig;
use wire::v1::command_request::Command;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::{input, pair};

/// Create a config from a file, or from standard input
///
/// A config is not a secret: its data is kept in the history of the cluster permanently. The data of a revision never changes:
/// `config update` creates a new revision, and the services that use the config follow it.
///
/// Example: swarmctl config create web.conf ./web.conf
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the config
    #[arg(value_name = "NAME")]
    name: String,

    /// File to read; - for standard input
    #[arg(value_name = "FILE", required_unless_present = "from")]
    path: Option<PathBuf>,

    /// The same as FILE
    #[arg(short, long = "file", value_name = "FILE", conflicts_with = "path")]
    from: Option<PathBuf>,

    /// Have the node of each task expand the config as a template: golang
    ///
    /// The template has the fields of a service's templates, such as {{.Node.Hostname}}, and the functions {{env "NAME"}},
    /// {{secret "TARGET"}} and {{config "TARGET"}}, which read the variables and files of the same container.
    #[arg(long, value_name = "DRIVER", default_value = "", hide_default_value = true)]
    template_driver: String,

    /// Label of the config; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    label: Vec<(String, String)>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let path = args.path.as_deref().or(args.from.as_deref()).unwrap_or(Path::new("-"));
    let annotations = Annotations { name: args.name.clone(), labels: args.label.iter().cloned().collect() };
    let create = CreateConfig {
        spec: ConfigSpec { annotations: Some(annotations), template_driver: args.template_driver.clone() },
        data: input::read(path, "config", super::BYTES_MAX)?,
    };
    session.execute_and_print(Command::CreateConfig(create), &args.name).await.map(drop)
}
