//! Receivers, well-behaved and otherwise.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers one request with these bytes, then closes; returns the address and the request.
async fn receiver(answer: &'static [u8], stays: bool) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/in?x=1", listener.local_addr().expect("an address"));
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut asked = Vec::new();
        while !asked.ends_with(b"]") {
            assert_ne!(stream.read_buf(&mut asked).await.expect("read"), 0, "the request ends early");
        }
        stream.write_all(answer).await.expect("written");
        if stays {
            // A response without an end.
            while stream.write_all(&[b'x'; 4_096]).await.is_ok() {}
        }
        String::from_utf8(asked).expect("text")
    });
    (address, served)
}

#[tokio::test]
async fn only_the_status_of_an_answer_counts() {
    let table: [(&[u8], bool, &str); 7] = [
        (b"HTTP/1.1 204 No Content\r\n\r\n", false, ""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n", true, ""),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", true, ""),
        (b"HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1/\r\n\r\n", false, "the answer is 301"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", false, "the answer is 503"),
        (b"220 mail.example ESMTP\r\n", false, "the connection broke off"),
        (b"HTTP/1.1 200 OK\r\nx: ", true, "the connection broke off"),
    ];
    for (bytes, stays, expected) in table {
        let (address, served) = receiver(bytes, stays).await;
        let events = ["{\"a\":1}".to_owned(), "{}".to_owned()];
        let posted = post(&address, None, Some(b"a key of 16 byte"), &events).await;
        match expected {
            "" => assert_eq!(posted, Ok(())),
            why => assert!(posted.as_ref().is_err_and(|error| error.starts_with(why)), "{posted:?}"),
        }
        let asked = served.await.expect("served");
        let (head, body) = asked.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("POST /in?x=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("{SIGNATURE}: {}", signature(b"a key of 16 byte", body.as_bytes()))), "{head}");
        assert!(head.contains(BATCH_TYPE) && !head.contains("a key of"), "{head}");
        assert_eq!(body, "[{\"a\":1},{}]");
    }
}

#[tokio::test(start_paused = true)]
async fn who_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/", listener.local_addr().expect("an address"));
    let posted = post(&address, None, None, &["{}".to_owned()]).await;
    assert_eq!(posted, Err("no answer within 30 s".to_owned()));
}

#[tokio::test]
async fn what_cannot_be_reached_or_trusted_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let (empty, missing) = (dir.path().join("empty"), dir.path().join("missing"));
    std::fs::write(&empty, "").expect("written");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    for (address, roots, expected) in [
        ("http://127.0.0.1:1/".to_owned(), None, "cannot connect"),
        (format!("https://127.0.0.1:{port}/"), Some(&empty), "has no certificate of an authority"),
        (format!("https://127.0.0.1:{port}/"), Some(&missing), "cannot read"),
    ] {
        let posted = post(&address, roots.map(PathBuf::as_path), None, &["{}".to_owned()]).await;
        assert!(posted.as_ref().is_err_and(|error| error.contains(expected)), "{address}: {posted:?}");
    }
}

#[test]
fn a_signature_is_the_keyed_digest_of_the_body() {
    // RFC 4231, test case 2.
    let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(signature(b"Jefe", b"what do ya want for nothing?"), expected);
}
