//! Placement constraints and preferences: `node.role==worker`, `spread=node.labels.zone`.

use events::spec::Constraint;

use super::Invalid;

const HINT: &str = "write KEY==VALUE, KEY!=VALUE, KEY=~REGEX, or for labels with numbers or versions KEY<VALUE, KEY<=VALUE, \
                    KEY>VALUE, KEY>=VALUE; keys are node.id, node.hostname, node.ip, node.role, \
                    node.platform.os, node.platform.arch, node.labels.<key> and engine.labels.<key>";
const SPREAD_HINT: &str = "write spread=node.labels.<key> or spread=engine.labels.<key>";

/// Checks a constraint and returns it unchanged.
///
/// # Errors
/// When the operator is missing, the key is unknown or the value malformed.
pub fn parse(text: &str) -> Result<String, Invalid> {
    Constraint::parse(text).map_err(|error| Invalid::new(error.to_string(), HINT))?;
    Ok(text.to_owned())
}

/// Reads `spread=<label>` and returns the label.
///
/// # Errors
/// When the strategy is not `spread` or the label is neither a node's nor an engine's.
pub fn parse_preference(text: &str) -> Result<String, Invalid> {
    let label =
        text.split_once('=').and_then(|(strategy, label)| (strategy.trim() == "spread").then_some(label.trim()));
    let known = |label: &&str| {
        let key = label.strip_prefix("node.labels.").or_else(|| label.strip_prefix("engine.labels."));
        key.is_some_and(|key| !key.is_empty())
    };
    let label = label.filter(known).map(str::to_owned);
    label.ok_or_else(|| {
        Invalid::new(format!("placement preference \"{text}\" is not a spread over a label"), SPREAD_HINT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_checked_here_and_sent_as_written() {
        assert_eq!(parse("node.labels.zone == east"), Ok("node.labels.zone == east".to_owned()));
        assert!(parse("node.role=worker").is_err());
    }

    #[test]
    fn preferences_name_a_label() {
        assert_eq!(parse_preference("spread=node.labels.zone"), Ok("node.labels.zone".to_owned()));
        for text in ["", "node.labels.zone", "binpack=node.labels.zone", "spread=node.id", "spread=node.labels."] {
            assert!(parse_preference(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_hint_names_every_key_and_operator() {
        for key in events::spec::constraint::KEYS.split(',') {
            assert!(HINT.contains(key.trim()), "{key}");
        }
        assert!(HINT.contains(events::spec::constraint::OPERATOR_HINT));
    }
}
