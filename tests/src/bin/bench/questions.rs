//! The cost of reads of the past and the future: `swarmctl` as an operator runs it, with a real manager and a long history.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::agents::{PreparedCluster, number};
use crate::crowd::Crowd;
use crate::daemon::{Daemon, runtime};
use crate::figure::{Figure, Target};
use crate::prepared::lived::HistorySpec;

/// The cluster: services with 50 tasks each.
const SERVICES: u64 = 2_000;
const REPLICAS: u64 = 50;
const NODES: u64 = 1_000;
/// Default number of updates, each of all tasks of a service, unless this environment variable is set: about 10,000,000 events.
const UPDATES: u64 = 32_000;
const UPDATES_VARIABLE: &str = "BENCH_UPDATES";
/// For the figure about the loss of nodes.
const SMALL: HistorySpec = HistorySpec { nodes: 1_000, services: 200, replicas: 50, updates: 0 };
const RUNS: usize = 11;
/// Time limit for the workers to open their sessions, and for the manager to build the tree of its history.
const TIMEOUT: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Number of points of the past that are read: enough for a 99th percentile.
const POINTS: usize = 100;
/// Number of frames between the two points of a diff.
const HOUR_FRAMES: u64 = 300;

/// All figures.
pub fn figures() -> Result<Vec<Figure>> {
    let updates = number(UPDATES_VARIABLE, UPDATES)?;
    let runtime = runtime()?;
    let mut figures = runtime.block_on(of_long_history(updates))?;
    figures.push(runtime.block_on(survive())?);
    Ok(figures)
}

/// The manager of a cluster with this history, and its workers.
async fn manager(life: HistorySpec) -> Result<(Daemon, Crowd)> {
    let cluster = PreparedCluster::lived(life).await?;
    let mut daemon = Daemon::resume(cluster.dir, cluster.remote).await?;
    let mut crowd = Crowd::start(daemon.dir(), cluster.connect, &cluster.root_pem, &cluster.agents, None)?;
    crowd.wait("all sessions are open", TIMEOUT, |counts| counts.open == life.nodes).await?;
    daemon.await_answer().await?;
    Ok((daemon, crowd))
}

async fn of_long_history(updates: u64) -> Result<Vec<Figure>> {
    let (daemon, _crowd) =
        manager(HistorySpec { nodes: NODES, services: SERVICES, replicas: REPLICAS, updates }).await?;
    let end = newest(&daemon, &[])?;
    // From here on all services exist.
    let grown = newest(&daemon, &["--kind", "service_created"])?;
    let kept = daemon.dir().join("history.proto");
    let lines = daemon.dir().join("history.jsonl");
    let (_, exported) = timed(&daemon, &["events", "export", &lines.to_string_lossy()])?;
    let kept_seconds = export_frames(&daemon, &kept).await?;
    let events = count_lines(&lines)?;
    let frames_bytes = std::fs::metadata(&kept)?.len();
    std::fs::remove_file(&lines)?;
    let what = format!(
        "swarmctl beside a real swarmd with {events} events in {end} frames behind it, of {NODES} nodes and {SERVICES} services with \
         {REPLICAS} tasks each; with the start of swarmctl"
    );
    let figure =
        |name: &str, runs, unit, target| Figure { name: name.to_owned(), runs, unit, target, how: what.clone() };
    let mut random = StdRng::seed_from_u64(7);
    let mut at = Vec::new();
    for _ in 0..POINTS {
        let (point, service) = (random.random_range(grown..end), random.random_range(0..SERVICES));
        let (point, service) = (point.to_string(), format!("service-{service}"));
        at.push(timed(&daemon, &["service", "inspect", "--at", &point, &service])?.1 * 1_000.0);
    }
    at.sort_by(f64::total_cmp);
    let slowest = at[at.len() * 99 / 100];
    let mut asked = |line: &dyn Fn(u64, u64) -> String| -> Result<Vec<f64>> {
        (0..RUNS)
            .map(|_| {
                let (point, service) =
                    (random.random_range(grown..end - HOUR_FRAMES), random.random_range(0..SERVICES));
                let line = line(point, service);
                let words: Vec<&str> = line.split(' ').collect();
                Ok(timed(&daemon, &words)?.1 * 1_000.0)
            })
            .collect()
    };
    let found = asked(&|_, service| format!("events --object service-{service} --tail 50"))?;
    let blamed = asked(&|_, service| format!("blame service service-{service}"))?;
    let proved = asked(&|point, _| format!("audit prove {point}"))?;
    let planned = asked(&|_, service| format!("service update --dry-run --image shop/web:2 service-{service}"))?;
    let compared = asked(&|point, _| format!("history diff {point} {}", point + HOUR_FRAMES))?;
    let verified = verify(&kept, end)?;
    let disk = bytes_below(&daemon.dir().join("state"))? as f64 / frames_bytes as f64;
    Ok(vec![
        figure("--at a random point", at, "ms", Target::AtMost(300.0)),
        figure("--at a random point, p99", vec![slowest], "ms", Target::AtMost(2_000.0)),
        figure("events --object --tail 50", found, "ms", Target::AtMost(20.0)),
        figure("blame service", blamed, "ms", Target::AtMost(50.0)),
        figure("history diff", compared, "ms", Target::AtMost(200.0)),
        figure("plan of one update", planned, "ms", Target::AtMost(100.0)),
        figure("audit prove", proved, "ms", Target::AtMost(20.0)),
        figure("verify an export", vec![verified], "frames/s", Target::AtLeast(300_000.0)),
        figure("events export to jsonl", vec![events as f64 / exported], "events/s", Target::AtLeast(300_000.0)),
        figure("events export to proto", vec![events as f64 / kept_seconds], "events/s", Target::Shown),
        figure("size of the state directory against its frames", vec![disk], "times", Target::AtMost(1.6)),
        figure(
            "memory of the manager",
            vec![daemon.resident_bytes()? as f64 / f64::from(1 << 20)],
            "MiB",
            Target::Shown,
        ),
    ])
}

/// The duration of an export of all frames in seconds, once the tree over them exists.
async fn export_frames(daemon: &Daemon, file: &Path) -> Result<f64> {
    let started = Instant::now();
    loop {
        match timed(daemon, &["events", "export", "--as", "proto", &file.to_string_lossy()]) {
            Ok((_, seconds)) => return Ok(seconds),
            Err(error) if started.elapsed() > TIMEOUT => return Err(error),
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
        if file.exists() {
            std::fs::remove_file(file)?;
        }
    }
}

async fn survive() -> Result<Figure> {
    let (daemon, _crowd) = manager(SMALL).await?;
    let HistorySpec { nodes, services, replicas, .. } = SMALL;
    let took = timed(&daemon, &["whatif", "survive"])?.1;
    let how = format!("{nodes} nodes, {services} services with {replicas} tasks each");
    Ok(Figure { name: "whatif survive".to_owned(), runs: vec![took], unit: "s", target: Target::AtMost(10.0), how })
}

/// Index of the newest frame, or of the newest one with such an event.
fn newest(daemon: &Daemon, wanted: &[&str]) -> Result<u64> {
    let words = [&["events", "--tail", "1", "--format", "json"], wanted].concat();
    let (output, _) = timed(daemon, &words)?;
    let event: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    event["index"].as_u64().with_context(|| format!("an event without an index: {event}"))
}

/// Frames per second of `swarmlog-verify`.
fn verify(export: &Path, frames: u64) -> Result<f64> {
    let program = std::env::current_exe()?.with_file_name("swarmlog-verify");
    let started = Instant::now();
    let output = Command::new(&program).arg(export).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{} cannot be started; build it first", program.display()))?;
    ensure!(output.status.success(), "an export is not well: {}", String::from_utf8_lossy(&output.stderr));
    Ok(frames as f64 / started.elapsed().as_secs_f64())
}

/// One call, which must succeed, and its duration in seconds.
fn timed(daemon: &Daemon, words: &[&str]) -> Result<(Output, f64)> {
    let program = std::env::current_exe()?.with_file_name("swarmctl");
    let started = Instant::now();
    let output = Command::new(&program).arg("--socket").arg(daemon.socket()).args(words).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{} cannot be started; build it first", program.display()))?;
    let seconds = started.elapsed().as_secs_f64();
    // Exit code 2 means that there are changes, or losses that leave tasks without a node.
    let is_found = output.status.code() == Some(2) && (words.contains(&"--dry-run") || words.contains(&"survive"));
    if !output.status.success() && !is_found {
        bail!("swarmctl {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok((output, seconds))
}

fn count_lines(file: &Path) -> Result<u64> {
    let mut reader = std::io::BufReader::new(std::fs::File::open(file)?);
    let mut lines = 0;
    loop {
        let read = std::io::BufRead::fill_buf(&mut reader)?;
        if read.is_empty() {
            return Ok(lines);
        }
        lines += read.iter().filter(|byte| **byte == b'\n').count() as u64;
        let length = read.len();
        std::io::BufRead::consume(&mut reader, length);
    }
}

/// The size of all files below a directory.
fn bytes_below(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
