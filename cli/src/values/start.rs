//! The start or end of a read of history: an index or a time, which may be relative to now.

use std::time::Duration;

use events::Timestamp;

use super::{Invalid, duration};

const HINT: &str = "write an index such as 120, a time such as 2026-01-31T12:00:00Z, \"2026-01-31 12:00\" (UTC), 2026-01-31 or \
                    03:12, \"yesterday 14:00\", or how long ago, such as 1h30m, 2d, today or yesterday";
/// Seconds of a day.
const DAY: u64 = 24 * 3_600;

/// A position in history, as written by the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The frame with this index.
    Index(u64),
    /// A timestamp.
    Time(Timestamp),
    /// This long ago.
    Ago(Duration),
    /// This long after a midnight in UTC, which is a number of days before the last midnight.
    Day(u64, Duration),
    /// The last time that a clock in UTC showed this time of day.
    Clock(Duration),
}

/// A position in history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The frame with this index.
    Index(u64),
    /// A timestamp.
    Time(Timestamp),
}

impl Start {
    /// The position, resolved relative to `now`.
    pub fn at(self, now: Timestamp) -> Place {
        let day = Duration::from_secs(DAY);
        let midnight = || Timestamp::from_unix_ns(now.unix_ns() - now.unix_ns().rem_euclid(ns(day)));
        let time = match self {
            Start::Index(index) => return Place::Index(index),
            Start::Time(time) => time,
            Start::Ago(length) => back(now, length),
            Start::Day(days, clock) => back(midnight() + clock, Duration::from_secs(days.saturating_mul(DAY))),
            Start::Clock(since_midnight) => {
                let today = midnight() + since_midnight;
                if today <= now { today } else { back(today, day) }
            }
        };
        Place::Time(time)
    }
}

fn ns(length: Duration) -> i64 {
    i64::try_from(length.as_nanos()).unwrap_or(i64::MAX)
}

/// Earlier by this duration; clamped to the earliest timestamp.
fn back(time: Timestamp, length: Duration) -> Timestamp {
    Timestamp::from_unix_ns(time.unix_ns().saturating_sub(ns(length)))
}

/// Reads an index or a time. A time is one of: RFC 3339, where seconds may be omitted, a space may separate date and time, and
/// UTC is the default; a date alone, which is its midnight in UTC; a time of day in UTC, the last one; or a duration ago.
///
/// # Errors
/// When the text is none of these.
pub fn parse(text: &str) -> Result<Start, Invalid> {
    if let Ok(index) = text.parse() {
        return Ok(Start::Index(index));
    }
    let found = relative(text).or_else(|| time(text).map(Start::Time)).or_else(|| clock(text));
    found.ok_or_else(|| {
        let what =
            if is_too_late(text) { "is too late: times end in April 2262" } else { "is neither an index nor a time" };
        Invalid::new(format!("\"{text}\" {what}"), HINT)
    })
}

/// Reads a time.
///
/// # Errors
/// When the text is malformed.
pub fn parse_time(text: &str) -> Result<Start, Invalid> {
    let hint = "write a time such as 2026-01-31T12:00:00Z, \"2026-01-31 12:00\" (UTC), 2026-01-31 or 03:12, or how long ago, such as \
                1h30m, 2d, today or yesterday";
    match parse(text) {
        Ok(Start::Index(_)) => Err(Invalid::new(format!("\"{text}\" is not a time"), hint)),
        Ok(start) => Ok(start),
        Err(refused) => Err(Invalid::new(refused.sentence.replace("neither an index nor a time", "not a time"), hint)),
    }
}

/// `yesterday`, `yesterday 14:00`, `2d`, `1h30m`, `2h ago`.
fn relative(text: &str) -> Option<Start> {
    if text == "now" {
        return Some(Start::Ago(Duration::ZERO));
    }
    for (day, days) in [("today", 0), ("yesterday", 1)] {
        let Some(rest) = text.strip_prefix(day) else { continue };
        let since_midnight =
            if rest.is_empty() { Some(Duration::ZERO) } else { since_midnight(rest.strip_prefix(' ')?) };
        return since_midnight.map(|clock| Start::Day(days, clock));
    }
    let text = text.strip_suffix(" ago").unwrap_or(text);
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        return Some(Start::Ago(Duration::from_secs(u64::from(days) * DAY)));
    }
    duration::parse(text).ok().map(Start::Ago)
}

/// `03:12` or `03:12:05`.
fn clock(text: &str) -> Option<Start> {
    since_midnight(text).map(Start::Clock)
}

fn since_midnight(text: &str) -> Option<Duration> {
    let since_midnight = time(&format!("1970-01-01T{text}"))?.unix_ns();
    let is_bare = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    is_bare.then(|| Duration::from_nanos(since_midnight.unsigned_abs()))
}

/// Whether a malformed time would be valid if its year were representable.
fn is_too_late(text: &str) -> bool {
    let Some((year, rest)) = text.split_at_checked(4) else { return false };
    year.parse().is_ok_and(|year: u32| year >= 2262) && time(&format!("2000{rest}")).is_some()
}

fn time(text: &str) -> Option<Timestamp> {
    const DATE_LENGTH: usize = "2026-01-31".len();
    let (date, rest) = text.split_at_checked(DATE_LENGTH)?;
    let rest = rest.strip_prefix(['T', 't', ' ']).or_else(|| rest.is_empty().then_some("00:00"))?;
    // A date contains hyphens, a time of day does not: a hyphen here starts an offset.
    let clock_length = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, offset) = rest.split_at(clock_length);
    let seconds = if clock.matches(':').count() == 1 { ":00" } else { "" };
    let local: Timestamp = format!("{date}T{clock}{seconds}Z").parse().ok()?;
    // East of Greenwich, clocks are ahead of UTC.
    match (offset.get(..1), offset.get(1..)) {
        (Some("+"), Some(length)) => Some(local - ahead(length)?),
        (Some("-"), Some(length)) => Some(local + ahead(length)?),
        (None | Some("Z" | "z"), None | Some("")) => Some(local),
        (None | Some(_), _) => None,
    }
}

/// `02:00` as a duration.
fn ahead(text: &str) -> Option<Duration> {
    let (hours, minutes) = text.split_once(':')?;
    let two_digits = |part: &str| (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit())).then_some(());
    two_digits(hours).and(two_digits(minutes))?;
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then(|| Duration::from_secs(hours * 3_600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_an_index_and_the_rest_a_time() {
        assert_eq!(parse("120"), Ok(Start::Index(120)));
        let table = [
            ("1970-01-01T00:00:01Z", 1),
            ("1970-01-01t00:00:01.5z", 1),
            ("1970-01-01 00:01:01Z", 61),
            ("1970-01-01T00:01", 60),
            ("1970-01-01 00:01Z", 60),
            ("1970-01-01T02:00:01+02:00", 1),
            ("1970-01-01 00:30-01:30", 7_200),
            ("1970-01-02", 86_400),
            ("2026-01-31T12:00:00.000000001Z", 1_769_860_800),
        ];
        for (text, seconds) in table {
            let Ok(Start::Time(time)) = parse(text) else { panic!("{text} is a time") };
            assert_eq!(time.unix_ns() / 1_000_000_000, seconds, "{text}");
        }
    }

    #[test]
    fn a_time_may_be_relative_to_now() {
        let Ok(Start::Time(now)) = parse("2026-03-10T15:30:00Z") else { panic!("a time") };
        let table = [
            ("now", "2026-03-10T15:30:00Z"),
            ("1h", "2026-03-10T14:30:00Z"),
            ("1h30m", "2026-03-10T14:00:00Z"),
            ("2d", "2026-03-08T15:30:00Z"),
            ("today", "2026-03-10"),
            ("yesterday", "2026-03-09"),
            ("yesterday 14:00", "2026-03-09T14:00:00Z"),
            ("today 03:12", "2026-03-10T03:12:00Z"),
            ("2h ago", "2026-03-10T13:30:00Z"),
            ("2d ago", "2026-03-08T15:30:00Z"),
            ("03:12", "2026-03-10T03:12:00Z"),
            ("15:30", "2026-03-10T15:30:00Z"),
            ("15:30:01", "2026-03-09T15:30:01Z"),
            ("2025-12-31", "2025-12-31"),
        ];
        for (text, meant) in table {
            let at = |text: &str| parse(text).map(|start| start.at(now));
            assert_eq!(at(text), at(meant), "{text}");
        }
        assert_eq!(parse("7").map(|start| start.at(now)), Ok(Place::Index(7)));
        assert_eq!(parse_time("1h"), parse("1h"));
        for text in ["7", "soon"] {
            assert_eq!(parse_time(text).expect_err("no time").sentence, format!("\"{text}\" is not a time"));
        }
    }

    #[test]
    fn a_time_that_cannot_be_kept_is_refused_as_such() {
        assert!(parse("2262-04-11").is_ok());
        for text in ["2262-04-12", "2300-01-01", "9999-12-31T23:59:59Z"] {
            let refused = parse(text).expect_err("it is too late");
            assert!(refused.sentence.contains("times end in April 2262"), "{refused:?}");
        }
        assert!(parse("9999-13-01").is_err_and(|refused| refused.sentence.contains("neither")));
    }

    #[test]
    fn other_text_is_refused() {
        let table = [
            "",
            "tomorrow",
            "yesterday14:00",
            "yesterday 25:00",
            "2h  ago",
            "ago",
            "-1",
            "-1h",
            "1x",
            "25:00",
            "03:12Z",
            "2026-01",
            "2026-13-01",
            "2026-02-30",
            "2026-01-31T",
            "2026-01-31T25:00",
            "2026-01-31T12",
            "2026-01-31T12:00:00+2",
            "2026-01-31T12:00:00+02:60",
            "2026-01-31T12:00:00+0200",
            "2026-01-31T12:00:00Zulu",
            "2026-01-31x12:00:00Z",
            "31.01.2026",
            "2026-01-3é",
        ];
        for text in table {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
