//! The task template of a service, as shown in the blocks of services and tasks.

use std::collections::BTreeMap;

use events::spec::defaults::{RESTART_DELAY, RESTART_DELAY_MAX};
use events::{
    BindPropagation, ContainerSpec, Driver, GenericResource, HealthConfig, Isolation, Mount, MountConsistency, Named,
    NetworkMode, Platform, PullPolicy, ResourceRequirements, Resources, ServiceSpec,
};

use super::block::Block;
use super::{config, words};
use crate::values::{affinity, cpus, credential_spec, device, duration, security_opt, size, ulimit};

/// What each task of a service runs, where and for how long.
pub fn show(block: &mut Block, spec: &ServiceSpec) {
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
        if let Some(resources) = &task.resources {
            swap(block, resources);
        }
        let placement = task.placement();
        block.each("Constraint", placement.constraints.iter().cloned());
        block.each("Platform", placement.platforms.iter().map(platform));
        block.each("Spread", placement.preferences.iter().map(|preference| preference.spread.clone()));
        block.each("Affinity", placement.affinities.iter().map(affinity::show));
        block.optional("Maximum per node", count(placement.max_replicas));
        block.optional("Strategy", placement.strategy.map_or_else(String::new, |_| placement.strategy().name()));
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
    block.each(
        "Secret",
        container.secrets.iter().map(|of| config::reference(of) + &config::revision(of.revision, of.pinned)),
    );
    block.each(
        "Config",
        container
            .configs
            .iter()
            .filter(|of| !of.runtime)
            .map(|of| config::reference(of) + &config::revision(of.revision, of.pinned)),
    );
    let switches = [
        ("tty", container.tty),
        ("open stdin", container.open_stdin),
        ("read-only", container.read_only),
        ("init", container.init == Some(true)),
        ("privileged", container.privileged),
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
    block.each("Security option", container.privileges.iter().flat_map(security_opt::show));
    block.optional("Credential spec", credential_spec(container));
    block.each("Device", container.devices.iter().map(device::show));
    block.each("Device request", container.device_requests.iter().map(device::show_request));
    block.each("Device rule", container.device_cgroup_rules.iter().cloned());
    block
        .optional("Shared memory", bytes(container.shm_size_bytes))
        .optional("Cgroup parent", &container.cgroup_parent);
    if container.pull_policy() != PullPolicy::default() {
        block.field("Pull", container.pull_policy().name());
    }
    if container.network() != NetworkMode::default() {
        block.field("Network", container.network().name());
    }
    if container.isolation() != Isolation::default() {
        block.field("Isolation", container.isolation().name());
    }
}

/// `linux/amd64`, or the part of it that is set.
fn platform(of: &Platform) -> String {
    [of.os.as_str(), of.architecture.as_str()]
        .iter()
        .filter(|part| !part.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join("/")
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
    let policy = spec.restart_policy();
    block.field("Condition", policy.condition.name());
    let grows = || format!("{}, doubling to {}", duration::show(RESTART_DELAY), duration::show(RESTART_DELAY_MAX));
    block.field("Delay", policy.delay.map_or_else(grows, duration::show));
    block.optional("Attempts", count(policy.max_attempts));
    if !policy.window.is_zero() {
        block.field("Window", duration::show(policy.window));
    }
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

fn swap(block: &mut Block, resources: &ResourceRequirements) {
    let amount = |bytes: i64| u64::try_from(bytes).map_or_else(|_| "unlimited".to_owned(), size::show);
    block.optional("Swap", resources.swap_bytes.map_or_else(String::new, amount));
    block.optional("Swappiness", resources.memory_swappiness.map_or_else(String::new, |share| share.to_string()));
}

fn bytes(number: u64) -> String {
    if number == 0 { String::new() } else { size::show(number) }
}

/// A generic resource in the form of its flag; named resources with their names.
pub fn generic(resource: &GenericResource) -> String {
    let names = resource.names.iter().map(|name| format!("{}={name}", resource.kind));
    if resource.names.is_empty() {
        format!("{}={}", resource.kind, resource.amount)
    } else {
        names.collect::<Vec<_>>().join(", ")
    }
}

/// The source of the credential spec, with the revision of a config.
fn credential_spec(container: &ContainerSpec) -> String {
    let Some(of) = container.privileges.as_ref().and_then(|of| of.credential_spec.as_ref()) else {
        return String::new();
    };
    let config = container.configs.iter().find(|of| of.runtime);
    let revision = config.map_or_else(String::new, |of| config::revision(of.revision, of.pinned));
    credential_spec::show(of) + &revision
}

/// A mount, with its options in parentheses.
fn mount(mount: &Mount) -> String {
    let source = if mount.source.is_empty() { String::new() } else { format!(" {}", mount.source) };
    let mut choices = Vec::new();
    if mount.read_only {
        choices.push("read-only".to_owned());
    }
    if mount.consistency() != MountConsistency::default() {
        choices.push(mount.consistency().name());
    }
    if let Some(bind) = &mount.bind {
        let propagation = bind.propagation();
        choices.extend((propagation != BindPropagation::default()).then(|| propagation.name()));
        choices.extend(bind.create_mountpoint.then(|| "created if missing".to_owned()));
        choices.extend(bind.non_recursive.then(|| "not recursive".to_owned()));
        choices.extend(bind.read_only_non_recursive.then(|| "mounts below it writable".to_owned()));
        choices.extend(bind.read_only_force_recursive.then(|| "mounts below it read-only".to_owned()));
    }
    if let Some(volume) = &mount.volume {
        choices.extend(volume.no_copy.then(|| "nothing copied into it".to_owned()));
        choices.extend(volume.driver.as_ref().map(|of| format!("driver {}", driver(of))));
        choices.extend(pairs(&volume.labels).map(|label| format!("label {label}")));
        choices.extend((!volume.subpath.is_empty()).then(|| format!("only {} of it", volume.subpath)));
    }
    if let Some(image) = mount.image.as_ref().filter(|image| !image.subpath.is_empty()) {
        choices.push(format!("only {} of it", image.subpath));
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
pub fn driver(driver: &Driver) -> String {
    [driver.name.clone()].into_iter().chain(pairs(&driver.options)).collect::<Vec<_>>().join(" ")
}

/// `key=value` for each pair.
pub fn pairs(map: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
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

    #[test]
    fn a_mount_tells_what_was_chosen_for_it() {
        use crate::values::mount::{parse_bind, parse_tmpfs, parse_volume};
        use crate::values::mount_keys::parse;
        let table = [
            (parse_bind("/srv:/data"), "bind /srv at /data"),
            (parse_bind("/srv:/data:ro,rslave,create"), "bind /srv at /data (read-only, rslave, created if missing)"),
            (parse_volume("/data"), "volume at /data"),
            (parse_volume("store:/data:nocopy"), "volume store at /data (nothing copied into it)"),
            (parse_tmpfs("/run"), "tmpfs at /run"),
            (
                parse("type=bind,src=/s,dst=/d,readonly,consistency=cached,bind-recursive=readonly"),
                "bind /s at /d (read-only, cached, mounts below it read-only)",
            ),
            (parse("type=image,src=models:1,dst=/m,image-subpath=s"), "image models:1 at /m (only s of it)"),
            (parse_tmpfs("/run:size=64m,mode=1777,ro"), "tmpfs at /run (read-only, size 64MiB, mode 1777)"),
        ];
        for (given, shown) in table {
            assert_eq!(mount(&given.expect("a valid mount")), shown);
        }
    }
}
