//! `swarmctl cluster unlock`.

use std::io::Read;
use std::path::PathBuf;

use events::SecretText;

use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;

/// Maximum size of the input, in bytes: a key has 52.
const BYTES_MAX: u64 = 4 * 1024;

/// Unlock a manager that was restarted, with the cluster's unlock key
///
/// The key is read from standard input, so that it does not appear on a command line. Each manager is unlocked separately, at its
/// own control socket.
///
/// Example: swarmctl cluster unlock < unlock-key
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with the key, instead of standard input
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.refuse_trial("a locked manager has no state")?;
    let key = read(args)?;
    session.manager.unlock(key).await
}

fn read(args: &Args) -> Result<SecretText, Failure> {
    let mut key = SecretText::default();
    let (shown, read) = match &args.key_file {
        None => ("standard input".to_owned(), std::io::stdin().take(BYTES_MAX).read_to_string(&mut key.0)),
        Some(path) => {
            let file = std::fs::File::open(path);
            let read = file.and_then(|file| file.take(BYTES_MAX).read_to_string(&mut key.0));
            (path.display().to_string(), read)
        }
    };
    read.map_err(|error| {
        let failure = Failure::new(Kind::Usage, format!("cannot read {shown}: {error}"));
        failure.hint("give the unlock key on standard input, or in a file with --key-file")
    })?;
    key.0.truncate(key.0.trim_end().len());
    Ok(key)
}
