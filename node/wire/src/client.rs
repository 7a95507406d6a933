//! A client of the control API over the manager's unix socket.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::v1::control_client::ControlClient;

/// Where a manager listens for operators unless told otherwise; SwarmKit's path.
pub const DEFAULT_SOCKET: &str = "/var/run/swarmd.sock";

/// Largest message a client takes: a full list of tasks on a large cluster.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

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

/// Connects to the manager that listens on `socket`.
///
/// # Errors
/// When nothing answers there.
pub async fn connect(socket: &Path) -> Result<ControlClient<Channel>, ConnectError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The URI is only a placeholder: the connector knows where to go.
    let endpoint = Endpoint::from_static("http://control.invalid");
    let error = |source| ConnectError { socket: socket.to_owned(), source };
    let channel = endpoint.connect_with_connector(connector).await.map_err(error)?;
    Ok(ControlClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}
