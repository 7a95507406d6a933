//! Whether a busy cluster mistakes a slow manager for a dead one: elections, and nodes declared down, without a fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::agents::number;
use crate::daemon::runtime;
use crate::figure::{Figure, Target};
use crate::quorum::Managers;

/// Default duration, unless this environment variable is set.
const SECONDS: u64 = 600;
const SECONDS_VARIABLE: &str = "BENCH_SECONDS";
const CALLERS: usize = 256;
/// Number of threads that only compete with the managers for the processors.
const LOAD: usize = 8;

/// Both counts.
pub fn figures() -> Result<Vec<Figure>> {
    let seconds = number(SECONDS_VARIABLE, SECONDS)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..LOAD).map(|_| spin(Arc::clone(&is_over))).collect();
    let counted = runtime()?.block_on(watch(Duration::from_secs(seconds)));
    is_over.store(true, Ordering::Relaxed);
    load.into_iter().for_each(|thread| drop(thread.join()));
    let (elections, down) = counted?;
    let how = format!(
        "three managers on the same processors, {CALLERS} callers of commands at the leader and {LOAD} threads that only use the processors, \
         for {seconds} s"
    );
    let figure = |name: &str, runs| Figure {
        name: name.to_owned(),
        runs: vec![runs],
        unit: "",
        target: Target::AtMost(0.0),
        how: how.clone(),
    };
    Ok(vec![figure("elections without a fault", elections), figure("nodes declared down without a fault", down)])
}

fn spin(is_over: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    })
}

async fn watch(time: Duration) -> Result<(f64, f64)> {
    let managers = Managers::start().await?;
    let (since, before) = (node::clock::now(), managers.term().await?);
    let started = Instant::now();
    while started.elapsed() < time {
        managers.measure(CALLERS).await?;
    }
    let elections = managers.term().await? - before;
    Ok((elections as f64, managers.declared_down(since).await? as f64))
}
