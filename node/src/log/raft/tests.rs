//! Consensus on simulated disks: with a single manager, and with messages between several.

use std::sync::Arc;

use bytes::Bytes;

use crate::log::fixtures::{Machine, Manager, MemoryMachine, entry, on_both};
use crate::log::{
    Consensus, Crash, Entry, EntryKind, HardState, LogError, LogStore, Membership, MemoryDisk, MemoryStore,
    ProposeError, RoleChange, StepError, write_all,
};

/// More rounds of ticks than any election needs.
const TICKS_MAX: usize = 1_000;

#[test]
fn a_single_voter_leads_at_once() {
    let machine = MemoryMachine(MemoryDisk::default());
    let mut manager = Manager::start(&machine, 7).unwrap();
    let progress = manager.consensus.ready().unwrap().unwrap();
    assert_eq!(progress.role, Some(RoleChange::BecameLeader { term: 2, first_index: 2 }));
    assert_eq!((progress.committed_to, &progress.messages), (None, &vec![]), "nothing is durable yet");
    manager.take(progress).unwrap();
    let progress = manager.consensus.ready().unwrap().unwrap();
    assert_eq!((&progress.committed, progress.committed_to, &progress.messages), (&vec![], Some(2), &vec![]));
    manager.take(progress).unwrap();
    assert!(manager.consensus.is_leader());
    assert_eq!((manager.consensus.leader(), manager.consensus.term(), manager.consensus.next_index()), (Some(7), 2, 3));
    assert!(manager.consensus.ready().unwrap().is_none());
}

#[test]
fn a_single_voter_keeps_leading() {
    let machine = MemoryMachine(MemoryDisk::default());
    let mut manager = Manager::start(&machine, 1).unwrap();
    for _ in 0..100 {
        manager.consensus.tick();
        manager.settle().unwrap();
    }
    assert!(manager.consensus.is_leader());
    assert_eq!((manager.consensus.term(), manager.store.last_index()), (2, 2));
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    on_both(|machine| {
        let mut manager = Manager::start(machine, 1).unwrap();
        manager.settle().unwrap();
        let mut proposed = Vec::new();
        for number in 0..1_000_u32 {
            let bytes = number.to_be_bytes().to_vec();
            proposed.push((manager.consensus.propose(bytes.clone()).unwrap(), Bytes::from(bytes)));
            if number % 16 == 0 {
                manager.settle().unwrap();
            }
        }
        manager.settle().unwrap();
        assert_eq!(manager.committed, proposed);
        drop(manager);

        let mut manager = Manager::start(machine, 1).unwrap();
        manager.settle().unwrap();
        assert!(manager.committed.is_empty(), "history held it all");
        assert_eq!(manager.consensus.term(), 3);
        let history = manager.store.history(0, usize::MAX, usize::MAX).unwrap();
        assert!(history.iter().map(|(index, _)| index).eq(proposed.iter().map(|(index, _)| index)));
    });
}

#[test]
fn the_proposals_of_a_round_share_one_write() {
    let disk = MemoryDisk::default();
    let mut manager = Manager::start(&MemoryMachine(disk.clone()), 1).unwrap();
    manager.settle().unwrap();
    for number in 0..256_u32 {
        manager.consensus.propose(number.to_be_bytes().to_vec()).unwrap();
    }
    disk.fail_after(1);
    let progress = manager.consensus.ready().unwrap().unwrap();
    manager.take(progress).unwrap();
    assert_eq!(disk.unsynced_writes(), 0);
    assert_eq!(manager.consensus.ready().unwrap().unwrap().committed.len(), 256);
}

#[test]
fn nothing_is_committed_while_its_write_is_under_way() {
    let disk = MemoryDisk::default();
    let mut manager = Manager::start(&MemoryMachine(disk.clone()), 1).unwrap();
    manager.settle().unwrap();
    let mut writes = Vec::new();
    for number in 0..3_u8 {
        let index = manager.consensus.propose(vec![number]).unwrap();
        let progress = manager.consensus.ready().unwrap().unwrap();
        assert_eq!((progress.committed_to, manager.store.last_index()), (None, index));
        writes.extend(progress.write);
        assert!(manager.consensus.ready().unwrap().is_none(), "it waits for the disk");
    }
    // Two of the three are written, with one sync.
    let last = writes.pop().unwrap();
    disk.fail_after(1);
    let written = write_all(&*manager.store, writes).unwrap();
    assert!(written.awaited && disk.unsynced_writes() == 0);
    manager.consensus.written(written.round.unwrap());
    let progress = manager.consensus.ready().unwrap().unwrap();
    assert_eq!(progress.committed.iter().map(|entry| entry.bytes[0]).collect::<Vec<_>>(), [0, 1]);
    let applied = manager.apply(progress).unwrap().unwrap();
    let history = |manager: &Manager| manager.store.history(0, usize::MAX, usize::MAX).unwrap().len();
    assert_eq!(history(&manager), 2, "what is applied is read before the disk has it");
    disk.fail_after(2);
    write_all(&*manager.store, vec![applied, last]).unwrap();
    assert_eq!(history(&manager), 2);
}

#[test]
fn a_power_cut_takes_nothing_that_was_committed_and_all_that_was_not_written() {
    let disk = MemoryDisk::default();
    let machine = MemoryMachine(disk.clone());
    let mut manager = Manager::start(&machine, 1).unwrap();
    manager.settle().unwrap();
    manager.consensus.propose(b"written".to_vec()).unwrap();
    let first = manager.consensus.ready().unwrap().unwrap();
    manager.consensus.propose(b"not written".to_vec()).unwrap();
    let second = manager.consensus.ready().unwrap().unwrap();
    manager.take(first).unwrap();
    // Committed, but not in history yet.
    let progress = manager.consensus.ready().unwrap().unwrap();
    let unwritten = manager.apply(progress).unwrap();
    drop((manager, second, unwritten));
    disk.crash(Crash::PowerCut { kept_writes: 0 });
    let mut manager = Manager::start(&machine, 1).unwrap();
    manager.settle().unwrap();
    assert_eq!(manager.committed.iter().map(|(_, bytes)| bytes.as_ref()).collect::<Vec<_>>(), [b"written"]);
}

#[test]
fn nothing_is_committed_without_its_sync() {
    let disk = MemoryDisk::default();
    let mut manager = Manager::start(&MemoryMachine(disk.clone()), 1).unwrap();
    manager.settle().unwrap();
    manager.consensus.propose(b"never durable".to_vec()).unwrap();
    disk.fail_after(0);
    let progress = manager.consensus.ready().unwrap().unwrap();
    assert!(matches!(manager.take(progress), Err(LogError::Storage { .. })));
    assert!(manager.committed.is_empty() && manager.consensus.ready().unwrap().is_none());
}

#[test]
fn what_waits_to_be_committed_is_bounded() {
    let machine = MemoryMachine(MemoryDisk::default());
    let mut manager = Manager::start(&machine, 1).unwrap();
    manager.settle().unwrap();
    let taken = (0..100).take_while(|_| manager.consensus.propose(vec![1; 1024 * 1024]).is_ok()).count();
    assert_eq!(taken, 64);
    assert_eq!(manager.consensus.propose(vec![1; 1024]), Err(ProposeError::Full));
    manager.settle().unwrap();
    assert_eq!(manager.committed.len(), 64);
    manager.consensus.propose(vec![1; 1024]).unwrap();
}

#[test]
fn an_uninitialized_log_is_not_opened() {
    let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(&MemoryDisk::default()).unwrap());
    let loaded = store.load().unwrap();
    assert!(matches!(Consensus::open(store, 1, &loaded), Err(LogError::NotInitialized)));
}

#[test]
fn a_change_of_members_needs_a_newer_build() {
    let machine = MemoryMachine(MemoryDisk::default());
    let store = machine.start();
    let change = Entry { kind: EntryKind::JointMembership, ..entry(2, 1, "") };
    store.append(vec![change], Some(HardState { term: 1, vote: 0, commit: 2 }), true).unwrap();
    let mut manager = Manager::start(&machine, 1).unwrap();
    assert!(matches!(manager.settle(), Err(LogError::Unsupported { index: 2, .. })));
}

#[test]
fn foreign_messages_are_dropped() {
    let machine = MemoryMachine(MemoryDisk::default());
    let mut manager = Manager::start(&machine, 1).unwrap();
    manager.settle().unwrap();
    assert!(matches!(manager.consensus.step(&[0xff; 40]), Err(StepError::Malformed(_))));
    // An empty message is raft's internal signal to campaign, which peers must not send.
    assert!(matches!(manager.consensus.step(&[]), Err(StepError::Refused(_))));
}

/// Three managers whose messages arrive at once.
struct Cluster(Vec<Manager>);

impl Cluster {
    fn start() -> Self {
        Self::on(&std::array::from_fn(|_| MemoryDisk::default()))
    }

    fn on(disks: &[MemoryDisk; 3]) -> Self {
        let members = Membership { voters: vec![1, 2, 3], ..Membership::default() };
        let managers = disks.iter().zip(1..).map(|(disk, id)| {
            let machine = MemoryMachine(disk.clone());
            machine.open().initialize(&members).unwrap();
            Manager::start(&machine, id).unwrap()
        });
        Self(managers.collect())
    }

    /// Delivers messages until there are none, except to and from `away`.
    fn settle(&mut self, away: Option<u64>) -> Vec<(u64, RoleChange)> {
        let mut roles = Vec::new();
        let mut busy = true;
        while busy {
            busy = false;
            for at in 0..self.0.len() {
                let from = at as u64 + 1;
                while let Some(progress) = self.0[at].consensus.ready().unwrap() {
                    busy = true;
                    roles.extend(progress.role.map(|role| (from, role)));
                    for message in &progress.messages {
                        if away != Some(from) && away != Some(message.to) {
                            self.0[message.to as usize - 1].consensus.step(&message.bytes).unwrap();
                        }
                    }
                    self.0[at].take(progress).unwrap();
                }
            }
        }
        roles
    }

    /// Advances time until a manager other than `away` leads, and returns its number.
    fn elect(&mut self, away: Option<u64>) -> u64 {
        for _ in 0..TICKS_MAX {
            for manager in &mut self.0 {
                manager.consensus.tick();
            }
            self.settle(away);
            let leads = |id: &u64| away != Some(*id) && self.0[*id as usize - 1].consensus.is_leader();
            if let Some(leader) = (1..=3).find(leads) {
                return leader;
            }
        }
        panic!("no leader after {TICKS_MAX} ticks");
    }

    fn manager(&mut self, id: u64) -> &mut Manager {
        &mut self.0[id as usize - 1]
    }
}

#[test]
fn three_managers_elect_a_leader_and_agree() {
    let mut cluster = Cluster::start();
    let leader = cluster.elect(None);
    let follower = leader % 3 + 1;
    assert_eq!(cluster.manager(follower).consensus.propose(vec![1]), Err(ProposeError::NotLeader));
    assert_eq!(cluster.manager(follower).consensus.leader(), Some(leader));
    for number in 0..50_u8 {
        cluster.manager(leader).consensus.propose(vec![number]).unwrap();
    }
    cluster.settle(None);
    let expected: Vec<u8> = (0..50).collect();
    for manager in &cluster.0 {
        let committed: Vec<u8> = manager.committed.iter().map(|(_, bytes)| bytes[0]).collect();
        assert_eq!(committed, expected);
    }
}

#[test]
fn a_leader_without_a_majority_steps_down_and_its_proposal_is_lost() {
    let mut cluster = Cluster::start();
    let first = cluster.elect(None);
    cluster.manager(first).consensus.propose(b"lost".to_vec()).unwrap();
    let second = cluster.elect(Some(first));
    assert_ne!(first, second);
    cluster.manager(second).consensus.propose(b"kept".to_vec()).unwrap();
    cluster.settle(Some(first));
    for _ in 0..TICKS_MAX {
        cluster.0.iter_mut().for_each(|manager| manager.consensus.tick());
        cluster.settle(None);
        if cluster.manager(first).committed.len() == 1 {
            break;
        }
    }
    for manager in &cluster.0 {
        let committed: Vec<_> = manager.committed.iter().map(|(_, bytes)| bytes.as_ref()).collect();
        assert_eq!(committed, [b"kept"]);
    }
}

#[test]
fn a_manager_whose_disk_is_older_than_its_confirmations_no_longer_takes_part() {
    let disks: [MemoryDisk; 3] = std::array::from_fn(|_| MemoryDisk::default());
    let mut cluster = Cluster::on(&disks);
    let leader = cluster.elect(None);
    let follower = leader % 3 + 1;
    let propose = |cluster: &mut Cluster, number| {
        cluster.manager(leader).consensus.propose(vec![number]).unwrap();
        cluster.settle(None);
    };
    propose(&mut cluster, 1);
    let old = disks[follower as usize - 1].copy();
    propose(&mut cluster, 2);
    propose(&mut cluster, 3);

    let machine = MemoryMachine(old);
    *cluster.manager(follower) = Manager::start(&machine, follower).unwrap();
    let last = cluster.manager(follower).store.last_index();
    let heartbeat = heartbeat(&mut cluster, leader, follower);
    let refused = cluster.manager(follower).consensus.step(&heartbeat);
    let expected = (last, last + 2);
    assert!(
        matches!(refused, Err(StepError::Shortened(LogError::Shortened { last, known, .. })) if (last, known) == expected),
        "{refused:?}"
    );
    // Nor does a later start, with or without that leader.
    let refused = machine.open().load();
    assert!(
        matches!(refused, Err(LogError::Shortened { last, known, witness: "high-water mark" }) if (last, known) == expected),
        "{refused:?}"
    );
}

/// The leader's next heartbeat for another manager.
fn heartbeat(cluster: &mut Cluster, leader: u64, to: u64) -> Vec<u8> {
    let leader = cluster.manager(leader);
    for _ in 0..TICKS_MAX {
        leader.consensus.tick();
        let Some(progress) = leader.consensus.ready().unwrap() else { continue };
        let sent = progress.messages.iter().find(|message| message.to == to).map(|message| message.bytes.clone());
        leader.take(progress).unwrap();
        if let Some(sent) = sent {
            return sent;
        }
    }
    panic!("no heartbeat after {TICKS_MAX} ticks");
}
