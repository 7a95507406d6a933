//! A client of the control API over the manager's unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::v1::control_client::ControlClient;

/// Where a manager listens for operators unless told otherwise; SwarmKit's path.
pub const DEFAULT_SOCKET: &str = "/var/run/swarmd.sock";

/// Largest message a client takes: a full list of services on a large cluster.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How long a client bears a manager that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Longest wait for the answer to a call. This is for callers to keep: a stream has no such limit.
    pub answer: Duration,
    /// Time between two questions of the transport whether the other end is still there, while a call is under way.
    pub probe: Duration,
    /// Longest wait for an answer to that question; then the connection is given up.
    pub silence: Duration,
}

impl Default for Timeouts {
    /// A healthy manager answers within milliseconds, one whose disk or machine is overloaded within seconds. A call is given
    /// up before its connection is, so that it has one reason.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { answer: seconds(30), probe: seconds(10), silence: seconds(30) }
    }
}

/// Why no manager could be reached.
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

/// Connects to the manager that listens on `socket`, with the usual patience.
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
pub async fn connect_with(socket: &Path, patience: Timeouts) -> Result<ControlClient<Channel>, ConnectError> {
    channel(socket, patience).await.map(control_client)
}

/// A connection to the manager that listens on this socket.
///
/// # Errors
/// When nobody answers there.
pub async fn channel(socket: &Path, patience: Timeouts) -> Result<Channel, ConnectError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The URI is only a placeholder: the connector knows where to go.
    let endpoint = Endpoint::from_static("http://control.invalid")
        .http2_keep_alive_interval(patience.probe)
        .keep_alive_timeout(patience.silence);
    let error = |source| ConnectError { socket: socket.to_owned(), source };
    endpoint.connect_with_connector(connector).await.map_err(error)
}

/// A client of the control API over a connection that there is.
pub fn control_client(channel: Channel) -> ControlClient<Channel> {
    ControlClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// Whether a call or a stream ended because the other end kept its connection and answered nothing any more.
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
