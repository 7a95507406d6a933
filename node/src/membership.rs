//! A node's way into a cluster, and how it stays: joining with a token, and renewing its certificate in time.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use events::{CommandId, Id};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use wire::v1::certificates_client::CertificatesClient;
use wire::v1::{JoinRequest, RenewRequest, RootRequest};

use crate::agent::{Connect, ConnectError};
use crate::clock;
use crate::failure::{Failure, code};
use crate::security::{
    BootstrapError, CertificateRequest, CertificateStore, Connector, Credentials, Identity, JoinToken, fetch_root,
};

/// Attempts to reach the manager that a node joins at, and the pause between them; SwarmKit's.
const JOIN_ATTEMPTS: u32 = 5;
const JOIN_PAUSE: Duration = Duration::from_secs(2);
/// Pauses after a renewal that failed: they double from the first to the last.
const RENEW_PAUSE_MIN: Duration = Duration::from_secs(5);
const RENEW_PAUSE_MAX: Duration = Duration::from_secs(3600);

/// Opens connections to managers with this node's certificate.
pub struct MemberConnect(pub Arc<Credentials>);

#[tonic::async_trait]
impl Connect for MemberConnect {
    async fn connect(&self, addr: &str) -> Result<Channel, ConnectError> {
        Ok(dial(addr, Connector::member(Arc::clone(&self.0))).await?)
    }
}

/// Why a manager could not be asked.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("\"{0}\" is not an address of the form host:port")]
    Address(String),
    #[error("{}", innermost(.0))]
    Transport(#[from] tonic::transport::Error),
    #[error("{}", .0.message())]
    Refused(#[from] Status),
}

/// The words of the operating system or of TLS, below tonic's "transport error".
fn innermost(error: &tonic::transport::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

async fn dial(addr: &str, connector: Connector) -> Result<Channel, DialError> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).map_err(|_| DialError::Address(addr.to_owned()))?;
    Ok(endpoint.connect_with_connector(connector).await?)
}

/// Joins the cluster whose manager is at `addr` and keeps the certificate that it gives.
///
/// # Errors
/// When the token is malformed or of another cluster, the manager cannot be reached, or it refuses.
pub async fn join(
    certificates: &CertificateStore,
    addr: &str,
    token: &str,
    hostname: &str,
) -> Result<Identity, Failure> {
    let parsed = JoinToken::from_str(token).map_err(|error| {
        let hint = error.hint();
        Failure::new(error, hint).with_code(code::NOT_ALLOWED)
    })?;
    let root =
        fetch_root(&parsed, |connector| download_root(addr, connector)).await.map_err(|error| no_root(addr, error))?;
    let connector = Connector::joiner(&root).map_err(|error| Failure::new(error, "report this as a bug"))?;
    let channel = dial(addr, connector).await.map_err(|error| unreachable(addr, &error))?;
    let request = CertificateRequest::new().map_err(|error| Failure::new(error, "report this as a bug"))?;
    let join = JoinRequest {
        id: CommandId::from_bits(rand::random()),
        token: token.to_owned(),
        csr_pem: request.csr_pem.clone(),
        hostname: hostname.to_owned(),
    };
    let reply =
        CertificatesClient::new(channel).join(join).await.map_err(|status| refused(addr, &status))?.into_inner();
    certificates.save_root(&root)?;
    certificates.save(&reply.cert_pem, &request.key)?;
    Ok(certificates.load(clock::now())?)
}

async fn download_root(addr: &str, connector: Connector) -> Result<String, DialError> {
    let mut attempt = 1;
    loop {
        let downloaded = async {
            let channel = dial(addr, connector.clone()).await?;
            Ok(CertificatesClient::new(channel).get_root(RootRequest {}).await?.into_inner().cert_pem)
        };
        match downloaded.await {
            Err(error @ DialError::Transport(_)) if attempt < JOIN_ATTEMPTS => {
                tracing::warn!(%error, addr, attempt, "the manager does not answer yet");
                attempt += 1;
                tokio::time::sleep(JOIN_PAUSE).await;
            }
            result => return result,
        }
    }
}

fn no_root(addr: &str, error: BootstrapError<DialError>) -> Failure {
    match error {
        BootstrapError::Download(error) => unreachable(addr, &error),
        BootstrapError::WrongRoot(error) => {
            let hint = error.hint();
            Failure::new(error, hint).with_code(code::NOT_ALLOWED)
        }
        BootstrapError::Certificate(_) | BootstrapError::Tls(_) => {
            Failure::new(error, "check that a manager of the cluster listens at this address")
                .with_code(code::NOT_ALLOWED)
        }
    }
}

fn unreachable(addr: &str, error: &DialError) -> Failure {
    let hint = "check --join-addr, that the manager runs, and that its port (4242 by default) can be reached from here";
    Failure::new(format!("the manager at {addr} cannot be reached: {error}"), hint).with_code(code::UNREACHABLE)
}

fn refused(addr: &str, status: &Status) -> Failure {
    let hint = wire::v1::Refusal::from_status(status).and_then(|refusal| refusal.hint).unwrap_or_default();
    let code = if status.code() == Code::Unavailable { code::UNREACHABLE } else { code::NOT_ALLOWED };
    Failure::new(format!("the manager at {addr} refused: {}", status.message()), hint).with_code(code)
}

/// Renews the node's certificate each time its time comes, until `shutdown`. Connections show the new one from then on.
pub async fn keep_renewed(
    credentials: Arc<Credentials>,
    certificates: CertificateStore,
    manager: String,
    shutdown: CancellationToken,
) {
    let mut pause = RENEW_PAUSE_MIN;
    let mut due = credentials.identity().renew_at(clock::now(), rand::random());
    loop {
        tokio::select! {
            () = tokio::time::sleep(due.since(clock::now())) => {}
            () = shutdown.cancelled() => return,
        }
        match renew(&credentials, &certificates, &manager).await {
            Ok(()) => {
                pause = RENEW_PAUSE_MIN;
                due = credentials.identity().renew_at(clock::now(), rand::random());
                tracing::info!(until = %credentials.identity().not_after(), "certificate renewed");
            }
            Err(failure) => {
                due = clock::now() + pause;
                tracing::warn!(until = %credentials.identity().not_after(), "certificate not renewed: {}", failure.sentence);
                pause = (pause * 2).min(RENEW_PAUSE_MAX);
            }
        }
    }
}

async fn renew(credentials: &Arc<Credentials>, certificates: &CertificateStore, manager: &str) -> Result<(), Failure> {
    let channel = dial(manager, Connector::member(Arc::clone(credentials))).await;
    let channel = channel.map_err(|error| unreachable(manager, &error))?;
    let request = CertificateRequest::new().map_err(|error| Failure::new(error, ""))?;
    let renewal = RenewRequest { id: CommandId::from_bits(rand::random()), csr_pem: request.csr_pem.clone() };
    let reply = CertificatesClient::new(channel).renew(renewal).await.map_err(|status| refused(manager, &status))?;
    certificates.save(&reply.into_inner().cert_pem, &request.key)?;
    let identity = certificates.load(clock::now())?;
    credentials.replace(identity).map_err(|error| Failure::new(error, ""))
}
