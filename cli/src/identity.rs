//! An operator's identity, which is a directory with a key, its certificate and the trusted root certificates; and the connection
//! to a manager with it.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use events::Timestamp;
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
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::failure::{Failure, Kind, innermost};

const KEY: &str = "operator.key";
const CERTIFICATE: &str = "operator.crt";
const ROOTS: &str = "roots.crt";
/// Files are written under this name and then renamed.
const KEY_NEW: &str = "operator.key.new";
const CERTIFICATE_NEW: &str = "operator.crt.new";
const ROOTS_NEW: &str = "roots.crt.new";
/// The server name in the certificates of managers.
const SERVER_NAME: &str = "swarm-manager";
/// The default port of managers.
const PORT: u16 = 4242;
/// Time limit for connecting, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The protocol inside TLS: HTTP/2, for gRPC.
const ALPN: &[u8] = b"h2";

/// The address in `https://HOST[:PORT]`.
///
/// # Errors
/// When the URL has another form.
pub fn address(url: &str) -> Result<String, crate::values::Invalid> {
    let invalid = || {
        let sentence = format!("\"{url}\" is not the address of a manager");
        let hint = match url.starts_with("unix:") {
            true => "the socket of a manager on this machine is given by --socket PATH",
            false => "write https://HOST or https://HOST:PORT, such as https://10.0.0.1:4242",
        };
        crate::values::Invalid::new(sentence, hint)
    };
    let authority = url.strip_prefix("https://").map(|rest| rest.trim_end_matches('/')).ok_or_else(invalid)?;
    let uri: Uri = format!("http://{authority}").parse().map_err(|_| invalid())?;
    let whole = uri.authority().filter(|parsed| parsed.as_str() == authority && !authority.contains('@'));
    let host = whole.map(|authority| authority.host()).filter(|host| !host.is_empty()).ok_or_else(invalid)?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(PORT)))
}

/// A key without a certificate yet.
pub struct NewKey(KeyPair);

impl NewKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system provides no randomness.
    pub fn generate() -> Result<Self, Failure> {
        KeyPair::generate()
            .map(Self)
            .map_err(|error| Failure::new(Kind::Other, format!("cannot create a key: {error}")))
    }

    /// The certificate signing request. It contains no name: the cluster decides whose certificate it is.
    ///
    /// # Errors
    /// When signing fails.
    pub fn request_pem(&self) -> Result<String, Failure> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.0).and_then(|request| request.pem());
        request.map_err(|error| Failure::new(Kind::Other, format!("cannot sign with the key: {error}")))
    }

    /// Stores the key and its certificate in a directory and replaces existing ones. The new certificate is written under another
    /// name before the key is: if this is interrupted at any point, one of the two certificates fits the key.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn keep(&self, directory: &Path, certificate: &OperatorCertificate) -> Result<(), Failure> {
        let key = Zeroizing::new(self.0.serialize_pem());
        let place = |from: &str, to: &str| {
            let path = directory.join(to);
            let renamed = std::fs::rename(directory.join(from), &path);
            let synced = renamed.and_then(|()| std::fs::File::open(directory)?.sync_all());
            synced.map_err(|error| unusable(&path, &error))
        };
        write(&directory.join(ROOTS_NEW), &certificate.roots_pem)?;
        place(ROOTS_NEW, ROOTS)?;
        write(&directory.join(CERTIFICATE_NEW), &certificate.cert_pem)?;
        write(&directory.join(KEY_NEW), &key)?;
        place(KEY_NEW, KEY)?;
        place(CERTIFICATE_NEW, CERTIFICATE)
    }
}

/// Writes a file that only its owner can access, durably.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        // The remains of an earlier attempt are removed first: the mode only applies when a file is created.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| unusable(path, &error))
}

/// The directory of a new identity, and its key.
pub struct NewIdentity {
    directory: PathBuf,
    key: NewKey,
}

impl NewIdentity {
    /// A new key. The directory is created at once, with access for its owner only, so that no operator is created whose key
    /// cannot be stored.
    ///
    /// # Errors
    /// When the directory exists already or cannot be created.
    pub fn begin(directory: &Path) -> Result<Self, Failure> {
        DirBuilder::new().mode(0o700).create(directory).map_err(|error| {
            let kind = if error.kind() == io::ErrorKind::AlreadyExists { Kind::Exists } else { Kind::Other };
            Failure::new(kind, format!("cannot create the directory {}: {error}", directory.display()))
                .hint("name a directory that does not exist yet with --directory")
        })?;
        Ok(Self { directory: directory.to_owned(), key: NewKey::generate()? })
    }

    /// The certificate signing request.
    ///
    /// # Errors
    /// When signing fails.
    pub fn request_pem(&self) -> Result<String, Failure> {
        self.key.request_pem()
    }

    /// Stores the identity.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn keep(&self, certificate: &OperatorCertificate) -> Result<(), Failure> {
        self.key.keep(&self.directory, certificate)
    }

    /// Removes the directory of an identity that was not issued.
    pub fn give_up(self) {
        // An empty directory does no harm, and the error that led here is reported instead.
        let _ = std::fs::remove_dir(&self.directory);
    }
}

/// When the certificate of an identity expires, if it can be read.
pub fn ends_at(directory: &Path) -> Option<Timestamp> {
    let certificate = CertificateDer::from_pem_file(directory.join(CERTIFICATE)).ok()?;
    let (_, certificate) = X509Certificate::from_der(&certificate).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    Some(Timestamp::from_unix_ns(seconds.checked_mul(1_000_000_000)?))
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(Kind::Forbidden, format!("{} cannot be used: {why}", path.display()))
        .hint("give the directory of an identity with --identity; `swarmctl operator create` creates one")
}

/// The TLS configuration with the identity in a directory.
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
    let config = |name: &str| {
        let with = builder.clone().with_client_auth_cert(certificates(name)?, key.clone_key());
        with.map_err(|error| unusable(&directory.join(name), &error))
    };
    // An interrupted renewal has left the matching certificate under its temporary name.
    let mut config = config(CERTIFICATE).or_else(|failure| config(CERTIFICATE_NEW).map_err(|_| failure))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// Connects to the manager at an address with the identity in a directory.
///
/// # Errors
/// When the identity cannot be used, or the manager is unreachable or not a member of the cluster.
pub async fn connect(addr: &str, directory: &Path, timeouts: Timeouts) -> Result<Channel, Failure> {
    let connector = TlsConnector::from(Arc::new(client_config(directory)?));
    let address = addr.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (address, connector) = (address.clone(), connector.clone());
        async move { handshake(&address, connector).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://manager.invalid")
        .http2_keep_alive_interval(timeouts.probe)
        .keep_alive_timeout(timeouts.silence);
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        let why =
            std::error::Error::source(&error).map_or_else(|| error.to_string(), |cause| innermost(cause).to_string());
        Failure::new(Kind::Unreachable, format!("the manager at {addr} cannot be reached: {why}"))
            .hint(
                "check --host, and that the identity in --identity is of this cluster and has not ended; an admin replaces one that has \
                 with `swarmctl operator revoke` and `swarmctl operator create`",
            )
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
        for url in [
            "",
            "m1",
            "unix:///var/run/swarmd.sock",
            "http://m1",
            "https://",
            "https://m1/path",
            "https://a@m1",
            "https://m 1",
        ] {
            assert!(address(url).is_err(), "{url}");
        }
    }

    /// A certificate for a key that expires at this time, as a cluster would issue it.
    fn certificate(key: &NewKey, not_after: rcgen::CertificateParams) -> OperatorCertificate {
        let cert_pem = not_after.self_signed(&key.0).expect("signed").pem();
        OperatorCertificate { roots_pem: cert_pem.clone(), cert_pem, ..OperatorCertificate::default() }
    }

    #[test]
    fn a_renewal_that_is_cut_short_leaves_an_identity_that_works() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let (old, new) = (NewKey::generate().expect("a key"), NewKey::generate().expect("a key"));
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2031, 1, 1);
        old.keep(path, &certificate(&old, params.clone())).expect("kept");
        assert_eq!(ends_at(path).map(|at| at.to_string()).as_deref(), Some("2031-01-01T00:00:00.000000000Z"));
        client_config(path).expect("usable");
        // As if the process had been interrupted before the last step.
        let before = std::fs::read(path.join(CERTIFICATE)).expect("a file");
        params.not_after = rcgen::date_time_ymd(2032, 1, 1);
        new.keep(path, &certificate(&new, params)).expect("kept");
        std::fs::rename(path.join(CERTIFICATE), path.join(CERTIFICATE_NEW)).expect("renamed");
        std::fs::write(path.join(CERTIFICATE), before).expect("written");
        client_config(path).expect("usable");
        std::fs::remove_file(path.join(CERTIFICATE_NEW)).expect("removed");
        assert_eq!(client_config(path).map(drop).map_err(|failure| failure.kind), Err(Kind::Forbidden));
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
