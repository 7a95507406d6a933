//! Delivery of events as HTTP requests to an external server, which may be slow, broken or hostile: every response is bounded in
//! time and size, and only its status counts.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::security::tls;

/// Timeout from the connection to the status of the response.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of the response's head. The body is not read.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The content type of a batch of events, as specified by CloudEvents.
const BATCH_TYPE: &str = "application/cloudevents-batch+json";
/// The header that lets a receiver verify the sender of a request.
const SIGNATURE: &str = "swarmlog-signature";
/// Where systems store the authorities that they trust.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Posts events to an address, as one request over a separate connection.
///
/// # Errors
/// When they were not delivered, with the reason. The request may have arrived anyway.
pub async fn post(address: &str, roots: Option<&Path>, key: Option<&[u8]>, batch: &[String]) -> Result<(), String> {
    let body = format!("[{}]", batch.join(","));
    match tokio::time::timeout(TIMEOUT, exchange(address, roots, key, body)).await {
        Ok(Ok(status)) if status.is_success() => Ok(()),
        Ok(Ok(status)) => Err(format!("the answer is {status}")),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

async fn exchange(address: &str, roots: Option<&Path>, key: Option<&[u8]>, body: String) -> Result<StatusCode, String> {
    let uri: Uri = address.parse().map_err(|_| "the address is not valid".to_owned())?;
    let host = uri.host().unwrap_or_default();
    let is_secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let plain_host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((plain_host, port)).await.map_err(|error| format!("cannot connect: {error}"))?;
    let request = request(&uri, key, body)?;
    if !is_secure {
        return answer(stream, request).await;
    }
    let name = ServerName::try_from(plain_host.to_owned()).map_err(|_| "the host is not a valid name".to_owned())?;
    let stream = connector(roots)?.connect(name, stream).await.map_err(|error| format!("cannot connect: {error}"))?;
    answer(stream, request).await
}

fn request(uri: &Uri, key: Option<&[u8]>, body: String) -> Result<Request<Full<Bytes>>, String> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::post(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("swarmd/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, BATCH_TYPE)
        .header(CONTENT_LENGTH, body.len());
    if let Some(key) = key {
        request = request.header(SIGNATURE, signature(key, body.as_bytes()));
    }
    request.body(Full::new(Bytes::from(body))).map_err(|error| format!("the request cannot be made: {error}"))
}

/// The HMAC of a request's body.
fn signature(key: &[u8], body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), body);
    tag.as_ref().iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The status of the response; the connection is closed afterwards.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, String> {
    let broken = |error: hyper::Error| format!("the connection broke off: {error}");
    let connection = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connection.map_err(broken)?;
    let mut answer = pin!(sender.send_request(request));
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The connection may end with the response or without one; awaiting the response tells which.
        _ = connection => answer.await,
    };
    Ok(answer.map_err(broken)?.status())
}

/// A connector that trusts the system's authorities, or those in a file.
fn connector(roots: Option<&Path>) -> Result<TlsConnector, String> {
    let system = || SYSTEM_ROOTS.into_iter().map(PathBuf::from).find(|path| path.exists());
    let file = roots.map(Path::to_owned).or_else(system);
    let file = file.ok_or("this manager's machine has no file of trusted authorities: name one with --sink-ca")?;
    let unreadable = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", file.display());
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&file).map_err(|error| unreadable(&error))? {
        // An unsupported certificate is skipped: nothing is verified with it.
        let _ = store.add(certificate.map_err(|error| unreadable(&error))?);
    }
    if store.is_empty() {
        return Err(format!("{} has no certificate of an authority", file.display()));
    }
    let builder = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS is not possible: {error}"))?;
    Ok(TlsConnector::from(Arc::new(builder.with_root_certificates(store).with_no_client_auth())))
}

#[cfg(test)]
mod tests;
