//! An authenticated connection and its lifetime.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use events::{Duration, NodeId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tonic::transport::server::Connected;

use super::caller::Caller;
use super::expiry::Expiry;
use super::lease::Lease;
use super::{Holder, Introduction};
use crate::metrics::OpenConnection;

/// An authenticated connection. It ends, as if the peer had closed it, when its place is needed or its lifetime is over.
#[derive(Debug)]
pub struct Connection<S> {
    pub(super) stream: S,
    pub(super) caller: Caller,
    /// Data that was already read from the stream, and is returned again to the server.
    pub(super) read_ahead: &'static [u8],
    pub(super) place: Place,
}

/// What a connection holds while it is open.
pub(super) enum Place {
    /// The place of a node, or of a client without a certificate.
    Leased {
        /// Completes when the connection must end.
        over: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
        is_over: bool,
        _lease: Lease,
    },
    /// The place of an operator.
    Permitted { _permit: OwnedSemaphorePermit, _open: OpenConnection },
}

impl Place {
    pub(super) fn leased(lease: Lease, until: Until) -> Self {
        let ended = lease.ended();
        let over = Box::pin(async move {
            tokio::select! {
                () = ended => {}
                () = until.over() => {}
            }
        });
        Self::Leased { over, is_over: false, _lease: lease }
    }

    /// Whether the connection must end; otherwise the task is woken when it must.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Leased { over, is_over, .. } => {
                // A completed future must not be polled again, but connections are.
                *is_over = *is_over || over.as_mut().poll(cx).is_ready();
                *is_over
            }
            Self::Permitted { .. } => false,
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Leased { _lease: lease, .. } => f.debug_tuple("Leased").field(lease).finish(),
            Self::Permitted { .. } => f.debug_tuple("Permitted").finish(),
        }
    }
}

/// The lifetime of a connection, unless its place is taken.
pub(super) enum Until {
    /// As long as its node is a member and the certificate of the connection is valid.
    Membership { members: Arc<dyn Members>, holder: Holder, changed: Arc<Notify>, expiry: Option<Expiry> },
    /// A fixed time, because the client is unauthenticated.
    Deadline(Duration),
}

impl Until {
    async fn over(self) {
        match self {
            Self::Membership { members, holder, changed, expiry } => {
                let expired = async {
                    match expiry {
                        Some(expiry) => expiry.over().await,
                        None => std::future::pending().await,
                    }
                };
                let left = async {
                    while members.is_member(holder) {
                        changed.notified().await;
                    }
                };
                tokio::select! {
                    () = expired => {}
                    () = left => {}
                }
            }
            Self::Deadline(after) => tokio::time::sleep(after).await,
        }
    }
}

/// The members of the cluster.
pub trait Members: Send + Sync + 'static {
    /// Whether the node with this certificate is currently a member, or the operator may still operate the cluster.
    fn is_member(&self, holder: Holder) -> bool;
    /// Notified whenever the node changes, including its membership, for as long as it is held.
    fn changes(&self, node: NodeId) -> Arc<Notify>;
    /// Whether the introduction is that of a member, or of a client with a join token.
    fn knows(&self, introduction: &Introduction) -> bool;
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.place.poll_over(cx) {
            return Poll::Ready(Ok(()));
        }
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
        if self.place.poll_over(cx) {
            return Poll::Ready(Err(ended()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.place.poll_over(cx) {
            return Poll::Ready(Err(ended()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // When it must end, it does not wait for the peer to read the shutdown.
        if self.place.poll_over(cx) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.place.poll_over(cx) {
            return Poll::Ready(Err(ended()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was ended by the manager")
}
