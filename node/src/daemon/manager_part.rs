//! The manager part of a node: its core, its sockets and its links to other managers. It starts and stops with the node's role,
//! independently of the node's agent.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use events::{Id, NodeId};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{Context, Images, compare_histories, record_refusals};
use crate::control::ManagerInfo;
use crate::daemon::autolock::Keys;
use crate::daemon::descriptors;
use crate::daemon::disk_space;
use crate::daemon::failure::Failure;
use crate::daemon::joining::Announcer;
use crate::daemon::roles::Node;
use crate::daemon::serve::{self, RemotePort, SocketFile};
use crate::daemon::start_settings::StartSettings;
use crate::manager::core::{self, Begin, Core};
use crate::peering::{Histories, Own, Peering};
use crate::security::{Credentials, ExternalClient, Identity, Limits};
use crate::sinks::Sinks;

/// Deadline for connections to close when the part is stopped.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// The addresses of a manager: bound before anything is written.
pub(super) struct Listeners {
    remote: RemotePort,
    /// The remote address that other nodes get.
    remote_addr: String,
    control: UnixListener,
    socket: SocketFile,
}

/// A manager whose core is running, but that does not serve requests yet.
pub(super) struct Opened {
    pub(super) core: Core,
    peering: Peering,
    listeners: Listeners,
}

/// A manager that serves requests.
pub(super) struct Served {
    pub(super) core: Core,
    pub(super) peering: Peering,
    /// Its tasks; none of them ends by itself.
    pub(super) tasks: JoinSet<Result<(), Failure>>,
    /// Stops it.
    pub(super) stop: CancellationToken,
}

impl Node {
    /// Binds the addresses of the manager.
    pub(super) async fn bind_listeners(&self) -> Result<Listeners, Failure> {
        let remote = RemotePort::take(self.settings.listen_remote_api)?;
        let remote_addr = self.settings.advertise_remote_api.clone().unwrap_or_else(|| advertised(remote.addr()));
        let (control, socket) = serve::bind_control(&self.settings.listen_control_api).await?;
        Ok(Listeners { remote, remote_addr, control, socket })
    }

    /// Starts the core on a log that was read.
    pub(super) fn open_core(&self, log: core::Read, begin: Begin, listeners: Listeners) -> Result<Opened, Failure> {
        let peering = Peering::default();
        let to_others = peering.clone();
        let core = core::start(&self.state_dir, log, begin, move |to, message| to_others.send(to, message))?;
        Ok(Opened { core, peering, listeners })
    }

    /// Starts the core of a node that became a manager, or is becoming one.
    pub(super) async fn open_as(&self, node: NodeId) -> Result<Opened, Failure> {
        let listeners = self.bind_listeners().await?;
        let log = core::read(&self.state_dir, self.settings.history_archive.clone())?;
        self.open_core(log, Begin::Member(node), listeners)
    }

    /// The identity of the manager that creates a cluster; issued here if it does not exist.
    pub(super) async fn found(&self, opened: &Opened) -> Result<Identity, Failure> {
        let Opened { core, listeners, .. } = opened;
        core.ensure_cluster(&self.certificates, &self.hostname, &listeners.remote_addr).await?;
        core.identity(&self.certificates).await
    }

    /// Starts serving requests.
    pub(super) fn serve_manager(&self, opened: Opened, credentials: &Arc<Credentials>) -> Result<Served, Failure> {
        let Opened { mut core, peering, listeners: Listeners { remote, remote_addr, control, socket } } = opened;
        let bound = remote.addr();
        // A port that the system chose is stored from here on.
        StartSettings { listen_remote_api: bound, ..self.settings.clone() }.save(self.state_dir.path())?;
        core.log_events()?;
        let (node, path) = (core.node, self.settings.listen_control_api.display());
        tracing::info!(%node, addr = %bound, %path, "this node is a manager");
        // Not a child of the node's token: on shutdown another manager takes over first, over connections that are still open.
        let stop = CancellationToken::new();
        let (dir, handle) = (self.state_dir.path().to_owned(), core.handle.clone());
        tokio::spawn(disk_space::watch(dir, move |space| handle.note_space(space), stop.clone()));
        let context = Context {
            core: core.handle.clone(),
            store: Arc::clone(&core.store),
            manager: Arc::new(ManagerInfo {
                cluster: credentials.identity().subject().cluster,
                node,
                hostname: self.hostname.clone(),
                remote_addr: remote_addr.clone(),
                has_sink_dir: self.args.sink_dir.is_some(),
            }),
            external: Arc::new(ExternalClient::new(Arc::clone(credentials))),
            budgets: Arc::default(),
            refusals: Arc::default(),
            event_streams: Arc::default(),
            peering: peering.clone(),
            images: Images::new(Arc::clone(&self.executor)),
            streams: Arc::default(),
            stopping: stop.clone(),
        };
        let mut tasks = JoinSet::new();
        let broke_off = |error| Failure::new(error, "see the log above");
        let limits = connection_limits();
        // Only now requests can be answered.
        let remote = remote.listen()?;
        let served = serve::remote(remote, Arc::clone(credentials), context.clone(), limits, stop.clone());
        tasks.spawn(async move { served.await.map_err(broke_off) });
        tokio::spawn(compare_histories(context.clone(), stop.clone()));
        tokio::spawn(record_refusals(context.clone(), stop.clone()));
        let sinks = Sinks::new(core.handle.clone(), Arc::clone(&core.store), node, self.args.sinks());
        tokio::spawn(sinks.run(stop.clone()));
        let local = self.local_api(credentials);
        let served = serve::control(control, socket, context, local, limits, stop.clone());
        tasks.spawn(async move { served.await.map_err(broke_off) });
        if let Some(log) = &core.key_file {
            let (lock, node) = (Arc::clone(self.state_dir.keys()), self.certificates.clone());
            let keys = Arc::new(Keys {
                lock,
                log: Arc::clone(log),
                node,
                store: Arc::clone(&core.store),
                core: core.handle.clone(),
            });
            tokio::spawn(keys.keep(core.handle.states(), stop.clone()));
        }
        let own = Own { node, raft_id: core.raft_id, addr: remote_addr };
        let (handle, credentials) = (core.handle.clone(), Arc::clone(credentials));
        core.index_history()?;
        core.archive_history()?;
        core.redact_history(self.state_dir.path())?;
        core.verify_history(Histories::new(handle, own.clone(), Arc::clone(&credentials), stop.clone()))?;
        self.link(&core, &peering, own, &credentials, &stop);
        tokio::spawn(core.handle.clone().listen());
        self.probe.started(core.handle.measures(), Some((core.handle.clone(), Arc::clone(&core.store))));
        Ok(Served { core, peering, tasks, stop })
    }

    /// Connects to the other managers, and announces this manager's address.
    fn link(&self, core: &Core, peering: &Peering, own: Own, credentials: &Arc<Credentials>, stop: &CancellationToken) {
        let managers = self.cluster_info.managers().into_iter().filter(|manager| *manager != own.addr).collect();
        let announcer = Announcer {
            core: core.handle.clone(),
            own: own.clone(),
            peering: peering.clone(),
            credentials: Arc::clone(credentials),
            managers,
            cluster_info: Arc::clone(&self.cluster_info),
            dir: self.state_dir.path().to_owned(),
            store: Arc::clone(&core.store),
        };
        announcer.publish_managers();
        tokio::spawn(announcer.run(stop.clone()));
        tokio::spawn(peering.clone().keep(core.handle.clone(), own, Arc::clone(credentials), stop.clone()));
    }
}

impl Served {
    /// Stops all of it; pending requests are answered before the core stops.
    pub(super) async fn end(self) -> Result<(), Failure> {
        let Self { core, mut tasks, stop, .. } = self;
        core.handle.hand_over().await;
        stop.cancel();
        let drained = tokio::time::timeout(STOP_TIMEOUT, async { while tasks.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!("some connections did not end in time");
            // No remaining task keeps the log open.
            tasks.shutdown().await;
        }
        core.end().await
    }
}

/// How many connections the limit of open files allows. A low limit supports only few nodes.
fn connection_limits() -> Limits {
    let descriptors = descriptors::raise();
    let limits = Limits::of_descriptors(descriptors);
    let nodes = limits.members_max();
    if descriptors < descriptors::FEW {
        tracing::warn!(descriptors, nodes, "the limit on open files is low (`ulimit -Hn`): only few nodes can connect");
    } else {
        tracing::debug!(descriptors, nodes, "the number of node connections is limited");
    }
    limits
}

/// The address at which a manager is presumably reachable from outside.
fn advertised(bound: SocketAddr) -> String {
    if !bound.ip().is_unspecified() {
        return bound.to_string();
    }
    let addr = outgoing_ip().map_or_else(|| local_addr(bound), |ip| SocketAddr::new(ip, bound.port()));
    addr.to_string()
}

/// The source address of packets to other machines. Nothing is sent: connecting a datagram socket only looks up the route, here
/// to an address reserved for documentation.
fn outgoing_ip() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip())
}

/// The address for connections from this machine.
fn local_addr(bound: SocketAddr) -> SocketAddr {
    match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], bound.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], bound.port())),
        IpAddr::V4(_) | IpAddr::V6(_) => bound,
    }
}

/// A random id for a new node.
pub(super) fn random_node_id() -> NodeId {
    NodeId::from_bits(rand::random())
}
