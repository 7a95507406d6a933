//! etcd, for comparison with durable commands: starts members on loopback addresses, and measures one call of its API.

use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::callers::{self, CONNECTIONS_MAX, Throughput};
use crate::daemon::free_ports;

/// Time limit for its members to answer.
const TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Size of a put's value: about what one of our commands writes.
pub const VALUE_BYTES: usize = 256;

/// The members of one etcd cluster; dropping this ends them.
pub struct Etcd {
    members: Vec<Child>,
    clients: Vec<String>,
    _dir: TempDir,
}

/// The used part of `etcdserverpb.PutRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `etcdserverpb.PutResponse`; none of its fields is used.
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

impl Etcd {
    /// Starts a cluster and waits until it accepts writes; `None` if etcd is not installed.
    pub async fn start(members: usize) -> Result<Option<Self>> {
        let dir = tempfile::tempdir()?;
        let mut ports = free_ports();
        let mut url = || ports.next().context("no port is free").map(|port| format!("http://127.0.0.1:{port}"));
        let peers: Vec<String> = (0..members).map(|_| url()).collect::<Result<_>>()?;
        let clients: Vec<String> = (0..members).map(|_| url()).collect::<Result<_>>()?;
        let initial: Vec<String> = peers.iter().enumerate().map(|(member, peer)| format!("m{member}={peer}")).collect();
        let mut etcd = Self { members: Vec::new(), clients: clients.clone(), _dir: dir };
        for (member, (peer, client)) in peers.iter().zip(&clients).enumerate() {
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("m{member}"), "--initial-cluster", &initial.join(",")]);
            command.arg("--data-dir").arg(etcd._dir.path().join(format!("m{member}")));
            command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
            command.args(["--listen-client-urls", client, "--advertise-client-urls", client, "--log-level", "error"]);
            match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
                Ok(process) => etcd.members.push(process),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error).context("etcd cannot be started"),
            }
        }
        etcd.await_answer().await?;
        Ok(Some(etcd))
    }

    /// A connection to one of the members, round robin.
    async fn connect(&self, number: usize) -> Result<Channel> {
        let url = self.clients[number % self.clients.len()].clone();
        Ok(Endpoint::from_shared(url)?.tcp_nodelay(true).connect().await?)
    }

    /// Callers that put, each with its own key.
    pub async fn measure(&self, callers: usize) -> Result<Throughput> {
        let mut connections = Vec::new();
        for number in 0..callers.min(CONNECTIONS_MAX) {
            connections.push(self.connect(number).await?);
        }
        callers::run(&connections, callers, |connection, caller, _| put(connection, format!("caller-{caller}"))).await
    }

    async fn await_answer(&self) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < TIMEOUT {
            if let Ok(connection) = self.connect(0).await
                && put(connection, "begin".to_owned()).await.is_ok()
            {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("etcd did not answer within {TIMEOUT:?}")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            // It may have ended already.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// Writes a value under a key.
async fn put(connection: Channel, key: String) -> Result<()> {
    let mut client = tonic::client::Grpc::new(connection);
    client.ready().await?;
    let request = tonic::Request::new(PutRequest { key: key.into_bytes(), value: vec![b'x'; VALUE_BYTES] });
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
    let codec = ProstCodec::<PutRequest, PutResponse>::default();
    client.unary(request, path, codec).await?;
    Ok(())
}
