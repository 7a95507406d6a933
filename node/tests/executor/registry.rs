//! Tags at a registry of our own, asked through a real engine.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use node::agent::executor::RegistryAuth;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::bench::Bench;
use crate::cases::fatal;

/// A registry of one image, which answers nobody without these credentials.
struct Registry {
    port: u16,
    tag: Arc<Mutex<String>>,
    _serving: JoinSet<()>,
}

/// The media type of a manifest.
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

impl Registry {
    async fn serve(credentials: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (tag, wanted) = (Arc::new(Mutex::new(String::from("one"))), STANDARD.encode(credentials));
        let mut serving = JoinSet::new();
        let now = Arc::clone(&tag);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(answer(socket, wanted.clone(), Arc::clone(&now)));
            }
        });
        Self { port, tag, _serving: serving }
    }

    fn push(&self, content: &str) {
        content.clone_into(&mut self.tag.lock().expect("no panic"));
    }
}

fn digest(bytes: &str) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn config(content: &str) -> String {
    format!(
        r#"{{"architecture":"amd64","os":"linux","author":"{content}","rootfs":{{"type":"layers","diff_ids":[]}}}}"#
    )
}

fn manifest(content: &str) -> String {
    let config = config(content);
    let (length, digest) = (config.len(), digest(&config));
    let part = format!(
        r#"{{"mediaType":"application/vnd.docker.container.image.v1+json","size":{length},"digest":"{digest}"}}"#
    );
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{part},"layers":[]}}"#)
}

/// One request a connection. A client that speaks TLS first sends no lines of text, and its connection is just closed.
async fn answer(socket: TcpStream, wanted: String, tag: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(socket).lines();
    let (mut path, mut head_only, mut is_known) = (String::new(), false, false);
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((method, rest)) = line.split_once(" /v2/") {
            head_only = method == "HEAD";
            path = rest.split(' ').next().unwrap_or_default().to_owned();
        }
        is_known |= line.to_lowercase().starts_with("authorization: basic") && line.ends_with(&wanted);
        if line.is_empty() {
            break;
        }
    }
    let content = tag.lock().expect("no panic").clone();
    let (manifest, config) = (manifest(&content), config(&content));
    let by_digest = [format!("web/manifests/{}", digest(&manifest)), format!("web/blobs/{}", digest(&config))];
    let (status, kind, body) = match path.as_str() {
        _ if !is_known => ("401 Unauthorized", "text/plain", String::new()),
        "" => ("200 OK", "text/plain", String::new()),
        "web/manifests/v1" => ("200 OK", MANIFEST, manifest.clone()),
        path if path == by_digest[0] => ("200 OK", MANIFEST, manifest.clone()),
        path if path == by_digest[1] => ("200 OK", "application/octet-stream", config),
        _ => ("404 Not Found", "text/plain", String::new()),
    };
    let digest =
        if kind == MANIFEST { format!("Docker-Content-Digest: {}\r\n", digest(&manifest)) } else { String::new() };
    let head = format!(
        "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\nWWW-Authenticate: Basic realm=\"r\"\r\n\
         Content-Type: {kind}\r\n{digest}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let body = if head_only { "" } else { &body };
    // The engine may have hung up.
    let _ = lines.get_mut().write_all(format!("{head}{body}").as_bytes()).await;
}

#[tokio::test]
#[ignore = "needs a Docker Engine"]
async fn a_tag_is_resolved_at_its_registry_with_the_credentials() {
    let bench = Bench::docker().await;
    bench
        .run(async {
            let registry = Registry::serve("me:secret").await;
            let image = format!("localhost:{}/web:v1", registry.port);
            let header = |password: &str| {
                let address = format!("localhost:{}", registry.port);
                RegistryAuth(
                    URL_SAFE
                        .encode(format!(r#"{{"username":"me","password":"{password}","serveraddress":"{address}"}}"#)),
                )
            };
            for content in ["one", "two"] {
                registry.push(content);
                let found = bench.executor.image(&image, Some(&header("secret"))).await.expect("an answer");
                let found = found.expect("an image");
                assert_eq!(found.digest, digest(&manifest(content)), "{content}");
            }
            for wrong in [None, Some(header("other"))] {
                let words = fatal(bench.executor.image(&image, wrong.as_ref()).await);
                assert!(
                    words.contains("unauthorized") || words.contains("401") || words.contains("no basic auth"),
                    "{words}"
                );
            }
        })
        .await;
}
