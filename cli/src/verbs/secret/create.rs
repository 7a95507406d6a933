//! `swarmctl secret create`.

use std::path::{Path, PathBuf};

use events::{Annotations, SecretSpec};
use wire::v1::CreateSecret;
use wire::v1::command_request::Command;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::{input, pair};

/// Create a secret from a file, or from standard input
///
/// The data cannot be read back: managers store it encrypted and outside the history of the cluster, and send it only to nodes
/// that run a task which needs it. There it is in memory, as a file of the task.
///
/// Example: printf 'passphrase' | swarmctl secret create db-password -
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the secret
    #[arg(value_name = "NAME")]
    name: String,

    /// File to read; - for standard input
    #[arg(value_name = "FILE", required_unless_present = "from")]
    path: Option<PathBuf>,

    /// The same as FILE
    #[arg(short, long = "file", value_name = "FILE", conflicts_with = "path")]
    from: Option<PathBuf>,

    /// Have the node of each task expand the secret as a template: golang
    ///
    /// The template has the fields of a service's templates, such as {{.Node.Hostname}}, and the functions {{env "NAME"}},
    /// {{secret "TARGET"}} and {{config "TARGET"}}, which read the variables and files of the same container.
    #[arg(long, value_name = "DRIVER", default_value = "", hide_default_value = true)]
    template_driver: String,

    /// Label of the secret; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    label: Vec<(String, String)>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let path = args.path.as_deref().or(args.from.as_deref()).unwrap_or(Path::new("-"));
    let annotations = Annotations { name: args.name.clone(), labels: args.label.iter().cloned().collect() };
    let spec = SecretSpec { annotations: Some(annotations), template_driver: args.template_driver.clone() };
    let create = CreateSecret { spec, data: input::read(path, "secret", super::BYTES_MAX)? };
    session.execute_and_print(Command::CreateSecret(create), &args.name).await.map(drop)
}
