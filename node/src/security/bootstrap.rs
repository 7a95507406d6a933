//! The only communication with a cluster that is not trusted yet: downloading the root certificate.
//!
//! At this point the server is unauthenticated, and anyone may answer. So the connection that accepts any certificate exists
//! only inside [`fetch_root`], transfers one public document, and the result is rejected unless its digest is the one in the
//! join token.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{CertificateError, Connector, JoinToken, RootCertificate, WrongRoot, tls};

/// Why the root certificate could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError<E: std::error::Error + 'static> {
    /// The download failed; it may be retried.
    #[error(transparent)]
    Download(E),
    /// The response is not a root certificate.
    #[error("what the manager sent as root certificate is not usable: {0}")]
    Certificate(#[source] CertificateError),
    /// The certificate is not the one that the token was created for. A retry does not help.
    #[error(transparent)]
    WrongRoot(WrongRoot),
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up: {0}")]
    Tls(rustls::Error),
}

/// The root certificate of the cluster that `token` was created for.
///
/// `download` requests it from a manager over the given connector and returns the PEM text; it must send nothing secret, in
/// particular not the token. The connector presents a digest of the token, from which the token cannot be recovered.
pub async fn fetch_root<E, F>(
    token: &JoinToken,
    download: impl FnOnce(Connector) -> F,
) -> Result<RootCertificate, BootstrapError<E>>
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<String, E>>,
{
    let config = accept_any_server_config().map_err(BootstrapError::Tls)?;
    let text = download(Connector::stranger(config).introduced_by(token)).await.map_err(BootstrapError::Download)?;
    let root = RootCertificate::from_pem(&text).map_err(BootstrapError::Certificate)?;
    token.verify_root(&root).map_err(BootstrapError::WrongRoot)?;
    Ok(root)
}

fn accept_any_server_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(tls::provider()).with_protocol_versions(&tls::VERSIONS)?;
    let anybody = Arc::new(AnyServerForRootDownload(tls::provider()));
    Ok(tls::finish(builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()))
}

/// Accepts the certificate of any server. The handshake's signature is still verified, so the whole connection is at least with
/// the holder of that certificate's key.
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
