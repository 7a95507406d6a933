//! Counts by key. A key without objects has no entry, so that equal contents are equal maps.

use imbl::OrdMap;

/// Increments a count.
pub(crate) fn up<K: Ord + Copy>(counts: &mut OrdMap<K, u64>, key: K) {
    // Most are the first of their kind: inserting and checking whether it existed is one descent of the tree.
    if let Some(count) = counts.insert(key, 1) {
        counts.insert(key, count + 1);
    }
}

/// Decrements a count.
///
/// # Panics
/// When there was none.
pub(crate) fn down<K: Ord + Copy>(counts: &mut OrdMap<K, u64>, key: K) {
    let count = counts.get_mut(&key).expect("what goes away was counted when it came");
    *count -= 1;
    if *count == 0 {
        counts.remove(&key);
    }
}
