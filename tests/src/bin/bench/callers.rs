//! Concurrent callers that each send the next request after the last answer, and their throughput.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

/// Duration of one run.
pub const RUN: Duration = Duration::from_secs(3);
/// Number of connections that callers share, as the clients of a proxy or a program do.
pub const CONNECTIONS_MAX: usize = 8;

/// The result of one run.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// Answers per second.
    pub per_second: f64,
    /// Median latency of an answer, in milliseconds.
    pub p50_ms: f64,
}

/// Runs this many callers for [`RUN`]; each uses one of the connections, with its own number and that of its request.
pub async fn run<C, F>(
    connections: &[C],
    callers: usize,
    ask: impl Fn(C, usize, u64) -> F + Copy + Send + 'static,
) -> Result<Throughput>
where
    C: Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let started = Instant::now();
    let end = started + RUN;
    let mut all = JoinSet::new();
    for caller in 0..callers {
        let connection = connections[caller % connections.len()].clone();
        all.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let asked = Instant::now();
                ask(connection.clone(), caller, times.len() as u64).await?;
                times.push(asked.elapsed());
            }
            Ok::<_, anyhow::Error>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(answered) = all.join_next().await {
        times.extend(answered??);
    }
    let elapsed = started.elapsed();
    ensure!(!times.is_empty(), "nothing was answered");
    let middle = times.len() / 2;
    let (_, p50, _) = times.select_nth_unstable(middle);
    let p50_ms = p50.as_secs_f64() * 1_000.0;
    Ok(Throughput { per_second: times.len() as f64 / elapsed.as_secs_f64(), p50_ms })
}
