//! Affinities: `service==db`, and where they are preferred with a weight: `service!=web,weight=10`.

use events::spec::affinity::{Affinity, WEIGHTS};

use super::Invalid;

const HINT: &str = "write service==NAME, service!=NAME, image==REFERENCE, image!=REFERENCE or a placement constraint";
const WEIGHT_HINT: &str = "write EXPRESSION,weight=NUMBER with a number from 1 to 100";
/// The default weight.
const WEIGHT: u32 = 1;

/// Reads a required affinity.
///
/// # Errors
/// When it names neither a service nor an image and is not a constraint.
pub fn parse(text: &str) -> Result<events::Affinity, Invalid> {
    Affinity::parse(text).map_err(|sentence| Invalid::new(sentence, HINT))?;
    Ok(events::Affinity { expression: text.to_owned(), weight: None })
}

/// Reads a preferred affinity.
///
/// # Errors
/// When the affinity or its weight is malformed.
pub fn parse_preferred(text: &str) -> Result<events::Affinity, Invalid> {
    let (expression, weight) = match text.rsplit_once(",weight=") {
        Some((expression, weight)) => (expression, weight.parse().ok().filter(|weight| WEIGHTS.contains(weight))),
        None => (text, Some(WEIGHT)),
    };
    let wrong = || Invalid::new(format!("affinity \"{text}\" has a weight that is not from 1 to 100"), WEIGHT_HINT);
    let weight = weight.ok_or_else(wrong)?;
    Ok(events::Affinity { weight: Some(weight), ..parse(expression)? })
}

/// Writes an affinity in the same form.
pub fn show(affinity: &events::Affinity) -> String {
    match affinity.weight {
        Some(weight) => format!("{} (preferred, weight {weight})", affinity.expression),
        None => affinity.expression.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_follows_the_expression() {
        let table = [
            ("service==db", Some(("service==db", 1))),
            ("service!=db,weight=7", Some(("service!=db", 7))),
            ("node.labels.zone=~a{1,3},weight=100", Some(("node.labels.zone=~a{1,3}", 100))),
            ("service==db,weight=0", None),
            ("service==db,weight=101", None),
            ("service==db,weight=much", None),
            ("container==db", None),
        ];
        for (text, expected) in table {
            let parsed = parse_preferred(text).ok();
            let parsed = parsed.as_ref().map(|of| (of.expression.as_str(), of.weight.unwrap_or_default()));
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn the_hint_is_the_managers() {
        assert!(HINT.contains(events::spec::affinity::AFFINITY_HINT));
    }
}
