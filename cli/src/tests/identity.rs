//! The warning before an identity expires.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::fake::Fake;
use super::{TestEnv, run};
use crate::format::samples;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A directory with a certificate that expires after this time.
fn identity(left: Duration) -> tempfile::TempDir {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(1970, 1, 1) + samples::NOW.since(events::Timestamp::from_unix_ns(0)) + left;
    let directory = tempfile::tempdir().expect("a directory");
    let certificate = params.self_signed(&key).expect("signed").pem();
    std::fs::write(directory.path().join("operator.crt"), certificate).expect("written");
    directory
}

#[tokio::test]
async fn an_identity_that_ends_within_a_month_is_warned_of_on_each_call() {
    // The remaining time, the flags for the manager, and the expected warning.
    let table = [
        (DAY * 31, "--host https://m1", None),
        (DAY * 30 - DAY / 2, "--host https://m1", Some("expires in 29 days; `swarmctl operator renew` renews it")),
        (DAY * 3 / 2, "--host https://m1", Some("expires in 1 day; ")),
        (DAY / 2, "--host https://m1", Some("expires in less than a day; ")),
        // At the local socket, the identity is not used.
        (DAY, "--socket /run/swarm.sock", None),
    ];
    for (left, way, expected) in table {
        let directory = identity(left);
        let line = format!("{way} --identity {} node ls", directory.path().display());
        let ran = run(&line, &mut Fake::new(), TestEnv::default()).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        match expected {
            None => assert!(!ran.err.contains("the identity in"), "{left:?}: {}", ran.err),
            Some(words) => {
                let warning = format!("warning: the identity in {} {words}", directory.path().display());
                assert!(ran.err.starts_with(&warning), "{left:?}: {}", ran.err);
            }
        }
    }
}
