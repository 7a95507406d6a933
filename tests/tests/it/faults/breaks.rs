//! The faults: each occurs once per round, in a random order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::machines::{MACHINES, MANAGERS, Machines};

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// One manager is killed.
    Killed,
    /// All managers are killed at once.
    AllKilled,
    /// One manager is suspended for a while.
    Paused,
    /// One manager is partitioned from the others, in both directions.
    CutOff,
    /// The same for the leader.
    LeaderCutOff,
    /// One manager's messages to the others are lost.
    SendsNothing,
    /// One manager receives no messages of the others.
    ReceivesNothing,
    /// One manager's messages to one other are lost.
    OneLinkCut,
    /// One manager is partitioned from the agents.
    AgentsCutOff,
    /// One manager loses power.
    PowerCut,
    /// All managers lose power at once.
    AllPowerCut,
    /// A sync fails on one manager's disk, which then loses power.
    SyncFails,
    /// One manager's disk is full.
    DiskFull,
    /// The wall clock of the leader is an hour ahead, and then another manager leads.
    ClockAhead,
    /// One manager's wall clock is an hour behind.
    ClockLate,
    /// The end of one manager's log is lost.
    LogTorn,
    /// Bits of one manager's log are flipped.
    LogFlipped,
    /// Bits of one manager's certificate are flipped.
    CertificateFlipped,
    /// One manager is demoted, and promoted again.
    Demoted,
    /// One manager's disk is lost.
    DiskLost,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 20] = [
        Self::Killed,
        Self::AllKilled,
        Self::Paused,
        Self::CutOff,
        Self::LeaderCutOff,
        Self::SendsNothing,
        Self::ReceivesNothing,
        Self::OneLinkCut,
        Self::AgentsCutOff,
        Self::PowerCut,
        Self::AllPowerCut,
        Self::SyncFails,
        Self::DiskFull,
        Self::ClockAhead,
        Self::ClockLate,
        Self::LogTorn,
        Self::LogFlipped,
        Self::CertificateFlipped,
        Self::Demoted,
        Self::DiskLost,
    ];
}

/// Minimum size of a log that is damaged, in bytes: the durable position is not known to the last frame.
const LOG_BYTES_MIN: usize = 256 * 1024;
const HOUR_SECONDS: i64 = 3_600;
/// Longer than it takes to detect that a node is down.
const NOTICED: Duration = Duration::from_secs(8);

/// Causes a fault for about this long, and repairs it. `goes_on` waits until commands are accepted without the victim.
pub fn cause(
    fault: Fault,
    machines: &mut Machines,
    (victim, other): (usize, usize),
    length: Duration,
    goes_on: &dyn Fn(&Machines),
) {
    match fault {
        Fault::Killed => {
            machines.kill(victim);
            std::thread::sleep(length);
        }
        Fault::AllKilled => (0..MANAGERS).for_each(|number| machines.kill(number)),
        Fault::Paused => {
            machines.signal(victim, "-STOP");
            std::thread::sleep(length);
            machines.signal(victim, "-CONT");
        }
        Fault::CutOff => cut(machines, &[outgoing_links(victim), incoming_links(victim)].concat(), length),
        Fault::LeaderCutOff => {
            let leader = machines.leader().unwrap_or(victim);
            cut(machines, &[outgoing_links(leader), incoming_links(leader)].concat(), length);
        }
        Fault::SendsNothing => cut(machines, &outgoing_links(victim), length),
        Fault::ReceivesNothing => cut(machines, &incoming_links(victim), length),
        Fault::OneLinkCut => cut(machines, &[(victim, other)], length),
        Fault::AgentsCutOff => cut_agents(machines, victim, length),
        Fault::PowerCut => cut_power(machines, &[victim], length),
        Fault::AllPowerCut => cut_power(machines, &[0, 1, 2], Duration::ZERO),
        Fault::SyncFails => {
            machines.fail_sync(victim);
            machines.await_end(victim, "a sync failed");
            machines.disks[victim].cut_power();
            goes_on(machines);
            machines.disks[victim].restore_power();
        }
        Fault::DiskFull => {
            machines.disks[victim].fill();
            std::thread::sleep(length);
            goes_on(machines);
            machines.disks[victim].make_room();
            // The manager may have kept running: its log had preallocated space left.
            machines.forget_ended();
        }
        Fault::ClockAhead => clock_ahead(machines, victim, length, goes_on),
        Fault::ClockLate => {
            machines.set_clock(victim, -HOUR_SECONDS);
            std::thread::sleep(length);
            goes_on(machines);
            machines.set_clock(victim, 0);
        }
        Fault::LogTorn | Fault::LogFlipped => damage_log(fault, machines, (victim, other), goes_on),
        Fault::CertificateFlipped => {
            machines.kill(victim);
            let certificates = machines.state_dir(victim).join("certificates");
            change(&certificates.join("swarm-node.crt"), |bytes| flip(bytes));
            machines.resume(victim);
            machines.await_end(victim, "its certificate is damaged");
            goes_on(machines);
            std::fs::remove_file(certificates.join("swarm-node.crt")).expect("removed");
        }
        Fault::Demoted => machines.demote_and_promote(victim, other),
        Fault::DiskLost => machines.lose_disk(victim, other),
    }
    (0..MANAGERS).for_each(|number| machines.resume(number));
}

/// The links from a manager to the others.
fn outgoing_links(victim: usize) -> Vec<(usize, usize)> {
    (0..MANAGERS).filter(|other| *other != victim).map(|other| (victim, other)).collect()
}

/// The links from the others to a manager.
fn incoming_links(victim: usize) -> Vec<(usize, usize)> {
    outgoing_links(victim).into_iter().map(|(from, to)| (to, from)).collect()
}

fn cut(machines: &Machines, links: &[(usize, usize)], length: Duration) {
    links.iter().for_each(|(from, to)| machines.hosts.cut(*from, *to));
    std::thread::sleep(length);
    machines.hosts.heal();
}

/// The agents move to other managers, and their tasks are not affected.
fn cut_agents(machines: &Machines, manager: usize, length: Duration) {
    let before = machines.tasks();
    for agent in MANAGERS..MACHINES {
        machines.hosts.cut(agent, manager);
        machines.hosts.cut(manager, agent);
    }
    std::thread::sleep(length);
    machines.hosts.heal();
    assert_eq!(machines.tasks(), before, "tasks go on");
}

fn cut_power(machines: &mut Machines, victims: &[usize], length: Duration) {
    for victim in victims {
        machines.disks[*victim].cut_power();
        machines.kill(*victim);
    }
    std::thread::sleep(length);
    victims.iter().for_each(|victim| machines.disks[*victim].restore_power());
}

/// When another manager takes over, log time has the value of a clock that is ahead: no node may be declared down because of
/// that.
fn clock_ahead(machines: &mut Machines, victim: usize, length: Duration, goes_on: &dyn Fn(&Machines)) {
    let leader = machines.leader().unwrap_or(victim);
    machines.set_clock(leader, HOUR_SECONDS);
    std::thread::sleep(length);
    goes_on(machines);
    machines.kill(leader);
    goes_on(machines);
    std::thread::sleep(NOTICED);
    machines.set_clock(leader, 0);
}

/// A manager with a damaged log refuses to start, reports it, and is restored as its hint tells the operator.
fn damage_log(fault: Fault, machines: &mut Machines, (victim, other): (usize, usize), goes_on: &dyn Fn(&Machines)) {
    let dir = machines.state_dir(victim).join("raft/log");
    let newest = machines.until("a log", |_| newest_log(&dir));
    machines.kill(victim);
    change(&newest, |bytes| if fault == Fault::LogTorn { bytes.truncate(bytes.len() / 2) } else { flip(bytes) });
    let refused = machines.said(victim, "was durable");
    machines.resume(victim);
    machines.await_end(victim, "its log is damaged");
    assert!(machines.said(victim, "was durable") > refused, "{}", machines.log(victim));
    goes_on(machines);
    machines.reseed(victim, other);
}

/// The log's file that is being written, once it is not empty.
fn newest_log(dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let newest = entries.filter(|path| path.extension().is_some_and(|ending| ending == "log")).max()?;
    (written(&std::fs::read(&newest).ok()?) > LOG_BYTES_MIN).then_some(newest)
}

/// Length of a file without trailing zeros.
fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn flip(bytes: &mut [u8]) {
    let middle = written(bytes) / 2;
    bytes[middle..middle + 8].iter_mut().for_each(|byte| *byte ^= 0x55);
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).expect("read");
    bytes.truncate(written(&bytes));
    change(&mut bytes);
    std::fs::write(file, bytes).expect("written");
}
