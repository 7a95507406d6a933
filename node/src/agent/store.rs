//! The agent's memory: one small file for each assigned task, so that a restarted agent goes on before it has met a manager.
//!
//! A file is replaced by renaming, so it is whole or absent after the process dies at any moment. Nothing is synced: after
//! a power cut a file may be old or damaged, and that is enough. The executor's calls are idempotent, so an old state only
//! repeats a step; a damaged file is set aside, and the managers assign the task again.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use events::{TaskId, TaskState, TaskStatus};
use prost::Message;
use sha2::{Digest, Sha256};
use wire::v1::Assignment;

const DIGEST_BYTES: usize = 8;
/// Ends the name of a file that is still being written.
const UNFINISHED: &str = "new";
/// Ends the name of a file that could not be read.
const DAMAGED: &str = "damaged";

/// What is kept of one task.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    /// The latest assignment.
    #[prost(message, required, tag = "1")]
    pub(super) assignment: Assignment,
    /// How far the task is.
    #[prost(message, required, tag = "2")]
    pub(super) status: TaskStatus,
    /// Whether the assignment was taken back, so that only stopping and removing is left to do.
    #[prost(bool, required, tag = "3")]
    pub(super) withdrawn: bool,
}

/// Why the memory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The files of one agent.
#[derive(Debug, Clone)]
pub(super) struct Store {
    dir: PathBuf,
}

/// What was found when the memory was opened.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<Record>,
    /// One sentence for each file that was set aside.
    pub(super) damage: Vec<String>,
}

impl Store {
    /// Opens the memory in `dir`, which is made if it is not there, and reads all of it.
    pub(super) fn open(dir: &Path) -> Result<(Self, Found), StoreError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create", dir))?;
        let store = Self { dir: dir.to_owned() };
        let mut found = Found::default();
        for entry in fs::read_dir(dir).map_err(failed("read", dir))? {
            let path = entry.map_err(failed("read", dir))?.path();
            match path.extension().and_then(|end| end.to_str()) {
                Some(DAMAGED) => {}
                Some(UNFINISHED) => fs::remove_file(&path).map_err(failed("remove", &path))?,
                Some(_) | None => store.take_in(&path, &mut found)?,
            }
        }
        Ok((store, found))
    }

    /// Keeps a task's record, in place of an older one.
    pub(super) fn save(&self, record: &Record) -> Result<(), StoreError> {
        let path = self.path(record.assignment.task);
        let unfinished = path.with_extension(UNFINISHED);
        let body = sparing_credentials(record).encode_to_vec();
        let write = || -> io::Result<()> {
            // The spec may hold secrets in its environment.
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(&digest(&body))?;
            file.write_all(&body)?;
            fs::rename(&unfinished, &path)
        };
        write().map_err(failed("write", &path))
    }

    /// Forgets a task; one that is not known is forgotten already.
    pub(super) fn remove(&self, task: TaskId) -> Result<(), StoreError> {
        let path = self.path(task);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn path(&self, task: TaskId) -> PathBuf {
        self.dir.join(task.to_string())
    }

    fn take_in(&self, path: &Path, found: &mut Found) -> Result<(), StoreError> {
        match read(path) {
            Ok(record) if self.path(record.assignment.task) == path => found.records.push(record),
            Ok(_) => found.damage.push(set_aside(path, "it is another task's")?),
            Err(why) => found.damage.push(set_aside(path, &why)?),
        }
        Ok(())
    }
}

/// Only a pull needs the registry's credentials: they are not kept longer.
fn sparing_credentials(record: &Record) -> Record {
    let mut record = record.clone();
    if record.withdrawn || record.status.state() >= TaskState::Ready {
        record.assignment.registry_auth = None;
    }
    record
}

fn read(path: &Path) -> Result<Record, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let (expected, body) = bytes.split_first_chunk::<DIGEST_BYTES>().ok_or("it is too short")?;
    if *expected != digest(body) {
        return Err("its checksum does not match".to_owned());
    }
    Record::decode(body).map_err(|error| error.to_string())
}

fn set_aside(path: &Path, why: &str) -> Result<String, StoreError> {
    let aside = path.with_extension(DAMAGED);
    fs::rename(path, &aside).map_err(failed("set aside", path))?;
    Ok(format!("{} is damaged ({why}): kept as {} and not used", path.display(), aside.display()))
}

fn digest(body: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut short = [0; DIGEST_BYTES];
    short.copy_from_slice(&Sha256::digest(body)[..DIGEST_BYTES]);
    short
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    use events::{Id, Timestamp};

    fn record(task: u128, state: TaskState) -> Record {
        let assignment = Assignment {
            task: TaskId::from_bits(task),
            desired: TaskState::Running.into(),
            registry_auth: Some("credentials".into()),
            ..Assignment::default()
        };
        let at = Some(Timestamp::from_unix_ns(5));
        Record { assignment, status: TaskStatus { state: state.into(), at, ..TaskStatus::default() }, withdrawn: false }
    }

    fn open(dir: &Path) -> (Store, Found) {
        Store::open(dir).expect("a store")
    }

    #[test]
    fn what_is_saved_is_found_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("worker");
        let (store, found) = open(&dir);
        assert!(found.records.is_empty());
        for state in [TaskState::Accepted, TaskState::Preparing] {
            store.save(&record(1, state)).expect("saved");
        }
        store.save(&record(2, TaskState::Accepted)).expect("saved");
        store.remove(TaskId::from_bits(2)).expect("removed");
        store.remove(TaskId::from_bits(3)).expect("not there is fine");
        let (_, found) = open(&dir);
        assert_eq!(found.records, [record(1, TaskState::Preparing)]);
        assert!(found.damage.is_empty());
    }

    #[test]
    fn files_are_private_and_keep_credentials_for_the_pull_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, _) = open(dir.path());
        store.save(&record(1, TaskState::Ready)).expect("saved");
        let mode = fs::metadata(store.path(TaskId::from_bits(1))).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(open(dir.path()).1.records[0].assignment.registry_auth, None);
    }

    #[test]
    fn any_damage_sets_the_file_aside_and_spares_the_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, _) = open(dir.path());
        let path = store.path(TaskId::from_bits(1));
        store.save(&record(1, TaskState::Running)).expect("saved");
        let whole = fs::read(&path).expect("a file");
        let mut flipped = whole.clone();
        flipped[20] ^= 1;
        for bytes in [&[][..], &whole[..4], &whole[..whole.len() - 1], &flipped] {
            fs::write(&path, bytes).expect("written");
            store.save(&record(2, TaskState::Running)).expect("saved");
            let (_, found) = open(dir.path());
            assert_eq!(found.records, open(dir.path()).1.records, "set aside for good");
            assert_eq!(found.records.len(), 1);
            let [sentence] = &found.damage[..] else { panic!("one damage, not {:?}", found.damage) };
            assert!(sentence.contains(&path.display().to_string()), "{sentence}");
            assert!(path.with_extension(DAMAGED).exists());
        }
    }

    #[test]
    fn a_write_that_was_cut_off_leaves_the_older_record() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, _) = open(dir.path());
        store.save(&record(1, TaskState::Preparing)).expect("saved");
        fs::write(store.path(TaskId::from_bits(1)).with_extension(UNFINISHED), b"half").expect("written");
        let (_, found) = open(dir.path());
        assert_eq!((found.records.len(), found.damage.len()), (1, 0));
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("worker");
        fs::write(&file, b"").expect("written");
        let error = Store::open(&file).expect_err("a file is no directory").to_string();
        assert!(error.starts_with(&format!("cannot create {}", file.display())), "{error}");
    }
}
