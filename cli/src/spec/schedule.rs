//! The schedule of a job.

use std::time::Duration;

use clap::{Args, ValueEnum};
use events::ServiceSpec;

use super::{ns, set};
use crate::failure::{Failure, Kind};
use crate::values::{duration, schedule};

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Overlap {
    /// Skip the new run
    Forbid,
    /// Run both
    Allow,
    /// End the current run
    Replace,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Schedule of a job")]
pub(super) struct ScheduleFlags {
    /// When the job runs: minute, hour, day of month, month, day of week, or @hourly, @daily, @weekly, @monthly, @yearly
    #[arg(long, value_name = "CRON", value_parser = schedule::parse)]
    schedule: Option<String>,

    /// Time zone of the schedule, such as Europe/Berlin (default UTC)
    #[arg(long, value_name = "ZONE", value_parser = schedule::parse_zone)]
    time_zone: Option<String>,

    /// What to do if a run is due while the previous one is still active (default forbid)
    #[arg(long, value_name = "POLICY")]
    overlap: Option<Overlap>,

    /// How late a missed run may start; without a limit the last missed run starts as soon as possible
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    start_deadline: Option<Duration>,
}

impl ScheduleFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) -> Result<(), Failure> {
        if *self == Self::default() {
            return Ok(());
        }
        if !spec.is_job() {
            return Err(Failure::new(Kind::Usage, "a schedule is for jobs")
                .hint("create the service with --mode replicated-job or --mode global-job"));
        }
        if self.schedule.is_none() && spec.schedule.is_none() {
            return Err(Failure::new(Kind::Usage, "the job has no schedule").hint("give one with --schedule"));
        }
        let overlap = self.overlap.map(|policy| match policy {
            Overlap::Forbid => events::Overlap::Forbid,
            Overlap::Allow => events::Overlap::Allow,
            Overlap::Replace => events::Overlap::Replace,
        });
        let schedule = spec.schedule.get_or_insert_default();
        set(&mut schedule.cron, &self.schedule);
        set(&mut schedule.time_zone, &self.time_zone);
        set(&mut schedule.overlap, &overlap.map(Into::into));
        set(&mut schedule.start_deadline_ns, &self.start_deadline.map(|length| Some(ns(length))));
        Ok(())
    }
}
