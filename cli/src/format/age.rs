//! How long ago something happened, in Docker's words: `3 minutes ago`.

use std::time::Duration;

use events::Timestamp;

/// The age of a timestamp.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", human(now.since(at)))
}

/// A timestamp in seconds: `2026-01-01T00:06:17Z`.
pub fn second(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.').map_or_else(|| text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

/// A duration, rounded as a person would.
pub fn human(length: Duration) -> String {
    const HOURS_IN_DAY: u64 = 24;
    let (seconds, minutes, hours) = (length.as_secs(), length.as_secs() / 60, (length.as_secs() + 1800) / 3600);
    match (seconds, minutes, hours) {
        (0, _, _) => "Less than a second".to_owned(),
        (1, _, _) => "1 second".to_owned(),
        (2..60, _, _) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 0..=1) => "About an hour".to_owned(),
        (_, _, 2..48) => format!("{hours} hours"),
        _ if hours < HOURS_IN_DAY * 14 => format!("{} days", hours / HOURS_IN_DAY),
        _ if hours < HOURS_IN_DAY * 60 => format!("{} weeks", hours / HOURS_IN_DAY / 7),
        _ if hours < HOURS_IN_DAY * 365 * 2 => format!("{} months", hours / HOURS_IN_DAY / 30),
        _ => format!("{} years", hours / HOURS_IN_DAY / 365),
    }
}

/// A remaining duration in whole seconds, rounded up: `45s`, `2m`, `4m5s`.
pub fn until(length: Duration) -> String {
    let seconds = length.as_secs() + u64::from(length.subsec_nanos() > 0);
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, 0) => format!("{minutes}m"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

/// A remaining duration of any length: `in 4m5s`, `in 3 hours`.
pub fn ahead(length: Duration) -> String {
    let short = length.as_secs() < 3_600;
    format!("in {}", if short { until(length) } else { human(length).to_lowercase() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_said_as_docker_says_them() {
        const DAY: u64 = 86_400;
        let table = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3_599, "59 minutes"),
            (3_600, "About an hour"),
            (5_400, "2 hours"),
            (47 * 3_600, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (700 * DAY, "23 months"),
            (730 * DAY, "2 years"),
        ];
        for (seconds, text) in table {
            assert_eq!(human(Duration::from_secs(seconds)), text, "{seconds} s");
        }
    }

    #[test]
    fn a_time_to_come_is_never_shorter_than_it_is() {
        for (ms, text) in [(1, "1s"), (1_000, "1s"), (44_001, "45s"), (120_000, "2m"), (244_200, "4m5s")] {
            assert_eq!(until(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn a_clock_that_is_behind_makes_no_negative_age() {
        let at = Timestamp::from_unix_ns(5);
        assert_eq!(ago(at, Timestamp::from_unix_ns(0)), "Less than a second ago");
    }
}
