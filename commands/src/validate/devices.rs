//! Devices of a container: those of the node, those selected by drivers, and cgroup rules for others.

use std::collections::BTreeSet;

use events::spec::limits::SHM_BYTES_MAX;
use events::{ContainerSpec, Device, DeviceRequest, TaskSpec};

use super::{Fault, Verdict};
use crate::text::quote;

/// Represents all devices of a driver.
const ALL: i64 = -1;
/// Letters of the permissions of a container for a device: read, write, mknod.
const PERMISSIONS: &str = "rwm";

/// Checks the devices and node-wide privileges of a container.
pub(super) fn devices(spec: &ContainerSpec) -> Verdict {
    let mut targets = BTreeSet::new();
    for device in &spec.devices {
        one(device)?;
        let target = if device.target.is_empty() { &device.source } else { &device.target };
        if !targets.insert(target) {
            let sentence = format!("two devices have the path {} in the container", quote(target));
            return Err(Fault::invalid(sentence, "give every device a path of its own in the container"));
        }
    }
    spec.device_requests.iter().try_for_each(request)?;
    if let Some(rule) = spec.device_cgroup_rules.iter().find(|rule| !is_cgroup_rule(rule)) {
        let hint = "write type, major:minor and permissions, such as \"c 42:* rmw\"";
        return Err(Fault::invalid(format!("{} is not a device cgroup rule", quote(rule)), hint));
    }
    if spec.shm_size_bytes > SHM_BYTES_MAX {
        return Err(Fault::invalid("the size of /dev/shm is above one PiB", "give a size such as 256M"));
    }
    cgroup_parent(&spec.cgroup_parent)
}

/// Requests for claimed devices require a claim of the task.
pub(super) fn claimed(task: &TaskSpec) -> Verdict {
    let reserved = &task.reserved().generic;
    let mut wanted = task.container().device_requests.iter().filter(|request| !request.claimed.is_empty());
    match wanted.find(|request| !reserved.iter().any(|resource| resource.kind == request.claimed)) {
        None => Ok(()),
        Some(request) => {
            let kind = &request.claimed;
            let sentence = format!("devices of the resource {} are asked for, but none is reserved", quote(kind));
            Err(Fault::invalid(sentence, format!("reserve some with --generic-resources {kind}=1")))
        }
    }
}

fn one(device: &Device) -> Verdict {
    let paths = [&device.source, &device.target];
    let is_path = |path: &str| path.starts_with('/') && !path.contains('\0');
    if device.source.is_empty() || paths.iter().any(|path| !path.is_empty() && !is_path(path)) {
        let sentence = format!("the device {} has a path that is not absolute", quote(&device.source));
        return Err(Fault::invalid(sentence, "give paths such as /dev/fuse on the node and in the container"));
    }
    let letters: BTreeSet<char> = device.permissions.chars().collect();
    if letters.len() < device.permissions.len() || !letters.iter().all(|letter| PERMISSIONS.contains(*letter)) {
        let sentence =
            format!("the device {} has the permissions {}", quote(&device.source), quote(&device.permissions));
        return Err(Fault::invalid(sentence, "give some of r (read), w (write) and m (mknod), each once"));
    }
    Ok(())
}

fn request(of: &DeviceRequest) -> Verdict {
    let hint = "ask for devices like --gpus all, --gpus 2 or --gpus device=GPU-1";
    if of.driver.is_empty() && of.capabilities.is_empty() {
        let sentence = "a device request has neither a driver nor a capability that chooses one";
        return Err(Fault::invalid(sentence, hint));
    }
    if of.capabilities.iter().chain(&of.ids).any(String::is_empty) {
        return Err(Fault::invalid("a device request has an empty capability or id", hint));
    }
    let ways = [of.count != 0, !of.ids.is_empty(), !of.claimed.is_empty()];
    if of.count < ALL || ways.iter().filter(|given| **given).count() != 1 {
        let sentence = "a device request needs one of a number of devices, their ids, or a resource that is reserved";
        return Err(Fault::invalid(sentence, hint));
    }
    Ok(())
}

/// The engine's grammar: `a`, `b` or `c`, major and minor number or `*`, and up to three permissions.
fn is_cgroup_rule(rule: &str) -> bool {
    let words: Vec<&str> = rule.split(' ').collect();
    let [kind, numbers, permissions] = words[..] else { return false };
    let is_number = |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    matches!(kind, "a" | "b" | "c")
        && numbers.split_once(':').is_some_and(|(major, minor)| is_number(major) && is_number(minor))
        && (1..=PERMISSIONS.len()).contains(&permissions.len())
        && permissions.chars().all(|letter| PERMISSIONS.contains(letter))
}

/// An absolute path of cgroupfs, or the name of a slice of systemd.
fn cgroup_parent(parent: &str) -> Verdict {
    let fits = |c: char| !c.is_whitespace() && !c.is_control();
    if parent.is_empty() || (parent.chars().all(fits) && !parent.split('/').any(|part| part == "..")) {
        return Ok(());
    }
    let sentence = format!("{} is not a cgroup", quote(parent));
    Err(Fault::invalid(
        sentence,
        "give a path such as /batch or, where systemd manages cgroups, a slice such as batch.slice",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::{GenericResource, ResourceRequirements, Resources};

    fn check(change: impl FnOnce(&mut ContainerSpec)) -> bool {
        let mut spec = ContainerSpec::default();
        change(&mut spec);
        devices(&spec).is_ok()
    }

    #[test]
    fn devices_have_absolute_paths_and_known_permissions() {
        for (source, target, permissions, sound) in [
            ("/dev/fuse", "", "", true),
            ("/dev/fuse", "/dev/x", "rwm", true),
            ("/dev/fuse", "", "m", true),
            ("", "/dev/x", "", false),
            ("dev/fuse", "", "", false),
            ("/dev/fuse", "x", "", false),
            ("/dev/fuse", "", "rr", false),
            ("/dev/fuse", "", "x", false),
        ] {
            let device = Device { source: source.into(), target: target.into(), permissions: permissions.into() };
            assert_eq!(check(|spec| spec.devices = vec![device.clone()]), sound, "{device:?}");
        }
        let at =
            |source: &str, target: &str| Device { source: source.into(), target: target.into(), ..Device::default() };
        assert!(!check(|spec| spec.devices = vec![at("/dev/a", ""), at("/dev/b", "/dev/a")]));
    }

    #[test]
    fn a_request_names_its_driver_and_its_devices_in_one_way() {
        let gpu = || DeviceRequest { capabilities: vec!["gpu".into()], ..DeviceRequest::default() };
        for (request, sound) in [
            (DeviceRequest { count: ALL, ..gpu() }, true),
            (DeviceRequest { count: 2, ..gpu() }, true),
            (DeviceRequest { ids: vec!["0".into()], ..gpu() }, true),
            (DeviceRequest { claimed: "gpu".into(), ..gpu() }, true),
            (DeviceRequest { driver: "cdi".into(), ids: vec!["a.b/c=0".into()], ..DeviceRequest::default() }, true),
            (gpu(), false),
            (DeviceRequest { count: ALL, ..DeviceRequest::default() }, false),
            (DeviceRequest { count: -2, ..gpu() }, false),
            (DeviceRequest { count: 1, ids: vec!["0".into()], ..gpu() }, false),
            (DeviceRequest { ids: vec![String::new()], ..gpu() }, false),
        ] {
            assert_eq!(check(|spec| spec.device_requests = vec![request.clone()]), sound, "{request:?}");
        }
    }

    #[test]
    fn what_is_claimed_is_reserved() {
        let request = DeviceRequest { claimed: "gpu".into(), ..DeviceRequest::default() };
        let container = ContainerSpec { device_requests: vec![request], ..ContainerSpec::default() };
        let reserving = |kind: &str| {
            let generic = vec![GenericResource { kind: kind.into(), amount: 1, names: Vec::new() }];
            let reservations = Some(Resources { generic, ..Resources::default() });
            let resources = Some(ResourceRequirements { reservations, ..ResourceRequirements::default() });
            claimed(&TaskSpec { container: Some(container.clone()), resources, ..TaskSpec::default() })
        };
        assert_eq!(reserving("gpu"), Ok(()));
        assert!(reserving("fpga").expect_err("none is reserved").sentence.contains("gpu"));
    }

    #[test]
    fn rules_sizes_and_cgroups_have_their_form() {
        for rule in ["c 42:* rmw", "a *:* rwm", "b 8:0 r"] {
            assert!(check(|spec| spec.device_cgroup_rules = vec![rule.into()]), "{rule}");
        }
        for rule in ["", "c 42:*", "d 1:1 r", "c 1 r", "c 1:x r", "c 1:1 x", "c 1:1 ", "c  1:1 r", "c 1:1 rwmr"] {
            assert!(!check(|spec| spec.device_cgroup_rules = vec![rule.into()]), "{rule}");
        }
        for parent in ["", "/batch", "batch.slice", "a/b"] {
            assert!(check(|spec| spec.cgroup_parent = parent.into()), "{parent}");
        }
        for parent in ["/a/../b", "..", "a b", "a\n"] {
            assert!(!check(|spec| spec.cgroup_parent = parent.into()), "{parent}");
        }
        assert!(check(|spec| spec.shm_size_bytes = SHM_BYTES_MAX) && !check(|spec| spec.shm_size_bytes = u64::MAX));
    }
}
