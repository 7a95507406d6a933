//! Trust between nodes: the cluster's certificate authority, identities, join tokens, TLS, and access control.
//!
//! A cluster creates its own root ([`Authority`]). A joining node has a [`JoinToken`], which contains the root's digest, so it
//! can authenticate the cluster ([`fetch_root`]) before the cluster admits it. It sends a [`CertificateRequest`] and receives a
//! certificate whose [`Subject`] the cluster set; from then on it is identified by it. Every connection between nodes is mutual
//! TLS 1.3 ([`Credentials`], [`incoming`], [`Connector`]); each call is judged by what the connection authenticated ([`Peer`],
//! [`Gate`]), never by the content of a message.
//!
//! Not here: the RPCs that carry requests and certificates, and the decision when a node renews.

pub mod access;
mod admission;
mod authorise;
mod authority;
mod bootstrap;
mod caller;
mod certificate;
mod connection;
mod connector;
pub mod enrolment;
mod expiry;
mod external;
pub mod failures;
mod handshake_limiter;
pub mod hardening;
mod identity;
mod introduction;
mod key;
mod lease;
mod listener;
mod peer;
mod refusals;
mod root;
pub mod seal;
mod signer;
mod store;
mod subject;
pub(crate) mod tls;
mod tokens;
mod unlock_key;

#[cfg(test)]
mod loopback;
#[cfg(test)]
pub(crate) mod testing;

pub use admission::Limits;
pub use authorise::{AccessError, Allowed, Gate, Membership};
pub use authority::{Authority, AuthorityError, Issued, NODE_EXPIRY_DEFAULT, NODE_EXPIRY_MIN, RequestedKey};
pub use bootstrap::{BootstrapError, fetch_root};
pub use caller::{Caller, OneCallLayer};
pub use certificate::CertificateError;
pub use connection::{Connection, Members};
pub use connector::Connector;
pub use external::{ExternalAuthority, ExternalClient, ExternalError};
pub use identity::{CertificateRequest, Identity, IdentityError};
pub use introduction::Introduction;
pub use key::{KeyError, PrivateKey};
pub use listener::{incoming, incoming_local};
pub use peer::Peer;
pub use refusals::Refusals;
pub use root::{RootCertificate, TrustedRoots};
pub use signer::{SignError, Signer};
pub use store::{CertificateStore, PendingJoin};
pub use subject::{Holder, Subject};
pub use tls::Credentials;
pub use tokens::{JoinToken, ParseTokenError, WrongRoot, digest_of};
pub use unlock_key::{KeyLock, ParseUnlockKeyError, UnlockKey};
