//! Enrolment of a node: joining a cluster with a token, and renewing its certificate in time.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use events::{CommandId, Id, Role, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use wire::v1::certificates_client::CertificatesClient;
use wire::v1::{CertificateReply, JoinRequest, RenewRequest, RootRequest};

use crate::agent::backoff::{self, Backoff};
use crate::agent::{ClusterInfo, Connect, ConnectError};
use crate::clock;
use crate::daemon::failure::{Failure, code};
use crate::security::{
    BootstrapError, CertificateError, CertificateRequest, CertificateStore, Connector, Credentials, Identity,
    IdentityError, JoinToken, PendingJoin, PrivateKey, Subject, TrustedRoots, certificate, fetch_root,
};

/// How often a joining node retries, and how long it waits in between.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// The total number of attempts.
    pub attempts: u32,
    /// The delay between two attempts.
    pub pause: Duration,
    /// How long to retry, in addition, while the manager is busy, with delays that grow to seconds.
    pub busy: Duration,
}

impl Timeouts {
    /// As in SwarmKit, and long enough for the last of ten thousand machines that start at the same time: a manager admits 50
    /// per second.
    pub const OF_A_JOINER: Self = Self { attempts: 5, pause: Duration::from_secs(2), busy: Duration::from_secs(300) };
}

/// Deadline for one response: a manager answers a join once it is on disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Delays after a failed renewal: they double from the first to the last.
const RENEW_PAUSE_MIN: Duration = Duration::from_secs(5);
const RENEW_PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Maximum delay while the node waits for a certificate with another role: an operator is waiting.
const ROLE_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Longest sleep before the clock is read again: suspending a machine stops its timers, but not the lifetime of its
/// certificate.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// Connects to managers with this node's certificate.
pub struct MemberConnect(pub Arc<Credentials>);

#[tonic::async_trait]
impl Connect for MemberConnect {
    async fn connect(&self, addr: &str) -> Result<Channel, ConnectError> {
        unexpired(&self.0).map_err(|error| ConnectError::Unfit { hint: error.hint(), why: error.to_string() })?;
        let channel = dial(addr, Connector::member(Arc::clone(&self.0))).await;
        channel.map_err(|error| ConnectError::Failed(error.into()))
    }

    fn trust(&self) -> Option<u64> {
        Some(self.0.trust())
    }

    fn compare_trust(&self, announced: u64) {
        self.0.compare_trust(announced);
    }
}

/// The node's identity, unless it has expired: TLS would only report an alert.
fn unexpired(credentials: &Credentials) -> Result<Identity, IdentityError> {
    let identity = credentials.identity();
    if identity.not_after() < clock::now() {
        return Err(IdentityError::Expired { subject: identity.subject(), not_after: identity.not_after() });
    }
    Ok(identity)
}

/// Why a call to a manager failed.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("\"{0}\" is not an address of the form host:port")]
    Address(String),
    #[error("{}", root_cause(.0))]
    Transport(#[from] tonic::transport::Error),
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Late,
    #[error("{}", .0.message())]
    Refused(#[from] Status),
}

impl DialError {
    /// Whether a retry may succeed; the call itself may also have succeeded and its response been lost.
    fn is_transient(&self) -> bool {
        match self {
            Self::Address(_) => false,
            Self::Transport(_) | Self::Late => true,
            Self::Refused(status) => matches!(
                status.code(),
                Code::Unavailable
                    | Code::ResourceExhausted
                    | Code::FailedPrecondition
                    | Code::DeadlineExceeded
                    | Code::Cancelled
                    | Code::Internal
                    | Code::Unknown
            ),
        }
    }

    /// Whether the manager is reachable but busy: it answers so, or closes the connection to make room for others.
    fn is_busy(&self) -> bool {
        match self {
            Self::Address(_) | Self::Late => false,
            Self::Transport(error) => was_ended(error),
            Self::Refused(status) => matches!(status.code(), Code::Unavailable | Code::ResourceExhausted),
        }
    }
}

/// Whether the connection was established and then closed by the peer.
fn was_ended(error: &tonic::transport::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let mut cause = error.source();
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The message of the operating system or of TLS, below tonic's "transport error".
fn root_cause(error: &tonic::transport::Error) -> String {
    let mut root_cause: &dyn std::error::Error = error;
    while let Some(source) = root_cause.source() {
        root_cause = source;
    }
    root_cause.to_string()
}

async fn dial(addr: &str, connector: Connector) -> Result<Channel, DialError> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).map_err(|_| DialError::Address(addr.to_owned()))?;
    Ok(endpoint.connect_with_connector(connector).await?)
}

/// Joins the cluster whose manager is at `addr` and stores the issued certificate.
///
/// The request is stored before it is sent: even if responses are lost or this process restarts, the same request is repeated
/// and the cluster gains only one node. `before` is called with the role in the certificate before that is stored.
///
/// # Errors
/// When the token belongs to another cluster, the manager cannot be reached, or it refuses.
pub async fn join(
    certificates: &CertificateStore,
    addr: &str,
    token: &JoinToken,
    hostname: &str,
    timeouts: Timeouts,
    before: impl Fn(Role) -> Result<(), Failure>,
) -> Result<Identity, Failure> {
    let download = async |connector: Connector| {
        let call = async |mut client: CertificatesClient<Channel>| client.get_root(RootRequest {}).await;
        until_answered(addr, &connector, timeouts, call).await.map(|reply| reply.cert_pem)
    };
    let root = fetch_root(token, download).await.map_err(|error| no_root(addr, error))?;
    let connector = Connector::joiner(&root).map_err(|error| Failure::new(error, "report this as a bug"))?;
    let connector = connector.introduced_by(token);
    let PendingJoin { id, key } = pending_join(certificates)?;
    let request = CertificateRequest::of(key).map_err(|error| Failure::new(error, "report this as a bug"))?;
    let csr_pem = request.csr_pem.clone();
    let join = JoinRequest { id, token: token.to_string(), csr_pem, hostname: hostname.to_owned() };
    let call = async |mut client: CertificatesClient<Channel>| client.join(join.clone()).await;
    let reply = match until_answered(addr, &connector, timeouts, call).await {
        Ok(reply) => reply,
        Err(error) if error.is_transient() => return Err(unanswered(addr, &error)),
        Err(error) => {
            // This request will never be accepted; the next attempt is a new one.
            certificates.forget_pending_join()?;
            return Err(unreachable(addr, &error));
        }
    };
    let roots = trusted(&reply, |roots| roots.contains(&root))?;
    before(role_in(&reply.cert_pem)?)?;
    certificates.save_roots(&roots)?;
    certificates.save(&reply.cert_pem, &request.key)?;
    certificates.forget_pending_join()?;
    Ok(certificates.load(clock::now())?)
}

/// The roots sent with a certificate, if they may be trusted: their sender was authenticated by a trusted root.
fn trusted(reply: &CertificateReply, may: impl FnOnce(&TrustedRoots) -> bool) -> Result<TrustedRoots, Failure> {
    let unusable = |why: String| Failure::new(format!("the manager sent no usable root certificate: {why}"), "");
    let roots = TrustedRoots::from_pem(&reply.roots_pem).map_err(|error| unusable(error.to_string()))?;
    if may(&roots) { Ok(roots) } else { Err(unusable("it is not the one that the join token was made for".to_owned())) }
}

/// The pending join of an earlier attempt, or a new one.
fn pending_join(certificates: &CertificateStore) -> Result<PendingJoin, Failure> {
    if let Some(pending) = certificates.load_pending_join()? {
        tracing::info!("continuing a join that was not answered");
        return Ok(pending);
    }
    let key = PrivateKey::generate().map_err(|error| Failure::new(error, "report this as a bug"))?;
    let pending = PendingJoin { id: CommandId::from_bits(rand::random()), key };
    certificates.save_pending_join(&pending)?;
    Ok(pending)
}

/// Calls the manager until it answers or the timeout expires. Only for idempotent calls.
async fn until_answered<T>(
    addr: &str,
    connector: &Connector,
    timeouts: Timeouts,
    call: impl AsyncFn(CertificatesClient<Channel>) -> Result<Response<T>, Status>,
) -> Result<T, DialError> {
    let mut attempt = 1;
    let (started, mut backoff) = (Instant::now(), Backoff::default());
    loop {
        let answered = async {
            let channel = dial(addr, connector.clone()).await?;
            Ok(call(CertificatesClient::new(channel)).await?.into_inner())
        };
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, answered).await.unwrap_or(Err(DialError::Late));
        match answered {
            Err(error) if error.is_busy() && started.elapsed() < timeouts.busy => {
                let pause = backoff.pause(&mut rand::rng());
                tracing::warn!(%error, addr, pause_ms = backoff::ms(pause), "the manager is busy; retrying");
                tokio::time::sleep(pause).await;
            }
            Err(error) if error.is_transient() && attempt < timeouts.attempts => {
                let attempts_max = timeouts.attempts;
                tracing::warn!(%error, addr, attempt, attempts_max, "the manager has not responded; retrying");
                attempt += 1;
                tokio::time::sleep(timeouts.pause).await;
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

/// The failure of a join that the manager may have received.
fn unanswered(addr: &str, error: &DialError) -> Failure {
    let Failure { sentence, hint, code } = unreachable(addr, error);
    let again = "start swarmd again: it continues the same join";
    let hint = if hint.is_empty() { again.to_owned() } else { format!("{hint}; {again}") };
    Failure { sentence, hint, code }
}

fn unreachable(addr: &str, error: &DialError) -> Failure {
    if let DialError::Refused(status) = error {
        return refused(addr, status);
    }
    let hint = "check --join-addr, that the manager runs, and that its port (4242 by default) can be reached from here";
    Failure::new(format!("the manager at {addr} cannot be reached: {error}"), hint).with_code(code::UNREACHABLE)
}

fn refused(addr: &str, status: &Status) -> Failure {
    let hint = wire::v1::Refusal::from_status(status).and_then(|refusal| refusal.hint).unwrap_or_default();
    let code = if status.code() == Code::Unavailable { code::UNREACHABLE } else { code::NOT_ALLOWED };
    Failure::new(format!("the manager at {addr} refused: {}", status.message()), hint).with_code(code)
}

/// The role in a certificate that a manager issued.
fn role_in(cert_pem: &str) -> Result<Role, Failure> {
    let unfit = |error: CertificateError| Failure::new(format!("the new certificate: {error}"), "report this as a bug");
    let chain = certificate::all_in(cert_pem).map_err(unfit)?;
    let own = chain.first().ok_or_else(|| unfit(CertificateError::Count(0)))?;
    Subject::of(own).map(|subject| subject.role).map_err(unfit)
}

/// Renews the node's certificate whenever it is due, and when the desired role changes, until `shutdown`. New connections use
/// the new one. `before` is called with the role in the new certificate before that is stored.
pub async fn keep_renewed(
    credentials: Arc<Credentials>,
    certificates: CertificateStore,
    cluster_info: Arc<ClusterInfo>,
    before: impl Fn(Role) -> Result<(), Failure>,
    shutdown: CancellationToken,
) {
    let (mut pause, mut wanted) = (RENEW_PAUSE_MIN, cluster_info.role());
    let mut due = credentials.identity().renew_at(clock::now(), rand::random());
    let lacks_role = |wanted: Option<Role>| wanted.is_some_and(|role| role != credentials.identity().subject().role);
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait_until(due, clock::now())) => {}
            changed = wanted.changed() => {
                if changed.is_ok() && lacks_role(*wanted.borrow_and_update()) {
                    (due, pause) = (clock::now(), RENEW_PAUSE_MIN);
                }
            }
            // The delay after a failure still applies: otherwise every heartbeat would trigger an attempt.
            () = credentials.outdated(), if pause == RENEW_PAUSE_MIN => due = clock::now(),
            () = shutdown.cancelled() => return,
        }
        if clock::now() < due {
            continue;
        }
        match renew(&credentials, &certificates, &cluster_info.managers(), &before).await {
            Ok(()) => {
                pause = RENEW_PAUSE_MIN;
                due = match lacks_role(*wanted.borrow()) {
                    true => clock::now() + pause,
                    false => credentials.identity().renew_at(clock::now(), rand::random()),
                };
                tracing::info!(until = %credentials.identity().not_after(), "certificate renewed");
            }
            Err(failure) => {
                due = clock::now() + pause;
                let until = credentials.identity().not_after();
                tracing::warn!(%until, error = failure.sentence, hint = failure.hint, "certificate not renewed");
                let pause_max = if lacks_role(*wanted.borrow()) { ROLE_PAUSE_MAX } else { RENEW_PAUSE_MAX };
                pause = (pause * 2).min(pause_max);
            }
        }
    }
}

fn wait_until(due: Timestamp, now: Timestamp) -> Duration {
    due.since(now).min(SLEEP_MAX)
}

/// Renews the certificate at one of these managers, which are tried in turn.
async fn renew(
    credentials: &Arc<Credentials>,
    certificates: &CertificateStore,
    managers: &[String],
    before: &impl Fn(Role) -> Result<(), Failure>,
) -> Result<(), Failure> {
    unexpired(credentials)?;
    let mut failure = Failure::new("no manager is known", "give the address of one with --join-addr");
    for manager in managers {
        match renew_at(credentials, certificates, manager, before).await {
            Ok(()) => return Ok(()),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn renew_at(
    credentials: &Arc<Credentials>,
    certificates: &CertificateStore,
    manager: &str,
    before: &impl Fn(Role) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let request = CertificateRequest::new().map_err(|error| Failure::new(error, ""))?;
    let renewal = RenewRequest { id: CommandId::from_bits(rand::random()), csr_pem: request.csr_pem.clone() };
    let answered = async {
        let channel = dial(manager, Connector::member(Arc::clone(credentials))).await?;
        Ok(CertificatesClient::new(channel).renew(renewal).await?.into_inner())
    };
    // Without a deadline, an unresponsive manager would block all further attempts.
    let answered = tokio::time::timeout(ANSWER_TIMEOUT, answered).await.unwrap_or(Err(DialError::Late));
    let reply = answered.map_err(|error| unreachable(manager, &error))?;
    let roots = trusted(&reply, |_| true)?;
    before(role_in(&reply.cert_pem)?)?;
    certificates.save_roots(&roots)?;
    certificates.save(&reply.cert_pem, &request.key)?;
    let identity = certificates.load(clock::now())?;
    credentials.replace(identity).map_err(|error| Failure::new(error, ""))
}

#[cfg(test)]
mod tests;
