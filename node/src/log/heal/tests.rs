//! Damage of every kind, healed from another log with the same history; and other managers that cannot be trusted.

use std::sync::Arc;

use super::super::disk::{Batch, Change, Disk, Key};
use super::super::fixtures::{Machine, MemoryMachine, Other, fill, frame};
use super::super::memory::{MemoryDisk, MemoryStore};
use super::super::{HistoryReader, PageSize, Scrub, Scrubbed, verify_all};
use super::*;

/// The index after the last frame of each log here.
const END: u64 = 60;

fn machine(to: u64) -> (MemoryMachine, Arc<dyn LogStore>) {
    let machine = MemoryMachine(MemoryDisk::default());
    let store = machine.start();
    fill(&*store, to);
    (machine, store)
}

/// Everything in a history.
fn contents(store: &dyn LogStore) -> Vec<(u64, Bytes)> {
    HistoryReader::after(None).page(store, u64::MAX, PageSize::WHOLE_HISTORY).unwrap()
}

/// Replaces the frame at `index` by another one, correctly sealed.
fn exchange(disk: &dyn Disk, index: u64, previous: Option<FrameLink>) -> Batch {
    let other = MemoryStore::open(&MemoryDisk::default()).unwrap();
    let _ = disk;
    vec![other.put(Table::History, Key::at(index), &[], &frame(index, previous, 5)).unwrap()]
}

/// Frame `index` of a whole history.
fn link(index: u64) -> FrameLink {
    let (_, store) = machine(END);
    let (_, stored) = store.history(index, 1, usize::MAX).unwrap().remove(0);
    FrameLink { index, hash: frame::hash(&stored) }
}

fn remove(from: u64, to: u64) -> Change {
    Change::DeleteRange { table: Table::History, from: Key::at(from), to: Key::at(to) }
}

/// Verifies everything, and heals it with this other manager's history; returns how many places were healed, and which remain
/// damaged.
fn pass(store: &dyn LogStore, other: &dyn OtherHistory) -> (u32, Vec<String>) {
    let (mut scrub, mut stays) = (Scrub::begin(events::Timestamp::default(), None), Vec::new());
    loop {
        match scrub.step(store) {
            Scrubbed::Intact(_) => {}
            Scrubbed::Absent(absent) => panic!("{absent}"),
            Scrubbed::Found(damage) => {
                if let Err(error) = scrub.heal(store, &damage, other) {
                    stays.push(error.to_string());
                    scrub.skip_damage(store, &damage);
                }
            }
            Scrubbed::Finished { healed, .. } => return (healed, stays),
        }
    }
}

#[test]
fn every_kind_of_damage_is_healed_to_the_byte() {
    type Damage = fn(&MemoryMachine);
    let cases: [(&str, u32, Damage); 9] = [
        ("a bit in the middle", 1, |machine| machine.flip_bit(Table::History, 30)),
        ("the first frame", 1, |machine| machine.flip_bit(Table::History, 2)),
        ("the last frame", 1, |machine| machine.flip_bit(Table::History, END - 1)),
        ("neighbours", 1, |machine| (20..40).for_each(|index| machine.flip_bit(Table::History, index))),
        ("two places", 2, |machine| [10, 50].into_iter().for_each(|index| machine.flip_bit(Table::History, index))),
        ("a hole", 1, |machine| machine.tamper(&|_| vec![remove(20, 40)])),
        ("the end is gone", 1, |machine| machine.tamper(&|_| vec![remove(40, END)])),
        ("a frame of another chain", 1, |machine| machine.tamper(&|disk| exchange(disk, 30, None))),
        ("a changed frame of this chain", 1, |machine| machine.tamper(&|disk| exchange(disk, 30, Some(link(29))))),
    ];
    let (_, other) = machine(END);
    for (case, healed, damage) in cases {
        let (machine, store) = machine(END);
        damage(&machine);
        assert!(verify_all::<LogError>(&*store, |_, _| Ok(())).is_err(), "{case}");
        assert_eq!(pass(&*store, &Other(Arc::clone(&other))), (healed, vec![]), "{case}");
        assert_eq!(contents(&*store), contents(&*other), "{case}");
        assert_eq!(pass(&*store, &Other(Arc::clone(&other))), (0, vec![]), "{case}: nothing is left");
    }
}

/// A manager that serves a different history from an index on.
struct ForgedHistory(Arc<dyn LogStore>, u64);

impl OtherHistory for ForgedHistory {
    fn name(&self) -> String {
        "liar".to_owned()
    }

    fn page(&self, from: u64) -> Result<Vec<(u64, Bytes)>, String> {
        let mut page = Other(Arc::clone(&self.0)).page(from)?;
        let mut previous = Some(link(self.1 - 1));
        for (index, stored) in page.iter_mut().filter(|(index, _)| *index >= self.1) {
            *stored = frame(*index, previous, 3);
            previous = Some(FrameLink { index: *index, hash: frame::hash(stored) });
        }
        Ok(page)
    }
}

#[test]
fn who_has_less_or_something_else_changes_nothing() {
    struct Silent;
    impl OtherHistory for Silent {
        fn name(&self) -> String {
            "silent".to_owned()
        }
        fn page(&self, _: u64) -> Result<Vec<(u64, Bytes)>, String> {
            Err("no route to host".to_owned())
        }
    }
    let (_, whole) = machine(END);
    let (damaged_too, same) = machine(END);
    damaged_too.flip_bit(Table::History, 30);
    let table: [(&str, Box<dyn OtherHistory>, &str); 5] = [
        ("it lags behind", Box::new(Other(machine(25).1)), "it has history up to frame"),
        ("it lacks the same", Box::new(Other(same)), "is damaged at index 30"),
        ("it changed that frame", Box::new(ForgedHistory(Arc::clone(&whole), 30)), "does not belong to this history"),
        (
            "it changed the one before",
            Box::new(ForgedHistory(Arc::clone(&whole), 29)),
            "does not belong to this history",
        ),
        ("it is away", Box::new(Silent), "no route to host"),
    ];
    for (case, other, expected) in table {
        let (machine, store) = machine(END);
        machine.flip_bit(Table::History, 30);
        let before = machine.0.get(Table::History, Key::at(30)).unwrap();
        let (healed, stays) = pass(&*store, &*other);
        assert!(healed == 0 && stays.len() == 1 && stays[0].contains(expected), "{case}: {stays:?}");
        assert_eq!(machine.0.get(Table::History, Key::at(30)).unwrap(), before, "{case}");
        assert_eq!(pass(&*store, &Other(Arc::clone(&whole))), (1, vec![]), "{case}: another one helps");
    }
}

#[test]
fn repeated_damage_of_healed_frames_is_reported_once() {
    let ((machine, store), (_, other)) = (machine(END), machine(END));
    machine.flip_bit(Table::History, 30);
    let mut scrub = Scrub::begin(events::Timestamp::default(), None);
    let Scrubbed::Found(damage) = scrub.step(&*store) else { panic!("it is damaged") };
    let other = Other(other);
    let healed = scrub.heal(&*store, &damage, &other).unwrap();
    assert_eq!(healed, Healed { first: 30, last: 30, frames: 1 });
    machine.flip_bit(Table::History, 30);
    let Scrubbed::Found(again) = scrub.step(&*store) else { panic!("it is damaged again") };
    assert!(matches!(scrub.heal(&*store, &again, &other), Err(HealError::InVain)));
}
