//! Services: as rows of a table, and one by one.

use events::service_spec::Mode;
use events::spec::Autoscaling;
use events::{Duration, Named, Overlap, PortConfig, Timestamp};
use wire::v1::{Restarting, ServiceMode, ServiceSummary, ServiceView, UpdateState};

use super::block::Block;
use super::table::Table;
use super::template::pairs;
use super::view::View;
use super::{age, restarts, state, template};
use crate::values::{duration, image, port, ratio};

/// The table of `service ls`.
pub fn table(services: &[ServiceSummary], view: View) -> String {
    rows(services, view).render(view.width)
}

/// The same, not yet fitted to a terminal.
pub fn rows(services: &[ServiceSummary], view: View) -> Table {
    let mut table = Table::new(&["ID", "NAME", "MODE", "REPLICAS", "IMAGE", "PORTS", "STATUS"]);
    for service in services {
        let mode = match service.mode() {
            ServiceMode::Global => "global",
            ServiceMode::Replicated => "replicated",
            ServiceMode::ReplicatedJob => "replicated-job",
            ServiceMode::GlobalJob => "global-job",
        };
        table.row([
            service.id.to_string(),
            service.name.clone(),
            mode.to_owned(),
            progress(service),
            image::without_digest(&service.image).to_owned(),
            service.ports.iter().map(published).collect::<Vec<_>>().join(", "),
            status(service, view.now),
        ]);
    }
    table
}

/// A published port in Docker's form: `8080->80/tcp`, or `80/tcp` if the engine picks the node's port.
fn published(port: &PortConfig) -> String {
    match port.published_port {
        0 => format!("{}/{}", port.target_port, port::protocol(port)),
        published => format!("{published}->{}/{}", port.target_port, port::protocol(port)),
    }
}

/// The state of its update, unless that has ended, and its problems.
fn status(service: &ServiceSummary, now: Timestamp) -> String {
    let update = service.update.as_ref().and_then(|update| match update.state() {
        UpdateState::Updating => Some("updating"),
        UpdateState::Paused => Some("update paused"),
        UpdateState::RollbackStarted => Some("rolling back"),
        UpdateState::RollbackPaused => Some("rollback paused"),
        UpdateState::RollbackCompleted if update.requested => Some("rolled back"),
        UpdateState::RollbackCompleted => Some("update failed and rolled back"),
        UpdateState::Completed => None,
    });
    let trouble = Some(Problems::from(service).describe(now)).filter(|trouble| !trouble.is_empty());
    update.map(str::to_owned).into_iter().chain(trouble).chain(service.unplaced.clone()).collect::<Vec<_>>().join("; ")
}

/// Slots whose tasks ended, and the next run.
struct Problems<'a> {
    next_run: Option<Timestamp>,
    restarting: Option<&'a Restarting>,
    finished: u64,
    failed: u64,
    /// The number of all slots.
    all: u64,
}

impl<'a> From<&'a ServiceView> for Problems<'a> {
    fn from(of: &'a ServiceView) -> Self {
        let (finished, failed) = (of.finished_places, of.failed_places);
        // Of a job, only what has yet to complete is desired.
        let ended = match of.spec.mode() {
            Mode::GlobalJob(_) | Mode::ReplicatedJob(_) => finished + failed,
            Mode::Replicated(_) | Mode::Global(_) => 0,
        };
        let all = of.desired_tasks + ended;
        // The next run is a field of its own there.
        Self { next_run: None, restarting: of.restarting.as_ref(), finished, failed, all }
    }
}

impl<'a> From<&'a ServiceSummary> for Problems<'a> {
    fn from(of: &'a ServiceSummary) -> Self {
        let (finished, failed) = (of.finished_places, of.failed_places);
        let ended = match of.mode() {
            ServiceMode::GlobalJob | ServiceMode::ReplicatedJob => finished + failed,
            ServiceMode::Replicated | ServiceMode::Global => 0,
        };
        let all = of.desired_tasks + ended;
        Self { next_run: of.next_run, restarting: of.restarting.as_ref(), finished, failed, all }
    }
}

impl Problems<'_> {
    /// Describes slots that fail repeatedly, slots whose tasks ended and are not restarted, and the next run; empty if there are
    /// none.
    fn describe(&self, now: Timestamp) -> String {
        let restarting = self.restarting.map(|known| {
            let tasks = if known.tasks == 1 { "1 task".to_owned() } else { format!("{} tasks", known.tasks) };
            format!("{tasks} {}", restarts::show(known, now))
        });
        let finished = match self.finished {
            0 => None,
            finished if finished >= self.all => Some("finished".to_owned()),
            finished => Some(format!("{finished} finished")),
        };
        let failed = (self.failed > 0).then(|| format!("{} failed and not restarted", self.failed));
        let next_run = self.next_run.map(|due| format!("next run {}", age::ahead(due.since(now))));
        [restarting, failed, finished, next_run].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// Running and desired tasks: `2/3`.
fn replicas(running: u64, desired: u64) -> String {
    format!("{running}/{desired}")
}

/// Running and desired tasks; for a job also how many completed: `1/2 (3/10 completed)`, and for an autoscaled service the
/// bounds: `3/3 (2-20)`.
fn progress(service: &ServiceSummary) -> String {
    let running = replicas(service.running_tasks, service.desired_tasks);
    let ended = service.finished_places + service.failed_places;
    match service.mode() {
        ServiceMode::Global | ServiceMode::Replicated => match (service.replicas_min, service.replicas_max) {
            (Some(min), Some(max)) => format!("{running} ({min}-{max})"),
            (None, _) | (_, None) => running,
        },
        ServiceMode::ReplicatedJob | ServiceMode::GlobalJob => {
            let total = service.completions.unwrap_or(service.desired_tasks + ended);
            format!("{running} ({}/{total} completed)", service.finished_places)
        }
    }
}

fn overlap(policy: Overlap) -> &'static str {
    match policy {
        Overlap::Forbid => "forbid",
        Overlap::Allow => "allow",
        Overlap::Replace => "replace",
    }
}

/// The fields that only jobs have.
pub(super) fn run(block: &mut Block, service: &ServiceView, now: Timestamp) {
    if let Some(schedule) = &service.spec.schedule {
        let zone = if schedule.time_zone.is_empty() { "UTC" } else { &schedule.time_zone };
        block.field("Schedule", format!("{} ({zone})", schedule.cron)).field("Overlap", overlap(schedule.overlap()));
        if let Some(deadline) = schedule.start_deadline_ns {
            block.field("Start deadline", duration::show(Duration::from_nanos(deadline)));
        }
    }
    if let Some(due) = service.next_run {
        block.field("Next run", format!("{} ({})", due.minute(), age::ahead(due.since(now))));
    }
    let Some(run) = &service.run else { return };
    if let Some(of) = service.spec.completions() {
        let total = of.total.saturating_mul(run.abreast);
        block.field("Completed", replicas(service.finished_places, total)).field("Concurrent", of.concurrent);
    } else {
        block.field("Completed", service.finished_places);
    }
    block.field("Run", run.iteration).field("Run started", age::ago(run.started_at, now));
    if run.abreast > 1 {
        block.field("Runs at once", run.abreast);
    }
}

/// One service, with its settings.
pub fn block(service: &ServiceView, view: View) -> String {
    let (mut block, now) = (Block::default(), view.now);
    let named = service.spec.annotations();
    block.field("ID", service.id).field("Name", &named.name).each("Label", pairs(&named.labels));
    let mode = match service.spec.mode() {
        Mode::Global(_) => "global",
        Mode::Replicated(_) => "replicated",
        Mode::ReplicatedJob(_) => "replicated-job",
        Mode::GlobalJob(_) => "global-job",
    };
    block.field("Mode", mode).field("Replicas", replicas(service.running_tasks, service.desired_tasks));
    run(&mut block, service, now);
    block.prose("Status", &Problems::from(service).describe(now));
    block.field("Version", service.meta.version);
    block
        .field("Created", age::ago(service.meta.created_at, now))
        .field("Updated", age::ago(service.meta.updated_at, now));
    if let Some(until) = service.set_aside_until {
        let why =
            "the reconcilers contradict each other about this service; see the manager's log, and report this as a bug";
        block.prose("Set aside", &format!("until {until}: {why}"));
    }
    if let Some(update) = &service.update {
        block.section("Update status", |block| {
            block.field("State", state(update.state())).field("Started", age::ago(update.started_at, now));
            block.optional("Completed", update.completed_at.map_or_else(String::new, |at| age::ago(at, now)));
            block.prose("Message", &update.message);
        });
    }
    if let Some(rule) = service.spec.autoscaling() {
        autoscaling(&mut block, &rule, service, now);
    }
    if let Some(rule) = service.spec.rebalancing() {
        block.section("Rebalancing", |block| {
            block.field("Tasks in a step", rule.max_tasks).field("Every", duration::show(rule.every));
            if let Some(last) = &service.rebalanced {
                block.prose("Last move", &format!("{}: {}", age::ago(last.at, now), last.reason));
            }
        });
    }
    block.each("Depends on", service.spec.depends_on.iter().cloned());
    template::show(&mut block, &service.spec);
    rollout(&mut block, "Update", service.spec.update.is_some(), service.spec.update_rollout());
    rollout(&mut block, "Rollback", service.spec.rollback.is_some(), service.spec.rollback_rollout());
    block.each("Port", service.spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports).map(port::show));
    block.render(view.width)
}

fn autoscaling(block: &mut Block, rule: &Autoscaling, service: &ServiceView, now: Timestamp) {
    block.section("Autoscaling", |block| {
        block.field("Replicas", format!("{} to {}", rule.min, rule.max));
        for (what, target) in [("CPU", rule.cpu_percent), ("Memory", rule.memory_percent)] {
            if let Some(percent) = target {
                block.field(what, format!("{percent}%"));
            }
        }
        block.field("Window", duration::show(rule.window)).field("Cool-down", duration::show(rule.cool_down));
        if let Some(last) = &service.autoscaled {
            let ago = age::ago(last.at, now);
            block.prose("Last change", &format!("{ago}, from {} replicas: {}", last.from, last.reason));
        }
    });
}

fn rollout(block: &mut Block, heading: &str, given: bool, rollout: events::spec::Rollout) {
    if !given {
        return;
    }
    block.section(heading, |block| {
        block.field(
            "Parallelism",
            if rollout.parallelism == 0 { "all".to_owned() } else { rollout.parallelism.to_string() },
        );
        block.field("Delay", duration::show(rollout.delay)).field("Monitor", duration::show(rollout.monitor));
        block.field("On failure", rollout.failure_action.name()).field("Order", rollout.order.name().replace('_', "-"));
        block.field("Tolerated failures", ratio::show(rollout.max_failure_ppm));
        if !rollout.progress_deadline.is_zero() {
            block.field("Progress deadline", duration::show(rollout.progress_deadline));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::samples;

    #[test]
    fn rows_count_what_runs() {
        let expected = "\
ID                          NAME      MODE         REPLICAS   IMAGE        PORTS          STATUS
0000000000000000000000009   web       replicated   1/2        nginx:1.27                  \n\
0000000000000000000000009   web       replicated   1/2        nginx:1.27                  1 task restarting, 14 failures, last: exit status 1, next attempt in 2m
0000000000000000000000009   web       replicated   1/2        nginx:1.27                  2 tasks running again after 14 failures, last: exit status 1
0000000000000000000000009   web       replicated   1/2        nginx:1.27                  2 tasks running again after 14 exits
0000000000000000000000009   web       replicated   1/2        nginx:1.27                  2 tasks running again after 1 failure and 2 exits, last: exit status 1
0000000000000000000000009   web       replicated   1/2        nginx:1.27   8080->80/tcp   update paused
";
        let restarting = wire::v1::Restarting {
            tasks: 1,
            failures: 14,
            exits: 0,
            last_failure: "exit status 1".to_owned(),
            next_attempt: Some(samples::NOW + std::time::Duration::from_secs(120)),
            running_again: false,
        };
        let again = wire::v1::Restarting { tasks: 2, next_attempt: None, running_again: true, ..restarting.clone() };
        let exits = wire::v1::Restarting { failures: 0, exits: 14, last_failure: String::new(), ..again.clone() };
        let mixed = wire::v1::Restarting { failures: 1, exits: 2, ..again.clone() };
        let rows = [None, Some(restarting), Some(again), Some(exits), Some(mixed)];
        let mut services = rows.map(|restarting| ServiceSummary { restarting, ..samples::service_summary() }).to_vec();
        let full = samples::full_service();
        let ports = full.spec.endpoint.unwrap_or_default().ports;
        services.push(ServiceSummary { ports, update: full.update, ..samples::service_summary() });
        assert_eq!(table(&services, samples::VIEW), expected);
    }

    #[test]
    fn places_that_ended_are_counted() {
        let table = [
            (0, 0, ""),
            (1, 0, "1 finished"),
            (2, 0, "finished"),
            (0, 1, "1 failed and not restarted"),
            (1, 1, "1 failed and not restarted; 1 finished"),
        ];
        for (finished_places, failed_places, shown) in table {
            let service = ServiceView { finished_places, failed_places, ..samples::service() };
            assert_eq!(Problems::from(&service).describe(samples::NOW), shown);
        }
    }

    #[test]
    fn one_service_is_told_in_full() {
        let expected = "\
ID                   : 0000000000000000000000009
Name                 : web
Label                : team=blue
                       tier=front
Mode                 : replicated
Replicas             : 1/2
Version              : 7
Created              : 3 minutes ago
Updated              : 3 minutes ago
Update status
  State              : PAUSED
  Started            : 3 minutes ago
  Message            : 1 of 2 tasks failed
Template
  Image              : nginx:1.27
  Args               : -g 'daemon off;'
  Env                : A=b
  Mount              : bind /srv at /data (read-only)
  Limits
    Memory           : 512MiB
  Reservations
    CPU              : 0.5
    Generic          : gpu=1
  Constraint         : node.labels.zone==east
  Restart
    Condition        : on_failure
    Delay            : 5s, doubling to 5m0s
Update
  Parallelism        : 2
  Delay              : 1s
  Monitor            : 5s
  On failure         : rollback
  Order              : start-first
  Tolerated failures : 0.25
Port                 : http:80/tcp:8080
";
        assert_eq!(block(&samples::full_service(), samples::VIEW), expected);
    }
}
