//! A manager's servers: the remote API for nodes, over TLS, and the control API for operators, on a unix socket.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use events::{ClusterId, NodeId, Role};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket, UnixStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Status};
use tower::util::MapResponseLayer;
use wire::v1::certificates_server::CertificatesServer;
use wire::v1::control_server::ControlServer;
use wire::v1::dispatcher_server::DispatcherServer;
use wire::v1::local_node_server::LocalNodeServer;
use wire::v1::lock_server::LockServer;
use wire::v1::managers_server::ManagersServer;
use wire::v1::{Refusal, RefusalKind};

use crate::api::{CertificateApi, Context, ControlApi, DispatchApi, ManagerApi, keep_shares, membership};
use crate::daemon::failure::Failure;
use crate::daemon::local_node::LocalApi;
use crate::daemon::unlock::NotLocked;
use crate::manager::driver::Handle;
use crate::security::{self, Credentials, Holder, Introduction, Limits, Members, Membership, OneCallLayer};

/// Maximum size of an operator's message: a service with the largest possible spec.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Maximum size of a node's message: a report of as many tasks as fit in one frame (512 KiB), with a margin.
const NODE_MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Maximum concurrent calls per connection of a node: a session, heartbeats, reports, a renewal. With the maximum message size,
/// this bounds the memory per connection.
const CALLS_MAX: u32 = 16;

/// Maximum size of a certificate request. Unauthenticated clients may send one, so it is small: a token, a PEM request, a name.
const CERTIFICATE_REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Maximum size of another manager's message: a batch is about 1 MiB, but an entry or a keyring is not split.
const MANAGER_MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Interval and deadline of keepalive pings. Without them, the connection of a peer that disappeared would stay open.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A server that closes dead connections.
fn server_with_keepalive(keepalive: Duration) -> Server {
    Server::builder().http2_keepalive_interval(Some(keepalive)).http2_keepalive_timeout(Some(keepalive))
}

/// The server of a control socket, for any kind of node.
pub fn control_server() -> Server {
    server_with_keepalive(KEEPALIVE)
}

/// Length of the accept queue; the kernel may limit it further (`net.core.somaxconn`). After a restart all nodes reconnect
/// within seconds.
const BACKLOG: u32 = 4_096;

/// The port of the remote API, bound but not listening yet: clients that connect before this manager can answer are refused
/// immediately and retry, instead of waiting without success.
pub struct RemotePort {
    socket: TcpSocket,
    addr: SocketAddr,
}

impl RemotePort {
    /// Binds the port, before anything is written.
    ///
    /// # Errors
    /// When another process uses it.
    pub fn take(addr: SocketAddr) -> Result<Self, Failure> {
        let bound = || {
            let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // Closed connections of a previous manager do not block the port; a listening process does.
            socket.set_reuseaddr(true)?;
            socket.bind(addr)?;
            let addr = socket.local_addr()?;
            Ok(Self { socket, addr })
        };
        bound().map_err(|error| taken(addr, &error))
    }

    /// The address, with the port that the system chose if none was set.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts listening.
    ///
    /// # Errors
    /// When another process bound the port at the same time.
    pub fn listen(self) -> Result<TcpListener, Failure> {
        self.socket.listen(BACKLOG).map_err(|error| taken(self.addr, &error))
    }
}

fn taken(addr: SocketAddr, error: &std::io::Error) -> Failure {
    let hint = "stop the process that uses this address, or choose another address with --listen-remote-api";
    Failure::new(format!("cannot listen on {addr}: {error}"), hint)
}

/// The file of the control socket, removed when this is dropped.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "the control socket was gone already");
        }
    }
}

/// Binds the control socket; replaces a stale socket of a dead process, and nothing else.
///
/// # Errors
/// When another process listens on it, or the path cannot be used.
pub async fn bind_control(path: &Path) -> Result<(UnixListener, SocketFile), Failure> {
    let hint = "choose another path with --listen-control-api";
    let unusable = |error: std::io::Error| {
        Failure::new(format!("the control socket {} cannot be used: {error}", path.display()), hint)
    };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Failure::new(format!("{} exists and is not a socket", path.display()), hint));
        }
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => {
                let sentence = format!("another process listens on the control socket {}", path.display());
                return Err(Failure::new(sentence, format!("stop it, or {hint}")));
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(unusable)?;
            }
            Err(error) => return Err(unusable(error)),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(error)),
    }
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(unusable)?;
    }
    let listener = bind_private(path).map_err(unusable)?;
    Ok((listener, SocketFile(path.to_owned())))
}

/// Binds a socket that only its owner can ever connect to: Linux gives the file the mode that the socket has before.
fn bind_private(path: &Path) -> std::io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
    socket.bind(path)?;
    socket.listen(BACKLOG)
}

impl Members for Handle {
    fn is_member(&self, holder: Holder) -> bool {
        let state = self.state();
        match holder {
            Holder::Operator { operator, .. } => state.cluster.operators.contains(operator),
            Holder::Node(subject) => match membership(&state, subject.node) {
                Membership::Member => true,
                Membership::Removed => false,
                // This manager may be the one that lags behind, or may have no state yet.
                Membership::Unknown | Membership::NotYetKnown => subject.role == Role::Manager,
            },
        }
    }

    fn changes(&self, node: NodeId) -> Arc<Notify> {
        self.follow(node)
    }

    fn knows(&self, introduction: &Introduction) -> bool {
        let cluster = &self.state().cluster;
        match introduction {
            Introduction::Node { node, certificate } => {
                cluster.nodes.get(*node).is_some_and(|node| node.certificate_digest == Some(*certificate))
            }
            Introduction::Joiner { .. } => [Role::Worker, Role::Manager].into_iter().any(|role| {
                // There are no tokens before the cluster exists.
                let secret = <&[u8; 32]>::try_from(cluster.settings.token_sha256(role));
                secret.is_ok_and(|secret| Introduction::of_secret(secret) == *introduction)
            }),
        }
    }
}

/// Accepts calls once this manager has a state to answer from: one that is joining has none at first.
fn has_state(core: &Handle) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + use<> {
    let core = core.clone();
    move |request| match core.state().cluster.id() == ClusterId::default() {
        true => Err(joining(core.catching_up()).into()),
        false => Ok(request),
    }
}

/// The response of a manager that is joining.
fn joining(catching_up: Option<(u64, u64)>) -> Refusal {
    let how_far = match catching_up {
        Some((at, of)) => format!("it has the history up to frame {at} of {of}"),
        None => "it waits for another manager to add it".to_owned(),
    };
    Refusal {
        kind: RefusalKind::Unavailable.into(),
        subject: "manager".to_owned(),
        sentence: format!("this manager is joining the cluster: {how_far}"),
        hint: Some("ask another manager, or try again in a moment".to_owned()),
    }
}

/// Serves nodes until `shutdown`.
///
/// # Errors
/// When the server fails.
pub async fn remote(
    listener: TcpListener,
    credentials: Arc<Credentials>,
    context: Context,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (members, counts) = (Arc::new(context.core.clone()), Arc::clone(&context.core.measures().connections));
    let (access, has_state) = (context.access(), has_state(&context.core));
    let control = ControlServer::new(ControlApi::new(context.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let control = InterceptedService::new(control, has_state.clone());
    let dispatcher =
        DispatcherServer::new(DispatchApi::new(context.clone())).max_decoding_message_size(NODE_MESSAGE_BYTES_MAX);
    let dispatcher = InterceptedService::new(dispatcher, has_state.clone());
    let managers =
        ManagersServer::new(ManagerApi::new(context.clone())).max_decoding_message_size(MANAGER_MESSAGE_BYTES_MAX);
    let certificates =
        CertificatesServer::new(CertificateApi::new(context)).max_decoding_message_size(CERTIFICATE_REQUEST_BYTES_MAX);
    let certificates = InterceptedService::new(certificates, has_state);
    let incoming = security::incoming(listener, credentials, limits, members, counts);
    let server = server_with_keepalive(KEEPALIVE).max_concurrent_streams(Some(CALLS_MAX)).layer(OneCallLayer);
    let mut server = server.layer(access).layer(MapResponseLayer::new(keep_shares));
    let server = server.add_service(dispatcher).add_service(certificates).add_service(managers).add_service(control);
    server.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await
}

/// Serves operators until `shutdown`, and then removes the socket.
///
/// # Errors
/// When the server fails.
pub async fn control(
    listener: UnixListener,
    file: SocketFile,
    context: Context,
    local: LocalApi,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let counts = Arc::clone(&context.core.measures().connections);
    let (access, has_state) = (context.access(), has_state(&context.core));
    let control = ControlServer::new(ControlApi::new(context)).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let control = InterceptedService::new(control, has_state);
    let incoming = security::incoming_local(listener, limits, counts);
    let server = control_server().layer(access).add_service(control).add_service(LockServer::new(NotLocked));
    let server = server.add_service(LocalNodeServer::new(local));
    let served = server.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await;
    drop(file);
    served
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use events::Role;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tonic::Response;
    use tower::Service;
    use wire::v1::certificates_server::Certificates;
    use wire::v1::{CertificateReply, JoinRequest, RenewRequest, RootReply, RootRequest};

    use super::*;
    use crate::security::testing::{KnownMembers, identity, subject, wall_clock};
    use crate::security::{Authority, Connector};

    struct Nothing;

    #[tonic::async_trait]
    impl Certificates for Nothing {
        async fn get_root(&self, _: Request<RootRequest>) -> Result<Response<RootReply>, Status> {
            Err(Status::unimplemented(""))
        }

        async fn join(&self, _: Request<JoinRequest>) -> Result<Response<CertificateReply>, Status> {
            Err(Status::unimplemented(""))
        }

        async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<CertificateReply>, Status> {
            Err(Status::unimplemented(""))
        }
    }

    #[tokio::test]
    async fn the_control_socket_and_the_directory_made_for_it_are_their_owners_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("run/swarmlog/control.sock");
        let (_listener, file) = bind_control(&path).await.expect("bound");
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        for made in ["run", "run/swarmlog"] {
            assert_eq!(mode(&dir.path().join(made)), 0o700, "{made}");
        }
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_refuses_callers_until_it_is_listened_on_and_is_nobody_elses() {
        let port = RemotePort::take(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let addr = port.addr();
        let early = tokio::net::TcpStream::connect(addr).await.expect_err("too early");
        assert_eq!(early.kind(), ErrorKind::ConnectionRefused);
        let listener = port.listen().expect("it listens");
        let (connected, accepted) = tokio::join!(tokio::net::TcpStream::connect(addr), listener.accept());
        assert!(connected.is_ok() && accepted.is_ok());
        let failure = RemotePort::take(addr).err().expect("another process has it");
        assert!(failure.sentence.starts_with(&format!("cannot listen on {addr}: ")), "{failure}");
    }

    /// Sends the preface with empty settings, then nothing: returns what it received once the connection has closed.
    async fn keep_silent(mut silent: impl AsyncReadExt + AsyncWriteExt + Unpin) -> Vec<u8> {
        silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("written");
        let mut heard = Vec::new();
        // Any way of closing is accepted.
        let _ = silent.read_to_end(&mut heard).await;
        heard
    }

    #[tokio::test]
    async fn a_control_connection_whose_client_answers_no_ping_is_closed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("control.sock");
        let (listener, _file) = bind_control(&path).await.expect("bound");
        let connections = Box::pin(security::incoming_local(listener, Limits::of_descriptors(1_024), Arc::default()));
        let server = server_with_keepalive(Duration::from_millis(50)).add_service(LockServer::new(NotLocked));
        tokio::spawn(server.serve_with_incoming(connections));
        let silent = UnixStream::connect(&path).await.expect("a connection");
        assert!(!keep_silent(silent).await.is_empty(), "it was greeted too");
    }

    #[tokio::test]
    async fn a_connection_at_whose_other_end_nobody_is_is_closed() {
        let authority = Authority::generate(wall_clock()).expect("an authority");
        let of = |node, role| {
            Arc::new(Credentials::new(identity(&authority, subject(node, role), wall_clock())).expect("credentials"))
        };
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let uri = format!("http://{}", tcp.local_addr().expect("an address")).parse().expect("an address");
        let connections = Box::pin(security::incoming(
            tcp,
            of(1, Role::Manager),
            Limits::of_descriptors(1_024),
            KnownMembers::everybody(),
            Arc::default(),
        ));
        let server = server_with_keepalive(Duration::from_millis(50)).add_service(CertificatesServer::new(Nothing));
        tokio::spawn(server.serve_with_incoming(connections));
        let connected = Connector::member(of(2, Role::Worker)).call(uri).await.expect("a connection");
        assert!(!keep_silent(connected.into_inner()).await.is_empty(), "it was greeted too");
    }
}
