//! Rules for moving tasks to nodes with fewer tasks: `max=2,every=30s`, `on` or `off`.

use events::Rebalance;

use super::{Invalid, duration};
use crate::spec::ns;

const HINT: &str = "write max=NUMBER,every=DURATION, such as max=2,every=1m, or on, or off";

/// The requested setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Setting {
    /// Tasks stay where they are.
    Off,
    /// Tasks move by this rule.
    On(Rebalance),
}

/// Reads a rule; omitted keys have their defaults.
///
/// # Errors
/// When a key is unknown or a value malformed.
pub fn parse(text: &str) -> Result<Setting, Invalid> {
    match text {
        "off" => return Ok(Setting::Off),
        "on" => return Ok(Setting::On(Rebalance::default())),
        _ => {}
    }
    let mut rule = Rebalance::default();
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("max", number)) => {
                let number = number.parse();
                let of = |_| Invalid::new(format!("\"{part}\" is not a number of tasks"), HINT);
                rule.max_tasks = Some(number.map_err(of)?);
            }
            Some(("every", length)) => rule.every_ns = Some(ns(duration::parse(length)?)),
            Some(_) | None => {
                return Err(Invalid::new(format!("\"{part}\" is no part of a rule of rebalancing"), HINT));
            }
        }
    }
    Ok(Setting::On(rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_says_how_many_tasks_move_and_how_often() {
        let on = |max_tasks, every_ns| Ok(Setting::On(Rebalance { max_tasks, every_ns }));
        let table = [
            ("off", Ok(Setting::Off)),
            ("on", on(None, None)),
            ("max=2", on(Some(2), None)),
            ("every=1m", on(None, Some(60_000_000_000))),
            ("max=2,every=30s", on(Some(2), Some(30_000_000_000))),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{text}");
        }
        for text in ["", "max", "max=", "max=-1", "max=two", "every=5", "max=1,pace=2s", "max=1,", "ON"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
