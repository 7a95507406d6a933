//! The contract of every log, tested on RocksDB and in memory.

use std::thread;

use bytes::Bytes;

use super::chain::Chain;
use super::disk::{Change, Disk, Durability, Key, Table};
use super::entry::{AppliedFrame, FrameLink, HardState, Membership};
use super::fixtures::{entry, fill, frame, frames, on_both};
use super::{
    CheckpointHead, HistoryReader, LogError, LogStore, MemoryDisk, MemoryStore, PageSize, Verified, verify_all,
};

mod secrets;

fn damaged_at(result: Result<impl std::fmt::Debug, LogError>) -> (Table, u64) {
    match result {
        Err(error @ LogError::Damaged { table, index, .. }) => {
            let is_cache = table.is_cache();
            assert!(error.hint().contains(if is_cache { "start swarmd again" } else { "swarmd replay --state-dir" }));
            assert!(error.to_string().contains(&index.to_string()));
            (table, index)
        }
        other => panic!("expected damage, got {other:?}"),
    }
}

/// Bytes as the chunks of a checkpoint.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    bytes.chunks(1024 * 1024).map(<[u8]>::to_vec)
}

fn checkpoint(store: &dyn LogStore, index: u64) {
    store
        .save_checkpoint(CheckpointHead { index, term: 1, frame_hash: [1; 32] }, &mut pieces(&index.to_be_bytes()))
        .unwrap();
}

fn all_history(store: &dyn LogStore) -> Vec<u64> {
    store.history(0, usize::MAX, usize::MAX).unwrap().into_iter().map(|(index, _)| index).collect()
}

#[test]
fn a_log_begins_once() {
    on_both(|machine| {
        let store = machine.open();
        assert_eq!(store.load().unwrap().membership, None);
        store.initialize(&Membership::single(5)).unwrap();
        assert!(matches!(store.initialize(&Membership::single(6)), Err(LogError::Initialized)));
        drop(store);
        let store = machine.open();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.membership, Some(Membership::single(5)));
        assert_eq!((loaded.first_index, loaded.last_index, loaded.applied), (2, 1, 1));
        assert_eq!(loaded.hard_state, HardState { term: 1, vote: 0, commit: 1 });
        assert_eq!((loaded.last_frame, loaded.checkpoint, loaded.repaired_from), (None, None, None));
    });
}

#[test]
fn entries_are_there_again_after_a_restart() {
    on_both(|machine| {
        let store = machine.start();
        let hard_state = HardState { term: 3, vote: 1, commit: 4 };
        let entries: Vec<_> = (2..8).map(|index| entry(index, index / 2, &format!("entry {index}"))).collect();
        let check = |store: &dyn LogStore| {
            assert_eq!((store.first_index(), store.last_index()), (2, 7));
            assert_eq!(store.entries(2, 8, u64::MAX).unwrap(), entries);
            assert_eq!(store.entries(4, 7, 14).unwrap(), entries[2..4]);
            assert_eq!(store.entries(4, 7, 0).unwrap(), entries[2..3]);
            assert_eq!(store.entries(4, 4, 0).unwrap(), []);
            assert_eq!(
                [0, 1, 2, 7, 8].map(|index| store.term(index).unwrap()),
                [None, Some(1), Some(1), Some(3), None]
            );
        };
        store.append(entries.clone(), Some(hard_state), true).unwrap();
        check(&*store);
        drop(store);
        let store = machine.open();
        assert_eq!(store.load().unwrap().hard_state, hard_state);
        check(&*store);
    });
}

#[test]
fn a_new_leaders_entries_replace_the_old_ones() {
    on_both(|machine| {
        let store = machine.start();
        let state = Some(HardState { term: 2, vote: 0, commit: 3 });
        store.append((2..10).map(|index| entry(index, 1, "old")).collect(), state, true).unwrap();
        store.append(vec![entry(5, 2, "new"), entry(6, 2, "new")], None, true).unwrap();
        drop(store);
        let store = machine.open();
        assert_eq!(store.load().unwrap().last_index, 6);
        let terms: Vec<_> = store.entries(2, 7, u64::MAX).unwrap().iter().map(|entry| entry.term).collect();
        assert_eq!(terms, [1, 1, 1, 2, 2]);
    });
}

#[test]
fn entries_and_frames_out_of_order_are_refused() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 10);
        for refused in [vec![entry(11, 1, "gap")], vec![entry(1, 1, "cut")], vec![entry(10, 1, "a"), entry(12, 1, "b")]]
        {
            assert!(matches!(store.append(refused, None, true), Err(LogError::OutOfOrder { .. })));
        }
        let unchained = AppliedFrame { index: 10, bytes: frame(10, None, 0), secrets: Vec::new() };
        store.append(vec![entry(10, 1, "change")], None, true).unwrap();
        assert!(matches!(store.apply(&[unchained], 10), Err(LogError::Unchained { index: 10, .. })));
        assert!(matches!(store.apply(&[], 11), Err(LogError::OutOfOrder { index: 11, .. })));
        assert!(matches!(store.apply(&[], 8), Err(LogError::OutOfOrder { index: 8, .. })));
        assert_eq!((store.last_index(), store.frame_before(u64::MAX).unwrap().map(|(index, _)| index)), (10, Some(9)));
    });
}

#[test]
fn history_is_read_in_pages() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 30);
        let pages = |frames_max, bytes_max| {
            let page = store.history(5, frames_max, bytes_max).unwrap();
            page.into_iter().map(|(index, _)| index).collect::<Vec<_>>()
        };
        assert_eq!(pages(3, usize::MAX), [5, 6, 7]);
        assert_eq!(pages(usize::MAX, 0), [5]);
        assert_eq!(pages(usize::MAX, 600).len(), 3);
        assert_eq!(pages(usize::MAX, usize::MAX), (5..30).collect::<Vec<_>>());
        assert!(store.history(30, 1, 1).unwrap().is_empty());
        assert_eq!(store.history(2, 28, usize::MAX).unwrap()[27].1, frames(None, 2, 30)[27].bytes);
    });
}

#[test]
fn the_frame_before_an_index_is_found_written_or_staged() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 10);
        store.append((10..14).map(|index| entry(index, 1, "change")).collect(), None, true).unwrap();
        // An entry without a frame is between them.
        let staged = frames(store.applied().unwrap().frame, 11, 14);
        assert!(!store.writes_wait());
        let write = store.stage_apply(staged.clone(), 13).unwrap();
        assert!(store.writes_wait());
        let before = |index| store.frame_before(index).unwrap();
        let indices = || [0, 2, 3, 10, 11, 12, u64::MAX].map(|index| before(index).map(|(index, _)| index));
        let expected = [None, None, Some(2), Some(9), Some(9), Some(11), Some(13)];
        assert_eq!(indices(), expected);
        store.write(vec![write]).unwrap();
        assert!(!store.writes_wait());
        assert_eq!(indices(), expected);
        let write = store.stage_append(vec![entry(14, 1, "change")], None, true).unwrap();
        assert!(store.writes_wait());
        store.write(vec![write]).unwrap();
        assert!(!store.writes_wait());
        assert_eq!(before(13).unwrap().1, staged[1].bytes);
    });
}

#[test]
fn history_is_read_while_it_is_written() {
    on_both(|machine| {
        let store = machine.start();
        let reader = store.clone();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut last = 0;
                while last < 399 {
                    let mut chain = Chain::after(None);
                    for (index, stored) in reader.history(0, usize::MAX, usize::MAX).unwrap() {
                        chain.follow(index, &stored).unwrap();
                    }
                    let now = chain.last().map_or(0, |frame| frame.index);
                    assert!(now >= last, "history went back from {last} to {now}");
                    last = now;
                }
            });
            for to in (20..=400).step_by(20) {
                fill(&*store, to);
            }
        });
    });
}

#[test]
fn checkpoints_come_back_and_two_are_kept() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 60);
        let large: Vec<u8> = (0..2_500_000_u32).map(|at| at.to_le_bytes()[1]).collect();
        let heads = [20, 30, 40].map(|index| CheckpointHead { index, term: 1, frame_hash: [index as u8; 32] });
        for head in heads {
            store.save_checkpoint(head, &mut pieces(&large)).unwrap();
        }
        // Again, but shorter, as after a start that repeats it.
        store.save_checkpoint(heads[2], &mut pieces(&large[..1_500_000])).unwrap();
        drop(store);
        let store = machine.open();
        assert_eq!(store.load().unwrap().checkpoint, Some(40));
        let newest = store.whole_checkpoint(u64::MAX).unwrap().unwrap();
        assert_eq!((newest.head, newest.chunks.concat().len()), (heads[2], 1_500_000));
        drop(store);

        machine.flip_bit(Table::Checkpoint, 40);
        let store = machine.open();
        store.load().unwrap();
        let older = store.whole_checkpoint(u64::MAX).unwrap().unwrap();
        assert!(older.head == heads[1] && older.chunks.concat() == large);
        drop(store);

        // One that is kept for reads of the past can be used as well.
        machine.flip_bit(Table::Checkpoint, 30);
        let store = machine.open();
        store.load().unwrap();
        assert_eq!(store.whole_checkpoint(u64::MAX).unwrap().unwrap().head, heads[0]);
        drop(store);

        machine.flip_bit(Table::Checkpoint, 20);
        let store = machine.open();
        store.load().unwrap();
        assert_eq!(damaged_at(store.whole_checkpoint(u64::MAX)), (Table::Checkpoint, 40));
    });
}

#[test]
fn a_checkpoint_without_all_its_parts_is_not_used() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 10);
        let head = CheckpointHead { index: 5, term: 1, frame_hash: [0; 32] };
        store.save_checkpoint(head, &mut pieces(&[1; 3_000_000])).unwrap();
        drop(store);
        machine.tamper(&|_| {
            let from = Key { index: 5, part: 2 };
            vec![Change::DeleteRange { table: Table::Checkpoint, from, to: Key { index: 5, part: 3 } }]
        });
        let store = machine.open();
        store.load().unwrap();
        assert_eq!(damaged_at(store.whole_checkpoint(u64::MAX)), (Table::Checkpoint, 5));
    });
}

#[test]
fn entries_are_cut_only_under_every_checkpoint() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 60);
        assert_eq!(store.compact(50).unwrap(), 2);
        checkpoint(&*store, 40);
        assert_eq!(store.compact(50).unwrap(), 41);
        assert_eq!(store.compact(30).unwrap(), 41);
        checkpoint(&*store, 55);
        assert_eq!(store.compact(59).unwrap(), 41, "a start may have to fall back to the older one");
        drop(store);
        let store = machine.open();
        let loaded = store.load().unwrap();
        assert_eq!((loaded.first_index, loaded.last_index, loaded.applied), (41, 59, 59));
        assert_eq!([39, 40, 41].map(|index| store.term(index).unwrap()), [None, Some(1), Some(1)]);
        assert_eq!(damaged_at(store.entries(40, 50, u64::MAX)), (Table::Raft, 40));
        assert_eq!(all_history(&*store), (2..60).collect::<Vec<_>>());
        fill(&*store, 70);
        assert_eq!(store.last_index(), 69);
    });
}

#[test]
fn a_torn_tail_of_history_is_cut_and_applied_again() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 60);
        drop(store);
        machine.flip_bit(Table::History, 58);
        machine.flip_bit(Table::History, 59);
        let store = machine.open();
        let loaded = store.load().unwrap();
        assert_eq!((loaded.applied, loaded.last_index, loaded.repaired_from), (57, 59, Some(58)));
        assert_eq!(loaded.last_frame.map(|frame| frame.index), Some(57));
        store.apply(&frames(loaded.last_frame, 58, 60), 59).unwrap();
        drop(store);
        let store = machine.open();
        let loaded = store.load().unwrap();
        assert_eq!((loaded.applied, loaded.repaired_from), (59, None));
        assert_eq!(verify_all::<LogError>(&*store, |_, _| Ok(())).unwrap().frames, 58);
    });
}

#[test]
fn a_lost_tail_of_history_is_applied_again() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 60);
        checkpoint(&*store, 55);
        drop(store);
        machine.remove_from(Table::History, 50);
        let store = machine.open();
        let loaded = store.load().unwrap();
        assert_eq!((loaded.applied, loaded.repaired_from), (49, Some(50)));
        // It was ahead of the remaining history, so nothing could be folded onto it.
        assert_eq!(loaded.checkpoint, None);
    });
}

#[test]
fn a_torn_tail_that_nothing_repeats_is_refused() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 60);
        checkpoint(&*store, 59);
        store.compact(59).unwrap();
        drop(store);
        machine.flip_bit(Table::History, 58);
        machine.flip_bit(Table::History, 59);
        assert_eq!(damaged_at(machine.open().load()), (Table::History, 58));
    });
}

#[test]
fn the_size_of_history_is_known_as_it_grows() {
    on_both(|machine| {
        let store = machine.start();
        let empty = store.table_bytes(Table::History).unwrap();
        // Each frame has more than 100 bytes, and sealed data does not compress.
        for frames in [1_200_u64, 12_000] {
            fill(&*store, frames);
            assert!(store.table_bytes(Table::History).unwrap() >= empty + frames * 100, "{frames} frames");
        }
    });
}

#[test]
fn damage_within_history_is_refused_and_named() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 1_200);
        drop(store);
        machine.flip_bit(Table::History, 700);
        let store = machine.open();
        assert_eq!(damaged_at(store.load()), (Table::History, 700));
        let mut read = 0;
        let whole = verify_all::<LogError>(&*store, |index, _| {
            read = index;
            Ok(())
        });
        assert_eq!(damaged_at(whole), (Table::History, 700));
    });
}

#[test]
fn a_missing_frame_is_refused_and_named() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 60);
        drop(store);
        machine.tamper(&|_| vec![Change::DeleteRange { table: Table::History, from: Key::at(30), to: Key::at(31) }]);
        assert_eq!(damaged_at(machine.open().load()), (Table::History, 31));
    });
}

#[test]
fn old_damage_is_found_by_the_full_verification() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 1_200);
        let expected = Verified { frames: 1_198, bytes: store_bytes(&*store), last: store.applied().unwrap().frame };
        assert_eq!(verify_all::<LogError>(&*store, |_, _| Ok(())).unwrap(), expected);
        drop(store);
        machine.flip_bit(Table::History, 100);
        let store = machine.open();
        assert_eq!(store.load().unwrap().applied, 1_199);
        assert_eq!(damaged_at(verify_all::<LogError>(&*store, |_, _| Ok(()))), (Table::History, 100));
    });
}

fn store_bytes(store: &dyn LogStore) -> u64 {
    store.history(0, usize::MAX, usize::MAX).unwrap().iter().map(|(_, bytes): &(u64, Bytes)| bytes.len() as u64).sum()
}

#[test]
fn damaged_entries_and_records_are_refused_and_named() {
    for (table, index) in [(Table::Raft, 20), (Table::Meta, 1), (Table::Meta, 2), (Table::Meta, 3), (Table::Meta, 4)] {
        on_both(|machine| {
            let store = machine.start();
            fill(&*store, 30);
            drop(store);
            machine.flip_bit(table, index);
            assert_eq!(damaged_at(machine.open().load()), (table, index));
        });
    }
}

#[test]
fn a_log_that_lost_its_end_is_refused() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 30);
        store.append(vec![entry(30, 1, "change")], Some(HardState { term: 1, vote: 1, commit: 30 }), true).unwrap();
        drop(store);
        machine.remove_from(Table::Raft, 30);
        let refused = machine.open().load();
        assert!(matches!(refused, Err(LogError::Shortened { last: 29, known: 30, witness: "commit index" })));
        machine.remove_from(Table::Raft, 25);
        assert!(matches!(machine.open().load(), Err(LogError::Shortened { last: 24, .. })));
    });
}

#[test]
fn a_log_that_lost_all_is_refused() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 30);
        drop(store);
        for table in Table::ALL {
            machine.remove_from(table, 0);
        }
        let refused = machine.open().load();
        assert!(matches!(refused, Err(LogError::Shortened { last: 0, known: 29, witness: "high-water mark" })));
    });
}

#[test]
fn a_value_from_another_place_is_damage() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 30);
        drop(store);
        machine.tamper(&|disk| {
            let value = disk.get(Table::Raft, Key::at(10)).unwrap().unwrap();
            vec![Change::Put { table: Table::Raft, key: Key::at(11), value }]
        });
        assert_eq!(damaged_at(machine.open().load()), (Table::Raft, 11));
    });
}

#[test]
fn a_torn_entry_is_refused_and_named() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 30);
        drop(store);
        machine.tamper(&|disk| {
            let (table, key) = (Table::Raft, Key::at(29));
            let mut value = disk.get(table, key).unwrap().unwrap();
            value.truncate(value.len() / 2);
            vec![Change::Put { table, key, value }]
        });
        assert_eq!(damaged_at(machine.open().load()), (Table::Raft, 29));
    });
}

#[test]
fn a_torn_checkpoint_is_damage_and_the_start_continues() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 30);
        checkpoint(&*store, 20);
        drop(store);
        for part in 0..2 {
            machine.tamper(&|disk| {
                let (table, key) = (Table::Checkpoint, Key { index: 20, part });
                let mut value = disk.get(table, key).unwrap().unwrap();
                value.truncate(value.len() / 2);
                vec![Change::Put { table, key, value }]
            });
            let store = machine.open();
            assert_eq!(store.load().unwrap().applied, 29, "history is whole without it");
            assert_eq!(damaged_at(store.whole_checkpoint(u64::MAX)), (Table::Checkpoint, 20));
        }
    });
}

#[test]
fn a_reader_notices_what_is_missing_or_older_than_what_was_applied() {
    let expect = |change: Change, index: u64| {
        let disk = MemoryDisk::default();
        let store = MemoryStore::open(&disk).unwrap();
        store.load().unwrap();
        store.initialize(&Membership::single(1)).unwrap();
        fill(&store, 20);
        disk.write(vec![change], Durability::Synced).unwrap();
        // All at once, and page by page.
        for frames in [100, 3] {
            let mut reader = HistoryReader::after(None);
            let size = PageSize { frames, bytes: usize::MAX };
            let reported = std::iter::repeat_with(|| reader.page(&store, u64::MAX, size)).find(|page| {
                let Ok(page) = page else { return true };
                assert!(!page.is_empty(), "nothing was noticed");
                false
            });
            assert_eq!(damaged_at(reported.unwrap()), (Table::History, index));
        }
    };
    let gone = |from, to| Change::DeleteRange { table: Table::History, from: Key::at(from), to };
    expect(gone(10, Key::at(11)), 11);
    expect(gone(15, Key::MAX), 15);
    // What another manager sealed with the same key: a frame with the same index in another chain.
    let other = MemoryStore::open(&MemoryDisk::default()).unwrap();
    for index in [12, 19] {
        let previous = Some(FrameLink { index: index - 1, hash: [7; 32] });
        expect(other.put(Table::History, Key::at(index), &[], &frame(index, previous, 100)).unwrap(), index);
    }
}
