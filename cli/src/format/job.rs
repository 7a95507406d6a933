//! The outlook of a job: its run, the next one, those that were skipped, and what it waits for.

use events::{Kind, RunSkipped, Timestamp};
use wire::v1::{EventRecord, ServiceView};

use super::block::Block;
use super::{age, phrase, service};
use crate::values::duration;

/// A job, and the events of its last skipped runs, oldest first.
pub struct Job {
    /// The job.
    pub service: ServiceView,
    /// The events of those runs.
    pub skipped: Vec<EventRecord>,
}

/// The part of an explanation that only jobs have.
pub fn outlook(block: &mut Block, Job { service, skipped }: &Job, now: Timestamp) {
    block.section("Job", |block| {
        service::run(block, service, now);
        block.prose("Awaited", &awaited(service, now));
        let missed = skipped.iter().filter_map(|record| match &record.event.kind {
            Some(Kind::RunSkipped(of)) => Some(missed(of)),
            _ => None,
        });
        block.each("Skipped", missed);
    });
}

fn missed(of: &RunSkipped) -> String {
    format!("{}: {}", of.due.minute(), phrase::skipped(of))
}

/// What the job is waiting for.
fn awaited(job: &ServiceView, now: Timestamp) -> String {
    let next = job.next_run.map(|due| format!("the next run, {}", age::ahead(due.since(now))));
    let Some(run) = job.run else {
        return next.unwrap_or_else(|| "its tasks, which are about to be created".to_owned());
    };
    let expected = job.spec.completions().map(|of| of.total.saturating_mul(run.abreast));
    let ended = job.finished_places + job.failed_places;
    let open = expected.map_or(job.desired_tasks, |total| total.saturating_sub(ended)).max(job.live_tasks);
    let failed = match job.failed_places {
        0 => String::new(),
        1 => "; 1 task failed and is not restarted".to_owned(),
        more => format!("; {more} tasks failed and are not restarted"),
    };
    let retry = job.restarting.as_ref().and_then(|of| of.next_attempt).map_or_else(String::new, |at| {
        format!("; the next attempt of one that failed is in {}", duration::show(at.since(now)))
    });
    match (open, next) {
        (0, Some(next)) => format!("{next}{failed}"),
        (0, None) if failed.is_empty() => {
            "nothing: it is finished, and `service update --force` runs it again".to_owned()
        }
        (0, None) => format!("nothing{failed}; `service update --force` runs it again"),
        (1, _) => format!("1 task has yet to complete{failed}{retry}"),
        (more, _) => format!("{more} tasks have yet to complete{failed}{retry}"),
    }
}
