//! Events that are sent to real receivers: in order, none lost if the leader is killed, and repetitions with the same ids.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::cluster::{Cluster, MANAGER, path};
use super::quorum::managers;
use super::units::Executor;

/// One request: its signature, and its events.
type Received = (Option<String>, Vec<Value>);

/// A receiver on its own port, which gives the answers in turn; the last one is repeated.
struct Receiver {
    url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// A self-signed certificate for 127.0.0.1: in the form for managers' trust, and the one for a receiver.
fn authority() -> (String, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let config = builder.with_single_cert(vec![made.cert.der().clone()], key).expect("a receiver");
    (made.cert.pem(), Arc::new(config))
}

impl Receiver {
    fn start(answers: &'static [&'static str]) -> Self {
        Self::start_with(answers, None)
    }

    /// A receiver, with TLS if it is given a certificate.
    fn start_with(answers: &'static [&'static str], tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/in", listener.local_addr().expect("an address"));
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let requests = Arc::clone(&received);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let stream = stream.expect("a connection");
                let stream: Box<dyn Stream> = match &tls {
                    Some(config) => {
                        let connection = ServerConnection::new(Arc::clone(config)).expect("a connection");
                        Box::new(StreamOwned::new(connection, stream))
                    }
                    None => Box::new(stream),
                };
                let mut stream = BufReader::new(stream);
                // A killed manager breaks off its request anywhere.
                let Some(request) = request(&mut stream) else { continue };
                let answer = answers[number.min(answers.len() - 1)];
                if answer.starts_with("HTTP/1.1 2") {
                    requests.lock().expect("whole").push(request);
                }
                let _ = stream.get_mut().write_all(answer.as_bytes());
            }
        });
        Self { url, received }
    }

    /// The names of the configs whose creation was received, and the ids of the events.
    fn configs(&self) -> Vec<(String, String)> {
        let received = self.received.lock().expect("whole");
        received.iter().flat_map(|(_, events)| events).filter_map(config).collect()
    }
}

fn request(stream: &mut impl BufRead) -> Option<Received> {
    let (mut length, mut signature) = (0, None);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(("swarmlog-signature", value)) => signature = Some(value.to_owned()),
            Some(_) => {}
            None if line.trim().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let events: Vec<Value> = serde_json::from_slice(&body).expect("JSON");
    Some((signature, events))
}

/// The name of the config that an event created, and the event's id.
fn config(event: &Value) -> Option<(String, String)> {
    let made = &event["data"]["event"]["kind"]["config_created"];
    let name = made["spec"]["annotations"]["name"].as_str()?;
    Some((name.to_owned(), event["id"].as_str().expect("an id").to_owned()))
}

fn create(cluster: &Cluster, manager: &str, name: &str) {
    let data = cluster.path("data");
    std::fs::write(&data, "data").expect("written");
    let made = cluster.swarmctl_at(manager, &format!("config create {name} {}", data.display()));
    assert_eq!(made.code, 0, "{made:?}");
}

#[test]
fn nothing_is_lost_with_the_manager_that_leads_and_what_comes_twice_has_the_same_id() {
    let mut cluster = managers(&["m2", "m3"]);
    let receiver = Receiver::start(&["HTTP/1.1 503 Busy\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"]);
    let key = cluster.path("key");
    std::fs::write(&key, "0123456789abcdef\n").expect("written");
    let flags = format!("--secret-file {} --kind config_created", key.display());
    cluster.ok(&format!("sink create siem --webhook {} {flags}", receiver.url));
    let mut names: Vec<String> = Vec::new();
    for number in 0..10 {
        names.push(format!("before-{number}"));
        create(&cluster, MANAGER, &names[number]);
    }
    cluster.until("the first events", || receiver.configs().len() >= 3);
    cluster.kill(MANAGER);
    cluster.until("another leader", || cluster.swarmctl_at("m2", "node ls").code == 0);
    for number in 0..10 {
        names.push(format!("after-{number}"));
        create(&cluster, "m2", &names[10 + number]);
    }
    let all = || {
        let received = receiver.configs();
        names.iter().all(|name| received.iter().any(|(received, _)| received == name))
    };
    cluster.until("all events", all);
    let received = receiver.configs();
    let mut first: Vec<&(String, String)> = Vec::new();
    for event in &received {
        match first.iter().find(|(name, _)| *name == event.0) {
            Some(known) => assert_eq!(known.1, event.1, "a repetition has the same id"),
            None => first.push(event),
        }
    }
    assert!(first.iter().map(|(name, _)| name).eq(&names), "in order: {received:?}");
    let signed = receiver.received.lock().expect("whole");
    assert!(signed.iter().all(|(signature, _)| signature.as_ref().is_some_and(|text| text.starts_with("sha256="))));
}

#[test]
fn a_file_has_each_event_and_a_sink_says_why_nothing_arrives() {
    let mut cluster = Cluster::start(Executor::Process, &[]);
    let dir = cluster.path("sinks");
    std::fs::create_dir(&dir).expect("made");
    create(&cluster, MANAGER, "first");
    let refused = cluster.swarmctl("sink create lines --file events.jsonl --from 1");
    assert!(refused.code != 0 && refused.err.contains("--sink-dir"), "{refused:?}");
    assert_eq!(cluster.end(MANAGER), Some(0));
    cluster.resume_with(MANAGER, &["--sink-dir", &path(&cluster.path("elsewhere"))]);
    cluster.await_manager();
    cluster.ok("sink create lines --file events.jsonl --from 1");
    let inspected = |cluster: &Cluster| cluster.list("sink inspect lines").remove(0);
    let fails = |cluster: &Cluster| {
        inspected(cluster)["failure"]["reason"].as_str().is_some_and(|why| why.contains("cannot write"))
    };
    cluster.until("the reason", || fails(&cluster));
    assert_eq!(cluster.end(MANAGER), Some(0));
    cluster.resume_with(MANAGER, &["--sink-dir", &path(&dir)]);
    cluster.await_manager();
    create(&cluster, MANAGER, "second");
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(dir.join("events.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    cluster.until("both configs", || lines().iter().filter_map(config).count() == 2);
    cluster.until("the progress", || inspected(&cluster)["failure"].is_null());
    // Events about sending are not sent themselves, and cause no further ones.
    assert!(lines().iter().all(|event| event["type"] != "swarmlog.v1.sink_progressed"));
    let written: Vec<String> = lines().iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(written.len(), written.iter().collect::<std::collections::BTreeSet<_>>().len(), "{written:?}");
    cluster.ok("sink pause lines");
    create(&cluster, MANAGER, "third");
    cluster.ok("sink resume lines");
    cluster.until("the third", || lines().iter().filter_map(config).any(|(name, _)| name == "third"));
    cluster.ok("sink rm lines");
    cluster.swarmctl("sink inspect lines").refused(3, "lines");
}

#[test]
fn a_receiver_whose_certificate_is_not_trusted_gets_nothing_and_one_that_is_gets_all() {
    let ((trusted, config), (other, _)) = (authority(), authority());
    let receiver = Receiver::start_with(&["HTTP/1.1 204 No Content\r\n\r\n"], Some(config));
    let mut cluster = Cluster::start(Executor::Process, &[]);
    let roots = cluster.path("roots.pem");
    std::fs::write(&roots, other).expect("written");
    assert_eq!(cluster.end(MANAGER), Some(0));
    cluster.resume_with(MANAGER, &["--sink-ca", &path(&roots)]);
    cluster.await_manager();
    cluster.ok(&format!("sink create siem --webhook {} --kind config_created", receiver.url));
    create(&cluster, MANAGER, "first");
    let reason = || {
        let sink = cluster.list("sink inspect siem").remove(0);
        sink["failure"]["reason"].as_str().map(str::to_owned)
    };
    cluster.until("the reason", || reason().is_some_and(|why| why.contains("certificate")));
    assert!(receiver.configs().is_empty());
    // The file is read for each request, so changing the CA needs no restart.
    std::fs::write(&roots, trusted).expect("written");
    cluster.until("the config", || receiver.configs().iter().any(|(name, _)| name == "first"));
    cluster.until("the progress", || reason().is_none());
}

#[test]
fn a_sink_gets_what_is_about_its_object_without_what_is_left_out() {
    let receiver = Receiver::start(&["HTTP/1.1 204 No Content\r\n\r\n"]);
    let cluster = Cluster::start(Executor::Process, &[]);
    cluster.create("web", "--replicas 0 --env PASSWORD=hunter2");
    cluster.create("other", "--replicas 0");
    cluster.ok(&format!("sink create siem --webhook {} --object web --redact env --from 1", receiver.url));
    cluster.ok("service rm other");
    cluster.ok("service rm web");
    let kinds = || -> Vec<String> {
        let received = receiver.received.lock().expect("whole");
        let events = received.iter().flat_map(|(_, events)| events);
        events.map(|event| event["type"].as_str().expect("a type").replace("swarmlog.v1.", "")).collect()
    };
    cluster.until("the removal", || kinds().contains(&"service_removed".to_owned()));
    assert_eq!(kinds(), ["service_created", "service_removed"]);
    let received = receiver.received.lock().expect("whole");
    let text = format!("{received:?}");
    assert!(text.contains("PASSWORD=<redacted>") && !text.contains("hunter2"), "{text}");
}
