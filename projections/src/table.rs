//! One persistent ordered table: rows by key, a clone in constant time, and a hash of all rows that is updated with every change.
//!
//! The hash of a table is the sum of its rows' hashes, so that it does not depend on the order of changes. It detects bugs and
//! bit rot; it does not protect against an attacker who chooses the rows (the hash chain of the log does).

use std::ops::RangeBounds;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

/// Maximum length of an encoded row that is hashed from the stack.
const ROW_BYTES: usize = 512;

/// Rows by key, in key order.
#[derive(Debug, Clone)]
pub struct Table<K: Ord, V> {
    rows: OrdMap<K, Row<V>>,
    hash: u64,
}

#[derive(Debug)]
struct Row<V> {
    value: Arc<V>,
    hash: u64,
}

impl<V> Clone for Row<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), hash: self.hash }
    }
}

/// Rows are equal if they share their memory: their contents are not compared.
impl<V> PartialEq for Row<V> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.value, &other.value)
    }
}

impl<K: Ord, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: OrdMap::new(), hash: 0 }
    }
}

impl<K: Ord + Copy + Serialize, V: Clone + Serialize> Table<K, V> {
    /// The row with this key.
    pub fn get(&self, key: K) -> Option<&V> {
        self.rows.get(&key).map(|row| &*row.value)
    }

    /// The row with this key, shared.
    pub fn share(&self, key: K) -> Option<Arc<V>> {
        self.rows.get(&key).map(|row| Arc::clone(&row.value))
    }

    /// Inserts a row, replacing the one with its key.
    pub fn insert(&mut self, key: K, value: V) {
        let hash = row_hash(&key, &value);
        self.put(key, value, hash);
    }

    /// Puts in a row that was read from these bytes. They are hashed as they are, which spares encoding each row of a snapshot again: if
    /// they are not those that the row has, neither is the table's hash, which a snapshot is compared with.
    pub(crate) fn insert_read(&mut self, key: K, value: V, row: &[u8]) {
        self.put(key, value, xxh3_64(row));
    }

    fn put(&mut self, key: K, value: V, hash: u64) {
        let old = self.rows.insert(key, Row { value: Arc::new(value), hash });
        self.hash = self.hash.wrapping_sub(old.map_or(0, |row| row.hash)).wrapping_add(hash);
    }

    /// Changes the row with this key, if there is one.
    pub fn update<R>(&mut self, key: K, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.change(key, |value| change(Arc::make_mut(value)))
    }

    /// Changes the row with this key, if there is one; also returns the row before and after.
    pub fn replace<R>(&mut self, key: K, change: impl FnOnce(&mut V) -> R) -> Option<(R, Arc<V>, Arc<V>)> {
        self.change(key, |value| {
            let before = Arc::clone(value);
            let result = change(Arc::make_mut(value));
            (result, before, Arc::clone(value))
        })
    }

    fn change<R>(&mut self, key: K, change: impl FnOnce(&mut Arc<V>) -> R) -> Option<R> {
        let row = self.rows.get_mut(&key)?;
        let result = change(&mut row.value);
        let hash = row_hash(&key, &*row.value);
        self.hash = self.hash.wrapping_sub(row.hash).wrapping_add(hash);
        row.hash = hash;
        Some(result)
    }

    /// Removes the row with this key.
    pub fn remove(&mut self, key: K) -> Option<Arc<V>> {
        let row = self.rows.remove(&key)?;
        self.hash = self.hash.wrapping_sub(row.hash);
        Some(row.value)
    }

    /// Whether there is a row with this key.
    pub fn contains(&self, key: K) -> bool {
        self.rows.contains_key(&key)
    }

    /// All rows, in key order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (K, &V)> {
        self.rows.iter().map(|(key, row)| (*key, &*row.value))
    }

    /// The rows whose keys are in a range.
    pub fn range(&self, keys: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (K, &V)> {
        self.rows.range(keys).map(|(key, row)| (*key, &*row.value))
    }

    /// The rows, in key order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.rows.values().map(|row| &*row.value)
    }

    /// The keys whose rows were inserted, changed or removed since the table was `earlier`, each with its current row, if any.
    /// The cost depends on the number of changes, not on the size of the tables, as long as one was derived from the other.
    pub fn changed_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = (K, Option<&'a V>)> {
        earlier.rows.diff(&self.rows).map(|change| match change {
            DiffItem::Add(key, row) | DiffItem::Update { new: (key, row), .. } => (*key, Some(&*row.value)),
            DiffItem::Remove(key, _) => (*key, None),
        })
    }

    /// The same for tables that were made apart: rows that are equal in both are left out. Those that are not shared are told apart by
    /// their hashes, and compared where these are equal.
    pub fn differing_from<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (K, Option<&'a V>)>
    where
        V: PartialEq,
    {
        other.rows.diff(&self.rows).filter_map(|change| match change {
            DiffItem::Update { old: (_, old), new: (_, new) } if old.hash == new.hash && old.value == new.value => None,
            DiffItem::Add(key, row) | DiffItem::Update { new: (key, row), .. } => Some((*key, Some(&*row.value))),
            DiffItem::Remove(key, _) => Some((*key, None)),
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The hash of all rows.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

fn row_hash<K: Serialize, V: Serialize>(key: &K, value: &V) -> u64 {
    let mut buffer = [0; ROW_BYTES];
    match postcard::to_slice(&(key, value), &mut buffer) {
        Ok(bytes) => xxh3_64(bytes),
        // A row with a long spec does not fit on the stack.
        Err(_) => xxh3_64(&postcard::to_allocvec(&(key, value)).expect("rows are plain data, which always encodes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_the_rows_and_not_on_how_they_came_to_be() {
        let mut one: Table<u64, String> = Table::default();
        one.insert(1, "a".into());
        one.insert(2, "b".into());
        let mut other: Table<u64, String> = Table::default();
        other.insert(2, "x".into());
        other.insert(3, "gone".into());
        other.insert(1, "a".into());
        other.update(2, |row| *row = "b".into());
        assert_ne!(one.hash(), other.hash());
        other.remove(3);
        assert_eq!(one.hash(), other.hash());
        other.remove(1);
        other.remove(2);
        assert_eq!(other.hash(), Table::<u64, String>::default().hash());
    }

    #[test]
    fn a_replaced_row_is_returned_as_it_was_and_as_it_is() {
        let mut table: Table<u64, String> = Table::default();
        table.insert(1, "old".into());
        let replaced = table.replace(1, |row| (*row = "new!".into(), row.len()).1);
        let (length, before, after) = replaced.expect("the row is there");
        assert_eq!((length, before.as_str(), after.as_str()), (4, "old", "new!"));
        let mut same: Table<u64, String> = Table::default();
        same.insert(1, "new!".into());
        assert_eq!(table.hash(), same.hash());
        assert!(table.replace(2, |_| ()).is_none());
    }

    #[test]
    fn changes_since_an_earlier_table_include_the_current_rows() {
        let mut table: Table<u64, u64> = Table::default();
        for key in 0..1_000 {
            table.insert(key, key);
        }
        let earlier = table.clone();
        assert_eq!(table.changed_since(&earlier).count(), 0);
        table.update(500, |row| *row = 0);
        table.remove(501);
        table.insert(2_000, 7);
        let changes: Vec<(u64, Option<u64>)> =
            table.changed_since(&earlier).map(|(key, row)| (key, row.copied())).collect();
        assert_eq!(changes, [(500, Some(0)), (501, None), (2_000, Some(7))]);
        assert_eq!(table.changed_since(&Table::default()).count(), table.len());
    }

    #[test]
    fn tables_that_were_made_apart_differ_in_what_they_hold() {
        let filled = |rows: &[(u64, &str)]| {
            let mut table: Table<u64, String> = Table::default();
            rows.iter().for_each(|(key, row)| table.insert(*key, (*row).to_owned()));
            table
        };
        let (one, other) = (filled(&[(1, "a"), (2, "b"), (3, "c")]), filled(&[(2, "b"), (3, "x"), (4, "d")]));
        let rows = |table: &Table<u64, String>, other| {
            table.differing_from(other).map(|(key, row)| (key, row.cloned())).collect::<Vec<_>>()
        };
        let owned = |row: &str| Some(row.to_owned());
        assert_eq!(rows(&other, &one), [(1, None), (3, owned("x")), (4, owned("d"))]);
        assert_eq!(rows(&filled(&[(1, "a"), (2, "b"), (3, "c")]), &one), []);
        assert_eq!(other.changed_since(&one).count(), 4, "the row that is equal in both is not shared");
        // Whoever could make two rows with one hash hides neither.
        let mut forged: Table<u64, String> = Table::default();
        forged.insert_read(1, "y".to_owned(), &postcard::to_allocvec(&(1_u64, "a")).expect("plain data"));
        assert_eq!(rows(&forged, &filled(&[(1, "a")])), [(1, owned("y"))]);
    }

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut table: Table<u64, String> = Table::default();
        table.insert(1, "before".into());
        let then = table.clone();
        table.update(1, |row| *row = "after".into());
        assert_eq!(then.get(1).map(String::as_str), Some("before"));
        assert_ne!(then.hash(), table.hash());
    }
}
