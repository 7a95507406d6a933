//! Scheduler decisions per second, each applied to the state: 10,000 tasks of 100 services that are pending at the same time.

use anyhow::{Result, ensure};
use events::{Id, IdGenerator};
use projections::{Cluster, Touched};
use reconcilers::{Budget, Candidates, Ctx, Presence, settle};

use crate::clock::cpu_time;
use crate::figure::{Figure, Target};
use crate::fixture;

const SERVICES: u64 = 100;
const TASKS: u64 = 10_000;
const REPEATS: u64 = 5;

/// The figure at each size of cluster: nodes, runs, target.
pub fn figures() -> Result<Vec<Figure>> {
    let sizes = [(1_000, 15, 400_000.0), (10_000, 7, 250_000.0), (100_000, 3, 100_000.0)];
    sizes.into_iter().map(|(nodes, runs, target)| figure(nodes, runs, Target::AtLeast(target))).collect()
}

fn figure(nodes: u64, runs: usize, target: Target) -> Result<Figure> {
    let cluster = waiting(nodes);
    let runs = (0..runs).map(|_| run(&cluster)).collect::<Result<_>>()?;
    let how = "10,000 tasks of 100 services (resources, a constraint, spread over 10 zones), settled in the leader's \
               turns of 1,000 events, each on a clone of the tip; assignments are applied; in processor \
               time of the one thread that does it"
        .to_owned();
    Ok(Figure { name: format!("decisions, {nodes} nodes"), runs, unit: "decisions/s", target, how })
}

/// A cluster whose tasks are created but not placed.
fn waiting(nodes: u64) -> Cluster {
    let mut cluster = Cluster::default();
    fixture::fold(&mut cluster, 1, (0..nodes).flat_map(fixture::node));
    let each = TASKS / SERVICES;
    fixture::fold(&mut cluster, 2, (0..SERVICES).map(|service| fixture::service(service, each)));
    let tasks = (0..TASKS).map(|task| fixture::task(task, task / each, 2, task % each + 1));
    fixture::fold(&mut cluster, 3, tasks);
    cluster
}

/// Places all tasks several times, because the kernel's accounting of processor time is only precise to a few milliseconds. A
/// manager keeps the resulting state, so dropping it does not count; and it keeps the candidates while it leads.
fn run(waiting: &Cluster) -> Result<f64> {
    let mut candidates = Candidates::default();
    place_all(waiting.clone(), &mut candidates)?;
    let started = cpu_time()?;
    let placed = (0..REPEATS).map(|_| place_all(waiting.clone(), &mut candidates)).collect::<Result<Vec<_>>>()?;
    let elapsed = cpu_time()? - started;
    drop(placed);
    Ok((REPEATS * TASKS) as f64 / elapsed.as_secs_f64())
}

/// Turns until nothing is left, as in the leader.
fn place_all(mut tip: Cluster, candidates: &mut Candidates) -> Result<Cluster> {
    let presence = Presence::new();
    let mut left = Touched { services: (0..SERVICES).map(fixture::id).collect(), ..Touched::default() };
    let mut index = 3;
    while !left.is_empty() {
        index += 1;
        let mut next = tip.clone();
        let mut ids = IdGenerator::new(events::ClusterId::from_bits(1), index);
        let at = fixture::stamp(index);
        let mut ctx = Ctx {
            now: at.time,
            ids: &mut ids,
            presence: &presence,
            peers: &reconcilers::Peers::default(),
            uses: &reconcilers::Uses::new(),
            candidates,
        };
        left = settle(&mut next, left, &mut ctx, &at, Budget::FRAME).left;
        tip = next;
    }
    ensure!(tip.unplaced().is_empty(), "some tasks were not placed");
    Ok(tip)
}
