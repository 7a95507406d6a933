//! Rules for the number of replicas by resource usage: `min=2,max=20,cpu=70%`, or `off`.

use events::Autoscale;

use super::{Invalid, duration};
use crate::spec::ns;

const HINT: &str = "write min=NUMBER,max=NUMBER,cpu=PERCENT,memory=PERCENT,window=DURATION,cool-down=DURATION, such as \
    min=2,max=20,cpu=70%, or off";

/// The requested setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Setting {
    /// A fixed number of replicas.
    Off,
    /// The number follows from this rule.
    On(Autoscale),
}

/// Reads a rule.
///
/// # Errors
/// When a key is unknown, a value malformed, or a bound missing.
pub fn parse(text: &str) -> Result<Setting, Invalid> {
    if text == "off" {
        return Ok(Setting::Off);
    }
    let mut rule = Autoscale::default();
    let (mut min, mut max) = (None, None);
    for part in text.split(',') {
        let malformed = |what: &str| Invalid::new(format!("\"{part}\" is not {what}"), HINT);
        let number = |text: &str| text.parse::<u64>().map_err(|_| malformed("a number of replicas"));
        let percent = |text: &str| {
            let number = text.strip_suffix('%').unwrap_or(text).parse::<u32>();
            number.map(Some).map_err(|_| malformed("a percentage"))
        };
        match part.split_once('=') {
            Some(("min", value)) => min = Some(number(value)?),
            Some(("max", value)) => max = Some(number(value)?),
            Some(("cpu", value)) => rule.cpu_percent = percent(value)?,
            Some(("memory", value)) => rule.memory_percent = percent(value)?,
            Some(("window", value)) => rule.window_ns = Some(ns(duration::parse(value)?)),
            Some(("cool-down", value)) => rule.cool_down_ns = Some(ns(duration::parse(value)?)),
            Some(_) | None => return Err(malformed("a part of a rule of autoscaling")),
        }
    }
    let (Some(min_replicas), Some(max_replicas)) = (min, max) else {
        return Err(Invalid::new("autoscaling needs bounds", HINT));
    };
    Ok(Setting::On(Autoscale { min_replicas, max_replicas, ..rule }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_bounds_targets_and_times() {
        let bounds = Autoscale { min_replicas: 2, max_replicas: 20, ..Autoscale::default() };
        let times = Autoscale {
            memory_percent: Some(80),
            window_ns: Some(30_000_000_000),
            cool_down_ns: Some(60_000_000_000),
            ..bounds
        };
        let table = [
            ("off", Setting::Off),
            ("min=2,max=20,cpu=70%", Setting::On(Autoscale { cpu_percent: Some(70), ..bounds })),
            ("cpu=70,max=20,min=2", Setting::On(Autoscale { cpu_percent: Some(70), ..bounds })),
            ("min=2,max=20,memory=80%,window=30s,cool-down=1m", Setting::On(times)),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        let refused = [
            "",
            "on",
            "min=2,cpu=70%",
            "max=2,cpu=70%",
            "min=-1,max=2",
            "min=1,max=2,cpu=much",
            "min=1,max=2,cpu=-7%",
            "min=1,max=2,window=9",
        ];
        for text in refused {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
