//! TLS between nodes: version 1.3 only, one cryptography provider, certificates that can be replaced while connections are
//! open.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use events::Role;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::sync::{Notify, watch};

use super::{Identity, Introduction, RootCertificate};

/// The only supported version.
pub(super) const VERSIONS: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

/// The application protocol: HTTP/2, for gRPC.
const ALPN: &[u8] = b"h2";

/// The current identity of this node, with the TLS settings derived from it.
///
/// Each new connection uses the current settings; [`replace`](Self::replace) therefore takes effect with the next handshake and
/// does not affect open connections.
pub struct Credentials {
    current: ArcSwap<Current>,
    role: watch::Sender<Role>,
    /// Notified when a manager reports that this node should trust other roots.
    outdated: Notify,
}

struct Current {
    identity: Identity,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Credentials {
    /// Credentials with `identity`.
    pub fn new(identity: Identity) -> Result<Self, rustls::Error> {
        let role = watch::Sender::new(identity.subject().role);
        Ok(Self { current: ArcSwap::from_pointee(Current::new(identity)?), role, outdated: Notify::new() })
    }

    /// Uses `identity` from the next handshake on. After an error the old one is kept.
    pub fn replace(&self, identity: Identity) -> Result<(), rustls::Error> {
        let role = identity.subject().role;
        self.current.store(Arc::new(Current::new(identity)?));
        self.role.send_replace(role);
        Ok(())
    }

    /// Watches the role in the certificate.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    /// The current identity.
    pub fn identity(&self) -> Identity {
        self.current.load().identity.clone()
    }

    /// The hash of the roots that this node trusts, as reported to managers: 0 if the newest did not sign its certificate.
    pub fn trust(&self) -> u64 {
        self.current.load().identity.trust()
    }

    /// Compares it with the hash of the roots that a manager trusts: if they differ, the certificate must be renewed.
    pub fn compare_trust(&self, announced: u64) {
        if announced != self.trust() {
            self.outdated.notify_one();
        }
    }

    /// Completes when the certificate must be renewed before it is due.
    pub async fn outdated(&self) {
        self.outdated.notified().await;
    }

    /// Settings for accepting the next connection: a client's certificate must be valid, but is optional.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().server)
    }

    /// Settings for opening the next connection as this node.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.load().client)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&self.current.load().identity).finish()
    }
}

impl Current {
    fn new(identity: Identity) -> Result<Self, rustls::Error> {
        Ok(Self { server: server_config(&identity)?, client: member_config(&identity)?, identity })
    }
}

fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, rustls::Error> {
    // Clients without a certificate are accepted: they fetch the root certificate or join with a token. Each call is judged
    // later.
    let clients = WebPkiClientVerifier::builder_with_provider(roots(identity.roots().iter())?, provider())
        .allow_unauthenticated();
    let clients = clients.build().map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&VERSIONS)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would restore the certificate of the first handshake, which may have been replaced or have expired.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn member_config(identity: &Identity) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&VERSIONS)?;
    let builder = builder.with_root_certificates(roots(identity.roots().iter())?);
    let config = finish(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified()))));
    Ok(introduced(&config, identity.introduction()))
}

/// Settings for calling an external authority, as this node or without a certificate: it speaks HTTP/1.1, and authenticates
/// with a certificate of the root that it signs for.
pub(super) fn external_config(
    root: &RootCertificate,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&VERSIONS)?;
    let builder = builder.with_root_certificates(roots([root])?);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified()))),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Settings of a machine that trusts `root` and has no certificate yet.
pub(super) fn joiner_config(root: &RootCertificate) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&VERSIONS)?;
    Ok(finish(builder.with_root_certificates(roots([root])?).with_no_client_auth()))
}

/// Settings common to all our clients.
pub(super) fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The same settings, with an introduction of the client.
pub(super) fn introduced(config: &ClientConfig, introduction: Introduction) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![ALPN.to_vec(), introduction.protocol()];
    Arc::new(config)
}

/// The cryptography provider of the whole process, passed where it is used instead of set globally.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Roots as rustls expects them.
pub(super) fn roots<'a>(
    trusted: impl IntoIterator<Item = &'a RootCertificate>,
) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    trusted.into_iter().try_for_each(|root| roots.add(root.der().clone()))?;
    Ok(Arc::new(roots))
}
