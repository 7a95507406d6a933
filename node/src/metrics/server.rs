//! The HTTP server of `--metrics-addr`: `/metrics`, `/healthz` and `/readyz`. It knows no caller, so it is bounded on every
//! side and says nothing that is secret.

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
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::daemon::disk_space;
use crate::daemon::failure::Failure;
use crate::log::LogStore;
use crate::manager::driver::Handle;

use super::Measures;
use super::exposition::{Page, label};

/// Connections at a time; more are closed at once. One Prometheus and a few probes need no more.
const CONNECTIONS_MAX: usize = 16;
/// Bytes of a request's head.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// How long a request may take to come, and its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
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
    pub measures: Arc<Measures>,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The core and the log of a manager.
    pub manager: Option<(Handle, Arc<dyn LogStore>)>,
}

impl Probe {
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
        page.gauge("swarmlog_sessions", "Nodes with a session at this manager.", core.sessions());
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
            "/healthz" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
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
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let probe = probe.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(probe.clone(), request));
            let mut server = http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(REQUEST_BYTES_MAX)
                .keep_alive(false);
            // Whoever breaks off, or is too slow, is not answered.
            let _ = tokio::time::timeout(PATIENCE, server.serve_connection(TokioIo::new(stream), service)).await;
            drop(place);
        });
    }
}

async fn respond(probe: Probe, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // Reading may wait for the disk.
    let answer = tokio::task::spawn_blocking(move || probe.answer(&request)).await;
    let (status, kind, text) =
        answer.unwrap_or((StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "the answer broke off\n".to_owned()));
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
