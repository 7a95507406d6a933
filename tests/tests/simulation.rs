//! Many seeds, each a cluster in which users ask and things break at random.

use std::num::NonZero;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tests::chaos::{self, Summary};
use tests::manager::Checkpoints;

/// Seeds of one run of the test suite, unless the variable asks for more.
const SEEDS: u64 = 200;
/// The variable that says how many seeds to run.
const SEEDS_VARIABLE: &str = "SWARMLOG_SEEDS";

#[test]
fn every_seed_ends_well() {
    let seeds = std::env::var(SEEDS_VARIABLE).map_or(SEEDS, |text| text.parse().expect("a number of seeds"));
    let (next, faults, total) = (AtomicU64::new(1), Mutex::new(Vec::new()), Mutex::new(Summary::default()));
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds {
                        return;
                    }
                    match catch_unwind(|| chaos::run(seed, false).map(|(summary, _)| summary)) {
                        Ok(Ok(summary)) => add(&mut total.lock().expect("no panic with the lock"), summary),
                        Ok(Err(error)) => tell(&faults, seed, &format!("{error:#}")),
                        Err(_) => tell(&faults, seed, "a check failed, see above"),
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().expect("no panic with the lock");
    assert!(faults.is_empty(), "{} of {seeds} seeds fail:\n{}", faults.len(), faults.join("\n"));
    let total = total.into_inner().expect("no panic with the lock");
    println!("{seeds} seeds: {total:?}");
    // A simulation in which nothing happens proves nothing.
    let Checkpoints { written, read, missed } = total.checkpoints;
    assert!(written > seeds && read > seeds && missed > seeds, "{total:?}");
    assert!(total.manager_crashes > seeds && total.commands > 10 * seeds && total.frames > 100 * seeds, "{total:?}");
}

#[test]
fn a_seed_decides_everything() {
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

fn tell(faults: &Mutex<Vec<String>>, seed: u64, what: &str) {
    faults
        .lock()
        .expect("no panic with the lock")
        .push(format!("seed {seed}: {what}; replay it with `make sim SEED={seed}`"));
}
