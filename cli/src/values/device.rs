//! Devices: of the node (`/dev/fuse`, `/dev/a:/dev/b:rw`), by a CDI name (`nvidia.com/gpu=0`), and requests for GPUs in the form
//! of Docker's `--gpus`.

use events::{Device, DeviceRequest};

use super::{Invalid, pair};

const DEVICE_HINT: &str = "write SOURCE[:TARGET[:PERMISSIONS]] with absolute paths, such as /dev/fuse or /dev/sda:/dev/xvda:r, or the \
                           CDI name of a device, such as nvidia.com/gpu=0";
const GPUS_HINT: &str = "write all, a number, or KEY=VALUE,... of count, device, driver, capabilities, resource and options, such as \
                         device=GPU-1,capabilities=utility";
const RULE_HINT: &str = "write TYPE MAJOR:MINOR PERMISSIONS, such as \"c 42:* rmw\"";
/// The device driver for CDI names.
pub const CDI: &str = "cdi";
/// The capability of every device of `--gpus`.
const GPU: &str = "gpu";

/// A device as a flag names it.
#[derive(Debug, Clone, PartialEq)]
pub enum NamedDevice {
    /// A device of the node, by path.
    OfNode(Device),
    /// A device of the CDI driver, by name.
    ByCdiName(DeviceRequest),
}

/// Reads a device of the node or a CDI name.
///
/// # Errors
/// When it is neither.
pub fn parse(text: &str) -> Result<NamedDevice, Invalid> {
    let error = |why: &str| Invalid::new(format!("device \"{text}\" {why}"), DEVICE_HINT);
    if !text.starts_with('/') {
        let is_name = text.split_once('=').is_some_and(|(kind, name)| kind.contains('/') && !name.is_empty());
        let request = || DeviceRequest { driver: CDI.to_owned(), ids: vec![text.to_owned()], ..Default::default() };
        return if is_name { Ok(NamedDevice::ByCdiName(request())) } else { Err(error("is no absolute path")) };
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, permissions) = match parts[..] {
        [source] => (source, "", ""),
        [source, target] if target.starts_with('/') => (source, target, ""),
        [source, permissions] => (source, "", permissions),
        [source, target, permissions] => (source, target, permissions),
        _ => return Err(error("has too many parts")),
    };
    if !target.is_empty() && !target.starts_with('/') {
        return Err(error("has a target that does not begin with /"));
    }
    if !permissions.chars().all(|letter| "rwm".contains(letter)) {
        return Err(error("has permissions other than r, w and m"));
    }
    let [source, target, permissions] = [source, target, permissions].map(str::to_owned);
    Ok(NamedDevice::OfNode(Device { source, target, permissions }))
}

/// Writes a device of the node in the same form.
pub fn show(device: &Device) -> String {
    let parts = [&device.source, &device.target, &device.permissions];
    parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(":")
}

/// Reads a request for GPUs. A word without `=` continues the list before it, as in `device=0,2`.
///
/// # Errors
/// When a key is unknown, or a value malformed.
pub fn parse_gpus(text: &str) -> Result<DeviceRequest, Invalid> {
    let error = |why: String| Invalid::new(format!("--gpus \"{text}\" {why}"), GPUS_HINT);
    let mut request = DeviceRequest { capabilities: vec![GPU.to_owned()], ..Default::default() };
    let mut last = "count";
    for part in text.split(',').map(str::trim) {
        let (key, value) = part.split_once('=').unwrap_or((last, part));
        if value.is_empty() {
            return Err(error("has an empty part".to_owned()));
        }
        match key {
            "count" if value == "all" => request.count = -1,
            "count" => {
                let count = value.parse().ok().filter(|count| *count > 0);
                request.count = count.ok_or_else(|| error(format!("has \"{value}\" for a number of devices")))?;
            }
            "device" => request.ids.push(value.to_owned()),
            "driver" => value.clone_into(&mut request.driver),
            "resource" => value.clone_into(&mut request.claimed),
            "capabilities" if value == GPU => {}
            "capabilities" => request.capabilities.push(value.to_owned()),
            "options" => request
                .options
                .extend([pair::parse(value).map_err(|_| error("has an option without a key".to_owned()))?]),
            _ => return Err(error(format!("has the unknown key \"{key}\""))),
        }
        last = key;
    }
    if request.count == 0 && request.ids.is_empty() && request.claimed.is_empty() {
        request.count = -1;
    }
    Ok(request)
}

/// Writes a request in the same form.
pub fn show_request(request: &DeviceRequest) -> String {
    let count = match request.count {
        0 => None,
        -1 => Some("all".to_owned()),
        count => Some(count.to_string()),
    };
    let named = |key: &str, value: &str| (!value.is_empty()).then(|| format!("{key}={value}"));
    let parts = [
        count,
        named("device", &request.ids.join(",")),
        named("resource", &request.claimed),
        named("driver", &request.driver),
        named("capabilities", &request.capabilities.join(",")),
    ];
    let options = request.options.iter().map(|(key, value)| format!("options={key}={value}"));
    parts.into_iter().flatten().chain(options).collect::<Vec<_>>().join(",")
}

/// Checks a device cgroup rule and returns it unchanged.
///
/// # Errors
/// When it does not have the three parts.
pub fn parse_rule(text: &str) -> Result<String, Invalid> {
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        ["a" | "b" | "c", numbers, permissions] if numbers.contains(':') && !permissions.is_empty() => {
            Ok(text.to_owned())
        }
        _ => Err(Invalid::new(format!("\"{text}\" is not a device cgroup rule"), RULE_HINT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_paths_or_cdi_names() {
        for (text, source, target, permissions) in [
            ("/dev/fuse", "/dev/fuse", "", ""),
            ("/dev/a:/dev/b", "/dev/a", "/dev/b", ""),
            ("/dev/a:/dev/b:rw", "/dev/a", "/dev/b", "rw"),
            ("/dev/a:r", "/dev/a", "", "r"),
        ] {
            let Ok(NamedDevice::OfNode(device)) = parse(text) else { panic!("{text}") };
            assert_eq!(
                (device.source.as_str(), device.target.as_str(), device.permissions.as_str()),
                (source, target, permissions)
            );
            assert_eq!(show(&device), text);
        }
        let Ok(NamedDevice::ByCdiName(request)) = parse("nvidia.com/gpu=0") else { panic!("a CDI name") };
        assert_eq!((request.driver.as_str(), request.ids), (CDI, vec!["nvidia.com/gpu=0".to_owned()]));
        for text in ["", "fuse", "gpu=0", "nvidia.com/gpu=", "/a:/b:x", "/a:b:r", "/a:/b:r:w"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn gpus_are_asked_for_by_number_id_or_resource() {
        for (text, shown) in [
            ("all", "all,capabilities=gpu"),
            ("2", "2,capabilities=gpu"),
            ("count=2,capabilities=utility", "2,capabilities=gpu,utility"),
            ("device=0,2,driver=nvidia", "device=0,2,driver=nvidia,capabilities=gpu"),
            ("resource=gpu,options=mode=mig", "resource=gpu,capabilities=gpu,options=mode=mig"),
            ("driver=nvidia", "all,driver=nvidia,capabilities=gpu"),
        ] {
            let request = parse_gpus(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(show_request(&request), shown);
            assert_eq!(parse_gpus(shown), Ok(request));
        }
        for text in ["", "some", "0", "-1", "colour=red", "device=", "all,"] {
            assert!(parse_gpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_has_three_parts() {
        assert!(parse_rule("c 42:* rmw").is_ok());
        for text in ["", "c 42:*", "x 1:1 r", "c 42 r"] {
            assert!(parse_rule(text).is_err(), "{text}");
        }
    }
}
