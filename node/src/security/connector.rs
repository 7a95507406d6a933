//! Opens TLS connections to managers, as a connector for tonic.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use events::{Duration, NodeId, Role};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

use super::authority::AUTHORITY_NAME;
use super::subject::unit_of;
use super::{Credentials, Introduction, JoinToken, RootCertificate, Subject, tls};

/// Deadline for TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to managers, for `Endpoint::connect_with_connector`.
///
/// The endpoint's address is `http://host:port`: this connector does TLS itself, and tonic refuses `https` unless its own TLS
/// is used.
#[derive(Debug, Clone)]
pub struct Connector {
    caller: Caller,
    /// The only node accepted as server; `None` accepts any manager.
    node: Option<NodeId>,
}

/// The identity with which connections are opened.
#[derive(Debug, Clone)]
enum Caller {
    /// A node of the cluster, with its current certificate.
    Member(Arc<Credentials>),
    /// A machine without a certificate, with these settings.
    Anonymous(Arc<ClientConfig>),
}

impl Connector {
    /// Connects as a node of the cluster; only a manager of the same root is accepted as server.
    pub fn member(credentials: Arc<Credentials>) -> Self {
        Self { caller: Caller::Member(credentials), node: None }
    }

    /// Connects as a machine that has the cluster's root but is not a member yet; only a manager is accepted as server.
    pub fn joiner(root: &RootCertificate) -> Result<Self, rustls::Error> {
        Ok(Self { caller: Caller::Anonymous(tls::joiner_config(root)?), node: None })
    }

    /// Connects with settings that accept any server; see [`fetch_root`](super::fetch_root).
    pub(super) fn stranger(config: Arc<ClientConfig>) -> Self {
        Self { caller: Caller::Anonymous(config), node: None }
    }

    /// Accepts only this node as server.
    pub fn to_node(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Presents a digest of the token, which is not sufficient to join.
    pub fn introduced_by(self, token: &JoinToken) -> Self {
        match self.caller {
            Caller::Member(_) => self,
            Caller::Anonymous(config) => {
                let caller = Caller::Anonymous(tls::introduced(&config, Introduction::of_joiner(token)));
                Self { caller, ..self }
            }
        }
    }

    fn settings(&self) -> (Arc<ClientConfig>, &'static str) {
        match &self.caller {
            Caller::Member(credentials) => (credentials.client(), unit_of(Role::Manager)),
            Caller::Anonymous(config) => (Arc::clone(config), AUTHORITY_NAME),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let ((config, server_name), node) = (self.settings(), self.node);
        Box::pin(async move {
            let address = uri.authority().map_or("", |authority| authority.as_str());
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(address, config, server_name));
            match connected.await {
                Ok(Ok(stream)) => {
                    node.map_or(Ok(()), |node| require(&stream, node))?;
                    Ok(TokioIo::new(stream))
                }
                Ok(Err(error)) => {
                    Err(io::Error::new(error.kind(), format!("cannot connect to {address}: {}", reason(&error))))
                }
                Err(_) => {
                    let seconds = CONNECT_TIMEOUT.as_secs();
                    Err(io::Error::new(io::ErrorKind::TimedOut, format!("{address} did not answer within {seconds} s")))
                }
            }
        })
    }
}

async fn connect(
    address: &str,
    config: Arc<ClientConfig>,
    server_name: &'static str,
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let server_name = ServerName::try_from(server_name).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(server_name, tcp).await
}

/// Rejects any other node: another manager may have taken over the address.
fn require(stream: &TlsStream<TcpStream>, node: NodeId) -> io::Result<()> {
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let found = certificate.and_then(|certificate| Subject::of(certificate).ok()).map(|subject| subject.node);
    if found == Some(node) {
        return Ok(());
    }
    let found = found.map_or_else(|| "a server without a name".to_owned(), |found| format!("node {found}"));
    Err(io::Error::other(format!("{found} answered there instead of node {node}")))
}

/// Describes common certificate errors in terms of the cluster.
fn reason(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let Some(rustls::Error::InvalidCertificate(certificate)) = cause else { return error.to_string() };
    match certificate {
        // All roots have the same name, so a certificate of another cluster appears as a wrong signature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => "it belongs to another cluster".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is not a manager".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired, or this machine's clock is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: one of the two clocks is wrong".to_owned()
        }
        _ => error.to_string(),
    }
}
