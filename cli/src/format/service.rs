//! Services: as rows of a table, and one by one.

use std::collections::BTreeMap;

use events::{Driver, GenericResource, HealthConfig, Mount, MountType, Named, Resources, ServiceSpec, Timestamp};
use wire::v1::ServiceView;

use super::block::Block;
use super::table::Table;
use super::{age, state, words};
use crate::values::{cpus, duration, port, ratio, size, ulimit};

/// The table of `service ls`.
pub fn table(services: &[ServiceView]) -> String {
    let mut table = Table::new(&["ID", "NAME", "IMAGE", "REPLICAS"]);
    for service in services {
        let image = service.spec.template().runs().image.clone();
        table.row([service.id.to_string(), service.spec.name().to_owned(), image, replicas(service)]);
    }
    table.render(None)
}

/// Running tasks against wanted ones: `2/3`.
pub fn replicas(service: &ServiceView) -> String {
    format!("{}/{}", service.running_tasks, service.desired_tasks)
}

/// One service, with its settings.
pub fn block(service: &ServiceView, now: Timestamp) -> String {
    let mut block = Block::default();
    let named = service.spec.named();
    block.field("ID", service.id).field("Name", &named.name).each("Label", pairs(&named.labels));
    block.field("Mode", if service.spec.is_global() { "global" } else { "replicated" });
    block.field("Replicas", replicas(service)).field("Version", service.meta.version);
    block
        .field("Created", age::ago(service.meta.created_at, now))
        .field("Updated", age::ago(service.meta.updated_at, now));
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
        let placement = task.placed();
        block.each("Constraint", placement.constraints.iter().cloned());
        block.each("Spread", placement.preferences.iter().map(|preference| preference.spread.clone()));
        block.optional("Most per node", count(placement.max_replicas));
        if task.restart.is_some() {
            block.section("Restart", |block| restart(block, spec));
        }
        block.optional("Log driver", task.log_driver.as_ref().map_or_else(String::new, driver));
    });
}

fn container(block: &mut Block, spec: &ServiceSpec) {
    let container = spec.template().runs();
    block.optional("Image", &container.image).optional("Command", words(&container.command));
    block.optional("Args", words(&container.args)).each("Env", container.env.iter().cloned());
    block.optional("Hostname", &container.hostname).optional("Directory", &container.dir);
    block.optional("User", &container.user).optional("Groups", container.groups.join(", "));
    block.each("Container label", pairs(&container.labels)).each("Mount", container.mounts.iter().map(mount));
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
    block.optional("Added rights", container.capability_add.join(", "));
    block.optional("Dropped rights", container.capability_drop.join(", "));
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
    block.field("Condition", policy.condition.name()).field("Delay", duration::show(policy.delay));
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

fn mount(mount: &Mount) -> String {
    let read_only = if mount.read_only { " (read-only)" } else { "" };
    match mount.r#type() {
        MountType::Tmpfs => format!("tmpfs at {}{read_only}", mount.target),
        MountType::Volume if mount.source.is_empty() => format!("volume at {}{read_only}", mount.target),
        kind @ (MountType::Bind | MountType::Volume | MountType::Npipe) => {
            format!("{} {} at {}{read_only}", kind.name(), mount.source, mount.target)
        }
    }
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
ID                          NAME      IMAGE        REPLICAS
0000000000000000000000009   web       nginx:1.27   1/2
";
        assert_eq!(table(&[samples::service()]), expected);
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
    Delay            : 5s
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
