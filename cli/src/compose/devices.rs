//! What a container gets from its node beyond the defaults: devices, privileges and confinement.

use events::{CredentialSpec, DeviceRequest, Platform, PullPolicy, ServiceSpec};

use super::scope::{KeyRule, Scope, put};
use crate::spec::{self, container, task};
use crate::values::security_opt::{self, SecurityOption};
use crate::values::{Invalid, device};
use crate::yaml::{Node, Value};

/// The number that stands for all devices.
const ALL: i64 = -1;

pub(super) fn read(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    let devices = scope.values(node, device::parse);
    spec::add_devices(container(spec), &devices);
}

/// `gpus: all`, or a list of requests.
pub(super) fn read_gpus(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    match &node.value {
        Value::Scalar { .. } => container(spec).device_requests.extend(scope.value(node, device::parse_gpus)),
        Value::List(_) | Value::Map(_) => {
            for item in scope.items(node) {
                let mut request = request(item, scope);
                if !request.capabilities.iter().any(|capability| capability == "gpu") {
                    request.capabilities.insert(0, "gpu".to_owned());
                }
                container(spec).device_requests.push(request);
            }
        }
    }
}

/// Devices selected by a driver of the engine.
pub(super) fn read_requests(node: &Node, scope: &mut Scope<'_>) -> Vec<DeviceRequest> {
    let items = scope.items(node);
    items.iter().map(|item| request(item, scope)).collect()
}

fn request(node: &Node, scope: &mut Scope<'_>) -> DeviceRequest {
    let mut request = DeviceRequest::default();
    scope.fields(&mut request, node, &REQUEST);
    if request.count == 0 && request.ids.is_empty() {
        request.count = ALL;
    }
    request
}

const REQUEST: [(&str, KeyRule<DeviceRequest>); 5] = [
    ("driver", KeyRule::Read(|of, node, scope| put(&mut of.driver, scope.text(node).map(str::to_owned)))),
    (
        "count",
        KeyRule::Read(|of, node, scope| {
            let count = if node.text() == Some("all") { Some(ALL) } else { scope.number(node, 1..=i64::MAX) };
            put(&mut of.count, count);
        }),
    ),
    ("device_ids", KeyRule::Read(|of, node, scope| of.ids = scope.texts(node))),
    ("capabilities", KeyRule::Read(|of, node, scope| of.capabilities = scope.texts(node))),
    ("options", KeyRule::Read(|of, node, scope| of.options = scope.labels(node))),
];

pub(super) fn read_security(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    let mut options = scope.values(node, security_opt::parse);
    for option in &mut options {
        if let SecurityOption::SeccompFile(path) = option {
            *path = scope.local.directory.join(&*path);
        }
    }
    match spec::privileges(&options, scope.local.read) {
        Ok(privileges) => spec::set_privileges(container(spec), Some(privileges)),
        Err(failure) => {
            let sentence = format!("{}: {}; {}", scope.path(), failure.sentence, failure.hint);
            scope.wrong(&node.at, sentence);
        }
    }
}

pub(super) fn read_credential_spec(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    let mut made = CredentialSpec::default();
    scope.fields(&mut made, node, &CREDENTIAL_SPEC);
    if made.config.is_empty() {
        return spec::set_credential_spec(container(spec), Some(made));
    }
    let Some(name) = scope.configs.get(&made.config).map(|of| of.name.clone()) else {
        let sentence =
            format!("{}: the file does not define the config \"{}\" below configs", scope.path(), made.config);
        return scope.wrong(&node.at, sentence);
    };
    spec::set_credential_spec(container(spec), Some(CredentialSpec { config: name, ..made }));
}

const CREDENTIAL_SPEC: [(&str, KeyRule<CredentialSpec>); 3] = [
    ("file", KeyRule::Read(|of, node, scope| put(&mut of.file, scope.text(node).map(str::to_owned)))),
    ("registry", KeyRule::Read(|of, node, scope| put(&mut of.registry, scope.text(node).map(str::to_owned)))),
    ("config", KeyRule::Read(|of, node, scope| put(&mut of.config, scope.text(node).map(str::to_owned)))),
];

pub(super) fn read_pull_policy(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    let policies = [
        ("always", PullPolicy::Always),
        ("never", PullPolicy::Never),
        ("missing", PullPolicy::Missing),
        ("if_not_present", PullPolicy::Missing),
    ];
    put(&mut container(spec).pull_policy, scope.word(node, &policies).map(Into::into));
}

/// `linux/amd64`: only nodes of this platform are suitable.
pub(super) fn read_platform(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    let platform = scope.value(node, |text| match text.split('/').collect::<Vec<_>>()[..] {
        [os, architecture] if !os.is_empty() && !architecture.is_empty() => {
            Ok(Platform { os: os.to_owned(), architecture: architecture.to_owned() })
        }
        _ => Err(Invalid::new(format!("\"{text}\" is not a platform"), "write OS/ARCHITECTURE, such as linux/amd64")),
    });
    task(spec).placement.get_or_insert_default().platforms.extend(platform);
}
