//! Schedules of jobs and their time zones.

use events::JobSchedule;
use events::spec::{SCHEDULE_HINT, Timetable, TimetableError, ZONE_HINT};

use super::Invalid;

/// Checks a cron expression or a nickname, and returns it unchanged.
///
/// # Errors
/// When it is malformed, or never occurs.
pub fn parse(text: &str) -> Result<String, Invalid> {
    match judged(text, "") {
        Ok(_) => Ok(text.to_owned()),
        Err(TimetableError::Never) => {
            Err(Invalid::new(format!("the time \"{text}\" never comes"), "name a day that the month has"))
        }
        Err(TimetableError::Expression | TimetableError::TimeZone) => {
            Err(Invalid::new(format!("\"{text}\" is not a schedule"), SCHEDULE_HINT))
        }
    }
}

/// Checks the IANA name of a time zone, and returns it unchanged.
///
/// # Errors
/// When the time zone does not exist.
pub fn parse_zone(text: &str) -> Result<String, Invalid> {
    match judged("@daily", text) {
        Ok(_) if !text.is_empty() => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(Invalid::new(format!("there is no time zone \"{text}\""), ZONE_HINT)),
    }
}

fn judged(cron: &str, zone: &str) -> Result<Timetable, TimetableError> {
    Timetable::of(&JobSchedule { cron: cron.to_owned(), time_zone: zone.to_owned(), ..JobSchedule::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_and_zones_are_accepted_or_refused_with_a_sentence() {
        assert_eq!(parse("30 3 * * MON-FRI").as_deref(), Ok("30 3 * * MON-FRI"));
        assert_eq!(parse_zone("Europe/Berlin").as_deref(), Ok("Europe/Berlin"));
        let refused = |result: Result<String, Invalid>| result.expect_err("refused").to_string();
        assert!(refused(parse("each day")).contains("\"each day\" is not a schedule"));
        assert!(refused(parse("0 0 31 4 *")).contains("never comes"));
        assert!(refused(parse_zone("")).contains("no time zone"));
        assert!(refused(parse_zone("Berlin")).contains("no time zone \"Berlin\""));
    }
}
