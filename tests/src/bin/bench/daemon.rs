//! A real `swarmd`: with a new cluster of one node in its own directory, or with a prepared one.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use events::Timestamp;
use tempfile::TempDir;
use tonic::transport::Channel;
use wire::v1::control_client::ControlClient;
use wire::v1::{EventsRequest, GetClusterRequest, ListNodesRequest};

/// Time limit for a manager until its only node is ready.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit for a manager with an existing log.
const RESUME_TIMEOUT: Duration = Duration::from_secs(300);
/// Delay between two checks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A running manager; dropping this ends it.
pub struct Daemon {
    process: Child,
    dir: TempDir,
    /// Id of its node.
    pub node: String,
}

impl Daemon {
    /// Starts the `swarmd` next to this program and waits until its node is ready.
    pub async fn start(executor: &str) -> Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), executor, &[]).await
    }

    /// Starts it at an address that other nodes can reach, with further arguments, and waits until it reports a ready node.
    pub async fn start_at(remote: SocketAddr, executor: &str, more: &[String]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let process = spawn(dir.path(), remote, executor, more)?;
        let mut daemon = Self { process, dir, node: String::new() };
        daemon.node = daemon.await_node().await?;
        Ok(daemon)
    }

    /// Starts one that joins a cluster with these arguments. Does not wait for it.
    pub fn join(remote: SocketAddr, executor: &str, join: &[String]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let process = spawn(dir.path(), remote, executor, join)?;
        Ok(Self { process, dir, node: String::new() })
    }

    /// Starts it on the state directory `state` in `dir`, and waits until it answers.
    pub async fn resume(dir: TempDir, remote: SocketAddr) -> Result<Self> {
        let process = spawn(dir.path(), remote, "process", &[])?;
        let mut daemon = Self { process, dir, node: String::new() };
        daemon.await_answer().await?;
        Ok(daemon)
    }

    /// Kills it, as a power failure would, and starts it again at once. Does not wait for it.
    pub fn kill_and_resume(&mut self, remote: SocketAddr) -> Result<()> {
        self.kill()?;
        self.start_again(remote)
    }

    /// Kills it.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again. Does not wait for it.
    pub fn start_again(&mut self, remote: SocketAddr) -> Result<()> {
        self.process = spawn(self.dir.path(), remote, "process", &[])?;
        Ok(())
    }

    /// The processor time of its threads so far.
    pub fn cpu_time(&self) -> Result<Duration> {
        crate::clock::cpu_time_of(self.process.id())
    }

    /// The number of events of this kind in history since this log time.
    pub async fn count_events(&self, kind: &str, since: Timestamp) -> Result<usize> {
        let kinds = vec![kind.to_owned()];
        let request = EventsRequest { since: Some(since), kinds, ..EventsRequest::default() };
        let mut events = self.connect().await?.events(request).await?.into_inner();
        let mut count = 0;
        while events.message().await?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    /// A new connection to its control API.
    pub async fn connect(&self) -> Result<ControlClient<Channel>> {
        Ok(wire::connect(&self.socket()).await?)
    }

    /// Resident memory of the process in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        crate::memory::resident_bytes(self.process.id())
    }

    /// The number of its threads.
    pub fn threads(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/task", self.process.id()))?.count())
    }

    /// The directory of its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path of its control socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    /// Waits until it answers an operator, which is once it has read its log and is the leader.
    pub async fn await_answer(&mut self) -> Result<Duration> {
        let started = Instant::now();
        while started.elapsed() < RESUME_TIMEOUT {
            if let Some(status) = self.process.try_wait()? {
                bail!("swarmd ended with {status}");
            }
            if let Ok(mut client) = self.connect().await
                && client.get_cluster(GetClusterRequest::default()).await.is_ok()
            {
                return Ok(started.elapsed());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("swarmd did not answer within {RESUME_TIMEOUT:?}")
    }

    async fn await_node(&mut self) -> Result<String> {
        let started = Instant::now();
        while started.elapsed() < START_TIMEOUT {
            if let Some(status) = self.process.try_wait()? {
                bail!("swarmd ended with {status}");
            }
            if let Some(node) = self.ready_node().await {
                return Ok(node);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("swarmd's node was not ready after {START_TIMEOUT:?}")
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
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts the `swarmd` next to this program, with its files in a directory.
fn spawn(dir: &Path, remote: SocketAddr, executor: &str, more: &[String]) -> Result<Child> {
    let swarmd = std::env::current_exe()?.with_file_name("swarmd");
    let mut command = Command::new(&swarmd);
    command.arg("--state-dir").arg(dir.join("state"));
    command.arg("--listen-control-api").arg(dir.join("control.sock"));
    command.args(["--listen-remote-api", &remote.to_string(), "--log-level", "warn", "--executor", executor]);
    command.args(more);
    let spawned = command.stdin(Stdio::null()).spawn();
    spawned.with_context(|| format!("{} cannot be started; build it first", swarmd.display()))
}

/// Ports below the kernel's ephemeral range: after a restart, the same port is still free.
pub fn free_ports() -> impl Iterator<Item = u16> {
    (20_000..30_000).filter(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
}

/// The async runtime of a measurement's clients.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}
