//! The Merkle tree over frames, hashed as specified by RFC 6962: the leaves are the stored bytes of frames. Only the roots of
//! complete subtrees are kept while leaves are added, one for each bit of the number of leaves. Proofs about such a tree are in
//! [`crate::path`].

use sha2::{Digest, Sha256};

/// The hash of a node of the tree.
pub type Hash = [u8; 32];

/// A tree that grows leaf by leaf.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    size: u64,
    /// Roots of complete subtrees, the largest first.
    roots: Vec<Hash>,
}

impl Tree {
    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the leaf of a frame.
    pub fn add(&mut self, stored: &[u8]) {
        self.add_leaf(leaf(stored));
    }

    /// Adds the hash of a leaf.
    pub fn add_leaf(&mut self, mut hash: Hash) {
        // Each trailing one bit of the size is a subtree as large as the new one.
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.roots.pop() else { break };
            hash = parent(&left, &hash);
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// The root hash, which commits to all leaves in their order.
    pub fn root(&self) -> Hash {
        let smallest_first = self.roots.iter().rev().copied();
        smallest_first.reduce(|right, left| parent(&left, &right)).unwrap_or_else(empty)
    }
}

/// The root of a tree without leaves.
pub(crate) fn empty() -> Hash {
    Sha256::digest([]).into()
}

/// The leaf hash of a frame's stored bytes.
pub fn leaf(stored: &[u8]) -> Hash {
    events::frame::leaf(stored)
}

/// The parent of two nodes.
pub fn parent(left: &Hash, right: &Hash) -> Hash {
    Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The leaves that Certificate Transparency's own tests use.
    pub(crate) const LEAVES: [&[u8]; 8] = [
        &[],
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
    ];

    fn hex(hash: Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The root by the definition in RFC 6962, section 2.1.
    fn defined(leaves: &[&[u8]]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => Sha256::new_with_prefix([0]).chain_update(leaf).finalize().into(),
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                parent(&defined(left), &defined(right))
            }
        }
    }

    #[test]
    fn roots_are_those_that_other_implementations_compute() {
        let known = [
            (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ];
        let mut tree = Tree::default();
        for size in 0..=LEAVES.len() {
            assert_eq!(tree.size(), size as u64);
            assert_eq!(tree.root(), defined(&LEAVES[..size]), "{size} leaves");
            if let Some((_, root)) = known.iter().find(|(known, _)| *known == size) {
                assert_eq!(hex(tree.root()), *root, "{size} leaves");
            }
            if let Some(leaf) = LEAVES.get(size) {
                tree.add(leaf);
            }
        }
    }
}
