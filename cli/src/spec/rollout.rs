//! How an update replaces tasks, and how a failed update is rolled back.

use std::time::Duration;

use clap::{Args, ValueEnum};
use events::spec::limits::REPLICAS_MAX;
use events::{FailureAction, ServiceSpec, UpdateConfig, UpdateOrder};

use super::{ns, set};
use crate::values::{duration, number, ratio};

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum OnUpdateFailure {
    /// Pause the update
    Pause,
    /// Continue
    Continue,
    /// Roll back to the previous spec
    Rollback,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum OnRollbackFailure {
    /// Pause the rollback
    Pause,
    /// Continue
    Continue,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Order {
    /// The old task stops before the new one starts
    StopFirst,
    /// The new task runs before the old one stops
    StartFirst,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Updates")]
pub(super) struct UpdateFlags {
    /// Number of tasks replaced at the same time; 0 for all (default 1)
    #[arg(long, value_name = "NUMBER", value_parser = number::within(0..=REPLICAS_MAX))]
    update_parallelism: Option<u64>,

    /// Delay after each replaced task (default 0s)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    update_delay: Option<Duration>,

    /// What to do if too many replaced tasks fail (default pause)
    #[arg(long, alias = "update-failure-action", value_name = "ACTION")]
    update_on_failure: Option<OnUpdateFailure>,

    /// How long a replaced task is monitored for failure (default 5s)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    update_monitor: Option<Duration>,

    /// Fraction of tasks that may fail, from 0 to 1 (default 0)
    #[arg(long, value_name = "SHARE", value_parser = ratio::parse)]
    update_max_failure_ratio: Option<u32>,

    /// Whether the old task stops or the new one starts first (default stop-first)
    #[arg(long, value_name = "ORDER")]
    update_order: Option<Order>,

    /// Time limit for a replaced task to reach RUNNING, before it counts as failed; 0s for no limit (default 0s)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    update_progress_deadline: Option<Duration>,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Rollbacks")]
pub(super) struct RollbackFlags {
    /// Number of tasks rolled back at the same time; 0 for all (default 1)
    #[arg(long, value_name = "NUMBER", value_parser = number::within(0..=REPLICAS_MAX))]
    rollback_parallelism: Option<u64>,

    /// Delay after each task that is rolled back (default 0s)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    rollback_delay: Option<Duration>,

    /// What to do if too many tasks fail during a rollback (default pause)
    #[arg(long, alias = "rollback-failure-action", value_name = "ACTION")]
    rollback_on_failure: Option<OnRollbackFailure>,

    /// How long a task is monitored for failure (default 5s)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    rollback_monitor: Option<Duration>,

    /// Fraction of tasks that may fail, from 0 to 1 (default 0)
    #[arg(long, value_name = "SHARE", value_parser = ratio::parse)]
    rollback_max_failure_ratio: Option<u32>,

    /// Whether the old task stops or the new one starts first (default stop-first)
    #[arg(long, value_name = "ORDER")]
    rollback_order: Option<Order>,

    /// Time limit for a task to reach RUNNING, before it counts as failed; 0s for no limit (default 0s)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    rollback_progress_deadline: Option<Duration>,
}

impl UpdateFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        let action = self.update_on_failure.map(|action| match action {
            OnUpdateFailure::Pause => FailureAction::Pause,
            OnUpdateFailure::Continue => FailureAction::Continue,
            OnUpdateFailure::Rollback => FailureAction::Rollback,
        });
        let edits = Edits {
            parallelism: self.update_parallelism,
            delay: self.update_delay,
            action,
            monitor: self.update_monitor,
            max_failure_ppm: self.update_max_failure_ratio,
            order: self.update_order,
            progress_deadline: self.update_progress_deadline,
        };
        edits.apply(&mut spec.update);
    }
}

impl RollbackFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        let action = self.rollback_on_failure.map(|action| match action {
            OnRollbackFailure::Pause => FailureAction::Pause,
            OnRollbackFailure::Continue => FailureAction::Continue,
        });
        let edits = Edits {
            parallelism: self.rollback_parallelism,
            delay: self.rollback_delay,
            action,
            monitor: self.rollback_monitor,
            max_failure_ppm: self.rollback_max_failure_ratio,
            order: self.rollback_order,
            progress_deadline: self.rollback_progress_deadline,
        };
        edits.apply(&mut spec.rollback);
    }
}

/// The settings that both groups of flags change.
#[derive(Debug, PartialEq, Default)]
struct Edits {
    parallelism: Option<u64>,
    delay: Option<Duration>,
    action: Option<FailureAction>,
    monitor: Option<Duration>,
    max_failure_ppm: Option<u32>,
    order: Option<Order>,
    progress_deadline: Option<Duration>,
}

impl Edits {
    fn apply(&self, config: &mut Option<UpdateConfig>) {
        if *self == Self::default() {
            return;
        }
        let config = config.get_or_insert_default();
        set(&mut config.parallelism, &self.parallelism.map(Some));
        set(&mut config.delay_ns, &self.delay.map(ns));
        set(&mut config.failure_action, &self.action.map(Into::into));
        set(&mut config.monitor_ns, &self.monitor.map(|monitor| Some(ns(monitor))));
        set(&mut config.max_failure_ppm, &self.max_failure_ppm);
        let order = self.order.map(|order| match order {
            Order::StopFirst => UpdateOrder::StopFirst,
            Order::StartFirst => UpdateOrder::StartFirst,
        });
        set(&mut config.order, &order.map(Into::into));
        set(&mut config.progress_deadline_ns, &self.progress_deadline.map(|deadline| Some(ns(deadline))));
    }
}
