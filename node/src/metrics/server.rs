//! The HTTP server of `--metrics-addr`: `/metrics`, `/healthz` and `/readyz`. Its clients are not authenticated, so it is bounded
//! in every respect and serves nothing secret.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::daemon::disk_space;
use crate::daemon::failure::Failure;
use crate::log::LogStore;
use crate::manager::driver::Handle;

use super::Measures;
use super::exposition::{Page, label};
use super::manager::ManagerPage;
use super::progress::Pulse;

/// Maximum number of connections; a further one replaces the oldest, so that idle clients cannot block probes. One Prometheus and
/// a few probes need no more.
const CONNECTIONS_MAX: usize = 16;
/// Maximum number of concurrent responses, which may wait for the disk.
const ANSWERS_MAX: usize = 4;
/// Maximum size of a request's head.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Time within which a request's head must arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit of a whole request, until its response is received.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the node's main loop may hang: as long as the systemd unit allows (WatchdogSec).
const STALL_MAX: Duration = Duration::from_secs(60);
/// Free bytes of the disk below which a manager counts as unable to write.
const WRITABLE_BYTES_MIN: u64 = 1024 * 1024;

/// Whether a node is operational.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It is.
    Ready,
    /// It is not, for this reason.
    Not(&'static str),
}

/// The source of the responses.
#[derive(Clone)]
pub struct Probe {
    /// The state directory.
    state_dir: PathBuf,
    /// The node, once it has started.
    started: Arc<ArcSwapOption<Started>>,
    answers: Arc<Semaphore>,
}

/// A node that has started.
struct Started {
    /// The counters.
    measures: Arc<Measures>,
    /// The core and the log of a manager.
    manager: Option<(Handle, Arc<dyn LogStore>)>,
    /// Observes the node's main loop.
    pulse: Pulse,
}

impl Probe {
    /// For a node that has not started yet, with this state directory.
    pub fn new(state_dir: PathBuf) -> Self {
        Self { state_dir, started: Arc::default(), answers: Arc::new(Semaphore::new(ANSWERS_MAX)) }
    }

    /// The node has started, or its role has changed: its counters, and the core and the log of a manager if it is one.
    pub fn started(&self, measures: Arc<Measures>, manager: Option<(Handle, Arc<dyn LogStore>)>) {
        let pulse = Pulse::of(measures.progress.clone(), Instant::now());
        self.started.store(Some(Arc::new(Started { measures, manager, pulse })));
    }

    /// Whether the process is alive: it responds, and the node's main loop is not hanging.
    fn liveness(&self, now: Instant) -> Readiness {
        // A start has no time limit: it may read a long log, or wait for an answer to a join.
        let Some(started) = self.started.load_full() else { return Readiness::Ready };
        if started.pulse.stalled_for(now) < STALL_MAX {
            return Readiness::Ready;
        }
        Readiness::Not(if started.manager.is_some() {
            "the thread that runs turns is stuck; restart this node"
        } else {
            "the session loop is stuck; restart this node"
        })
    }

    /// Whether the node is operational: a manager needs a leader and a writable log, a worker a session.
    fn readiness(&self) -> Readiness {
        let Some(started) = self.started.load_full() else { return Readiness::Not("this node is still starting") };
        let Some((core, _)) = &started.manager else {
            let has_session = started.measures.session.load(Ordering::Relaxed);
            return if has_session { Readiness::Ready } else { Readiness::Not("this worker has no session") };
        };
        if core.is_over() {
            return Readiness::Not("this manager stops");
        }
        let state = core.state();
        if state.cluster.id() == events::ClusterId::default() {
            return Readiness::Not("this manager is joining the cluster");
        }
        if !state.leads && state.leader.is_none() {
            return Readiness::Not("this manager does not lead, and there is no known leader");
        }
        match disk_space::read(&self.state_dir) {
            Ok(space) if space.free_bytes >= WRITABLE_BYTES_MIN => Readiness::Ready,
            Ok(_) => Readiness::Not("the disk of the state directory is full"),
            Err(_) => Readiness::Not("the disk of the state directory cannot be read"),
        }
    }

    /// The page of metrics. It may wait for the disk.
    fn page(&self) -> String {
        let mut page = Page::default();
        page.gauges(
            "swarmlog_build_info",
            "Always 1; the label is the running version.",
            [(label("version", env!("CARGO_PKG_VERSION")), 1)],
        );
        if let Some(bytes) = resident_bytes() {
            page.gauge("process_resident_memory_bytes", "Memory of this process.", bytes);
        }
        if let Ok(space) = disk_space::read(&self.state_dir) {
            page.gauge("swarmlog_disk_free_bytes", "Free space of the state directory's disk.", space.free_bytes);
        }
        let ready = u8::from(self.readiness() == Readiness::Ready);
        page.gauge("swarmlog_ready", "Whether /readyz reports ready.", ready);
        if let Some(started) = self.started.load_full() {
            match &started.manager {
                Some((core, store)) => {
                    ManagerPage { core, store: &**store, measures: &started.measures }.write(&mut page, &self.state_dir)
                }
                None => {
                    let session = u8::from(started.measures.session.load(Ordering::Relaxed));
                    page.gauge("swarmlog_session_open", "Whether this worker has a session.", session);
                }
            }
        }
        page.finish()
    }

    fn answer(&self, request: &Request<Incoming>) -> (StatusCode, &'static str, String) {
        const TEXT: &str = "text/plain; charset=utf-8";
        if request.method() != Method::GET {
            return (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
        }
        match request.uri().path() {
            "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.page()),
            "/healthz" => match self.liveness(Instant::now()) {
                Readiness::Ready => (StatusCode::OK, TEXT, "ok\n".to_owned()),
                Readiness::Not(why) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not well: {why}\n")),
            },
            "/readyz" => match self.readiness() {
                Readiness::Ready => (StatusCode::OK, TEXT, "ready\n".to_owned()),
                Readiness::Not(why) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n")),
            },
            _ => (StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /readyz\n".to_owned()),
        }
    }
}

/// Listens on the address of `--metrics-addr`.
///
/// # Errors
/// When that is not possible.
pub(crate) async fn bind(addr: SocketAddr) -> Result<TcpListener, Failure> {
    if !addr.ip().is_loopback() {
        tracing::warn!(%addr, "--metrics-addr can be reached from other machines, and requires no authentication");
    }
    TcpListener::bind(addr).await.map_err(|error| {
        let hint = "choose another address with --metrics-addr, or serve no metrics with --metrics-addr off";
        Failure::new(format!("cannot listen on {addr}: {error}"), hint)
    })
}

/// Serves requests until `shutdown`.
pub async fn serve(listener: TcpListener, probe: Probe, shutdown: CancellationToken) {
    // The oldest comes first.
    let mut connections: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // For example when there are no file descriptors left: some may be released soon.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= CONNECTIONS_MAX
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        connections.push_back(tokio::spawn(serve_one(stream, probe.clone())));
    }
}

/// Serves one request on one connection.
async fn serve_one(stream: TcpStream, probe: Probe) {
    let service = service_fn(move |request| respond(probe.clone(), request));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(REQUEST_BYTES_MAX).keep_alive(false);
    // A client that disconnects or is too slow gets no response.
    let _ = tokio::time::timeout(TIMEOUT, server.serve_connection(TokioIo::new(stream), service)).await;
}

async fn respond(probe: Probe, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = async {
        // Held by the response itself: a client that disconnects early cannot exceed the limit either.
        let turn = Arc::clone(&probe.answers).acquire_owned().await.ok()?;
        // Reading may wait for the disk.
        let answered = tokio::task::spawn_blocking(move || {
            let answer = probe.answer(&request);
            drop(turn);
            answer
        });
        answered.await.ok()
    };
    let (status, kind, text) =
        answer.await.unwrap_or((StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "the answer broke off\n".to_owned()));
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    Ok(response)
}

/// Resident memory of this process, according to the kernel.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n").as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    /// A server for a node that is still starting.
    async fn serving() -> (SocketAddr, Probe, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, shutdown) = (listener.local_addr().expect("an address"), CancellationToken::new());
        let probe = Probe::new(PathBuf::from("/"));
        tokio::spawn(serve(listener, probe.clone(), shutdown.clone()));
        (address, probe, shutdown)
    }

    #[tokio::test]
    async fn a_worker_is_ready_while_it_has_a_session() {
        let (address, probe, shutdown) = serving().await;
        let measures = Arc::<Measures>::default();
        let answers = async |word: &str| {
            let (ready, page) = (ask(address, "/readyz").await, ask(address, "/metrics").await);
            assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"), "{word}: it lives");
            let is_ready = ready.starts_with("HTTP/1.1 200") && page.contains("\nswarmlog_ready 1\n");
            assert!(is_ready || ready.starts_with("HTTP/1.1 503") && page.contains("\nswarmlog_ready 0\n"), "{ready}");
            assert!(ready.ends_with(&format!("{word}\n")), "{ready}");
        };
        answers("not ready: this node is still starting").await;
        probe.started(Arc::clone(&measures), None);
        for (session, word) in [
            (false, "not ready: this worker has no session"),
            (true, "ready"),
            (false, "not ready: this worker has no session"),
        ] {
            measures.session.store(session, Ordering::Relaxed);
            answers(word).await;
            let line = format!("\nswarmlog_session_open {}\n", u8::from(session));
            assert!(ask(address, "/metrics").await.contains(&line), "{line}");
        }
        shutdown.cancel();
    }

    /// The response to a client that sends `head` in pieces, with a pause after each.
    async fn send_slowly(address: SocketAddr, head: &[u8], piece: usize, pause: Duration) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        for piece in head.chunks(piece) {
            // The server may have closed the connection, which is handled below.
            if stream.write_all(piece).await.is_err() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        let mut heard = Vec::new();
        let ended = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut heard)).await;
        assert!(ended.is_ok(), "it has an end");
        String::from_utf8_lossy(&heard).into_owned()
    }

    #[tokio::test]
    async fn a_request_is_small_and_comes_at_once() {
        let (address, _, shutdown) = serving().await;
        let head = |bytes: usize| format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", "h".repeat(bytes)).into_bytes();
        let at_once = Duration::ZERO;
        let well = send_slowly(address, &head(REQUEST_BYTES_MAX / 2), REQUEST_BYTES_MAX, at_once).await;
        assert!(well.starts_with("HTTP/1.1 200"), "{well}");
        let large = send_slowly(address, &head(2 * REQUEST_BYTES_MAX), REQUEST_BYTES_MAX, at_once).await;
        assert!(!large.contains("200 OK"), "{large}");
        // Each piece is in time, but all of them together are not.
        let slow = send_slowly(address, &head(8), 8, HEAD_TIMEOUT / 4).await;
        assert!(!slow.contains("200 OK"), "{slow}");
        shutdown.cancel();
    }

    #[tokio::test]
    async fn who_says_nothing_keeps_no_probe_out_and_has_an_end() {
        let (address, _, shutdown) = serving().await;
        let mut silent = Vec::new();
        for _ in 0..2 * CONNECTIONS_MAX {
            silent.push(TcpStream::connect(address).await.expect("a connection"));
        }
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        for mut stream in silent {
            let ended = tokio::time::timeout(TIMEOUT / 2, stream.read_to_end(&mut Vec::new())).await;
            assert!(ended.is_ok(), "it took a place for longer than a head may take");
        }
        shutdown.cancel();
    }

    #[tokio::test]
    async fn a_node_whose_loop_stands_still_is_not_well() {
        let measures = Arc::<Measures>::default();
        let (_, probe, shutdown) = serving().await;
        assert_eq!(
            probe.liveness(Instant::now() + Duration::from_secs(3600)),
            Readiness::Ready,
            "a start may take long"
        );
        probe.started(Arc::clone(&measures), None);
        let begin = Instant::now();
        let well = |second| probe.liveness(begin + Duration::from_secs(second)) == Readiness::Ready;
        assert!(well(59));
        measures.progress.note();
        assert!(well(70) && well(129));
        assert!(!well(131), "no round for a minute");
        measures.progress.note();
        assert!(well(140));
        shutdown.cancel();
    }
}
