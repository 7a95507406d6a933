//! A manager with a long history: how soon it answers after its start, and how soon another manager that joins has all of that
//! history and votes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use wire::v1::{GetClusterRequest, GetRaftRequest};

use crate::agents::number;
use crate::daemon::{Daemon, free_ports, runtime};
use crate::figure::{Figure, Target};
use crate::prepared;

/// Default number of events in history, unless this environment variable is set.
const EVENTS: u64 = 1_000_000;
const EVENTS_VARIABLE: &str = "BENCH_EVENTS";
const STARTS: usize = 5;
/// Time limit for the other manager.
const TIMEOUT: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The times of a start and of a join.
pub fn figures() -> Result<Vec<Figure>> {
    let events = number(EVENTS_VARIABLE, EVENTS)?;
    let (starts, voted) = runtime()?.block_on(measure(events))?;
    let how =
        format!("a real swarmd with {events} events behind it, changes of one node's labels in frames of up to 1,000");
    let started = format!("{how}; killed and started again");
    let joined = format!("{how}; another swarmd on the same processors and disk joins it with the manager token");
    let figure = |name: &str, runs, target, how| Figure { name: name.to_owned(), runs, unit: "s", target, how };
    Ok(vec![
        figure("cold start: until reads are answered", starts, Target::AtMost(2.0), started),
        figure("a manager that joins: until it votes", vec![voted], Target::AtMost(30.0), joined),
    ])
}

async fn measure(events: u64) -> Result<(Vec<f64>, f64)> {
    let dir = tempfile::tempdir()?;
    prepared::prepare_history(&dir.path().join("state"), events).await?;
    let addresses: Vec<SocketAddr> =
        free_ports().take(2).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
    let [first, second] = addresses[..] else { bail!("no ports are free") };
    let mut daemon = Daemon::resume(dir, first).await?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        daemon.kill()?;
        let started = Instant::now();
        daemon.start_again(first)?;
        daemon.await_answer().await?;
        starts.push(started.elapsed().as_secs_f64());
    }
    let asked = GetClusterRequest { with_tokens: Some(true) };
    let token = daemon.connect().await?.get_cluster(asked).await?.into_inner().join_tokens.manager.clone();
    let join = ["--join-addr".to_owned(), first.to_string(), "--join-token".to_owned(), token];
    let started = Instant::now();
    let _other = Daemon::start_at(second, "process", &join).await?;
    Ok((starts, until_two_vote(&daemon, started).await?))
}

async fn until_two_vote(daemon: &Daemon, started: Instant) -> Result<f64> {
    while started.elapsed() < TIMEOUT {
        let raft = daemon.connect().await?.get_raft(GetRaftRequest {}).await.context("the first manager answers")?;
        if raft.into_inner().voters == 2 {
            return Ok(started.elapsed().as_secs_f64());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    bail!("the other manager did not vote within {TIMEOUT:?}")
}
