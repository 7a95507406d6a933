//! `swarmd replay`: folds a manager's whole history, offline, and verifies all that can be verified.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use events::Kind;

use crate::failure::Failure;
use crate::fold::Folded;
use crate::log::{LogStore, RocksStore};

/// Frames and bytes read at a time.
const FRAMES_MAX: usize = 4_096;
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a replay found.
#[derive(Debug, Default)]
struct Report {
    frames: u64,
    events: u64,
    commands: u64,
    hashes: u64,
}

/// Folds the history in a state directory and says what it found.
///
/// # Errors
/// When the log cannot be read, or something in it is not as it should be, with the index.
pub fn replay(state_dir: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let path = state_dir.join("raft");
    if !path.exists() {
        let sentence = format!("there is no log in {}", state_dir.display());
        return Err(Failure::new(sentence, "give the state directory of a manager with --state-dir"));
    }
    let store = RocksStore::open_read_only(&path)?;
    let begun = Instant::now();
    let (folded, report) = fold(&store)?;
    let faults = projections::check::check(&folded.cluster);
    let seconds = begun.elapsed().as_secs_f64();
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
        format!("verified  the chain of {} frames, {} recorded state hashes", report.frames, report.hashes),
        format!("state     {hash}"),
    ];
    for line in lines {
        writeln!(out, "{line}").map_err(|error| Failure::new(error, ""))?;
    }
    // After the report, which says how far the history reads: one that lost its end is chained all the same.
    store.verify_durable()?;
    match faults.first() {
        None => Ok(()),
        Some(first) => {
            let sentence = format!("{} invariants do not hold, the first: {first}", faults.len());
            Err(Failure::new(sentence, "report this as a bug"))
        }
    }
}

/// The fold itself checks that each frame carries the hash of the one before, and every recorded hash of the state.
fn fold(store: &dyn LogStore) -> Result<(Folded, Report), Failure> {
    let (mut folded, mut report) = (Folded::default(), Report::default());
    let mut next = 0;
    loop {
        let stored = store.history(next, FRAMES_MAX, BYTES_MAX)?;
        let Some((last, _)) = stored.last() else { return Ok((folded, report)) };
        next = last + 1;
        for (index, bytes) in &stored {
            let frame = folded.fold_frame(*index, bytes)?;
            report.frames += 1;
            report.events += frame.events.len() as u64;
            report.commands += frame.commands.len() as u64;
            let hashes = events::codec::kinds(&frame).filter(|kind| matches!(kind, Kind::StateHashRecorded(_)));
            report.hashes += hashes.count() as u64;
        }
    }
}
