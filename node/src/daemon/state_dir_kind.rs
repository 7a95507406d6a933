//! Determines from its files what kind of node a state directory belongs to, before anything is opened or created.
//!
//! An initialised log identifies a manager, because only managers have one; without a log the role in the certificate decides.
//! So a manager that lost its log is not mistaken for a worker, and a worker that lost its certificate does not create a
//! cluster.

use std::path::Path;

use events::{Role, Timestamp};

use crate::daemon::failure::{Failure, code};
use crate::daemon::state_dir::{self, MANAGER_ADDR};
use crate::daemon::{joining, leaving};
use crate::log::RocksStore;
use crate::security::{CertificateStore, IdentityError};

/// The kind of a state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateDirKind {
    /// It belongs to no node yet.
    Free,
    /// It belongs to a node that is not a member: its join was not answered, or it lost its certificate.
    Leftover(Leftover),
    /// It belongs to a worker.
    Worker,
    /// It belongs to a manager that is still joining, and has no log yet.
    Joining,
    /// It belongs to a manager.
    Manager,
}

/// What exists of a node without an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// A pending join.
    Join,
    /// A node that is leaving its cluster, and is not completely removed.
    Leaving,
    /// Only the note of a node that left its cluster.
    Left,
    /// Everything except this part of the identity.
    AllBut(&'static str),
}

impl StateDirKind {
    /// Determines the kind of the directory, and checks that it is consistent.
    ///
    /// # Errors
    /// When the log of a manager is missing, the identity of a node is damaged, or the directory cannot be read.
    pub fn of(dir: &Path, certificates: &CertificateStore, now: Timestamp) -> Result<Self, Failure> {
        if leaving::has_note(dir)? {
            return Ok(Self::Leftover(if leaving::has_only_note(dir)? { Leftover::Left } else { Leftover::Leaving }));
        }
        let log = state_dir::log(dir);
        let loaded = certificates.load(now);
        if RocksStore::is_initialized(&log)? {
            return loaded.map_or_else(manager_without, |_| Ok(Self::Manager));
        }
        let role = match loaded {
            Ok(identity) => identity.subject().role,
            Err(IdentityError::Expired { subject, .. } | IdentityError::NotYetValid { subject, .. }) => subject.role,
            Err(IdentityError::Missing(part)) => return left(dir, certificates, part),
            Err(error) => return Err(error.into()),
        };
        match role {
            Role::Worker => Ok(Self::Worker),
            Role::Manager if joining::read_note(dir)?.is_some() => Ok(Self::Joining),
            Role::Manager => Err(lost_log(&log)),
        }
    }
}

/// Whether there is an initialised log in this state directory.
///
/// # Errors
/// When it cannot be read.
pub(super) fn has_log(dir: &Path) -> Result<bool, Failure> {
    Ok(RocksStore::is_initialized(&state_dir::log(dir))?)
}

/// A manager reissues its own missing certificate; a damaged one needs an operator.
fn manager_without(error: IdentityError) -> Result<StateDirKind, Failure> {
    match error {
        // A key wrapped with another unlock key is lost: the process may have been stopped while both keys were being
        // rewrapped. A certificate that is not valid yet was issued while the clock was ahead.
        IdentityError::Missing(_)
        | IdentityError::Expired { .. }
        | IdentityError::NotYetValid { .. }
        | IdentityError::Locked => Ok(StateDirKind::Manager),
        IdentityError::File { .. } | IdentityError::Wrap(_) => Err(error.into()),
        IdentityError::Certificate { .. }
        | IdentityError::Key(_)
        | IdentityError::KeyMismatch
        | IdentityError::Untrusted(_) => {
            let hint = "delete the certificates directory: a manager issues itself a new certificate";
            Err(Failure { hint: hint.to_owned(), ..error.into() })
        }
    }
}

/// The kind of a directory with neither a log nor a complete identity.
fn left(dir: &Path, certificates: &CertificateStore, part: &'static str) -> Result<StateDirKind, Failure> {
    if certificates.role()? == Some(Role::Manager) {
        return Err(lost_log(&state_dir::log(dir)));
    }
    if certificates.load_pending_join()?.is_some() {
        return Ok(StateDirKind::Leftover(Leftover::Join));
    }
    let traces = ["certificates", "worker.key", MANAGER_ADDR].map(|name| dir.join(name).try_exists());
    let found: Result<Vec<bool>, _> = traces.into_iter().collect();
    let found = found.map_err(|error| state_dir::unusable(dir, &error))?;
    Ok(if found.contains(&true) { StateDirKind::Leftover(Leftover::AllBut(part)) } else { StateDirKind::Free })
}

fn lost_log(log: &Path) -> Failure {
    let sentence = format!("this node is a manager, but its log {} is missing", log.display());
    let hint = "if the cluster has other managers, `swarmd reseed` fetches the log from them; else restore a backup with `swarmd restore`: without one the cluster is lost; an empty directory starts a new one";
    Failure::new(sentence, hint)
}

impl Leftover {
    /// Why a start without a join token is refused here.
    pub fn refuse(self, dir: &Path) -> Failure {
        let dir = dir.display();
        match self {
            Self::Join => {
                let hint =
                    "start with --join-addr and --join-token again to continue the same join, or empty the directory";
                Failure::new(format!("a join that was started in {dir} was not answered"), hint).with_code(code::USAGE)
            }
            Self::Leaving => {
                let hint = "run `swarmd leave` with the same --state-dir, which removes the rest";
                Failure::new(format!("the node of {dir} was leaving its cluster when swarmd ended"), hint)
                    .with_code(code::USAGE)
            }
            Self::Left => {
                let hint = "start with --join-addr and --join-token to join a cluster; to begin a new one, remove the file node.left there";
                Failure::new(format!("the node of {dir} left its cluster"), hint).with_code(code::USAGE)
            }
            Self::AllBut(part) => {
                let sentence = format!("the state directory {dir} is a node's, but its {part} is missing");
                let hint = "restore it from a backup; or join again, as a new node, with --join-addr and --join-token; or empty the directory";
                Failure::new(sentence, hint).with_code(code::NOT_ALLOWED)
            }
        }
    }
}

/// Why a directory, which may be in use, has no readable log. Read-only.
pub fn no_log(dir: &Path) -> Failure {
    let hint = "give the state directory of a manager with --state-dir";
    let because = |why: &str| Failure::new(format!("there is no log in {}: {why}", dir.display()), hint);
    match dir.try_exists() {
        Ok(false) => return because("there is no such directory"),
        Err(error) => return state_dir::unusable(dir, &error),
        Ok(true) => {}
    }
    match CertificateStore::new(dir).role() {
        Ok(Some(Role::Manager)) => lost_log(&state_dir::log(dir)),
        Ok(Some(Role::Worker)) => because("it belongs to a worker, and only managers have a log"),
        Ok(None) => because("no manager has a log there"),
        Err(error) => error.into(),
    }
}
