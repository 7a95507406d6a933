//! How long history is kept before it is archived: a duration, usually in days, or `forever`.

use std::time::Duration;

use super::{Invalid, duration};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The duration; `None` keeps it permanently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep(pub Option<Duration>);

/// Reads a value such as `400d`, `36h` or `forever`; 0 means forever too.
///
/// # Errors
/// When the text is none of these.
pub fn parse(text: &str) -> Result<Keep, Invalid> {
    if text == "forever" {
        return Ok(Keep(None));
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let keep = match days {
        Some(days) => DAY.checked_mul(days).filter(|keep| i64::try_from(keep.as_nanos()).is_ok()),
        None => {
            Some(duration::parse(text).map_err(|invalid| Invalid { hint: "write 400d, 36h or forever", ..invalid })?)
        }
    };
    let keep = keep.ok_or_else(|| Invalid::new(format!("{text} is longer than 292 years"), "write forever"))?;
    Ok(Keep(Some(keep).filter(|keep| !keep.is_zero())))
}

/// Writes the duration, in days if it is a whole number of days.
pub fn show(keep: Duration) -> String {
    let is_days = keep.as_secs().is_multiple_of(DAY.as_secs()) && keep.subsec_nanos() == 0;
    if is_days { format!("{}d", keep.as_secs() / DAY.as_secs()) } else { duration::show(keep) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_hours_and_forever_are_read_and_written() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
        let table = [
            ("400d", hours(9_600), "400d"),
            ("36h", hours(36), "36h0m0s"),
            ("48h", hours(48), "2d"),
            ("forever", None, ""),
            ("0", None, ""),
            ("0d", None, ""),
        ];
        for (text, expected, shown) in table {
            let Ok(Keep(keep)) = parse(text) else { panic!("{text}") };
            assert_eq!((keep, keep.map(show).unwrap_or_default().as_str()), (expected, shown), "{text}");
        }
        for text in ["", "d", "-1d", "1.5d", "400000d", "never", "1y"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
