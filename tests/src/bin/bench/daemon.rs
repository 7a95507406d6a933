//! A real `swarmd` with a cluster of one node in a directory of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tonic::transport::Channel;
use wire::v1::ListNodesRequest;
use wire::v1::control_client::ControlClient;

/// How long a manager may take until its only node is ready.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at whether it is.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A running manager; it ends with this value.
pub struct Daemon {
    process: Child,
    dir: TempDir,
    /// Id of its node.
    pub node: String,
}

impl Daemon {
    /// Starts the `swarmd` beside this program and waits until its node is ready.
    pub async fn start(executor: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let swarmd = std::env::current_exe()?.with_file_name("swarmd");
        let mut command = Command::new(&swarmd);
        command.arg("--state-dir").arg(dir.path().join("state"));
        command.arg("--listen-control-api").arg(dir.path().join("control.sock"));
        command.args(["--listen-remote-api", "127.0.0.1:0", "--log-level", "warn", "--executor", executor]);
        let spawned = command.stdin(Stdio::null()).spawn();
        let process = spawned.with_context(|| format!("{} cannot be started; build it first", swarmd.display()))?;
        let mut daemon = Self { process, dir, node: String::new() };
        daemon.node = daemon.await_node().await?;
        Ok(daemon)
    }

    /// A new connection to its control API.
    pub async fn connect(&self) -> Result<ControlClient<Channel>> {
        Ok(wire::connect(&self.socket()).await?)
    }

    /// Resident memory of the process in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        crate::memory::resident_bytes(self.process.id())
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    async fn await_node(&mut self) -> Result<String> {
        let begun = Instant::now();
        while begun.elapsed() < START_PATIENCE {
            if let Some(status) = self.process.try_wait()? {
                bail!("swarmd ended with {status}");
            }
            if let Some(node) = self.ready_node().await {
                return Ok(node);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("swarmd's node was not ready after {START_PATIENCE:?}")
    }

    async fn ready_node(&self) -> Option<String> {
        let mut client = self.connect().await.ok()?;
        let mut pages = client.list_nodes(ListNodesRequest::default()).await.ok()?.into_inner();
        let nodes = pages.message().await.ok()??.nodes;
        nodes.iter().find(|node| node.state() == wire::v1::NodeState::Ready).map(|node| node.id.to_string())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The runtime of a measurement's clients.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}
