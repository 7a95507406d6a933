//! `make bench`: the figures of tests/BENCHMARKS.md, measured here, each as the median of several runs.
//!
//! `bench` measures everything; `bench scheduling replay` only these. It measures the programs in its own directory.

mod agents;
mod callers;
mod clock;
mod cold_start;
mod commands;
mod crowd;
mod daemon;
mod etcd;
mod figure;
mod fixture;
mod hostile;
mod idle;
mod logs;
mod memory;
mod million;
mod node_loss;
mod prepared;
mod questions;
mod quorum;
mod replay;
mod restart;
mod rollout;
mod scheduling;
mod starts;
mod steadiness;
mod subscribers;

use std::process::ExitCode;

use anyhow::{Result, bail};
use figure::Figure;

/// The same allocator as in `swarmd`, because the load generator shares the processors with it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A measurement with one or more figures.
type Measure = fn() -> Result<Vec<Figure>>;

/// All measurements, in the order of the table.
const ALL: [(&str, Measure); 18] = [
    ("scheduling", scheduling::figures),
    ("million", million::figures),
    ("commands", commands::figures),
    ("quorum", quorum::figures),
    ("hostile", hostile::figures),
    ("node_loss", node_loss::figures),
    ("steadiness", steadiness::figures),
    ("starts", starts::figures),
    ("rollout", rollout::figures),
    ("replay", replay::figures),
    ("memory", memory::figures),
    ("idle", idle::figures),
    ("agents", agents::figures),
    ("restart", restart::figures),
    ("cold_start", cold_start::figures),
    ("subscribers", subscribers::figures),
    ("logs", logs::figures),
    ("questions", questions::figures),
];

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if names.iter().any(|name| name == memory::SAMPLE) {
        return memory::print_sample();
    }
    if let [crowd::MEMBER, order] = names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return crowd::run(order);
    }
    if let Some((first, rest)) = names.split_first()
        && first == hostile::ATTACK
    {
        return hostile::attack(rest);
    }
    if let Some(unknown) = names.iter().find(|name| !ALL.iter().any(|(known, _)| known == name)) {
        bail!("there is no figure \"{unknown}\"; there are {}", ALL.map(|(name, _)| name).join(", "));
    }
    for (_, figures) in ALL.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| wanted == name)) {
        for figure in figures()? {
            println!("{figure}");
        }
    }
    Ok(())
}
