//! The files in which RocksDB keeps a table: which one is damaged, and how to remove it.

use super::{DB, LogError, RocksDisk};
use crate::log::disk::{Key, Table};

/// A file of a table.
pub(super) struct File {
    pub(super) table: Table,
    name: String,
    level: i32,
    pub(super) first: Key,
    pub(super) last: Key,
}

impl RocksDisk {
    /// The file that RocksDB names in a message.
    pub(super) fn file_in(&self, message: &str) -> Option<File> {
        files(&self.db).ok()?.into_iter().find(|file| message.contains(&file.name))
    }

    /// Removes a file with all its values. A recently written file (level 0) cannot be removed in place: it is first moved down a
    /// level, which RocksDB does without reading it as long as it does not overlap with another one.
    pub(super) fn drop_file_of(&self, table: Table, first: Key, last: Key) -> Result<(), LogError> {
        let failed = |reason: String| LogError::Storage { action: "remove a damaged file of the log", reason };
        let of_table = || {
            let files = files(&self.db).map_err(|error| self.failed("read the log", Some(table), error))?;
            Ok::<_, LogError>(files.into_iter().filter(|file| file.table == table).collect::<Vec<_>>())
        };
        let is_it = |file: &File| (file.first, file.last) == (first, last);
        let files = of_table()?;
        let Some(damaged) = files.iter().find(|file| is_it(file)) else { return Ok(()) };
        if damaged.level == 0 {
            let overlaps = |file: &&File| !is_it(file) && file.first <= last && first <= file.last;
            if let Some(other) = files.iter().find(overlaps) {
                return Err(failed(format!("it overlaps with {}, so that it would be read", other.name)));
            }
            self.db.compact_range_cf(self.family(table)?, Some(first.encode()), Some(last.encode()));
        }
        let dropped = self.db.delete_file_in_range_cf(self.family(table)?, first.encode(), last.encode());
        dropped.map_err(|error| self.failed("remove a damaged file of the log", Some(table), error))?;
        match of_table()?.iter().any(is_it) {
            true => Err(failed(format!("{} is in use", damaged.name))),
            false => Ok(()),
        }
    }
}

fn files(db: &DB) -> Result<Vec<File>, rocksdb::Error> {
    let files = db.live_files()?.into_iter().filter_map(|file| {
        Some(File {
            table: Table::ALL.into_iter().find(|table| table.name() == file.column_family_name)?,
            name: file.name.trim_start_matches('/').to_owned(),
            level: file.level,
            first: Key::decode(&file.start_key?)?,
            last: Key::decode(&file.end_key?)?,
        })
    });
    Ok(files.collect())
}
