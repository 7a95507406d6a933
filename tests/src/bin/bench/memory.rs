//! Memory of a projection: what 10,000 nodes, and then 1,000,000 running tasks on them, add to a process.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use events::TaskState;
use projections::Cluster;

use crate::figure::{Figure, Target};
use crate::fixture;

/// The argument with which the program measures itself once and prints bytes per node and per task.
pub const SAMPLE: &str = "memory-sample";

const RUNS: usize = 3;
const NODES: u64 = 10_000;
const SERVICES: u64 = 1_000;
const TASKS: u64 = 1_000_000;
/// Tasks folded at a time: events are gone before the next ones are made, as in a manager.
const PIECE: u64 = 1_000;

/// Memory for each task and each node, every run in a process of its own, whose memory nobody used before.
pub fn figures() -> Result<Vec<Figure>> {
    let samples: Vec<(f64, f64)> = (0..RUNS).map(|_| sample_in_child()).collect::<Result<_>>()?;
    let how = "growth of a fresh process's resident memory; 1,000,000 running tasks of 1,000 services with their last \
               reports on 10,000 described nodes";
    let figure = |name: &str, runs, target| Figure {
        name: name.to_owned(),
        runs,
        unit: "bytes",
        target: Target::AtMost(target),
        how: how.to_owned(),
    };
    Ok(vec![
        figure("memory of a task", samples.iter().map(|(_, task)| *task).collect(), 1_024.0),
        figure("memory of a node", samples.iter().map(|(node, _)| *node).collect(), 2_048.0),
    ])
}

fn sample_in_child() -> Result<(f64, f64)> {
    let output = Command::new(std::env::current_exe()?).arg(SAMPLE).output()?;
    ensure!(output.status.success(), "the sample failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let (node, task) = text.trim().split_once(' ').context("a sample is two numbers")?;
    Ok((node.parse()?, task.parse()?))
}

/// One measurement, in this process.
pub fn print_sample() -> Result<()> {
    let mut cluster = Cluster::default();
    let empty = resident_bytes(std::process::id())?;
    for node in 0..NODES {
        fixture::fold(&mut cluster, 1, fixture::node(node));
    }
    let with_nodes = resident_bytes(std::process::id())?;
    let each = TASKS / SERVICES;
    fixture::fold(&mut cluster, 2, (0..SERVICES).map(|service| fixture::service(service, each)));
    for first in (0..TASKS).step_by(usize::try_from(PIECE)?) {
        let index = 3 + first / PIECE;
        let tasks = first..first + PIECE;
        fixture::fold(
            &mut cluster,
            index,
            tasks.clone().map(|task| fixture::task(task, task / each, 2, task % each + 1)),
        );
        fixture::fold(&mut cluster, index, tasks.clone().map(|task| fixture::assigned(task, task % NODES)));
        let report = |task| fixture::reported(task, TaskState::Running, None, fixture::time(index));
        fixture::fold(&mut cluster, index, tasks.map(report));
    }
    let with_tasks = resident_bytes(std::process::id())?;
    ensure!(cluster.tasks.len() as u64 == TASKS, "all tasks are there");
    println!(
        "{} {}",
        with_nodes.saturating_sub(empty) as f64 / NODES as f64,
        with_tasks.saturating_sub(with_nodes) as f64 / TASKS as f64
    );
    Ok(())
}

/// Resident memory of a process.
pub fn resident_bytes(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no resident memory is told")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1_024)
}
