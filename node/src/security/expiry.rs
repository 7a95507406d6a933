//! The end of a certificate, as a timer: what was proved with it at the handshake is proved no longer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use events::{Duration, Timestamp};
use rustls_pki_types::CertificateDer;

use super::certificate;
use crate::clock;

/// Longest time between two looks at the wall clock, which may be set, or have stood still while the machine slept.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// Ready once a certificate is not valid any more.
pub(super) struct Expiry {
    not_after: Timestamp,
    wait: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    over: bool,
}

impl Expiry {
    /// The end of this certificate.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> io::Result<Self> {
        let parsed = certificate::parse(certificate).map_err(io::Error::other)?;
        let (_, not_after) = certificate::validity(&parsed);
        Ok(Self { not_after, wait: Box::pin(until(not_after)), over: false })
    }

    /// Whether it has come; otherwise the task is woken when it does.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.over {
            ready!(self.wait.as_mut().poll(cx));
            // A future that has ended must not be polled again, but connections are.
            self.over = true;
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expiry({})", self.not_after)
    }
}

async fn until(not_after: Timestamp) {
    loop {
        let now = clock::now();
        if now > not_after {
            return;
        }
        tokio::time::sleep(not_after.since(now).min(LOOK_MAX) + Duration::from_millis(1)).await;
    }
}
