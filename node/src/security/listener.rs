//! Accepting connections: over TLS from other machines, over a unix socket from this one, as streams for tonic's
//! `serve_with_incoming`. Each request finds the [`Peer`] of its connection in its extensions.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use events::Duration;
use futures_util::stream::{self, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::subject::Subject;
use super::{Credentials, Peer};

/// What unfinished handshakes may cost.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Handshakes in progress at a time. More connections wait in the system's queue: a flood costs bounded memory.
    handshakes_max: usize,
    /// How long a handshake and the greeting after it may take; whoever says nothing does not keep a place for longer.
    timeout: Duration,
}

const LIMITS: Limits = Limits { handshakes_max: 256, timeout: Duration::from_secs(10) };

/// The pause after an accept that failed for want of something (file descriptors, memory), which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every client of HTTP/2 says first (RFC 9113, 3.4). From then on the server asks for signs of life by itself.
const GREETING: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose other end is known.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    peer: Peer,
    /// What was read of the stream already, and is read again by whoever serves it.
    read_ahead: &'static [u8],
}

/// The TLS connections that come in, each with the credentials shown at that moment. Never ends and never fails: a
/// handshake that does not work out is logged and forgotten.
pub fn incoming(
    tcp: TcpListener,
    credentials: Arc<Credentials>,
) -> impl Stream<Item = io::Result<Connection<TlsStream<TcpStream>>>> + Send {
    let listener = TlsListener { tcp, credentials, limits: LIMITS, handshakes: JoinSet::new() };
    stream::unfold(listener, |mut listener| async move { Some((Ok(listener.next().await), listener)) })
}

/// The connections to a unix socket. Whoever the socket's mode lets in is a local operator.
pub fn incoming_local(unix: UnixListener) -> impl Stream<Item = io::Result<Connection<UnixStream>>> + Send {
    stream::unfold(unix, |unix| async move {
        loop {
            match unix
                .accept()
                .await
                .and_then(|(stream, _)| Ok(Connection { peer: Peer::operator(&stream)?, stream, read_ahead: &[] }))
            {
                Ok(connection) => return Some((Ok(connection), unix)),
                Err(error) => accept_failed(&error).await,
            }
        }
    })
}

type Handshake = Result<Connection<TlsStream<TcpStream>>, (SocketAddr, io::Error)>;

struct TlsListener {
    tcp: TcpListener,
    credentials: Arc<Credentials>,
    limits: Limits,
    /// Ends with the listener.
    handshakes: JoinSet<Handshake>,
}

impl TlsListener {
    async fn next(&mut self) -> Connection<TlsStream<TcpStream>> {
        loop {
            tokio::select! {
                Some(finished) = self.handshakes.join_next() => {
                    if let Some(connection) = accepted(finished) {
                        return connection;
                    }
                }
                arrived = self.tcp.accept(), if self.handshakes.len() < self.limits.handshakes_max => match arrived {
                    Ok((stream, address)) => self.begin(stream, address),
                    Err(error) => accept_failed(&error).await,
                },
            }
        }
    }

    fn begin(&mut self, stream: TcpStream, address: SocketAddr) {
        let (acceptor, timeout) = (TlsAcceptor::from(self.credentials.server()), self.limits.timeout);
        self.handshakes.spawn(async move {
            let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"));
            let finished = tokio::time::timeout(timeout, handshake(acceptor, stream, address)).await;
            finished.unwrap_or_else(late).map_err(|error| (address, error))
        });
    }
}

fn accepted(finished: Result<Handshake, JoinError>) -> Option<Connection<TlsStream<TcpStream>>> {
    match finished {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err((address, error))) => {
            debug!(%address, %error, "a TLS handshake failed");
            None
        }
        Err(error) => {
            warn!(%error, "a TLS handshake broke off");
            None
        }
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
) -> io::Result<Connection<TlsStream<TcpStream>>> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    // Whoever has nothing to ask gets no connection, which would have no end of its own.
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting).await?;
    if greeting != *GREETING {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak HTTP/2"));
    }
    let peer = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        Some(certificate) => Peer::Node { subject: Subject::of(certificate).map_err(io::Error::other)?, address },
        None => Peer::Anonymous { address },
    };
    Ok(Connection { stream, peer, read_ahead: GREETING })
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

impl<S> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read_ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let (now, later) = self.read_ahead.split_at(self.read_ahead.len().min(buf.remaining()));
        buf.put_slice(now);
        self.read_ahead = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{identity, subject, wall_clock};
    use super::super::{Authority, Connector};
    use super::*;
    use events::Role;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tower::Service;

    /// A listener with one place, and a way to it for the node whose certificate it shows.
    async fn listener() -> (TlsListener, SocketAddr, Connector) {
        let authority = Authority::generate(wall_clock()).expect("an authority");
        let shown = identity(&authority, subject(1, Role::Manager), wall_clock());
        let credentials = Arc::new(Credentials::new(shown).expect("credentials"));
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("an address");
        let limits = Limits { handshakes_max: 1, timeout: Duration::from_millis(500) };
        let connector = Connector::member(Arc::clone(&credentials));
        (TlsListener { tcp, credentials, limits, handshakes: JoinSet::new() }, address, connector)
    }

    fn uri(address: SocketAddr) -> http::Uri {
        format!("http://{address}").parse().expect("an address")
    }

    #[tokio::test]
    async fn a_silent_connection_loses_its_place() {
        let (mut listener, address, mut connector) = listener().await;
        let mut silent = TcpStream::connect(address).await.expect("a connection");
        let speaking = async {
            let mut stream = connector.call(uri(address)).await.expect("a connection").into_inner();
            stream.write_all(GREETING).await.expect("written");
            stream
        };
        let (_speaking, accepted) = tokio::join!(speaking, async {
            let accepted = listener.next().await;
            assert_eq!(silent.read(&mut [0; 1]).await.expect("an end"), 0, "the place was needed");
            accepted
        });
        assert!(matches!(accepted.peer, Peer::Node { subject: known, .. } if known == subject(1, Role::Manager)));
    }

    #[tokio::test]
    async fn a_connection_that_asks_nothing_is_none() {
        let (mut listener, address, mut connector) = listener().await;
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
