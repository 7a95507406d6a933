//! An attacker with a worker's certificate: it can write little, and does not slow others down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use events::{NodeDescription, SessionId, TaskId, TaskState, TaskStatus};
use node::clock;
use node::log::{LogStore, RocksStore};
use node::security::{CertificateRequest, CertificateStore, Connector, Credentials};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Streaming};
use wire::v1::certificates_client::CertificatesClient;
use wire::v1::dispatcher_client::DispatcherClient;
use wire::v1::session_message::Message;
use wire::v1::{RegisterRequest, RenewRequest, ReportRequest, SessionMessage, TaskReport};

use super::cluster::{Cluster, MANAGER};
use super::units::Executor;

/// The duration of the attack, and its concurrent connections and calls: as many as it can get.
const ATTACK: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 8;
const CALLS: usize = 16;
/// Maximum growth of history: a node with one task may report 513 KiB at once and 8 KiB per second; the rest is overhead, and its
/// sessions and certificates.
const GROWTH_MAX: usize = 768 * 1024;

/// The size of all frames in a manager's history, in bytes.
fn history(cluster: &Cluster) -> usize {
    let store = RocksStore::open_read_only(&cluster.state_dir(MANAGER).join("raft")).expect("a log");
    let frames = store.history(0, usize::MAX, usize::MAX).expect("history");
    frames.iter().map(|(_, bytes)| bytes.len()).sum()
}

/// A connection with the certificate of the cluster's worker.
async fn connect(cluster: &Cluster) -> Channel {
    let identity = CertificateStore::new(&cluster.state_dir("w1")).load(clock::now()).expect("an identity");
    let connector = Connector::member(Arc::new(Credentials::new(identity).expect("credentials")));
    let endpoint = Endpoint::from_shared(format!("http://{}", cluster.address())).expect("an address");
    endpoint.connect_with_connector(connector).await.expect("a connection")
}

/// A running task with a message.
fn running(message: String) -> TaskStatus {
    TaskStatus { state: TaskState::Running.into(), message, ..TaskStatus::default() }
}

/// Reports changes of a task in a loop; returns the number of accepted reports.
async fn report(channel: Channel, session: SessionId, task: TaskId, caller: usize, end: Instant) -> usize {
    let (mut client, mut taken) = (DispatcherClient::new(channel), 0);
    for sequence in 1.. {
        if Instant::now() >= end {
            break;
        }
        let status = running(format!("{caller} {sequence} {}", "x".repeat(4_000)));
        let request = ReportRequest { session, sequence, reports: vec![TaskReport { task, status }] };
        taken += usize::from(client.report(request).await.is_ok());
    }
    taken
}

/// Opens a session with its own description, if allowed.
async fn session(channel: Channel, number: usize) -> Option<Streaming<SessionMessage>> {
    let version = format!("{number} {}", "v".repeat(10_000));
    let description = NodeDescription { hostname: "w1".to_owned(), version, ..NodeDescription::default() };
    let request = RegisterRequest { description, advertise_addr: None, seen: None };
    DispatcherClient::new(channel).session(request).await.ok().map(Response::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_certificate_writes_little_and_holds_up_nobody() {
    let mut cluster = Cluster::start(Executor::Process, &["w1"]);
    cluster.create("web", "--replicas 1 --constraint node.hostname==w1");
    let task: TaskId = cluster.settled("web", 1)[0].id.parse().expect("an id");
    cluster.end("w1");
    let before = history(&cluster);

    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(connect(&cluster).await);
    }
    // Three sessions are opened at once, and each replaces the one before it.
    let mut opening = JoinSet::new();
    for number in 0..2 * CALLS {
        opening.spawn(session(channels[number % CONNECTIONS].clone(), number));
    }
    let opened = opening.join_all().await.into_iter().flatten().count();
    assert!((1..=4).contains(&opened), "{opened} sessions were opened");
    let mut stream = loop {
        // Each refusal is delayed by a second.
        if let Some(stream) = session(channels[0].clone(), 0).await {
            break stream;
        }
    };
    let welcome = stream.message().await.expect("a message").expect("a message");
    let Some(Message::Welcome(welcome)) = welcome.message else { panic!("not a welcome: {welcome:?}") };

    // A report without changes is accepted, but not written.
    let mut client = DispatcherClient::new(channels[0].clone());
    let mut index = None;
    for sequence in 1..=10 {
        let reports = vec![TaskReport { task, status: running("the same".to_owned()) }];
        client.report(ReportRequest { session: welcome.session, sequence, reports }).await.expect("taken");
        let present = cluster.inspect()["index"].as_u64();
        assert_eq!(*index.get_or_insert(present), present, "the first report alone was news");
    }

    let (end, mut calls) = (Instant::now() + ATTACK, JoinSet::new());
    for caller in 0..CONNECTIONS * CALLS {
        calls.spawn(report(channels[caller % CONNECTIONS].clone(), welcome.session, task, caller, end));
    }
    let mut slowest = Duration::ZERO;
    for number in 0..3 {
        let asked = Instant::now();
        cluster.ok(&format!("node update --label round={number} {MANAGER}"));
        slowest = slowest.max(asked.elapsed());
    }
    let taken: usize = calls.join_all().await.into_iter().sum();
    let mut renewed = 0;
    for _ in 0..8 {
        let csr_pem = CertificateRequest::new().expect("a request").csr_pem;
        let renewal = RenewRequest { id: events::Id::from_bits(1), csr_pem };
        renewed += usize::from(CertificatesClient::new(channels[0].clone()).renew(renewal).await.is_ok());
    }
    let grown = history(&cluster) - before;
    println!("{taken} reports, {renewed} renewals, {grown} bytes; others waited for {slowest:?} at most");
    assert!((50..200).contains(&taken), "{taken} reports were taken");
    // The certificate of its join was the first of six.
    assert_eq!(renewed, 5);
    assert!(grown < GROWTH_MAX, "history has grown by {grown} bytes");
    assert!(slowest < Duration::from_secs(2), "a command of an operator took {slowest:?}");
}
