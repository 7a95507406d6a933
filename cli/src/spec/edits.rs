//! Flags of an update that add or remove single entries of lists and maps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clap::Args;
use events::{
    Affinity, ConfigReference, ContainerSpec, GenericResource, Mount, MountType, PlacementPreference, PortConfig,
    SecretReference, SecretText, ServiceSpec, Ulimit,
};

use super::lists::{absent, plain_constraint, target, variable, written};
use super::{container, devices, task};
use crate::failure::{Failure, Kind};
use crate::values::container::{self as container_values, capability};
use crate::values::device::{self, NamedDevice};
use crate::values::{
    affinity, config_file, constraint, env, generic, host, mount, mount_keys, pair, port, publish, ulimit,
};

/// Additions to lists and maps, and removals from them; each may be repeated.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Additions to lists, and removals; may be repeated")]
pub struct ListEdits {
    /// Label of the service to add or change
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    label_add: Vec<(String, String)>,

    /// Label of the service to remove
    #[arg(long, value_name = "KEY", value_parser = pair::key)]
    label_rm: Vec<String>,

    /// Label of the container to add or change
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    container_label_add: Vec<(String, String)>,

    /// Label of the container to remove
    #[arg(long, value_name = "KEY", value_parser = pair::key)]
    container_label_rm: Vec<String>,

    /// Environment variable to add or change
    #[arg(long, value_name = "KEY=VALUE", value_parser = env::parse)]
    env_add: Vec<SecretText>,

    /// Environment variable to remove
    #[arg(long, value_name = "KEY", value_parser = pair::key)]
    env_rm: Vec<String>,

    /// Constraint to add
    #[arg(long, value_name = "EXPRESSION", value_parser = constraint::parse)]
    constraint_add: Vec<String>,

    /// Constraint to remove, exactly as it was given
    #[arg(long, value_name = "EXPRESSION", value_parser = constraint::parse)]
    constraint_rm: Vec<String>,

    /// Placement preference to add
    #[arg(long, value_name = "spread=LABEL", value_parser = constraint::parse_preference)]
    placement_pref_add: Vec<String>,

    /// Placement preference to remove
    #[arg(long, value_name = "spread=LABEL", value_parser = constraint::parse_preference)]
    placement_pref_rm: Vec<String>,

    /// Dependency on a service to add
    #[arg(long, value_name = "SERVICE", value_parser = pair::key)]
    depends_on_add: Vec<String>,

    /// Dependency on a service to remove
    #[arg(long, value_name = "SERVICE", value_parser = pair::key)]
    depends_on_rm: Vec<String>,

    /// Required affinity to add
    #[arg(long, value_name = "EXPRESSION", value_parser = affinity::parse)]
    affinity_add: Vec<Affinity>,

    /// Preferred affinity to add or change
    #[arg(long, value_name = "EXPRESSION[,weight=NUMBER]", value_parser = affinity::parse_preferred)]
    affinity_pref_add: Vec<Affinity>,

    /// Required affinity to remove, exactly as it was given
    #[arg(long, value_name = "EXPRESSION", value_parser = affinity::parse)]
    affinity_rm: Vec<Affinity>,

    /// Preferred affinity to remove, exactly as it was given, with or without its weight
    #[arg(long, value_name = "EXPRESSION", value_parser = affinity::parse_preferred)]
    affinity_pref_rm: Vec<Affinity>,

    /// Published port to add or change
    #[arg(long, value_name = "NAME:PORT[/PROTOCOL][:PUBLISHED]", value_parser = port::parse)]
    ports_add: Vec<PortConfig>,

    /// Published port to remove, by its name
    #[arg(long, value_name = "NAME", value_parser = pair::key)]
    ports_rm: Vec<String>,

    /// Bind mount to add or change
    #[arg(long, value_name = "SOURCE:TARGET[:OPTIONS]", value_parser = mount::parse_bind)]
    bind_add: Vec<Mount>,

    /// Bind mount to remove, by its target
    #[arg(long, value_name = "TARGET")]
    bind_rm: Vec<String>,

    /// Volume to add or change
    #[arg(long, value_name = "[NAME:]TARGET[:OPTIONS]", value_parser = mount::parse_volume)]
    volume_add: Vec<Mount>,

    /// Volume to remove, by its target
    #[arg(long, value_name = "TARGET")]
    volume_rm: Vec<String>,

    /// Filesystem in memory (tmpfs) to add or change
    #[arg(long, value_name = "TARGET[:OPTIONS]", value_parser = mount::parse_tmpfs)]
    tmpfs_add: Vec<Mount>,

    /// Filesystem in memory (tmpfs) to remove, by its target
    #[arg(long, value_name = "TARGET")]
    tmpfs_rm: Vec<String>,

    /// Mount to add or change, in the form of Docker
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = mount_keys::parse)]
    mount_add: Vec<Mount>,

    /// Mount of any type to remove, by its target
    #[arg(long, value_name = "TARGET")]
    mount_rm: Vec<String>,

    /// Config to add or change
    #[arg(long, alias = "add-config", value_name = "NAME|source=NAME,target=PATH,...", value_parser = config_file::parse)]
    config_add: Vec<ConfigReference>,

    /// Config to remove, by its name
    #[arg(long, alias = "rm-config", value_name = "NAME", value_parser = pair::key)]
    config_rm: Vec<String>,

    /// Secret to add or change
    #[arg(long, alias = "add-secret", value_name = "NAME|source=NAME,target=PATH,...", value_parser = config_file::parse_secret)]
    secret_add: Vec<SecretReference>,

    /// Secret to remove, by its name
    #[arg(long, alias = "rm-secret", value_name = "NAME", value_parser = pair::key)]
    secret_rm: Vec<String>,

    /// Host name to add
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = host::parse)]
    host_add: Vec<String>,

    /// Host name to remove, exactly as it was given
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = host::parse)]
    host_rm: Vec<String>,

    /// Name server to add
    #[arg(long, value_name = "ADDRESS", value_parser = container_values::nameserver)]
    dns_add: Vec<IpAddr>,

    /// Name server to remove
    #[arg(long, value_name = "ADDRESS")]
    dns_rm: Vec<String>,

    /// Search domain to add
    #[arg(long, value_name = "DOMAIN")]
    dns_search_add: Vec<String>,

    /// Search domain to remove
    #[arg(long, value_name = "DOMAIN")]
    dns_search_rm: Vec<String>,

    /// Resolver option to add
    #[arg(long, value_name = "OPTION")]
    dns_option_add: Vec<String>,

    /// Resolver option to remove
    #[arg(long, value_name = "OPTION")]
    dns_option_rm: Vec<String>,

    /// Group to add
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,

    /// Group to remove
    #[arg(long, value_name = "GROUP")]
    group_rm: Vec<String>,

    /// Device to add or change
    #[arg(long, value_name = "SOURCE[:TARGET[:rwm]]|CDI-NAME", value_parser = device::parse)]
    device_add: Vec<NamedDevice>,

    /// Device to remove, by its path in the container or its CDI name
    #[arg(long, value_name = "TARGET|CDI-NAME")]
    device_rm: Vec<String>,

    /// Device cgroup rule to add
    #[arg(long, value_name = "RULE", value_parser = device::parse_rule)]
    device_cgroup_rule_add: Vec<String>,

    /// Device cgroup rule to remove, exactly as it was given
    #[arg(long, value_name = "RULE", value_parser = device::parse_rule)]
    device_cgroup_rule_rm: Vec<String>,

    /// Kernel parameter to add or change
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    sysctl_add: Vec<(String, String)>,

    /// Kernel parameter to remove
    #[arg(long, value_name = "KEY", value_parser = pair::key)]
    sysctl_rm: Vec<String>,

    /// Ulimit to add or change
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit::parse)]
    ulimit_add: Vec<Ulimit>,

    /// Ulimit to remove, by its name
    #[arg(long, value_name = "NAME", value_parser = pair::key)]
    ulimit_rm: Vec<String>,

    /// Generic resource to add or change
    #[arg(long, value_name = "KIND=NUMBER,...", value_delimiter = ',', value_parser = generic::parse)]
    generic_resources_add: Vec<GenericResource>,

    /// Generic resource to remove, by its kind
    #[arg(long, value_name = "KIND", value_parser = pair::key)]
    generic_resources_rm: Vec<String>,

    /// Log driver option to add or change
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    log_opt_add: Vec<(String, String)>,

    /// Log driver option to remove
    #[arg(long, value_name = "KEY", value_parser = pair::key)]
    log_opt_rm: Vec<String>,

    /// Published port to add or change, in Docker's form
    #[arg(long, value_name = "PUBLISHED:PORT[/PROTOCOL]", value_parser = publish::parse)]
    publish_add: Vec<PortConfig>,

    /// Published port to remove, by its port in the container
    #[arg(long, value_name = "PORT[/PROTOCOL]", value_parser = publish::parse_target)]
    publish_rm: Vec<PortConfig>,

    /// Secret environment variable to remove
    #[arg(long, value_name = "NAME", value_parser = pair::key)]
    env_secret_rm: Vec<String>,

    /// Capability to add to the others; if it was dropped, it no longer is
    #[arg(long, value_name = "CAPABILITY", value_parser = capability)]
    add_capability: Vec<String>,

    /// Capability to remove: if it was added, it no longer is; any other is dropped
    #[arg(long, value_name = "CAPABILITY", value_parser = capability)]
    rm_capability: Vec<String>,
}

impl ListEdits {
    /// The removals that match nothing in a spec, in one sentence per list.
    pub fn absent(&self, spec: &ServiceSpec) -> Vec<String> {
        let constraints: Vec<String> =
            self.constraint_rm.iter().map(|constraint| plain_constraint(constraint)).collect();
        let affinities: Vec<String> = self.affinity_rm.iter().map(written).collect();
        let preferred: Vec<String> = self.affinity_pref_rm.iter().map(written).collect();
        let publish: Vec<String> = self.publish_rm.iter().map(target).collect();
        let removed = [
            ("label", &self.label_rm),
            ("container-label", &self.container_label_rm),
            ("env", &self.env_rm),
            ("constraint", &constraints),
            ("placement-pref", &self.placement_pref_rm),
            ("depends-on", &self.depends_on_rm),
            ("affinity", &affinities),
            ("affinity-pref", &preferred),
            ("ports", &self.ports_rm),
            ("bind", &self.bind_rm),
            ("volume", &self.volume_rm),
            ("tmpfs", &self.tmpfs_rm),
            ("mount", &self.mount_rm),
            ("config", &self.config_rm),
            ("secret", &self.secret_rm),
            ("host", &self.host_rm),
            ("dns", &self.dns_rm),
            ("dns-search", &self.dns_search_rm),
            ("dns-option", &self.dns_option_rm),
            ("group", &self.group_rm),
            ("device", &self.device_rm),
            ("device-cgroup-rule", &self.device_cgroup_rule_rm),
            ("sysctl", &self.sysctl_rm),
            ("ulimit", &self.ulimit_rm),
            ("generic-resources", &self.generic_resources_rm),
            ("log-opt", &self.log_opt_rm),
            ("publish", &publish),
            ("env-secret", &self.env_secret_rm),
        ];
        removed.into_iter().filter_map(|(flag, keys)| absent(flag, keys, spec)).collect()
    }

    /// Applies the removals and then the additions.
    ///
    /// # Errors
    /// When a flag does not apply to this service.
    pub fn apply(&self, spec: &mut ServiceSpec) -> Result<(), Failure> {
        if *self == Self::default() {
            return Ok(());
        }
        if !(self.label_add.is_empty() && self.label_rm.is_empty()) {
            edit_map(&mut spec.annotations.get_or_insert_default().labels, &self.label_add, &self.label_rm);
        }
        edit(&mut spec.depends_on, String::clone, &self.depends_on_add, &self.depends_on_rm);
        self.apply_to_ports(spec);
        self.apply_to_placement(spec);
        self.apply_to_affinities(spec);
        self.apply_to_container(container(spec));
        self.apply_to_dns(container(spec));
        self.apply_to_resources(spec);
        self.apply_to_logs(spec)
    }

    fn apply_to_ports(&self, spec: &mut ServiceSpec) {
        let added: Vec<PortConfig> = self.ports_add.iter().chain(&self.publish_add).cloned().collect();
        if added.is_empty() && self.ports_rm.is_empty() && self.publish_rm.is_empty() {
            return;
        }
        let ports = &mut spec.endpoint.get_or_insert_default().ports;
        ports.retain(|port| !self.publish_rm.iter().any(|removed| target(removed) == target(port)));
        edit(ports, |port| port.name.clone(), &added, &self.ports_rm);
    }

    fn apply_to_placement(&self, spec: &mut ServiceSpec) {
        let preference = |label: &String| PlacementPreference { spread: label.clone() };
        let preferences: Vec<PlacementPreference> = self.placement_pref_add.iter().map(preference).collect();
        let untouched = [&self.constraint_add, &self.constraint_rm, &self.placement_pref_add, &self.placement_pref_rm];
        if untouched.iter().all(|flags| flags.is_empty()) {
            return;
        }
        let placement = task(spec).placement.get_or_insert_default();
        let removed: Vec<String> = self.constraint_rm.iter().map(|constraint| plain_constraint(constraint)).collect();
        edit(&mut placement.constraints, |constraint| plain_constraint(constraint), &self.constraint_add, &removed);
        edit(&mut placement.preferences, |preference| preference.spread.clone(), &preferences, &self.placement_pref_rm);
    }

    fn apply_to_affinities(&self, spec: &mut ServiceSpec) {
        let added: Vec<Affinity> = self.affinity_add.iter().chain(&self.affinity_pref_add).cloned().collect();
        let removed: Vec<&Affinity> = self.affinity_rm.iter().chain(&self.affinity_pref_rm).collect();
        if added.is_empty() && removed.is_empty() {
            return;
        }
        let key = |affinity: &Affinity| (written(affinity), affinity.weight.is_some());
        let affinities = &mut task(spec).placement.get_or_insert_default().affinities;
        affinities.retain(|affinity| !removed.iter().any(|removed| key(removed) == key(affinity)));
        edit(affinities, written, &added, &[]);
    }

    fn apply_to_container(&self, container: &mut ContainerSpec) {
        edit_map(&mut container.labels, &self.container_label_add, &self.container_label_rm);
        let (runtime, mut files): (Vec<_>, Vec<_>) = container.configs.drain(..).partition(|of| of.runtime);
        edit(&mut files, |reference| reference.name.clone(), &self.config_add, &self.config_rm);
        container.configs = files.into_iter().chain(runtime).collect();
        edit(&mut container.secrets, |reference| reference.name.clone(), &self.secret_add, &self.secret_rm);
        edit_map(&mut container.sysctls, &self.sysctl_add, &self.sysctl_rm);
        let env: Vec<String> = self.env_add.iter().map(|variable| variable.0.clone()).collect();
        edit(&mut container.env, |entry| variable(entry), &env, &self.env_rm);
        container.env_secrets.retain(|secret| !self.env_secret_rm.contains(&secret.name));
        edit(&mut container.hosts, String::clone, &self.host_add, &self.host_rm);
        edit_capabilities(container, &self.add_capability, &self.rm_capability);
        edit(&mut container.groups, String::clone, &self.group_add, &self.group_rm);
        devices::remove(container, &self.device_rm);
        devices::add(container, &self.device_add);
        let (added, removed) = (&self.device_cgroup_rule_add, &self.device_cgroup_rule_rm);
        edit(&mut container.device_cgroup_rules, String::clone, added, removed);
        edit(&mut container.ulimits, |ulimit| ulimit.name.clone(), &self.ulimit_add, &self.ulimit_rm);
        let mounts = [
            (MountType::Bind, &self.bind_add, &self.bind_rm),
            (MountType::Volume, &self.volume_add, &self.volume_rm),
            (MountType::Tmpfs, &self.tmpfs_add, &self.tmpfs_rm),
        ];
        for (kind, added, removed) in mounts {
            container.mounts.retain(|mount| mount.r#type() != kind || !removed.contains(&mount.target));
            edit(&mut container.mounts, |mount| mount.target.clone(), added, &[]);
        }
        edit(&mut container.mounts, |mount| mount.target.clone(), &self.mount_add, &self.mount_rm);
    }

    fn apply_to_dns(&self, container: &mut ContainerSpec) {
        let servers: Vec<String> = self.dns_add.iter().map(IpAddr::to_string).collect();
        let lists = [&servers, &self.dns_rm, &self.dns_search_add, &self.dns_search_rm, &self.dns_option_add];
        if lists.iter().all(|flags| flags.is_empty()) && self.dns_option_rm.is_empty() {
            return;
        }
        let mut dns = container.dns.take().unwrap_or_default();
        edit(&mut dns.nameservers, String::clone, &servers, &self.dns_rm);
        edit(&mut dns.search, String::clone, &self.dns_search_add, &self.dns_search_rm);
        edit(&mut dns.options, String::clone, &self.dns_option_add, &self.dns_option_rm);
        container.dns = Some(dns).filter(|dns| *dns != Default::default());
    }

    fn apply_to_resources(&self, spec: &mut ServiceSpec) {
        let (added, removed) = (&self.generic_resources_add, &self.generic_resources_rm);
        if added.is_empty() && removed.is_empty() {
            return;
        }
        let reservations = task(spec).resources.get_or_insert_default().reservations.get_or_insert_default();
        edit(&mut reservations.generic, |resource| resource.kind.clone(), added, removed);
    }

    fn apply_to_logs(&self, spec: &mut ServiceSpec) -> Result<(), Failure> {
        if self.log_opt_add.is_empty() && self.log_opt_rm.is_empty() {
            return Ok(());
        }
        let Some(driver) = &mut task(spec).log_driver else {
            return Err(Failure::new(Kind::Usage, "the service has no log driver to take options")
                .hint("name one with --log-driver"));
        };
        edit_map(&mut driver.options, &self.log_opt_add, &self.log_opt_rm);
        Ok(())
    }
}

/// Removes entries by their keys, then adds others; an entry with the same key is replaced.
fn edit<T: Clone>(list: &mut Vec<T>, key: impl Fn(&T) -> String, added: &[T], removed: &[String]) {
    list.retain(|entry| !removed.contains(&key(entry)));
    for new in added {
        match list.iter_mut().find(|entry| key(entry) == key(new)) {
            Some(present) => present.clone_from(new),
            None => list.push(new.clone()),
        }
    }
}

fn edit_map(map: &mut BTreeMap<String, String>, added: &[(String, String)], removed: &[String]) {
    map.retain(|key, _| !removed.contains(key));
    map.extend(added.iter().cloned());
}

/// Like SwarmKit: an added capability is no longer dropped; a removed one is dropped unless it had been added.
fn edit_capabilities(container: &mut ContainerSpec, added: &[String], removed: &[String]) {
    let plain = |name: &str| name.to_ascii_uppercase().trim_start_matches("CAP_").to_owned();
    let change = |gains: &mut Vec<String>, loses: &mut Vec<String>, capability: &String| {
        let is_same = |known: &String| plain(known) == plain(capability);
        if loses.iter().any(is_same) {
            loses.retain(|known| !is_same(known));
        } else if !gains.iter().any(is_same) {
            gains.push(capability.clone());
        }
    };
    let ContainerSpec { capability_add, capability_drop, .. } = container;
    removed.iter().for_each(|capability| change(capability_drop, capability_add, capability));
    added.iter().for_each(|capability| change(capability_add, capability_drop, capability));
}
