//! Services: as rows of a table, and one by one.

use std::collections::BTreeMap;

use events::service_spec::Mode;
use events::spec::defaults::{RESTART_DELAY, RESTART_DELAY_MAX};
use events::{
    BindPropagation, Driver, GenericResource, HealthConfig, Mount, Named, PortConfig, Resources, ServiceSpec, Timestamp,
};
use wire::v1::{Restarting, ServiceMode, ServiceSummary, ServiceView, UpdateState};

use super::block::Block;
use super::table::Table;
use super::{age, config, state, task, words};
use crate::values::{cpus, duration, port, ratio, size, ulimit};

/// The table of `service ls`.
pub fn table(services: &[ServiceSummary], view: task::View) -> String {
    let mut table = Table::new(&["ID", "NAME", "MODE", "REPLICAS", "IMAGE", "PORTS", "STATUS"]);
    for service in services {
        let mode = match service.mode() {
            ServiceMode::Global => "global",
            ServiceMode::Replicated => "replicated",
        };
        table.row([
            service.id.to_string(),
            service.name.clone(),
            mode.to_owned(),
            replicas(service.running_tasks, service.desired_tasks),
            service.image.clone(),
            service.ports.iter().map(published).collect::<Vec<_>>().join(", "),
            status(service, view.now),
        ]);
    }
    table.render(view.width)
}

/// A published port in Docker's form: `8080->80/tcp`, or `80/tcp` where the engine picks the port of the node.
fn published(port: &PortConfig) -> String {
    match port.published_port {
        0 => format!("{}/{}", port.target_port, port::protocol(port)),
        published => format!("{published}->{}/{}", port.target_port, port::protocol(port)),
    }
}

/// The state of its update, where that is not over, and its trouble.
fn status(service: &ServiceSummary, now: Timestamp) -> String {
    let update = service.update.as_ref().and_then(|update| match update.state() {
        UpdateState::Updating => Some("updating"),
        UpdateState::Paused => Some("update paused"),
        UpdateState::RollbackStarted => Some("rolling back"),
        UpdateState::RollbackPaused => Some("rollback paused"),
        UpdateState::RollbackCompleted => Some("update failed and rolled back"),
        UpdateState::Completed => None,
    });
    let trouble = Some(Trouble::from(service).told(now)).filter(|trouble| !trouble.is_empty());
    update.map(str::to_owned).into_iter().chain(trouble).chain(service.unplaced.clone()).collect::<Vec<_>>().join("; ")
}

/// What there is to say of places whose tasks ended.
struct Trouble<'a> {
    restarting: Option<&'a Restarting>,
    finished: u64,
    failed: u64,
    /// All its places.
    all: u64,
}

impl<'a> From<&'a ServiceView> for Trouble<'a> {
    fn from(of: &'a ServiceView) -> Self {
        let (finished, failed) = (of.finished_places, of.failed_places);
        // Of a global service, only what still runs is desired.
        let ended = match of.spec.mode() {
            Mode::Global(_) => finished + failed,
            Mode::Replicated(_) => 0,
        };
        let all = of.desired_tasks + ended;
        Self { restarting: of.restarting.as_ref(), finished, failed, all }
    }
}

impl<'a> From<&'a ServiceSummary> for Trouble<'a> {
    fn from(of: &'a ServiceSummary) -> Self {
        let (finished, failed) = (of.finished_places, of.failed_places);
        let ended = match of.mode() {
            ServiceMode::Global => finished + failed,
            ServiceMode::Replicated => 0,
        };
        let all = of.desired_tasks + ended;
        Self { restarting: of.restarting.as_ref(), finished, failed, all }
    }
}

impl Trouble<'_> {
    /// How it stands with places that fail again and again, and with those whose tasks ended and are not restarted; empty where
    /// there are none.
    fn told(&self, now: Timestamp) -> String {
        let restarting = self.restarting.map(|known| {
            let tasks = if known.tasks == 1 { "1 task".to_owned() } else { format!("{} tasks", known.tasks) };
            format!("{tasks} {}", task::restarting(known, now))
        });
        let finished = match self.finished {
            0 => None,
            finished if finished >= self.all => Some("finished".to_owned()),
            finished => Some(format!("{finished} finished")),
        };
        let failed = (self.failed > 0).then(|| format!("{} failed and not restarted", self.failed));
        [restarting, failed, finished].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// Running tasks against wanted ones: `2/3`.
fn replicas(running: u64, desired: u64) -> String {
    format!("{running}/{desired}")
}

/// One service, with its settings.
pub fn block(service: &ServiceView, now: Timestamp) -> String {
    let mut block = Block::default();
    let named = service.spec.annotations();
    block.field("ID", service.id).field("Name", &named.name).each("Label", pairs(&named.labels));
    let mode = match service.spec.mode() {
        Mode::Global(_) => "global",
        Mode::Replicated(_) => "replicated",
    };
    block.field("Mode", mode).field("Replicas", replicas(service.running_tasks, service.desired_tasks));
    block.optional("Status", Trouble::from(service).told(now));
    block.field("Version", service.meta.version);
    block
        .field("Created", age::ago(service.meta.created_at, now))
        .field("Updated", age::ago(service.meta.updated_at, now));
    if let Some(until) = service.set_aside_until {
        let why =
            "the reconcilers contradict each other over this service; see the manager's log, and report this as a bug";
        block.field("Set aside", format!("until {until}: {why}"));
    }
    if let Some(update) = &service.update {
        block.section("Update status", |block| {
            block.field("State", state(update.state())).field("Started", age::ago(update.started_at, now));
            block.optional("Completed", update.completed_at.map_or_else(String::new, |at| age::ago(at, now)));
            block.optional("Message", &update.message);
        });
    }
    template(&mut block, &service.spec);
    rollout(&mut block, "Update", service.spec.update.is_some(), service.spec.update_rollout());
    rollout(&mut block, "Rollback", service.spec.rollback.is_some(), service.spec.rollback_rollout());
    block.each("Port", service.spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports).map(port::show));
    block.render()
}

/// What each task of a service runs, where and for how long.
pub(super) fn template(block: &mut Block, spec: &ServiceSpec) {
    block.section("Template", |block| {
        container(block, spec);
        let task = spec.template();
        for (heading, resources) in
            task.resources.iter().flat_map(|r| [("Limits", &r.limits), ("Reservations", &r.reservations)])
        {
            if let Some(resources) = resources {
                block.section(heading, |block| amounts(block, resources));
            }
        }
        let placement = task.placement();
        block.each("Constraint", placement.constraints.iter().cloned());
        block.each("Spread", placement.preferences.iter().map(|preference| preference.spread.clone()));
        block.optional("Maximum per node", count(placement.max_replicas));
        if task.restart.is_some() {
            block.section("Restart", |block| restart(block, spec));
        }
        block.optional("Log driver", task.log_driver.as_ref().map_or_else(String::new, driver));
    });
}

fn container(block: &mut Block, spec: &ServiceSpec) {
    let container = spec.template().container();
    block.optional("Image", &container.image).optional("Command", words(&container.command));
    block.optional("Args", words(&container.args)).each("Env", container.env.iter().cloned());
    block.each("Secret env", container.env_secrets.iter().map(|secret| secret.name.clone()));
    block.optional("Hostname", &container.hostname).optional("Directory", &container.dir);
    block.optional("User", &container.user).optional("Groups", container.groups.join(", "));
    block.each("Container label", pairs(&container.labels)).each("Mount", container.mounts.iter().map(mount));
    block.each("Config", container.configs.iter().map(config::reference));
    let switches = [
        ("tty", container.tty),
        ("open stdin", container.open_stdin),
        ("read-only", container.read_only),
        ("init", container.init == Some(true)),
    ];
    let on: Vec<&str> = switches.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    block.optional("Options", on.join(", ")).optional("Stop signal", &container.stop_signal);
    block.optional(
        "Stop grace",
        container.stop_grace_period_ns.map_or_else(String::new, |_| duration::show(container.stop_grace())),
    );
    block.each("Host", container.hosts.iter().cloned());
    if let Some(dns) = &container.dns {
        block.optional("DNS", dns.nameservers.join(", ")).optional("DNS search", dns.search.join(", "));
        block.optional("DNS options", dns.options.join(", "));
    }
    if let Some(check) = &container.healthcheck {
        block.section("Health check", |block| health(block, check));
    }
    block.optional("Added capabilities", container.capability_add.join(", "));
    block.optional("Dropped capabilities", container.capability_drop.join(", "));
    block.each("Sysctl", pairs(&container.sysctls)).each("Ulimit", container.ulimits.iter().map(ulimit::show));
    block
        .optional("Process limit", nonzero(container.pids_limit))
        .optional("OOM score", nonzero(container.oom_score_adj));
}

fn health(block: &mut Block, check: &HealthConfig) {
    let time = |ns: u64| if ns == 0 { String::new() } else { show_ns(ns) };
    block.optional("Test", words(&check.test)).optional("Interval", time(check.interval_ns));
    block.optional("Timeout", time(check.timeout_ns)).optional("Retries", count(u64::from(check.retries)));
    block
        .optional("Start period", time(check.start_period_ns))
        .optional("Start interval", time(check.start_interval_ns));
}

fn restart(block: &mut Block, spec: &ServiceSpec) {
    let policy = spec.template().restart_policy();
    block.field("Condition", policy.condition.name());
    let grows = || format!("{}, doubling to {}", duration::show(RESTART_DELAY), duration::show(RESTART_DELAY_MAX));
    block.field("Delay", policy.delay.map_or_else(grows, duration::show));
    block.optional("Attempts", count(policy.max_attempts));
    if !policy.window.is_zero() {
        block.field("Window", duration::show(policy.window));
    }
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
    });
}

fn amounts(block: &mut Block, resources: &Resources) {
    if resources.nano_cpus > 0 {
        block.field("CPU", cpus::show(resources.nano_cpus));
    }
    if resources.memory_bytes > 0 {
        block.field("Memory", size::show(resources.memory_bytes));
    }
    block.optional("Generic", resources.generic.iter().map(generic).collect::<Vec<_>>().join(", "));
}

/// A generic resource as one would ask for it, or as names where it has names.
pub(super) fn generic(resource: &GenericResource) -> String {
    let names = resource.names.iter().map(|name| format!("{}={name}", resource.kind));
    if resource.names.is_empty() {
        format!("{}={}", resource.kind, resource.amount)
    } else {
        names.collect::<Vec<_>>().join(", ")
    }
}

/// A mount and, in parentheses, what was chosen for it.
fn mount(mount: &Mount) -> String {
    let source = if mount.source.is_empty() { String::new() } else { format!(" {}", mount.source) };
    let mut choices = Vec::new();
    if mount.read_only {
        choices.push("read-only".to_owned());
    }
    if let Some(bind) = &mount.bind {
        let propagation = bind.propagation();
        choices.extend((propagation != BindPropagation::default()).then(|| propagation.name()));
        choices.extend(bind.create_mountpoint.then(|| "created if missing".to_owned()));
        choices.extend(bind.non_recursive.then(|| "not recursive".to_owned()));
    }
    if let Some(volume) = &mount.volume {
        choices.extend(volume.no_copy.then(|| "nothing copied into it".to_owned()));
        choices.extend(volume.driver.as_ref().map(|of| format!("driver {}", driver(of))));
        choices.extend(pairs(&volume.labels).map(|label| format!("label {label}")));
        choices.extend((!volume.subpath.is_empty()).then(|| format!("only {} of it", volume.subpath)));
    }
    if let Some(tmpfs) = &mount.tmpfs {
        choices.extend((tmpfs.size_bytes > 0).then(|| format!("size {}", size::show(tmpfs.size_bytes))));
        choices.extend((tmpfs.mode > 0).then(|| format!("mode {:o}", tmpfs.mode)));
        choices.extend((!tmpfs.options.is_empty()).then(|| format!("options {}", tmpfs.options)));
    }
    let choices = if choices.is_empty() { String::new() } else { format!(" ({})", choices.join(", ")) };
    format!("{}{source} at {}{choices}", mount.r#type().name(), mount.target)
}

/// A driver and its options.
pub(super) fn driver(driver: &Driver) -> String {
    [driver.name.clone()].into_iter().chain(pairs(&driver.options)).collect::<Vec<_>>().join(" ")
}

/// `key=value` for each pair.
pub(super) fn pairs(map: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
    map.iter().map(|(key, value)| format!("{key}={value}"))
}

fn count(number: u64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

fn nonzero(number: i64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

fn show_ns(ns: u64) -> String {
    duration::show(std::time::Duration::from_nanos(ns))
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
        assert_eq!(table(&services, task::View { now: samples::NOW, ids: false, width: None }), expected);
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
            assert_eq!(Trouble::from(&service).told(samples::NOW), shown);
        }
    }

    #[test]
    fn a_mount_tells_what_was_chosen_for_it() {
        use crate::values::mount::{parse_bind, parse_tmpfs, parse_volume};
        let table = [
            (parse_bind("/srv:/data"), "bind /srv at /data"),
            (parse_bind("/srv:/data:ro,rslave,create"), "bind /srv at /data (read-only, rslave, created if missing)"),
            (parse_volume("/data"), "volume at /data"),
            (parse_volume("store:/data:nocopy"), "volume store at /data (nothing copied into it)"),
            (parse_tmpfs("/run"), "tmpfs at /run"),
            (parse_tmpfs("/run:size=64m,mode=1777,ro"), "tmpfs at /run (read-only, size 64MiB, mode 1777)"),
        ];
        for (given, shown) in table {
            assert_eq!(mount(&given.expect("a valid mount")), shown);
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
        assert_eq!(block(&samples::full_service(), samples::NOW), expected);
    }
}
