//! Tests which clients get a place and a turn, from the socket's perspective.

use super::super::admission::Bounds;
use super::super::handshake_limiter::Rates;
use super::super::testing::{KnownMembers, identity, subject, wall_clock};
use super::super::{Authority, Connector, JoinToken, NODE_EXPIRY_DEFAULT};
use super::*;
use crate::bucket::Rate;
use events::Role;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::Service;

type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;

/// A listener with one place per class, and two connectors: one with the certificate of a node, one without.
async fn listener() -> (TlsListener, SocketAddr, Connector, Connector) {
    let authority = Authority::generate(wall_clock()).expect("an authority");
    let shown = identity(&authority, subject(1, Role::Manager), wall_clock());
    let credentials = Arc::new(Credentials::new(shown).expect("credentials"));
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = tcp.local_addr().expect("an address");
    let one = Bounds { total: 1, each: 1 };
    let limits = Limits { silent: one, handshaking: one, anonymous: one, members: one, operators: 1 };
    let brief = Duration::from_millis(500);
    let deadlines = Deadlines { hello: brief, handshake: brief * 2, anonymous: Duration::from_secs(30) };
    let joiner = Connector::joiner(authority.root()).expect("a connector");
    let member = Connector::member(Arc::clone(&credentials));
    let mut listener = TlsListener::new(tcp, credentials, limits, KnownMembers::everybody(), Arc::default());
    listener.deadlines = deadlines;
    (listener, address, member, joiner)
}

/// A connection that has sent the HTTP/2 preface.
async fn speaking(mut connector: Connector, address: SocketAddr) -> ClientStream {
    let mut stream = connector.call(uri(address)).await.expect("a connection").into_inner();
    stream.write_all(HTTP2_PREFACE).await.expect("written");
    stream
}

fn uri(address: SocketAddr) -> http::Uri {
    format!("http://{address}").parse().expect("an address")
}

#[tokio::test]
async fn a_silent_connection_loses_its_place() {
    let (mut listener, address, member, _) = listener().await;
    let mut silent = TcpStream::connect(address).await.expect("a connection");
    let (_speaking, accepted) = tokio::join!(speaking(member, address), listener.next());
    assert_eq!(silent.read(&mut [0; 1]).await.expect("an end"), 0, "the place was needed");
    assert!(matches!(accepted.caller.peer, Peer::Node { subject: known, .. } if known == subject(1, Role::Manager)));
    let counts = Arc::clone(&listener.counts);
    // Open, refused, and replaced.
    for (class, expected) in [(ConnectionClass::Silent, [0, 0, 1]), (ConnectionClass::Member, [1, 0, 0])] {
        assert_eq!(counts.read(class), expected, "{class:?}");
    }
    drop(accepted);
    assert_eq!(counts.read(ConnectionClass::Member), [0; 3], "it is over");
}

#[tokio::test]
async fn a_silent_connection_ends_although_nobody_needs_its_place() {
    let (mut listener, address, ..) = listener().await;
    assert_eq!((DEADLINES.hello, DEADLINES.anonymous), (Duration::from_secs(3), Duration::from_secs(30)));
    let mut silent = TcpStream::connect(address).await.expect("a connection");
    let mut byte = [0; 1];
    tokio::select! {
        ended = silent.read(&mut byte) => assert_eq!(ended.expect("an end"), 0),
        _ = listener.next() => panic!("it has said nothing"),
    }
}

#[tokio::test]
async fn a_connection_in_use_ends_when_its_place_is_needed() {
    let (mut listener, address, member, joiner) = listener().await;
    for connector in [member, joiner] {
        let (_first, mut replaced) = tokio::join!(speaking(connector.clone(), address), listener.next());
        let (_second, mut kept) = tokio::join!(speaking(connector, address), listener.next());
        let mut heard = Vec::new();
        replaced.read_to_end(&mut heard).await.expect("an end");
        // Data that was read before the end was received completely.
        assert!(heard.is_empty());
        let refused = replaced.write(b"late").await.expect_err("it is over");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(kept.read(&mut [0; 64]).await.expect("the preface"), HTTP2_PREFACE.len());
    }
}

#[tokio::test]
async fn a_connection_without_a_certificate_has_an_end() {
    let (mut listener, address, _, joiner) = listener().await;
    listener.deadlines.anonymous = Duration::from_millis(50);
    let (_silent, mut accepted) = tokio::join!(speaking(joiner, address), listener.next());
    assert_eq!(accepted.read(&mut [0; 64]).await.expect("the preface"), HTTP2_PREFACE.len());
    assert_eq!(accepted.read(&mut [0; 64]).await.expect("an end"), 0);
}

#[tokio::test]
async fn a_connection_of_a_node_that_is_no_member_has_an_end() {
    let (mut listener, address, stranger, _) = listener().await;
    listener.members = KnownMembers::but(subject(1, Role::Manager).node);
    listener.deadlines.anonymous = Duration::from_millis(50);
    let (_silent, mut accepted) = tokio::join!(speaking(stranger, address), listener.next());
    assert!(matches!(accepted.caller.peer, Peer::Node { .. }), "it learns that it was removed");
    assert_eq!(accepted.read(&mut [0; 64]).await.expect("the preface"), HTTP2_PREFACE.len());
    assert_eq!(accepted.read(&mut [0; 64]).await.expect("an end"), 0);
}

#[tokio::test]
async fn an_idle_connection_ends_when_its_node_is_removed() {
    let (mut listener, address, member, _) = listener().await;
    let (members, node) = (KnownMembers::everybody(), subject(1, Role::Manager).node);
    listener.members = Arc::clone(&members) as Arc<dyn Members>;
    let (mut kept, mut accepted) = tokio::join!(speaking(member, address), listener.next());
    assert_eq!(accepted.read(&mut [0; 64]).await.expect("the preface"), HTTP2_PREFACE.len());
    let mut heard = [0; 64];
    tokio::select! {
        biased;
        ended = accepted.read(&mut heard) => panic!("it has a place: {ended:?}"),
        // A change that does not affect its membership.
        () = async { members.notify() } => {}
    }
    kept.write_all(b"more").await.expect("written");
    assert_eq!(accepted.read(&mut heard).await.expect("what it said"), 4);
    tokio::join!(async { assert_eq!(accepted.read(&mut heard).await.expect("an end"), 0) }, async {
        members.remove(node)
    });
    let refused = accepted.write(b"late").await.expect_err("it is over");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn a_handshake_waits_for_its_turn_and_is_refused_when_that_would_be_too_late() {
    let (mut listener, address, _, joiner) = listener().await;
    let four = Bounds { total: 4, each: 4 };
    let limits = Limits { silent: four, handshaking: four, anonymous: four, members: four, operators: 1 };
    let rate = Rate { capacity: 1, interval: Duration::from_millis(600) };
    let rates = Rates {
        source: rate,
        node: rate,
        unauthenticated: rate,
        joiners: rate,
        members: rate,
        wait_max: Duration::from_secs(1),
        members_wait_max: Duration::from_secs(1),
    };
    listener.places = Places::new(limits, Arc::clone(&listener.counts));
    listener.limiter = Arc::new(Mutex::new(HandshakeLimiter::new(rates)));
    let started = Instant::now();
    let callers = (0..3).map(|_| {
        let mut connector = joiner.clone();
        async move { connector.call(uri(address)).await.is_ok() }
    });
    tokio::select! {
        let_in = join_all(callers) => assert_eq!(let_in.iter().filter(|is| **is).count(), 2, "{let_in:?}"),
        _ = listener.next() => panic!("nothing was asked"),
    }
    assert!(started.elapsed() >= rate.interval, "the second had to wait");
    assert_eq!(listener.counts.read(ConnectionClass::Handshake)[1], 1, "one was refused");
}

#[tokio::test]
async fn a_node_that_waits_begins_once_the_one_before_it_is_done() {
    let (mut listener, address, member, _) = listener().await;
    let two = Bounds { total: 2, each: 2 };
    let limits = Limits { silent: two, handshaking: two, anonymous: two, members: two, operators: 1 };
    listener.places = Places::new(limits, Arc::clone(&listener.counts));
    let often = Rate { capacity: 8, interval: Duration::from_secs(60) };
    let one = Rate { capacity: 1, ..often };
    let rates = Rates { node: often, members: one, members_wait_max: one.interval * 2, ..RATES };
    listener.limiter = Arc::new(Mutex::new(HandshakeLimiter::new(rates)));
    let clients = async { tokio::join!(speaking(member.clone(), address), speaking(member.clone(), address)) };
    let accepted = async { (listener.next().await, listener.next().await) };
    let both = tokio::time::timeout(one.interval / 2, async { tokio::join!(clients, accepted) }).await;
    assert!(both.is_ok(), "the second waited for a token that had been given back");
}

/// As after a manager's process was suspended: clients that connected meanwhile have disconnected, and connect again.
#[tokio::test]
async fn attempts_that_were_given_up_before_they_were_accepted_take_no_turn() {
    let (mut listener, address, member, _) = listener().await;
    let many = Bounds { total: 16, each: 16 };
    let limits = Limits { silent: many, handshaking: many, anonymous: many, members: many, operators: 1 };
    listener.places = Places::new(limits, Arc::clone(&listener.counts));
    let node = Rate { capacity: 1, interval: Duration::from_secs(60) };
    listener.limiter = Arc::new(Mutex::new(HandshakeLimiter::new(Rates { node, ..RATES })));
    let given_up = (0..10).map(|_| {
        let mut connector = member.clone();
        async move { tokio::time::timeout(Duration::from_millis(200), connector.call(uri(address))).await.is_err() }
    });
    assert!(join_all(given_up).await.into_iter().all(|given_up| given_up), "nobody accepts them");
    let both = async { tokio::join!(speaking(member, address), listener.next()) };
    assert!(tokio::time::timeout(node.interval / 2, both).await.is_ok(), "they took its turn");
}

#[tokio::test]
async fn a_stranger_pays_for_a_handshake_that_is_done_as_for_one() {
    let (mut listener, address, _, stranger) = listener().await;
    let four = Bounds { total: 4, each: 4 };
    let limits = Limits { silent: four, handshaking: four, anonymous: four, members: four, operators: 1 };
    listener.places = Places::new(limits, Arc::clone(&listener.counts));
    let source = Rate { capacity: 3, interval: Duration::from_secs(60) };
    listener.limiter = Arc::new(Mutex::new(HandshakeLimiter::new(Rates { source, ..RATES })));
    for _ in 0..source.capacity {
        let both = async { tokio::join!(speaking(stranger.clone(), address), listener.next()) };
        assert!(tokio::time::timeout(source.interval / 2, both).await.is_ok(), "each takes one of its turns");
    }
}

/// Unauthenticated clients at the same address have used up their turns for a minute, and all places for handshakes from there.
#[tokio::test]
async fn whoever_introduces_itself_waits_for_no_stranger_at_its_address() {
    let (mut listener, address, member, stranger) = listener().await;
    let (few, one) = (Bounds { total: 8, each: 4 }, Bounds { total: 3, each: 1 });
    let limits = Limits { silent: few, handshaking: one, anonymous: few, members: few, operators: 1 };
    listener.places = Places::new(limits, Arc::clone(&listener.counts));
    let once = Rate { capacity: 1, interval: Duration::from_secs(60) };
    listener.limiter = Arc::new(Mutex::new(HandshakeLimiter::new(Rates { unauthenticated: once, ..RATES })));
    let other = Authority::generate(wall_clock()).expect("an authority");
    let token = JoinToken::generate(other.root()).expect("a token");
    let _first = tokio::join!(speaking(stranger.clone(), address), listener.next());
    let refused = async { stranger.clone().call(uri(address)).await.is_err() };
    tokio::select! {
        refused = refused => assert!(refused, "strangers have no turns left"),
        _ = listener.next() => panic!("strangers have no turns left"),
    }
    // One more handshake is in progress and will not complete.
    let stalled =
        listener.places.enter(Class::Handshaking(Applicant::Unauthenticated(Source::of(address.ip()))), address);
    for introduced in [stranger.introduced_by(&token), member] {
        let (_client, mut accepted) = tokio::join!(speaking(introduced, address), listener.next());
        assert_eq!(accepted.read(&mut [0; 64]).await.expect("the preface"), HTTP2_PREFACE.len());
    }
    drop(stalled);
}

#[tokio::test]
async fn who_is_silent_after_its_handshake_loses_its_place_to_who_speaks() {
    let (mut listener, address, member, joiner) = listener().await;
    listener.deadlines.handshake = Duration::from_secs(60);
    for connector in [member, joiner] {
        let mut silent = {
            let mut connector = connector.clone();
            let shaken = async move { connector.call(uri(address)).await.expect("a connection").into_inner() };
            tokio::select! {
                shaken = shaken => shaken,
                _ = listener.next() => panic!("it has asked nothing"),
            }
        };
        let (_speaking, accepted) = tokio::join!(speaking(connector, address), listener.next());
        assert!(matches!(silent.read(&mut [0; 1]).await, Ok(0) | Err(_)), "its place was needed");
        drop(accepted);
    }
}

#[tokio::test]
async fn a_connection_ends_with_the_certificate_that_opened_it() {
    let authority = Authority::generate(wall_clock()).expect("an authority");
    let shown = identity(&authority, subject(1, Role::Manager), wall_clock());
    // Issued so long ago that it expires within four seconds.
    let issued = wall_clock() - (NODE_EXPIRY_DEFAULT - Duration::from_secs(4));
    let short = identity(&authority, subject(2, Role::Worker), issued);
    let expires = short.not_after();
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = tcp.local_addr().expect("an address");
    let one = Bounds { total: 1, each: 1 };
    let limits = Limits { silent: one, handshaking: one, anonymous: one, members: one, operators: 1 };
    let credentials = Arc::new(Credentials::new(shown).expect("credentials"));
    let mut listener = TlsListener::new(tcp, credentials, limits, KnownMembers::everybody(), Arc::default());
    let member = Connector::member(Arc::new(Credentials::new(short).expect("credentials")));
    let (_speaking, mut accepted) = tokio::join!(speaking(member, address), listener.next());
    assert_eq!(accepted.read(&mut [0; 64]).await.expect("the preface"), HTTP2_PREFACE.len(), "it may speak");
    assert_eq!(accepted.read(&mut [0; 64]).await.expect("an end"), 0);
    assert!(wall_clock() > expires);
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_none() {
    let (mut listener, address, mut connector, _) = listener().await;
    let silent = async {
        let mut stream = connector.call(uri(address)).await.expect("a connection").into_inner();
        // An incomplete preface is not enough.
        stream.write_all(&HTTP2_PREFACE[..3]).await.expect("written");
        stream.read(&mut [0; 1]).await
    };
    tokio::select! {
        // Any way of ending is accepted.
        ended = silent => assert!(!matches!(ended, Ok(1..)), "nothing was said"),
        _ = listener.next() => panic!("it has asked nothing"),
    }
}
