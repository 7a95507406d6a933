//! An external certificate authority that has the root's key: a small server with cfssl's protocol, as managers use it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::cluster::{Cluster, MANAGER, path};
use super::process::{program, run};
use super::units::Executor;
use super::wrong_clock::Shift;

/// A validity slightly above the minimum that managers accept, in seconds.
const SHORT_SECONDS: i64 = 3_660;

/// The state that the server and the test share.
struct Authority {
    root_pem: String,
    issuer: Issuer<'static, KeyPair>,
    /// The certificates it signed: common name and organizational unit.
    signed: Mutex<Vec<(String, String)>>,
    refuses: AtomicBool,
    /// Whether it signs for clients without a certificate.
    is_open: AtomicBool,
    /// Whether certificates of nodes have a short validity.
    is_brief: AtomicBool,
}

/// A server that signs for managers of the clusters with these roots, as long as the test's process runs.
struct SigningServer {
    authority: Arc<Authority>,
    port: u16,
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2060, 1, 1));
    params
}

impl SigningServer {
    fn start(cluster_root_pem: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = named("External root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).expect("a root");
        let (root_pem, issuer) = (root.pem(), Issuer::new(params, key));
        let server_key = KeyPair::generate().expect("a key");
        let mut server = named("ca");
        server.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let chain = vec![server.signed_by(&server_key, &issuer).expect("signed").der().clone()];
        let mut clients = RootCertStore::empty();
        for pem in [cluster_root_pem, &root_pem] {
            clients.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("a root");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider));
        let key = PrivateKeyDer::try_from(server_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let clients = clients.allow_unauthenticated().build().expect("a verifier");
        let config = config.expect("a version").with_client_cert_verifier(clients);
        let config = Arc::new(config.with_single_cert(chain, key).expect("a pair"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (refuses, is_open) = (AtomicBool::new(false), AtomicBool::new(false));
        let authority = Arc::new(Authority {
            root_pem,
            issuer,
            signed: Mutex::default(),
            refuses,
            is_open,
            is_brief: AtomicBool::new(false),
        });
        let shared = Arc::clone(&authority);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, authority) = (Arc::clone(&config), Arc::clone(&shared));
                // Clients without a manager's certificate get no answer.
                std::thread::spawn(move || authority.answer(stream, config).is_ok());
            }
        });
        Self { authority, port }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}/api/v1/cfssl/sign", self.port)
    }

    fn signed(&self) -> Vec<(String, String)> {
        self.authority.signed.lock().expect("whole").clone()
    }
}

impl Authority {
    fn answer(&self, stream: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
        let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
        let mut reader = BufReader::new(StreamOwned::new(connection, stream));
        let (mut line, mut length) = (String::new(), 0);
        reader.read_line(&mut line)?;
        assert!(line.starts_with("POST /api/v1/cfssl/sign "), "{line}");
        let is_known = reader.get_ref().conn.peer_certificates().is_some();
        if !is_known && !self.is_open.load(Ordering::Relaxed) {
            return Ok(());
        }
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let answer = match self.refuses.load(Ordering::Relaxed) {
            true => {
                json!({"success": false, "result": null, "errors": [{"code": 5100, "message": "the policy forbids it"}]})
            }
            false => {
                json!({"success": true, "result": {"certificate": self.sign(&serde_json::from_slice(&body)?)}, "errors": []})
            }
        };
        let answer = answer.to_string();
        let stream = reader.get_mut();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        )?;
        stream.conn.send_close_notify();
        stream.flush()
    }

    /// Signs for the requested names, or with the profile "CA" a root.
    fn sign(&self, asked: &Value) -> String {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let (name, of) = (text(&asked["subject"]["CN"]), &asked["subject"]["names"][0]);
        let csr = CertificateSigningRequestParams::from_pem(asked["certificate_request"].as_str().expect("a request"));
        let mut params = named(&name);
        if asked["profile"] == "CA" {
            params.distinguished_name = DistinguishedName::new();
            let written = name.as_str().try_into().map(DnValue::PrintableString).expect("as Go writes it");
            params.distinguished_name.push(DnType::CommonName, written);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            self.signed.lock().expect("whole").push((name, "CA".to_owned()));
        } else {
            params.distinguished_name.push(DnType::OrganizationalUnitName, text(&of["OU"]));
            params.distinguished_name.push(DnType::OrganizationName, text(&of["O"]));
            let hosts = asked["hosts"].as_array().expect("names").iter();
            let hosts = hosts.map(|host| SanType::DnsName(text(host).try_into().expect("a name")));
            params.subject_alt_names = hosts.collect();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            if self.is_brief.load(Ordering::Relaxed) {
                params.not_after = (SystemTime::now() + Duration::from_secs(SHORT_SECONDS.unsigned_abs())).into();
            }
            self.signed.lock().expect("whole").push((name, text(&of["OU"])));
        }
        params.signed_by(&csr.expect("a request").public_key, &self.issuer).expect("signed").pem()
    }
}

/// Rotates the root, and waits until every node has moved.
fn rotate(cluster: &Cluster, flags: &[&str]) {
    let mut swarmctl = Command::new(program("swarmctl"));
    swarmctl.arg("--socket").arg(cluster.socket(MANAGER)).args(["cluster", "ca", "--rotate", "--timeout", "60s"]);
    let rotated = run(swarmctl.args(flags));
    assert_eq!(rotated.code, 0, "{rotated:?}\n{}\n{}", cluster.log(MANAGER), cluster.log("w1"));
}

fn until_ready(cluster: &Cluster, nodes: usize) {
    cluster.until("the nodes to be ready", || {
        cluster.list("node ls").iter().filter(|node| node["state"] == "ready").count() == nodes
    });
}

/// A cluster with a worker whose root was replaced by that of a server, which is set as its external CA.
fn moved_to(server: impl FnOnce(&str) -> SigningServer) -> (Cluster, SigningServer) {
    let cluster = Cluster::start(Executor::Process, &["w1"]);
    cluster.ok("cluster update --heartbeatperiod 1s");
    let server = server(&cluster.ok("cluster ca"));
    let root = cluster.path("external-root.pem");
    std::fs::write(&root, &server.authority.root_pem).expect("written");
    let root = path(&root);
    cluster.swarmctl(&format!("cluster ca --rotate --ca-cert {root} --detach")).refused(2, "signs for this root");
    cluster.ok(&format!("cluster update --external-ca protocol=cfssl,url={},cacert={root}", server.url()));
    assert_eq!(server.signed(), [], "it does not sign for the present root");
    rotate(&cluster, &["--ca-cert", &root]);
    let same = |one: &str, other: &str| one.split_whitespace().eq(other.split_whitespace());
    assert!(same(&cluster.ok("cluster ca"), &server.authority.root_pem));
    (cluster, server)
}

#[test]
fn a_root_whose_key_is_outside_takes_over_its_authority_signs_and_it_can_be_replaced() {
    let (mut cluster, server) = moved_to(SigningServer::start);
    let units = |unit: &str| server.signed().iter().filter(|(_, of)| of == unit).count();
    assert!(units("swarm-manager") >= 1 && units("swarm-worker") >= 1, "{:?}", server.signed());
    // Joining nodes get certificates from it as well, once it does not refuse.
    server.authority.refuses.store(true, Ordering::Relaxed);
    let (address, token) = (cluster.address().to_owned(), cluster.token("worker"));
    cluster.add("w2", &["--join-addr", &address, "--join-token", &token]);
    cluster.until("the refusal", || cluster.log("w2").contains("the policy forbids it"));
    cluster.swarmctl("cluster ca --rotate --detach").refused(7, "the policy forbids it");
    server.authority.refuses.store(false, Ordering::Relaxed);
    until_ready(&cluster, 3);
    let identity = path(&cluster.path("ada"));
    cluster.ok(&format!("operator create ada --directory {identity}"));
    assert_eq!(units("swarm-operator"), 1);
    let host = format!("https://{address}");
    let asked = ["--host", &host, "--identity", &identity, "node", "ls"];
    let asked = run(Command::new(program("swarmctl")).args(asked));
    assert_eq!(asked.code, 0, "{asked:?}");
    // The only server that can sign cannot be removed from the settings.
    cluster.swarmctl("cluster update --external-ca none").refused(4, "certificates could no longer be signed");
    // Every node restarts with the certificates from the server.
    for name in [MANAGER, "w1"] {
        cluster.end(name);
        cluster.resume(name);
    }
    cluster.await_manager();
    until_ready(&cluster, 3);
    // A manager that lost its certificate can only ask this server, which signs once it is allowed to.
    cluster.end(MANAGER);
    std::fs::remove_file(cluster.state_dir(MANAGER).join("certificates/swarm-node.crt")).expect("removed");
    server.authority.is_open.store(true, Ordering::Relaxed);
    let before = units("swarm-manager");
    cluster.resume(MANAGER);
    cluster.await_manager();
    until_ready(&cluster, 3);
    assert_eq!(units("swarm-manager"), before + 1);
    server.authority.is_open.store(false, Ordering::Relaxed);
    // A root of the cluster's own replaces it, and the server is no longer needed.
    rotate(&cluster, &[]);
    assert_eq!(units("CA"), 1);
    cluster.ok("cluster update --external-ca none");
    server.authority.refuses.store(true, Ordering::Relaxed);
    rotate(&cluster, &[]);
    until_ready(&cluster, 3);
}

#[test]
fn a_manager_whose_certificate_expired_while_it_was_away_asks_the_authority_without_one() {
    let shift = Shift::new();
    let (mut cluster, server) = moved_to(SigningServer::start);
    server.authority.is_open.store(true, Ordering::Relaxed);
    // The next certificate has a short validity.
    cluster.end(MANAGER);
    std::fs::remove_file(cluster.state_dir(MANAGER).join("certificates/swarm-node.crt")).expect("removed");
    server.authority.is_brief.store(true, Ordering::Relaxed);
    cluster.resume(MANAGER);
    cluster.await_manager();
    cluster.end(MANAGER);
    server.authority.is_brief.store(false, Ordering::Relaxed);
    let before = server.signed().len();
    shift.resume(&mut cluster, MANAGER, 2 * SHORT_SECONDS);
    cluster.await_manager();
    until_ready(&cluster, 2);
    let signed = server.signed().split_off(before);
    assert!(matches!(&signed[..], [(_, unit)] if unit == "swarm-manager"), "{signed:?}");
}
