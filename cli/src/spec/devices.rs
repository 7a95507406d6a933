//! What a container may use of its node beyond the defaults: devices, all privileges, shared memory, a cgroup.

use clap::Args;
use events::{ContainerSpec, Device, DeviceRequest, ServiceSpec};

use super::{container, replace, set};
use crate::values::device::{self, CDI, NamedDevice};
use crate::values::size;

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(
    next_help_heading = "Devices and the node; a node allows them by its swarmd's --allow-device and --allow-privileged"
)]
pub(super) struct DeviceFlags {
    /// Device of the node, or one by its CDI name; replaces all
    #[arg(long, value_name = "SOURCE[:TARGET[:rwm]]|CDI-NAME", value_parser = device::parse)]
    device: Vec<NamedDevice>,

    /// GPUs that the engine adds: all, a number, or device=ID,driver=NAME,capabilities=NAME,resource=KIND; resource: the units of
    /// this generic resource that are assigned to the task; replaces all
    #[arg(long, value_name = "all|NUMBER|KEY=VALUE,...", value_parser = device::parse_gpus)]
    gpus: Vec<DeviceRequest>,

    /// Device cgroup rule, for devices that the container creates itself, such as "c 42:* rmw"; replaces all
    #[arg(long, value_name = "RULE", value_parser = device::parse_rule)]
    device_cgroup_rule: Vec<String>,

    /// Give the container all capabilities and devices, without confinement
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    privileged: Option<bool>,

    /// Size of /dev/shm; 0 for the engine's default
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    shm_size: Option<u64>,

    /// Cgroup in which the container's cgroup is created
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
}

impl DeviceFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        let container = container(spec);
        if !self.device.is_empty() {
            container.devices.clear();
            container.device_requests.retain(|request| !is_named(request));
            add(container, &self.device);
        }
        if !self.gpus.is_empty() {
            container.device_requests.retain(is_named);
            container.device_requests.extend(self.gpus.iter().cloned());
        }
        replace(&mut container.device_cgroup_rules, &self.device_cgroup_rule);
        set(&mut container.privileged, &self.privileged);
        set(&mut container.shm_size_bytes, &self.shm_size);
        set(&mut container.cgroup_parent, &self.cgroup_parent);
    }
}

/// Whether a request comes from `--device`, and not from `--gpus`.
pub(super) fn is_named(request: &DeviceRequest) -> bool {
    request.driver == CDI
}

/// What identifies a device in its list: its path in the container.
pub(super) fn path(device: &Device) -> String {
    if device.target.is_empty() { device.source.clone() } else { device.target.clone() }
}

/// Adds devices; a device with the same path or CDI name is replaced.
pub fn add(container: &mut ContainerSpec, named: &[NamedDevice]) {
    for device in named {
        match device {
            NamedDevice::OfNode(device) => {
                container.devices.retain(|present| path(present) != path(device));
                container.devices.push(device.clone());
            }
            NamedDevice::ByCdiName(request) => {
                container.device_requests.retain(|present| present != request);
                container.device_requests.push(request.clone());
            }
        }
    }
}

/// The devices of `--device` by path or CDI name.
pub(super) fn names(container: &ContainerSpec) -> Vec<String> {
    let requests = container.device_requests.iter().filter(|request| is_named(request));
    container.devices.iter().map(path).chain(requests.flat_map(|request| request.ids.clone())).collect()
}

/// Removes devices by path or CDI name.
pub(super) fn remove(container: &mut ContainerSpec, names: &[String]) {
    container.devices.retain(|device| !names.contains(&path(device)));
    container.device_requests.retain(|request| !(is_named(request) && request.ids.iter().all(|id| names.contains(id))));
}
