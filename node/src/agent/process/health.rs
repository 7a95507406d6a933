//! Health checks of plain processes: the probe runs beside the command, as the engine would run it inside a container.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use events::HealthConfig;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::order::Order;

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
const START_INTERVAL: Duration = Duration::from_secs(5);

/// A health check with all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    argv: Vec<String>,
    interval: Duration,
    timeout: Duration,
    retries: u32,
    start_period: Duration,
    start_interval: Duration,
}

/// The health according to the probes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// No probe has succeeded yet.
    Starting,
    /// The last decision was "healthy".
    Healthy,
    /// Too many consecutive probes failed.
    Unhealthy,
}

impl Check {
    /// The check that a spec defines; `None` if it has none.
    ///
    /// # Errors
    /// A message when the form of the test is unknown.
    pub(super) fn new(config: Option<&HealthConfig>) -> Result<Option<Self>, String> {
        let Some(config) = config else { return Ok(None) };
        let argv = match config.test.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] | ["NONE"] => return Ok(None),
            ["CMD", words @ ..] if !words.is_empty() => words.iter().map(|word| (*word).to_owned()).collect(),
            ["CMD-SHELL", line] => vec!["/bin/sh".to_owned(), "-c".to_owned(), (*line).to_owned()],
            _ => return Err("a health check is NONE, CMD and its words, or CMD-SHELL and one line".into()),
        };
        let or = |value_ns: u64, default| if value_ns == 0 { default } else { Duration::from_nanos(value_ns) };
        Ok(Some(Self {
            argv,
            interval: or(config.interval_ns, INTERVAL),
            timeout: or(config.timeout_ns, TIMEOUT),
            retries: if config.retries == 0 { RETRIES } else { config.retries },
            start_period: Duration::from_nanos(config.start_period_ns),
            start_interval: or(config.start_interval_ns, START_INTERVAL),
        }))
    }

    /// Probes until the health changes: from `Starting` until it is healthy or unhealthy, from `Healthy` until it is unhealthy.
    pub(super) async fn decide(&self, from: Health, order: &Order) -> Health {
        let begin = Instant::now();
        let mut tracker = Tracker { health: from, failures: 0 };
        loop {
            let is_starting = tracker.health == Health::Starting && begin.elapsed() < self.start_period;
            sleep(if is_starting { self.start_interval.min(self.interval) } else { self.interval }).await;
            let is_good = self.probe(order).await;
            tracker.note(is_good, begin.elapsed() < self.start_period, self.retries);
            if tracker.health != from {
                return tracker.health;
            }
        }
    }

    /// Runs one probe; a timeout or a probe that cannot run counts as failed.
    async fn probe(&self, order: &Order) -> bool {
        let [program, args @ ..] = self.argv.as_slice() else { return false };
        let mut command = Command::new(program);
        command.args(args).env_clear().envs(&order.env).current_dir(&order.dir).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(user) = order.user {
            command.uid(user.uid).gid(user.gid);
        }
        matches!(timeout(self.timeout, command.status()).await, Ok(Ok(status)) if ExitStatus::success(&status))
    }
}

/// Counts consecutive failures.
#[derive(Debug, Clone, Copy)]
struct Tracker {
    health: Health,
    failures: u32,
}

impl Tracker {
    /// A failure within the start period does not count before the first success.
    fn note(&mut self, is_good: bool, in_start_period: bool, retries: u32) {
        if is_good {
            *self = Self { health: Health::Healthy, failures: 0 };
        } else if !(in_start_period && self.health == Health::Starting) {
            self.failures += 1;
            if self.failures >= retries {
                self.health = Health::Unhealthy;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_in_a_row_and_after_the_start_period() {
        // Probes as `+` success, `-` failure, `s` failure within the start period.
        for (probes, wanted) in [
            ("", Health::Starting),
            ("--", Health::Starting),
            ("---", Health::Unhealthy),
            ("sssss--", Health::Starting),
            ("+", Health::Healthy),
            ("+--+--", Health::Healthy),
            ("+sss", Health::Unhealthy),
            ("---+", Health::Healthy),
        ] {
            let mut tracker = Tracker { health: Health::Starting, failures: 0 };
            probes.chars().for_each(|probe| tracker.note(probe == '+', probe == 's', 3));
            assert_eq!(tracker.health, wanted, "{probes}");
        }
    }

    #[test]
    fn a_test_is_a_command_a_line_or_none() {
        let check = |test: &[&str]| {
            let test = test.iter().map(|word| (*word).to_owned()).collect();
            Check::new(Some(&HealthConfig { test, ..Default::default() })).map(|check| check.map(|check| check.argv))
        };
        assert_eq!(check(&[]), Ok(None));
        assert_eq!(check(&["NONE"]), Ok(None));
        assert_eq!(check(&["CMD", "a", "b"]), Ok(Some(vec!["a".into(), "b".into()])));
        assert_eq!(check(&["CMD-SHELL", "a b"]), Ok(Some(vec!["/bin/sh".into(), "-c".into(), "a b".into()])));
        assert!(check(&["CMD"]).is_err());
        assert!(check(&["a"]).is_err());
    }
}
