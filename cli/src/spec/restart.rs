//! When a task that ended is restarted.

use std::time::Duration;

use clap::{Args, ValueEnum};
use events::spec::limits::RESTART_ATTEMPTS_MAX;
use events::{RestartCondition, ServiceSpec};

use super::{ns, set, task};
use crate::values::{duration, number};

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Condition {
    /// Always
    Any,
    /// If it failed
    #[value(alias = "on-failure")]
    Failure,
    /// Never
    None,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Restart")]
pub(super) struct RestartFlags {
    /// When a task that ended is restarted (default any)
    #[arg(long, value_name = "CONDITION")]
    restart_condition: Option<Condition>,

    /// Delay before a restart (default 5s, doubled for each consecutive failure, up to 5m)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    restart_delay: Option<Duration>,

    /// Maximum number of restarts, up to 1000; 0 for no limit
    #[arg(long, value_name = "NUMBER", value_parser = number::within(0..=RESTART_ATTEMPTS_MAX))]
    restart_max_attempts: Option<u64>,

    /// Only restarts within this time count towards the maximum; 0s for all
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    restart_window: Option<Duration>,
}

impl RestartFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        if *self == Self::default() {
            return;
        }
        let policy = task(spec).restart.get_or_insert_default();
        let condition = self.restart_condition.map(|condition| match condition {
            Condition::Any => RestartCondition::Any,
            Condition::Failure => RestartCondition::OnFailure,
            Condition::None => RestartCondition::None,
        });
        set(&mut policy.condition, &condition.map(|condition| Some(condition.into())));
        set(&mut policy.delay_ns, &self.restart_delay.map(|delay| Some(ns(delay))));
        set(&mut policy.max_attempts, &self.restart_max_attempts);
        set(&mut policy.window_ns, &self.restart_window.map(ns));
    }
}
