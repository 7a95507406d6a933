//! Where tasks may and should run.

use events::Placement;
use events::spec::{Constraint, constraint};

use super::{Fault, Verdict};
use crate::text::quote;

/// The labels over which tasks can be spread.
const SPREADS: [&str; 2] = ["node.labels.", "engine.labels."];

/// Constraints and preferences have to be readable now: later, nobody would be there to be told.
pub(super) fn placement(placement: &Placement) -> Verdict {
    for text in &placement.constraints {
        Constraint::parse(text).map_err(|_| {
            let hint = format!("write key==value or key!=value, with one of the keys {}", constraint::KEYS);
            Fault::invalid(format!("{} is not a placement constraint", quote(text)), hint)
        })?;
    }
    for preference in &placement.preferences {
        if !is_spread(&preference.spread) {
            let hint = "spread over node.labels.<key> or engine.labels.<key>";
            return Err(Fault::invalid(format!("{} is not a placement preference", quote(&preference.spread)), hint));
        }
    }
    Ok(())
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
        assert_eq!(with("node.labels.zone != a"), Ok(()));
        for text in ["", "node.labels.zone", "zone==a", "node.ip==nowhere"] {
            assert!(with(text).is_err(), "{text}");
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
