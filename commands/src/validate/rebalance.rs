//! Rebalancing rules.

use events::spec::Rebalancing;
use events::spec::limits::{REBALANCE_EVERY, REBALANCE_TASKS};
use events::{PlacementStrategy, ServiceSpec};

use super::{Fault, Verdict};

/// The rule of a service, which must be replicated and use the spread strategy.
pub(super) fn rebalance(spec: &ServiceSpec) -> Verdict {
    let Some(Rebalancing { max_tasks, every }) = spec.rebalancing() else {
        let sentence = "only a replicated service is rebalanced: other tasks are bound to nodes, or run once";
        return Err(Fault::invalid(sentence, "leave out --rebalance"));
    };
    if !REBALANCE_TASKS.contains(&max_tasks) {
        let sentence = format!("{max_tasks} tasks cannot be moved in one step of rebalancing");
        let hint = format!("give a number from {} to {}", REBALANCE_TASKS.start(), REBALANCE_TASKS.end());
        return Err(Fault::invalid(sentence, hint));
    }
    if !REBALANCE_EVERY.contains(&every) {
        let sentence = format!("steps of rebalancing cannot be {every:?} apart");
        return Err(Fault::invalid(sentence, "give a time from 1s to 24h"));
    }
    let own = spec.template().placement().strategy.and_then(|number| PlacementStrategy::try_from(number).ok());
    match own {
        Some(PlacementStrategy::Binpack | PlacementStrategy::Random) => {
            let sentence = "only tasks that are spread are rebalanced, and the placement strategy is another one";
            Err(Fault::invalid(sentence, "leave out --rebalance, or give --placement-strategy spread"))
        }
        Some(PlacementStrategy::Spread) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use events::service_spec::Mode;
    use events::{GlobalMode, Placement, Rebalance, ReplicatedJobMode, ReplicatedMode, TaskSpec};

    use super::*;

    #[test]
    fn only_spread_replicas_are_rebalanced_within_bounds() {
        let replicated = Mode::Replicated(ReplicatedMode { replicas: 3 });
        let global = Mode::Global(GlobalMode {});
        let job = Mode::ReplicatedJob(ReplicatedJobMode { max_concurrent: 0, total_completions: 1 });
        let rule = |max_tasks, every: Option<Duration>| Rebalance {
            max_tasks,
            every_ns: every.map(|every| u64::try_from(every.as_nanos()).unwrap_or(u64::MAX)),
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let table = [
            (replicated, rule(None, None), None, ""),
            (replicated, rule(Some(100), seconds(86_400)), Some(PlacementStrategy::Spread), ""),
            (replicated, rule(Some(0), None), None, "0 tasks cannot be moved"),
            (replicated, rule(Some(101), None), None, "101 tasks cannot be moved"),
            (replicated, rule(None, Some(Duration::from_millis(999))), None, "cannot be 999ms apart"),
            (replicated, rule(None, seconds(86_401)), None, "cannot be 86401s apart"),
            (replicated, rule(None, None), Some(PlacementStrategy::Binpack), "only tasks that are spread"),
            (global, rule(None, None), None, "only a replicated service is rebalanced"),
            (job, rule(None, None), None, "only a replicated service is rebalanced"),
        ];
        for (mode, rule, strategy, expected) in table {
            let placement = Placement { strategy: strategy.map(Into::into), ..Placement::default() };
            let task = TaskSpec { placement: Some(placement), ..TaskSpec::default() };
            let spec =
                ServiceSpec { mode: Some(mode), rebalance: Some(rule), task: Some(task), ..ServiceSpec::default() };
            let refusal = rebalance(&spec).err().map(|fault| fault.sentence).unwrap_or_default();
            assert!(refusal.contains(expected) && refusal.is_empty() == expected.is_empty(), "{rule:?}: {refusal}");
        }
    }
}
