//! The cost of a large cluster's agents for their manager while little happens: a real `swarmd`, and agents with their own
//! certificates and TLS connections that send heartbeats and occasional reports.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use node::security::{CertificateStore, Limits};
use tempfile::TempDir;

use crate::crowd::{Counts, Crowd, Identity};
use crate::daemon::{Daemon, free_ports, runtime};
use crate::figure::{Figure, Target};
use crate::prepared;
use crate::prepared::lived::{self, HistorySpec};

/// Default number of agents, unless this environment variable is set.
const AGENTS: u64 = 20_000;
const AGENTS_VARIABLE: &str = "BENCH_AGENTS";
/// Duration of the measurement.
const SECONDS: u64 = 300;
const SECONDS_VARIABLE: &str = "BENCH_SECONDS";
/// One in a hundred agents reports something new each second.
const REPORT_EVERY: Duration = Duration::from_secs(100);
/// Time limit for all agents to open their sessions.
const OPEN_TIMEOUT: Duration = Duration::from_secs(300);
/// Delay before agents connect, so that the manager's own start is not measured. Short, because its nodes are missed from then
/// on.
const START_IDLE_TIME: Duration = Duration::from_secs(2);
/// Delay after they have connected.
const IDLE_TIME: Duration = Duration::from_secs(10);
/// The manager's own agent, and one session that is being replaced.
const NOT_OURS: usize = 8;

/// Processor, memory and lost nodes.
pub fn figures() -> Result<Vec<Figure>> {
    let seconds = number(SECONDS_VARIABLE, SECONDS)?;
    let (agents, why) = agents()?;
    let sample = runtime()?.block_on(measure(agents, Duration::from_secs(seconds)))?;
    let what = format!(
        "{agents} agents{why} on a real swarmd, each with a certificate, a TLS connection and a task of its own, for {seconds} s: {} \
         heartbeats, {} reports; sessions that ended: {}; the agents run on the same processors",
        sample.heartbeats, sample.reports, sample.ended
    );
    let figure = |name: &str, value, unit, target| Figure {
        name: name.to_owned(),
        runs: vec![value],
        unit,
        target: Target::AtMost(target),
        how: what.clone(),
    };
    Ok(vec![
        figure("agents: share of one processor", sample.processors * 100.0, "%", 50.0),
        figure("agents: memory per agent", sample.kib_each, "KiB", 60.0),
        figure("agents: nodes declared down", sample.down as f64, "nodes", 0.0),
    ])
}

struct Sample {
    processors: f64,
    kib_each: f64,
    down: usize,
    heartbeats: u64,
    reports: u64,
    ended: String,
}

async fn measure(agents: u64, time: Duration) -> Result<Sample> {
    let cluster = PreparedCluster::new(agents, agents).await?;
    let daemon = Daemon::resume(cluster.dir, cluster.remote).await?;
    tokio::time::sleep(START_IDLE_TIME).await;
    let before = daemon.resident_bytes()?;
    let connect = cluster.connect;
    let mut crowd = Crowd::start(daemon.dir(), connect, &cluster.root_pem, &cluster.agents, Some(REPORT_EVERY))?;
    let since = node::clock::now();
    crowd.wait("all sessions are open", OPEN_TIMEOUT, |counts| counts.open == agents).await?;
    tokio::time::sleep(IDLE_TIME).await;
    let (started, counts, cpu) = (Instant::now(), crowd.counts(), daemon.cpu_time()?);
    tokio::time::sleep(time).await;
    let (wall, cpu) = (started.elapsed(), daemon.cpu_time()? - cpu);
    let after: Counts = crowd.counts();
    let grown = daemon.resident_bytes()?.saturating_sub(before);
    Ok(Sample {
        processors: cpu.as_secs_f64() / wall.as_secs_f64(),
        kib_each: grown as f64 / 1_024.0 / agents as f64,
        down: daemon.count_events("node_declared_down", since).await?,
        heartbeats: after.heartbeats - counts.heartbeats,
        reports: after.reports - counts.reports,
        ended: after.ended_since(&counts),
    })
}

/// A prepared cluster, and the addresses of its manager.
pub struct PreparedCluster {
    pub dir: TempDir,
    pub root_pem: String,
    pub agents: Vec<Identity>,
    /// Where the manager listens.
    pub remote: SocketAddr,
    /// The address that agents connect to.
    pub connect: SocketAddr,
}

impl PreparedCluster {
    pub async fn new(agents: u64, tasks: u64) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let agents = prepared::prepare(&dir.path().join("state"), agents, tasks).await?;
        Self::of(dir, agents)
    }

    /// A cluster with this history.
    pub async fn lived(life: HistorySpec) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let agents = lived::prepare(&dir.path().join("state"), life).await?;
        Self::of(dir, agents)
    }

    fn of(dir: TempDir, agents: Vec<Identity>) -> Result<Self> {
        let state_dir = dir.path().join("state");
        let root = CertificateStore::new(&state_dir).load_roots()?.context("a cluster has a root")?.newest().clone();
        let port = free_ports().next().context("no port is free")?;
        let remote = SocketAddr::from(([0, 0, 0, 0], port));
        let connect = SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Self { dir, root_pem: root.to_pem(), agents, remote, connect })
    }
}

/// The number of agents, and the reason if there are fewer than requested.
pub fn agents() -> Result<(u64, String)> {
    let wanted = number(AGENTS_VARIABLE, AGENTS)?;
    let descriptors = node::daemon::descriptors::raise();
    let room = Limits::of_descriptors(descriptors).members_max().saturating_sub(NOT_OURS) as u64;
    let why = if room < wanted {
        format!(" (not {wanted}: a process may have {descriptors} files open here)")
    } else {
        String::new()
    };
    Ok((wanted.min(room), why))
}

/// A number from the environment.
pub fn number(variable: &str, otherwise: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} is no number")),
        Err(_) => Ok(otherwise),
    }
}
