//! The expiry of a certificate as a timer: the connection that it authenticated ends with it.

use std::io;

use events::{Duration, Timestamp};
use rustls_pki_types::CertificateDer;

use super::certificate;
use crate::clock;

/// Maximum time between two reads of the wall clock, which may be set, or may have stopped while the machine was suspended.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// When a certificate expires.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expiry {
    not_after: Timestamp,
}

impl Expiry {
    /// The expiry of this certificate.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> io::Result<Self> {
        let parsed = certificate::parse(certificate).map_err(io::Error::other)?;
        let (_, not_after) = certificate::validity(&parsed);
        Ok(Self { not_after })
    }

    /// Completes when it has expired.
    pub(super) async fn over(self) {
        loop {
            let now = clock::now();
            if now > self.not_after {
                return;
            }
            tokio::time::sleep(self.not_after.since(now).min(LOOK_MAX) + Duration::from_millis(1)).await;
        }
    }
}
