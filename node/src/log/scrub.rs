//! Verification of all of history while a manager runs, piece by piece: damage to frames that were not read for a long time is
//! found while a backup still has them. The caller decides when the pieces are read; progress is recorded in the log.

use events::Timestamp;
use serde::{Deserialize, Serialize};

use super::disk::Table;
use super::entry::FrameLink;
use super::heal::{DamagedRange, HealError, Healed, OtherHistory, heal, heal_archive};
use super::history::{HistoryReader, PageSize};
use super::{LogError, LogStore};

/// Bytes read at a time: few enough to leave the caches soon, and the disk's queue at once.
const PAGE: PageSize = PageSize { frames: 1_024, bytes: 1024 * 1024 };
/// Unhealed places after which a pass ends: with more damage, listing single places is no longer useful.
const FINDINGS_MAX: u32 = 16;

/// Progress of a pass over history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubProgress {
    /// When the pass started, in nanoseconds of Unix time.
    started_ns: i64,
    next: u64,
    last: Option<FrameLink>,
    findings: u32,
    healed: u32,
    over: bool,
    /// The last pass that read all of history, before this one.
    before: Option<Pass>,
}

/// A pass that read all of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    started_ns: i64,
    /// Number of places that stayed damaged.
    pub findings: u32,
    /// Number of places that were healed.
    pub healed: u32,
}

impl Pass {
    /// When it started: frames written later may not have been read.
    pub fn started_at(&self) -> Timestamp {
        Timestamp::from_unix_ns(self.started_ns)
    }
}

impl ScrubProgress {
    /// The last pass that read all of history; `None` before the first one has.
    pub fn last_pass(&self) -> Option<Pass> {
        let own = Pass { started_ns: self.started_ns, findings: self.findings, healed: self.healed };
        if self.over { Some(own) } else { self.before }
    }
}

/// One pass over history.
#[derive(Debug, Clone)]
pub struct Scrub {
    reader: HistoryReader,
    progress: ScrubProgress,
    /// The place that was healed last: if it is damaged again, it is not healed again.
    healed_after: Option<u64>,
}

/// The result of one step.
#[derive(Debug)]
pub enum Scrubbed {
    /// This many frames are intact.
    Intact(u64),
    /// An archive is missing, and its frames were skipped. An operator moved it away.
    Absent(LogError),
    /// Damage was found. It can be healed; otherwise [`Scrub::skip_damage`] continues after it.
    Found(LogError),
    /// The pass has ended.
    Finished {
        /// Number of places that stayed damaged.
        findings: u32,
        /// Number of places that were healed.
        healed: u32,
    },
}

impl Scrub {
    /// A pass from the first frame on, after an earlier one if there was any.
    pub fn begin(now: Timestamp, earlier: Option<ScrubProgress>) -> Self {
        let before = earlier.and_then(|earlier| earlier.last_pass());
        let (started_ns, next, last, over) = (now.unix_ns(), 0, None, false);
        let progress = ScrubProgress { started_ns, next, last, findings: 0, healed: 0, over, before };
        Self { reader: HistoryReader::after(None), progress, healed_after: None }
    }

    /// Resumes a pass.
    pub fn resume(progress: ScrubProgress) -> Self {
        let reader = match progress.last.filter(|last| last.index + 1 == progress.next) {
            Some(last) => HistoryReader::after(Some(last)),
            None => HistoryReader::trusting(progress.next),
        };
        Self { reader, progress, healed_after: None }
    }

    /// The progress to pass to [`Scrub::resume`].
    pub fn progress(&self) -> ScrubProgress {
        self.progress
    }

    /// When the pass started.
    pub fn started_at(&self) -> Timestamp {
        Timestamp::from_unix_ns(self.progress.started_ns)
    }

    /// Whether all of history has been read.
    pub fn is_finished(&self) -> bool {
        self.progress.over
    }

    /// The index from which the next piece is read.
    pub fn next(&self) -> u64 {
        self.progress.next
    }

    /// Reads the next piece.
    pub fn step(&mut self, store: &dyn LogStore) -> Scrubbed {
        let scrubbed = match self.reader.page(store, u64::MAX, PAGE) {
            Ok(page) if page.is_empty() => self.end(),
            Ok(page) => Scrubbed::Intact(page.len() as u64),
            Err(absent @ LogError::ArchiveAbsent { last, .. }) => {
                self.reader = HistoryReader::after(Some(last));
                Scrubbed::Absent(absent)
            }
            Err(_) if self.progress.findings == FINDINGS_MAX => self.end(),
            Err(error) => Scrubbed::Found(error),
        };
        self.note_place();
        scrubbed
    }

    fn end(&mut self) -> Scrubbed {
        self.progress.over = true;
        Scrubbed::Finished { findings: self.progress.findings, healed: self.progress.healed }
    }

    fn note_place(&mut self) {
        self.progress.next = self.reader.next();
        self.progress.last = self.reader.last();
    }

    /// Heals the damage that a step found with another manager's history; the next step reads that place again.
    ///
    /// # Errors
    /// When that manager cannot help; or the process must stop.
    pub fn heal(
        &mut self,
        store: &dyn LogStore,
        damage: &LogError,
        other: &dyn OtherHistory,
    ) -> Result<Healed, HealError> {
        let range = DamagedRange::find(store, damage)?;
        let before = range.after.map_or(0, |frame| frame.index);
        if self.healed_after == Some(before) {
            return Err(HealError::InVain);
        }
        // If this is interrupted, a pass resumes before it.
        self.reader = HistoryReader::after(range.after);
        self.note_place();
        store.save_scrub_progress(self.progress).map_err(HealError::Write)?;
        let healed = match damage {
            LogError::ArchiveDamaged { start, .. } => heal_archive(store, *start, other)?,
            _ => heal(store, range, other)?,
        };
        self.healed_after = Some(before);
        self.progress.healed += 1;
        if healed.first < self.reader.next() {
            self.reader.skip_to(healed.first);
            self.note_place();
        }
        Ok(healed)
    }

    /// Continues after damage that cannot be healed. If the database cannot tell which frame is damaged, a whole piece or file is
    /// skipped.
    pub fn skip_damage(&mut self, store: &dyn LogStore, damage: &LogError) {
        self.progress.findings += 1;
        let next = self.reader.next();
        match damage {
            LogError::Damaged { table: Table::History, index, .. } => {
                // The frames before it open, or they would have been reported instead: here their chain is followed as well.
                if let Some(before) = index.checked_sub(1).filter(|before| *before >= next) {
                    let read = self.reader.page(store, before, PAGE).map(|page| page.len());
                    tracing::debug!(index, before = ?read, "continuing to verify after the damage");
                }
                self.reader.skip_to(index.max(&next) + 1);
            }
            LogError::Corrupt { table: Table::History, indexes: Some((_, last)), .. } => {
                self.reader.skip_to(last.max(&next) + 1);
            }
            LogError::ArchiveDamaged { last, .. } => self.reader = HistoryReader::after(Some(*last)),
            _ => self.reader.skip_to(next + PAGE.frames as u64),
        }
        self.note_place();
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::{Change, Disk, Durability, Key};
    use super::super::fixtures::{Machine, MemoryMachine, fill};
    use super::super::memory::MemoryDisk;
    use super::*;

    /// Where damage was found, until the pass ends.
    fn findings(scrub: &mut Scrub, store: &dyn LogStore) -> Vec<u64> {
        let mut found = Vec::new();
        loop {
            match scrub.step(store) {
                Scrubbed::Intact(frames) => assert!(frames > 0),
                Scrubbed::Absent(absent) => panic!("{absent}"),
                Scrubbed::Found(damage) => {
                    let LogError::Damaged { index, .. } = damage else { panic!("{damage}") };
                    found.push(index);
                    scrub.skip_damage(store, &damage);
                }
                Scrubbed::Finished { findings, .. } => {
                    assert_eq!((findings as usize, scrub.is_finished()), (found.len(), true));
                    return found;
                }
            }
        }
    }

    #[test]
    fn every_damage_is_found_while_the_manager_runs() {
        let machine = MemoryMachine(MemoryDisk::default());
        let store = machine.start();
        fill(&*store, 4_000);
        assert_eq!(findings(&mut Scrub::begin(Timestamp::default(), None), &*store), [0; 0]);
        machine.flip_bit(Table::History, 700);
        machine
            .tamper(&|_| vec![Change::DeleteRange { table: Table::History, from: Key::at(2_500), to: Key::at(2_510) }]);
        machine.flip_bit(Table::History, 3_999);
        assert_eq!(findings(&mut Scrub::begin(Timestamp::default(), None), &*store), [700, 2_510, 3_999]);
    }

    #[test]
    fn a_pass_resumes_where_it_was_and_skips_nothing() {
        let machine = MemoryMachine(MemoryDisk::default());
        let store = machine.start();
        fill(&*store, 4_000);
        let mut scrub = Scrub::begin(Timestamp::default(), None);
        assert!(matches!(scrub.step(&*store), Scrubbed::Intact(1_024)));
        store.save_scrub_progress(scrub.progress()).unwrap();
        let next = scrub.progress().next;
        // The frame before the place: only the chain detects it.
        let (from, to) = (Key::at(next), Key::at(next + 1));
        machine.tamper(&|_| vec![Change::DeleteRange { table: Table::History, from, to }]);
        let mut resumed = Scrub::resume(store.scrub_progress().unwrap().unwrap());
        assert_eq!(findings(&mut resumed, &*store), [next + 1]);
    }

    #[test]
    fn the_last_whole_pass_is_known_while_the_next_one_runs() {
        let machine = MemoryMachine(MemoryDisk::default());
        let store = machine.start();
        fill(&*store, 2_000);
        machine.flip_bit(Table::History, 700);
        let at = Timestamp::from_unix_ns;
        let pass = |scrub: &Scrub| scrub.progress().last_pass().map(|pass| (pass.started_at(), pass.findings));
        let mut scrub = Scrub::begin(at(7), None);
        assert_eq!(pass(&scrub), None);
        findings(&mut scrub, &*store);
        assert_eq!(pass(&scrub), Some((at(7), 1)));
        machine.flip_bit(Table::History, 700);
        for _ in 0..2 {
            // A pass that is aborted for another does not hide it either.
            scrub = Scrub::begin(at(8), Some(scrub.progress()));
            assert_eq!(pass(&scrub), Some((at(7), 1)));
        }
        findings(&mut scrub, &*store);
        assert_eq!(pass(&scrub), Some((at(8), 0)));
    }

    #[test]
    fn a_history_without_its_end_does_not_make_endless_findings() {
        let machine = MemoryMachine(MemoryDisk::default());
        let store = machine.start();
        fill(&*store, 2_000);
        let gone = Change::DeleteRange { table: Table::History, from: Key::at(1_000), to: Key::MAX };
        machine.0.write(vec![gone], Durability::Synced).unwrap();
        let found = findings(&mut Scrub::begin(Timestamp::default(), None), &*store);
        assert_eq!((found[0], found.len()), (1_000, FINDINGS_MAX as usize));
    }
}
