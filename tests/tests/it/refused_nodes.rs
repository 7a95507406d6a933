//! Nodes and clients that a cluster refuses, or grants only limited access.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use node::clock;
use node::security::{Authority, CertificateRequest, CertificateStore, Connector, Credentials, NODE_EXPIRY_DEFAULT};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use wire::v1::certificates_client::CertificatesClient;
use wire::v1::control_client::ControlClient;
use wire::v1::dispatcher_client::DispatcherClient;
use wire::v1::{HeartbeatRequest, ListNodesRequest, Refusal, RootRequest};

use super::cluster::{Cluster, MANAGER, free_address};
use super::process::{Answer, program, run};
use super::units::Executor;

/// A join that is expected to fail.
fn join(cluster: &Cluster, address: &str, token: &str) -> Answer {
    let mut command = Command::new(program("swarmd"));
    command.args(cluster.flags("stranger")).args(["--join-addr", address, "--join-token", token]);
    run(&mut command)
}

#[test]
fn a_token_that_is_not_this_clusters_lets_nobody_in() {
    let (cluster, other) = (Cluster::start(Executor::Process, &[]), Cluster::start(Executor::Process, &[]));
    let (token, address) = (cluster.token("worker"), cluster.address());
    let secret = token.rsplit_once('-').expect("a secret").1.len();
    let wrong = format!("{}{}", &token[..token.len() - secret], "0".repeat(secret));
    let cases = [(wrong.as_str(), "not valid for this cluster"), (&other.token("worker"), "root certificate")];
    for (token, words) in cases {
        let answer = join(&cluster, address, token);
        println!("{}", answer.err);
        answer.refused(8, words);
        assert!(!cluster.state_dir("stranger").join("certificates").exists(), "nothing is kept of {token}");
    }
    let old = cluster.token("worker");
    cluster.ok("cluster update --rotate-join-token worker");
    join(&cluster, address, &old).refused(8, "not valid for this cluster");
    assert_eq!(cluster.list("node ls").len(), 1, "nobody got in");
    let log = cluster.log(MANAGER);
    let failed: Vec<&str> = log.lines().filter(|line| line.contains("authentication failed")).collect();
    // The token of the other cluster is rejected before it is sent.
    assert_eq!(failed.len(), 2, "{log}");
    assert!(failed.iter().all(|line| line.contains("127.0.0.1")), "{failed:?}");
}

#[test]
fn a_join_at_a_wrong_address_says_what_does_not_answer() {
    let cluster = Cluster::start(Executor::Process, &[]);
    let token = cluster.token("worker");
    let nobody = free_address();
    join(&cluster, &nobody, &token).refused(7, &format!("the manager at {nobody} cannot be reached"));
    let unknown = "no-such-host.invalid:4242";
    let answer = join(&cluster, unknown, &token);
    answer.refused(7, &format!("the manager at {unknown} cannot be reached"));
    assert_eq!(answer.err.matches("has not responded; retrying").count(), 4, "an outage is waited for: {answer:?}");
    assert!(!cluster.state_dir("stranger").join("certificates").exists());
}

/// A connection to the manager, as opened by a node with its certificate on disk.
async fn as_node(cluster: &Cluster, state_of: &str) -> Channel {
    let identity = CertificateStore::new(&cluster.state_dir(state_of)).load(clock::now()).expect("an identity");
    let credentials = Arc::new(Credentials::new(identity).expect("credentials"));
    dial(cluster, Connector::member(credentials)).await.expect("a connection")
}

async fn dial(cluster: &Cluster, connector: Connector) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{}", cluster.address())).expect("an address");
    endpoint.connect_with_connector(connector).await
}

/// The error with which a manager refuses a heartbeat of an unknown session.
async fn refused_heartbeat(channel: Channel) -> Status {
    let heartbeat = HeartbeatRequest { session: events::Id::from_bits(1), trust: None, uses: Vec::new() };
    match DispatcherClient::new(channel).heartbeats(tokio_stream::once(heartbeat)).await {
        Err(refused) => refused,
        Ok(replies) => replies.into_inner().message().await.expect_err("a refusal"),
    }
}

fn refusal_of(status: &Status) -> Refusal {
    Refusal::from_status(status).unwrap_or_else(|| panic!("no refusal of ours: {status:?}"))
}

#[tokio::test]
async fn a_worker_can_do_no_more_than_a_worker() {
    let cluster = Cluster::start(Executor::Process, &["w1"]);
    let channel = as_node(&cluster, "w1").await;
    let asked = ControlClient::new(channel.clone()).list_nodes(ListNodesRequest::default()).await;
    // The control API is only for operators and managers.
    assert_eq!(asked.expect_err("a refusal").code(), Code::PermissionDenied);
    let asked = refused_heartbeat(channel).await;
    assert_eq!(asked.code(), Code::FailedPrecondition, "{asked:?}");
}

/// Each stream, and each heartbeat on it, counts against the node's budget of heartbeats.
#[tokio::test]
async fn a_worker_that_opens_stream_after_stream_of_heartbeats_has_to_wait() {
    let cluster = Cluster::start(Executor::Process, &["w1"]);
    let channel = as_node(&cluster, "w1").await;
    let mut refused = Vec::new();
    while refused.last() != Some(&Code::Unavailable) && refused.len() < 1_000 {
        refused.push(refused_heartbeat(channel.clone()).await.code());
    }
    let (last, before) = refused.split_last().expect("it asked");
    assert_eq!(*last, Code::Unavailable, "after {} streams", before.len());
    assert!(before.iter().all(|code| *code == Code::FailedPrecondition), "{before:?}");
}

#[tokio::test]
async fn a_removed_worker_is_no_member_any_more() {
    let mut cluster = Cluster::start(Executor::Process, &["w1"]);
    cluster.end("w1");
    cluster.ok("node rm --force w1");
    let channel = as_node(&cluster, "w1").await;
    let refusal = refusal_of(&refused_heartbeat(channel).await);
    assert!(refusal.sentence.contains("was removed from the cluster"), "{refusal:?}");
    assert!(refusal.hint.is_some_and(|hint| hint.contains("join again")));
}

pub fn a_worker_that_is_removed_while_it_works_stops_its_tasks(executor: Executor) {
    let cluster = Cluster::start(executor, &["w1"]);
    cluster.create("web", "--replicas 4");
    let before = cluster.settled("web", 4);
    let on_worker: Vec<_> = before.iter().filter(|task| task.node == "w1").map(|task| &task.id).collect();
    assert_eq!(on_worker.len(), 2);
    cluster.ok("node rm --force w1");
    let after = cluster.settled("web", 4);
    assert!(after.iter().all(|task| task.node == MANAGER), "others run what it ran: {after:?}");
    assert!(on_worker.iter().all(|task| !cluster.units().contains_key(*task)), "and its own have ended");
    let kept = || {
        let files = std::fs::read_dir(cluster.state_dir("w1").join("worker")).expect("a directory");
        // Besides its tasks, it stores the last frame of history that it has seen, and the managers.
        let others = ["head", "managers"];
        files
            .filter(|file| file.as_ref().is_ok_and(|file| !others.iter().any(|name| file.file_name() == *name)))
            .count()
    };
    cluster.until("nothing to be left on the worker", || kept() == 0);
}

#[tokio::test]
async fn a_caller_without_a_certificate_gets_the_root_and_nothing_else() {
    let cluster = Cluster::start(Executor::Process, &[]);
    let root = CertificateStore::new(&cluster.state_dir(MANAGER))
        .load_roots()
        .expect("read")
        .expect("a root")
        .newest()
        .clone();
    let channel = dial(&cluster, Connector::joiner(&root).expect("a connector")).await.expect("a connection");
    let answer = CertificatesClient::new(channel.clone()).get_root(RootRequest {}).await.expect("the root");
    assert_eq!(answer.into_inner().cert_pem, root.to_pem());
    let refusal = refusal_of(&refused_heartbeat(channel).await);
    assert!(refusal.sentence.contains("is for one call"), "{refusal:?}");
    let channel = dial(&cluster, Connector::joiner(&root).expect("a connector")).await.expect("a connection");
    let refusal = refusal_of(&refused_heartbeat(channel).await);
    assert!(refusal.sentence.contains("has no certificate"), "{refusal:?}");
    let log = cluster.log(MANAGER);
    assert!(log.lines().any(|line| line.contains("authentication failed") && line.contains("127.0.0.1")), "{log}");
}

#[tokio::test]
async fn another_clusters_node_gets_no_connection() {
    let (cluster, other) = (Cluster::start(Executor::Process, &[]), Cluster::start(Executor::Process, &["w1"]));
    let identity = CertificateStore::new(&other.state_dir("w1")).load(clock::now()).expect("an identity");
    let credentials = Arc::new(Credentials::new(identity).expect("credentials"));
    let refused = dial(&cluster, Connector::member(credentials)).await;
    assert!(refused.is_err(), "the manager's certificate is of another root");
}

#[test]
fn a_damaged_certificate_is_named() {
    let mut cluster = Cluster::start(Executor::Process, &["w1"]);
    cluster.end("w1");
    let file = cluster.state_dir("w1").join("certificates/swarm-node.crt");
    std::fs::write(&file, "no certificate").expect("written");
    let start = || run(Command::new(program("swarmd")).args(cluster.flags("w1")));
    start().refused(8, "swarm-node.crt is not usable");
    let foreign = CertificateStore::new(&cluster.state_dir(MANAGER));
    let foreign_file = cluster.state_dir(MANAGER).join("certificates/swarm-node.crt");
    assert!(foreign.load(clock::now()).is_ok());
    std::fs::copy(foreign_file, &file).expect("copied");
    start().refused(8, "does not belong to its certificate");
}

#[test]
fn a_worker_whose_certificate_expired_is_told_the_way_back() {
    let mut cluster = Cluster::start(Executor::Process, &["w1"]);
    cluster.end("w1");
    // As if it had been away for the certificate's 90 days: the same node, with a matching key and root.
    let certificates = CertificateStore::new(&cluster.state_dir("w1"));
    let subject = certificates.load(clock::now()).expect("an identity").subject();
    let past = clock::now() - Duration::from_secs(91 * 24 * 3_600);
    let authority = Authority::generate(past).expect("an authority");
    let request = CertificateRequest::new().expect("a request");
    let issued = authority.sign(&request.csr_pem, subject, past, NODE_EXPIRY_DEFAULT).expect("a certificate");
    certificates.save_roots(&authority.root().clone().into()).expect("saved");
    certificates.save(&issued.cert_pem, &request.key).expect("saved");

    let start = |cluster: &Cluster| run(Command::new(program("swarmd")).args(cluster.flags("w1")));
    start(&cluster).refused(8, &format!("the certificate of {subject} expired at {}", issued.not_after));
    // As the hint says: remove the node, and join again as a new one.
    let node = subject.node.to_string();
    cluster.until("the node to be down and removed", || cluster.swarmctl(&format!("node rm {node}")).code == 0);
    std::fs::remove_dir_all(cluster.state_dir("w1")).expect("emptied");
    let (address, token) = (cluster.address().to_owned(), cluster.token("worker"));
    cluster.add("w1", &["--join-addr", &address, "--join-token", &token]);
    cluster.until("the worker to be back as another node", || {
        let nodes = cluster.list("node ls");
        let ready = nodes.iter().filter(|listed| listed["state"] == "ready").count();
        ready == 2 && nodes.iter().all(|listed| listed["id"] != node.as_str())
    });
}
