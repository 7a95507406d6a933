//! The restart of a manager with a large cluster: it is killed with all its sessions open, reads its log, and all agents
//! reconnect at once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::agents::{PreparedCluster, agents, number};
use crate::crowd::{Counts, Crowd};
use crate::daemon::{Daemon, runtime};
use crate::figure::{Figure, Target};

/// Default number of tasks, unless this environment variable is set.
const TASKS: u64 = 1_000_000;
const TASKS_VARIABLE: &str = "BENCH_TASKS";
/// Time limit for all sessions.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How long the cluster is idle before the restart, and watched after it.
const IDLE_TIME: Duration = Duration::from_secs(10);
const WATCH: Duration = Duration::from_secs(30);

/// The times until it answers and until all sessions are open again, and what was lost meanwhile.
pub fn figures() -> Result<Vec<Figure>> {
    let tasks = number(TASKS_VARIABLE, TASKS)?;
    let (agents, why) = agents()?;
    let sample = runtime()?.block_on(measure(agents, tasks))?;
    let what = format!(
        "a real swarmd with {tasks} tasks and {agents} agents{why}, killed and started again at once; the agents run on the same \
         processors; attempts and sessions that ended meanwhile: {}",
        sample.ended
    );
    let figure = |name: &str, value, unit, target| Figure {
        name: name.to_owned(),
        runs: vec![value],
        unit,
        target,
        how: what.clone(),
    };
    Ok(vec![
        figure("restart: until operators get answers", sample.answered.as_secs_f64(), "s", Target::Shown),
        figure("restart: until all sessions are open again", sample.back.as_secs_f64(), "s", Target::AtMost(30.0)),
        figure("restart: sessions dropped again", sample.dropped as f64, "sessions", Target::AtMost(0.0)),
        figure("restart: nodes declared down", sample.down as f64, "nodes", Target::AtMost(0.0)),
    ])
}

struct Sample {
    answered: Duration,
    back: Duration,
    dropped: u64,
    down: usize,
    ended: String,
}

async fn measure(agents: u64, tasks: u64) -> Result<Sample> {
    let cluster = PreparedCluster::new(agents, tasks).await?;
    let mut daemon = Daemon::resume(cluster.dir, cluster.remote).await?;
    let mut crowd = Crowd::start(daemon.dir(), cluster.connect, &cluster.root_pem, &cluster.agents, None)?;
    crowd.wait("all sessions are open", TIMEOUT, |counts| counts.open == agents).await?;
    tokio::time::sleep(IDLE_TIME).await;
    let (before, since): (Counts, _) = (crowd.counts(), node::clock::now());
    ensure!(before.open == agents, "sessions were lost before the restart: {before:?}");
    let started = Instant::now();
    daemon.kill_and_resume(cluster.remote)?;
    daemon.await_answer().await?;
    let answered = started.elapsed();
    let back = |counts: &Counts| counts.open == agents && counts.opened >= before.opened + agents;
    crowd.wait("all sessions are back", TIMEOUT, back).await?;
    let (back, first) = (started.elapsed(), crowd.counts());
    ensure!(first.tasks - before.tasks >= tasks, "agents were sent all tasks: {first:?}");
    tokio::time::sleep(WATCH).await;
    let last = crowd.counts();
    Ok(Sample {
        answered,
        back,
        dropped: last.opened - before.opened - agents,
        down: daemon.count_events("node_declared_down", since).await?,
        ended: last.ended_since(&before),
    })
}
