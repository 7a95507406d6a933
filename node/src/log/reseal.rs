//! Reseals the whole log with the newest data key, page by page, while it is written and read.

use super::LogError;
use super::disk::{Disk, Key, Table, place};
use super::store::Store;

/// Bytes resealed at a time: writes of the log wait that long, well below a millisecond.
const PAGE_BYTES: usize = 128 * 1024;

/// The progress of a pass: the table, and the first value that was not processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResealPosition {
    table: Table,
    from: Key,
}

impl Default for ResealPosition {
    fn default() -> Self {
        Self { table: Table::ALL[0], from: Key::MIN }
    }
}

impl<D: Disk> Store<D> {
    /// Reseals the next page; returns where to continue, or `None` at the end. A value that no key opens stays as it is: it is
    /// damaged, and its readers report that.
    pub(super) fn reseal_page(&self, at: ResealPosition) -> Result<Option<ResealPosition>, LogError> {
        let ResealPosition { table, from } = at;
        let next = self
            .disk
            .replace(table, from, PAGE_BYTES, &mut |key, sealed| Ok(self.seal.reseal(&place(table, key), sealed)?))?;
        Ok(match next {
            Some(from) => Some(ResealPosition { table, from }),
            None => {
                let following = Table::ALL.into_iter().skip_while(|other| *other != table).nth(1);
                following.map(|table| ResealPosition { table, from: Key::MIN })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use events::VolatilePayload;

    use super::super::fixtures::{entry, frame};
    use super::super::{AppliedFrame, LogStore, Membership, RocksStore};
    use super::*;
    use crate::security::seal::{DataKeys, Seal};
    use crate::security::{KeyLock, UnlockKey};

    /// A log with more history than a page, a secret, and the keys of the directory.
    fn log(dir: &std::path::Path) -> RocksStore {
        let store = RocksStore::open(dir).unwrap();
        store.initialize(&Membership::single(1)).unwrap();
        store.load().unwrap();
        let mut before = None;
        for index in 2..40 {
            let bytes = frame(index, before, 10_000);
            before = Some(super::super::FrameLink { index, hash: events::frame::hash(&bytes) });
            let secrets = vec![VolatilePayload::keep(format!("key {index}"), "the secret")];
            store.write(vec![store.stage_append(vec![entry(index, 1, "payload")], None, true).unwrap()]).unwrap();
            let frames = vec![AppliedFrame { index, bytes, secrets }];
            store.write(vec![store.stage_apply(frames, index).unwrap()]).unwrap();
        }
        store
    }

    #[test]
    fn after_a_pass_the_newest_key_alone_opens_everything() {
        let dir = tempfile::tempdir().unwrap();
        let store = log(dir.path());
        let (file, unlock) = (store.key_file(dir.path()), UnlockKey::generate().unwrap());
        file.rewrap(None, Some(&unlock)).unwrap();
        let (mut at, mut pages) = (Some(ResealPosition::default()), 0);
        while let Some(position) = at {
            at = store.reseal(position).unwrap();
            pages += 1;
        }
        assert!(pages > Table::ALL.len(), "{pages}");
        store.purge().unwrap();
        file.destroy_older(Some(&unlock)).unwrap();
        let (history, secrets) = (store.history(0, 1_000, usize::MAX).unwrap(), store.keyring().unwrap());
        drop((store, file));
        let lock = Arc::new(KeyLock::default());
        lock.set(Some(unlock.clone()));
        let again = RocksStore::open_with(dir.path(), Default::default(), &lock).unwrap();
        again.load().unwrap();
        assert_eq!(again.history(0, 1_000, usize::MAX).unwrap(), history);
        assert_eq!((again.keyring().unwrap(), history.len()), (secrets, 38));
        let newest = Seal::with(&DataKeys::load(&dir.path().join("log.key"), false, Some(&unlock)).unwrap()).unwrap();
        for table in Table::ALL {
            let all_open = |key, sealed| {
                assert!(newest.open(&place(table, key), sealed).is_some(), "{table} {key:?}");
                Ok(std::ops::ControlFlow::Continue(()))
            };
            again.disk.scan(table, Key::MIN, Key::MAX, &mut { all_open }).unwrap();
        }
    }

    #[test]
    fn what_is_written_meanwhile_is_not_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = log(dir.path());
        store.key_file(dir.path()).rewrap(None, Some(&UnlockKey::generate().unwrap())).unwrap();
        let before = store.keyring().unwrap().len();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut at = Some(ResealPosition::default());
                while let Some(position) = at {
                    at = store.reseal(position).unwrap();
                }
            });
            let mut last = store.applied().unwrap().frame;
            for index in 40..200 {
                let bytes = frame(index, last, 100);
                last = Some(super::super::FrameLink { index, hash: events::frame::hash(&bytes) });
                let secrets = vec![VolatilePayload { key: format!("key {}", index - 38), value: None }];
                store.write(vec![store.stage_append(vec![entry(index, 1, "new")], None, true).unwrap()]).unwrap();
                let frames = vec![AppliedFrame { index, bytes, secrets }];
                store.write(vec![store.stage_apply(frames, index).unwrap()]).unwrap();
            }
        });
        assert_eq!((before, store.keyring().unwrap().len()), (38, 0), "a secret that was destroyed stays so");
        assert_eq!(store.history(0, 1_000, usize::MAX).unwrap().len(), 198);
    }
}
