//! `swarmd replay`: folds a manager's whole history, offline, and verifies everything that can be verified.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use events::{Frame, Kind, codec};

use crate::daemon::failure::Failure;
use crate::daemon::start_settings::StartSettings;
use crate::daemon::state_dir;
use crate::daemon::state_dir_kind;
use crate::daemon::unlock;
use crate::log::{LogStore, RocksStore};
use crate::manager::fold::{Folded, is_comparable};
use crate::security::KeyLock;

/// The results of a replay.
#[derive(Debug, Default)]
struct Report {
    frames: u64,
    events: u64,
    commands: u64,
    hashes: u64,
    /// Hashes of states with another fold version, which cannot be compared.
    other_hashes: u64,
}

/// Folds the history in a state directory and reports the results.
///
/// # Errors
/// When the log cannot be read, or something in it is invalid, with the index.
pub fn replay(state_dir: &Path, unlock_key_file: Option<&Path>, out: &mut impl Write) -> Result<(), Failure> {
    let path = state_dir::log(state_dir);
    let keys = KeyLock::default();
    keys.set(unlock_key_file.map(unlock::read_key).transpose()?);
    let Some(store) = RocksStore::open_to_verify(&path, &keys)? else {
        return Err(state_dir_kind::no_log(state_dir));
    };
    let store = store.with_archives(StartSettings::archives_of(state_dir)?);
    let started = Instant::now();
    let (folded, report) = fold(&store)?;
    if report.frames == 0 {
        store.verify_durable()?;
        return Err(no_frame(&path));
    }
    let faults = projections::check::check(&folded.cluster);
    let seconds = started.elapsed().as_secs_f64();
    let cluster = &folded.cluster;
    let hash: String = cluster.state_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    let lines = [
        format!("frames    {} (last index {})", report.frames, cluster.position.index),
        format!("commands  {}", report.commands),
        format!(
            "events    {} in {seconds:.3} s, {:.0} a second",
            report.events,
            report.events as f64 / seconds.max(1e-9)
        ),
        format!(
            "objects   {} nodes, {} services, {} tasks",
            cluster.nodes.len(),
            cluster.services.len(),
            cluster.tasks.len()
        ),
        report.verified(),
        format!("state     {hash}"),
    ];
    for line in lines {
        writeln!(out, "{line}").map_err(|error| Failure::new(error, ""))?;
    }
    // After the report, which shows how far history can be read: history that lost its end is still a valid chain.
    store.verify_durable()?;
    match faults.first() {
        None => Ok(()),
        Some(first) => {
            let sentence = format!("{} invariants do not hold, the first: {first}", faults.len());
            Err(Failure::new(sentence, "report this as a bug"))
        }
    }
}

/// The error for a log without anything to verify.
fn no_frame(log: &Path) -> Failure {
    let sentence =
        format!("the log {} contains no frame: the first start of this manager was interrupted", log.display());
    Failure::new(sentence, "start swarmd on this state directory: it completes its first start")
}

impl Report {
    fn take(&mut self, frame: &Frame, is_as_it_was: bool) {
        self.frames += 1;
        self.events += frame.events.len() as u64;
        self.commands += frame.commands.len() as u64;
        for kind in codec::kinds(frame) {
            let Kind::StateHashRecorded(recorded) = kind else { continue };
            let counted =
                if is_comparable(recorded) && is_as_it_was { &mut self.hashes } else { &mut self.other_hashes };
            *counted += 1;
        }
    }

    fn verified(&self) -> String {
        let Self { frames, hashes, other_hashes, .. } = self;
        let others = match other_hashes {
            0 => String::new(),
            others => format!(" ({others} of another fold version or before a redaction not compared)"),
        };
        format!("verified  the chain of {frames} frames, {hashes} recorded state hashes{others}")
    }
}

/// The fold itself checks that each frame carries the hash of the one before, and every recorded hash of the state.
fn fold(store: &dyn LogStore) -> Result<(Folded, Report), Failure> {
    let (mut folded, mut report) = (Folded::default(), Report::default());
    folded.fold_history(store, |frame, is_as_it_was| report.take(frame, is_as_it_was))?;
    Ok((folded, report))
}

#[cfg(test)]
mod tests {
    use events::{Event, Reconciler, StateHashRecorded};
    use projections::FOLD_VERSION;

    use super::*;

    #[test]
    fn the_report_tells_hashes_that_were_compared_from_those_that_were_not() {
        let mut report = Report::default();
        for fold_version in [FOLD_VERSION, FOLD_VERSION, FOLD_VERSION + 1] {
            let recorded = StateHashRecorded { fold_version: Some(fold_version), ..StateHashRecorded::default() };
            let event = Event::by_reconciler(Reconciler::Schedule, Kind::StateHashRecorded(recorded));
            report.take(&Frame { events: vec![event], ..Frame::default() }, true);
            if fold_version == FOLD_VERSION {
                assert!(report.verified().ends_with("recorded state hashes"));
            }
        }
        let expected = "the chain of 3 frames, 2 recorded state hashes (1 of another fold version or before a redaction not compared)";
        assert!(report.verified().ends_with(expected), "{}", report.verified());
    }
}
