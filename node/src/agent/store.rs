//! The agent's store: one small file for each assigned task and for each config that a task uses, so that a restarted agent
//! resumes before it reaches a manager; and one for the last frame of history that a manager announced, so that the agent
//! detects a manager that was restored from a backup.
//!
//! A file is replaced by renaming, so it is complete or absent if the process dies at any moment. Nothing is synced: after a
//! power failure a file may be old or damaged, which is acceptable. The executor's calls are idempotent, so an old state only
//! repeats a step; a damaged file is quarantined, and the managers assign the task again.
//!
//! A spec may hold secrets in its environment, and an assignment the registry's credentials. So each file is sealed for its
//! task with the agent's own data key, which is stored beside the directory: wrapped with the cluster's unlock key on a manager
//! of an autolocked cluster, unwrapped on a worker, which must start unattended. Without that key all files count as damaged:
//! they are quarantined, a new key is created, and running containers are adopted when the managers assign their tasks again.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use events::spec::ConfigKey;
use events::{Id, TaskId, TaskState, TaskStatus};
use prost::Message;
use rustix::fs::Access;
use wire::v1::{Assignment, ConfigItem, Head, KnownManagers};
use zeroize::Zeroizing;

use super::placed_file::ignore_not_found;
use crate::security::seal::{DataKeys, KeyFile, Seal, SealError, is_wrapped, wipe};
use crate::security::{KeyLock, UnlockKey};

/// The file of the last frame of history.
const HEAD: &str = "head";
/// The file of the addresses of the managers.
const MANAGERS: &str = "managers";
/// Prefix of the name of a config's file, followed by the config's id and revision. No id contains a hyphen.
const CONFIG: &str = "config-";
/// Extension of the key file: `worker.key` beside `worker`.
const KEY: &str = "key";
/// Extension of a file that is being written.
const UNFINISHED: &str = "new";
/// Extension of a file that could not be read.
const DAMAGED: &str = "damaged";

/// The stored record of one task.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    /// The latest assignment.
    #[prost(message, required, tag = "1")]
    pub(super) assignment: Assignment,
    /// The status of the task.
    #[prost(message, required, tag = "2")]
    pub(super) status: TaskStatus,
    /// Whether the assignment was withdrawn, so that the task only has to be stopped and removed.
    #[prost(bool, required, tag = "3")]
    pub(super) withdrawn: bool,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// The attempted operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Sealing failed.
    #[error("{0}")]
    Seal(#[from] SealError),
}

/// The files of one agent.
#[derive(Clone)]
pub(super) struct Store {
    dir: PathBuf,
    seal: Arc<Seal>,
    keys: Arc<KeyFile>,
    /// Held while files are sealed and written, or removed.
    writing: Arc<Mutex<()>>,
}

/// The content of the store when it was opened.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<Record>,
    /// The last frame of history that a manager announced.
    pub(super) head: Option<Head>,
    /// The managers' addresses that the last session announced.
    pub(super) managers: Vec<String>,
    /// The data of the tasks' configs.
    configs: BTreeMap<ConfigKey, ConfigItem>,
    /// One message for each quarantined file, and for a missing key.
    pub(super) damage: Vec<String>,
}

/// Reads the store in `dir`, if there is one, without changing it. It fails whenever [`Store::open`] would fail.
///
/// # Errors
/// When the store cannot be used.
pub(super) fn examine(dir: &Path, lock: &KeyLock) -> Result<Found, StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        entries => Some(entries.map_err(failed("read", dir))?),
    };
    let keys = match DataKeys::load(&dir.with_extension(KEY), false, lock.key().as_ref()) {
        // Without its key the store counts as empty, which does not prevent a start.
        Err(SealError::KeyMissing(_) | SealError::KeyDamaged { .. } | SealError::Locked(_)) => None,
        keys => Some(keys?),
    };
    let mut found = Found::default();
    let Some(entries) = entries else { return Ok(found) };
    rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| failed("write to", dir)(error.into()))?;
    let Some(keys) = keys else { return Ok(found) };
    let store = Store::with(dir, Seal::with(&keys)?);
    for entry in entries {
        let path = entry.map_err(failed("read", dir))?.path();
        if matches!(Entry::of(&path), Entry::Kept)
            && let Err(why) = store.read(&path, &mut found)
        {
            found.damage.push(why);
        }
    }
    Ok(found)
}

/// The kind of a file in the store, by its name.
enum Entry {
    /// A stored record.
    Kept,
    /// A file that was being written.
    Unfinished,
    /// A quarantined file.
    Damaged,
}

impl Entry {
    fn of(path: &Path) -> Self {
        match path.extension().and_then(|end| end.to_str()) {
            Some(DAMAGED) => Self::Damaged,
            Some(UNFINISHED) => Self::Unfinished,
            Some(_) | None => Self::Kept,
        }
    }
}

impl Store {
    /// Opens the store in `dir`, which is created if necessary, and reads all of it.
    pub(super) fn open(dir: &Path, lock: &KeyLock) -> Result<(Self, Found), StoreError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create", dir))?;
        let mut found = Found::default();
        let store = Self::with(dir, open_seal(dir, lock, &mut found)?);
        for entry in fs::read_dir(dir).map_err(failed("read", dir))? {
            let path = entry.map_err(failed("read", dir))?.path();
            match Entry::of(&path) {
                Entry::Damaged => {}
                Entry::Unfinished => fs::remove_file(&path).map_err(failed("remove", &path))?,
                Entry::Kept => store.read_or_quarantine(&path, &mut found)?,
            }
        }
        found.give_configs();
        Ok((store, found))
    }

    fn with(dir: &Path, seal: Seal) -> Self {
        let seal = Arc::new(seal);
        let keys = Arc::new(KeyFile::new(dir.with_extension(KEY), Arc::clone(&seal)));
        Self { dir: dir.to_owned(), seal, keys, writing: Arc::default() }
    }

    /// Wraps the data key, which `before` wraps, with the unlock key `after`, or with none. With an unlock key, all files are
    /// sealed again with a new data key, and the old ones are destroyed.
    pub(super) fn rewrap(&self, before: Option<&UnlockKey>, after: Option<&UnlockKey>) -> Result<(), StoreError> {
        self.keys.rewrap(before, after)?;
        if after.is_some() {
            self.reseal()?;
            self.keys.destroy_older(after)?;
        }
        Ok(())
    }

    /// The unlock key that wraps the data key, if it is the one that opened it.
    pub(super) fn wrapped_with(&self, lock: &KeyLock) -> Option<UnlockKey> {
        if is_wrapped(&self.dir.with_extension(KEY)) { lock.key() } else { None }
    }

    fn reseal(&self) -> Result<(), StoreError> {
        let _writing = self.lock();
        for entry in fs::read_dir(&self.dir).map_err(failed("read", &self.dir))? {
            let path = entry.map_err(failed("read", &self.dir))?.path();
            let place = matches!(Entry::of(&path), Entry::Kept).then(|| place_of(&path)).flatten();
            let Some(place) = place else { continue };
            let sealed = fs::read(&path).map_err(failed("read", &path))?;
            if let Some(again) = self.seal.reseal(&place, &sealed)? {
                put(&path, &again).map_err(failed("write", &path))?;
            }
        }
        Ok(())
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores exactly these configs. The content of a config never changes, so an existing file is kept.
    pub(super) fn keep_configs(&self, configs: &[ConfigItem]) -> Result<(), StoreError> {
        for item in configs {
            let path = self.dir.join(config_name(item.key.into()));
            if !path.try_exists().map_err(failed("read", &path))? {
                self.write(&path, config_name(item.key.into()).as_bytes(), &item.encode_to_vec())?;
            }
        }
        let _writing = self.lock();
        for entry in fs::read_dir(&self.dir).map_err(failed("read", &self.dir))? {
            let path = entry.map_err(failed("read", &self.dir))?.path();
            let kept = config_of(&path).is_none_or(|id| configs.iter().any(|item| ConfigKey::from(item.key) == id));
            if !kept {
                ignore_not_found(fs::remove_file(&path)).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Stores a task's record, replacing an older one.
    pub(super) fn save(&self, record: &Record) -> Result<(), StoreError> {
        let task = record.assignment.task;
        self.write(
            &self.path(task),
            &place(task),
            &Zeroizing::new(without_unneeded_credentials(record).encode_to_vec()),
        )
    }

    /// Stores the last frame of history that a manager announced, replacing an older one.
    pub(super) fn save_head(&self, head: &Head) -> Result<(), StoreError> {
        self.write(&self.dir.join(HEAD), HEAD.as_bytes(), &head.encode_to_vec())
    }

    /// Stores the addresses of the managers, replacing the previous ones.
    pub(super) fn save_managers(&self, addrs: &[String]) -> Result<(), StoreError> {
        let known = KnownManagers { addrs: addrs.to_vec() };
        self.write(&self.dir.join(MANAGERS), MANAGERS.as_bytes(), &known.encode_to_vec())
    }

    fn write(&self, path: &Path, place: &[u8], body: &[u8]) -> Result<(), StoreError> {
        let _writing = self.lock();
        let sealed = self.seal.seal(place, &[], body)?;
        put(path, &sealed).map_err(failed("write", path))
    }

    /// Removes a task's record; succeeds if there is none.
    pub(super) fn remove(&self, task: TaskId) -> Result<(), StoreError> {
        let path = self.path(task);
        let _writing = self.lock();
        ignore_not_found(fs::remove_file(&path)).map_err(failed("remove", &path))
    }

    fn path(&self, task: TaskId) -> PathBuf {
        self.dir.join(task.to_string())
    }

    fn read(&self, path: &Path, found: &mut Found) -> Result<(), String> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == HEAD {
            found.head = Some(self.unseal(path, HEAD.as_bytes())?);
        } else if name == MANAGERS {
            found.managers = self.unseal::<KnownManagers>(path, MANAGERS.as_bytes())?.addrs;
        } else if let Some(config) = config_of(path) {
            found.configs.insert(config, self.unseal(path, name.as_bytes())?);
        } else {
            let task: TaskId = name.parse().map_err(|_| "its name is not a task id".to_owned())?;
            found.records.push(self.unseal(path, &place(task))?);
        }
        Ok(())
    }

    fn unseal<M: Message + Default>(&self, path: &Path, place: &[u8]) -> Result<M, String> {
        let sealed = fs::read(path).map_err(|error| error.to_string())?;
        let body = self.seal.open(place, sealed).ok_or("it is not what was sealed under this name")?;
        let message = M::decode(body.as_ref()).map_err(|error| error.to_string());
        wipe(body);
        message
    }

    fn read_or_quarantine(&self, path: &Path, found: &mut Found) -> Result<(), StoreError> {
        if let Err(why) = self.read(path, found) {
            found.damage.push(quarantine(path, &why)?);
        }
        Ok(())
    }
}

impl Found {
    /// Adds the stored configs to their tasks. A missing one is sent in the next session.
    fn give_configs(&mut self) {
        for record in &mut self.records {
            let references = &record.assignment.spec.template().container().configs;
            let items = references.iter().filter_map(|reference| self.configs.get(&reference.key()?)).cloned();
            record.assignment.configs = items.collect();
        }
    }
}

/// The name of a config's file.
fn config_name((config, revision): ConfigKey) -> String {
    format!("{CONFIG}{config}-{revision}")
}

/// The config of a file, by its name.
fn config_of(path: &Path) -> Option<ConfigKey> {
    let (config, revision) = path.file_name()?.to_str()?.strip_prefix(CONFIG)?.split_once('-')?;
    Some((config.parse().ok()?, revision.parse().ok()?))
}

/// The record without credentials that are no longer needed: only a pull needs the registry's, and only an unfinished task the
/// values of its secret variables.
fn without_unneeded_credentials(record: &Record) -> Record {
    let mut record = record.clone();
    // Each config has a file of its own, however many tasks use it.
    record.assignment.configs.clear();
    // Secrets stay in memory: a restarted agent receives them again, and the files of running tasks still exist.
    record.assignment.secrets.clear();
    if record.withdrawn || record.status.state() >= TaskState::Ready {
        record.assignment.registry_auth = None;
    }
    if record.withdrawn || record.status.state().is_terminal() {
        record.assignment.env_secrets.clear();
    }
    record
}

/// Opens the seal with the key beside `dir`, or with a new key if there is no usable one.
fn open_seal(dir: &Path, lock: &KeyLock, found: &mut Found) -> Result<Seal, StoreError> {
    let (path, lock) = (dir.with_extension(KEY), lock.key());
    let load = |may_create| DataKeys::load(&path, may_create, lock.as_ref());
    let keys = match load(false) {
        Err(SealError::KeyMissing(_)) => {
            if fs::read_dir(dir).map_err(failed("read", dir))?.next().is_some() {
                found.damage.push(format!("the data key {} is missing: {KEY_LOST}", path.display()));
            }
            load(true)?
        }
        Err(SealError::KeyDamaged { reason, .. }) => {
            found.damage.push(format!("{}: {KEY_LOST}", quarantine(&path, reason)?));
            load(true)?
        }
        // The process was stopped while the keys of the manager were being wrapped with another unlock key.
        Err(SealError::Locked(_)) => {
            found.damage.push(format!("{}: {KEY_LOST}", quarantine(&path, "another unlock key wrapped it")?));
            load(true)?
        }
        keys => keys?,
    };
    Ok(Seal::with(&keys)?)
}

/// Replaces a file with this content.
fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(content)?;
    fs::rename(&unfinished, path)
}

/// The context that the file with this name is sealed for.
fn place_of(path: &Path) -> Option<Vec<u8>> {
    let name = path.file_name()?.to_str()?;
    if name == HEAD || name == MANAGERS || config_of(path).is_some() {
        return Some(name.as_bytes().to_vec());
    }
    name.parse().ok().map(|task| place(task).to_vec())
}

/// The effect of a lost key.
const KEY_LOST: &str =
    "the stored assignments cannot be read, and the managers assign the tasks again; containers keep running";

/// The context that a record is sealed for: its task, so that files cannot be swapped.
fn place(task: TaskId) -> [u8; 16] {
    task.bits().to_be_bytes()
}

fn quarantine(path: &Path, why: &str) -> Result<String, StoreError> {
    let quarantined = path.with_extension(DAMAGED);
    fs::rename(path, &quarantined).map_err(failed("set aside", path))?;
    Ok(format!("{} is damaged ({why}): kept as {} and not used", path.display(), quarantined.display()))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
