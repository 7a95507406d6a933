//! Restart policies, and how updates and rollbacks are rolled out.

use events::spec::limits::RESTART_ATTEMPTS_MAX;
use events::{FailureAction, RestartCondition, RestartPolicy, UpdateConfig, UpdateOrder};

use super::{Fault, Verdict, duration, known};

/// All of a service's tasks, in millionths.
const WHOLE_PPM: u32 = 1_000_000;

/// When tasks that ended are replaced.
pub(super) fn restart(policy: &RestartPolicy) -> Verdict {
    if let Some(condition) = policy.condition {
        known::<RestartCondition>(condition, "restart condition")?;
    }
    duration(policy.delay_ns.unwrap_or(0), "restart delay")?;
    if policy.max_attempts > RESTART_ATTEMPTS_MAX {
        let sentence = format!("{} restart attempts are more than can be counted", policy.max_attempts);
        return Err(Fault::invalid(sentence, format!("give up to {RESTART_ATTEMPTS_MAX}, or 0 for no limit")));
    }
    duration(policy.window_ns, "restart window")
}

/// How an update is rolled out.
pub(super) fn update(config: &UpdateConfig) -> Verdict {
    rollout(config, "update")
}

/// How a rollback is rolled out. SwarmKit does not check this one.
pub(super) fn rollback(config: &UpdateConfig) -> Verdict {
    rollout(config, "rollback")?;
    if config.failure_action() == FailureAction::Rollback {
        let sentence = "a rollback that fails cannot be rolled back";
        return Err(Fault::invalid(sentence, "choose pause or continue for a failed rollback"));
    }
    Ok(())
}

fn rollout(config: &UpdateConfig, what: &str) -> Verdict {
    known::<FailureAction>(config.failure_action, "failure action")?;
    known::<UpdateOrder>(config.order, "update order")?;
    duration(config.delay_ns, &format!("{what} delay"))?;
    duration(config.monitor_ns.unwrap_or(0), &format!("{what} monitor"))?;
    duration(config.progress_deadline_ns.unwrap_or(0), &format!("{what} progress deadline"))?;
    if config.max_failure_ppm > WHOLE_PPM {
        let sentence = format!("the tolerated share of failures of the {what} is above 1");
        return Err(Fault::invalid(sentence, "give a ratio from 0 to 1"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_that_are_not_counted_are_refused() {
        for (max_attempts, fine) in [(0, true), (1_000, true), (1_001, false), (u64::MAX, false)] {
            assert_eq!(restart(&RestartPolicy { max_attempts, ..Default::default() }).is_ok(), fine, "{max_attempts}");
        }
    }

    #[test]
    fn both_configurations_are_checked() {
        for check in [update, rollback] {
            assert_eq!(check(&UpdateConfig { max_failure_ppm: WHOLE_PPM, ..Default::default() }), Ok(()));
            assert!(check(&UpdateConfig { max_failure_ppm: WHOLE_PPM + 1, ..Default::default() }).is_err());
            assert!(check(&UpdateConfig { delay_ns: u64::MAX, ..Default::default() }).is_err());
            assert!(check(&UpdateConfig { monitor_ns: Some(u64::MAX), ..Default::default() }).is_err());
            assert!(check(&UpdateConfig { progress_deadline_ns: Some(u64::MAX), ..Default::default() }).is_err());
            assert!(check(&UpdateConfig { order: 9, ..Default::default() }).is_err());
            assert!(check(&UpdateConfig { failure_action: 9, ..Default::default() }).is_err());
        }
    }

    #[test]
    fn only_an_update_rolls_back() {
        let config = UpdateConfig { failure_action: FailureAction::Rollback.into(), ..Default::default() };
        assert_eq!(update(&config), Ok(()));
        assert!(rollback(&config).is_err());
    }

    #[test]
    fn restart_policies_are_checked() {
        assert_eq!(restart(&RestartPolicy::default()), Ok(()));
        assert!(restart(&RestartPolicy { condition: Some(3), ..Default::default() }).is_err());
        assert!(restart(&RestartPolicy { delay_ns: Some(u64::MAX), ..Default::default() }).is_err());
        assert!(restart(&RestartPolicy { window_ns: u64::MAX, ..Default::default() }).is_err());
    }
}
