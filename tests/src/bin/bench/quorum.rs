//! Three managers: their throughput compared with three members of etcd, and how long there is no leader after the leader is
//! killed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use events::Timestamp;
use wire::v1::{GetClusterRequest, GetRaftRequest, MemberState};

use crate::callers::{self, Throughput};
use crate::commands::{self, update};
use crate::daemon::{Daemon, free_ports, runtime};
use crate::etcd::Etcd;
use crate::figure::{Figure, Target};

const MANAGERS: usize = 3;
const EXECUTOR: &str = "process";
const RUNS: usize = 5;
/// How often the leader is killed.
const FAILOVERS: usize = 30;
/// Time limit for everything here.
const TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Delay between two attempts to write while there is no leader.
const TRY_AGAIN: Duration = Duration::from_millis(10);
/// Time limit of one attempt: a manager without a leader cannot forward.
const ATTEMPT: Duration = Duration::from_millis(500);

/// Throughput and p50 compared with etcd, and the times of the failovers.
pub fn figures() -> Result<Vec<Figure>> {
    runtime()?.block_on(async {
        let mut managers = Managers::start().await?;
        let mut figures = beside_etcd(&managers).await?;
        figures.push(follower_reads(&managers).await?);
        let mut failovers = Vec::with_capacity(FAILOVERS);
        for _ in 0..FAILOVERS {
            failovers.push(managers.failover().await?.as_secs_f64());
        }
        failovers.sort_by(f64::total_cmp);
        let slowest = failovers[failovers.len() - 1];
        let how = format!(
            "{FAILOVERS} times: the leader's process is killed, and the others are asked in turn until one accepts a command; all run \
             on the same processors"
        );
        let figure = |name: &str, runs, target| Figure { name: name.to_owned(), runs, unit: "s", target, how: how.clone() };
        figures.push(figure("from the kill of the leader to the next accepted command", failovers, Target::Shown));
        figures.push(figure("from the kill of the leader to the next accepted command, slowest", vec![slowest], Target::AtMost(1.5)));
        Ok(figures)
    })
}

/// Managers that all vote.
pub struct Managers {
    daemons: Vec<Daemon>,
    addresses: Vec<SocketAddr>,
    /// The node whose labels commands change.
    node: String,
}

impl Managers {
    /// Starts them, and waits until all vote.
    pub async fn start() -> Result<Self> {
        let ports = free_ports().take(MANAGERS);
        let addresses: Vec<SocketAddr> = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let first = Daemon::start_at(addresses[0], EXECUTOR, &[]).await?;
        let cluster =
            first.connect().await?.get_cluster(GetClusterRequest { with_tokens: Some(true) }).await?.into_inner();
        let token = cluster.join_tokens.manager.clone();
        let mut managers = Self { node: first.node.clone(), daemons: vec![first], addresses: addresses.clone() };
        for address in addresses.into_iter().skip(1) {
            let join =
                ["--join-addr".to_owned(), managers.addresses[0].to_string(), "--join-token".to_owned(), token.clone()];
            managers.daemons.push(Daemon::start_at(address, EXECUTOR, &join).await?);
            let voters = managers.daemons.len();
            managers.until("all vote", |raft| raft.voters == u32::try_from(voters).unwrap_or(u32::MAX)).await?;
        }
        Ok(managers)
    }

    /// Waits until every manager's view of raft meets a condition.
    async fn until(&self, what: &str, is_so: impl Fn(&wire::v1::RaftView) -> bool) -> Result<()> {
        let started = Instant::now();
        'again: while started.elapsed() < TIMEOUT {
            for daemon in &self.daemons {
                let Some(raft) = raft(daemon).await else {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue 'again;
                };
                if !is_so(&raft) {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue 'again;
                }
            }
            return Ok(());
        }
        bail!("timed out after {TIMEOUT:?} waiting until {what}")
    }

    /// The number of the leader.
    async fn leader(&self) -> Result<usize> {
        let started = Instant::now();
        while started.elapsed() < TIMEOUT {
            for (number, daemon) in self.daemons.iter().enumerate() {
                if raft(daemon).await.is_some_and(|raft| raft.leader == Some(raft.node)) {
                    return Ok(number);
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("no manager leads")
    }

    /// Kills the leader, and waits until another manager accepts a command; then restarts the old one.
    async fn failover(&mut self) -> Result<Duration> {
        let leader = self.leader().await?;
        let mut others = Vec::new();
        for (number, daemon) in self.daemons.iter().enumerate() {
            if number != leader {
                others.push(daemon.connect().await?);
            }
        }
        self.daemons[leader].kill()?;
        let killed = Instant::now();
        let mut attempts = 0;
        let accepted = 'accepted: loop {
            for other in &mut others {
                attempts += 1;
                let request = update(self.node.clone(), 0, attempts);
                if let Ok(Ok(_)) = tokio::time::timeout(ATTEMPT, other.execute(request)).await {
                    break 'accepted killed.elapsed();
                }
            }
            if killed.elapsed() > TIMEOUT {
                bail!("no manager accepted a command for {TIMEOUT:?}");
            }
            tokio::time::sleep(TRY_AGAIN).await;
        };
        self.daemons[leader].start_again(self.addresses[leader])?;
        let caught_up = |raft: &wire::v1::RaftView| {
            let votes = raft.members.iter().filter(|member| member.state() == MemberState::Voter).count();
            raft.leader.is_some() && votes == MANAGERS
        };
        self.until("the killed manager is back", caught_up).await?;
        Ok(accepted)
    }

    /// The throughput of commands at the leader.
    pub async fn measure(&self, callers: usize) -> Result<Throughput> {
        commands::measure(&self.daemons[self.leader().await?], &self.node, callers).await
    }

    /// The current term, which increases with each election.
    pub async fn term(&self) -> Result<u64> {
        let leader = self.leader().await?;
        raft(&self.daemons[leader]).await.map(|raft| raft.term).context("the leader answers")
    }

    /// How often a node was declared down since then.
    pub async fn declared_down(&self, since: Timestamp) -> Result<usize> {
        self.daemons[self.leader().await?].count_events("node_declared_down", since).await
    }
}

async fn raft(daemon: &Daemon) -> Option<wire::v1::RaftView> {
    let mut client = daemon.connect().await.ok()?;
    client.get_raft(GetRaftRequest {}).await.ok().map(tonic::Response::into_inner)
}

/// The latency of a linearizable read at a follower.
async fn follower_reads(managers: &Managers) -> Result<Figure> {
    let leader = managers.leader().await?;
    let follower = &managers.daemons[(leader + 1) % MANAGERS];
    let connection = [follower.connect().await?];
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let measure = callers::run(&connection, 1, |mut client, _, _| async move {
            client.get_cluster(GetClusterRequest::default()).await?;
            Ok(())
        });
        runs.push(measure.await?.p50_ms);
    }
    let how = "one caller reads the cluster at a follower, which asks the leader, which asks the others, each time; in runs of 3 s";
    let name = "linearizable read at a follower, p50".to_owned();
    Ok(Figure { name, runs, unit: "ms", target: Target::AtMost(1.0), how: how.to_owned() })
}

async fn beside_etcd(managers: &Managers) -> Result<Vec<Figure>> {
    let Some(etcd) = Etcd::start(MANAGERS).await? else {
        println!("etcd is not installed (Debian: etcd-server), so nothing is compared with it");
        return Ok(Vec::new());
    };
    let how = "three managers and three members of etcd on the same processors and disk, each asked by its leader's clients or at all \
               members; in turns of 3 s";
    let mut figures = Vec::new();
    for (callers, of, target) in [
        (256, (|measure: &Throughput| measure.per_second) as fn(&Throughput) -> f64, Target::AtLeast(2.0)),
        (1, |measure: &Throughput| measure.p50_ms, Target::AtMost(0.8)),
    ] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            ours.push(of(&managers.measure(callers).await?));
            theirs.push(of(&etcd.measure(callers).await?));
        }
        let (what, unit) = if callers == 1 { ("p50 of one caller", "ms") } else { ("256 callers", "commands/s") };
        let figure = |name: String, runs, unit, target| Figure { name, runs, unit, target, how: how.to_owned() };
        let compared = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
        figures.push(figure(format!("three managers, {what}"), ours, unit, Target::Shown));
        figures.push(figure(format!("three members of etcd, {what}"), theirs, unit, Target::Shown));
        figures.push(figure(format!("three managers against etcd, {what}"), compared, "times", target));
    }
    Ok(figures)
}
