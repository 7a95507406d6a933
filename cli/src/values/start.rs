//! Where a reading of history begins: at an index or at a time.

use std::time::Duration;

use events::Timestamp;

use super::Invalid;

const HINT: &str =
    "write an index such as 120, or a time such as 2026-01-31T12:00:00Z, \"2026-01-31 12:00\" (UTC) or 2026-01-31";

/// A place in history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The frame with this index.
    Index(u64),
    /// The first frame at or after this time.
    Time(Timestamp),
}

/// Reads an index, or a time: RFC 3339, in which seconds may be left out, the letter between date and time may be a space, and
/// no offset means UTC; or a date alone, which is its midnight in UTC.
///
/// # Errors
/// When the text is neither.
pub fn parse(text: &str) -> Result<Start, Invalid> {
    if let Ok(index) = text.parse() {
        return Ok(Start::Index(index));
    }
    let time = time(text).map(Start::Time);
    time.ok_or_else(|| {
        let what =
            if is_too_late(text) { "is too late: times end in April 2262" } else { "is neither an index nor a time" };
        Invalid::new(format!("\"{text}\" {what}"), HINT)
    })
}

/// Whether a text that is no time would be one, were its year not later than an instant can say.
fn is_too_late(text: &str) -> bool {
    let Some((year, rest)) = text.split_at_checked(4) else { return false };
    year.parse().is_ok_and(|year: u32| year >= 2262) && time(&format!("2000{rest}")).is_some()
}

fn time(text: &str) -> Option<Timestamp> {
    const DATE_LENGTH: usize = "2026-01-31".len();
    let (date, rest) = text.split_at_checked(DATE_LENGTH)?;
    let rest = rest.strip_prefix(['T', 't', ' ']).or_else(|| rest.is_empty().then_some("00:00"))?;
    // A date has hyphens, a clock has none: one here begins an offset.
    let clock_length = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, offset) = rest.split_at(clock_length);
    let seconds = if clock.matches(':').count() == 1 { ":00" } else { "" };
    let local: Timestamp = format!("{date}T{clock}{seconds}Z").parse().ok()?;
    // What is east of Greenwich is ahead of it.
    match (offset.get(..1), offset.get(1..)) {
        (Some("+"), Some(length)) => Some(local - ahead(length)?),
        (Some("-"), Some(length)) => Some(local + ahead(length)?),
        (None | Some("Z" | "z"), None | Some("")) => Some(local),
        (None | Some(_), _) => None,
    }
}

/// `02:00` as a length of time.
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
            "yesterday",
            "-1",
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
