//! Commands that took effect, so that a repeated one gets the first answer instead of a second effect.
//!
//! There are many and they are immutable, so they are stored in blocks: the newest ones in a tree, older ones in sorted arrays
//! without overhead. The oldest block is dropped as a whole. Most commands are submitted once, so that most lookups find nothing:
//! a filter over all blocks returns those that may contain a command.

use std::sync::Arc;

use events::{ActorRecord, CommandId, CommandRecord, Id};
use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::Stamp;

/// Maximum number of recorded commands; the oldest are dropped first. At a thousand commands a second this is a minute.
pub const REQUESTS_MAX: usize = 65_536;
/// Commands in a block: those that are dropped together.
const BLOCK: usize = 2_048;
/// Full blocks that are kept beside the one being filled.
const BLOCKS_MAX: usize = REQUESTS_MAX / BLOCK - 1;

/// The actor (by hash) and the id that it gave.
pub(crate) type Key = (u64, CommandId);

/// The answers of the last commands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Requests {
    /// Full blocks, the oldest first, each in the order of its keys.
    blocks: Vector<Arc<[(Key, StoredAnswer)]>>,
    filter: Filter,
    /// The newest answers.
    open: OrdMap<Key, StoredAnswer>,
    newest: Option<Key>,
}

/// A Bloom filter for all full blocks at once: for each of a key's bits, which blocks have it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Filter(Arc<Vec<u32>>);

/// Bits of the filter, sixteen for each key of a block: one of four hundred blocks without a key is searched unnecessarily. Over
/// all blocks, this affects one in fourteen commands.
const FILTER_BITS: usize = BLOCK * 16;
/// Bits of a key.
const KEY_BITS: usize = 4;
const _: () = assert!(BLOCKS_MAX < u32::BITS as usize, "a block is a bit");

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Index of the frame that holds its events.
    pub index: u64,
    /// Id of the object that was created or changed.
    pub subject: Option<String>,
}

/// An answer in its stored form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredAnswer {
    index: u64,
    subject: Subject,
}

/// The object that was created or changed: usually one with an id, of any noun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Subject {
    None,
    Id(CommandId),
    Text(Box<str>),
}

impl Requests {
    /// The answer that this actor got for this command, if it took effect recently enough.
    pub fn answer(&self, actor: &ActorRecord, id: CommandId) -> Option<Answer> {
        let key = key(actor, id);
        let open = self.open.get(&key).map(StoredAnswer::answer);
        open.or_else(|| {
            let mut blocks = self.filter.blocks_that_may_have(&key).filter_map(|block| self.blocks.get(block));
            blocks.find_map(|block| {
                let position = block.binary_search_by_key(&key, |(key, _)| *key).ok()?;
                Some(block[position].1.answer())
            })
        })
    }

    /// Records the commands of a frame. A zero id is no id: reports of nodes are harmless to repeat.
    pub(crate) fn remember(&mut self, command: &CommandRecord, at: &Stamp) {
        if command.id == CommandId::default() {
            return;
        }
        let stored = StoredAnswer { index: at.index, subject: Subject::of(command.subject.as_deref()) };
        self.insert(key(&command.actor, command.id), stored);
    }

    /// Adds an answer as the newest.
    pub(crate) fn insert(&mut self, key: Key, stored: StoredAnswer) {
        self.open.insert(key, stored);
        self.newest = Some(key);
        if self.open.len() == BLOCK {
            if self.blocks.len() == BLOCKS_MAX {
                self.blocks.pop_front();
                self.filter.forget_first();
            }
            self.filter.add(self.blocks.len(), self.open.keys());
            self.blocks.push_back(std::mem::take(&mut self.open).into_iter().collect());
        }
    }

    /// The answers, block by block: inserting them in this order gives the same blocks and the same newest answer.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &StoredAnswer)> {
        let last = if self.open.is_empty() { BLOCK } else { self.open.len() };
        let older = (self.blocks.len() * BLOCK + self.open.len()).saturating_sub(last);
        let rows = || {
            let full = self.blocks.iter().flat_map(|block| block.iter().map(|(key, stored)| (*key, stored)));
            full.chain(self.open.iter().map(|(key, stored)| (*key, stored)))
        };
        let newest = move |(key, _): &(Key, &StoredAnswer)| Some(*key) == self.newest;
        let others = rows().skip(older).filter(move |row| !newest(row));
        rows().take(older).chain(others).chain(rows().skip(older).filter(newest))
    }

    /// The newest recorded command, which represents all of them in the state hash.
    pub(crate) fn newest(&self) -> Option<(u64, u128)> {
        self.newest.map(|(actor, id)| (actor, id.bits()))
    }
}

impl Filter {
    /// Adds the keys of a block.
    fn add<'a>(&mut self, block: usize, keys: impl Iterator<Item = &'a Key>) {
        let masks = Arc::make_mut(&mut self.0);
        masks.resize(FILTER_BITS, 0);
        for bit in keys.flat_map(Self::bits) {
            masks[bit] |= 1 << block;
        }
    }

    /// Removes the first block; the second one becomes the first.
    fn forget_first(&mut self) {
        Arc::make_mut(&mut self.0).iter_mut().for_each(|mask| *mask >>= 1);
    }

    /// All blocks that contain a key, and few others.
    fn blocks_that_may_have(&self, key: &Key) -> impl Iterator<Item = usize> + use<> {
        let blocks =
            Self::bits(key).map(|bit| self.0.get(bit).copied().unwrap_or(0)).into_iter().fold(u32::MAX, |a, b| a & b);
        (0..u32::BITS).filter(move |block| blocks >> block & 1 == 1).map(|block| block as usize)
    }

    /// Ids are random unless a client chooses them; a client that chooses them badly slows down its own commands.
    fn bits((actor, id): &Key) -> [usize; KEY_BITS] {
        let id = id.bits();
        // The golden ratio's bits spread the lower ones of an id over the upper ones of the product.
        let mixed = ((id >> 64) as u64 ^ id as u64 ^ actor).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        [49, 34, 19, 4].map(|shift| (mixed >> shift) as usize % FILTER_BITS)
    }
}

impl StoredAnswer {
    fn answer(&self) -> Answer {
        Answer { index: self.index, subject: self.subject.text() }
    }
}

impl Subject {
    fn of(text: Option<&str>) -> Self {
        match text {
            None => Self::None,
            Some(text) => text.parse().map_or_else(|_| Self::Text(text.into()), Self::Id),
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Id(id) => Some(id.to_string()),
            Self::Text(text) => Some(text.to_string()),
        }
    }
}

fn key(actor: &ActorRecord, id: CommandId) -> Key {
    let kind: i32 = actor.kind;
    (xxh3_64(format!("{kind} {}", actor.subject).as_bytes()), id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::{ActorKind, ServiceId, Timestamp};

    fn record(subject: &str, id: u128) -> CommandRecord {
        CommandRecord {
            id: CommandId::from_bits(id),
            kind: "service.create".to_owned(),
            actor: ActorRecord { kind: ActorKind::Operator.into(), subject: subject.to_owned(), via: None },
            subject: Some("s".to_owned()),
            ..Default::default()
        }
    }

    fn at(index: u64) -> Stamp {
        Stamp { index, time: Timestamp::default() }
    }

    /// This many commands with unordered ids, each in the frame with its number.
    fn remembered(commands: usize) -> Requests {
        let mut requests = Requests::default();
        for number in 1..=commands {
            requests.remember(&record("root", shuffled(number)), &at(number as u64));
        }
        requests
    }

    fn shuffled(number: usize) -> u128 {
        (number as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }

    #[test]
    fn the_oldest_are_forgotten_at_the_bound_and_all_others_are_found() {
        let actor = record("root", 1).actor;
        for commands in [1, BLOCK - 1, BLOCK, BLOCK + 1, REQUESTS_MAX - 1, REQUESTS_MAX, REQUESTS_MAX + 1] {
            let requests = remembered(commands);
            let forgotten = if commands < REQUESTS_MAX { 0 } else { BLOCK };
            let edges = [1, BLOCK, BLOCK + 1, commands].into_iter().filter(|number| *number <= commands);
            for number in edges.chain((1..=commands).step_by(97)) {
                let answer = requests.answer(&actor, CommandId::from_bits(shuffled(number)));
                let expected = (number > forgotten).then_some(number as u64);
                assert_eq!(answer.map(|answer| answer.index), expected, "command {number} of {commands}");
            }
            assert_eq!(requests.newest().map(|(_, id)| id), Some(shuffled(commands)));
        }
    }

    #[test]
    fn a_filter_names_the_blocks_of_a_key_and_few_others() {
        let keys = |block: usize| {
            (block * BLOCK..(block + 1) * BLOCK)
                .map(|number| (7, CommandId::from_bits(shuffled(number))))
                .collect::<Vec<_>>()
        };
        let mut filter = Filter::default();
        assert_eq!(filter.blocks_that_may_have(&keys(0)[0]).count(), 0);
        (0..BLOCKS_MAX).for_each(|block| filter.add(block, keys(block).iter()));
        filter.forget_first();
        let has = |block: usize| {
            keys(block + 1).iter().all(|key| filter.blocks_that_may_have(key).any(|other| other == block))
        };
        assert!((0..BLOCKS_MAX - 1).all(has));
        let others: usize = keys(BLOCKS_MAX).iter().map(|key| filter.blocks_that_may_have(key).count()).sum();
        assert!(others < BLOCK * BLOCKS_MAX / 40, "{others} of {BLOCK} keys");
    }

    #[test]
    fn a_full_memory_takes_four_mebibytes() {
        let rows = BLOCKS_MAX * BLOCK * size_of::<(Key, StoredAnswer)>() + FILTER_BITS * size_of::<u32>();
        // A row of a tree takes up to three times its size: nodes are a third full in the worst case.
        let open = BLOCK * 3 * size_of::<(Key, StoredAnswer)>();
        assert!(rows + open <= 4 << 20, "{rows} and {open} bytes");
    }

    #[test]
    fn answers_inserted_in_their_order_are_the_same_in_every_part() {
        for commands in [0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7, REQUESTS_MAX + 3 * BLOCK] {
            let requests = remembered(commands);
            let mut again = Requests::default();
            requests.iter().for_each(|(key, stored)| again.insert(key, stored.clone()));
            assert!(again == requests, "{commands} commands");
        }
    }

    #[test]
    fn a_subject_is_answered_as_it_was_given() {
        let id = ServiceId::from_bits(u128::MAX).to_string();
        let longer = format!("{id}0");
        let upper = id.to_uppercase();
        for subject in [None, Some(""), Some("worker"), Some(&*id), Some(&*longer), Some(&*upper)] {
            let mut requests = Requests::default();
            let command = CommandRecord { subject: subject.map(str::to_owned), ..record("root", 7) };
            requests.remember(&command, &at(1));
            let answer = requests.answer(&command.actor, command.id);
            assert_eq!(answer, Some(Answer { index: 1, subject: subject.map(str::to_owned) }));
        }
    }

    #[test]
    fn another_actor_with_the_same_id_is_another_command() {
        let mut requests = Requests::default();
        requests.remember(&record("root", 7), &at(1));
        assert!(requests.answer(&record("root", 7).actor, CommandId::from_bits(7)).is_some());
        assert!(requests.answer(&record("eve", 7).actor, CommandId::from_bits(7)).is_none());
    }
}
