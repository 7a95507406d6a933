//! Amounts of CPU, memory and generic resources. Upper bounds keep sums over all tasks of a cluster within 64 bits.

use std::collections::BTreeSet;

use events::{GenericResource, ResourceRequirements, Resources};

use super::{Fault, Verdict};
use crate::text::quote;

/// Minimum amount of CPU: a thousandth of a core. Smaller ones come from a mistaken unit.
const NANO_CPUS_MIN: u64 = 1_000_000;
/// Maximum: a million cores.
const NANO_CPUS_MAX: u64 = 1_000_000 * 1_000_000_000;
/// Minimum memory in bytes that an engine accepts.
const MEMORY_MIN: u64 = 4 * 1024 * 1024;
/// Maximum: one EiB.
const MEMORY_MAX: u64 = 1 << 60;
/// Maximum amount of a countable resource.
const AMOUNT_MAX: u64 = 1 << 40;

/// Limits, reservations and swap of a task.
pub(super) fn requirements(of: &ResourceRequirements) -> Verdict {
    if let Some(limits) = &of.limits {
        task_amounts(limits, "limit")?;
        if !limits.generic.is_empty() {
            let hint = "reserve generic resources instead";
            return Err(Fault::invalid("generic resources cannot be limited", hint));
        }
    }
    if let Some(reservations) = &of.reservations {
        task_amounts(reservations, "reservation")?;
        wanted(&reservations.generic)?;
    }
    if let (Some(limits), Some(reservations)) = (&of.limits, &of.reservations) {
        within(reservations.nano_cpus, limits.nano_cpus, "CPU")?;
        within(reservations.memory_bytes, limits.memory_bytes, "memory")?;
    }
    if of.swap_bytes.is_some_and(|bytes| bytes < -1) {
        return Err(Fault::invalid("the swap limit is negative", "give a size, or -1 for no limit"));
    }
    let memory = of.limits.as_ref().map_or(0, |limits| limits.memory_bytes);
    if memory == 0 && of.swap_bytes.is_some() {
        return Err(Fault::invalid("swap is limited, but memory is not", "limit the memory as well"));
    }
    if of.memory_swappiness.is_some_and(|share| !(-1..=100).contains(&share)) {
        return Err(Fault::invalid(
            "the memory swappiness is not a percentage",
            "give 0 to 100, or -1 for the engine's",
        ));
    }
    Ok(())
}

/// A limit of 0 is none.
fn within(reserved: u64, limit: u64, what: &str) -> Verdict {
    if limit > 0 && reserved > limit {
        let sentence = format!("more {what} is reserved than the limit allows");
        return Err(Fault::invalid(sentence, "reserve at most as much as the limit, or raise the limit"));
    }
    Ok(())
}

/// The resources of a node. Nothing is too small here: nodes report what they have.
pub(super) fn offered(of: &Resources) -> Verdict {
    below_bounds(of, "offer")?;
    let mut kinds = BTreeSet::new();
    for resource in &of.generic {
        kind(resource)?;
        if !kinds.insert(&resource.kind) || (resource.amount > 0) != resource.names.is_empty() {
            let sentence =
                format!("the generic resource {} is offered in two ways, or not at all", quote(&resource.kind));
            return Err(Fault::invalid(sentence, "offer each kind once, as a number or as names"));
        }
        let names: BTreeSet<&String> = resource.names.iter().collect();
        if names.len() < resource.names.len() {
            let sentence = format!("the generic resource {} has a name twice", quote(&resource.kind));
            return Err(Fault::invalid(sentence, "give each name once"));
        }
    }
    Ok(())
}

fn task_amounts(of: &Resources, what: &str) -> Verdict {
    if (1..NANO_CPUS_MIN).contains(&of.nano_cpus) {
        let sentence = format!("the CPU {what} of {} billionths of a core is too small", of.nano_cpus);
        return Err(Fault::invalid(sentence, "give at least 0.001 cores, or 0 for none"));
    }
    if (1..MEMORY_MIN).contains(&of.memory_bytes) {
        let sentence = format!("the memory {what} of {} bytes is too small", of.memory_bytes);
        return Err(Fault::invalid(sentence, "give at least 4 MiB, or 0 for none"));
    }
    below_bounds(of, what)
}

fn below_bounds(of: &Resources, what: &str) -> Verdict {
    if of.nano_cpus > NANO_CPUS_MAX {
        return Err(Fault::invalid(format!("the CPU {what} is above a million cores"), "give fewer cores"));
    }
    if of.memory_bytes > MEMORY_MAX {
        return Err(Fault::invalid(format!("the memory {what} is above one EiB"), "give less memory"));
    }
    Ok(())
}

/// A task requests numbers; the scheduler chooses the names.
fn wanted(list: &[GenericResource]) -> Verdict {
    let mut kinds = BTreeSet::new();
    for resource in list {
        kind(resource)?;
        if resource.amount == 0 || !resource.names.is_empty() {
            let sentence = format!("the generic resource {} must be requested by number", quote(&resource.kind));
            return Err(Fault::invalid(
                sentence,
                "write KIND=NUMBER, such as gpu=2; the scheduler chooses which ones a task gets",
            ));
        }
        if !kinds.insert(&resource.kind) {
            let sentence = format!("the generic resource {} is requested twice", quote(&resource.kind));
            return Err(Fault::invalid(sentence, "name each kind once"));
        }
    }
    Ok(())
}

fn kind(resource: &GenericResource) -> Verdict {
    let hint = "write generic resources like gpu=2";
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != '=' && c != ',';
    if resource.kind.is_empty() || !resource.kind.chars().all(fits) {
        return Err(Fault::invalid(format!("{} is not a kind of generic resource", quote(&resource.kind)), hint));
    }
    if resource.amount > AMOUNT_MAX {
        return Err(Fault::invalid(format!("the amount of {} is above {AMOUNT_MAX}", quote(&resource.kind)), hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(nano_cpus: u64, memory_bytes: u64) -> Resources {
        Resources { nano_cpus, memory_bytes, generic: Vec::new() }
    }

    fn generic(kind: &str, amount: u64, names: &[&str]) -> GenericResource {
        GenericResource { kind: kind.into(), amount, names: names.iter().map(|&name| name.into()).collect() }
    }

    #[test]
    fn amounts_have_a_lower_and_an_upper_bound() {
        for (nano_cpus, memory, sound) in [
            (0, 0, true),
            (NANO_CPUS_MIN, MEMORY_MIN, true),
            (NANO_CPUS_MAX, MEMORY_MAX, true),
            (NANO_CPUS_MIN - 1, 0, false),
            (1, 0, false),
            (0, MEMORY_MIN - 1, false),
            (NANO_CPUS_MAX + 1, 0, false),
            (0, MEMORY_MAX + 1, false),
        ] {
            let limits = ResourceRequirements { limits: Some(amounts(nano_cpus, memory)), ..Default::default() };
            let reserved =
                ResourceRequirements { reservations: Some(amounts(nano_cpus, memory)), ..Default::default() };
            assert_eq!(requirements(&limits).is_ok(), sound, "limit {nano_cpus} {memory}");
            assert_eq!(requirements(&reserved).is_ok(), sound, "reservation {nano_cpus} {memory}");
        }
        assert_eq!(offered(&amounts(1, 1)), Ok(()));
        assert!(offered(&amounts(u64::MAX, 0)).is_err());
    }

    #[test]
    fn tasks_ask_by_number_and_nodes_offer_either_way() {
        let asks = |list: &[GenericResource]| {
            let reservations = Some(Resources { generic: list.to_vec(), ..Default::default() });
            requirements(&ResourceRequirements { reservations, ..Default::default() })
        };
        assert_eq!(asks(&[generic("gpu", 1, &[]), generic("fpga", 2, &[])]), Ok(()));
        for wrong in [generic("gpu", 0, &[]), generic("gpu", 0, &["a"]), generic("", 1, &[]), generic("g=p", 1, &[])] {
            assert!(asks(std::slice::from_ref(&wrong)).is_err(), "{wrong:?}");
        }
        assert!(asks(&[generic("gpu", 1, &[]), generic("gpu", 2, &[])]).is_err());

        let offers = |list: &[GenericResource]| offered(&Resources { generic: list.to_vec(), ..Default::default() });
        assert_eq!(offers(&[generic("gpu", 0, &["a", "b"]), generic("fpga", 2, &[])]), Ok(()));
        for wrong in [generic("gpu", 0, &[]), generic("gpu", 1, &["a"]), generic("gpu", 0, &["a", "a"])] {
            assert!(offers(std::slice::from_ref(&wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn limits_are_not_generic_and_swap_is_not_negative() {
        let limits = Some(Resources { generic: vec![generic("gpu", 1, &[])], ..Default::default() });
        assert!(requirements(&ResourceRequirements { limits, ..Default::default() }).is_err());
        let swap = |swap_bytes, memory_swappiness| {
            let limits = Some(Resources { memory_bytes: MEMORY_MIN, ..Default::default() });
            requirements(&ResourceRequirements { limits, swap_bytes, memory_swappiness, ..Default::default() })
        };
        let unlimited = |swap_bytes| requirements(&ResourceRequirements { swap_bytes, ..Default::default() });
        assert!(unlimited(Some(1)).is_err() && unlimited(Some(-1)).is_err() && unlimited(None).is_ok());
        assert_eq!(swap(Some(-1), Some(100)), Ok(()));
        assert!(swap(Some(-2), None).is_err());
        assert!(swap(None, Some(101)).is_err());
    }
}
