//! The errors of the log, and what to do about them.

use std::path::PathBuf;

use super::disk::Table;
use super::entry::FrameLink;
use crate::security::seal::SealError;

/// An error of the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file beside the database could not be used.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    File {
        /// The operation that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The database failed.
    #[error("cannot {action}: {reason}")]
    Storage {
        /// The operation that failed.
        action: &'static str,
        /// The database's message.
        reason: String,
    },
    /// The database's own files are damaged, so that the index is unknown.
    #[error("the log in {path} is damaged: {reason}", path = .path.display())]
    Unreadable {
        /// The database's directory.
        path: PathBuf,
        /// The database's message.
        reason: String,
    },
    /// The log was initialized, but its database is missing.
    #[error("the log's database {path} is missing, but everything up to index {known} was durable", path = .path.display())]
    Lost {
        /// The database's directory.
        path: PathBuf,
        /// An index that was durable.
        known: u64,
    },
    /// The database lacks some tables of a log.
    #[error("the log in {path} has no table \"{table}\"", path = .path.display())]
    TableMissing {
        /// The database's directory.
        path: PathBuf,
        /// The first missing one.
        table: Table,
    },
    /// Another process has the log open.
    #[error("another swarmd is using the log in {path}", path = .0.display())]
    InUse(PathBuf),
    /// There is a log, but the key that it is sealed with is missing.
    #[error("the log's data key {path} is missing, and the log cannot be read without it", path = .0.display())]
    KeyMissing(PathBuf),
    /// The data key is wrapped with an unlock key that was not given.
    #[error("the log's data key {path} is locked, and needs the cluster's unlock key", path = .0.display())]
    Locked(PathBuf),
    /// The data key's file does not hold a key.
    #[error("the log's data key {path} is damaged: {reason}", path = .path.display())]
    KeyDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A stored value differs from what was written.
    #[error("the log is damaged at index {index} ({table}): {reason}")]
    Damaged {
        /// Where the value is.
        table: Table,
        /// The index that it belongs to.
        index: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// One of the database's files differs from what was written.
    #[error("the log is damaged ({table}): {reason}")]
    Corrupt {
        /// The table that the file belongs to.
        table: Table,
        /// The database's message.
        reason: String,
        /// The first and the last index in that file, if the file is known.
        indexes: Option<(u64, u64)>,
    },
    /// Frames were archived, and the file is missing.
    #[error("frames {start} to {last} were archived in {path}, which is missing", last = .last.index, path = .path.display())]
    ArchiveAbsent {
        /// The first index of the archive.
        start: u64,
        /// Its last frame.
        last: FrameLink,
        /// Its file.
        path: PathBuf,
    },
    /// An archive differs from what was written.
    #[error("the archive {path} (frames {start} to {last}) is damaged: {reason}", last = .last.index, path = .path.display())]
    ArchiveDamaged {
        /// The first index of the archive.
        start: u64,
        /// Its last frame.
        last: FrameLink,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of an archive cannot be used.
    #[error("cannot {action} the archive {path}: {source}", path = .path.display())]
    Archive {
        /// The operation that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// History should be archived, but no directory is configured.
    #[error("this manager has no directory for archives")]
    NoArchiveDir,
    /// History should be archived, but there is no key to seal it with.
    #[error("the cluster has no key for archives")]
    NoArchiveKey,
    /// A secret cannot be read, and only the keyring holds it.
    #[error("a secret in the log's keyring is damaged: {reason}")]
    KeyringDamaged {
        /// What is wrong with it.
        reason: String,
    },
    /// The raft log ends before an index that was durable.
    #[error("the log ends at index {last}, but everything up to index {known} was durable ({witness})")]
    Shortened {
        /// Index of the last existing entry.
        last: u64,
        /// An index that was durable.
        known: u64,
        /// The record that proves it.
        witness: &'static str,
    },
    /// A write does not continue the existing log.
    #[error("index {index} does not follow index {last} in the log ({table})")]
    OutOfOrder {
        /// The table.
        table: Table,
        /// The index of the write.
        index: u64,
        /// The last existing index.
        last: u64,
    },
    /// A frame does not continue history.
    #[error("frame {index} cannot be added to history: {reason}")]
    Unchained {
        /// The frame's index.
        index: u64,
        /// Why it is not the next link of the chain.
        reason: String,
    },
    /// A new log was requested where one already exists.
    #[error("the log exists already")]
    Initialized,
    /// The log to open was never initialized.
    #[error("there is no log: this node was never a manager of a cluster")]
    NotInitialized,
    /// The log contains something that only a newer build supports.
    #[error("index {index} of the log needs a newer swarmd: {reason}")]
    Unsupported {
        /// The index.
        index: u64,
        /// What is not supported.
        reason: &'static str,
    },
    /// Consensus refused to start with this state.
    #[error("consensus cannot start: {0}")]
    Consensus(String),
}

impl LogError {
    /// Whether this is damage of a checkpoint, which only saves time: history can rebuild it.
    pub fn is_of_a_checkpoint(&self) -> bool {
        self.is_of(Table::Checkpoint)
    }

    /// Whether this is damage of a cache, which can be rebuilt from history.
    pub fn is_of_a_cache(&self) -> bool {
        Table::ALL.into_iter().any(|table| table.is_cache() && self.is_of(table))
    }

    /// Whether this is damage of this table.
    pub fn is_of(&self, damaged: Table) -> bool {
        let (Self::Damaged { table, .. } | Self::Corrupt { table, .. }) = self else { return false };
        *table == damaged
    }

    /// Whether stored data cannot be read back as it was written.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Corrupt { .. } | Self::Unreadable { .. } | Self::ArchiveDamaged { .. }
        )
    }

    /// Whether it concerns archives: the log itself is intact.
    pub fn is_of_an_archive(&self) -> bool {
        matches!(
            self,
            Self::ArchiveAbsent { .. }
                | Self::ArchiveDamaged { .. }
                | Self::Archive { .. }
                | Self::NoArchiveDir
                | Self::NoArchiveKey
        )
    }

    /// What to do about it, as one sentence for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Damaged { table: Table::Checkpoint | Table::Index | Table::Tree, .. }
            | Self::Corrupt { table: Table::Checkpoint | Table::Index | Table::Tree, .. } => {
                "start swarmd again: it rebuilds its checkpoints, its index and its tree from history, which takes longer"
            }
            Self::Corrupt { .. } => {
                "`swarmd replay --state-dir DIR` shows how far the log reads; check that its disk is not failing; `swarmd reseed` fetches the log from other managers, and without any restore the directory from a backup"
            }
            Self::Damaged { .. } | Self::Unreadable { .. } => {
                "`swarmd replay --state-dir DIR` shows how far the log reads; `swarmd reseed` fetches the log from other managers, and without any restore the directory from a backup"
            }
            Self::ArchiveAbsent { .. } => {
                "put the file back into the directory of --history-archive, or start swarmd with the directory that has it"
            }
            Self::ArchiveDamaged { .. } => {
                "the next verification of history fetches it from another manager; without one, put an intact copy in its place"
            }
            Self::Archive { .. } => {
                "check that the directory of --history-archive exists and is writable, and that its disk is neither full nor failing"
            }
            Self::NoArchiveDir => "start its swarmd with --history-archive DIR",
            Self::NoArchiveKey => "`swarmctl cluster update --history-keep 400d` makes one",
            Self::KeyringDamaged { .. } => {
                "history does not hold secrets: `swarmd reseed` fetches them from other managers with the log, and without any restore the directory from a backup"
            }
            Self::Shortened { .. } => {
                "a part of it is damaged, an older copy of its disk was put back, or the disk lost writes that it had confirmed; `swarmd replay --state-dir DIR` shows how far the log reads; `swarmd reseed` fetches the log from other managers, and without any restore the directory from a backup"
            }
            Self::Lost { .. } => {
                "`swarmd reseed` fetches the log from other managers, and without any restore the directory from a backup; without either the cluster is lost, and an empty directory begins a new one"
            }
            Self::TableMissing { .. } => {
                "an older swarmd wrote it, or it is damaged: start the swarmd that wrote it, or restore the state directory from a backup"
            }
            Self::Locked(_) => {
                "give a file with the key with --unlock-key-file; `swarmctl cluster unlock-key` shows it"
            }
            Self::KeyMissing(_) | Self::KeyDamaged { .. } => {
                "put the key back from a backup; `swarmd reseed` fetches the log from other managers, and without any restore the directory from a backup"
            }
            Self::InUse(_) => "stop the other swarmd, or use another state directory for this one",
            Self::File { .. } | Self::Storage { .. } => {
                "check that this user can read and write everything in the state directory, that nothing in it was changed, and that its disk is neither full nor failing"
            }
            Self::Unsupported { .. } => "start the newest swarmd that ran on this state directory",
            Self::NotInitialized => "give the state directory of a manager",
            Self::OutOfOrder { .. } | Self::Unchained { .. } | Self::Initialized | Self::Consensus(_) => {
                "restore the state directory from a backup; if it happens again, report this as a bug"
            }
        }
    }
}

impl From<SealError> for LogError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Locked(path) => Self::Locked(path),
            SealError::KeyMissing(path) => Self::KeyMissing(path),
            SealError::KeyDamaged { path, reason } => Self::KeyDamaged { path, reason },
            SealError::File { action, path, source } => Self::File { action, path, source },
            SealError::Crypto(action) => {
                Self::Storage { action, reason: "the cryptographic library refused".to_owned() }
            }
        }
    }
}
