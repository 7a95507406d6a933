//! Restarts of a slot whose tasks keep ending.

use events::Timestamp;
use wire::v1::Restarting;

use super::age;

/// Whether a slot is restarting or running again, how often it failed in a row, the last error, and the time of the next attempt.
pub fn show(known: &Restarting, now: Timestamp) -> String {
    let begins = if known.running_again { "running again after " } else { "restarting, " };
    format!("{begins}{}", failures(known, now))
}

/// How often a slot failed or ended without an error in a row, the last error, and the time of the next attempt.
pub fn failures(known: &Restarting, now: Timestamp) -> String {
    let many = |count: u64, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    let count = match (known.failures, known.exits) {
        (failures, 0) => many(failures, "failure"),
        (0, exits) => many(exits, "exit"),
        (failures, exits) => format!("{} and {}", many(failures, "failure"), many(exits, "exit")),
    };
    let last = if known.last_failure.is_empty() { String::new() } else { format!(", last: {}", known.last_failure) };
    let next = known.next_attempt.filter(|at| *at > now).map(|at| at.since(now));
    let next = next.map_or_else(String::new, |wait| format!(", next attempt in {}", age::until(wait)));
    format!("{count}{last}{next}")
}
