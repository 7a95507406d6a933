//! Counts by key. What there is none of has no count, so that equal contents are equal maps.

use imbl::OrdMap;

/// One more.
pub(crate) fn up<K: Ord + Copy>(counts: &mut OrdMap<K, u64>, key: K) {
    // Most are the first of their kind: putting it in and looking whether it was there is one walk down the tree.
    if let Some(count) = counts.insert(key, 1) {
        counts.insert(key, count + 1);
    }
}

/// One less.
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
