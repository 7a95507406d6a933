//! One simulated agent: it keeps a session open with the deadlines and delays of the real one, sends heartbeats at the requested
//! interval, and sometimes reports a change of a task.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use events::{SessionId, TaskId, TaskState};
use hyper_util::rt::TokioIo;
use node::agent::Backoff;
use node::security::{Introduction, Subject};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};
use tower::service_fn;
use wire::v1::dispatcher_client::DispatcherClient;
use wire::v1::session_message::Message;
use wire::v1::{AssignmentSet, HeartbeatRequest, RegisterRequest, ReportRequest, SessionMessage};

use super::{Counts, Identity, address};
use crate::fixture;
use crate::prepared::description;

/// As in the real agent.
const RPC_DEADLINE: Duration = Duration::from_secs(5);
const STABLE_AFTER: Duration = Duration::from_secs(5);
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The name in a manager's certificate.
const MANAGER_NAME: &str = "swarm-manager";

/// The state that all agents of a process share.
pub struct Shared {
    manager: SocketAddr,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    report_every: Option<Duration>,
    open: AtomicU64,
    opened: AtomicU64,
    tasks: AtomicU64,
    heartbeats: AtomicU64,
    reports: AtomicU64,
    ended: Mutex<BTreeMap<String, u64>>,
}

impl Shared {
    pub fn new(manager: SocketAddr, roots: RootCertStore, report_every: Option<Duration>) -> Self {
        let (roots, provider) = (Arc::new(roots), Arc::new(aws_lc_rs::default_provider()));
        let zero = AtomicU64::default;
        Self {
            manager,
            roots,
            provider,
            report_every,
            open: zero(),
            opened: zero(),
            tasks: zero(),
            heartbeats: zero(),
            reports: zero(),
            ended: Mutex::default(),
        }
    }

    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            open: read(&self.open),
            opened: read(&self.opened),
            tasks: read(&self.tasks),
            heartbeats: read(&self.heartbeats),
            reports: read(&self.reports),
            ended: self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn note(&self, ended: &Ended) {
        let mut all = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry(ended.to_string()).or_default() += 1;
    }
}

/// Why a session ended or could not be opened.
#[derive(Debug)]
enum Ended {
    Connect(String),
    Late(&'static str),
    Refused { call: &'static str, status: Box<Status> },
    Closed,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "connecting: {why}"),
            Self::Late(call) => write!(f, "{call} not answered within {} s", RPC_DEADLINE.as_secs()),
            Self::Refused { call, status } => {
                // The node's name is removed, so that the same refusal is counted together for all nodes.
                let words = status.message().split(' ').filter(|word| word.len() < events::id::TEXT_LENGTH);
                write!(f, "{call} ended: {:?} {}", status.code(), words.collect::<Vec<_>>().join(" "))
            }
            Self::Closed => write!(f, "the session was closed"),
        }
    }
}

/// One agent.
pub struct Agent {
    shared: Arc<Shared>,
    number: u64,
    tls: TlsConnector,
}

impl Agent {
    pub fn new(shared: &Arc<Shared>, identity: &Identity) -> Result<Self> {
        let certificate = CertificateDer::from_pem_slice(identity.cert_pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?;
        let config = ClientConfig::builder_with_provider(Arc::clone(&shared.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(Arc::clone(&shared.roots));
        let introduction = Introduction::of_node(Subject::of(&certificate)?.node, &identity.cert_pem);
        let mut config = config.with_client_auth_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), introduction.protocol()];
        config.resumption = Resumption::disabled();
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self { shared: Arc::clone(shared), number: identity.number, tls })
    }

    /// Keeps a session open forever.
    pub async fn hold(self) -> Infallible {
        let mut backoff = Backoff::default();
        // As with real machines, not all start at the same moment.
        tokio::time::sleep(rand::random_range(Duration::ZERO..Duration::from_secs(1))).await;
        loop {
            let started = Instant::now();
            let Err(ended) = self.session().await;
            self.shared.note(&ended);
            if started.elapsed() >= STABLE_AFTER {
                backoff.reset();
            }
            let pause = backoff.pause(&mut rand::rng());
            tokio::time::sleep(pause).await;
        }
    }

    async fn session(&self) -> Result<Infallible, Ended> {
        let channel = tokio::time::timeout(RPC_DEADLINE, self.connect());
        let channel = channel.await.map_err(|_| Ended::Late("connecting"))??;
        let mut client = DispatcherClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request = RegisterRequest { description: description(self.number), advertise_addr: None, seen: None };
        let registering = async {
            let mut stream = client.session(request).await.map(Response::into_inner)?;
            stream.message().await.map(|first| (first, stream))
        };
        let (first, mut stream) = within_deadline("registration", registering).await?;
        let Some(Message::Welcome(welcome)) = first.and_then(|first| first.message) else { return Err(Ended::Closed) };
        let set = next_set(&mut stream).await?;
        let _open = Open::new(&self.shared, set.tasks.len() as u64);
        let period = Duration::from_nanos(welcome.heartbeat_period_ns);
        let task = set.tasks.first().map(|assignment| assignment.task);
        drop(set);
        tokio::select! {
            ended = take(stream) => ended,
            ended = self.beat(client.clone(), welcome.session, period) => ended,
            ended = self.report(client, welcome.session, task) => ended,
        }
    }

    async fn connect(&self) -> Result<Channel, Ended> {
        let failed = |error: &dyn std::error::Error| Ended::Connect(innermost(error));
        let stream = self.dial().await.map_err(|error| failed(&error))?;
        let mut stream = Some(TokioIo::new(stream));
        let only = service_fn(move |_| {
            let gone = || std::io::Error::other("it was used already");
            std::future::ready(stream.take().ok_or_else(gone))
        });
        let endpoint = Endpoint::from_static("http://manager").buffer_size(4);
        endpoint.connect_with_connector(only).await.map_err(|error| failed(&error))
    }

    async fn dial(&self) -> std::io::Result<TlsStream<tokio::net::TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(address(self.number)), 0))?;
        let stream = socket.connect(self.shared.manager).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(MANAGER_NAME).map_err(std::io::Error::other)?;
        self.tls.connect(name, stream).await
    }

    async fn beat(
        &self,
        mut client: DispatcherClient<Channel>,
        session: SessionId,
        mut period: Duration,
    ) -> Result<Infallible, Ended> {
        let (requests, receiver) = mpsc::channel(1);
        let opened = within_deadline("a heartbeat", client.heartbeats(ReceiverStream::new(receiver))).await?;
        let mut replies = opened.into_inner();
        loop {
            tokio::time::sleep(period).await;
            requests
                .send(HeartbeatRequest { session, trust: None, uses: Vec::new() })
                .await
                .map_err(|_| Ended::Closed)?;
            let reply = within_deadline("a heartbeat", replies.message()).await?.ok_or(Ended::Closed)?;
            period = Duration::from_nanos(reply.period_ns);
            self.shared.heartbeats.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn report(
        &self,
        mut client: DispatcherClient<Channel>,
        session: SessionId,
        task: Option<TaskId>,
    ) -> Result<Infallible, Ended> {
        let (Some(task), Some(every)) = (task, self.shared.report_every) else { return std::future::pending().await };
        for sequence in 1.. {
            tokio::time::sleep(rand::random_range(Duration::ZERO..every * 2)).await;
            let mut status = fixture::status(rand::random::<u128>(), TaskState::Running, None, node::clock::now());
            status.message = format!("report {sequence} of the session");
            let request = ReportRequest { session, sequence, reports: vec![wire::v1::TaskReport { task, status }] };
            within_deadline("a report", client.report(request)).await?;
            self.shared.reports.fetch_add(1, Ordering::Relaxed);
        }
        Err(Ended::Closed)
    }
}

/// Counts a session while it is open.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared, tasks: u64) -> Self {
        shared.opened.fetch_add(1, Ordering::Relaxed);
        shared.open.fetch_add(1, Ordering::Relaxed);
        shared.tasks.fetch_add(tasks, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn take(mut stream: Streaming<SessionMessage>) -> Result<Infallible, Ended> {
    loop {
        next_set(&mut stream).await?;
    }
}

async fn next_set(stream: &mut Streaming<SessionMessage>) -> Result<AssignmentSet, Ended> {
    loop {
        let message = stream.message().await.map_err(|status| refused("the session", status))?;
        if let Some(Message::Assignments(set)) = message.ok_or(Ended::Closed)?.message {
            return Ok(set);
        }
    }
}

async fn within_deadline<T>(call: &'static str, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Ended> {
    let answer = tokio::time::timeout(RPC_DEADLINE, answer).await.map_err(|_| Ended::Late(call))?;
    answer.map_err(|status| refused(call, status))
}

fn refused(call: &'static str, status: Status) -> Ended {
    Ended::Refused { call, status: Box::new(status) }
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
