//! The memory of a projection: how much a process grows with the remembered answers of commands, 10,000 nodes, and then 1,000,000
//! running tasks on them.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use events::{ActorKind, ActorRecord, CommandRecord, Frame, FrameHeader, NodeId, ServiceId, TaskState, frame};
use projections::Cluster;
use projections::requests::REQUESTS_MAX;

use crate::figure::{Figure, Target};
use crate::fixture;

/// The argument with which the program measures itself once and prints bytes per node, per task and for all answers.
pub const SAMPLE: &str = "memory-sample";

const RUNS: usize = 3;
const NODES: u64 = 10_000;
const SERVICES: u64 = 1_000;
const TASKS: u64 = 1_000_000;
/// Number of tasks folded at a time: as in a manager, their events are dropped before the next ones are made.
const PIECE: u64 = 1_000;

/// Memory per task and per node; each run is a fresh process.
pub fn figures() -> Result<Vec<Figure>> {
    let samples: Vec<[f64; 3]> = (0..RUNS).map(|_| sample_in_child()).collect::<Result<_>>()?;
    let how = "growth of a fresh process's resident memory; 1,000,000 running tasks of 1,000 services with their last \
               reports on 10,000 described nodes, after 65,536 commands, each in a frame of its own";
    let figure = |name: &str, number: usize, target| Figure {
        name: name.to_owned(),
        runs: samples.iter().map(|sample| sample[number]).collect(),
        unit: "bytes",
        target: Target::AtMost(target),
        how: how.to_owned(),
    };
    Ok(vec![
        figure("memory per task", 1, 1_024.0),
        figure("memory per node", 0, 2_048.0),
        figure("memory of stored answers to commands", 2, 6_000_000.0),
    ])
}

fn sample_in_child() -> Result<[f64; 3]> {
    let output = Command::new(std::env::current_exe()?).arg(SAMPLE).output()?;
    ensure!(output.status.success(), "the sample failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    numbers.try_into().ok().context("a sample is three numbers")
}

/// One measurement, in this process.
pub fn print_sample() -> Result<()> {
    let mut cluster = Cluster::default();
    let empty = resident_bytes(std::process::id())?;
    (0..REQUESTS_MAX as u64).for_each(|number| answer(&mut cluster, number));
    let with_answers = resident_bytes(std::process::id())?;
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
        "{} {} {}",
        with_nodes.saturating_sub(with_answers) as f64 / NODES as f64,
        with_tasks.saturating_sub(with_nodes) as f64 / TASKS as f64,
        with_answers.saturating_sub(empty)
    );
    Ok(())
}

/// A frame with one command that created a service.
fn answer(cluster: &mut Cluster, number: u64) {
    let index = number + 1;
    let leader = Some(fixture::id::<NodeId>(0));
    let header =
        FrameHeader { format: frame::FORMAT, index, log_time: fixture::time(index), leader, ..FrameHeader::default() };
    let command = CommandRecord {
        id: fixture::id(number),
        kind: "service.create".to_owned(),
        actor: ActorRecord { kind: ActorKind::Operator.into(), subject: "root".to_owned(), via: leader },
        subject: Some(fixture::id::<ServiceId>(number).to_string()),
        ..CommandRecord::default()
    };
    cluster.apply_frame(&Frame { header, commands: vec![command], events: Vec::new() });
}

/// Resident memory of a process.
pub fn resident_bytes(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("there is no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1_024)
}
