//! How a log starts from a state that another manager offers: the fetched history does not count before one write, and all of it
//! counts after that.

use bytes::Bytes;
use events::VolatilePayload;

use super::fixtures::{Machine, MemoryMachine, apply_secrets, entry, fill, frames, on_both};
use super::memory::{Crash, MemoryDisk};
use super::{AppliedFrame, HardState, Install, LogError, LogStore, Membership};

const TERM: u64 = 4;
/// The state's last frame.
const LAST: u64 = 19;

fn history(store: &dyn LogStore) -> Vec<u64> {
    store.history(0, usize::MAX, usize::MAX).unwrap().into_iter().map(|(index, _)| index).collect()
}

/// The frames that lead from the end of a log to the state.
fn missing(store: &dyn LogStore) -> Vec<(u64, Bytes)> {
    let applied = store.applied().unwrap();
    let frames = frames(applied.frame, applied.index.max(1) + 1, LAST + 1);
    frames.into_iter().map(|AppliedFrame { index, bytes, .. }| (index, bytes)).collect()
}

fn secrets() -> Vec<VolatilePayload> {
    vec![VolatilePayload::keep("of the state", b"value")]
}

fn install() -> Install {
    Install { index: LAST, term: TERM, secrets: secrets(), permits: Default::default() }
}

fn begin_with_state(store: &dyn LogStore) -> Result<(), LogError> {
    let missing = missing(store);
    let (first, second) = missing.split_at(missing.len() / 2);
    for page in [first, second] {
        store.write(vec![store.stage_fetched(page.to_vec())?])?;
    }
    let hard_state = HardState { term: TERM, vote: 0, commit: LAST };
    store.write(vec![store.stage_install(install(), vec![entry(LAST + 1, TERM, "next")], Some(hard_state))?])
}

#[test]
fn fetched_history_counts_with_the_state_that_it_leads_to_and_not_before() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 9);
        apply_secrets(&*store, vec![VolatilePayload::keep("of before", b"value")]);
        let before: Vec<u64> = (2..10).collect();
        let fetched = store.stage_fetched(missing(&*store)).unwrap();
        for written in [None, Some(fetched)] {
            store.write(written.into_iter().collect()).unwrap();
            assert_eq!((history(&*store), store.fetched().map(|last| last.index)), (before.clone(), Some(LAST)));
            assert_eq!(store.frame_before(u64::MAX).unwrap().map(|(index, _)| index), Some(9));
        }
        drop(store);
        let store = machine.open();
        let loaded = store.load().unwrap();
        assert_eq!((loaded.applied, history(&*store), store.fetched()), (9, before, None));
        begin_with_state(&*store).unwrap();
        let check = |store: &dyn LogStore| {
            assert_eq!(history(store), (2..=LAST).collect::<Vec<_>>());
            assert_eq!((store.first_index(), store.last_index()), (LAST + 1, LAST + 1));
            assert_eq!([9, LAST, LAST + 1].map(|index| store.term(index).unwrap()), [None, Some(TERM), Some(TERM)]);
            assert_eq!(store.keyring().unwrap(), secrets());
        };
        check(&*store);
        drop(store);
        let store = machine.open();
        let loaded = store.load().unwrap();
        assert_eq!((loaded.applied, loaded.hard_state.term, loaded.repaired_from), (LAST, TERM, None));
        check(&*store);
        // And the log continues.
        apply_secrets(&*store, Vec::new());
        assert_eq!(history(&*store).last(), Some(&(LAST + 2)));
    });
}

#[test]
fn an_entry_that_is_applied_after_all_discards_what_was_fetched() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 10);
        store.write(vec![store.stage_fetched(missing(&*store)).unwrap()]).unwrap();
        apply_secrets(&*store, Vec::new());
        let expected: Vec<u64> = (2..11).collect();
        assert_eq!((history(&*store), store.fetched()), (expected.clone(), None));
        drop(store);
        let store = machine.open();
        assert_eq!((store.load().unwrap().applied, history(&*store)), (10, expected));
    });
}

#[test]
fn what_does_not_follow_is_not_fetched_and_a_state_needs_all_of_its_history() {
    on_both(|machine| {
        let store = machine.start();
        fill(&*store, 10);
        let mut gap = missing(&*store);
        gap.remove(1);
        assert!(matches!(store.stage_fetched(gap), Err(LogError::Unchained { .. })));
        assert!(matches!(store.stage_fetched(Vec::new()), Err(LogError::OutOfOrder { .. })));
        assert!(matches!(store.stage_install(install(), Vec::new(), None), Err(LogError::OutOfOrder { .. })));
        let some = missing(&*store).into_iter().take(3).collect();
        store.write(vec![store.stage_fetched(some).unwrap()]).unwrap();
        assert!(matches!(store.stage_install(install(), Vec::new(), None), Err(LogError::OutOfOrder { .. })));
        assert_eq!(store.last_index(), 9, "nothing of it was staged");
    });
}

#[test]
fn the_log_of_a_manager_that_joins_is_empty_and_begins_with_a_state() {
    on_both(|machine| {
        let store = machine.open();
        store.load().unwrap();
        store.initialize(&Membership::joining(7)).unwrap();
        drop(store);
        let store = machine.open();
        let loaded = store.load().unwrap();
        assert_eq!((loaded.first_index, loaded.last_index, loaded.applied, loaded.last_frame), (1, 0, 0, None));
        assert_eq!((loaded.hard_state, store.term(0).unwrap()), (HardState::default(), Some(0)));
        assert_eq!(loaded.membership.and_then(|members| members.own()), Some(7));
        store.write(vec![store.stage_fetched(missing(&*store)).unwrap()]).unwrap();
        assert_eq!(history(&*store), [0; 0]);
        drop(store);
        let store = machine.open();
        assert_eq!((store.load().unwrap().applied, history(&*store)), (0, vec![]));
        begin_with_state(&*store).unwrap();
        drop(store);
        let store = machine.open();
        assert_eq!((store.load().unwrap().applied, history(&*store)), (LAST, (2..=LAST).collect()));
    });
}

#[test]
fn a_crash_at_any_write_leaves_the_log_unchanged_or_started_from_the_state() {
    for crash in
        [Crash::Killed, Crash::PowerCut { kept_writes: 0 }, Crash::PowerCut { kept_writes: 1 }, Crash::TornHistory]
    {
        for writes in 0.. {
            let machine = MemoryMachine(MemoryDisk::default());
            let store = machine.start();
            fill(&*store, 10);
            store.sync().unwrap();
            machine.0.fail_after(writes);
            let ended = begin_with_state(&*store);
            drop(store);
            machine.0.crash(crash);
            let store = machine.open();
            let applied = store.load().unwrap().applied;
            assert!(
                if ended.is_ok() { applied == LAST } else { applied == 9 || applied == LAST },
                "{crash:?} {writes}"
            );
            assert_eq!(history(&*store), (2..=applied).collect::<Vec<_>>(), "{crash:?} after {writes} writes");
            assert_eq!(store.last_index(), if applied == 9 { 9 } else { LAST + 1 });
            // The offered state can still be used.
            if applied == 9 {
                begin_with_state(&*store).unwrap();
            }
            if ended.is_ok() {
                break;
            }
        }
    }
}
