//! The end of a certificate, as a timer: what was proved with it at the handshake is proved no longer.

use std::io;

use events::{Duration, Timestamp};
use rustls_pki_types::CertificateDer;

use super::certificate;
use crate::clock;

/// Longest time between two looks at the wall clock, which may be set, or have stood still while the machine slept.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// When a certificate stops being valid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expiry {
    not_after: Timestamp,
}

impl Expiry {
    /// The end of this certificate.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> io::Result<Self> {
        let parsed = certificate::parse(certificate).map_err(io::Error::other)?;
        let (_, not_after) = certificate::validity(&parsed);
        Ok(Self { not_after })
    }

    /// Done once it has come.
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
