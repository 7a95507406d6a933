//! The only place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use events::Timestamp;

/// Now, by this machine's clock.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ns(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
