//! The agent's memory: one small file for each assigned task, and one for each config that some task has, so that a restarted
//! agent goes on before it has met a manager; and one for the last frame of history that a manager named, so that it can tell a
//! manager that was restored meanwhile.
//!
//! A file is replaced by renaming, so it is whole or absent after the process dies at any moment. Nothing is synced: after
//! a power cut a file may be old or damaged, and that is enough. The executor's calls are idempotent, so an old state only
//! repeats a step; a damaged file is set aside, and the managers assign the task again.
//!
//! A spec may hold secrets in its environment, and an assignment the registry's credentials. So each file is sealed for its
//! task with a data key of the agent's own, which lies beside the directory: wrapped with the cluster's unlock key on a manager
//! whose keys are, and as it is on a worker, which has to start without anybody's help. Without that key all files are as good as
//! damaged: they are set aside, a new key is made, and what runs is adopted when the managers assign it again.

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

use super::placed_file::unless_absent;
use crate::security::seal::{DataKeys, KeyFile, Seal, SealError, is_wrapped, wipe};
use crate::security::{KeyLock, UnlockKey};

/// The file of the last frame of history.
const HEAD: &str = "head";
/// The file of the addresses of the managers.
const MANAGERS: &str = "managers";
/// Begins the name of a config's file, before the config's id and its revision. No id has a hyphen.
const CONFIG: &str = "config-";
/// Ends the name of the key's file: `worker.key` beside `worker`.
const KEY: &str = "key";
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
pub enum StoreError {
    /// A file cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// Nothing can be sealed.
    #[error("{0}")]
    Seal(#[from] SealError),
}

/// The files of one agent.
#[derive(Clone)]
pub(super) struct Store {
    dir: PathBuf,
    seal: Arc<Seal>,
    keys: Arc<KeyFile>,
    /// Held by whoever seals and writes, or removes.
    writing: Arc<Mutex<()>>,
}

/// What was found when the memory was opened.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<Record>,
    /// The last frame of history that a manager named.
    pub(super) head: Option<Head>,
    /// The addresses of the managers that the last session named.
    pub(super) managers: Vec<String>,
    /// What is in the configs that tasks had.
    configs: BTreeMap<ConfigKey, ConfigItem>,
    /// One sentence for each file that was set aside, and for a key that is gone.
    pub(super) damage: Vec<String>,
}

/// Reads the memory in `dir`, if there is any, and changes nothing. Whatever makes this fail makes [`Store::open`] fail.
///
/// # Errors
/// When the memory cannot be used.
pub(super) fn examine(dir: &Path, lock: &KeyLock) -> Result<Found, StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        entries => Some(entries.map_err(failed("read", dir))?),
    };
    let keys = match DataKeys::load(&dir.with_extension(KEY), false, lock.key().as_ref()) {
        // Without its key the memory is as good as empty, and no reason not to start.
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

/// What a file in the memory is, by its name.
enum Entry {
    /// What was kept.
    Kept,
    /// What was still being written.
    Unfinished,
    /// What could not be read earlier.
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
    /// Opens the memory in `dir`, which is made if it is not there, and reads all of it.
    pub(super) fn open(dir: &Path, lock: &KeyLock) -> Result<(Self, Found), StoreError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create", dir))?;
        let mut found = Found::default();
        let store = Self::with(dir, open_seal(dir, lock, &mut found)?);
        for entry in fs::read_dir(dir).map_err(failed("read", dir))? {
            let path = entry.map_err(failed("read", dir))?.path();
            match Entry::of(&path) {
                Entry::Damaged => {}
                Entry::Unfinished => fs::remove_file(&path).map_err(failed("remove", &path))?,
                Entry::Kept => store.take_in(&path, &mut found)?,
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

    /// Wraps the data key with this unlock key, or with none; before it was wrapped with that. With an unlock key, everything is
    /// sealed again with a new data key, and those before are destroyed.
    pub(super) fn rewrap(&self, before: Option<&UnlockKey>, after: Option<&UnlockKey>) -> Result<(), StoreError> {
        self.keys.rewrap(before, after)?;
        if after.is_some() {
            self.reseal()?;
            self.keys.destroy_older(after)?;
        }
        Ok(())
    }

    /// The unlock key that the data key is wrapped with, if this is the one that opened it.
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

    /// Keeps exactly these configs. What a file says never changes, so one that is there stays as it is.
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
                unless_absent(fs::remove_file(&path)).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Keeps a task's record, in place of an older one.
    pub(super) fn save(&self, record: &Record) -> Result<(), StoreError> {
        let task = record.assignment.task;
        self.write(&self.path(task), &place(task), &Zeroizing::new(sparing_credentials(record).encode_to_vec()))
    }

    /// Keeps the last frame of history that a manager named, in place of an older one.
    pub(super) fn save_head(&self, head: &Head) -> Result<(), StoreError> {
        self.write(&self.dir.join(HEAD), HEAD.as_bytes(), &head.encode_to_vec())
    }

    /// Keeps the addresses of the managers, in place of those that were known before.
    pub(super) fn save_managers(&self, addrs: &[String]) -> Result<(), StoreError> {
        let known = KnownManagers { addrs: addrs.to_vec() };
        self.write(&self.dir.join(MANAGERS), MANAGERS.as_bytes(), &known.encode_to_vec())
    }

    fn write(&self, path: &Path, place: &[u8], body: &[u8]) -> Result<(), StoreError> {
        let _writing = self.lock();
        let sealed = self.seal.seal(place, &[], body)?;
        put(path, &sealed).map_err(failed("write", path))
    }

    /// Forgets a task; one that is not known is forgotten already.
    pub(super) fn remove(&self, task: TaskId) -> Result<(), StoreError> {
        let path = self.path(task);
        let _writing = self.lock();
        unless_absent(fs::remove_file(&path)).map_err(failed("remove", &path))
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
            let task: TaskId = name.parse().map_err(|_| "its name is no task's".to_owned())?;
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

    fn take_in(&self, path: &Path, found: &mut Found) -> Result<(), StoreError> {
        if let Err(why) = self.read(path, found) {
            found.damage.push(set_aside(path, &why)?);
        }
        Ok(())
    }
}

impl Found {
    /// Gives tasks the configs that were kept for them. One that is not there comes with the next session.
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

/// The config that a file is of, by its name.
fn config_of(path: &Path) -> Option<ConfigKey> {
    let (config, revision) = path.file_name()?.to_str()?.strip_prefix(CONFIG)?.split_once('-')?;
    Some((config.parse().ok()?, revision.parse().ok()?))
}

/// Only a pull needs the registry's credentials, and only a task that is not over the values of its secret variables: they
/// are not kept longer.
fn sparing_credentials(record: &Record) -> Record {
    let mut record = record.clone();
    // Each has a file of its own, however many tasks have it.
    record.assignment.configs.clear();
    // In memory only: a restarted agent gets them again, and finds the files of what runs where they are.
    record.assignment.secrets.clear();
    if record.withdrawn || record.status.state() >= TaskState::Ready {
        record.assignment.registry_auth = None;
    }
    if record.withdrawn || record.status.state().is_terminal() {
        record.assignment.env_secrets.clear();
    }
    record
}

/// The seal with the key beside `dir`; with a new one where there is none that can be used.
fn open_seal(dir: &Path, lock: &KeyLock, found: &mut Found) -> Result<Seal, StoreError> {
    let (path, lock) = (dir.with_extension(KEY), lock.key());
    let load = |may_create| DataKeys::load(&path, may_create, lock.as_ref());
    let keys = match load(false) {
        Err(SealError::KeyMissing(_)) => {
            if fs::read_dir(dir).map_err(failed("read", dir))?.next().is_some() {
                found.damage.push(format!("the data key {} is missing: {KEYLESS}", path.display()));
            }
            load(true)?
        }
        Err(SealError::KeyDamaged { reason, .. }) => {
            found.damage.push(format!("{}: {KEYLESS}", set_aside(&path, reason)?));
            load(true)?
        }
        // The process ended while the manager's keys were being wrapped with another unlock key.
        Err(SealError::Locked(_)) => {
            found.damage.push(format!("{}: {KEYLESS}", set_aside(&path, "another unlock key wrapped it")?));
            load(true)?
        }
        keys => keys?,
    };
    Ok(Seal::with(&keys)?)
}

/// Puts a file with this content in the place of another.
fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(content)?;
    fs::rename(&unfinished, path)
}

/// What the file with this name is sealed for.
fn place_of(path: &Path) -> Option<Vec<u8>> {
    let name = path.file_name()?.to_str()?;
    if name == HEAD || name == MANAGERS || config_of(path).is_some() {
        return Some(name.as_bytes().to_vec());
    }
    name.parse().ok().map(|task| place(task).to_vec())
}

/// What the loss of the key means.
const KEYLESS: &str =
    "the stored assignments cannot be read, and the managers assign the tasks again; containers keep running";

/// What a record is sealed for: its task, so that no file can stand in for another.
fn place(task: TaskId) -> [u8; 16] {
    task.bits().to_be_bytes()
}

fn set_aside(path: &Path, why: &str) -> Result<String, StoreError> {
    let aside = path.with_extension(DAMAGED);
    fs::rename(path, &aside).map_err(failed("set aside", path))?;
    Ok(format!("{} is damaged ({why}): kept as {} and not used", path.display(), aside.display()))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
