//! Durations in Go's syntax, as in Docker's and SwarmKit's tools: `1m30s`, `1.5h`, `100ms`.

use std::time::Duration;

use super::Invalid;

const HINT: &str = "write numbers with units (h, m, s, ms, us, ns), such as 1m30s, 1.5h or 100ms";
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
/// The longest duration that Go can hold, about 292 years.
const NS_MAX: u128 = i64::MAX as u128;

/// Reads a duration.
///
/// # Errors
/// When the text is malformed, lacks a unit, is negative or longer than 292 years.
pub fn parse(text: &str) -> Result<Duration, Invalid> {
    let error = |why: String| Invalid::new(why, HINT);
    let malformed = || error(format!("invalid duration \"{text}\""));
    if text.starts_with('-') {
        return Err(error(format!("duration \"{text}\" is negative")));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(malformed());
    }
    let mut total = 0u128;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !is_number(c)).unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(malformed());
        }
        if unit.is_empty() {
            return Err(error(format!("missing unit in duration \"{text}\"")));
        }
        let unit_ns = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ns)| *ns);
        let unit_ns = unit_ns.ok_or_else(|| error(format!("unknown unit \"{unit}\" in duration \"{text}\"")))?;
        total = part(whole, fraction, unit_ns).map_or(NS_MAX + 1, |ns| total + ns);
        if total > NS_MAX {
            return Err(error(format!("duration \"{text}\" is longer than 292 years")));
        }
        rest = after;
    }
    Ok(Duration::from_nanos(u64::try_from(total).unwrap_or(u64::MAX)))
}

fn is_number(character: char) -> bool {
    character == '.' || character.is_ascii_digit()
}

/// Nanoseconds of `whole.fraction` units; fractions of a nanosecond are dropped, as in Go. `None` if too long.
fn part(whole: &str, fraction: &str, unit_ns: u128) -> Option<u128> {
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(18)];
    let parts: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let ns = whole.checked_mul(unit_ns)? + parts * unit_ns / 10u128.pow(u32::try_from(fraction.len()).ok()?);
    (ns <= NS_MAX).then_some(ns)
}

/// Writes a duration as Go does: `1m30s`, `100ms`, `2160h0m0s`.
pub fn show(length: Duration) -> String {
    let ns = length.as_nanos();
    let (seconds, minutes, hours) = (ns / 1_000_000_000, ns / 60_000_000_000, ns / 3_600_000_000_000);
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(ns, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(ns, 1_000_000)),
        _ => {
            let last = fraction(ns % 60_000_000_000, 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{last}s"),
                (0, _) => format!("{}m{last}s", seconds / 60),
                _ => format!("{hours}h{}m{last}s", minutes % 60),
            }
        }
    }
}

/// `ns` in units of `unit_ns`, with as many decimals as necessary.
fn fraction(ns: u128, unit_ns: u128) -> String {
    let places = unit_ns.ilog10() as usize;
    let text = format!("{}.{:0places$}", ns / unit_ns, ns % unit_ns);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_go_reads_it() {
        let table = [
            ("0", 0),
            ("+5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("100ms", 100_000_000),
            ("1h15m30.918273645s", 4_530_918_273_645),
            ("10us", 10_000),
            ("10µs", 10_000),
            ("7ns", 7),
            ("0.0000000001s", 0),
            ("2540400h10m10.000000000s", 9_145_440_610_000_000_000),
        ];
        for (text, ns) in table {
            assert_eq!(parse(text).map(|length| length.as_nanos()), Ok(ns), "{text}");
        }
    }

    #[test]
    fn other_text_is_refused_in_go_s_words() {
        let table = [
            ("", "invalid duration \"\""),
            ("abc", "invalid duration \"abc\""),
            (".s", "invalid duration \".s\""),
            ("1.2.3s", "invalid duration \"1.2.3s\""),
            ("5", "missing unit in duration \"5\""),
            ("1m30", "missing unit in duration \"1m30\""),
            ("5d", "unknown unit \"d\" in duration \"5d\""),
            ("1 s", "unknown unit \" s\" in duration \"1 s\""),
            ("-5s", "duration \"-5s\" is negative"),
            ("3000000h", "duration \"3000000h\" is longer than 292 years"),
            ("99999999999999999999999999999999999999999h", "is longer than 292 years"),
        ];
        for (text, sentence) in table {
            let error = parse(text).expect_err(text);
            assert!(error.sentence.contains(sentence), "{text}: {error}");
        }
    }

    #[test]
    fn text_is_written_as_go_writes_it_and_read_back() {
        let table = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (90_000_000_000, "1m30s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (3_600_000_000_000, "1h0m0s"),
            (7_776_000_000_000_000, "2160h0m0s"),
        ];
        for (ns, text) in table {
            assert_eq!(show(Duration::from_nanos(ns)), text);
            assert_eq!(parse(text), Ok(Duration::from_nanos(ns)));
        }
    }
}
