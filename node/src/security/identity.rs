//! A node's identity: its certificate, the matching key and the root that issued it.

use std::fmt;
use std::sync::Arc;

use events::{Duration, Role, Timestamp};
use rcgen::{CertificateParams, DistinguishedName};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::authority::BACKDATE;
use super::subject::Subject;
use super::{CertificateError, Introduction, KeyError, PrivateKey, RootCertificate, TrustedRoots, certificate, tls};

/// The share of its lifetime after which a certificate may be renewed, and the range over which nodes are spread.
const RENEW_FROM: f64 = 0.5;
const RENEW_SPREAD: f64 = 0.3;

/// A key without a certificate yet.
pub struct CertificateRequest {
    /// The new private key; it stays on the node.
    pub key: PrivateKey,
    /// The certificate signing request, in PEM. It contains no names: the authority sets the subject.
    pub csr_pem: String,
}

impl CertificateRequest {
    /// A new key and the request for its certificate.
    pub fn new() -> Result<Self, KeyError> {
        Self::of(PrivateKey::generate()?)
    }

    /// A request for an existing key.
    pub fn of(key: PrivateKey) -> Result<Self, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr_pem =
            params.serialize_request(key.pair()).and_then(|request| request.pem()).map_err(KeyError::Generation)?;
        Ok(Self { key, csr_pem })
    }
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateRequest").field("csr_pem", &self.csr_pem).finish_non_exhaustive()
    }
}

/// The identity of this node and its proof. Can only be created from parts that match and are valid.
#[derive(Clone)]
pub struct Identity {
    subject: Subject,
    not_before: Timestamp,
    not_after: Timestamp,
    roots: TrustedRoots,
    trust: u64,
    certified: Arc<CertifiedKey>,
    introduction: Introduction,
}

/// Why a node has no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The node never joined, or its files were deleted.
    #[error("this node has no {0}")]
    Missing(&'static str),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A certificate is damaged.
    #[error("{file} is not usable: {source}")]
    Certificate {
        /// The file's name.
        file: &'static str,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// The key is damaged.
    #[error("swarm-node.key is not usable: {0}")]
    Key(#[source] KeyError),
    /// The key is wrapped with an unlock key that is not available.
    #[error("swarm-node.key is locked, and needs the cluster's unlock key")]
    Locked,
    /// Wrapping or unwrapping the key failed.
    #[error("swarm-node.key: {0}")]
    Wrap(#[source] super::seal::SealError),
    /// The certificate was issued for another key.
    #[error("the node's key does not belong to its certificate")]
    KeyMismatch,
    /// The certificate was not issued by the root.
    #[error("the node's certificate was not issued by the root certificate: {0}")]
    Untrusted(#[source] rustls::Error),
    /// The certificate has expired; a manager can still identify the node by it.
    #[error("the certificate of {subject} expired at {not_after}")]
    Expired {
        /// The holder.
        subject: Subject,
        /// The end of its validity.
        not_after: Timestamp,
    },
    /// The certificate is not valid yet: a clock is wrong.
    #[error("the certificate of {subject} is not valid before {not_before}")]
    NotYetValid {
        /// The holder.
        subject: Subject,
        /// The start of its validity.
        not_before: Timestamp,
    },
}

impl IdentityError {
    /// What the operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing(_) => "join a cluster with --join-addr and --join-token",
            Self::File { .. } => "check the owner and the mode of the state directory, and whether its disk is full",
            Self::NotYetValid { .. } => "check this machine's clock",
            Self::Expired { subject, .. } if subject.role == Role::Manager => {
                "check this machine's clock; if it is right, start swarmd again: a manager issues itself a new certificate"
            }
            Self::Expired { .. } => {
                "check this machine's clock; if it is right, `swarmctl node rm` the node on a manager, then run `swarmd leave --force` and join again with --join-addr and --join-token"
            }
            Self::Locked => "start swarmd with --unlock-key-file, or unlock it with `swarmctl cluster unlock`",
            Self::Wrap(_) => "see the log above; the system may be short of random bytes",
            Self::Certificate { .. } | Self::Key(_) | Self::KeyMismatch | Self::Untrusted(_) => {
                "restore the certificates directory, or delete it and join again with a token"
            }
        }
    }
}

impl Identity {
    /// Creates the identity from these parts if they match at `now`: certificate and root, key and certificate. `cert_pem`
    /// starts with the node's own certificate; intermediates may follow.
    pub fn new(
        roots: impl Into<TrustedRoots>,
        cert_pem: &str,
        key: &PrivateKey,
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        let roots = roots.into();
        let damaged = |source| IdentityError::Certificate { file: super::store::NODE_CERTIFICATE, source };
        let chain = certificate::all_in(cert_pem).map_err(damaged)?;
        let (own, intermediates) = chain.split_first().ok_or(damaged(CertificateError::Count(0)))?;
        let subject = Subject::of(own).map_err(damaged)?;
        let (not_before, not_after) =
            certificate::parse(own).map(|parsed| certificate::validity(&parsed)).map_err(damaged)?;
        if !key.fits(own).map_err(damaged)? {
            return Err(IdentityError::KeyMismatch);
        }
        // The chain is verified within the certificate's lifetime, so that "expired" is only reported for a genuine one.
        let at = now.max(not_before).min(not_after);
        verify_chain(roots.iter(), own, intermediates, at).map_err(IdentityError::Untrusted)?;
        let is_newest = verify_chain([roots.newest()], own, &[], at).is_ok();
        let trust = if is_newest { roots.mark() } else { 0 };
        if now > not_after {
            return Err(IdentityError::Expired { subject, not_after });
        }
        if now < not_before {
            return Err(IdentityError::NotYetValid { subject, not_before });
        }
        // The library zeroes its own copy of the key.
        let signing = any_supported_type(&key.der()).map_err(IdentityError::Untrusted)?;
        let certified = CertifiedKey::new(chain, signing);
        certified.keys_match().map_err(IdentityError::Untrusted)?;
        let introduction = Introduction::of_node(subject.node, cert_pem);
        Ok(Self { subject, not_before, not_after, roots, trust, certified: Arc::new(certified), introduction })
    }

    /// The subject of the certificate.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// The end of the certificate's validity.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The roots that this node trusts.
    pub fn roots(&self) -> &TrustedRoots {
        &self.roots
    }

    /// The hash of these roots; 0 if the newest of them did not sign the certificate.
    pub fn trust(&self) -> u64 {
        self.trust
    }

    /// When to request a new certificate: after 50 % to 80 % of the lifetime depending on `fraction` (0 to 1, random, so that
    /// nodes that joined together do not renew together), or now if that time has passed.
    pub fn renew_at(&self, now: Timestamp, fraction: f64) -> Timestamp {
        // Counted from the issue: a one-hour certificate, backdated by an hour, has not used half its lifetime when it is new.
        let issued = self.not_before + BACKDATE;
        let share = RENEW_FROM + RENEW_SPREAD * fraction.clamp(0.0, 1.0);
        let lifetime: Duration = self.not_after.since(issued);
        now.max(issued + lifetime.mul_f64(share))
    }

    /// The introduction that the node sends.
    pub(super) fn introduction(&self) -> Introduction {
        self.introduction
    }

    /// Certificate chain and key as rustls expects them.
    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Identity");
        shown.field("subject", &self.subject).field("not_after", &self.not_after).field("roots", &self.roots);
        shown.finish_non_exhaustive()
    }
}

/// Verifies as a server verifies a client, which covers signatures, validity and usage.
pub(super) fn verify_chain<'a>(
    roots: impl IntoIterator<Item = &'a RootCertificate>,
    own: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    at: Timestamp,
) -> Result<(), rustls::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(tls::roots(roots)?, tls::provider());
    let verifier = verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?;
    let at = UnixTime::since_unix_epoch(at.since(Timestamp::from_unix_ns(0)));
    verifier.verify_client_cert(own, intermediates, at).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{DAY, NOW, identity, subject};
    use super::super::{Authority, NODE_EXPIRY_MIN};
    use super::*;

    #[test]
    fn renewal_comes_after_half_to_four_fifths_of_the_lifetime() {
        let authority = Authority::generate(NOW).expect("an authority");
        let quarter = identity(&authority, subject(1, Role::Worker), NOW);
        assert_eq!(quarter.renew_at(NOW, 0.0), NOW + DAY * 45);
        assert_eq!(quarter.renew_at(NOW, 1.0), NOW + DAY * 72);
        assert_eq!(quarter.renew_at(NOW, 7.0), NOW + DAY * 72);
        assert_eq!(quarter.renew_at(NOW + DAY * 80, 0.5), NOW + DAY * 80, "it is past: at once");

        let request = CertificateRequest::new().expect("a request");
        let issued =
            authority.sign(&request.csr_pem, subject(1, Role::Worker), NOW, NODE_EXPIRY_MIN).expect("a certificate");
        let hour = Identity::new(authority.root().clone(), &issued.cert_pem, &request.key, NOW).expect("an identity");
        assert_eq!(hour.renew_at(NOW, 0.0), NOW + Duration::from_secs(30 * 60));
    }

    #[test]
    fn only_parts_that_belong_together_make_an_identity() {
        let (authority, other) = (Authority::generate(NOW).expect("one"), Authority::generate(NOW).expect("another"));
        let (mine, theirs) =
            (CertificateRequest::new().expect("a request"), CertificateRequest::new().expect("a request"));
        let member = subject(1, Role::Manager);
        let issued = authority.sign(&mine.csr_pem, member, NOW, DAY).expect("a certificate");
        let identity = |root: &Authority, key, now| Identity::new(root.root().clone(), &issued.cert_pem, key, now);

        let good = identity(&authority, &mine.key, NOW).expect("an identity");
        assert_eq!((good.subject(), good.not_after()), (member, issued.not_after));
        assert!(matches!(identity(&authority, &theirs.key, NOW), Err(IdentityError::KeyMismatch)));
        assert!(matches!(identity(&other, &mine.key, NOW), Err(IdentityError::Untrusted(_))));
        assert!(matches!(identity(&other, &mine.key, NOW + DAY * 2), Err(IdentityError::Untrusted(_))));
        let late = identity(&authority, &mine.key, NOW + DAY * 2);
        assert!(
            matches!(late, Err(IdentityError::Expired { subject, not_after }) if subject == member && not_after == NOW + DAY)
        );
        let early = identity(&authority, &mine.key, NOW - DAY);
        assert!(matches!(early, Err(IdentityError::NotYetValid { not_before, .. }) if not_before == NOW - BACKDATE));
    }

    #[test]
    fn the_way_back_is_a_workers_or_a_managers_own() {
        let hint = |role| IdentityError::Expired { subject: subject(1, role), not_after: NOW }.hint();
        assert!(hint(Role::Worker).contains("swarmd leave --force"));
        assert!(hint(Role::Manager).contains("start swarmd again"), "an emptied manager would be a lost cluster");
    }

    #[test]
    fn a_certificate_of_a_stranger_under_the_root_is_no_identity() {
        let authority = Authority::generate(NOW).expect("an authority");
        let root = Identity::new(authority.root().clone(), &authority.root().to_pem(), authority.key(), NOW);
        assert!(matches!(root, Err(IdentityError::Certificate { source: CertificateError::Subject(_), .. })));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let authority = Authority::generate(NOW).expect("an authority");
        let request = CertificateRequest::new().expect("a request");
        let key = request.key.to_pem();
        let shown = format!("{request:?} {:?}", identity(&authority, subject(1, Role::Worker), NOW));
        assert!(key.lines().all(|line| !shown.contains(line)), "{shown}");
    }
}
