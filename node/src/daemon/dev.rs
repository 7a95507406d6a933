//! `swarmd --dev`: a cluster of one node in a temporary directory, gone when swarmd ends.

use std::net::SocketAddr;
use std::time::Duration;

use crate::agent::executor::{Executor, ExecutorError};
use crate::daemon::config::RunArgs;
use crate::daemon::failure::Failure;
use crate::daemon::run;
use crate::security::Subject;

/// Attempts to remove one task, and the pause between them: an engine may be busy for a moment.
const SWEEP_ATTEMPTS: u32 = 5;
const SWEEP_PAUSE: Duration = Duration::from_millis(300);

/// Runs the node and takes its directory away afterwards.
///
/// # Errors
/// As for any node.
pub async fn run(args: RunArgs) -> Result<(), Failure> {
    let id: u32 = rand::random();
    let dir = std::env::temp_dir().join(format!("swarmlog-dev-{id:08x}"));
    let listen_remote_api = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let listen_control_api = Some(dir.join("control.sock"));
    let args = RunArgs { state_dir: dir.clone(), listen_control_api, listen_remote_api, ..args };
    let result = run::run(args).await;
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        tracing::warn!(%error, path = %dir.display(), "the temporary directory was not removed");
    }
    result
}

/// Removes the tasks of a cluster that ends for good; whatever stays is named.
pub(crate) async fn sweep(executor: &dyn Executor, member: Subject) {
    let tasks = match executor.inventory(member.cluster, member.node).await {
        Ok(tasks) => tasks,
        Err(error) => {
            return tracing::warn!(%error, cluster = %member.cluster, "containers of this cluster may not have been removed");
        }
    };
    for task in tasks {
        let mut attempt = 1;
        while let Err(error) = executor.remove(task).await {
            if matches!(error, ExecutorError::Fatal(_)) || attempt == SWEEP_ATTEMPTS {
                tracing::warn!(%error, %task, "the task's container was not removed");
                break;
            }
            attempt += 1;
            tokio::time::sleep(SWEEP_PAUSE).await;
        }
    }
}
