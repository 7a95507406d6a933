//! Limits what is logged while no manager is reachable: each reason once, and again every minute.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Minimum time between log lines with the same reason; an agent retries every few seconds.
const LOG_PERIOD: Duration = Duration::from_secs(60);
/// Maximum number of remembered reasons: several for each possible manager. Reasons beyond that are logged again.
const REASONS_MAX: usize = 32;

/// The reasons why there is no session, and when each was last logged.
#[derive(Debug, Default)]
pub(super) struct Outage {
    logged: BTreeMap<String, Instant>,
}

impl Outage {
    /// Whether the reason should be logged now. If so, it is recorded as logged.
    pub(super) fn should_log(&mut self, reason: &str, now: Instant) -> bool {
        let is_known = |at: &Instant| now.saturating_duration_since(*at) < LOG_PERIOD;
        if self.logged.get(reason).is_some_and(is_known) {
            return false;
        }
        if self.logged.len() >= REASONS_MAX {
            self.logged.clear();
        }
        self.logged.insert(reason.to_owned(), now);
        true
    }

    /// Clears the reasons when a session was opened: the reason of its end is always logged.
    pub(super) fn end(&mut self) {
        self.logged.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_logged_once_a_minute_and_again_after_a_session() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let mut should_log = |reason: &str, second| outage.should_log(reason, start + Duration::from_secs(second));
        // Two managers that are tried in turn.
        let cases = [("a refused", 0), ("b refused", 1), ("a refused", 2), ("b refused", 3), ("a refused", 60)];
        assert_eq!(cases.map(|(reason, second)| should_log(reason, second)), [true, true, false, false, true]);
        assert!(should_log("a closed it", 61));
        assert!(!should_log("a closed it", 61));
        outage.end();
        assert!(outage.should_log("a closed it", start + Duration::from_secs(62)));
        for number in 0..10 * REASONS_MAX {
            outage.should_log(&number.to_string(), start);
            assert!(outage.logged.len() <= REASONS_MAX);
        }
    }
}
