//! A manager that is joining: the state that lets it resume after a restart, how it announces that its log is ready, and the
//! progress that it logs.
//!
//! The note is written before the certificate of a manager is stored, and removed once it is a member: until then only the note
//! has the addresses of other managers. So a manager's certificate without a log means an interrupted join if there is a note,
//! and a lost log if there is none.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use events::ClusterId;
use projections::Cluster;
use tokio_util::sync::CancellationToken;
use wire::v1::AnnounceRequest;

use crate::agent::ClusterInfo;
use crate::agent::backoff::Backoff;
use crate::control::audit;
use crate::daemon::failure::Failure;
use crate::daemon::state_dir;
use crate::level::feature_level;
use crate::log::LogStore;
use crate::manager::driver::{Handle, Published};
use crate::peering::{Own, Peering};
use crate::security::Credentials;

/// The note in the state directory: addresses of managers, one per line.
const NOTE: &str = "manager.joining";
/// How often to check whether the members list this manager with its current properties, and how far a join has progressed.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// Checks between two log lines about a join.
const LOOKS_A_LINE: u64 = 5;
/// Deadline for the response of a manager.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes a note that this node is about to become a manager.
///
/// # Errors
/// When it cannot be written.
pub fn write_note(dir: &Path, managers: &[String]) -> Result<(), Failure> {
    let path = dir.join(NOTE);
    state_dir::replace(&path, managers.join("\n").as_bytes()).map_err(|error| state_dir::unusable(&path, &error))
}

/// The managers in the note, if there is one.
///
/// # Errors
/// When it cannot be read.
pub fn read_note(dir: &Path) -> Result<Option<Vec<String>>, Failure> {
    let path = dir.join(NOTE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.lines().map(str::to_owned).collect())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(state_dir::unusable(&path, &error)),
    }
}

/// Removes the note: this manager is a member, or no longer a manager.
///
/// # Errors
/// When it cannot be removed.
pub fn remove_note(dir: &Path) -> Result<(), Failure> {
    remove(&dir.join(NOTE), |path| std::fs::remove_file(path))
}

/// Where a log is moved before it is removed, so that a partially removed log is never opened.
fn discarded(dir: &Path) -> PathBuf {
    dir.join("raft.discarded")
}

/// Removes the log of a node that is no longer a manager.
///
/// # Errors
/// When it cannot be removed.
pub fn discard_log(dir: &Path) -> Result<(), Failure> {
    remove(&discarded(dir), |path| std::fs::remove_dir_all(path))?;
    remove(&state_dir::log(dir), |path| std::fs::rename(path, discarded(dir)))?;
    remove(&discarded(dir), |path| std::fs::remove_dir_all(path))
}

/// Sets aside the log of a manager that its cluster continued without: its last entries may be missing in the cluster. Returns
/// the new directory, which has the layout of a state directory, so that `swarmd replay` and `swarmd export` can read it.
///
/// # Errors
/// When it cannot be moved.
pub fn set_log_aside(dir: &Path) -> Result<PathBuf, Failure> {
    let first = dir.join(state_dir::FENCED_LOG);
    let later = (2..).map(|number: u32| first.with_added_extension(number.to_string()));
    // An empty one was created by an interrupted attempt.
    let is_taken = |aside: &PathBuf| state_dir::log(aside).exists();
    let aside = std::iter::once(first.clone()).chain(later).find(|aside| !is_taken(aside)).unwrap_or(first.clone());
    let moved = DirBuilder::new().recursive(true).mode(0o700).create(&aside);
    let moved = moved.and_then(|()| std::fs::rename(state_dir::log(dir), state_dir::log(&aside)));
    let synced = moved.and_then(|()| std::fs::File::open(&aside)?.sync_all());
    let synced = synced.and_then(|()| std::fs::File::open(dir)?.sync_all());
    synced.map_err(|error| state_dir::unusable(&aside, &error)).map(|()| aside)
}

/// Removes a path durably, if it exists.
fn remove(path: &Path, how: impl Fn(&Path) -> std::io::Result<()>) -> Result<(), Failure> {
    let sync = || path.parent().map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all());
    match how(path).and_then(|()| sync()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(state_dir::unusable(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Announces a manager to the members.
pub struct Announcer {
    /// Its core.
    pub core: Handle,
    /// Its own id and address.
    pub own: Own,
    /// The links to other managers.
    pub peering: Peering,
    /// The credentials for managers whose node is not known yet.
    pub credentials: Arc<Credentials>,
    /// Addresses of managers, used before there is a state with their addresses.
    pub managers: Vec<String>,
    /// Receives the managers' addresses.
    pub cluster_info: Arc<ClusterInfo>,
    /// The state directory.
    pub dir: PathBuf,
    /// The log, which holds the key that signs this manager's checkpoints.
    pub store: Arc<dyn LogStore>,
}

impl Announcer {
    /// Announces this manager whenever the members do not list it with its current properties, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let (mut backoff, mut progress, mut refused) = (Backoff::default(), Progress::default(), Refused::default());
        loop {
            let state = self.core.state();
            if state.cluster.former_members.contains(self.own.raft_id) {
                self.peering.note_former();
            }
            self.publish_managers();
            progress.tell(&state, &self.own, self.core.catching_up());
            let pause = if self.is_known(&state.cluster) {
                backoff.reset();
                if let Err(failure) = remove_note(&self.dir) {
                    tracing::warn!(error = failure.sentence, "the note of a completed join cannot be removed");
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

    /// Reports the managers' addresses, other managers first: they have to issue the certificate of a manager that is demoted.
    pub fn publish_managers(&self) {
        let others: Vec<String> = self.peering.known().into_iter().map(|other| other.addr).collect();
        let others = if others.is_empty() { self.managers.clone() } else { others };
        self.cluster_info.set_managers(others.into_iter().chain([self.own.addr.clone()]).collect());
    }

    /// Whether the members list this manager with its address, build and audit key; or it is a former member and must not
    /// return with this log.
    fn is_known(&self, cluster: &Cluster) -> bool {
        let Own { node, raft_id, addr } = &self.own;
        let is_own = |member: &projections::Member| {
            let is_as_it_was = member.raft_id == *raft_id && member.addr == *addr;
            let has_key = member.audit_key.is_some() && member.audit_key == self.audit_key();
            is_as_it_was && member.feature_level_max == feature_level() && has_key
        };
        cluster.members.get(*node).is_some_and(is_own) || cluster.former_members.contains(*raft_id)
    }

    /// Announces it to one manager after another, the leader first; to itself if it leads.
    async fn announce(&self) -> Result<(), String> {
        let others = self.peering.leader().into_iter().chain(self.peering.known()).map(|other| other.addr);
        let own = self.core.state().leads.then(|| self.own.addr.clone());
        let mut why = "no manager is known".to_owned();
        // The given addresses may be wrong or outdated; the sessions of its agent have the current ones.
        let known =
            own.into_iter().chain(others).chain(self.managers.iter().cloned()).chain(self.cluster_info.managers());
        for addr in known.filter(|addr| *addr != self.own.addr || self.core.state().leads) {
            match tokio::time::timeout(ANSWER_TIMEOUT, self.announce_at(&addr)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => why = format!("{addr}: {error}"),
                Err(_) => why = format!("{addr}: no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            }
        }
        Err(why)
    }

    /// The key that verifies its checkpoints; `None` until the cluster is known, whose id is part of it.
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

/// Why no manager accepts the announcement.
#[derive(Default)]
struct Refused(Option<String>);

impl Refused {
    /// Only logged for a manager without a state, which cannot do anything else; others only announce a change.
    fn tell(&mut self, why: String, state: &Published) {
        if state.cluster.position.index > 0 || self.0.as_ref() == Some(&why) {
            tracing::debug!(why, "the announcement of this manager was not accepted");
            return;
        }
        tracing::warn!(error = why, "no manager accepts this one into the cluster; retrying");
        self.0 = Some(why);
    }
}

/// The logged progress of a join.
#[derive(Default)]
struct Progress {
    looks: u64,
    /// Whether a join was observed in this run.
    joins: bool,
}

impl Progress {
    fn tell(&mut self, state: &Published, own: &Own, catching_up: Option<(u64, u64)>) {
        let votes = state.cluster.members.get(own.node).is_some_and(|member| member.votes);
        match (votes, self.joins) {
            (true, true) => {
                tracing::info!(index = state.cluster.position.index, "this manager has joined and can vote");
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
        assert_eq!(read_note(path).expect("read"), None);
        write_note(path, &managers).expect("kept");
        assert_eq!(read_note(path).expect("read").as_deref(), Some(&managers[..]));
        for _ in 0..2 {
            remove_note(path).expect("forgotten");
            assert_eq!(read_note(path).expect("read"), None);
        }
        for left in [&["raft"][..], &["raft.discarded"], &["raft", "raft.discarded"], &[]] {
            left.iter().for_each(|name| std::fs::create_dir_all(path.join(name).join("log")).expect("made"));
            discard_log(path).expect("discarded");
            assert!(!path.join("raft").exists() && !path.join("raft.discarded").exists(), "{left:?}");
        }
    }
}
