//! Autoscaling rules.

use events::ServiceSpec;
use events::spec::Autoscaling;
use events::spec::limits::{AUTOSCALE_COOL_DOWN_MAX, AUTOSCALE_PERCENT, AUTOSCALE_WINDOW};

use super::{Fault, Verdict, replicas};

/// The rule of a service, which must be replicated.
pub(super) fn autoscale(spec: &ServiceSpec) -> Verdict {
    let Some(rule) = spec.autoscaling() else {
        let sentence =
            "only a replicated service is autoscaled: other services have as many tasks as nodes, or as they complete";
        return Err(Fault::invalid(sentence, "leave out --autoscale"));
    };
    bounds(&rule)?;
    let Autoscaling { cpu_percent, memory_percent, window, cool_down, .. } = rule;
    if cpu_percent.is_none() && memory_percent.is_none() {
        return Err(Fault::invalid("autoscaling needs a target", "give cpu=PERCENT, memory=PERCENT or both"));
    }
    for percent in [cpu_percent, memory_percent].into_iter().flatten() {
        if !AUTOSCALE_PERCENT.contains(&percent) {
            let sentence = format!("the target use of tasks cannot be {percent}% of their reservation");
            return Err(Fault::invalid(sentence, "give a target from 1% to 1000%"));
        }
    }
    if memory_percent.is_some() && spec.whole_use().memory_bytes == 0 {
        let sentence = "tasks have neither a memory reservation nor a memory limit";
        return Err(Fault::invalid(sentence, "give the service --reserve-memory or --limit-memory"));
    }
    if !AUTOSCALE_WINDOW.contains(&window) {
        let sentence = format!("the use of tasks cannot be averaged over {window:?}");
        return Err(Fault::invalid(sentence, "give a window from 10s to 1h"));
    }
    if cool_down > AUTOSCALE_COOL_DOWN_MAX {
        let sentence = format!("a cool-down of {cool_down:?} is too long");
        return Err(Fault::invalid(sentence, "give one of at most 24h"));
    }
    Ok(())
}

/// Without replicas nothing is measured, and there would never be one again.
fn bounds(rule: &Autoscaling) -> Verdict {
    replicas(rule.max)?;
    if rule.min == 0 {
        let sentence = "an autoscaled service needs at least one replica: without one there is nothing to measure";
        return Err(Fault::invalid(sentence, "give min=1 or more"));
    }
    if rule.min > rule.max {
        let sentence = format!("a minimum of {} replicas is more than the maximum of {}", rule.min, rule.max);
        return Err(Fault::invalid(sentence, "give a maximum that is no less than the minimum"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use events::service_spec::Mode;
    use events::{Autoscale, GlobalMode, ReplicatedMode, ResourceRequirements, Resources, TaskSpec};

    use super::*;

    #[test]
    fn a_rule_has_bounds_and_a_target_that_can_be_measured() {
        let rule = Autoscale { min_replicas: 2, max_replicas: 20, cpu_percent: Some(70), ..Autoscale::default() };
        let ns = |length: Duration| u64::try_from(length.as_nanos()).ok();
        let memory = Autoscale { cpu_percent: None, memory_percent: Some(80), ..rule };
        let table = [
            (rule, 0, ""),
            (Autoscale { min_replicas: 20, ..rule }, 0, ""),
            (memory, 1 << 20, ""),
            (memory, 0, "tasks have neither a memory reservation"),
            (Autoscale { cpu_percent: None, ..rule }, 0, "needs a target"),
            (Autoscale { cpu_percent: Some(0), ..rule }, 0, "cannot be 0% of"),
            (Autoscale { cpu_percent: Some(1_001), ..rule }, 0, "cannot be 1001% of"),
            (Autoscale { min_replicas: 0, ..rule }, 0, "at least one replica"),
            (Autoscale { min_replicas: 21, ..rule }, 0, "more than the maximum of 20"),
            (Autoscale { max_replicas: u64::MAX, ..rule }, 0, "more than a service may have"),
            (Autoscale { window_ns: ns(Duration::from_secs(9)), ..rule }, 0, "averaged over 9s"),
            (Autoscale { window_ns: ns(Duration::from_secs(3_601)), ..rule }, 0, "averaged over 3601s"),
            (Autoscale { cool_down_ns: ns(Duration::from_secs(86_401)), ..rule }, 0, "is too long"),
        ];
        let spec = |mode, rule, memory_bytes| {
            let limits = Some(Resources { memory_bytes, ..Resources::default() });
            let resources = Some(ResourceRequirements { limits, ..ResourceRequirements::default() });
            let task = Some(TaskSpec { resources, ..TaskSpec::default() });
            ServiceSpec { mode: Some(mode), task, autoscale: Some(rule), ..ServiceSpec::default() }
        };
        for (rule, memory_bytes, expected) in table {
            let spec = spec(Mode::Replicated(ReplicatedMode { replicas: 3 }), rule, memory_bytes);
            let refusal = autoscale(&spec).err().map(|fault| fault.sentence).unwrap_or_default();
            assert!(refusal.contains(expected) && refusal.is_empty() == expected.is_empty(), "{rule:?}: {refusal}");
        }
        let global = spec(Mode::Global(GlobalMode {}), rule, 0);
        assert!(autoscale(&global).is_err_and(|fault| fault.sentence.contains("only a replicated service")));
    }
}
