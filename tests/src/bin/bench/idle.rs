//! Resident memory of an idle manager.

use std::time::Duration;

use anyhow::Result;

use crate::daemon::{Daemon, runtime};
use crate::figure::{Figure, Target};

const RUNS: usize = 3;
/// How long the manager is idle before it is measured.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// The figure in MiB.
pub fn figures() -> Result<Vec<Figure>> {
    let runtime = runtime()?;
    let runs = (0..RUNS).map(|_| runtime.block_on(run())).collect::<Result<_>>()?;
    let how = "VmRSS of a real swarmd (manager and worker in one, process executor), 10 s after its node is ready";
    let name = "memory of an idle manager".to_owned();
    Ok(vec![Figure { name, runs, unit: "MiB", target: Target::AtMost(40.0), how: how.to_owned() }])
}

async fn run() -> Result<f64> {
    let daemon = Daemon::start("process").await?;
    tokio::time::sleep(IDLE_TIME).await;
    Ok(daemon.resident_bytes()? as f64 / f64::from(1 << 20))
}
