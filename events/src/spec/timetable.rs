//! The due times of scheduled jobs. The time zone database is compiled into the program, so that machines cannot disagree.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Zoned;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::{JobSchedule, Timestamp};

/// The form of a schedule, for hints.
pub const SCHEDULE_HINT: &str = "write minute, hour, day of month, month and day of week, such as '30 3 * * MON-FRI', or @hourly, \
                                 @daily, @weekly, @monthly or @yearly";

/// The form of a time zone, for hints.
pub const ZONE_HINT: &str = "name it as the IANA does, such as Europe/Berlin or UTC";

/// Why a schedule is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimetableError {
    /// It is not a cron expression.
    Expression,
    /// The time zone does not exist.
    TimeZone,
    /// It is never due.
    Never,
}

/// A parsed schedule.
#[derive(Debug, Clone)]
pub struct Timetable {
    cron: Cron,
    zone: TimeZone,
}

impl Timetable {
    /// Parses a schedule.
    ///
    /// # Errors
    /// When it is invalid.
    pub fn of(schedule: &JobSchedule) -> Result<Self, TimetableError> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&schedule.cron).map_err(|_| TimetableError::Expression)?;
        let zone = match schedule.time_zone.as_str() {
            "" => TimeZone::UTC,
            name => TimeZoneDatabase::bundled().get(name).map_err(|_| TimetableError::TimeZone)?,
        };
        let table = Self { cron, zone };
        table.next_after(Timestamp::from_unix_ns(0)).ok_or(TimetableError::Never)?;
        Ok(table)
    }

    /// The first due time after `at`. A time skipped by a forward clock change is due right after it; a time repeated by a
    /// backward change is due once, unless the schedule is hourly.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        instant(&self.cron.find_next_occurrence(&self.civil(at)?, false).ok()?)
    }

    /// The last due time up to `at`.
    pub fn last_until(&self, at: Timestamp) -> Option<Timestamp> {
        instant(&self.cron.find_previous_occurrence(&self.civil(at)?, true).ok()?)
    }

    fn civil(&self, at: Timestamp) -> Option<Zoned> {
        let at = jiff::Timestamp::from_nanosecond(i128::from(at.unix_ns())).ok()?;
        Some(at.to_zoned(self.zone.clone()))
    }
}

fn instant(at: &Zoned) -> Option<Timestamp> {
    i64::try_from(at.timestamp().as_nanosecond()).ok().map(Timestamp::from_unix_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, zone: &str) -> JobSchedule {
        JobSchedule { cron: cron.to_owned(), time_zone: zone.to_owned(), ..JobSchedule::default() }
    }

    fn at(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().expect("a time");
        Timestamp::from_unix_ns(i64::try_from(at.as_nanosecond()).expect("in range"))
    }

    #[test]
    fn runs_are_due_when_the_clock_of_the_zone_says_so() {
        let table = [
            ("30 3 * * *", "", "2026-11-22T03:30:00Z", "2026-11-23T03:30:00Z"),
            ("*/15 * * * *", "", "2026-11-22T03:31:07.5Z", "2026-11-22T03:45:00Z"),
            ("0 9 * * MON-FRI", "", "2026-11-20T09:00:00Z", "2026-11-23T09:00:00Z"),
            ("@daily", "", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"),
            ("@yearly", "", "2026-11-22T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("0 0 29 2 *", "", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("30 3 * * *", "Asia/Kolkata", "2026-11-22T00:00:00Z", "2026-11-22T22:00:00Z"),
            // Clocks are set forward on 29 March at 2:00 and back on 25 October at 3:00.
            ("30 3 * * *", "Europe/Berlin", "2026-03-28T03:00:00Z", "2026-03-29T01:30:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-03-28T03:00:00Z", "2026-03-29T01:00:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-24T23:00:00Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
            ("30 * * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
        ];
        for (cron, zone, after, expected) in table {
            let next = Timetable::of(&schedule(cron, zone)).expect(cron).next_after(at(after));
            assert_eq!(next, Some(at(expected)), "{cron} {zone} after {after}");
            let last = Timetable::of(&schedule(cron, zone)).expect(cron).last_until(at(expected));
            assert_eq!(last, next, "{cron} {zone} until {expected}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        use TimetableError::{Expression, Never, TimeZone};
        let table = [
            ("", "", Expression),
            ("* * * *", "", Expression),
            ("0 * * * * *", "", Expression),
            ("61 * * * *", "", Expression),
            ("* 24 * * *", "", Expression),
            ("*/0 * * * *", "", Expression),
            ("@reboot", "", Expression),
            ("every day", "", Expression),
            ("0 0 30 2 *", "", Never),
            ("@daily", "Mars/Olympus", TimeZone),
            ("@daily", "../../etc/passwd", TimeZone),
        ];
        for (cron, zone, expected) in table {
            assert_eq!(Timetable::of(&schedule(cron, zone)).err(), Some(expected), "{cron} {zone}");
        }
    }
}
