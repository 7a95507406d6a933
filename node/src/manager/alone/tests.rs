//! A log that continues alone, with power failures at any moment.

use std::sync::Arc;

use events::{Event, Id, Kind, MemberAdded, NodeId, Reconciler};
use projections::Stamp;

use super::*;
use crate::log::{Consensus, Crash, MemoryDisk, MemoryStore};
use crate::manager::core::tests::lead;

/// A state with these voters, by raft id.
fn voters(ids: &[u64]) -> Cluster {
    let mut cluster = Cluster::default();
    for (index, &raft_id) in (2..).zip(ids) {
        let (node, addr) = (NodeId::from_bits(raft_id.into()), String::new());
        let kind =
            Kind::MemberAdded(MemberAdded { node, raft_id, addr, voter: true, feature_level_max: 1, audit_key: None });
        cluster.apply(&Event::by_reconciler(Reconciler::Members, kind), &Stamp { index, ..Stamp::default() });
    }
    cluster
}

/// A log with a few frames, and the raft id that it started with.
fn log(disk: &MemoryDisk) -> (Arc<dyn LogStore>, Loaded, u64) {
    let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(disk).unwrap());
    drop(lead(&store, 5));
    let loaded = store.load().unwrap();
    let own = loaded.membership.as_ref().and_then(Membership::own).unwrap();
    (store, loaded, own)
}

#[test]
fn a_log_is_reset_with_an_unused_raft_id() {
    let disk = MemoryDisk::default();
    let (store, loaded, own) = log(&disk);
    let cluster = voters(&[own, 8, 9]);
    // Numbers that are 0 or taken are drawn again.
    let mut drawn = [0, 1, 16, own << 1, 70 << 1].into_iter();
    assert!(begin(&*store, &loaded, &cluster, &mut || drawn.next().unwrap()).unwrap());
    let again = store.load().unwrap();
    let expected = Membership { voters: vec![70], replaces: Some(own), ..Membership::default() };
    assert_eq!((again.membership.as_ref(), replaced(&cluster, &again)), (Some(&expected), Some(own)));
    assert_eq!(
        (again.applied, again.last_index, again.last_frame),
        (loaded.applied, loaded.last_index, loaded.last_frame)
    );
    assert_eq!((again.hard_state.commit, again.hard_state.vote), (loaded.last_index, 0));
    assert!(again.hard_state.term > loaded.hard_state.term);
    // The second time there is nothing left to do.
    assert!(!begin(&*store, &again, &cluster, &mut || 0).unwrap());
    let mut consensus = Consensus::open(Arc::clone(&store), 70, &again).unwrap();
    while consensus.ready().unwrap().is_some() {}
    assert!(consensus.is_leader(), "it needs nobody");
}

#[test]
fn who_is_alone_already_and_who_has_no_cluster_begins_nothing() {
    let disk = MemoryDisk::default();
    let (store, loaded, own) = log(&disk);
    assert!(!begin(&*store, &loaded, &voters(&[own]), &mut || 0).unwrap());
    let refused = begin(&*store, &loaded, &Cluster::default(), &mut || 0).unwrap_err();
    assert!(refused.sentence.contains("no cluster"), "{refused}");
    assert_eq!(store.load().unwrap(), loaded);
}

#[test]
fn a_power_failure_leaves_the_log_unchanged_or_reset() {
    for crash in [Crash::Killed, Crash::PowerCut { kept_writes: 0 }, Crash::PowerCut { kept_writes: 1 }] {
        for writes in 0.. {
            let disk = MemoryDisk::default();
            let (store, loaded, own) = log(&disk);
            store.sync().unwrap();
            disk.fail_after(writes);
            let started = begin(&*store, &loaded, &voters(&[own, 8, 9]), &mut || 70 << 1);
            drop(store);
            disk.crash(crash);
            let after = MemoryStore::open(&disk).unwrap().load().unwrap();
            assert_eq!((after.applied, after.last_index), (loaded.applied, loaded.last_index), "{crash:?} {writes}");
            let id = after.membership.as_ref().and_then(Membership::own).unwrap();
            assert!(if started.is_ok() { id == 70 } else { id == own || id == 70 }, "{crash:?} after {writes} writes");
            if started.is_ok() {
                break;
            }
        }
    }
}
