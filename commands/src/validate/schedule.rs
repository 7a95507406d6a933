//! Schedules of jobs.

use events::spec::{SCHEDULE_HINT, Timetable, TimetableError, ZONE_HINT};
use events::{JobSchedule, Overlap, ServiceSpec};

use super::{Fault, Verdict, duration, known};

/// Maximum length of an expression: a list of every minute of an hour has 169 bytes.
const CRON_BYTES_MAX: usize = 1_024;

/// Minimum start deadline: a turn starts a run some milliseconds after it was due.
const START_DEADLINE_NS_MIN: u64 = 1_000_000_000;

/// The schedule of a service, which only a job may have.
pub(super) fn schedule(spec: &ServiceSpec, schedule: &JobSchedule) -> Verdict {
    if !spec.is_job() {
        let sentence = "only a job has a schedule: other services run all the time";
        return Err(Fault::invalid(sentence, "make it a replicated job or a global job"));
    }
    known::<Overlap>(schedule.overlap, "policy for overlaps")?;
    if schedule.overlap() == Overlap::Allow && spec.is_global() {
        let sentence = "runs of a global job cannot overlap: it has one task on every node";
        return Err(Fault::invalid(sentence, "forbid the overlap, or let a run replace the previous one"));
    }
    if let Some(deadline) = schedule.start_deadline_ns {
        duration(deadline, "start deadline")?;
        if deadline < START_DEADLINE_NS_MIN {
            let sentence = "the start deadline is shorter than 1s: every run would be late";
            return Err(Fault::invalid(
                sentence,
                "give a longer one, or none, so that a run starts however late it is",
            ));
        }
    }
    if schedule.cron.len() > CRON_BYTES_MAX {
        let sentence = format!("the schedule has {} bytes; the maximum is {CRON_BYTES_MAX}", schedule.cron.len());
        return Err(Fault::invalid(sentence, SCHEDULE_HINT));
    }
    let (cron, zone) = (&schedule.cron, &schedule.time_zone);
    Timetable::of(schedule).map(|_| ()).map_err(|error| match error {
        TimetableError::Expression => Fault::invalid(format!("\"{cron}\" is not a schedule"), SCHEDULE_HINT),
        TimetableError::TimeZone => Fault::invalid(format!("there is no time zone \"{zone}\""), ZONE_HINT),
        TimetableError::Never => {
            Fault::invalid(format!("the time \"{cron}\" never comes"), "name a day that the month has")
        }
    })
}

#[cfg(test)]
mod tests {
    use events::service_spec::Mode;
    use events::{GlobalJobMode, ReplicatedJobMode, ReplicatedMode};

    use super::*;

    #[test]
    fn a_schedule_suits_its_job_and_can_be_followed() {
        let (job, global) = (Mode::ReplicatedJob(ReplicatedJobMode::default()), Mode::GlobalJob(GlobalJobMode {}));
        let daily = |overlap: Overlap| JobSchedule {
            cron: "@daily".to_owned(),
            overlap: overlap.into(),
            ..JobSchedule::default()
        };
        let cron = |cron: &str| JobSchedule { cron: cron.to_owned(), ..JobSchedule::default() };
        let late = |deadline| JobSchedule { start_deadline_ns: Some(deadline), ..daily(Overlap::Forbid) };
        let zone = JobSchedule { time_zone: "Nowhere".to_owned(), ..daily(Overlap::Forbid) };
        let table = [
            (job, daily(Overlap::Allow), ""),
            (global, daily(Overlap::Replace), ""),
            (global, daily(Overlap::Allow), "runs of a global job cannot overlap"),
            (Mode::Replicated(ReplicatedMode { replicas: 1 }), daily(Overlap::Forbid), "only a job has a schedule"),
            (job, cron("* * *"), "\"* * *\" is not a schedule"),
            (job, cron(&"1,".repeat(600)), "the maximum is 1024"),
            (job, late(0), "the start deadline is shorter than 1s"),
            (job, late(START_DEADLINE_NS_MIN), ""),
            (job, cron("0 0 30 2 *"), "never comes"),
            (job, zone, "there is no time zone \"Nowhere\""),
            (job, JobSchedule { overlap: 9, ..cron("@daily") }, "9 is not a policy for overlaps"),
            (job, JobSchedule { start_deadline_ns: Some(u64::MAX), ..cron("@daily") }, "longer than 292 years"),
        ];
        for (mode, of, expected) in table {
            let spec = ServiceSpec { mode: Some(mode), ..ServiceSpec::default() };
            let refusal = schedule(&spec, &of).err().map(|fault| fault.sentence).unwrap_or_default();
            assert!(refusal.contains(expected) && refusal.is_empty() == expected.is_empty(), "{of:?}: {refusal}");
        }
    }
}
