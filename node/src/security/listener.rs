//! Accepts connections: over TLS from other machines, over a unix socket from this one, as streams for tonic's
//! `serve_with_incoming`. Each request has the [`Peer`] of its connection in its extensions.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use events::{Duration, Id, NodeId};
use futures_util::stream::{self, Stream};
use rustix::io::Errno;
use rustix::net::RecvFlags;
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
use super::handshake_limiter::{HandshakeLimiter, RATES, Ticket};
use super::lease::{Lease, Places};
use super::subject::Holder;
use super::{Credentials, Introduction, Peer, failures};
use crate::metrics::{ConnectionClass, Connections};

/// Deadlines for the client to authenticate.
#[derive(Debug, Clone, Copy)]
struct Deadlines {
    /// Until its ClientHello arrives, which every client sends immediately.
    hello: Duration,
    /// From then until the handshake is complete and HTTP/2 has started.
    handshake: Duration,
    /// For the single call of a connection without a certificate.
    anonymous: Duration,
}

const DEADLINES: Deadlines =
    Deadlines { hello: Duration::from_secs(3), handshake: Duration::from_secs(10), anonymous: Duration::from_secs(30) };

/// Delay after an accept that failed for lack of resources (file descriptors, memory), which would fail again immediately.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connection preface of HTTP/2 (RFC 9113, 3.4). From then on the server sends keepalive pings itself.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The incoming TLS connections, limited in number, each with the current server credentials. The certificate of a node that is
/// not a member counts as none. Never ends and never fails: a failed handshake is logged and dropped.
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

/// The connections to a unix socket, limited in number; more wait in the system's queue. A client is a local operator if the
/// socket's mode admits it and it is root or our own user.
pub fn incoming_local(
    unix: UnixListener,
    limits: Limits,
    counts: Arc<Connections>,
) -> impl Stream<Item = io::Result<Connection<UnixStream>>> + Send {
    let places = Arc::new(Semaphore::new(limits.operators));
    stream::unfold((unix, places, counts), |(unix, places, counts)| async move {
        loop {
            // The semaphore is never closed.
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
    // The connection of an operator is never closed by the server.
    let caller = Caller::free(Peer::operator(&stream)?, CancellationToken::new());
    let place = Place::Permitted { _permit: permit, _open: counts.open(ConnectionClass::Operator) };
    Ok(Connection { caller, stream, read_ahead: &[], place })
}

type Handshake = Result<Connection<TlsStream<TcpStream>>, (SocketAddr, io::Error)>;

struct TlsListener {
    tcp: TcpListener,
    credentials: Arc<Credentials>,
    places: Places,
    limiter: Arc<Mutex<HandshakeLimiter>>,
    deadlines: Deadlines,
    members: Arc<dyn Members>,
    counts: Arc<Connections>,
    /// Limited by the number of places; dropped with the listener.
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
        let limiter = Arc::new(Mutex::new(HandshakeLimiter::new(RATES)));
        let (places, handshakes) = (Places::new(limits, Arc::clone(&counts)), JoinSet::new());
        Self { tcp, credentials, places, limiter, deadlines: DEADLINES, members, counts, handshakes }
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
                        // Handshakes in progress are polled first, so many concurrent clients are accepted no faster than their
                        // handshakes complete, and none loses its place to the next.
                        tokio::task::yield_now().await;
                    }
                    Err(error) => accept_failed(&error).await,
                },
            }
        }
    }

    fn begin(&mut self, stream: TcpStream, address: SocketAddr) {
        let Some(lease) = self.places.enter(Class::Silent(Source::of(address.ip())), address) else { return };
        let handshake = PendingHandshake {
            credentials: Arc::clone(&self.credentials),
            limiter: Arc::clone(&self.limiter),
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
        // rustls rejects certificates and data that is not TLS; other errors are lost connections.
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

/// Refuses a connection that the client has closed. This asks the system, because the runtime may not have been notified yet.
fn require_there(stream: &TcpStream) -> io::Result<()> {
    match rustix::net::recv(stream, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Err(io::ErrorKind::ConnectionAborted.into()),
        // The client is waiting, as it should, or has already sent more.
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// One handshake.
struct PendingHandshake {
    credentials: Arc<Credentials>,
    limiter: Arc<Mutex<HandshakeLimiter>>,
    deadlines: Deadlines,
    members: Arc<dyn Members>,
    counts: Arc<Connections>,
    address: SocketAddr,
}

impl PendingHandshake {
    /// The connection, once the client is authenticated and speaks HTTP/2.
    async fn run(self, stream: TcpStream, lease: Lease) -> io::Result<Connection<TlsStream<TcpStream>>> {
        let hello = unless_ended(&lease, self.deadlines.hello, hello(stream)).await?;
        // A manager that was suspended finds all attempts of that time queued: abandoned ones take no turn.
        require_there(&hello.io)?;
        let applicant = self.applicant(Introduction::within(&hello.client_hello()));
        let lease = lease.promote(Class::Handshaking(applicant), self.address).ok_or_else(too_many)?;
        let ticket = self.limiter().admit(applicant, Instant::now()).ok_or_else(|| {
            self.counts.refuse(ConnectionClass::Handshake);
            too_fast()
        })?;
        let mut attempt = Attempt { limiter: &self.limiter, ticket, stage: Stage::Waiting };
        self.await_turn(&lease, &hello.io, &attempt.ticket).await?;
        attempt.stage = Stage::Handshaking;
        let (mut stream, peer, expiry) = unless_ended(&lease, self.deadlines.handshake, self.perform(hello)).await?;
        let (class, until) = self.classify(&peer, applicant, expiry);
        attempt.done(class);
        // The place of the handshake is held until it is complete: a client that is silent afterwards holds a place that others
        // may take.
        let lease = lease.promote(class, self.address).ok_or_else(too_many)?;
        unless_ended(&lease, self.deadlines.handshake, read_preface(&mut stream)).await?;
        let caller = match class {
            Class::Member(_) => Caller::free(peer, lease.end()),
            Class::Anonymous(_) | Class::Silent(_) | Class::Handshaking(_) => Caller::once(peer, lease.end()),
        };
        Ok(Connection { stream, caller, read_ahead: HTTP2_PREFACE, place: Place::leased(lease, until) })
    }

    /// Waits until the handshake may start. A client that disconnects meanwhile costs nothing more.
    async fn await_turn(&self, lease: &Lease, stream: &TcpStream, ticket: &Ticket) -> io::Result<()> {
        let turn = async {
            loop {
                let wait = self.limiter().wait(ticket, Instant::now());
                if wait.is_zero() {
                    return Ok(());
                }
                // Handshakes before it may complete earlier than estimated.
                let _ = tokio::time::timeout(wait, ticket.advanced.notified()).await;
            }
        };
        unless_ended(lease, RATES.members_wait_max + self.deadlines.handshake, turn).await?;
        require_there(stream)
    }

    /// The applicant that the client claims to be, until it is authenticated.
    fn applicant(&self, introduction: Option<Introduction>) -> Applicant {
        let source = Source::of(self.address.ip());
        match introduction.filter(|introduction| self.members.knows(introduction)) {
            Some(Introduction::Node { node, .. }) => Applicant::Node(node),
            Some(Introduction::Joiner { .. }) => Applicant::Joiner(source),
            None => Applicant::Unauthenticated(source),
        }
    }

    fn limiter(&self) -> MutexGuard<'_, HandshakeLimiter> {
        locked(&self.limiter)
    }

    /// The class of the authenticated client, and the lifetime of its connection.
    fn classify(&self, peer: &Peer, applicant: Applicant, expiry: Option<Expiry>) -> (Class, Until) {
        if let Some((node, holder)) = holder_of(peer) {
            // Subscribed first, so that no change after the check is missed.
            let (members, changed) = (Arc::clone(&self.members), self.members.changes(node));
            if members.is_member(holder) {
                return (Class::Member(node), Until::Membership { members, holder, changed, expiry });
            }
        }
        let applicant = match applicant {
            // It presented no certificate, or one of another node.
            Applicant::Node(_) => Applicant::Unauthenticated(Source::of(self.address.ip())),
            Applicant::Joiner(_) | Applicant::Unauthenticated(_) => applicant,
        };
        (Class::Anonymous(applicant), Until::Deadline(self.deadlines.anonymous))
    }

    async fn perform(
        &self,
        hello: StartHandshake<TcpStream>,
    ) -> io::Result<(TlsStream<TcpStream>, Peer, Option<Expiry>)> {
        let stream = hello.into_stream(self.credentials.server()).await?;
        let address = self.address;
        let (peer, expiry) = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            Some(certificate) => {
                let peer = match Holder::of(certificate).map_err(io::Error::other)? {
                    Holder::Node(subject) => Peer::Node { subject, address },
                    Holder::Operator { operator, cluster } => Peer::CertifiedOperator { operator, cluster, address },
                };
                (peer, Some(Expiry::of(certificate)?))
            }
            None => (Peer::Anonymous { address }, None),
        };
        Ok((stream, peer, expiry))
    }
}

/// The holder of a connection's certificate, and the node whose places it uses. No two objects of a cluster have the same id,
/// so an operator uses the places of the node id equal to its own.
fn holder_of(peer: &Peer) -> Option<(NodeId, Holder)> {
    match peer {
        Peer::Node { subject, .. } => Some((subject.node, Holder::Node(*subject))),
        Peer::CertifiedOperator { operator, cluster, .. } => {
            let (operator, cluster) = (*operator, *cluster);
            Some((NodeId::from_bits(operator.bits()), Holder::Operator { operator, cluster }))
        }
        Peer::Anonymous { .. } | Peer::Operator { .. } => None,
    }
}

fn locked(limiter: &Mutex<HandshakeLimiter>) -> MutexGuard<'_, HandshakeLimiter> {
    // No code panics while it holds the lock, so a poisoned one still guards valid data.
    limiter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handshake that has its turn. Its tokens are settled when it is dropped, whatever the outcome.
struct Attempt<'a> {
    limiter: &'a Mutex<HandshakeLimiter>,
    ticket: Ticket,
    stage: Stage,
}

/// The stage of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Handshaking,
    /// Complete, but the client is not a member.
    Done,
    /// Complete, and the client is a member.
    Authenticated,
}

impl Attempt<'_> {
    /// Records that the handshake is complete.
    fn done(mut self, class: Class) {
        self.stage = match class {
            Class::Member(_) => Stage::Authenticated,
            Class::Anonymous(_) | Class::Silent(_) | Class::Handshaking(_) => Stage::Done,
        };
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let (mut limiter, now) = (locked(self.limiter), Instant::now());
        match self.stage {
            Stage::Waiting => limiter.disconnected(&self.ticket, now),
            Stage::Handshaking => limiter.failed(&self.ticket, now),
            // Its tokens are spent, without a penalty.
            Stage::Done => {}
            Stage::Authenticated => limiter.authenticated(&self.ticket, now),
        }
    }
}

/// Reads the HTTP/2 preface. A client that sends none gets no connection, because that would have no deadline.
async fn read_preface(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    let mut preface = [0; HTTP2_PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    if preface == *HTTP2_PREFACE {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak HTTP/2"))
}

/// Reads the ClientHello.
async fn hello(stream: TcpStream) -> io::Result<StartHandshake<TcpStream>> {
    stream.set_nodelay(true)?;
    LazyConfigAcceptor::new(Acceptor::default(), stream).await
}

/// Runs a step of a handshake, limited by its deadline and by the place of its connection.
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

/// Pauses, unless only a single connection was lost.
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
mod tests;
