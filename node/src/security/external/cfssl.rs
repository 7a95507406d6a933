//! The cfssl protocol: one signing request, as JSON over HTTPS, and its response.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::{Identity, RootCertificate, tls};

/// Maximum bytes of a response, as in SwarmKit.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// The default port.
const PORT: u16 = 443;
/// The server's profile for signing another root, as in SwarmKit.
const AUTHORITY_PROFILE: &str = "CA";

/// The request to a server.
#[derive(Serialize)]
pub(super) struct SignRequest<'a> {
    hosts: Vec<String>,
    certificate_request: &'a str,
    subject: Names,
    profile: &'static str,
}

#[derive(Serialize)]
struct Names {
    #[serde(rename = "CN")]
    common_name: String,
    names: Vec<UnitName>,
}

#[derive(Serialize)]
struct UnitName {
    #[serde(rename = "OU")]
    unit: String,
    #[serde(rename = "O")]
    organization: String,
}

/// Its response.
#[derive(Deserialize)]
struct SignReply {
    success: bool,
    result: Option<SignResult>,
    #[serde(default)]
    errors: Vec<SignFault>,
}

#[derive(Deserialize)]
struct SignResult {
    certificate: String,
}

#[derive(Deserialize)]
struct SignFault {
    code: i64,
    message: String,
}

impl<'a> SignRequest<'a> {
    /// A request for a holder with these names: common name, organisational unit and cluster.
    pub(super) fn for_holder(csr_pem: &'a str, [name, unit, cluster]: [String; 3], hosts: Vec<String>) -> Self {
        let subject = Names { common_name: name, names: vec![UnitName { unit, organization: cluster }] };
        Self { hosts, certificate_request: csr_pem, subject, profile: "" }
    }

    /// A request to sign another root.
    pub(super) fn for_authority(csr_pem: &'a str, name: &str) -> Self {
        let subject = Names { common_name: name.to_owned(), names: Vec::new() };
        Self { hosts: Vec::new(), certificate_request: csr_pem, subject, profile: AUTHORITY_PROFILE }
    }
}

/// Sends the request to the server at `url`, which must have a certificate of `root`. Returns the signed certificate in PEM.
pub(super) async fn sign(
    url: &str,
    root: &RootCertificate,
    identity: Option<&Identity>,
    request: &SignRequest<'_>,
) -> Result<String, String> {
    let config = tls::external_config(root, identity).map_err(|error| error.to_string())?;
    let body = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    read(&post(url, config, body.into()).await?)
}

fn read(answer: &[u8]) -> Result<String, String> {
    let reply: SignReply =
        serde_json::from_slice(answer).map_err(|error| format!("its answer is not that of a cfssl server: {error}"))?;
    match (reply.success, reply.result) {
        (true, Some(result)) => Ok(result.certificate),
        (true | false, _) => Err(reply.errors.first().map_or_else(
            || "it gives no reason".to_owned(),
            |fault| format!("{} (code {})", fault.message, fault.code),
        )),
    }
}

/// Sends a request over HTTPS, and reads the response. Dropping the future cancels it.
async fn post(url: &str, config: Arc<ClientConfig>, body: Bytes) -> Result<Bytes, String> {
    let uri: Uri = url.parse().map_err(|_| "this is not an address".to_owned())?;
    let host = uri.host().ok_or("the address names no host")?.trim_matches(['[', ']']).to_owned();
    let unreached = |error: std::io::Error| format!("it cannot be reached: {error}");
    let tcp = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(PORT))).await.map_err(unreached)?;
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(unreached)?;
    let broken = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(broken)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::post(path).header(HOST, authority).header(CONTENT_TYPE, "application/json");
    let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?.to_bytes();
        // cfssl describes the error in the body.
        if status.is_success() || !body.is_empty() { Ok(body) } else { Err(format!("it answered {status}")) }
    };
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // Data that was read before the connection closed is still available.
        _ = connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_certificate_or_a_reason() {
        let table: [(&str, Result<&str, &str>); 6] = [
            (r#"{"success":true,"result":{"certificate":"PEM"},"errors":[],"messages":[]}"#, Ok("PEM")),
            (r#"{"success":false,"result":null,"errors":[{"code":5100,"message":"no"}]}"#, Err("no (code 5100)")),
            (r#"{"success":false,"result":{"certificate":"PEM"},"errors":[]}"#, Err("it gives no reason")),
            (r#"{"success":true}"#, Err("it gives no reason")),
            (r#"{"success":true,"result":{}}"#, Err("its answer is not that of a cfssl server")),
            ("<html>", Err("its answer is not that of a cfssl server")),
        ];
        for (answer, expected) in table {
            let found = read(answer.as_bytes());
            match expected {
                Ok(pem) => assert_eq!(found.as_deref(), Ok(pem), "{answer}"),
                Err(why) => assert!(found.as_ref().is_err_and(|found| found.starts_with(why)), "{answer}: {found:?}"),
            }
        }
    }
}
