//! Tests over real connections on this machine: a gRPC server behind our listeners, called through our connector.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use events::{ClusterId, Duration, Id, NodeId, OperatorRole, Role};
use http::Uri;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Status};
use tower::{Service, ServiceExt};

use super::testing::{DAY, KnownMembers, identity, subject, wall_clock};
use super::*;
use crate::metrics::{ConnectionClass, Connections};

/// How long the tests wait for something that must happen immediately.
const TIMEOUT: Duration = Duration::from_secs(5);

const REMOVED: u128 = 13;

fn authority() -> Authority {
    Authority::generate(wall_clock() - DAY * 365).expect("an authority")
}

fn credentials(authority: &Authority, subject: Subject) -> Arc<Credentials> {
    Arc::new(Credentials::new(identity(authority, subject, wall_clock())).expect("credentials"))
}

/// A member's connector for node 2.
fn worker(authority: &Authority) -> Connector {
    Connector::member(credentials(authority, subject(2, Role::Worker)))
}

/// Returns the caller's identity: depending on the path, to anyone, to nodes or to managers.
async fn answer(request: http::Request<Body>) -> Result<http::Response<Body>, std::convert::Infallible> {
    let (parts, _) = request.into_parts();
    let allowed = match parts.uri.path() {
        "/test/managers" => Allowed::Operators(OperatorRole::Viewer),
        "/test/nodes" => Allowed::Nodes,
        _ => Allowed::Anyone,
    };
    let caller = parts.extensions.get::<Caller>().expect("every connection says who calls");
    let membership = |node: NodeId| match node.bits() {
        REMOVED => Membership::Removed,
        _ => Membership::Member,
    };
    let gate = Gate::new(ClusterId::from_bits(7), membership, |_| None);
    let status =
        gate.judge(&caller.peer, allowed).map_or_else(Status::from, |peer| Status::new(Code::Ok, peer.to_string()));
    Ok(status.into_http())
}

/// Serves with these credentials until the test ends.
async fn serve(credentials: Arc<Credentials>) -> SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = tcp.local_addr().expect("an address");
    let connections =
        Box::pin(incoming(tcp, credentials, Limits::of_descriptors(1_024), KnownMembers::everybody(), Arc::default()));
    tokio::spawn(Server::builder().serve_with_incoming(tower::service_fn(answer), connections));
    address
}

async fn serve_manager(authority: &Authority) -> SocketAddr {
    serve(credentials(authority, subject(1, Role::Manager))).await
}

/// The server's status, or how the connection failed.
async fn call(connector: Connector, address: SocketAddr, path: &str) -> Result<Status, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let mut channel =
        tokio::time::timeout(TIMEOUT, endpoint.connect_with_connector(connector)).await.expect("in time")?;
    let request = http::Request::post(format!("/test/{path}")).body(Body::empty()).expect("a request");
    let response = tokio::time::timeout(TIMEOUT, channel.ready().await?.call(request)).await.expect("in time")?;
    Ok(Status::from_header_map(response.headers()).expect("a status"))
}

/// Asserts that an error or one of its causes contains `words`.
fn expect_says(error: impl std::error::Error + 'static, words: &str) {
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let whole = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    assert!(whole.contains(words), "{whole}");
}

#[tokio::test]
async fn callers_are_who_their_certificates_say() {
    let authority = authority();
    let address = serve_manager(&authority).await;
    let status = call(worker(&authority), address, "nodes").await.expect("a connection");
    assert!(status.message().starts_with("worker 0000000000000000000000002 at 127.0.0.1:"), "{status}");
    let refused = call(worker(&authority), address, "managers").await.expect("a connection");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let manager = Connector::member(credentials(&authority, subject(3, Role::Manager)));
    assert_eq!(call(manager, address, "managers").await.expect("a connection").code(), Code::Ok);
}

#[tokio::test]
async fn a_joiner_is_let_in_as_nobody() {
    let authority = authority();
    let address = serve_manager(&authority).await;
    let joiner = Connector::joiner(authority.root()).expect("a connector");
    let status = call(joiner.clone(), address, "anyone").await.expect("a connection");
    assert!(status.message().starts_with("a caller without certificate at 127.0.0.1:"), "{status}");
    assert_eq!(call(joiner, address, "nodes").await.expect("a connection").code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_connection_without_a_certificate_ends_after_one_call() {
    let authority = authority();
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = tcp.local_addr().expect("an address");
    let shown = credentials(&authority, subject(1, Role::Manager));
    let connections =
        Box::pin(incoming(tcp, shown, Limits::of_descriptors(1_024), KnownMembers::everybody(), Arc::default()));
    let server = Server::builder().layer(OneCallLayer);
    tokio::spawn(server.serve_with_incoming(tower::service_fn(answer), connections));

    let joiner = Connector::joiner(authority.root()).expect("a connector");
    for (connector, ends) in [(joiner, true), (worker(&authority), false)] {
        let opened = Arc::new(AtomicU32::new(0));
        let counting = Arc::clone(&opened);
        let counted = tower::service_fn(move |uri: Uri| {
            counting.fetch_add(1, Ordering::Relaxed);
            connector.clone().call(uri)
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let mut channel = endpoint.connect_with_connector(counted).await.expect("a connection");
        let mut call = async || {
            let request = http::Request::post("/test/anyone").body(Body::empty()).expect("a request");
            let response = channel.ready().await.expect("ready").call(request).await.ok()?;
            Status::from_header_map(response.headers())
        };
        assert_eq!(call().await.expect("an answer").code(), Code::Ok);
        let second = call().await.expect("an answer");
        assert_eq!(second.message().ends_with("is for one call"), ends, "{second}");
        if ends {
            // The next call opens another connection once this one has closed; a call interrupted by the close gets no
            // response.
            let another = async { while call().await.is_none_or(|status| status.code() != Code::Ok) {} };
            tokio::time::timeout(TIMEOUT, another).await.expect("in time");
        }
        assert_eq!(opened.load(Ordering::Relaxed), 1 + u32::from(ends));
    }
}

#[tokio::test]
async fn removed_nodes_and_other_clusters_nodes_are_refused() {
    let authority = authority();
    let address = serve_manager(&authority).await;
    let removed = Connector::member(credentials(&authority, subject(REMOVED, Role::Manager)));
    let status = call(removed, address, "managers").await.expect("a connection");
    assert!(status.message().contains("was removed from the cluster"), "{status}");
    let foreign = Subject { cluster: ClusterId::from_bits(8), ..subject(2, Role::Manager) };
    let status =
        call(Connector::member(credentials(&authority, foreign)), address, "nodes").await.expect("a connection");
    assert!(status.message().contains("belongs to another cluster"), "{status}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_from_either_side() {
    let authority = authority();
    let expired = |role| {
        let identity = identity(&authority, subject(2, role), wall_clock() - DAY * 91);
        Arc::new(Credentials::new(identity).expect("credentials"))
    };
    let address = serve_manager(&authority).await;
    let refused = call(Connector::member(expired(Role::Worker)), address, "nodes").await.expect_err("a refusal");
    expect_says(refused, "CertificateExpired");
    let address = serve(expired(Role::Manager)).await;
    let refused = call(worker(&authority), address, "nodes").await.expect_err("a refusal");
    expect_says(refused, "its certificate has expired");
}

#[tokio::test]
async fn servers_must_be_managers_of_the_same_root() {
    let authority = authority();
    let address = serve(credentials(&authority, subject(1, Role::Worker))).await;
    let refused = call(worker(&authority), address, "nodes").await.expect_err("a worker is no server");
    expect_says(refused, "it is not a manager");
    let joiner = Connector::joiner(authority.root()).expect("a connector");
    let refused = call(joiner, address, "anyone").await.expect_err("a worker is no server");
    expect_says(refused, "it is not a manager");
    let address = serve_manager(&Authority::generate(wall_clock()).expect("another cluster")).await;
    let refused = call(worker(&authority), address, "nodes").await.expect_err("another root");
    expect_says(refused, "it belongs to another cluster");
}

/// A client that trusts `authority`, whatever certificate it presents itself.
fn raw_client(
    authority: &Authority,
    shown: &Identity,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let builder =
        ClientConfig::builder_with_provider(tls::provider()).with_protocol_versions(&[version]).expect("a version");
    let builder = builder.with_root_certificates(tls::roots([authority.root()]).expect("a root"));
    Arc::new(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown.certified()))))
}

/// Performs the handshake, sends data, and waits for the server's first bytes: with TLS 1.3 only they show that the server
/// accepted the client. The server does not answer a silent client; data still unread when it refuses may cost the client the
/// reason.
async fn greet(config: Arc<ClientConfig>, address: SocketAddr, says: &[u8]) -> std::io::Result<()> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("swarm-manager").expect("a name");
    let mut stream = TlsConnector::from(config).connect(name, tcp).await?;
    stream.write_all(says).await?;
    stream.read_u8().await.map(|_| ())
}

#[tokio::test]
async fn a_certificate_of_another_root_is_refused_by_the_server() {
    let (authority, other) = (authority(), Authority::generate(wall_clock()).expect("another cluster"));
    let address = serve_manager(&authority).await;
    let config = |of: &Authority| {
        let shown = identity(of, subject(2, Role::Manager), wall_clock());
        raw_client(&authority, &shown, &rustls::version::TLS13)
    };
    let refused = greet(config(&other), address, b"").await.expect_err("a refusal");
    expect_says(refused, "DecryptError");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    greet(config(&authority), address, preface).await.expect("the same with the right root");
}

#[tokio::test]
async fn older_tls_is_refused() {
    let authority = authority();
    let address = serve_manager(&authority).await;
    let shown = identity(&authority, subject(2, Role::Worker), wall_clock());
    let config = raw_client(&authority, &shown, &rustls::version::TLS12);
    let refused = greet(config, address, b"").await.expect_err("a refusal");
    expect_says(refused, "ProtocolVersion");
}

/// The certificate that the server presents to a new connection.
async fn shown_by(address: SocketAddr, mut connector: Connector) -> CertificateDer<'static> {
    let uri: Uri = format!("http://{address}").parse().expect("an address");
    let stream = connector.call(uri).await.expect("a connection").into_inner();
    stream.get_ref().1.peer_certificates().expect("certificates")[0].clone()
}

#[tokio::test]
async fn new_certificates_are_shown_from_the_next_handshake_on() {
    let authority = authority();
    let server = credentials(&authority, subject(1, Role::Manager));
    let client = credentials(&authority, subject(2, Role::Worker));
    let address = serve(Arc::clone(&server)).await;
    let connector = Connector::member(Arc::clone(&client));

    let before = shown_by(address, connector.clone()).await;
    assert_eq!(shown_by(address, connector.clone()).await, before);
    server.replace(identity(&authority, subject(1, Role::Manager), wall_clock())).expect("replaced");
    let after = shown_by(address, connector.clone()).await;
    assert_ne!(after, before);
    assert_eq!(after, server.identity().certified().cert[0]);

    assert_eq!(
        call(connector.clone(), address, "managers").await.expect("a connection").code(),
        Code::PermissionDenied
    );
    client.replace(identity(&authority, subject(2, Role::Manager), wall_clock())).expect("promoted");
    assert_eq!(call(connector, address, "managers").await.expect("a connection").code(), Code::Ok);
}

/// Credentials of a node with a certificate of this root, and these intermediates, that trusts these roots.
fn trusting(signer: &Authority, intermediates: &str, node: u128, roots: &[&Authority]) -> Arc<Credentials> {
    let request = CertificateRequest::new().expect("a request");
    let issued = signer.sign(&request.csr_pem, subject(node, Role::Manager), wall_clock(), DAY).expect("a certificate");
    let roots: String = roots.iter().map(|authority| authority.root().to_pem()).collect();
    let roots = TrustedRoots::from_pem(&roots).expect("roots");
    let chain = issued.cert_pem + intermediates;
    let identity = Identity::new(roots.clone(), &chain, &request.key, wall_clock()).expect("an identity");
    let signed_by_newest = signer.root() == roots.newest();
    assert_eq!(identity.trust(), if signed_by_newest { roots.mark() } else { 0 });
    Arc::new(Credentials::new(identity).expect("credentials"))
}

#[tokio::test]
async fn while_nodes_move_to_another_root_each_trusts_all_that_it_can_meet() {
    let (old, new) = (authority(), Authority::generate(wall_clock()).expect("another root"));
    let cross = old.cross_sign(new.root(), wall_clock()).expect("signed");
    let kinds = |node| {
        let before = trusting(&old, "", node, &[&old]);
        // It received the roots, and its process was stopped before it received the certificate.
        let half = trusting(&old, "", node, &[&old, &new]);
        let moved = trusting(&new, &cross, node, &[&old, &new]);
        [before, half, moved, trusting(&new, &cross, node, &[&new])]
    };
    // For nodes before, during, after the move, and after the rotation: whether each can connect to each of the others.
    let expected =
        [[true, true, true, false], [true, true, true, false], [true, true, true, true], [false, false, true, true]];
    for (server, row) in kinds(1).into_iter().zip(expected) {
        let address = serve(server).await;
        for (number, (client, expected)) in kinds(2).into_iter().zip(row).enumerate() {
            let reached = call(Connector::member(client), address, "nodes").await;
            assert_eq!(reached.is_ok(), expected, "client {number} of {row:?}: {reached:?}");
        }
    }
}

#[tokio::test]
async fn silent_connections_do_not_hold_up_others() {
    let authority = authority();
    let address = serve_manager(&authority).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(address).await.expect("a connection"));
    }
    assert_eq!(call(worker(&authority), address, "nodes").await.expect("a connection").code(), Code::Ok);
}

#[tokio::test]
async fn a_root_is_trusted_only_if_its_digest_is_in_the_token() {
    let (authority, other) = (authority(), Authority::generate(wall_clock()).expect("another cluster"));
    let address = serve_manager(&authority).await;
    let fetch = async |token: JoinToken, sent: String| {
        fetch_root(&token, async |connector| call(connector, address, "anyone").await.map(|_| sent)).await
    };
    let token = JoinToken::generate(authority.root()).expect("a token");
    let root = fetch(token.clone(), authority.root().to_pem()).await.expect("the root");
    assert_eq!(&root, authority.root());
    let wrong = fetch(token.clone(), other.root().to_pem()).await;
    assert!(matches!(wrong, Err(BootstrapError::WrongRoot(_))));
    let nonsense = fetch(token.clone(), "hello".to_owned()).await;
    assert!(matches!(nonsense, Err(BootstrapError::Certificate(CertificateError::Count(0)))));
}

#[tokio::test]
async fn a_refused_connection_says_where() {
    let address = {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        tcp.local_addr().expect("an address")
    };
    let error =
        worker(&authority()).call(format!("http://{address}").parse().expect("an address")).await.expect_err("nobody");
    assert!(error.to_string().starts_with(&format!("cannot connect to {address}: ")), "{error}");
}

#[tokio::test]
async fn the_unix_socket_knows_its_user() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let (socket, counts) = (UnixListener::bind(&path).expect("a socket"), Arc::<Connections>::default());
    let connections = Box::pin(incoming_local(socket, Limits::of_descriptors(1_024), Arc::clone(&counts)));
    tokio::spawn(Server::builder().serve_with_incoming(tower::service_fn(answer), connections));
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let mut channel = endpoint.connect_with_connector(connector).await.expect("a connection");
    let request = http::Request::post("/test/managers").body(Body::empty()).expect("a request");
    let response = channel.ready().await.expect("ready").call(request).await.expect("an answer");
    let status = Status::from_header_map(response.headers()).expect("a status");
    assert_eq!(status.code(), Code::Ok);
    assert!(status.message().starts_with("local user "), "{status}");
    assert_eq!(counts.read(ConnectionClass::Operator), [1, 0, 0]);
}
