//! Many seeds, each with a cluster under random commands and faults.

use std::num::NonZero;
use std::panic::{RefUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tests::chaos::{self, Summary};
use tests::manager::Checkpoints;
use tests::quorum;

/// Default number of seeds in one run of the test suite.
const SEEDS: u64 = 200;
/// The variable that sets the number of seeds.
const SEEDS_VARIABLE: &str = "SWARMLOG_SEEDS";

/// Runs all seeds, on every processor, and returns their results.
fn run_seeds<T: Send>(
    seeds: u64,
    option: &str,
    run: impl Fn(u64) -> anyhow::Result<T> + Sync + RefUnwindSafe,
) -> Vec<T> {
    let (next, faults, done) = (AtomicU64::new(1), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let tell = |seed: u64, what: &str| {
        let replay = format!("seed {seed}: {what}; replay it with `make sim SEED={seed}{option}`");
        faults.lock().expect("no panic with the lock").push(replay);
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds {
                        return;
                    }
                    match catch_unwind(|| run(seed)) {
                        Ok(Ok(one)) => done.lock().expect("no panic with the lock").push(one),
                        Ok(Err(error)) => tell(seed, &format!("{error:#}")),
                        Err(_) => tell(seed, "a check failed, see above"),
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().expect("no panic with the lock");
    assert!(faults.is_empty(), "{} of {seeds} seeds fail:\n{}", faults.len(), faults.join("\n"));
    done.into_inner().expect("no panic with the lock")
}

fn seeds() -> u64 {
    std::env::var(SEEDS_VARIABLE).map_or(SEEDS, |text| text.parse().expect("a number of seeds"))
}

#[test]
fn every_seed_ends_well() {
    let seeds = seeds();
    let mut total = Summary::default();
    for one in run_seeds(seeds, "", |seed| chaos::run(seed, false).map(|(summary, _)| summary)) {
        add(&mut total, one);
    }
    println!("{seeds} seeds: {total:?}");
    // A simulation in which nothing happens proves nothing.
    let Checkpoints { written, read, missed } = total.checkpoints;
    assert!(written > seeds && read > seeds && missed > seeds, "{total:?}");
    assert!(total.manager_crashes > seeds && total.commands > 10 * seeds && total.frames > 100 * seeds, "{total:?}");
}

#[test]
fn one_three_or_five_managers_have_one_history_in_the_end() {
    // Half as many: each has up to five managers.
    let seeds = seeds().div_ceil(2);
    let runs = run_seeds(seeds, " QUORUM=1", |seed| quorum::chaos::run(seed, false));
    let total = |of: fn(&quorum::chaos::Summary) -> u64| runs.iter().map(of).sum::<u64>();
    println!("{seeds} seeds: {runs:?}");
    // A simulation in which nothing happens proves nothing.
    assert!(total(|run| run.commands) > 10 * seeds && total(|run| run.frames) > 20 * seeds);
    assert!(total(|run| run.crashes) > seeds && total(|run| run.partitions) > seeds);
    assert!(total(|run| run.elections) > 2 * seeds && total(|run| run.member_changes) > 5 * seeds);
    assert!(total(|run| run.restored) > seeds, "managers were brought up to date by a state");
    let (damaged, refused) = (total(|run| run.damaged), total(|run| run.refused));
    assert!(damaged > seeds / 4 && refused > damaged / 4, "{damaged} logs were damaged, and {refused} refused");
}

#[test]
fn agents_at_any_of_several_managers_run_what_the_state_says_in_the_end() {
    // A quarter: each has up to five managers, and waits for every task.
    let seeds = seeds().div_ceil(4);
    let runs = run_seeds(seeds, " FLEET=1", |seed| quorum::chaos::agents::run(seed, false));
    let total = |of: fn(&quorum::chaos::Summary) -> u64| runs.iter().map(of).sum::<u64>();
    println!("{seeds} seeds: {runs:?}");
    assert!(
        total(|run| run.commands) > 10 * seeds && total(|run| run.crashes) > seeds && total(|run| run.reads) > seeds
    );
    assert!(total(|run| run.sessions) > 10 * seeds, "sessions moved");
}

#[test]
fn what_clients_see_at_any_manager_could_have_happened_one_after_the_other() {
    // Ten times as many: each is short.
    let seeds = 10 * seeds();
    let runs = run_seeds(seeds, " REGISTERS=1", |seed| quorum::registers::run(seed, false));
    let total = |of: fn(&quorum::registers::Summary) -> usize| runs.iter().map(of).sum::<usize>() as u64;
    let (reads, writes, unknown) = (total(|run| run.reads), total(|run| run.writes), total(|run| run.unknown));
    let (swaps, refused) = (total(|run| run.swaps), total(|run| run.refused));
    let elections = runs.iter().map(|run| run.elections).sum::<u64>();
    let summary = format!(
        "{reads} reads, {writes} writes, {swaps} swaps, {refused} refused, {unknown} unknown, {elections} elections"
    );
    println!("{seeds} histories: {summary}");
    assert!(reads > 10 * seeds && writes > 5 * seeds && unknown > seeds, "{summary}");
    assert!(swaps > seeds && refused > seeds && elections > 2 * seeds, "{summary}");
}

#[test]
fn a_seed_decides_everything() {
    let several = || quorum::chaos::run(2, false).expect("the seed ends well");
    assert_eq!(several(), several());
    let with_agents = || quorum::chaos::agents::run(2, false).expect("the seed ends well");
    assert_eq!(with_agents(), with_agents());
    let summary = || chaos::run(7, false).map(|(summary, world)| (summary, world.oracle.cluster().state_hash()));
    assert_eq!(summary().expect("the seed ends well"), summary().expect("the seed ends well"));
}

fn add(total: &mut Summary, one: Summary) {
    total.frames += one.frames;
    total.commands += one.commands;
    total.manager_crashes += one.manager_crashes;
    total.faults += one.faults;
    total.checkpoints.written += one.checkpoints.written;
    total.checkpoints.read += one.checkpoints.read;
    total.checkpoints.missed += one.checkpoints.missed;
    total.steps += one.steps;
    total.length += one.length;
}
