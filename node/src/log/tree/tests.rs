//! Trees of many sizes on both disks, compared with one that is computed leaf by leaf.

use verify::path;

use super::super::fixtures::{Machine, fill, on_both};
use super::super::{LogStore, Table};
use super::*;

/// Adds all whole tiles; returns how many there are.
fn catch_up(store: &dyn LogStore) -> u64 {
    while let Some((reach, leaves)) = next_tile(store).unwrap() {
        store.save_tile(reach, &leaves).unwrap();
    }
    store.tiles_reach().unwrap().leaves / TILE
}

/// The leaves of all of history.
fn all(store: &dyn LogStore) -> Leaves {
    leaves(store, 0, u64::MAX, usize::MAX).unwrap()
}

fn roots(leaves: &[(u64, Hash)]) -> Vec<Hash> {
    let mut tree = Tree::default();
    let grown = leaves.iter().map(|(_, leaf)| {
        tree.add_leaf(*leaf);
        tree.root()
    });
    std::iter::once(Tree::default().root()).chain(grown).collect()
}

#[test]
fn roots_and_proofs_are_those_of_the_frames_however_many_tiles_there_are() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 600);
        let empty = TreeReader::open(&*store).unwrap();
        assert_eq!((empty.size(), empty.reach), (598, Reach::default()), "without tiles");
        assert_eq!(catch_up(&*store), 2);
        fill(&*store, 1_000);
        let (leaves, mut reader) = (all(&*store), TreeReader::open(&*store).unwrap());
        let (roots, size) = (roots(&leaves), reader.size());
        assert_eq!((size, reader.reach.leaves, reader.tail.len()), (998, 512, 486));
        for size in (0..=size).step_by(37).chain([255, 256, 257, 511, 512, 513, size]) {
            assert_eq!(path::root(&mut reader, size).unwrap(), roots[size as usize], "{size}");
        }
        for (number, (index, leaf)) in (0..).zip(&leaves).step_by(29) {
            assert_eq!(reader.leaf_of(*index).unwrap(), Some(number));
            assert_eq!(reader.index_of(number).unwrap(), Some(*index));
            let proof = path::inclusion(&mut reader, number, size).unwrap();
            assert!(path::includes(&roots[size as usize], size, number, leaf, &proof), "{number}");
            let old = number + 1;
            let proof = path::consistency(&mut reader, old, size).unwrap();
            let (before, after) = ((old, &roots[old as usize]), (size, &roots[size as usize]));
            assert!(path::continues(before, after, &proof), "{old}");
        }
        for nothing in [0, 1, 1_000, u64::MAX] {
            assert_eq!(reader.leaf_of(nothing).unwrap(), None, "{nothing}");
        }
    });
}

/// Whole tiles of leaves without any history, so many that there are three levels.
#[test]
fn tiles_of_higher_levels_hold_the_roots_of_those_below() {
    let machine = super::super::fixtures::MemoryMachine(super::super::MemoryDisk::default());
    let (store, mut tree, mut reach) = (machine.start(), Tree::default(), Reach::default());
    let tiles = TILE + 3;
    for tile in 0..tiles {
        // Every other index has no frame.
        let leaves: Vec<(u64, Hash)> = (tile * TILE..(tile + 1) * TILE)
            .map(|number| (number * 2 + 5, tree::leaf(&number.to_be_bytes())))
            .collect();
        leaves.iter().for_each(|(_, leaf)| tree.add_leaf(*leaf));
        store.save_tile(reach, &leaves).unwrap();
        reach = store.tiles_reach().unwrap();
    }
    assert_eq!(reach, Reach { version: VERSION, leaves: tiles * TILE, next: (tiles * TILE - 1) * 2 + 6 });
    let tile_sizes = [(0, tiles - 1, 256), (1, 0, 256), (1, 1, 3), (2, 0, 1), (3, 0, 0)];
    for (level, number, hashes) in tile_sizes {
        assert_eq!(store.tile(level, number).unwrap().len(), hashes, "tile {number} of level {level}");
    }
    let mut reader = TreeReader { store: &*store, reach, tail: Vec::new(), tiles: BTreeMap::new() };
    let size = reader.size();
    assert_eq!(path::root(&mut reader, size).unwrap(), tree.root());
    for number in [0, 1, 255, 256, 65_535, 65_536, size - 1] {
        assert_eq!(reader.leaf_of(number * 2 + 5).unwrap(), Some(number));
        assert_eq!(reader.leaf_of(number * 2 + 4).unwrap(), None);
        let leaf = tree::leaf(&number.to_be_bytes());
        let proof = path::inclusion(&mut reader, number, size).unwrap();
        assert!(path::includes(&tree.root(), size, number, &leaf, &proof), "{number}");
    }
    assert!(reader.tiles.len() < 16, "{} tiles were read", reader.tiles.len());
}

#[test]
fn damaged_tiles_are_reported_and_rebuilt() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 1_000);
        assert_eq!(catch_up(&*store), 3);
        let roots = roots(&all(&*store));
        drop(store);
        machine.flip_bit(Table::Tree, 1);
        let store = machine.start();
        let mut reader = TreeReader::open(&*store).unwrap();
        let damage = path::root(&mut reader, 300).unwrap_err();
        assert!(damage.is_of_a_cache() && damage.hint().contains("rebuilds"), "{damage}");
        store.discard_tiles().unwrap();
        assert_eq!((store.tiles_reach().unwrap(), catch_up(&*store)), (Reach::default(), 3));
        let mut reader = TreeReader::open(&*store).unwrap();
        assert_eq!(path::root(&mut reader, 998).unwrap(), roots[998]);
    });
}

#[test]
fn a_tree_that_is_far_behind_says_so() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, TAIL_MAX as u64 + 10);
        let Err(TreeError::Behind { made: 0 }) = TreeReader::open(&*store) else { panic!("it is not there") };
        catch_up(&*store);
        assert_eq!(TreeReader::open(&*store).unwrap().size(), TAIL_MAX as u64 + 8);
    });
}

#[test]
fn the_seed_of_the_key_stays() {
    on_both(|machine| {
        let store = machine.start();
        assert_eq!(store.audit_seed().unwrap(), None);
        store.keep_audit_seed(&[7; 32]).unwrap();
        drop(store);
        assert_eq!(machine.start().audit_seed().unwrap().as_deref(), Some(&[7; 32]));
        machine.flip_bit(Table::Meta, SEED.index);
        assert!(machine.start().audit_seed().unwrap_err().is_damage());
    });
}
