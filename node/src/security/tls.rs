//! TLS between nodes: version 1.3 only, one cryptography provider, certificates that can change while connections live.

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

/// The only version that is spoken.
pub(super) const VERSIONS: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

/// The application protocol inside: HTTP/2, for gRPC.
const ALPN: &[u8] = b"h2";

/// The identity that this node shows now, with the TLS settings that follow from it.
///
/// Whoever opens or accepts a connection takes the settings of that moment; [`replace`](Self::replace) therefore takes
/// effect with the next handshake and leaves living connections alone.
pub struct Credentials {
    current: ArcSwap<Current>,
    role: watch::Sender<Role>,
    /// Rings when a manager says that this node should trust other roots.
    outdated: Notify,
}

struct Current {
    identity: Identity,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Credentials {
    /// Credentials that show `identity`.
    pub fn new(identity: Identity) -> Result<Self, rustls::Error> {
        let role = watch::Sender::new(identity.subject().role);
        Ok(Self { current: ArcSwap::from_pointee(Current::new(identity)?), role, outdated: Notify::new() })
    }

    /// Shows `identity` from the next handshake on. After an error the old one stays.
    pub fn replace(&self, identity: Identity) -> Result<(), rustls::Error> {
        let role = identity.subject().role;
        self.current.store(Arc::new(Current::new(identity)?));
        self.role.send_replace(role);
        Ok(())
    }

    /// The role in the certificate, and each other one after it.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    /// The identity that is shown now.
    pub fn identity(&self) -> Identity {
        self.current.load().identity.clone()
    }

    /// The mark of the roots that this node trusts, as managers are told it: 0 where the newest did not sign its certificate.
    pub fn trust(&self) -> u64 {
        self.current.load().identity.trust()
    }

    /// Takes the mark of the roots that a manager trusts: with another one, the certificate has to be renewed.
    pub fn compare_trust(&self, announced: u64) {
        if announced != self.trust() {
            self.outdated.notify_one();
        }
    }

    /// Done once the certificate has to be renewed although its time has not come.
    pub async fn outdated(&self) {
        self.outdated.notified().await;
    }

    /// Settings for accepting the next connection: a client's certificate must be good, but it may show none.
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
    // Anonymous callers may come in: they ask for the root certificate or show a join token. Each call is judged later.
    let clients = WebPkiClientVerifier::builder_with_provider(roots(identity.roots().iter())?, provider())
        .allow_unauthenticated();
    let clients = clients.build().map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&VERSIONS)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would bring back the certificate of the first handshake, though it may be replaced or expired.
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

/// Settings for calling an authority outside the cluster, as this node, or as one that has no certificate: it speaks HTTP/1.1, and
/// proves itself by a certificate of the root that it signs for.
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

/// What all our clients have in common.
pub(super) fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The same settings of a client that introduces itself.
pub(super) fn introduced(config: &ClientConfig, introduction: Introduction) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![ALPN.to_vec(), introduction.protocol()];
    Arc::new(config)
}

/// The cryptography of the whole process, named where it is used instead of set globally.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Roots as rustls takes them.
pub(super) fn roots<'a>(
    trusted: impl IntoIterator<Item = &'a RootCertificate>,
) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    trusted.into_iter().try_for_each(|root| roots.add(root.der().clone()))?;
    Ok(Arc::new(roots))
}
