//! A manager's sockets: the remote API for nodes, over TLS, and the control API for operators, on a unix socket.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use wire::v1::certificates_server::CertificatesServer;
use wire::v1::control_server::ControlServer;
use wire::v1::dispatcher_server::DispatcherServer;

use crate::api::{CertificateApi, Context, ControlApi, DispatchApi};
use crate::failure::Failure;
use crate::security::{self, Credentials};

/// Largest message that a caller may send: a report of many tasks, or a service with all that its spec may hold.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest request for a certificate. Anybody may send one, so it is small: a token, a request in PEM, a name.
const CERTIFICATE_REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Takes the port of the remote API, before anything is written anywhere.
///
/// # Errors
/// When another process has it.
pub async fn bind_remote(addr: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(addr).await.map_err(|error| {
        let hint = "stop what listens there, or choose another address with --listen-remote-api";
        Failure::new(format!("{addr} cannot be listened at: {error}"), hint)
    })
}

/// Takes the control socket; one that a dead process left is replaced.
///
/// # Errors
/// When another process listens there, or the path cannot be used.
pub async fn bind_control(path: &Path) -> Result<UnixListener, Failure> {
    let hint = "choose another path with --listen-control-api";
    let unusable = |error: std::io::Error| {
        Failure::new(format!("the control socket {} cannot be used: {error}", path.display()), hint)
    };
    if UnixStream::connect(path).await.is_ok() {
        let sentence = format!("another process listens on the control socket {}", path.display());
        return Err(Failure::new(sentence, format!("stop it, or {hint}")));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unusable(error)),
        Ok(()) | Err(_) => {}
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(unusable)?;
    }
    let listener = UnixListener::bind(path).map_err(unusable)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(unusable)?;
    Ok(listener)
}

/// Serves nodes until `shutdown`.
///
/// # Errors
/// When the server breaks off.
pub async fn remote(
    listener: TcpListener,
    credentials: Arc<Credentials>,
    context: Context,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let dispatcher =
        DispatcherServer::new(DispatchApi::new(context.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let certificates =
        CertificatesServer::new(CertificateApi::new(context)).max_decoding_message_size(CERTIFICATE_REQUEST_BYTES_MAX);
    let incoming = security::incoming(listener, credentials);
    let server = Server::builder().add_service(dispatcher).add_service(certificates);
    server.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await
}

/// Serves operators until `shutdown`, and then takes the socket away.
///
/// # Errors
/// When the server breaks off.
pub async fn control(
    listener: UnixListener,
    path: PathBuf,
    context: Context,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let control =
        ControlServer::new(ControlApi::new(context, shutdown.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let incoming = security::incoming_local(listener);
    let server = Server::builder().add_service(control);
    let served = server.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await;
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::debug!(%error, path = %path.display(), "the control socket was gone already");
    }
    served
}
