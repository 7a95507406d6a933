//! A thousand clients that follow the events of one manager: the latency of a commit until the last of them has it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use wire::v1::EventsRequest;
use wire::v1::control_client::ControlClient;

use crate::callers::CONNECTIONS_MAX;
use crate::commands::update;
use crate::daemon::{Daemon, runtime};
use crate::figure::{Figure, Target};

const SUBSCRIBERS: usize = 1_000;
/// Number of commits for warm-up, and of measured ones.
const WARM_UP: u64 = 20;
const COMMITS: u64 = 200;
/// Delay between two of them, as with people and deployments.
const PAUSE: Duration = Duration::from_millis(20);
/// Time limit for one commit to reach all.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A subscriber received an event of the frame with this index.
type Shown = (u64, Instant);

/// The time from the answer to a command until all have the event; and the number of threads that this takes.
pub fn figures() -> Result<Vec<Figure>> {
    let (mut times, threads) = runtime()?.block_on(measure())?;
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let how = format!(
        "{COMMITS} label updates, one every {PAUSE:?}, each from its answer until the last of {SUBSCRIBERS} streams on \
         {CONNECTIONS_MAX} connections to the unix socket has it, in one process beside swarmd"
    );
    let figure = |name: &str, value, unit, target| Figure {
        name: name.to_owned(),
        runs: vec![value],
        unit,
        target,
        how: how.clone(),
    };
    Ok(vec![
        figure("commit to 1,000 subscribers, p50", at(0.5), "ms", Target::Shown),
        figure("commit to 1,000 subscribers, p99", at(0.99), "ms", Target::AtMost(10.0)),
        figure("threads of swarmd meanwhile", threads, "threads", Target::Shown),
    ])
}

async fn measure() -> Result<(Vec<f64>, f64)> {
    let daemon = Daemon::start("process").await?;
    let mut client = daemon.connect().await?;
    let begin = client.execute(update(daemon.node.clone(), 0, 0)).await?.into_inner().index;
    let (shown, mut all_shown) = mpsc::unbounded_channel();
    let _subscribers = subscribe(&daemon, begin, shown).await?;
    let mut times = Vec::new();
    for number in 1..=WARM_UP + COMMITS {
        let took = one(&mut client, &daemon, number, &mut all_shown).await?;
        if number > WARM_UP {
            times.push(took.as_secs_f64() * 1_000.0);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok((times, daemon.threads()? as f64))
}

async fn subscribe(daemon: &Daemon, begin: u64, shown: UnboundedSender<Shown>) -> Result<JoinSet<Result<()>>> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        connections.push(daemon.connect().await?);
    }
    let mut subscribers = JoinSet::new();
    for number in 0..SUBSCRIBERS {
        let mut connection = connections[number % CONNECTIONS_MAX].clone();
        let request = EventsRequest { from: Some(begin + 1), follow: true, ..EventsRequest::default() };
        let mut events = connection.events(request).await?.into_inner();
        let shown = shown.clone();
        subscribers.spawn(async move {
            while let Some(record) = events.message().await? {
                shown.send((record.index, Instant::now()))?;
            }
            Ok(())
        });
    }
    Ok(subscribers)
}

/// One commit, until all have received it.
async fn one(
    client: &mut ControlClient<Channel>,
    daemon: &Daemon,
    number: u64,
    shown: &mut UnboundedReceiver<Shown>,
) -> Result<Duration> {
    let index = client.execute(update(daemon.node.clone(), 0, number)).await?.into_inner().index;
    let (answered, mut count, mut last) = (Instant::now(), 0, Duration::ZERO);
    while count < SUBSCRIBERS {
        let next = tokio::time::timeout(TIMEOUT, shown.recv()).await;
        let next = next.with_context(|| format!("{count} of {SUBSCRIBERS} have frame {index}"))?;
        let (found, at) = next.context("the subscribers ended")?;
        if found == index {
            count += 1;
            last = last.max(at.saturating_duration_since(answered));
        }
    }
    Ok(last)
}
