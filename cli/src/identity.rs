//! An operator's identity: a directory with a key, its certificate, and the roots that managers are known by; and the way to a
//! manager with it.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use wire::Timeouts;
use wire::v1::OperatorCertificate;
use zeroize::Zeroizing;

use crate::failure::{Failure, Kind, innermost};

const KEY: &str = "operator.key";
const CERTIFICATE: &str = "operator.crt";
const ROOTS: &str = "roots.crt";
/// The name in the certificates of managers.
const SERVER_NAME: &str = "swarm-manager";
/// The port at which managers are reached where none is given.
const PORT: u16 = 4242;
/// How long TCP and TLS together may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What is spoken inside: HTTP/2, for gRPC.
const ALPN: &[u8] = b"h2";

/// The address in `https://HOST[:PORT]`.
///
/// # Errors
/// When it is something else.
pub fn address(url: &str) -> Result<String, crate::values::Invalid> {
    let invalid = || {
        let sentence = format!("\"{url}\" is not the address of a manager");
        crate::values::Invalid::new(sentence, "write https://HOST or https://HOST:PORT, such as https://10.0.0.1:4242")
    };
    let authority = url.strip_prefix("https://").map(|rest| rest.trim_end_matches('/')).ok_or_else(invalid)?;
    let uri: Uri = format!("http://{authority}").parse().map_err(|_| invalid())?;
    let whole = uri.authority().filter(|parsed| parsed.as_str() == authority && !authority.contains('@'));
    let host = whole.map(|authority| authority.host()).filter(|host| !host.is_empty()).ok_or_else(invalid)?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(PORT)))
}

/// A key that is waiting for its certificate, and the directory that both will be in.
pub struct NewIdentity {
    directory: PathBuf,
    key: KeyPair,
}

impl NewIdentity {
    /// A new key. The directory is made at once, for its owner only, so that nobody is made an operator whose key cannot be kept.
    ///
    /// # Errors
    /// When the directory is there already or cannot be made.
    pub fn begin(directory: &Path) -> Result<Self, Failure> {
        DirBuilder::new().mode(0o700).create(directory).map_err(|error| {
            let kind = if error.kind() == io::ErrorKind::AlreadyExists { Kind::Exists } else { Kind::Other };
            Failure::new(kind, format!("cannot create the directory {}: {error}", directory.display()))
                .hint("name a directory that does not exist yet with --directory")
        })?;
        let key =
            KeyPair::generate().map_err(|error| Failure::new(Kind::Other, format!("no key can be made: {error}")))?;
        Ok(Self { directory: directory.to_owned(), key })
    }

    /// What the cluster is asked to certify. It names nobody: the cluster says whose the certificate is.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn request_pem(&self) -> Result<String, Failure> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.key).and_then(|request| request.pem());
        request.map_err(|error| Failure::new(Kind::Other, format!("the key does not sign: {error}")))
    }

    /// Keeps the identity.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn keep(&self, certificate: &OperatorCertificate) -> Result<(), Failure> {
        let key = Zeroizing::new(self.key.serialize_pem());
        let files = [
            (KEY, key.as_str()),
            (CERTIFICATE, certificate.cert_pem.as_str()),
            (ROOTS, certificate.roots_pem.as_str()),
        ];
        files.into_iter().try_for_each(|(name, text)| {
            let path = self.directory.join(name);
            let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let written = written.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
            written.map_err(|error| unusable(&path, &error))
        })
    }

    /// Leaves nothing behind of an identity that was not given.
    pub fn give_up(self) {
        // An empty directory that stays does no harm, and the failure that led here is what is reported.
        let _ = std::fs::remove_dir(&self.directory);
    }
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(Kind::Forbidden, format!("{} cannot be used: {why}", path.display()))
        .hint("give the directory of an identity with --identity; `swarmctl operator create` makes one")
}

/// Settings of TLS with the identity in a directory.
fn client_config(directory: &Path) -> Result<ClientConfig, Failure> {
    let certificates = |name: &str| {
        let path = directory.join(name);
        let read = CertificateDer::pem_file_iter(&path).and_then(|found| found.collect::<Result<Vec<_>, _>>());
        read.map_err(|error| unusable(&path, &error))
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(ROOTS)? {
        roots.add(root).map_err(|error| unusable(&directory.join(ROOTS), &error))?;
    }
    let path = directory.join(KEY);
    let key = PrivateKeyDer::from_pem_file(&path).map_err(|error| unusable(&path, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.map_err(|error| unusable(directory, &error))?.with_root_certificates(roots);
    let mut config = builder
        .with_client_auth_cert(certificates(CERTIFICATE)?, key)
        .map_err(|error| unusable(&directory.join(CERTIFICATE), &error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// Connects to the manager at an address with the identity in a directory.
///
/// # Errors
/// When the identity cannot be used, or the manager cannot be reached or is none of the cluster.
pub async fn connect(addr: &str, directory: &Path, patience: Timeouts) -> Result<Channel, Failure> {
    let connector = TlsConnector::from(Arc::new(client_config(directory)?));
    let address = addr.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (address, connector) = (address.clone(), connector.clone());
        async move { handshake(&address, connector).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://manager.invalid")
        .http2_keep_alive_interval(patience.probe)
        .keep_alive_timeout(patience.silence);
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        let why =
            std::error::Error::source(&error).map_or_else(|| error.to_string(), |cause| innermost(cause).to_string());
        Failure::new(Kind::Unreachable, format!("the manager at {addr} cannot be reached: {why}"))
            .hint("check --host, and that the identity in --identity is of this cluster and not too old")
    })
}

async fn handshake(address: &str, connector: TlsConnector) -> io::Result<TlsStream<TcpStream>> {
    let connected = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        connector.connect(name, tcp).await
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time");
    tokio::time::timeout(CONNECT_TIMEOUT, connected).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn addresses_are_urls() {
        for (url, expected) in [
            ("https://10.0.0.1:9", "10.0.0.1:9"),
            ("https://m1", "m1:4242"),
            ("https://m1/", "m1:4242"),
            ("https://[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(address(url).as_deref(), Ok(expected));
        }
        for url in ["", "m1", "http://m1", "https://", "https://m1/path", "https://a@m1", "https://m 1"] {
            assert!(address(url).is_err(), "{url}");
        }
    }

    #[test]
    fn an_identity_is_its_owners_alone_and_replaces_no_other() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = parent.path().join("ada");
        let identity = NewIdentity::begin(&directory).expect("it begins");
        assert!(identity.request_pem().expect("a request").contains("BEGIN CERTIFICATE REQUEST"));
        identity.keep(&OperatorCertificate::default()).expect("kept");
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        for file in [KEY, CERTIFICATE, ROOTS] {
            assert_eq!(mode(&directory.join(file)), 0o600, "{file}");
        }
        assert_eq!(NewIdentity::begin(&directory).map(drop).map_err(|failure| failure.kind), Err(Kind::Exists));
        let other = parent.path().join("bob");
        NewIdentity::begin(&other).expect("it begins").give_up();
        assert!(!other.exists());
    }
}
