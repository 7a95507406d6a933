//! Devices in the engine's terms. Pure.

use bollard::models::{DeviceMapping, DeviceRequest as EngineRequest};
use events::{Device, DeviceRequest, GenericResource};

use super::config::{list, number};
use super::host::map;

/// The permissions of a container on a device unless its spec restricts them: read, write, mknod.
const ALL_PERMISSIONS: &str = "rwm";

/// Devices of the node, each with its path in the container.
pub(super) fn mappings(devices: &[Device]) -> Option<Vec<DeviceMapping>> {
    let or = |text: &str, otherwise: &str| Some(if text.is_empty() { otherwise } else { text }.to_owned());
    let mapping = |device: &Device| DeviceMapping {
        path_on_host: Some(device.source.clone()),
        path_in_container: or(&device.target, &device.source),
        cgroup_permissions: or(&device.permissions, ALL_PERMISSIONS),
    };
    (!devices.is_empty()).then(|| devices.iter().map(mapping).collect())
}

/// Requests to device drivers. A request for claimed resources lists the devices that the scheduler chose.
pub(super) fn requests(requests: &[DeviceRequest], claims: &[GenericResource]) -> Option<Vec<EngineRequest>> {
    let request = |request: &DeviceRequest| {
        let claimed = claims.iter().filter(|claim| !request.claimed.is_empty() && claim.kind == request.claimed);
        let ids: Vec<String> = claimed.flat_map(|claim| &claim.names).chain(&request.ids).cloned().collect();
        EngineRequest {
            driver: Some(request.driver.clone()),
            count: number(request.count),
            device_ids: list(&ids),
            // The engine accepts alternatives; here there is a single one, which must hold completely.
            capabilities: list(&request.capabilities).map(|all| vec![all]),
            options: map(&request.options),
        }
    };
    (!requests.is_empty()).then(|| requests.iter().map(request).collect())
}
