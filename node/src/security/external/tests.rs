//! Tests with signing servers on loopback, correct and incorrect ones.

use std::time::Duration as StdDuration;

use events::{Id, OperatorId, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::super::testing::{DAY, NOW, identity, subject, wall_clock};
use super::*;

fn authority() -> Authority {
    Authority::generate(NOW).expect("an authority")
}

fn request() -> (CertificateRequest, RequestedKey) {
    let request = CertificateRequest::new().expect("a request");
    let key = super::super::authority::judge(authority().root(), &request.csr_pem, NOW).expect("a sound one");
    (request, key)
}

/// What a server signs, and how the manager reports it.
#[test]
fn only_what_was_asked_for_is_accepted() {
    let (root, other) = (authority(), authority());
    let (asked, key) = request();
    let (stranger, _) = request();
    let worker = subject(1, Role::Worker);
    let elsewhere = Subject { cluster: events::ClusterId::from_bits(8), ..worker };
    let operator = Holder::Operator { operator: OperatorId::from_bits(1), cluster: worker.cluster };
    let sign = |by: &Authority, csr: &CertificateRequest, holder: Holder, expiry| {
        by.sign(&csr.csr_pem, holder, NOW, expiry).expect("signed").cert_pem
    };
    let judged = |cert_pem: &str, at: Timestamp| accept(root.root(), cert_pem, &key, worker.into(), at);
    let good = sign(&root, &asked, worker.into(), DAY);
    let issued = judged(&good, NOW).expect("what was asked for");
    assert_eq!((issued.cert_pem.as_str(), issued.not_after), (good.as_str(), NOW + DAY));
    let table = [
        (sign(&root, &stranger, worker.into(), DAY), "another key"),
        (sign(&root, &asked, subject(2, Role::Worker).into(), DAY), "another holder"),
        (sign(&root, &asked, subject(1, Role::Manager).into(), DAY), "another holder"),
        (sign(&root, &asked, elsewhere.into(), DAY), "another holder"),
        (sign(&root, &asked, operator, DAY), "another holder"),
        (sign(&other, &asked, worker.into(), DAY), "than that of the root"),
        (root.root().to_pem(), "another key"),
        (String::new(), "0 certificates"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), ""),
    ];
    for (cert_pem, why) in table {
        let refused = judged(&cert_pem, NOW).expect_err(why);
        assert!(refused.contains(why), "{why}: {refused}");
    }
    let late = judged(&good, NOW + DAY - NODE_EXPIRY_MIN / 2).expect_err("too late");
    assert!(late.contains("less than an hour"), "{late}");
    let early = judged(&good, NOW - DAY).expect_err("too early");
    assert!(early.contains("than that of the root"), "{early}");
}

#[test]
fn a_signed_root_is_accepted_if_it_carries_the_trust_over() {
    let (present, next, other) = (authority(), authority(), authority());
    let cross = |by: &Authority, of: &Authority| by.cross_sign(of.root(), NOW).expect("signed");
    let judged = |cert_pem: &str, at: Timestamp| accept_root(present.root(), cert_pem, &next, at);
    let good = cross(&present, &next);
    assert_eq!(judged(&good, NOW).as_deref(), Ok(good.as_str()));
    let (asked, _) = request();
    let node = present.sign(&asked.csr_pem, subject(1, Role::Manager), NOW, DAY).expect("signed").cert_pem;
    let table = [
        (cross(&other, &next), "is not trusted"),
        (cross(&present, &other), "is not trusted"),
        (next.root().to_pem(), "is not trusted"),
        (node, "no certificate of an authority"),
    ];
    for (cert_pem, why) in table {
        let refused = judged(&cert_pem, NOW).expect_err(why);
        assert!(refused.contains(why), "{why}: {refused}");
    }
    let late = judged(&good, present.root().not_after() - DAY).expect_err("too late");
    assert!(late.contains("less than 30 days"), "{late}");
}

/// A server that accepts calls and answers each with these bytes, or never.
async fn server(answer: Option<&'static [u8]>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}/sign", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            match answer {
                None => silent.push(stream),
                Some(answer) => {
                    let mut hello = [0; 64];
                    let _ = stream.read(&mut hello).await;
                    let _ = stream.write_all(answer).await;
                }
            }
        }
    });
    url
}

/// More concurrent callers than allowed; returns their errors and how long the last of them waits.
async fn failed(urls: Vec<String>) -> (Vec<ExternalError>, StdDuration) {
    let root = Authority::generate(wall_clock()).expect("an authority");
    let credentials = Credentials::new(identity(&root, subject(1, Role::Manager), wall_clock())).expect("credentials");
    let client = ExternalClient::new(Arc::new(credentials));
    let servers = ExternalAuthority { root: root.root().clone(), urls };
    let (asked, key) = request();
    let began = Instant::now();
    let call = || servers.sign(&client, &asked.csr_pem, &key, subject(2, Role::Worker).into(), wall_clock());
    let calls = (0..CALLS_MAX * 4).map(|_| call());
    let answers = futures_util::future::join_all(calls).await;
    (answers.into_iter().map(|answer| answer.expect_err("nothing signed")).collect(), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn silent_servers_cost_a_bounded_time_and_a_bounded_number_of_calls() {
    let urls = vec![server(None).await, server(None).await];
    let (failures, took) = failed(urls).await;
    assert!(took <= SIGN_TIMEOUT + PAUSE, "{took:?}");
    let asked = failures.iter().filter(|failure| matches!(failure, ExternalError::Failed { .. })).count();
    assert!((CALLS_MAX..=CALLS_MAX * 2).contains(&asked), "{asked} calls ended with their own failure");
    assert!(failures.contains(&ExternalError::Late));
}

#[tokio::test]
async fn whoever_speaks_no_tls_or_does_not_listen_is_named() {
    let (failures, _) = failed(vec![server(Some(b"HTTP/1.1 200 OK\r\n\r\n")).await]).await;
    assert!(failures.iter().all(|failure| failure.to_string().contains("it cannot be reached")), "{failures:?}");
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let (failures, _) = failed(vec![format!("https://{free}/sign")]).await;
    assert!(failures.iter().all(|failure| failure.to_string().contains("refused")), "{failures:?}");
}
