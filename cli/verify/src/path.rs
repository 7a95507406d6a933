//! Proofs about the tree of [`crate::tree`], as specified by RFC 6962: that a leaf is in a tree, and that a tree continues an
//! earlier one. Creating a proof needs the nodes; checking it needs only the roots, as in RFC 9162.

use crate::tree::{Hash, empty, parent};

/// Access to the hashes of complete subtrees.
pub trait Nodes {
    /// Why a node cannot be read.
    type Error;

    /// The root of a complete subtree with `1 << level` leaves, the first of which is `number << level`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn node(&mut self, level: u32, number: u64) -> Result<Hash, Self::Error>;
}

/// The root of the tree over the first `size` leaves.
///
/// # Errors
/// When a node cannot be read.
pub fn root<N: Nodes>(nodes: &mut N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 { Ok(empty()) } else { over(nodes, 0, size) }
}

/// The proof that a leaf is in the tree over the first `size` leaves. Leaves are numbered from 0, and `leaf` is less than `size`.
///
/// # Errors
/// When a node cannot be read.
pub fn inclusion<N: Nodes>(nodes: &mut N, leaf: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut start, mut end, mut path) = (0, size, Vec::new());
    while end - start > 1 {
        let middle = start + left_half(end - start);
        if leaf < middle {
            path.push(over(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(over(nodes, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree over the first `size` leaves continues the one over the first `old` of them; `old` is not 0.
///
/// # Errors
/// When a node cannot be read.
pub fn consistency<N: Nodes>(nodes: &mut N, old: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut start, mut end, mut path) = (0, size, Vec::new());
    while old < end {
        let middle = start + left_half(end - start);
        if old <= middle {
            path.push(over(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(over(nodes, start, middle)?);
            start = middle;
        }
    }
    // If the old tree is a complete subtree at the start of the new one, the verifier has its root.
    if start > 0 {
        path.push(over(nodes, start, end)?);
    }
    path.reverse();
    Ok(path)
}

/// The root of the tree over some leaves; the first of them is aligned for a subtree of this size.
fn over<N: Nodes>(nodes: &mut N, start: u64, end: u64) -> Result<Hash, N::Error> {
    let leaves = end - start;
    if leaves.is_power_of_two() {
        return nodes.node(leaves.trailing_zeros(), start / leaves);
    }
    let middle = start + left_half(leaves);
    Ok(parent(&over(nodes, start, middle)?, &over(nodes, middle, end)?))
}

/// The number of leaves in the left subtree, for more than one leaf.
fn left_half(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// Whether a proof connects a leaf with the root of a tree.
pub fn includes(root: &Hash, size: u64, number: u64, leaf: &Hash, path: &[Hash]) -> bool {
    if number >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (number, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            hash = parent(sibling, &hash);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            hash = parent(&hash, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    last == 0 && hash == *root
}

/// Whether a proof connects the root of a tree with that of a later one.
pub fn continues(old: (u64, &Hash), new: (u64, &Hash), path: &[Hash]) -> bool {
    let ((old_size, old_root), (size, root)) = (old, new);
    match old_size {
        _ if old_size > size => return false,
        // Every tree continues the empty tree and itself.
        0 => return path.is_empty() && *old_root == empty(),
        _ if old_size == size => return path.is_empty() && old_root == root,
        _ => {}
    }
    let whole = old_size.is_power_of_two().then_some(old_root);
    let mut path = whole.into_iter().chain(path);
    let Some(first) = path.next() else { return false };
    let shift = (old_size - 1).trailing_ones();
    let (mut at, mut last) = ((old_size - 1) >> shift, (size - 1) >> shift);
    let (mut before, mut after) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            (before, after) = (parent(sibling, &before), parent(sibling, &after));
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            after = parent(&after, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    last == 0 && before == *old_root && after == *root
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::tree::tests::LEAVES;
    use crate::tree::{Tree, leaf};
    use crate::verify::hex;

    /// All leaves; nodes are computed from them.
    struct Leaves(Vec<Hash>);

    impl Nodes for Leaves {
        type Error = Infallible;

        fn node(&mut self, level: u32, number: u64) -> Result<Hash, Infallible> {
            if level == 0 {
                return Ok(self.0[number as usize]);
            }
            Ok(parent(&self.node(level - 1, number * 2)?, &self.node(level - 1, number * 2 + 1)?))
        }
    }

    fn vectors() -> Leaves {
        Leaves(LEAVES.map(leaf).to_vec())
    }

    fn many(count: u64) -> Leaves {
        Leaves((0..count).map(|number| leaf(&number.to_be_bytes())).collect())
    }

    fn shown(path: &[Hash]) -> Vec<String> {
        path.iter().map(|hash| hex(hash)).collect()
    }

    fn roots(leaves: &Leaves) -> Vec<Hash> {
        let mut tree = Tree::default();
        let mut roots = vec![tree.root()];
        for leaf in &leaves.0 {
            tree.add_leaf(*leaf);
            roots.push(tree.root());
        }
        roots
    }

    #[test]
    fn proofs_are_those_of_certificate_transparency() {
        let Ok(path) = inclusion(&mut vectors(), 0, 8);
        let expected = [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ];
        assert_eq!(shown(&path), expected);
        let Ok(path) = consistency(&mut vectors(), 6, 8);
        let expected = [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ];
        assert_eq!(shown(&path), expected);
    }

    #[test]
    fn every_proof_of_every_small_tree_holds_and_holds_for_nothing_else() {
        const SIZE: u64 = 40;
        let mut leaves = many(SIZE);
        let roots = roots(&leaves);
        let root_at = |size: u64| &roots[size as usize];
        for size in 0..=SIZE {
            let Ok(made) = root(&mut leaves, size);
            assert_eq!(&made, root_at(size));
            for number in 0..size {
                let Ok(path) = inclusion(&mut leaves, number, size);
                for other in 0..=size {
                    let leaf = leaves.0[(other % SIZE) as usize];
                    let holds = includes(root_at(size), size, other, &leaf, &path);
                    assert_eq!(holds, other == number, "leaf {number} as {other} of {size}");
                }
                assert!(size < 2 || !includes(root_at(size), size, number, &leaves.0[number as usize], &path[1..]));
            }
            for old in 1..=size {
                let Ok(path) = consistency(&mut leaves, old, size);
                for other in 0..=size {
                    let holds = continues((other, root_at(other)), (size, root_at(size)), &path);
                    // The empty proof is also that of the empty tree.
                    let expected = other == old || (other == 0 && path.is_empty());
                    assert_eq!(holds, expected, "{old} as {other} of {size}");
                }
                assert!(!continues((old, &[7; 32]), (size, root_at(size)), &path), "{old} of {size}");
                assert!(!continues((old, root_at(old)), (size, &[7; 32]), &path), "{old} of {size}");
            }
        }
    }
}
