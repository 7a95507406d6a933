//! `swarmctl config create`.

use std::io::Read;
use std::path::{Path, PathBuf};

use events::{Annotations, ConfigSpec};
use wire::v1::CreateConfig;
use wire::v1::command_request::Command;

use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::pair;

/// Longest input that is read, in bytes: a little more than a config may have, so that the manager can say what is wrong.
const BYTES_MAX: u64 = 1 << 20;

/// Create a config from a file, or from standard input
///
/// A config is not a secret: its data is kept in the history of the cluster permanently. It cannot be changed: create another
/// config and update the services that use it.
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

    /// Label of the config; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    label: Vec<(String, String)>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let path = args.path.as_deref().or(args.from.as_deref()).unwrap_or(Path::new("-"));
    let annotations = Annotations { name: args.name.clone(), labels: args.label.iter().cloned().collect() };
    let create = CreateConfig { spec: ConfigSpec { annotations: Some(annotations) }, data: read(path)? };
    session.execute_and_tell(Command::CreateConfig(create), &args.name).await.map(drop)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut data = Vec::new();
    let (shown, read) = if path == Path::new("-") {
        ("standard input".to_owned(), std::io::stdin().take(BYTES_MAX + 1).read_to_end(&mut data))
    } else {
        let file = std::fs::File::open(path);
        (path.display().to_string(), file.and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut data)))
    };
    match read {
        Ok(bytes) if bytes as u64 > BYTES_MAX => {
            let sentence = format!("{shown} is too large for a config");
            Err(Failure::new(Kind::Usage, sentence).hint("a config has less than 1000 KiB"))
        }
        Ok(_) => Ok(data),
        Err(error) => {
            let failure = Failure::new(Kind::Usage, format!("cannot read {shown}: {error}"));
            Err(failure.hint("name a file that you may read, or - for standard input"))
        }
    }
}
