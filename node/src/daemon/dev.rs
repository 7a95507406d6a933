//! `swarmd --dev`: a cluster of one node in a temporary directory, which is removed when swarmd exits.

use std::net::SocketAddr;

use crate::daemon::config::RunArgs;
use crate::daemon::failure::Failure;
use crate::daemon::run;

/// Runs the node, then removes its directory.
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
