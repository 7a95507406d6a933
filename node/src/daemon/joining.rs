//! A manager on its way into the cluster: what is kept so that it goes on after any end of the process, how it says that its log
//! is ready, and what it tells people meanwhile.
//!
//! The note comes before the certificate of a manager, and goes once the members know it: until then nothing else says where
//! other managers are. So a manager's certificate without a log is a join that was cut short where the note is there, and a log
//! that was lost where it is not.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use events::ClusterId;
use projections::Cluster;
use tokio_util::sync::CancellationToken;
use wire::v1::AnnounceRequest;

use crate::agent::Told;
use crate::agent::backoff::Backoff;
use crate::control::audit;
use crate::daemon::failure::Failure;
use crate::daemon::state_dir;
use crate::level::feature_level;
use crate::log::LogStore;
use crate::manager::driver::{Handle, Published};
use crate::peering::{Own, Peering};
use crate::security::Credentials;

/// The note in the state directory: addresses of managers, one a line.
const NOTE: &str = "manager.joining";
/// How often it is looked whether the members know this manager as it is, and how far a join is.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// Looks between two lines of the log about a join.
const LOOKS_A_LINE: u64 = 5;
/// How long a manager may take to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Keeps a note that this node is about to become a manager.
///
/// # Errors
/// When it cannot be written.
pub fn note(dir: &Path, managers: &[String]) -> Result<(), Failure> {
    let path = dir.join(NOTE);
    state_dir::replace(&path, managers.join("\n").as_bytes()).map_err(|error| state_dir::unusable(&path, &error))
}

/// The managers in the note, if there is one.
///
/// # Errors
/// When it cannot be read.
pub fn noted(dir: &Path) -> Result<Option<Vec<String>>, Failure> {
    let path = dir.join(NOTE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.lines().map(str::to_owned).collect())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(state_dir::unusable(&path, &error)),
    }
}

/// Takes the note away: the members know this manager, or it is none.
///
/// # Errors
/// When it cannot be removed.
pub fn forget(dir: &Path) -> Result<(), Failure> {
    remove(&dir.join(NOTE), |path| std::fs::remove_file(path))
}

/// Where a log is put before it is removed, so that half of one is never taken for a log.
fn discarded(dir: &Path) -> PathBuf {
    dir.join("raft.discarded")
}

/// Removes the log of a manager that is none any more.
///
/// # Errors
/// When it cannot be removed.
pub fn discard_log(dir: &Path) -> Result<(), Failure> {
    remove(&discarded(dir), |path| std::fs::remove_dir_all(path))?;
    remove(&state_dir::log(dir), |path| std::fs::rename(path, discarded(dir)))?;
    remove(&discarded(dir), |path| std::fs::remove_dir_all(path))
}

/// Sets the log of a manager aside that the cluster went on without: what it took last, the cluster may not have. Gives the directory,
/// which is to the log as a state directory, so that `swarmd replay` and `swarmd export` read it there.
///
/// # Errors
/// When it cannot be moved.
pub fn set_log_aside(dir: &Path) -> Result<PathBuf, Failure> {
    let first = dir.join(state_dir::FENCED_LOG);
    let later = (2..).map(|number: u32| first.with_added_extension(number.to_string()));
    // One that is empty was made by an attempt that was cut short.
    let is_taken = |aside: &PathBuf| state_dir::log(aside).exists();
    let aside = std::iter::once(first.clone()).chain(later).find(|aside| !is_taken(aside)).unwrap_or(first.clone());
    let moved = DirBuilder::new().recursive(true).mode(0o700).create(&aside);
    let moved = moved.and_then(|()| std::fs::rename(state_dir::log(dir), state_dir::log(&aside)));
    let synced = moved.and_then(|()| std::fs::File::open(&aside)?.sync_all());
    let synced = synced.and_then(|()| std::fs::File::open(dir)?.sync_all());
    synced.map_err(|error| state_dir::unusable(&aside, &error)).map(|()| aside)
}

/// Removes something, if it is there, durably.
fn remove(path: &Path, how: impl Fn(&Path) -> std::io::Result<()>) -> Result<(), Failure> {
    let sync = || path.parent().map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all());
    match how(path).and_then(|()| sync()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(state_dir::unusable(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A manager that sees to it that the members know it.
pub struct Announcer {
    /// The way to its core.
    pub core: Handle,
    /// What it is to the others.
    pub own: Own,
    /// The way to them.
    pub peering: Peering,
    /// With what it calls those whom it does not know by their nodes.
    pub credentials: Arc<Credentials>,
    /// Where managers are, before it has a state that names them.
    pub managers: Vec<String>,
    /// Who hears where the managers are.
    pub told: Arc<Told>,
    /// The state directory.
    pub dir: PathBuf,
    /// The log, which has the key that this manager signs checkpoints with.
    pub store: Arc<dyn LogStore>,
}

impl Announcer {
    /// Announces this manager whenever the members do not know it as it is, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let (mut backoff, mut progress, mut refused) = (Backoff::default(), Progress::default(), Refused::default());
        loop {
            let state = self.core.state();
            if state.cluster.former_members.contains(self.own.raft_id) {
                self.peering.note_former();
            }
            self.tell_managers();
            progress.tell(&state, &self.own, self.core.catching_up());
            let pause = if self.is_known(&state.cluster) {
                backoff.reset();
                if let Err(failure) = forget(&self.dir) {
                    tracing::warn!(error = failure.sentence, "the note of a join that is done stays");
                }
                LOOK_PERIOD
            } else {
                match self.announce().await {
                    Ok(()) => backoff.reset(),
                    Err(why) => refused.tell(why, &state),
                }
                LOOK_PERIOD.max(backoff.pause(&mut rand::rng()))
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// The others come first: a manager that is to be one no more has its certificate changed by them.
    pub fn tell_managers(&self) {
        let others: Vec<String> = self.peering.known().into_iter().map(|other| other.addr).collect();
        let others = if others.is_empty() { self.managers.clone() } else { others };
        self.told.hear_managers(others.into_iter().chain([self.own.addr.clone()]).collect());
    }

    /// Whether the members have this manager, at its address and of this build; or it was one and must not come back with this log.
    fn is_known(&self, cluster: &Cluster) -> bool {
        let Own { node, raft_id, addr } = &self.own;
        let is_own = |member: &projections::Member| {
            let is_as_it_was = member.raft_id == *raft_id && member.addr == *addr;
            let has_key = member.audit_key.is_some() && member.audit_key == self.audit_key();
            is_as_it_was && member.feature_level_max == feature_level() && has_key
        };
        cluster.members.get(*node).is_some_and(is_own) || cluster.former_members.contains(*raft_id)
    }

    /// Asks one manager after the other, the leader first; itself where it leads.
    async fn announce(&self) -> Result<(), String> {
        let others = self.peering.leader().into_iter().chain(self.peering.known()).map(|other| other.addr);
        let own = self.core.state().leads.then(|| self.own.addr.clone());
        let mut why = "no manager is known".to_owned();
        // What was given may be wrong or old; the sessions of its agent know where managers are now.
        let known = own.into_iter().chain(others).chain(self.managers.iter().cloned()).chain(self.told.managers());
        for addr in known.filter(|addr| *addr != self.own.addr || self.core.state().leads) {
            match tokio::time::timeout(ANSWER_PATIENCE, self.announce_at(&addr)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => why = format!("{addr}: {error}"),
                Err(_) => why = format!("{addr}: no answer within {} s", ANSWER_PATIENCE.as_secs()),
            }
        }
        Err(why)
    }

    /// The key that its checkpoints are verified with, once the cluster is known, whose name it has in it.
    fn audit_key(&self) -> Option<String> {
        let cluster = self.core.state().cluster.id();
        let signer = (cluster != ClusterId::default()).then(|| audit::signer(&*self.store, cluster, self.own.node));
        signer?.ok().map(|signer| signer.key().to_string())
    }

    async fn announce_at(&self, addr: &str) -> Result<(), String> {
        let Own { raft_id, addr: own_addr, .. } = &self.own;
        let asked = AnnounceRequest {
            raft_id: *raft_id,
            addr: own_addr.clone(),
            feature_level_max: feature_level(),
            audit_key: self.audit_key(),
        };
        let mut client = crate::peering::client_at(addr, Arc::clone(&self.credentials)).await?;
        client.announce(asked).await.map(drop).map_err(|status| status.message().to_owned())
    }
}

/// Why no manager takes the announcement.
#[derive(Default)]
struct Refused(Option<String>);

impl Refused {
    /// A manager without a state waits for nothing else; others only have something new to say.
    fn tell(&mut self, why: String, state: &Published) {
        if state.cluster.position.index > 0 || self.0.as_ref() == Some(&why) {
            tracing::debug!(why, "this manager's announcement was not taken");
            return;
        }
        tracing::warn!(error = why, "no manager takes this one into the cluster; trying again");
        self.0 = Some(why);
    }
}

/// What the log says of a join.
#[derive(Default)]
struct Progress {
    looks: u64,
    /// Whether it was seen to join, in this run.
    joins: bool,
}

impl Progress {
    fn tell(&mut self, state: &Published, own: &Own, catching_up: Option<(u64, u64)>) {
        let votes = state.cluster.members.get(own.node).is_some_and(|member| member.votes);
        match (votes, self.joins) {
            (true, true) => {
                tracing::info!(index = state.cluster.position.index, "this manager has joined, and votes");
                self.joins = false;
            }
            (true, false) => {}
            (false, _) => {
                if self.looks.is_multiple_of(LOOKS_A_LINE) {
                    match catching_up {
                        Some((index, of)) => {
                            tracing::info!(
                                index,
                                "this manager is joining the cluster, and has its history up to here of {of}"
                            );
                        }
                        None => {
                            tracing::info!(index = state.cluster.position.index, "this manager is joining the cluster");
                        }
                    }
                }
                self.joins = true;
                self.looks += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_set_aside_replaces_no_other_and_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path();
        std::fs::create_dir(path.join("raft.fenced.2")).expect("an attempt that was cut short");
        for (number, expected) in ["raft.fenced", "raft.fenced.2", "raft.fenced.3"].into_iter().enumerate() {
            std::fs::create_dir(path.join("raft")).expect("a log");
            std::fs::write(path.join("raft/log"), number.to_string()).expect("written");
            assert_eq!(set_log_aside(path).expect("moved"), path.join(expected));
            let kept = std::fs::read_to_string(path.join(expected).join("raft/log")).expect("kept");
            assert_eq!(kept, number.to_string());
        }
        std::fs::create_dir(path.join("raft.damaged")).expect("made");
        std::fs::create_dir(path.join("raft")).expect("made");
        let aside = state_dir::logs_set_aside(path).expect("read");
        let names: Vec<_> = aside.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["raft.damaged", "raft.fenced", "raft.fenced.2", "raft.fenced.3"]);
    }

    #[test]
    fn a_note_is_kept_read_and_forgotten_and_a_log_is_discarded_whatever_an_earlier_attempt_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path();
        let managers = ["10.0.0.1:1".to_owned(), "10.0.0.2:1".to_owned()];
        assert_eq!(noted(path).expect("read"), None);
        note(path, &managers).expect("kept");
        assert_eq!(noted(path).expect("read").as_deref(), Some(&managers[..]));
        for _ in 0..2 {
            forget(path).expect("forgotten");
            assert_eq!(noted(path).expect("read"), None);
        }
        for left in [&["raft"][..], &["raft.discarded"], &["raft", "raft.discarded"], &[]] {
            left.iter().for_each(|name| std::fs::create_dir_all(path.join(name).join("log")).expect("made"));
            discard_log(path).expect("discarded");
            assert!(!path.join("raft").exists() && !path.join("raft.discarded").exists(), "{left:?}");
        }
    }
}
