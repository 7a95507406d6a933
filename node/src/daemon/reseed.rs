//! `swarmd reseed`: rejoins the cluster with an empty log, for a manager whose log is damaged or lost.
//!
//! The damaged log is renamed rather than removed: it may be the last copy of something. The other managers see a new raft id
//! for the same node, remove the old member, and bring the new one up to date.

use std::io::Write;
use std::path::{Path, PathBuf};

use events::Role;

use crate::daemon::config::STATE_DIR;
use crate::daemon::failure::{Failure, code};
use crate::daemon::start_settings::StartSettings;
use crate::daemon::state_dir::{self, StateDir};
use crate::daemon::{address, joining};
use crate::manager::core;
use crate::security::CertificateStore;

/// The arguments of `swarmd reseed`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The manager's state directory.
    #[arg(short = 'd', long, default_value = STATE_DIR)]
    pub state_dir: PathBuf,
    /// Address (host:port) of another manager, which has the log.
    #[arg(long, value_name = "HOST:PORT", value_parser = address::parse)]
    pub join_addr: String,
}

/// Renames the log of a manager, so that its next start rejoins the cluster with an empty one.
///
/// # Errors
/// When the directory does not belong to a manager, or its log is the only copy.
pub fn reseed(args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let state_dir = StateDir::open_existing(&args.state_dir)?;
    let dir = state_dir.path();
    require_manager(dir)?;
    require_others(&state_dir)?;
    let (log, aside) = (state_dir::log(dir), dir.join(state_dir::DAMAGED_LOG));
    if aside.exists() {
        let sentence = format!("{} already exists: a log that was set aside before", aside.display());
        return Err(Failure::new(sentence, "move it away or remove it, and try again").with_code(code::USAGE));
    }
    // Without the note, a manager's certificate without a log means that the log was lost.
    joining::write_note(dir, std::slice::from_ref(&args.join_addr))?;
    let moved = if log.exists() { std::fs::rename(&log, &aside) } else { Ok(()) };
    let moved = moved.and_then(|()| std::fs::File::open(dir)?.sync_all());
    moved.map_err(|error| state_dir::unusable(&log, &error))?;
    let text = format!(
        "the log is set aside in {}; the next start of swarmd joins the managers at {} with an empty one\n\
         remove it once `swarmctl raft` shows that this manager votes\n",
        aside.display(),
        args.join_addr
    );
    out.write_all(text.as_bytes()).map_err(|error| Failure::new(format!("cannot write the result: {error}"), ""))
}

/// Only a manager has a log; it is identified by its certificate, because the log may be unreadable.
fn require_manager(dir: &Path) -> Result<(), Failure> {
    // Its key may be locked: only the certificate is read.
    let what = match CertificateStore::new(dir).role()? {
        Some(Role::Manager) => return Ok(()),
        Some(Role::Worker) => "belongs to a worker, which has no log",
        None => "has no certificate of a manager",
    };
    let sentence = format!("{} {what}", dir.display());
    Err(Failure::new(sentence, "give the state directory of a manager with --state-dir").with_code(code::USAGE))
}

/// Refuses to discard a log without other members. An unreadable log is accepted.
fn require_others(state_dir: &StateDir) -> Result<(), Failure> {
    let archives = StartSettings::archives_of(state_dir.path())?;
    let Ok(read) = core::read(state_dir, archives) else { return Ok(()) };
    if read.node().is_none() || !read.managers().is_empty() {
        return Ok(());
    }
    let sentence = "nothing is set aside: this is the only manager of its cluster, and its log can be read";
    Err(Failure::new(sentence, "start swarmd; or restore a backup with `swarmd restore`").with_code(code::USAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_does_not_exist_is_refused_and_not_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("swarmlgo");
        let args = Args { state_dir: missing.clone(), join_addr: "10.0.0.1:4242".to_owned() };
        let failure = reseed(&args, &mut Vec::new()).expect_err("there is nothing");
        assert_eq!(failure.code, code::USAGE);
        assert!(failure.sentence.starts_with("there is no state directory"), "{failure}");
        assert!(!missing.exists());
    }
}
