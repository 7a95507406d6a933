//! A manager whose port is flooded with connections from one address and without a certificate.

use std::process::Command;
use std::time::{Duration, Instant};

use node::daemon::descriptors;
use node::security::{CertificateStore, Connector};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tonic::transport::Uri;
use tower::Service;

use super::cluster::{Cluster, MANAGER};
use super::process::run;
use super::units::Executor;

/// Connections that send nothing at all.
const HALF_OPEN: usize = 5_000;
/// Connections that send nothing after their handshake.
const IDLE: usize = 4_000;
/// Connections that start HTTP/2, but send no request.
const GREETED: usize = 1_000;
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Concurrent handshakes of the flood.
const AT_ONCE: usize = 64;

type Stream = <Connector as Service<Uri>>::Response;

/// Opens connections up to the handshake, as many as the manager accepts.
async fn idle(address: &str, connector: &Connector, count: usize, greeting: &'static [u8]) -> Vec<Stream> {
    let (mut open, mut opening) = (Vec::new(), JoinSet::new());
    for _ in 0..count {
        if opening.len() >= AT_ONCE {
            open.extend(opening.join_next().await.and_then(|opened| opened.expect("no panic")));
        }
        let (mut connector, uri): (_, Uri) = (connector.clone(), format!("http://{address}").parse().expect("a URI"));
        opening.spawn(async move {
            let mut stream = connector.call(uri).await.ok()?;
            stream.inner_mut().write_all(greeting).await.ok()?;
            Some(stream)
        });
    }
    open.extend(opening.join_all().await.into_iter().flatten());
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_shuts_nobody_out() {
    // With the limits that a daemon usually has.
    let own = std::process::id().to_string();
    let limited = run(Command::new("prlimit").args(["--pid", &own, "--nofile=1024:"]));
    assert_eq!(limited.code, 0, "{limited:?}");
    let mut cluster = Cluster::start(Executor::Process, &["w1"]);
    let descriptors = descriptors::raise();
    assert!(descriptors > HALF_OPEN + IDLE + GREETED + 500, "the flood needs more than {descriptors} open files");

    let root = CertificateStore::new(&cluster.state_dir(MANAGER))
        .load_roots()
        .expect("read")
        .expect("a root")
        .newest()
        .clone();
    let (connector, address) = (Connector::joiner(&root).expect("a connector"), cluster.address().to_owned());
    let open = |_| std::net::TcpStream::connect(&address).expect("a connection");
    let half_open: Vec<_> = (0..HALF_OPEN).map(open).collect();
    let idle = (idle(&address, &connector, IDLE, b"").await, idle(&address, &connector, GREETED, GREETING).await);
    assert_eq!((idle.0.len(), idle.1.len()), (IDLE, GREETED), "every handshake was done");

    let asked = Instant::now();
    assert_eq!(cluster.list("node ls").len(), 2);
    let answered = asked.elapsed();
    assert!(answered < Duration::from_secs(1), "the manager answered after {answered:?}");
    let token = cluster.token("worker");
    let joining = Instant::now();
    cluster.add("w2", &["--join-addr", &address, "--join-token", &token]);
    cluster.until("the new agent to be ready", || {
        cluster.list("node ls").iter().filter(|node| node["state"] == "ready").count() == 3
    });
    let joined = joining.elapsed();
    assert!(joined < Duration::from_secs(5), "a new agent joined after {joined:?}");
    cluster.create("web", "--replicas 3");
    // The new agent was started with the limits of this test.
    for task in cluster.settled("web", 3).into_iter().filter(|task| task.node != "w2") {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", task.container["pid"])).expect("its limits");
        let open_files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
        assert_eq!(open_files.split_whitespace().nth(3), Some("1024"), "{} raised it for its tasks", task.node);
    }

    assert_eq!(cluster.log("w1").matches("session opened").count(), 1, "no member lost its session");
    let log = cluster.log(MANAGER);
    assert!(log.contains("too many connections") && !log.contains("no connection can be accepted"), "{log}");
    drop((half_open, idle));
}
