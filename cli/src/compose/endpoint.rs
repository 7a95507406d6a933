//! `ports`: published on the nodes that run the tasks.

use events::{PortConfig, ServiceSpec};

use super::scope::{KeyRule, Scope, put};
use crate::values::{port, publish};
use crate::yaml::{Node, Value};

pub(super) fn read(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    let mut ports = Vec::new();
    for item in scope.items(node) {
        match &item.value {
            Value::Map(_) => ports.extend(long(item, scope)),
            Value::Scalar { .. } | Value::List(_) => ports.extend(scope.value(item, publish::parse)),
        }
    }
    spec.endpoint.get_or_insert_default().ports = ports;
}

#[derive(Default)]
struct Port {
    name: Option<String>,
    target: String,
    published: String,
    protocol: Option<String>,
}

const KEYS: [(&str, KeyRule<Port>); 7] = [
    ("target", KeyRule::Read(|port, node, scope| put(&mut port.target, scope.text(node).map(str::to_owned)))),
    ("published", KeyRule::Read(|port, node, scope| put(&mut port.published, scope.text(node).map(str::to_owned)))),
    ("protocol", KeyRule::Read(|port, node, scope| port.protocol = scope.text(node).map(str::to_owned))),
    ("name", KeyRule::Read(|port, node, scope| port.name = scope.text(node).map(str::to_owned))),
    (
        "mode",
        KeyRule::Read(|_, node, scope| {
            if scope.word(node, &[("host", false), ("ingress", true)]) == Some(true) {
                let sentence = format!(
                    "{}: the routing mesh is not in this version; with mode host the port listens on each node that runs a task",
                    scope.path()
                );
                scope.unsupported_value(&node.at, sentence);
            }
        }),
    ),
    ("host_ip", KeyRule::Unsupported("ports listen on all addresses of the node")),
    ("app_protocol", KeyRule::Unsupported("application protocols of ports are not supported")),
];

fn long(node: &Node, scope: &mut Scope<'_>) -> Option<PortConfig> {
    let mut port = Port::default();
    scope.fields(&mut port, node, &KEYS);
    let protocol = port.protocol.unwrap_or_else(|| "tcp".to_owned());
    let name = port.name.unwrap_or_else(|| format!("{}-{protocol}", port.target));
    let published = if port.published.is_empty() { String::new() } else { format!(":{}", port.published) };
    scope.valid(&node.at, port::parse(&format!("{name}:{}/{protocol}{published}", port.target)))
}
