//! The Merkle tree of frames on disk, in tiles as defined by C2SP's tlog-tiles: 256 hashes per tile, those of level 0 the leaves,
//! and each of a higher level the root of a tile of the level below. Only whole tiles of leaves are stored; the leaves after them
//! are computed from history on demand. Every manager has all of history, so a leaf number means the same everywhere: the first
//! frame of the cluster is 0. Frame indexes have gaps, so each tile of leaves has a list of them beside it. All of it can be
//! rebuilt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use verify::path::Nodes;
use verify::tree::{self, Hash, Tree};
use zeroize::Zeroizing;

use super::disk::{Change, Disk, Durability, Key, Table};
use super::entry::encode_record;
use super::store::Store;
use super::{HistoryReader, LogError, LogStore, PageSize};

/// Hashes in a tile.
pub const TILE: u64 = 256;
/// Levels of the tree that one level of tiles covers.
const TILE_LEVELS: u32 = TILE.ilog2();
/// Maximum number of levels of tiles.
const LEVELS: u32 = u64::BITS.div_ceil(TILE_LEVELS);
/// Maximum number of leaves that are computed from history for one answer: the thread that adds tiles is never that far behind
/// for long.
const TAIL_MAX: usize = 4_096;
/// Bytes of history in memory at a time.
const PAGE: PageSize = PageSize { frames: TILE as usize, bytes: 4 * 1024 * 1024 };
/// Changes with the storage format of tiles.
const VERSION: u32 = 1;

/// Key parts other than the levels of tiles: the indexes of the frames in a tile of leaves, and the extent of the tree.
const INDEXES: u32 = LEVELS;
const REACH: Key = Key { index: 0, part: LEVELS + 1 };
/// The record of [`Table::Meta`] with the seed of the manager's signing key.
const SEED: Key = Key::at(9);

/// The extent of the tiles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    version: u32,
    /// Leaves in tiles.
    pub leaves: u64,
    /// No frame from this index on is in a tile.
    pub next: u64,
}

/// Storage of the tiles, and of the key that signs them.
pub trait TileStore: Send + Sync {
    /// The extent of the tiles.
    ///
    /// # Errors
    /// When the record is damaged or cannot be read.
    fn tiles_reach(&self) -> Result<Reach, LogError>;

    /// The index up to which history is on disk: later frames might be lost while their leaves are not.
    fn durable_history(&self) -> u64;

    /// The hashes of a tile, as far as they exist.
    ///
    /// # Errors
    /// When the tile is damaged or cannot be read.
    fn tile(&self, level: u32, number: u64) -> Result<Vec<Hash>, LogError>;

    /// The indexes of the frames of a tile of leaves.
    ///
    /// # Errors
    /// When they are damaged or cannot be read.
    fn tile_indexes(&self, number: u64) -> Result<Vec<u64>, LogError>;

    /// Adds a whole tile of leaves with the indexes of their frames. Not synced: it is written after the history that it covers.
    ///
    /// # Errors
    /// When a tile above it is damaged, or the write fails.
    fn save_tile(&self, reach: Reach, leaves: &[(u64, Hash)]) -> Result<(), LogError>;

    /// Removes the tiles, so that they are rebuilt.
    ///
    /// # Errors
    /// When the write fails.
    fn discard_tiles(&self) -> Result<(), LogError>;

    /// The seed of the key with which this manager signs checkpoints of the tree; `None` before there is one.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    fn audit_seed(&self) -> Result<Option<Zeroizing<[u8; 32]>>, LogError>;

    /// Stores the seed of that key, durably.
    ///
    /// # Errors
    /// When the write fails.
    fn keep_audit_seed(&self, seed: &[u8; 32]) -> Result<(), LogError>;
}

impl<D: Disk> TileStore for Store<D> {
    fn tiles_reach(&self) -> Result<Reach, LogError> {
        let reach: Option<Reach> = self.record(Table::Tree, REACH)?;
        Ok(reach.filter(|reach| reach.version == VERSION).unwrap_or_default())
    }

    fn durable_history(&self) -> u64 {
        self.written_to()
    }

    fn tile(&self, level: u32, number: u64) -> Result<Vec<Hash>, LogError> {
        self.tree_part(Key { index: number, part: level })
    }

    fn tile_indexes(&self, number: u64) -> Result<Vec<u64>, LogError> {
        let parts: Vec<[u8; 8]> = self.tree_part(Key { index: number, part: INDEXES })?;
        Ok(parts.into_iter().map(u64::from_be_bytes).collect())
    }

    fn save_tile(&self, reach: Reach, leaves: &[(u64, Hash)]) -> Result<(), LogError> {
        let (table, mut number) = (Table::Tree, reach.leaves / TILE);
        let Some((last, _)) = leaves.last().filter(|_| leaves.len() as u64 == TILE) else {
            return Err(damaged(number, "a tile of leaves is whole".to_owned()));
        };
        let mut batch = Vec::new();
        if number == 0 {
            // Leftovers of an older build or of an interrupted one.
            batch.push(Change::DeleteRange { table, from: Key::MIN, to: Key::MAX });
        }
        let _sealing = self.seal.hold();
        let mut put = |key, parts: &[u8]| {
            batch.push(self.put(table, key, &[], parts)?);
            Ok::<(), LogError>(())
        };
        let indexes: Vec<u8> = leaves.iter().flat_map(|(index, _)| index.to_be_bytes()).collect();
        put(Key { index: number, part: INDEXES }, &indexes)?;
        let mut tile: Vec<Hash> = leaves.iter().map(|(_, leaf)| *leaf).collect();
        for level in 0..LEVELS {
            put(Key { index: number, part: level }, tile.as_flattened())?;
            if (tile.len() as u64) < TILE {
                break;
            }
            // A whole tile is one hash of the tile above it.
            let (root, place) = (root_of(&tile), (number % TILE) as usize);
            number /= TILE;
            tile = if place == 0 { Vec::new() } else { self.tile(level + 1, number)? };
            if tile.len() != place {
                let reason =
                    format!("a tile of level {} has {} hashes, and {place} should be there", level + 1, tile.len());
                return Err(damaged(number, reason));
            }
            tile.push(root);
        }
        let reach = Reach { version: VERSION, leaves: reach.leaves + TILE, next: last + 1 };
        put(REACH, &encode_record(&reach))?;
        self.disk.write(batch, Durability::Unsynced)
    }

    fn discard_tiles(&self) -> Result<(), LogError> {
        let all = Change::DeleteRange { table: Table::Tree, from: Key::MIN, to: Key::MAX };
        self.disk.write(vec![all], Durability::Unsynced)
    }

    fn audit_seed(&self) -> Result<Option<Zeroizing<[u8; 32]>>, LogError> {
        Ok(self.record(Table::Meta, SEED)?.map(Zeroizing::new))
    }

    fn keep_audit_seed(&self, seed: &[u8; 32]) -> Result<(), LogError> {
        let _sealing = self.seal.hold();
        let record = Zeroizing::new(encode_record(seed));
        let put = self.put(Table::Meta, SEED, &[], &record)?;
        self.disk.write(vec![put], Durability::Synced)
    }
}

impl<D: Disk> Store<D> {
    /// A value of the tree, which consists of parts of the same size.
    fn tree_part<const N: usize>(&self, key: Key) -> Result<Vec<[u8; N]>, LogError> {
        let Some(sealed) = self.disk.get(Table::Tree, key)? else { return Ok(Vec::new()) };
        let stored = self.unseal(Table::Tree, key, sealed)?;
        let (parts, rest) = stored.as_chunks::<N>();
        if rest.is_empty() { Ok(parts.to_vec()) } else { Err(damaged(key.index, "it ends within a hash".to_owned())) }
    }
}

fn damaged(index: u64, reason: String) -> LogError {
    LogError::Damaged { table: Table::Tree, index, reason }
}

fn root_of(hashes: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    hashes.iter().for_each(|hash| tree.add_leaf(*hash));
    tree.root()
}

/// Leaves, each with the index of its frame.
pub type Leaves = Vec<(u64, Hash)>;

/// The leaves of the next tile, and its position; `None` before history has all of them.
///
/// # Errors
/// When history or the tree cannot be read.
pub fn next_tile(store: &dyn LogStore) -> Result<Option<(Reach, Leaves)>, LogError> {
    let (reach, durable) = (store.tiles_reach()?, store.durable_history());
    if durable < reach.next + TILE - 1 {
        return Ok(None);
    }
    let leaves = leaves(store, reach.next, durable, TILE as usize)?;
    Ok((leaves.len() as u64 == TILE).then_some((reach, leaves)))
}

/// The leaves of the frames with these indexes, at most `most`.
fn leaves(store: &dyn LogStore, from: u64, to: u64, most: usize) -> Result<Leaves, LogError> {
    let (mut reader, mut leaves) = (HistoryReader::starting_at(from), Vec::new());
    while leaves.len() < most {
        let page = reader.page(store, to, PAGE)?;
        if page.is_empty() {
            break;
        }
        leaves.extend(page.iter().map(|(index, stored)| (*index, tree::leaf(stored))));
    }
    leaves.truncate(most);
    Ok(leaves)
}

/// Why the tree cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its tiles are still being built.
    #[error("the tree of frames is still being built: {made} frames so far")]
    Behind {
        /// Frames in the tree so far.
        made: u64,
    },
}

/// The tree over all frames that were applied when it was opened.
pub struct TreeReader<'a> {
    store: &'a dyn LogStore,
    reach: Reach,
    /// The leaves after those in tiles, with the indexes of their frames.
    tail: Leaves,
    /// Tiles that were read.
    tiles: BTreeMap<(u32, u64), Vec<Hash>>,
}

impl<'a> TreeReader<'a> {
    /// The tree of a log.
    ///
    /// # Errors
    /// When the log cannot be read, or too much of the tree is missing.
    pub fn open(store: &'a dyn LogStore) -> Result<Self, TreeError> {
        let reach = store.tiles_reach()?;
        let tail = leaves(store, reach.next, u64::MAX, TAIL_MAX + 1)?;
        if tail.len() > TAIL_MAX {
            return Err(TreeError::Behind { made: reach.leaves });
        }
        Ok(Self { store, reach, tail, tiles: BTreeMap::new() })
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.reach.leaves + self.tail.len() as u64
    }

    /// The leaf number of the frame at this index; `None` if there is no frame there.
    ///
    /// # Errors
    /// When the tree is damaged or cannot be read.
    pub fn leaf_of(&self, index: u64) -> Result<Option<u64>, LogError> {
        if index >= self.reach.next {
            let place = self.tail.binary_search_by_key(&index, |(index, _)| *index);
            return Ok(place.ok().map(|place| self.reach.leaves + place as u64));
        }
        // The last tile whose first frame is not after it.
        let (mut low, mut high) = (0, self.reach.leaves / TILE);
        while high - low > 1 {
            let middle = low.midpoint(high);
            let first = self.indexes(middle)?[0];
            if first <= index { low = middle } else { high = middle }
        }
        Ok(self.indexes(low)?.binary_search(&index).ok().map(|place| low * TILE + place as u64))
    }

    /// The index of the frame with this leaf number; `None` if there is no such leaf.
    ///
    /// # Errors
    /// When the tree is damaged or cannot be read.
    pub fn index_of(&self, leaf: u64) -> Result<Option<u64>, LogError> {
        if let Some(place) = leaf.checked_sub(self.reach.leaves) {
            return Ok(self.tail.get(place as usize).map(|(index, _)| *index));
        }
        Ok(Some(self.indexes(leaf / TILE)?[(leaf % TILE) as usize]))
    }

    fn indexes(&self, number: u64) -> Result<Vec<u64>, LogError> {
        let indexes = self.store.tile_indexes(number)?;
        if indexes.len() as u64 == TILE {
            Ok(indexes)
        } else {
            Err(damaged(number, "a list of indexes is missing".to_owned()))
        }
    }

    /// Hashes of a tile.
    fn hashes(&mut self, level: u32, number: u64, from: usize, count: usize) -> Result<&[Hash], LogError> {
        let tile = match self.tiles.entry((level, number)) {
            std::collections::btree_map::Entry::Occupied(read) => read.into_mut(),
            std::collections::btree_map::Entry::Vacant(unread) => unread.insert(self.store.tile(level, number)?),
        };
        tile.get(from..from + count).ok_or_else(|| damaged(number, format!("a tile of level {level} is not whole")))
    }
}

impl Nodes for TreeReader<'_> {
    type Error = LogError;

    fn node(&mut self, level: u32, number: u64) -> Result<Hash, LogError> {
        if number < self.reach.leaves >> level {
            let tile_level = level / TILE_LEVELS;
            let count = 1_u64 << (level % TILE_LEVELS);
            let first = number * count;
            let hashes = self.hashes(tile_level, first / TILE, (first % TILE) as usize, count as usize)?;
            return Ok(root_of(hashes));
        }
        if level == 0 {
            let place = (number - self.reach.leaves) as usize;
            let leaf = self.tail.get(place).map(|(_, leaf)| *leaf);
            return leaf.ok_or_else(|| damaged(number, "the tree has no such leaf".to_owned()));
        }
        Ok(tree::parent(&self.node(level - 1, number * 2)?, &self.node(level - 1, number * 2 + 1)?))
    }
}

#[cfg(test)]
mod tests;
