//! A client of the control API over the manager's unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::v1::control_client::ControlClient;

/// The default socket of a manager for operators, as in SwarmKit.
pub const DEFAULT_SOCKET: &str = "/var/run/swarmd.sock";

/// Maximum size of a message that a client accepts: a complete list of services of a large cluster.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The timeouts of a client for an unresponsive manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Maximum wait for the response to a call. Callers must enforce it: a stream has no such limit.
    pub answer: Duration,
    /// Interval of keepalive pings while a call is in progress.
    pub probe: Duration,
    /// Maximum wait for the response to a ping; then the connection is closed.
    pub silence: Duration,
}

impl Default for Timeouts {
    /// A healthy manager responds within milliseconds, one whose disk or machine is overloaded within seconds. A call times out
    /// before its connection, so that it fails for a single reason.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { answer: seconds(30), probe: seconds(10), silence: seconds(30) }
    }
}

/// The manager could not be reached.
#[derive(Debug)]
pub struct ConnectError {
    socket: PathBuf,
    source: tonic::transport::Error,
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no manager answers on {}", self.socket.display())
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Connects to the manager that listens on `socket`, with default timeouts.
///
/// # Errors
/// When nothing answers there.
pub async fn connect(socket: &Path) -> Result<ControlClient<Channel>, ConnectError> {
    connect_with(socket, Timeouts::default()).await
}

/// Connects to the manager that listens on `socket`.
///
/// # Errors
/// When nothing answers there.
pub async fn connect_with(socket: &Path, timeouts: Timeouts) -> Result<ControlClient<Channel>, ConnectError> {
    channel(socket, timeouts).await.map(control_client)
}

/// A connection to the manager that listens on this socket.
///
/// # Errors
/// When nothing answers there.
pub async fn channel(socket: &Path, timeouts: Timeouts) -> Result<Channel, ConnectError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The URI is only a placeholder: the connector connects to the socket.
    let endpoint = Endpoint::from_static("http://control.invalid")
        .http2_keep_alive_interval(timeouts.probe)
        .keep_alive_timeout(timeouts.silence);
    let error = |source| ConnectError { socket: socket.to_owned(), source };
    endpoint.connect_with_connector(connector).await.map_err(error)
}

/// A client of the control API over an existing connection.
pub fn control_client(channel: Channel) -> ControlClient<Channel> {
    ControlClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// Whether a call or a stream failed because the peer stopped responding.
pub fn is_silence(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout) {
            return true;
        }
        cause = error.source();
    }
    false
}
