//! A certificate authority outside the cluster: servers that speak cfssl's protocol, hold the key of the cluster's root, and
//! sign requests of the managers.
//!
//! The managers still decide who gets which certificate; a server only receives the requested subject, and authenticates
//! managers by their certificates. A response is used only if it matches the request: the same key, the same holder, the same
//! root.

mod cfssl;

use std::sync::Arc;

use events::{Duration, ExternalCa, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::GeneralName;

use super::authority::{AUTHORITY_NAME, NODE_EXPIRY_MIN, RequestedKey};
use super::identity::verify_chain;
use super::subject::{Holder, OPERATOR_UNIT, Subject, unit_of};
use super::{Authority, CertificateRequest, Credentials, Identity, Issued, RootCertificate, certificate, key};
use cfssl::SignRequest;

/// Deadline for one server, as in SwarmKit.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Deadline for all attempts, including the wait for a slot: shorter than the requester waits, and enough to try each of four
/// unresponsive servers.
const SIGN_TIMEOUT: Duration = Duration::from_secs(25);
/// How often all servers are tried, and the delay in between. The requester retries later.
const ROUNDS: u32 = 2;
const PAUSE: Duration = Duration::from_millis(500);
/// Maximum concurrent calls of one manager: when a server is unresponsive, the renewals of a thousand nodes are queued.
const CALLS_MAX: usize = 16;
/// Maximum length of an error text, in characters, because a server may send any text.
const WHY_CHARS_MAX: usize = 300;
/// Minimum remaining validity of a cross-signed root: a rotation waits for nodes that are offline.
const CROSS_VALIDITY_MIN: Duration = Duration::from_secs(30 * 24 * 3600);

/// Calls these servers with the manager's certificate, if it has one, and a bounded number of concurrent calls.
pub struct ExternalClient {
    credentials: Option<Arc<Credentials>>,
    calls: Semaphore,
}

/// The servers that sign for a root.
#[derive(Debug, Clone)]
pub struct ExternalAuthority {
    root: RootCertificate,
    urls: Vec<String>,
}

/// Why no server signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExternalError {
    /// The failure of the last server that was tried.
    #[error("the external certificate authority at {url} did not sign: {why}")]
    Failed {
        /// Its URL.
        url: String,
        /// The reason.
        why: String,
    },
    /// Too many calls are in progress, or the servers do not respond.
    #[error("no external certificate authority signed within {} s", SIGN_TIMEOUT.as_secs())]
    Late,
}

impl ExternalClient {
    /// A client that presents this node's certificate.
    pub fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials: Some(credentials), calls: Semaphore::new(CALLS_MAX) }
    }

    /// A client without a certificate, for a manager that lost its own: the server decides whether it signs for it.
    pub fn anonymous() -> Self {
        Self { credentials: None, calls: Semaphore::new(CALLS_MAX) }
    }
}

impl ExternalAuthority {
    /// The configured servers that sign for this root; `None` if there are none.
    pub fn of(root: &RootCertificate, settings: &[ExternalCa]) -> Option<Self> {
        let signs = |ca: &&ExternalCa| RootCertificate::from_pem(&ca.ca_cert_pem).is_ok_and(|of| of == *root);
        let urls: Vec<String> = settings.iter().filter(signs).map(|ca| ca.url.clone()).collect();
        (!urls.is_empty()).then(|| Self { root: root.clone(), urls })
    }

    /// The root that the servers sign for.
    pub fn root(&self) -> &RootCertificate {
        &self.root
    }

    /// Has a request signed for `holder` by the first server that accepts it.
    ///
    /// # Errors
    /// When none of them signs, or the last signed certificate does not match the request.
    pub async fn sign(
        &self,
        client: &ExternalClient,
        csr_pem: &str,
        key: &RequestedKey,
        holder: Holder,
        now: Timestamp,
    ) -> Result<Issued, ExternalError> {
        let request = SignRequest::for_holder(csr_pem, holder.names(), hosts(holder));
        self.ask(client, &request, |cert_pem| accept(&self.root, cert_pem, key, holder, now)).await
    }

    /// Has the root of `next` signed, so that nodes that trust this root also trust certificates of `next`.
    ///
    /// # Errors
    /// As for [`sign`](Self::sign).
    pub async fn cross_sign(
        &self,
        client: &ExternalClient,
        next: &Authority,
        now: Timestamp,
    ) -> Result<String, ExternalError> {
        let failed = |why: String| ExternalError::Failed { url: self.urls.join(", "), why };
        let csr_pem = next.request().map_err(|error| failed(error.to_string()))?;
        let request = SignRequest::for_authority(&csr_pem, AUTHORITY_NAME);
        self.ask(client, &request, |cert_pem| accept_root(&self.root, cert_pem, next, now)).await
    }

    /// Asks one server after another, until a response is accepted.
    async fn ask<T>(
        &self,
        client: &ExternalClient,
        request: &SignRequest<'_>,
        accept: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ExternalError> {
        let asked = async {
            // The semaphore is never closed.
            let _place = client.calls.acquire().await;
            let mut failed = ExternalError::Late;
            for round in 0..ROUNDS {
                if round > 0 {
                    tokio::time::sleep(PAUSE).await;
                }
                for url in &self.urls {
                    let identity = client.credentials.as_ref().map(|credentials| credentials.identity());
                    match self.ask_one(url, identity.as_ref(), request).await.and_then(|pem| accept(&pem)) {
                        Ok(accepted) => return Ok(accepted),
                        Err(why) => failed = noted(url, &why),
                    }
                }
            }
            Err(failed)
        };
        timeout(SIGN_TIMEOUT, asked).await.unwrap_or(Err(ExternalError::Late))
    }

    /// The response of one server, which authenticates with a certificate of the root that it signs for.
    async fn ask_one(
        &self,
        url: &str,
        identity: Option<&Identity>,
        request: &SignRequest<'_>,
    ) -> Result<String, String> {
        let answered = timeout(ANSWER_TIMEOUT, cfssl::sign(url, &self.root, identity, request)).await;
        answered.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())))
    }
}

/// Logs a server's failure, and returns it for the requester.
fn noted(url: &str, why: &str) -> ExternalError {
    let why: String = why.chars().take(WHY_CHARS_MAX).collect();
    let failed = ExternalError::Failed { url: url.to_owned(), why };
    tracing::warn!(error = %failed, "an external certificate authority did not sign");
    failed
}

/// Accepts a certificate if it matches the request.
fn accept(
    root: &RootCertificate,
    cert_pem: &str,
    requested: &RequestedKey,
    holder: Holder,
    now: Timestamp,
) -> Result<Issued, String> {
    let unfit = |what: &str| format!("it signed {what}");
    let chain = certificate::all_in(cert_pem).map_err(|error| error.to_string())?;
    let own = chain.first().ok_or_else(|| unfit("nothing"))?;
    let parsed = certificate::parse(own).map_err(|error| error.to_string())?;
    if !requested.is_certified_by(cert_pem) {
        return Err(unfit("another key than it was asked to"));
    }
    if Holder::of(own).ok() != Some(holder) {
        return Err(unfit("for another holder than it was asked to"));
    }
    if let Some(missing) = hosts(holder).iter().find(|name| !has_name(&parsed, name)) {
        return Err(unfit(&format!("a certificate without the name {missing}")));
    }
    if parsed.is_ca() {
        return Err(unfit("the certificate of an authority"));
    }
    let (_, not_after) = certificate::validity(&parsed);
    if not_after < now + NODE_EXPIRY_MIN {
        return Err(unfit("a certificate that is valid for less than an hour"));
    }
    // It must be signed by the root itself: nodes detect by this whether they have moved to it.
    verify_chain([root], own, &[], now)
        .map_err(|error| unfit(&format!("with another key than that of the root {}: {error}", root.digest())))?;
    let serial = parsed.raw_serial_as_string().replace(':', "");
    Ok(Issued { cert_pem: key::pem("CERTIFICATE", own), not_after, serial })
}

/// Accepts a signed root if it makes certificates of `next` trusted wherever `root` is trusted.
fn accept_root(root: &RootCertificate, cert_pem: &str, next: &Authority, now: Timestamp) -> Result<String, String> {
    let unfit = |what: String| format!("it signed {what}");
    let cross = certificate::all_in(cert_pem).map_err(|error| error.to_string())?;
    let own = cross.first().ok_or_else(|| unfit("nothing".to_owned()))?;
    let parsed = certificate::parse(own).map_err(|error| error.to_string())?;
    if !parsed.is_ca() {
        return Err(unfit("no certificate of an authority; its profile \"CA\" has to allow that".to_owned()));
    }
    if certificate::validity(&parsed).1 < now + CROSS_VALIDITY_MIN {
        let days = CROSS_VALIDITY_MIN.as_secs() / 86_400;
        return Err(unfit(format!("a root that is valid for less than {days} days; its profile \"CA\" says how long")));
    }
    // Tested with a certificate that the new root signs, verified as every node will.
    let sample = CertificateRequest::new().map_err(|error| error.to_string())?;
    let holder = Subject { node: events::NodeId::default(), role: events::Role::Manager, cluster: Default::default() };
    let sample = next.sign(&sample.csr_pem, holder, now, NODE_EXPIRY_MIN).map_err(|error| error.to_string())?;
    let sample = certificate::all_in(&sample.cert_pem).map_err(|error| error.to_string())?;
    verify_chain([root], &sample[0], std::slice::from_ref(own), now)
        .map_err(|error| unfit(format!("a root by which the new one is not trusted: {error}")))?;
    Ok(key::pem("CERTIFICATE", own))
}

fn has_name(certificate: &X509Certificate<'_>, name: &str) -> bool {
    let names = certificate.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| {
        names.value.general_names.iter().any(|found| matches!(found, GeneralName::DNSName(found) if *found == name))
    })
}

/// The names in a certificate, in addition to its subject.
fn hosts(holder: Holder) -> Vec<String> {
    let (unit, name) = match holder {
        Holder::Node(Subject { node, role, .. }) => (unit_of(role), node.to_string()),
        Holder::Operator { operator, .. } => (OPERATOR_UNIT, operator.to_string()),
    };
    let authority = (unit == unit_of(events::Role::Manager)).then(|| AUTHORITY_NAME.to_owned());
    [unit.to_owned(), name].into_iter().chain(authority).collect()
}

#[cfg(test)]
mod tests;
