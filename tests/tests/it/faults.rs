//! Three managers and two workers as real processes on separate hosts and disks, under load and all kinds of faults. Clients keep
//! a journal of their answers, against which every manager's history is checked at the end.
//!
//! Suggested order: this file (the test), [`breaks`] (the faults), [`clients`], [`verdict`] (the final checks), [`machines`] and
//! [`disk`].
//!
//! Each fault occurs once per round, in an order determined by the seed. `SWARMLOG_SOAK_SECONDS` sets how long rounds continue,
//! and `SWARMLOG_SOAK_SEED` their order; `make soak` sets both.

mod breaks;
mod clients;
mod disk;
mod machines;
mod verdict;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use breaks::{Fault, cause};
use clients::{Client, Journal};
pub use machines::compile;
use machines::{MANAGERS, Machines};

/// Number of clients of each kind: those that create, and those that use registers.
const CREATORS: u64 = 4;
const REGISTER_USERS: u64 = 3;
/// Seed of the test suite.
const SEED: u64 = 7;
/// Maximum duration of a fault: in the test suite, and with a longer soak time.
const FAULT_MAX: Duration = Duration::from_secs(3);
const FAULT_MAX_SOAK: Duration = Duration::from_secs(30);
/// Maximum number of member changes: a node gets six certificates at once, and one more every ten minutes.
const CHANGES_MAX: u64 = 3;
/// Delay between two faults, until agents were heard again. Otherwise two short ones add up to a silence after which nodes
/// rightly count as down.
const BETWEEN_FAULTS: Duration = Duration::from_millis(1_500);
/// A value that must not appear in any file.
const SECRET: &str = "canary-9f4e1c-value";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Causes faults.
struct FaultInjector {
    random: StdRng,
    longest: Duration,
    changes: u64,
    left: Vec<Fault>,
    caused: BTreeMap<Fault, u64>,
    slowest: (Duration, Option<Fault>),
}

impl FaultInjector {
    /// Causes the next fault, and waits until commands are accepted again.
    fn next(&mut self, machines: &mut Machines, journal: &Journal) {
        if self.left.is_empty() {
            self.left = Fault::ALL.to_vec();
            self.left.shuffle(&mut self.random);
        }
        let Some(fault) = self.left.pop() else { return };
        let changes = matches!(fault, Fault::Demoted | Fault::DiskLost);
        if changes && self.changes == 0 {
            return;
        }
        self.changes -= u64::from(changes);
        let victim = self.random.random_range(0..MANAGERS);
        let other = (victim + self.random.random_range(1..MANAGERS)) % MANAGERS;
        let length = self.random.random_range(Duration::from_millis(200)..self.longest);
        println!("{fault:?} of m{victim}, with m{other}, for {length:?}");
        let goes_on = |machines: &Machines| {
            let before = journal.count();
            machines.until("commands to be taken", |_| (journal.count() > before).then_some(()));
        };
        cause(fault, machines, (victim, other), length, &goes_on);
        let mended = Instant::now();
        goes_on(machines);
        *self.caused.entry(fault).or_default() += 1;
        self.slowest = self.slowest.max((mended.elapsed(), Some(fault)));
        std::thread::sleep(BETWEEN_FAULTS);
    }
}

/// Clients that send requests continuously, until the journal is closed.
fn clients(
    runtime: &tokio::runtime::Runtime,
    machines: &Machines,
    journal: &Arc<Journal>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let sockets: Vec<PathBuf> = (0..MANAGERS).map(|number| machines.socket(number)).collect();
    let started = Instant::now();
    let client = |number| Client { number, sockets: sockets.clone(), journal: Arc::clone(journal), started };
    let creators = (0..CREATORS).map(|number| runtime.spawn(client(number).create()));
    let users = (0..REGISTER_USERS).map(|number| runtime.spawn(client(100 + number).use_registers()));
    creators.chain(users).chain([runtime.spawn(client(200).subscribe())]).collect()
}

pub fn what_managers_acknowledged_they_keep_whatever_breaks() {
    let mut machines = Machines::start(SECRET);
    let (seconds, seed) = (setting("SWARMLOG_SOAK_SECONDS", 0), setting("SWARMLOG_SOAK_SEED", SEED));
    let (tasks, journal) = (machines.tasks(), Arc::new(Journal::default()));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let clients = clients(&runtime, &machines, &journal);
    let longest = if seconds > 0 { FAULT_MAX_SOAK } else { FAULT_MAX };
    let (random, caused) = (StdRng::seed_from_u64(seed), BTreeMap::new());
    let mut injector =
        FaultInjector { random, longest, changes: CHANGES_MAX, left: Vec::new(), caused, slowest: Default::default() };
    let started = Instant::now();
    while injector.caused.is_empty() || !injector.left.is_empty() || started.elapsed() < Duration::from_secs(seconds) {
        injector.next(&mut machines, &journal);
    }
    journal.close();
    clients.into_iter().for_each(|client| runtime.block_on(client).expect("no client fails"));
    judge(&mut machines, &journal);
    assert_eq!(machines.tasks(), tasks, "the tasks of the workers never noticed");
    println!(
        "{} commands, {} operations on registers and {} events of {} subscriptions under {:?}; at most {:?} until commands were taken again",
        journal.count(),
        journal.operations.lock().expect("no panic").len(),
        journal.subscribed.lock().expect("no panic").len(),
        journal.subscriptions.load(Ordering::Relaxed),
        injector.caused,
        injector.slowest,
    );
}

fn judge(machines: &mut Machines, journal: &Journal) {
    let same = machines.until("the same on all managers", |machines| {
        let all: Option<Vec<Vec<String>>> = (0..MANAGERS).map(|number| machines.configs(number)).collect();
        all.filter(|all| all.iter().all(|names| *names == all[0])).map(|mut all| all.remove(0))
    });
    let acknowledged = journal.acknowledged.lock().expect("no panic").clone();
    let lost: Vec<_> = acknowledged.iter().filter(|(_, _, name)| same.binary_search(name).is_err()).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    (0..MANAGERS).for_each(|number| machines.kill(number));
    verdict::histories(machines, journal);
    verdict::registers(journal);
    verdict::no_secret_in_clear(machines.dir.path(), SECRET);
    for number in 0..MANAGERS {
        let mut command = std::process::Command::new(crate::process::program("swarmd"));
        let replay = crate::process::run(command.args(["replay", "--state-dir"]).arg(machines.state_dir(number)));
        assert_eq!(replay.code, 0, "{replay:?}");
    }
}
