//! Placement: constraints, preferences and affinities.

use events::spec::affinity::{AFFINITY_HINT, Affinity, WEIGHTS};
use events::spec::{Constraint, constraint};
use events::{Placement, PlacementStrategy};

use super::{Fault, Verdict, known};
use crate::text::quote;

/// The labels over which tasks can be spread.
const SPREADS: [&str; 2] = ["node.labels.", "engine.labels."];

/// Constraints and preferences must parse now: later, there would be no client to report an error to.
pub(super) fn placement(placement: &Placement) -> Verdict {
    for text in &placement.constraints {
        Constraint::parse(text).map_err(|_| {
            let hint = format!("write {}; keys are {}", constraint::OPERATOR_HINT, constraint::KEYS);
            Fault::invalid(format!("{} is not a placement constraint", quote(text)), hint)
        })?;
    }
    for preference in &placement.preferences {
        if !is_spread(&preference.spread) {
            let hint = "spread over node.labels.<key> or engine.labels.<key>";
            return Err(Fault::invalid(format!("{} is not a placement preference", quote(&preference.spread)), hint));
        }
    }
    placement.affinities.iter().try_for_each(affinity)?;
    strategy(placement.strategy)
}

fn affinity(affinity: &events::Affinity) -> Verdict {
    Affinity::parse(&affinity.expression).map_err(|_| {
        let sentence = format!("{} is not an affinity", quote(&affinity.expression));
        Fault::invalid(sentence, format!("write {AFFINITY_HINT}"))
    })?;
    match affinity.weight {
        Some(weight) if !WEIGHTS.contains(&weight) => {
            let sentence = format!("the weight of an affinity cannot be {weight}");
            Err(Fault::invalid(sentence, "give a weight from 1 to 100, or none where nothing else will do"))
        }
        Some(_) | None => Ok(()),
    }
}

/// A strategy from a later version would be mistaken for another one.
pub(super) fn strategy(strategy: Option<i32>) -> Verdict {
    strategy.map_or(Ok(()), |number| known::<PlacementStrategy>(number, "placement strategy"))
}

fn is_spread(text: &str) -> bool {
    SPREADS.iter().any(|prefix| {
        let (head, key) = (text.get(..prefix.len()), text.get(prefix.len()..));
        head.is_some_and(|head| head.eq_ignore_ascii_case(prefix)) && key.is_some_and(|key| !key.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::PlacementPreference;

    #[test]
    fn constraints_have_to_parse() {
        let with = |text: &str| placement(&Placement { constraints: vec![text.into()], ..Default::default() });
        for text in ["node.labels.zone != a", "node.labels.zone=~^a", "node.labels.cores>=8"] {
            assert_eq!(with(text), Ok(()), "{text}");
        }
        for text in ["", "node.labels.zone=~(", "node.role>1", "node.labels.zone", "zone==a", "node.ip==nowhere"] {
            assert!(with(text).is_err(), "{text}");
        }
    }

    #[test]
    fn affinities_have_to_parse_and_weigh_something() {
        let with = |expression: &str, weight| {
            let affinities = vec![events::Affinity { expression: expression.into(), weight }];
            placement(&Placement { affinities, ..Default::default() }).is_ok()
        };
        for (expression, weight, is_valid) in [
            ("service==db", None, true),
            ("image!=nginx", Some(1), true),
            ("node.labels.disk==ssd", Some(100), true),
            ("node.labels.disk==ssd", Some(101), false),
            ("service==db", Some(0), false),
            ("container==db", None, false),
        ] {
            assert_eq!(with(expression, weight), is_valid, "{expression} {weight:?}");
        }
    }

    #[test]
    fn strategies_are_known_ones() {
        for (number, is_known) in [(None, true), (Some(0), true), (Some(2), true), (Some(3), false), (Some(-1), false)]
        {
            assert_eq!(strategy(number).is_ok(), is_known, "{number:?}");
        }
    }

    #[test]
    fn preferences_name_a_label() {
        let with = |text: &str| {
            let preferences = vec![PlacementPreference { spread: text.into() }];
            placement(&Placement { preferences, ..Default::default() })
        };
        for text in ["node.labels.zone", "engine.labels.storage", "Node.Labels.zone"] {
            assert_eq!(with(text), Ok(()), "{text}");
        }
        for text in ["", "zone", "node.labels.", "node.labels", "node.id", "éééééééééé"] {
            assert!(with(text).is_err(), "{text}");
        }
    }
}
