//! Accepting connections: over TLS from other machines, over a unix socket from this one, as streams for tonic's
//! `serve_with_incoming`. Each request finds the [`Peer`] of its connection in its extensions.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use events::Duration;
use futures_util::FutureExt;
use futures_util::stream::{self, Stream};
use rustls::server::Acceptor;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::admission::{Applicant, Class, Limits, Source};
use super::caller::Caller;
use super::connection::{Connection, Members, Place, Until};
use super::expiry::Expiry;
use super::lease::{Lease, Places};
use super::pace::{Begun, Pace, RATES};
use super::subject::Subject;
use super::{Credentials, Introduction, Peer, failures};
use crate::metrics::{ConnectionClass, Connections};

/// How long the other end of a connection may take to show who it is.
#[derive(Debug, Clone, Copy)]
struct Deadlines {
    /// Until its first message of TLS has come: every client sends it at once.
    hello: Duration,
    /// From then until the handshake is done and HTTP/2 is spoken.
    handshake: Duration,
    /// For the one call of a connection without a certificate.
    anonymous: Duration,
}

const DEADLINES: Deadlines =
    Deadlines { hello: Duration::from_secs(3), handshake: Duration::from_secs(10), anonymous: Duration::from_secs(30) };

/// The pause after an accept that failed for want of something (file descriptors, memory), which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every client of HTTP/2 says first (RFC 9113, 3.4). From then on the server asks for signs of life by itself.
const GREETING: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The TLS connections that come in, each with the credentials shown at that moment, at most as many as the limits say.
/// A certificate of a node that is no member is worth as much as none. Never ends and never fails: a handshake that does
/// not work out is logged and forgotten.
pub fn incoming(
    tcp: TcpListener,
    credentials: Arc<Credentials>,
    limits: Limits,
    members: Arc<dyn Members>,
    counts: Arc<Connections>,
) -> impl Stream<Item = io::Result<Connection<TlsStream<TcpStream>>>> + Send {
    let listener = TlsListener::new(tcp, credentials, limits, members, counts);
    stream::unfold(listener, |mut listener| async move { Some((Ok(listener.next().await), listener)) })
}

/// The connections to a unix socket, at most as many as the limits say; more wait in the system's queue. Whoever the
/// socket's mode lets in, and is root or our own user, is a local operator.
pub fn incoming_local(
    unix: UnixListener,
    limits: Limits,
    counts: Arc<Connections>,
) -> impl Stream<Item = io::Result<Connection<UnixStream>>> + Send {
    let places = Arc::new(Semaphore::new(limits.operators));
    stream::unfold((unix, places, counts), |(unix, places, counts)| async move {
        loop {
            // Nobody closes the semaphore.
            let permit = Arc::clone(&places).acquire_owned().await.ok()?;
            match unix.accept().await {
                Ok((stream, _)) => match operator(stream, permit, &counts) {
                    Ok(connection) => return Some((Ok(connection), (unix, places, counts))),
                    Err(error) => {
                        counts.refuse(ConnectionClass::Operator);
                        failures::note(&"the control socket", &error);
                    }
                },
                Err(error) => accept_failed(&error).await,
            }
        }
    })
}

fn operator(
    stream: UnixStream,
    permit: OwnedSemaphorePermit,
    counts: &Arc<Connections>,
) -> io::Result<Connection<UnixStream>> {
    // Nothing ends the connection of an operator.
    let caller = Caller::free(Peer::operator(&stream)?, CancellationToken::new());
    let place = Place::Permitted { _permit: permit, _open: counts.open(ConnectionClass::Operator) };
    Ok(Connection { caller, stream, read_ahead: &[], place })
}

type Handshake = Result<Connection<TlsStream<TcpStream>>, (SocketAddr, io::Error)>;

struct TlsListener {
    tcp: TcpListener,
    credentials: Arc<Credentials>,
    places: Places,
    pace: Arc<Mutex<Pace>>,
    deadlines: Deadlines,
    members: Arc<dyn Members>,
    counts: Arc<Connections>,
    /// As many as have a place; ends with the listener.
    handshakes: JoinSet<Handshake>,
}

impl TlsListener {
    fn new(
        tcp: TcpListener,
        credentials: Arc<Credentials>,
        limits: Limits,
        members: Arc<dyn Members>,
        counts: Arc<Connections>,
    ) -> Self {
        let pace = Arc::new(Mutex::new(Pace::new(RATES)));
        let (places, handshakes) = (Places::new(limits, Arc::clone(&counts)), JoinSet::new());
        Self { tcp, credentials, places, pace, deadlines: DEADLINES, members, counts, handshakes }
    }

    async fn next(&mut self) -> Connection<TlsStream<TcpStream>> {
        loop {
            tokio::select! {
                Some(finished) = self.handshakes.join_next() => {
                    if let Some(connection) = accepted(finished) {
                        return connection;
                    }
                }
                arrived = self.tcp.accept() => match arrived {
                    Ok((stream, address)) => {
                        self.begin(stream, address);
                        // Whoever came before goes on first: so a crowd of honest callers is accepted no faster than its
                        // handshakes are done, and none of them loses its place to the next.
                        tokio::task::yield_now().await;
                    }
                    Err(error) => accept_failed(&error).await,
                },
            }
        }
    }

    fn begin(&mut self, stream: TcpStream, address: SocketAddr) {
        let Some(lease) = self.places.enter(Class::Silent(Source::of(address.ip())), address) else { return };
        let handshake = Shake {
            credentials: Arc::clone(&self.credentials),
            pace: Arc::clone(&self.pace),
            deadlines: self.deadlines,
            members: Arc::clone(&self.members),
            counts: Arc::clone(&self.counts),
            address,
        };
        self.handshakes.spawn(async move { handshake.run(stream, lease).await.map_err(|error| (address, error)) });
    }
}

fn accepted(finished: Result<Handshake, JoinError>) -> Option<Connection<TlsStream<TcpStream>>> {
    match finished {
        Ok(Ok(connection)) => Some(connection),
        // What rustls refuses is a certificate, or no TLS at all; the rest is a connection that was lost.
        Ok(Err((address, error))) if error.kind() == io::ErrorKind::InvalidData => {
            failures::note(&address, &error);
            None
        }
        Ok(Err((address, error))) => {
            debug!(%address, %error, "a TLS handshake failed");
            None
        }
        Err(error) => {
            warn!(%error, "a TLS handshake panicked");
            None
        }
    }
}

/// One handshake.
struct Shake {
    credentials: Arc<Credentials>,
    pace: Arc<Mutex<Pace>>,
    deadlines: Deadlines,
    members: Arc<dyn Members>,
    counts: Arc<Connections>,
    address: SocketAddr,
}

impl Shake {
    /// The connection, once its other end has shown who it is and speaks HTTP/2.
    async fn run(self, stream: TcpStream, lease: Lease) -> io::Result<Connection<TlsStream<TcpStream>>> {
        let hello = unless_ended(&lease, self.deadlines.hello, hello(stream)).await?;
        let applicant = self.applicant(Introduction::within(&hello.client_hello()));
        let lease = lease.promote(Class::Shaking(applicant), self.address).ok_or_else(too_many)?;
        let begun = self.pace().begin(applicant, Instant::now()).ok_or_else(|| {
            self.counts.refuse(ConnectionClass::Handshake);
            too_fast()
        })?;
        let attempt = Attempt { pace: &self.pace, begun: Some(begun) };
        self.await_turn(&lease, &hello.io, begun.wait).await?;
        let (mut stream, peer, expiry) = unless_ended(&lease, self.deadlines.handshake, self.shake(hello)).await?;
        let (class, until) = self.classify(&peer, applicant, expiry);
        attempt.done(class);
        // The place of a handshake is kept until it is done: whoever says nothing after it holds a place that others may take.
        let lease = lease.promote(class, self.address).ok_or_else(too_many)?;
        unless_ended(&lease, self.deadlines.handshake, greeted(&mut stream)).await?;
        let caller = match class {
            Class::Member(_) => Caller::free(peer, lease.end()),
            Class::Anonymous(_) | Class::Silent(_) | Class::Shaking(_) => Caller::once(peer, lease.end()),
        };
        Ok(Connection { stream, caller, read_ahead: GREETING, place: Place::leased(lease, until) })
    }

    /// Waits until one more handshake may begin. Whoever has gone meanwhile costs nothing more.
    async fn await_turn(&self, lease: &Lease, stream: &TcpStream, wait: Duration) -> io::Result<()> {
        if !wait.is_zero() {
            let turn = async {
                tokio::time::sleep(wait).await;
                Ok(())
            };
            unless_ended(lease, wait + self.deadlines.handshake, turn).await?;
        }
        match stream.peek(&mut [0; 1]).now_or_never() {
            Some(Ok(0)) => Err(io::ErrorKind::ConnectionAborted.into()),
            Some(Err(error)) => Err(error),
            // It waits for an answer, as it should, or has said more already.
            None | Some(Ok(_)) => Ok(()),
        }
    }

    /// Whom the other end is taken for until it has proven more.
    fn applicant(&self, introduction: Option<Introduction>) -> Applicant {
        let source = Source::of(self.address.ip());
        match introduction.filter(|introduction| self.members.knows(introduction)) {
            Some(Introduction::Node { node, .. }) => Applicant::Node(node),
            Some(Introduction::Joiner { .. }) => Applicant::Joiner(source),
            None => Applicant::Stranger(source),
        }
    }

    /// What the other end proved to be, and how long its connection lasts.
    fn classify(&self, peer: &Peer, applicant: Applicant, expiry: Option<Expiry>) -> (Class, Until) {
        if let Peer::Node { subject, .. } = peer {
            let node = subject.node;
            // Followed first, so that no change after the look is missed.
            let (members, changed) = (Arc::clone(&self.members), self.members.changes(node));
            if members.is_member(node) {
                return (Class::Member(node), Until::Membership { members, node, changed, expiry });
            }
        }
        let applicant = match applicant {
            // It showed no certificate, or that of another.
            Applicant::Node(_) => Applicant::Stranger(Source::of(self.address.ip())),
            Applicant::Joiner(_) | Applicant::Stranger(_) => applicant,
        };
        (Class::Anonymous(applicant), Until::Deadline(self.deadlines.anonymous))
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        locked(&self.pace)
    }

    async fn shake(
        &self,
        hello: StartHandshake<TcpStream>,
    ) -> io::Result<(TlsStream<TcpStream>, Peer, Option<Expiry>)> {
        let stream = hello.into_stream(self.credentials.server()).await?;
        let address = self.address;
        let (peer, expiry) = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            Some(certificate) => {
                let subject = Subject::of(certificate).map_err(io::Error::other)?;
                (Peer::Node { subject, address }, Some(Expiry::of(certificate)?))
            }
            None => (Peer::Anonymous { address }, None),
        };
        Ok((stream, peer, expiry))
    }
}

fn locked(pace: &Mutex<Pace>) -> MutexGuard<'_, Pace> {
    // No code panics while it holds the lock, so a poisoned one still holds whole data.
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handshake that has begun. However it ends before it is done, it came to nothing.
struct Attempt<'a> {
    pace: &'a Mutex<Pace>,
    begun: Option<Begun>,
}

impl Attempt<'_> {
    /// The handshake is done.
    fn done(mut self, class: Class) {
        if let (Some(begun), Class::Member(_)) = (self.begun.take(), class) {
            locked(self.pace).proven(begun);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            locked(self.pace).failed(begun, Instant::now());
        }
    }
}

/// The beginning of HTTP/2. Whoever has nothing to ask gets no connection, which would have no end of its own.
async fn greeted(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting).await?;
    if greeting == *GREETING {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak HTTP/2"))
}

/// The first message of TLS.
async fn hello(stream: TcpStream) -> io::Result<StartHandshake<TcpStream>> {
    stream.set_nodelay(true)?;
    LazyConfigAcceptor::new(Acceptor::default(), stream).await
}

/// A step of a handshake, if it is done in time and before the place of its connection is lost.
async fn unless_ended<T>(lease: &Lease, within: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the client took too long over its handshake");
    tokio::select! {
        done = tokio::time::timeout(within, step) => done.map_err(late)?,
        () = lease.ended() => Err(io::Error::other("its place was needed for another connection")),
    }
}

fn too_fast() -> io::Error {
    io::Error::other("too many TLS handshakes were started: this one is refused")
}

fn too_many() -> io::Error {
    io::Error::other("as many connections as there may be are open")
}

/// Pauses unless only the one connection was lost.
async fn accept_failed(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected) {
        debug!(%error, "a connection was lost before it was accepted");
    } else {
        warn!(%error, "no connection can be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::admission::Bounds;
    use super::super::pace::Rates;
    use super::super::testing::{KnownMembers, identity, subject, wall_clock};
    use super::super::{Authority, Connector, JoinToken, NODE_EXPIRY_DEFAULT};
    use super::*;
    use crate::bucket::Rate;
    use events::Role;
    use futures_util::future::join_all;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tower::Service;

    type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;

    /// A listener with one place for each class, and ways to it: for the node whose certificate it shows, and for somebody
    /// without one.
    async fn listener() -> (TlsListener, SocketAddr, Connector, Connector) {
        let authority = Authority::generate(wall_clock()).expect("an authority");
        let shown = identity(&authority, subject(1, Role::Manager), wall_clock());
        let credentials = Arc::new(Credentials::new(shown).expect("credentials"));
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("an address");
        let one = Bounds { total: 1, each: 1 };
        let limits = Limits { silent: one, shaking: one, anonymous: one, members: one, operators: 1 };
        let brief = Duration::from_millis(500);
        let deadlines = Deadlines { hello: brief, handshake: brief * 2, anonymous: Duration::from_secs(30) };
        let joiner = Connector::joiner(authority.root()).expect("a connector");
        let member = Connector::member(Arc::clone(&credentials));
        let mut listener = TlsListener::new(tcp, credentials, limits, KnownMembers::everybody(), Arc::default());
        listener.deadlines = deadlines;
        (listener, address, member, joiner)
    }

    /// A connection that has begun to speak HTTP/2.
    async fn speaking(mut connector: Connector, address: SocketAddr) -> ClientStream {
        let mut stream = connector.call(uri(address)).await.expect("a connection").into_inner();
        stream.write_all(GREETING).await.expect("written");
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
        assert!(
            matches!(accepted.caller.peer, Peer::Node { subject: known, .. } if known == subject(1, Role::Manager))
        );
        let counts = Arc::clone(&listener.counts);
        // Open, refused, and replaced by another.
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
            // What was read before the end is part of what was heard.
            assert!(heard.is_empty());
            let refused = replaced.write(b"late").await.expect_err("it is over");
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionAborted);
            assert_eq!(kept.read(&mut [0; 64]).await.expect("the greeting"), GREETING.len());
        }
    }

    #[tokio::test]
    async fn a_connection_without_a_certificate_has_an_end() {
        let (mut listener, address, _, joiner) = listener().await;
        listener.deadlines.anonymous = Duration::from_millis(50);
        let (_silent, mut accepted) = tokio::join!(speaking(joiner, address), listener.next());
        assert_eq!(accepted.read(&mut [0; 64]).await.expect("the greeting"), GREETING.len());
        assert_eq!(accepted.read(&mut [0; 64]).await.expect("an end"), 0);
    }

    #[tokio::test]
    async fn a_connection_of_a_node_that_is_no_member_has_an_end() {
        let (mut listener, address, stranger, _) = listener().await;
        listener.members = KnownMembers::but(subject(1, Role::Manager).node);
        listener.deadlines.anonymous = Duration::from_millis(50);
        let (_silent, mut accepted) = tokio::join!(speaking(stranger, address), listener.next());
        assert!(matches!(accepted.caller.peer, Peer::Node { .. }), "it is told that it was removed");
        assert_eq!(accepted.read(&mut [0; 64]).await.expect("the greeting"), GREETING.len());
        assert_eq!(accepted.read(&mut [0; 64]).await.expect("an end"), 0);
    }

    #[tokio::test]
    async fn an_idle_connection_ends_when_its_node_is_removed() {
        let (mut listener, address, member, _) = listener().await;
        let (members, node) = (KnownMembers::everybody(), subject(1, Role::Manager).node);
        listener.members = Arc::clone(&members) as Arc<dyn Members>;
        let (mut kept, mut accepted) = tokio::join!(speaking(member, address), listener.next());
        assert_eq!(accepted.read(&mut [0; 64]).await.expect("the greeting"), GREETING.len());
        let mut heard = [0; 64];
        tokio::select! {
            biased;
            ended = accepted.read(&mut heard) => panic!("it has a place: {ended:?}"),
            // A change that leaves it a member.
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
        let limits = Limits { silent: four, shaking: four, anonymous: four, members: four, operators: 1 };
        let rate = Rate { capacity: 1, interval: Duration::from_millis(600) };
        let rates = Rates {
            source: rate,
            node: rate,
            strangers: rate,
            joiners: rate,
            members: rate,
            wait_max: Duration::from_secs(1),
        };
        listener.places = Places::new(limits, Arc::clone(&listener.counts));
        listener.pace = Arc::new(Mutex::new(Pace::new(rates)));
        let begun = Instant::now();
        let callers = (0..3).map(|_| {
            let mut connector = joiner.clone();
            async move { connector.call(uri(address)).await.is_ok() }
        });
        tokio::select! {
            let_in = join_all(callers) => assert_eq!(let_in.iter().filter(|is| **is).count(), 2, "{let_in:?}"),
            _ = listener.next() => panic!("nothing was asked"),
        }
        assert!(begun.elapsed() >= rate.interval, "the second had to wait");
        assert_eq!(listener.counts.read(ConnectionClass::Handshake)[1], 1, "one was refused");
    }

    /// Strangers who call from the same address have used up their turns for a minute, and all of the places of those who shake
    /// hands there.
    #[tokio::test]
    async fn whoever_introduces_itself_waits_for_no_stranger_at_its_address() {
        let (mut listener, address, member, stranger) = listener().await;
        let (few, one) = (Bounds { total: 8, each: 4 }, Bounds { total: 3, each: 1 });
        let limits = Limits { silent: few, shaking: one, anonymous: few, members: few, operators: 1 };
        listener.places = Places::new(limits, Arc::clone(&listener.counts));
        let once = Rate { capacity: 1, interval: Duration::from_secs(60) };
        listener.pace = Arc::new(Mutex::new(Pace::new(Rates { strangers: once, ..RATES })));
        let other = Authority::generate(wall_clock()).expect("an authority");
        let token = JoinToken::generate(other.root()).expect("a token");
        let _first = tokio::join!(speaking(stranger.clone(), address), listener.next());
        let refused = async { stranger.clone().call(uri(address)).await.is_err() };
        tokio::select! {
            refused = refused => assert!(refused, "strangers have no turns left"),
            _ = listener.next() => panic!("strangers have no turns left"),
        }
        // One more shakes hands, and will not be done.
        let stalled = listener.places.enter(Class::Shaking(Applicant::Stranger(Source::of(address.ip()))), address);
        for introduced in [stranger.introduced_by(&token), member] {
            let (_client, mut accepted) = tokio::join!(speaking(introduced, address), listener.next());
            assert_eq!(accepted.read(&mut [0; 64]).await.expect("the greeting"), GREETING.len());
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
        let limits = Limits { silent: one, shaking: one, anonymous: one, members: one, operators: 1 };
        let credentials = Arc::new(Credentials::new(shown).expect("credentials"));
        let mut listener = TlsListener::new(tcp, credentials, limits, KnownMembers::everybody(), Arc::default());
        let member = Connector::member(Arc::new(Credentials::new(short).expect("credentials")));
        let (_speaking, mut accepted) = tokio::join!(speaking(member, address), listener.next());
        assert_eq!(accepted.read(&mut [0; 64]).await.expect("the greeting"), GREETING.len(), "it may speak");
        assert_eq!(accepted.read(&mut [0; 64]).await.expect("an end"), 0);
        assert!(wall_clock() > expires);
    }

    #[tokio::test]
    async fn a_connection_that_asks_nothing_is_none() {
        let (mut listener, address, mut connector, _) = listener().await;
        let silent = async {
            let mut stream = connector.call(uri(address)).await.expect("a connection").into_inner();
            // A beginning is not enough.
            stream.write_all(&GREETING[..3]).await.expect("written");
            stream.read(&mut [0; 1]).await
        };
        tokio::select! {
            // However it ends: it ends.
            ended = silent => assert!(!matches!(ended, Ok(1..)), "nothing was said"),
            _ = listener.next() => panic!("it has asked nothing"),
        }
    }
}
