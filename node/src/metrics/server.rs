//! The HTTP server of `--metrics-addr`: `/metrics`, `/healthz` and `/readyz`. It knows no caller, so it is bounded on every
//! side and says nothing that is secret.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use events::Named;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use projections::Liveness;
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
use super::progress::Pulse;

/// Connections at a time; one more takes the place of the oldest, so that nobody keeps probes out by saying nothing. One
/// Prometheus and a few probes need no more.
const CONNECTIONS_MAX: usize = 16;
/// Answers that are made at a time, which may wait for the disk.
const ANSWERS_MAX: usize = 4;
/// Bytes of a request's head.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// How long a request's head may take to come.
const HEAD_PATIENCE: Duration = Duration::from_secs(1);
/// How long a request may take in all, until its answer is taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the loop that a node lives by may stand still: as long as the systemd unit allows (WatchdogSec).
const STANDSTILL_MAX: Duration = Duration::from_secs(60);
/// Free bytes of the disk below which a manager counts as one that cannot write.
const WRITABLE_BYTES_MIN: u64 = 1024 * 1024;

/// Whether a node does its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not, for this reason.
    Not(&'static str),
}

/// What is asked for answers.
#[derive(Clone)]
pub struct Probe {
    /// The numbers that are counted.
    measures: Arc<Measures>,
    /// The state directory.
    state_dir: PathBuf,
    /// The core and the log of a manager.
    manager: Option<(Handle, Arc<dyn LogStore>)>,
    /// Whether the loop goes on that the node lives by.
    pulse: Pulse,
    answers: Arc<Semaphore>,
}

impl Probe {
    /// For a node that counts in `measures` and keeps its files in `state_dir`, with the core and the log of a manager.
    pub fn new(measures: Arc<Measures>, state_dir: PathBuf, manager: Option<(Handle, Arc<dyn LogStore>)>) -> Self {
        let pulse = Pulse::of(measures.progress.clone(), Instant::now());
        Self { measures, state_dir, manager, pulse, answers: Arc::new(Semaphore::new(ANSWERS_MAX)) }
    }

    /// Whether the process lives: it answers, and the loop goes on that the node lives by.
    fn liveness(&self, now: Instant) -> Readiness {
        if self.pulse.standstill(now) < STANDSTILL_MAX {
            return Readiness::Ready;
        }
        Readiness::Not(if self.manager.is_some() {
            "the thread of turns stands still; restart this node"
        } else {
            "the session loop stands still; restart this node"
        })
    }

    /// Whether the node does its work: a manager with a leader and a log that can be written, a worker with a session.
    fn readiness(&self) -> Readiness {
        let Some((core, _)) = &self.manager else {
            let has_session = self.measures.session.load(Ordering::Relaxed);
            return if has_session { Readiness::Ready } else { Readiness::Not("this worker has no session") };
        };
        if core.is_over() {
            return Readiness::Not("this manager stops");
        }
        if !core.state().leads {
            return Readiness::Not("this manager does not lead, and knows no leader");
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
            "Always 1; the label says which version runs.",
            [(label("version", env!("CARGO_PKG_VERSION")), 1)],
        );
        if let Some(bytes) = resident_bytes() {
            page.gauge("process_resident_memory_bytes", "Memory of this process.", bytes);
        }
        if let Ok(space) = disk_space::read(&self.state_dir) {
            page.gauge("swarmlog_disk_free_bytes", "Free space of the state directory's disk.", space.free_bytes);
        }
        let ready = u8::from(self.readiness() == Readiness::Ready);
        page.gauge("swarmlog_ready", "Whether /readyz says so.", ready);
        match &self.manager {
            Some((core, store)) => self.manager_page(&mut page, core, &**store),
            None => {
                let session = u8::from(self.measures.session.load(Ordering::Relaxed));
                page.gauge("swarmlog_session_open", "Whether this worker has a session.", session);
            }
        }
        page.finish()
    }

    fn manager_page(&self, page: &mut Page, core: &Handle, store: &dyn LogStore) {
        let state = core.state();
        let cluster = &state.cluster;
        page.gauge("swarmlog_leader", "Whether this manager leads the cluster.", u8::from(state.leads));
        page.gauge("swarmlog_log_head_index", "Index of the last frame that was committed.", cluster.position.index);
        if let Ok(applied) = store.applied() {
            page.gauge("swarmlog_log_applied_index", "Index up to which the log was applied.", applied.index);
        }
        page.gauge("swarmlog_log_size_bytes", "Size of the log's files.", files_bytes(&self.state_dir.join("raft")));
        page.histogram("swarmlog_turn_duration_seconds", "How long turns take that had work.", &self.measures.turns);
        page.histogram(
            "swarmlog_log_write_duration_seconds",
            "How long a write of the log takes, with its sync.",
            &self.measures.writes,
        );
        let waiting = self.measures.inbox.load(Ordering::Relaxed);
        page.gauge("swarmlog_inbox_commands", "Commands that wait for a turn.", waiting);
        let commands = self.measures.commands().into_iter().map(|((command, outcome), count)| {
            (format!("{{command=\"{command}\",result=\"{}\"}}", outcome.name()), count)
        });
        page.counters("swarmlog_commands_total", "Commands, by what became of them.", commands);
        let sessions = self.measures.sessions.load(Ordering::Relaxed);
        page.gauge("swarmlog_sessions", "Sessions of nodes that are open at this manager.", sessions);
        let nodes = [Liveness::Unknown, Liveness::Ready, Liveness::Disconnected, Liveness::Down].map(|liveness| {
            let count = cluster.nodes.values().filter(|node| node.liveness == liveness).count();
            (label("state", &format!("{liveness:?}").to_ascii_lowercase()), count)
        });
        page.gauges("swarmlog_nodes", "Nodes, by their state.", nodes);
        let tasks = cluster.tasks_by_state().map(|(state, count)| (label("state", &state.name()), count));
        page.gauges("swarmlog_tasks", "Tasks, by their state.", tasks);
        page.gauge("swarmlog_services", "Services.", cluster.services.len());
        let updating = cluster.services.values().filter(|service| service.is_rolling()).count();
        page.gauge("swarmlog_services_updating", "Services with an update under way.", updating);
        let paused = cluster.services.values().filter(|service| service.is_paused()).count();
        page.gauge("swarmlog_services_update_paused", "Services whose update paused after failures.", paused);
        page.gauge(
            "swarmlog_services_set_aside",
            "Services that the manager left alone after a fault of its own.",
            state.set_aside.len(),
        );
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

/// Takes the address of `--metrics-addr`.
///
/// # Errors
/// When it cannot be listened on.
pub(crate) async fn bind(addr: SocketAddr) -> Result<TcpListener, Failure> {
    if !addr.ip().is_loopback() {
        tracing::warn!(%addr, "--metrics-addr can be reached from other machines, and asks nobody who they are");
    }
    TcpListener::bind(addr).await.map_err(|error| {
        Failure::new(format!("cannot listen on {addr}: {error}"), "choose another address with --metrics-addr")
    })
}

/// Answers until `shutdown`.
pub async fn serve(listener: TcpListener, probe: Probe, shutdown: CancellationToken) {
    // The oldest comes first.
    let mut connections: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // As when there are no descriptors left: later there may be.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= CONNECTIONS_MAX
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        connections.push_back(tokio::spawn(converse(stream, probe.clone())));
    }
}

/// One connection, for one request.
async fn converse(stream: TcpStream, probe: Probe) {
    let service = service_fn(move |request| respond(probe.clone(), request));
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(REQUEST_BYTES_MAX)
        .keep_alive(false);
    // Whoever breaks off, or is too slow, is not answered.
    let _ = tokio::time::timeout(PATIENCE, server.serve_connection(TokioIo::new(stream), service)).await;
}

async fn respond(probe: Probe, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = async {
        // Kept by the answer itself: whoever asks and goes makes no more of them than there may be.
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

/// Memory of this process, as the kernel counts it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The size of the files in a directory.
fn files_bytes(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
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

    async fn serving(measures: &Arc<Measures>) -> (SocketAddr, Probe, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, shutdown) = (listener.local_addr().expect("an address"), CancellationToken::new());
        let probe = Probe::new(Arc::clone(measures), PathBuf::from("/"), None);
        tokio::spawn(serve(listener, probe.clone(), shutdown.clone()));
        (address, probe, shutdown)
    }

    #[tokio::test]
    async fn who_says_nothing_keeps_no_probe_out_and_has_an_end() {
        let (address, _, shutdown) = serving(&Arc::default()).await;
        let mut silent = Vec::new();
        for _ in 0..2 * CONNECTIONS_MAX {
            silent.push(TcpStream::connect(address).await.expect("a connection"));
        }
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        for mut stream in silent {
            let ended = tokio::time::timeout(PATIENCE / 2, stream.read_to_end(&mut Vec::new())).await;
            assert!(ended.is_ok(), "it took a place for longer than a head may take");
        }
        shutdown.cancel();
    }

    #[tokio::test]
    async fn a_node_whose_loop_stands_still_is_not_well() {
        let measures = Arc::<Measures>::default();
        let (_, probe, shutdown) = serving(&measures).await;
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
