//! The log's thread, on a disk that hangs and fails.

use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::log::Consensus;
use crate::log::fixtures::HangingDisk;

/// Longer than the thread needs for any step.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A single manager on such a disk, whose writes so far are done.
fn consensus(disk: &HangingDisk) -> (Consensus, Arc<dyn LogStore>) {
    let store = disk.store();
    store.load().unwrap();
    Consensus::bootstrap(&*store, 1).unwrap();
    let mut consensus = Consensus::open(Arc::clone(&store), 1, &store.load().unwrap()).unwrap();
    while let Some(progress) = consensus.ready().unwrap() {
        let applied = progress.committed_to.map(|applied| consensus.apply(Vec::new(), applied).unwrap());
        let written = write_all(&*store, progress.write.into_iter().chain(applied).collect()).unwrap();
        written.round.into_iter().for_each(|round| consensus.written(round));
    }
    (consensus, store)
}

/// A round with one more proposal.
fn propose(consensus: &mut Consensus) -> Vec<Write> {
    consensus.propose(b"a frame".to_vec()).unwrap();
    consensus.ready().unwrap().and_then(|progress| progress.write).into_iter().collect()
}

#[test]
fn what_comes_while_the_disk_is_busy_shares_a_sync() {
    let disk = HangingDisk::default();
    let (mut consensus, store) = consensus(&disk);
    let (ring, rung) = channel();
    let writer = Writer::spawn(store, Arc::default(), move || ring.send(()).unwrap_or(())).unwrap();
    let before = disk.writes();
    disk.close(true);
    for _ in 0..50 {
        // Taken at once: the first write hangs.
        writer.give(propose(&mut consensus));
    }
    assert_eq!(writer.written().unwrap(), Written::default());
    assert!(consensus.ready().unwrap().is_none(), "nothing is committed");
    disk.close(false);
    let mut committed = 0;
    while committed < 50 {
        rung.recv_timeout(TIMEOUT).expect("it rings");
        writer.written().unwrap().round.into_iter().for_each(|round| consensus.written(round));
        while let Some(progress) = consensus.ready().unwrap() {
            committed += progress.committed.len();
        }
    }
    assert!(disk.writes() - before <= 3, "{} writes", disk.writes() - before);
    writer.end().unwrap();
}

#[test]
fn after_a_write_that_failed_nothing_is_written_or_reported() {
    let disk = HangingDisk::default();
    let (mut consensus, store) = consensus(&disk);
    let (ring, rung) = channel();
    let writer = Writer::spawn(store, Arc::default(), move || ring.send(()).unwrap_or(())).unwrap();
    disk.fail_after(0);
    writer.give(propose(&mut consensus));
    rung.recv_timeout(TIMEOUT).expect("it rings");
    assert!(matches!(writer.written(), Err(LogError::Storage { .. })));
    let before = disk.writes();
    writer.give(propose(&mut consensus));
    assert!(matches!(writer.written(), Err(LogError::Storage { .. })), "also when it is asked again");
    assert!(writer.end().is_err());
    assert_eq!(disk.writes(), before);
}
