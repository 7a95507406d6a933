//! The one moment at which a machine talks to a cluster that it does not trust yet: to get the root certificate.
//!
//! Nobody vouches for the server then, and anybody may answer. So the connection that accepts any certificate exists only
//! inside [`fetch_root`], carries one public document, and what comes back is worth nothing until its digest is the one in
//! the join token.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{CertificateError, Connector, JoinToken, RootCertificate, WrongRoot, tls};

/// Why there is no root certificate to trust.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError<E: std::error::Error + 'static> {
    /// The download did not work; it may be tried again.
    #[error(transparent)]
    Download(E),
    /// What came is no root certificate.
    #[error("what the manager sent as root certificate is not usable: {0}")]
    Certificate(#[source] CertificateError),
    /// It is a root certificate, but not the one that the token was made for. Trying again does not help.
    #[error(transparent)]
    WrongRoot(WrongRoot),
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up: {0}")]
    Tls(rustls::Error),
}

/// The root certificate of the cluster that `token` was made for.
///
/// `download` asks a manager for it over the given connector and gives back the PEM text; it must send nothing secret over
/// it, in particular not the token. The connector shows a digest of the token, from which nobody gets it back.
pub async fn fetch_root<E, F>(
    token: &JoinToken,
    download: impl FnOnce(Connector) -> F,
) -> Result<RootCertificate, BootstrapError<E>>
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<String, E>>,
{
    let config = trusting_anybody().map_err(BootstrapError::Tls)?;
    let text = download(Connector::stranger(config).introduced_by(token)).await.map_err(BootstrapError::Download)?;
    let root = RootCertificate::from_pem(&text).map_err(BootstrapError::Certificate)?;
    token.verify_root(&root).map_err(BootstrapError::WrongRoot)?;
    Ok(root)
}

fn trusting_anybody() -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(tls::provider()).with_protocol_versions(&tls::VERSIONS)?;
    let anybody = Arc::new(AnyServerForRootDownload(tls::provider()));
    Ok(tls::finish(builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()))
}

/// Accepts the certificate of whoever answers. The handshake's own signature is still checked, so that the connection is
/// at least with the one holder of that certificate's key from beginning to end.
#[derive(Debug)]
struct AnyServerForRootDownload(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServerForRootDownload {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
