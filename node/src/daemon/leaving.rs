//! Leaving the cluster: asks the managers for consent, and empties the state directory so that it can be used to join again.
//!
//! A note in the directory makes the leave final: it is written after the managers' consent, or in place of it, and from then
//! on the directory does not belong to a member. If the process is stopped before everything is removed, `swarmd leave`
//! completes it; the note stays, so that a start without a join token does not create another cluster in the empty directory.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tonic::Status;
use wire::v1::dispatcher_client::DispatcherClient;
use wire::v1::{LeaveRequest, Refusal, RefusalKind};

use crate::agent::executor::{Executor, ExecutorError};
use crate::agent::{Connect, ConnectError};
use crate::daemon::failure::Failure;
use crate::daemon::{joining, state_dir};
use crate::security::enrolment::MemberConnect;
use crate::security::{Credentials, Subject};

/// The note in the state directory.
const NOTE: &str = "node.left";
/// Deadline for the response of one manager: it may have to wait for an election.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How often each manager is asked.
const ATTEMPTS: usize = 2;
/// Attempts to remove one task, and the delay between them: an engine may be busy for a moment.
const REMOVE_ATTEMPTS: u32 = 5;
const REMOVE_PAUSE: Duration = Duration::from_millis(300);

/// Writes the note that the node is no longer a member.
///
/// # Errors
/// When it cannot be written.
pub fn write_note(dir: &Path) -> Result<(), Failure> {
    let path = dir.join(NOTE);
    state_dir::replace(&path, b"this node left its cluster\n").map_err(|error| state_dir::unusable(&path, &error))
}

/// Whether there is such a note.
///
/// # Errors
/// When the directory cannot be read.
pub fn has_note(dir: &Path) -> Result<bool, Failure> {
    let path = dir.join(NOTE);
    path.try_exists().map_err(|error| state_dir::unusable(&path, &error))
}

/// Whether the note is all that is left of the node.
///
/// # Errors
/// When the directory cannot be read.
pub fn has_only_note(dir: &Path) -> Result<bool, Failure> {
    Ok(entries(dir)?.is_empty())
}

/// Removes the note: another node is about to use the directory.
///
/// # Errors
/// When it cannot be removed.
pub fn remove_note(dir: &Path) -> Result<(), Failure> {
    let path = dir.join(NOTE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(state_dir::unusable(&path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes everything from the directory of a node that left, except the note and the lock file of this process.
///
/// # Errors
/// When something cannot be removed.
pub fn empty(dir: &Path) -> Result<(), Failure> {
    // The log is renamed first: threads of the database may still write files in its place.
    joining::discard_log(dir)?;
    for path in entries(dir)? {
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| state_dir::unusable(&path, &error))?;
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| state_dir::unusable(dir, &error))
}

fn entries(dir: &Path) -> Result<Vec<std::path::PathBuf>, Failure> {
    let read = fs::read_dir(dir).and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
    let paths: Vec<_> = read.map_err(|error| state_dir::unusable(dir, &error))?;
    let stays = [dir.join(NOTE), dir.join(state_dir::LOCK)];
    Ok(paths.into_iter().filter(|path| !stays.contains(path)).collect())
}

/// Asks the managers, one after another, to let this node leave. Returns whether it has left. A manager is demoted first, and
/// has to ask again.
///
/// # Errors
/// When they refuse, or none of them answers.
pub async fn ask(
    credentials: &Arc<Credentials>,
    managers: &[String],
    reason: Option<&str>,
) -> Result<bool, Box<Refusal>> {
    let connect = MemberConnect(Arc::clone(credentials));
    let mut why = "none is known".to_owned();
    // Twice each: the connection closes when the membership ends, and the response may be lost with it. The second call reports
    // that.
    for addr in managers.iter().flat_map(|addr| [addr; ATTEMPTS]) {
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask_at(&connect, addr, reason)).await;
        match asked.unwrap_or_else(|_| Err(LeaveError::Unreachable("it does not answer".to_owned()))) {
            Ok(left) => return Ok(left),
            Err(LeaveError::Refused(refusal)) => return Err(refusal),
            Err(LeaveError::Unreachable(words)) => why = format!("{addr}: {words}"),
        }
    }
    let hint = "try again once a manager can be reached; or leave with --force, and remove what the cluster keeps of this node with \
                `swarmctl node rm` on a manager";
    Err(Box::new(Refusal {
        kind: RefusalKind::Unavailable.into(),
        subject: "node".to_owned(),
        sentence: format!("no manager agreed to let this node leave: {why}"),
        hint: Some(hint.to_owned()),
    }))
}

/// Why a manager did not let a node leave.
enum LeaveError {
    /// Another manager may.
    Unreachable(String),
    /// No other manager will.
    Refused(Box<Refusal>),
}

async fn ask_at(connect: &MemberConnect, addr: &str, reason: Option<&str>) -> Result<bool, LeaveError> {
    let channel =
        connect.connect(addr).await.map_err(|error: ConnectError| LeaveError::Unreachable(error.to_string()))?;
    let asked = DispatcherClient::new(channel).leave(LeaveRequest { reason: reason.map(str::to_owned) }).await;
    asked.map_or_else(judge, |reply| Ok(reply.get_ref().left))
}

/// Interprets a refusal: a node that is no longer a member has left.
fn judge(status: Status) -> Result<bool, LeaveError> {
    let Some(refusal) = Refusal::from_status(&status) else {
        return Err(LeaveError::Unreachable(status.message().to_owned()));
    };
    match refusal.kind() {
        RefusalKind::Removed | RefusalKind::NotMember => Ok(true),
        RefusalKind::Unavailable => Err(LeaveError::Unreachable(refusal.sentence)),
        RefusalKind::NotFound
        | RefusalKind::Exists
        | RefusalKind::Invalid
        | RefusalKind::Conflict
        | RefusalKind::Forbidden
        | RefusalKind::Exhausted => Err(LeaveError::Refused(Box::new(refusal))),
    }
}

/// Removes the tasks of a node that is no longer a member.
///
/// # Errors
/// When some of them may still exist.
pub(crate) async fn sweep(executor: &dyn Executor, member: Subject) -> Result<(), Failure> {
    let stays = |what: String| {
        let hint = "start the engine and run `swarmd leave`, which finishes what is left to do; or remove them by hand, and run it with \
                    --force";
        Err(Failure::new(what, hint))
    };
    let tasks = match executor.inventory(member.cluster, member.node).await {
        Ok(tasks) => tasks,
        Err(error) => return stays(format!("containers of this node may not have been removed: {error}")),
    };
    let mut failed = Vec::new();
    for task in tasks {
        let mut attempt = 1;
        while let Err(error) = executor.remove(task).await {
            if matches!(error, ExecutorError::Fatal(_)) || attempt == REMOVE_ATTEMPTS {
                failed.push(format!("{task}: {error}"));
                break;
            }
            attempt += 1;
            tokio::time::sleep(REMOVE_PAUSE).await;
        }
    }
    match failed.first() {
        None => Ok(()),
        Some(first) => stays(format!("containers of {} tasks were not removed; the first: {first}", failed.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_left_is_emptied_and_says_that_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path();
        assert!(!has_note(path).expect("seen"));
        fs::write(path.join(state_dir::LOCK), "").expect("written");
        fs::create_dir_all(path.join("raft/log")).expect("made");
        fs::write(path.join("start.json"), "{}").expect("written");
        write_note(path).expect("noted");
        assert!(has_note(path).expect("seen") && !has_only_note(path).expect("seen"));
        for _ in 0..2 {
            empty(path).expect("emptied");
            assert!(has_note(path).expect("seen") && has_only_note(path).expect("seen"));
            assert!(path.join(state_dir::LOCK).exists());
        }
        remove_note(path).expect("forgotten");
        remove_note(path).expect("forgotten already");
        assert!(!has_note(path).expect("seen"));
    }

    #[test]
    fn who_is_no_member_is_out_and_only_a_manager_that_decides_refuses() {
        let judged = |kind: RefusalKind| {
            let (subject, sentence) = ("node".to_owned(), "words".to_owned());
            match judge(Refusal { kind: kind.into(), subject, sentence, hint: None }.into()) {
                Ok(left) => format!("left: {left}"),
                Err(LeaveError::Unreachable(why)) => format!("away: {why}"),
                Err(LeaveError::Refused(refusal)) => format!("refused: {}", refusal.sentence),
            }
        };
        for (kind, expected) in [
            (RefusalKind::Removed, "left: true"),
            (RefusalKind::NotMember, "left: true"),
            (RefusalKind::Unavailable, "away: words"),
            (RefusalKind::Conflict, "refused: words"),
            (RefusalKind::Forbidden, "refused: words"),
        ] {
            assert_eq!(judged(kind), expected);
        }
    }
}
