//! Tests joining and renewing with a real manager: its core on disk, its certificate authority, and TLS over loopback.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use events::{Duration as Span, Kind, NodeId, Role, Timestamp, codec};
use projections::settings::ROOT_KEY;
use tokio::net::TcpListener;
use tonic::Request;
use tonic::transport::Server;
use wire::v1::certificates_server::{Certificates, CertificatesServer};
use wire::v1::{CertificateReply, RootReply};

use super::*;
use crate::agent::docker::DockerExecutor;
use crate::api::{CertificateApi, Context, Images};
use crate::control::ManagerInfo;
use crate::daemon::state_dir::StateDir;
use crate::manager::core::{self, Core};
use crate::manager::replica::{Outcome, Request as CoreRequest};
use crate::security::testing::KnownMembers;
use crate::security::{Authority, ExternalClient, Introduction, Limits, Members, Subject, incoming};
use commands::{Actor, Command, SecretText};

const QUICK: Timeouts = Timeouts { attempts: 3, pause: Duration::from_millis(1), busy: Duration::ZERO };
const DAY: Span = Span::from_secs(24 * 3_600);

/// A manager's certificate service whose responses get lost after the request was executed.
struct LossyService {
    service: CertificateApi,
    /// The number of responses to joins that are still lost.
    joins: AtomicU32,
}

#[tonic::async_trait]
impl Certificates for LossyService {
    async fn get_root(&self, request: Request<RootRequest>) -> Result<Response<RootReply>, Status> {
        self.service.get_root(request).await
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<CertificateReply>, Status> {
        let answer = self.service.join(request).await;
        let lost = self.joins.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if lost { Err(Status::unavailable("the line broke")) } else { answer }
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<CertificateReply>, Status> {
        self.service.renew(request).await
    }
}

struct Manager {
    core: Core,
    addr: String,
    _state_dir: tempfile::TempDir,
}

impl Manager {
    /// A manager whose first responses to joins are lost.
    async fn with_lost_replies(joins: u32) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = StateDir::open(dir.path()).expect("a state directory");
        let certificates = CertificateStore::new(dir.path());
        let tcp = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let addr = tcp.local_addr().expect("an address").to_string();
        let core =
            core::start(&state_dir, core::Read::default(), core::Begin::Founder(NodeId::from_bits(1)), |_, _| {})
                .expect("a core");
        core.ensure_cluster(&certificates, "m1", &addr).await.expect("a cluster");
        let identity = core.identity(&certificates).await.expect("an identity");
        let credentials = Arc::new(Credentials::new(identity).expect("credentials"));
        // No test resolves images.
        let engine = DockerExecutor::new("unix:///nonexistent", PathBuf::new()).expect("an address");
        let context = Context {
            core: core.handle.clone(),
            store: Arc::clone(&core.store),
            manager: Arc::new(ManagerInfo {
                cluster: credentials.identity().subject().cluster,
                node: core.node,
                hostname: "m1".to_owned(),
                remote_addr: addr.clone(),
                has_sink_dir: false,
            }),
            budgets: Arc::default(),
            refusals: Arc::default(),
            event_streams: Arc::default(),
            external: Arc::new(ExternalClient::new(Arc::clone(&credentials))),
            peering: crate::peering::Peering::default(),
            images: Images::new(Arc::new(engine)),
            streams: Arc::default(),
            stopping: CancellationToken::new(),
        };
        let access = context.access();
        let service = LossyService { service: CertificateApi::new(context), joins: AtomicU32::new(joins) };
        let connections = Box::pin(incoming(
            tcp,
            credentials,
            Limits::of_descriptors(1_024),
            KnownMembers::everybody(),
            Arc::default(),
        ));
        let server = Server::builder().layer(access).add_service(CertificatesServer::new(service));
        tokio::spawn(server.serve_with_incoming(connections));
        Self { core, addr, _state_dir: dir }
    }

    fn token(&self) -> JoinToken {
        let state = self.core.handle.state();
        state.keyring.text("join-token/worker").expect("a token").parse().expect("a good one")
    }

    /// The number of nodes in the cluster, including the manager.
    fn nodes(&self) -> usize {
        self.core.handle.state().cluster.nodes.len()
    }

    /// The cluster's authority, with the manager's key.
    fn authority(&self) -> Authority {
        let state = self.core.handle.state();
        let key = state.keyring.text(ROOT_KEY).expect("the root's key");
        Authority::from_pem(&state.cluster.settings.root_cert_pem, key).expect("an authority")
    }

    /// The number of certificates of a node in history.
    fn certificates_of(&self, node: NodeId) -> usize {
        let frames = self.core.store.history(0, usize::MAX, usize::MAX).expect("history");
        let frames = frames.iter().map(|(_, bytes)| codec::decode_frame(bytes).expect("a frame"));
        let is_of = |kind: &&Kind| matches!(kind, Kind::CertificateIssued(issued) if issued.node == node);
        frames.map(|frame| codec::kinds(&frame).filter(is_of).count()).sum()
    }

    async fn join(&self, worker: &Worker) -> Result<Identity, Failure> {
        join(&worker.certificates, &self.addr, &self.token(), "w1", QUICK, |_| Ok(())).await
    }

    async fn end(self) {
        self.core.end().await.expect("a good end");
    }
}

struct Worker {
    certificates: CertificateStore,
    _state_dir: tempfile::TempDir,
}

impl Worker {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { certificates: CertificateStore::new(dir.path()), _state_dir: dir }
    }

    fn has_pending_join(&self) -> bool {
        self.certificates.load_pending_join().expect("readable").is_some()
    }

    /// Credentials that the cluster issued `ago`, valid for the default 90 days.
    fn issued(&self, manager: &Manager, subject: Subject, ago: Span) -> Arc<Credentials> {
        let request = CertificateRequest::new().expect("a request");
        let then = clock::now() - ago;
        let issued = manager.authority().sign(&request.csr_pem, subject, then, DAY * 90).expect("a certificate");
        let root = self.certificates.load_roots().expect("readable").expect("a root");
        self.certificates.save(&issued.cert_pem, &request.key).expect("saved");
        let identity = Identity::new(root, &issued.cert_pem, &request.key, then).expect("an identity then");
        Arc::new(Credentials::new(identity).expect("credentials"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_whose_answers_are_lost_makes_one_node() {
    let (manager, worker) = (Manager::with_lost_replies(2).await, Worker::new());
    let identity = manager.join(&worker).await.expect("the third attempt's answer arrives");
    assert_eq!(manager.nodes(), 2);
    assert!(manager.core.handle.state().cluster.nodes.get(identity.subject().node).is_some());
    assert!(!worker.has_pending_join());
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_outwaits_a_busy_manager() {
    let (manager, worker) = (Manager::with_lost_replies(QUICK.attempts + 1).await, Worker::new());
    let patience = Timeouts { busy: Duration::from_secs(60), ..QUICK };
    join(&worker.certificates, &manager.addr, &manager.token(), "w1", patience, |_| Ok(()))
        .await
        .expect("let in at last");
    assert_eq!(manager.nodes(), 2);
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_joiner_goes_on_with_the_same_join() {
    let (manager, worker) = (Manager::with_lost_replies(QUICK.attempts).await, Worker::new());
    let failure = manager.join(&worker).await.expect_err("no answer arrives");
    assert!(failure.sentence.contains("the line broke"), "{failure}");
    assert!(failure.hint.ends_with("start swarmd again: it continues the same join"), "{failure}");
    assert_eq!((manager.nodes(), worker.has_pending_join()), (2, true));
    manager.join(&worker).await.expect("the next start joins");
    assert_eq!((manager.nodes(), worker.has_pending_join()), (2, false));
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_join_is_answered_from_what_was_recorded() {
    let (manager, worker) = (Manager::with_lost_replies(QUICK.attempts).await, Worker::new());
    manager.join(&worker).await.expect_err("no answer arrives");
    let pending = worker.certificates.load_pending_join().expect("readable").expect("a join");
    let subject = manager.join(&worker).await.expect("the next start joins").subject();
    assert_eq!(manager.certificates_of(subject.node), 1, "one for all of the attempts");

    let credentials = worker.issued(&manager, subject, DAY * 89);
    renew(&credentials, &worker.certificates, std::slice::from_ref(&manager.addr), &|_| Ok(())).await.expect("renewed");
    let csr_pem = CertificateRequest::of(pending.key).expect("a request").csr_pem;
    let (id, token) = (pending.id, manager.token().to_string());
    let connector = Connector::joiner(manager.authority().root()).expect("a connector");
    let channel = dial(&manager.addr, connector).await.expect("a connection");
    let repeated = JoinRequest { id, token, csr_pem, hostname: "w1".to_owned() };
    let refused = CertificatesClient::new(channel).join(repeated).await.expect_err("refused");
    assert!(refused.message().ends_with("has renewed its certificate since"), "{refused}");
    assert_eq!((manager.nodes(), manager.certificates_of(subject.node)), (2, 2));
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_or_token_is_another_join() {
    let (manager, worker) = (Manager::with_lost_replies(QUICK.attempts).await, Worker::new());
    manager.join(&worker).await.expect_err("no answer arrives");
    let pending = worker.certificates.load_pending_join().expect("readable").expect("a join");
    let root = manager.authority().root().clone();
    let channel = dial(&manager.addr, Connector::joiner(&root).expect("a connector")).await.expect("a connection");
    let request = |key: PrivateKey, token: &JoinToken| {
        let csr_pem = CertificateRequest::of(key).expect("a request").csr_pem;
        Request::new(JoinRequest { id: pending.id, token: token.to_string(), csr_pem, hostname: "w1".to_owned() })
    };
    // A client that has the id but not the token gets no certificate, with the same key or another one.
    let forged = JoinToken::generate(&root).expect("a token");
    for key in [PrivateKey::from_pem(&pending.key.to_pem()), PrivateKey::generate()] {
        let sent = request(key.expect("a key"), &forged);
        let refused = CertificatesClient::new(channel.clone()).join(sent).await.expect_err("refused");
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    assert_eq!(manager.nodes(), 2);
    let sent = request(PrivateKey::generate().expect("a key"), &manager.token());
    CertificatesClient::new(channel).join(sent).await.expect("a second node");
    assert_eq!(manager.nodes(), 3);
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_is_repeated_after_the_token_was_rotated_is_refused() {
    let (manager, worker) = (Manager::with_lost_replies(QUICK.attempts).await, Worker::new());
    let old = manager.token();
    manager.join(&worker).await.expect_err("no answer arrives");
    let token = JoinToken::generate(manager.authority().root()).expect("a token");
    let secret_sha256 = token.secret_sha256();
    let rotate = Command::RotateJoinToken(commands::RotateJoinToken {
        role: Role::Worker,
        token: SecretText(token.to_string()),
        secret_sha256,
    });
    let actor = Actor::Operator("root".to_owned());
    let id = CommandId::from_bits(rand::random());
    let request = CoreRequest::named(id, actor, rotate);
    assert!(matches!(manager.core.handle.submit(request).await, Outcome::Committed { .. }), "rotated");
    // The same request that was issued a certificate before.
    let refused = join(&worker.certificates, &manager.addr, &old, "w1", QUICK, |_| Ok(())).await.expect_err("refused");
    assert!(refused.sentence.contains("the join token is not valid for this cluster"), "{refused}");
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_join_leaves_no_node_and_the_next_one_is_new() {
    let (manager, worker) = (Manager::with_lost_replies(0).await, Worker::new());
    let forged = JoinToken::generate(manager.authority().root()).expect("a token");
    let refused =
        join(&worker.certificates, &manager.addr, &forged, "w1", QUICK, |_| Ok(())).await.expect_err("refused");
    assert!(refused.sentence.contains("the join token is not valid for this cluster"), "{refused}");
    assert_eq!(refused.code, code::NOT_ALLOWED);
    let unnamed =
        join(&worker.certificates, &manager.addr, &manager.token(), "", QUICK, |_| Ok(())).await.expect_err("refused");
    assert!(unnamed.sentence.contains("no host name"), "{unnamed}");
    let channel = dial(&manager.addr, Connector::joiner(manager.authority().root()).expect("a connector"));
    let unsound = JoinRequest {
        token: manager.token().to_string(),
        hostname: "w1".to_owned(),
        id: Id::from_bits(1),
        csr_pem: String::new(),
    };
    let refused =
        CertificatesClient::new(channel.await.expect("a connection")).join(unsound).await.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!((manager.nodes(), worker.has_pending_join()), (1, false));
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_near_its_end_is_renewed_and_shown_from_then_on() {
    let (manager, worker) = (Manager::with_lost_replies(0).await, Worker::new());
    let subject = manager.join(&worker).await.expect("joined").subject();
    let credentials = worker.issued(&manager, subject, DAY * 89);
    let due = credentials.identity().renew_at(clock::now(), 1.0);
    assert!(due <= clock::now(), "due since {due}");
    renew(&credentials, &worker.certificates, std::slice::from_ref(&manager.addr), &|_| Ok(())).await.expect("renewed");
    let (now, renewed) = (clock::now(), credentials.identity());
    assert!(renewed.not_after() > now + DAY * 89, "{}", renewed.not_after());
    assert_eq!((renewed.subject().node, renewed.subject().role), (subject.node, Role::Worker));
    assert_eq!(worker.certificates.load(now).expect("on the disk too").not_after(), renewed.not_after());
    let noted = manager.core.handle.state().cluster.nodes.get(subject.node).expect("the node").certificate_not_after;
    assert_eq!(noted, Some(renewed.not_after()));
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_knows_the_introductions_of_its_nodes_and_of_its_tokens() {
    let (manager, worker) = (Manager::with_lost_replies(0).await, Worker::new());
    let knows = |introduction: Introduction| manager.core.handle.knows(&introduction);
    let forged = JoinToken::generate(manager.authority().root()).expect("a token");
    assert!(knows(Introduction::of_joiner(&manager.token())) && !knows(Introduction::of_joiner(&forged)));
    let identity = manager.join(&worker).await.expect("joined");
    let (node, first) = (identity.subject().node, identity.introduction());
    assert!(knows(first) && !knows(Introduction::of_node(node, "another certificate")));
    let credentials = Arc::new(Credentials::new(identity).expect("credentials"));
    renew(&credentials, &worker.certificates, std::slice::from_ref(&manager.addr), &|_| Ok(())).await.expect("renewed");
    let second = credentials.identity().introduction();
    assert!(knows(second) && !knows(first), "the certificate that it has now");
    let removal = Command::RemoveNode(commands::RemoveNode { node, force: true });
    let actor = Actor::Operator("root".to_owned());
    let id = CommandId::from_bits(rand::random());
    let request = CoreRequest::named(id, actor, removal);
    assert!(matches!(manager.core.handle.submit(request).await, Outcome::Committed { .. }), "removed");
    assert!(!knows(second));
    manager.end().await;
}

/// A manager that accepts every request and answers none. From the first renewal on, time only advances by waiting.
struct Silent(Arc<AtomicU32>);

#[tonic::async_trait]
impl Certificates for Silent {
    async fn get_root(&self, _: Request<RootRequest>) -> Result<Response<RootReply>, Status> {
        std::future::pending().await
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<CertificateReply>, Status> {
        std::future::pending().await
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<CertificateReply>, Status> {
        self.0.fetch_add(1, Ordering::Relaxed);
        tokio::time::pause();
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_manager_that_never_answers_a_renewal_is_given_up() {
    let (tcp, worker) = (TcpListener::bind("127.0.0.1:0").await.expect("a port"), Worker::new());
    let addr = tcp.local_addr().expect("an address").to_string();
    let authority = Authority::generate(clock::now()).expect("an authority");
    let credentials = |node, role| {
        let (request, now) = (CertificateRequest::new().expect("a request"), clock::now());
        let subject = Subject { node: NodeId::from_bits(node), role, cluster: Id::from_bits(3) };
        let issued = authority.sign(&request.csr_pem, subject, now, DAY).expect("a certificate");
        let identity = Identity::new(authority.root().clone(), &issued.cert_pem, &request.key, now);
        Arc::new(Credentials::new(identity.expect("an identity")).expect("credentials"))
    };
    let (connections, asked) = (
        Box::pin(incoming(
            tcp,
            credentials(1, Role::Manager),
            Limits::of_descriptors(1_024),
            KnownMembers::everybody(),
            Arc::default(),
        )),
        Arc::default(),
    );
    tokio::spawn(
        Server::builder()
            .add_service(CertificatesServer::new(Silent(Arc::clone(&asked))))
            .serve_with_incoming(connections),
    );
    let own = credentials(2, Role::Worker);
    let failure =
        renew(&own, &worker.certificates, std::slice::from_ref(&addr), &|_| Ok(())).await.expect_err("no answer");
    assert_eq!(asked.load(Ordering::Relaxed), 1, "it was the renewal that had no answer");
    assert!(failure.sentence.ends_with("no answer within 30 s"), "{failure}");
    assert_eq!(failure.code, code::UNREACHABLE);
}

#[test]
fn a_sleep_of_weeks_is_taken_in_naps() {
    let now = Timestamp::from_unix_ns(0);
    assert_eq!(wait_until(now + DAY * 45, now), SLEEP_MAX);
    assert_eq!(wait_until(now + Span::from_secs(5), now), Span::from_secs(5));
    assert_eq!(wait_until(now, now + DAY), Span::ZERO, "due while the machine slept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expired_while_its_node_was_away_opens_nothing_and_says_what_to_do() {
    let (manager, worker) = (Manager::with_lost_replies(0).await, Worker::new());
    let subject = manager.join(&worker).await.expect("joined").subject();
    let credentials = worker.issued(&manager, subject, DAY * 91);
    let expired: Timestamp = credentials.identity().not_after();
    // The manager itself refuses the certificate, whatever the node checks.
    let connector = Connector::member(Arc::clone(&credentials));
    let asked = async {
        let channel = dial(&manager.addr, connector).await?;
        let csr_pem = CertificateRequest::new().expect("a request").csr_pem;
        let renewal = RenewRequest { id: CommandId::default(), csr_pem };
        Ok::<_, DialError>(CertificatesClient::new(channel).renew(renewal).await?)
    };
    let refused = asked.await.expect_err("refused");
    assert!(matches!(refused, DialError::Transport(_) | DialError::Refused(_)), "{refused}");

    let renewal = renew(&credentials, &worker.certificates, std::slice::from_ref(&manager.addr), &|_| Ok(()))
        .await
        .expect_err("too late");
    let start = Failure::from(worker.certificates.load(clock::now()).expect_err("expired"));
    for failure in [renewal, start] {
        assert_eq!(failure.sentence, format!("the certificate of {subject} expired at {expired}"));
        assert!(failure.hint.contains("`swarmctl node rm`") && failure.hint.contains("--join-token"), "{failure}");
        assert_eq!(failure.code, code::NOT_ALLOWED);
    }
    // The agent does not even connect, and reports the same.
    let ConnectError::Unfit { why, hint } = MemberConnect(credentials).connect(&manager.addr).await.expect_err("late")
    else {
        panic!("an outage would be asked again within seconds")
    };
    assert_eq!(why, format!("the certificate of {subject} expired at {expired}"));
    assert!(hint.contains("`swarmctl node rm`") && hint.contains("--join-token"), "{hint}");
    manager.end().await;
}
