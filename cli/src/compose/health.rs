//! `healthcheck`: how the engine checks whether a container is healthy.

use events::{HealthConfig, ServiceSpec};

use super::scope::{KeyRule, Scope, put};
use super::service::length;
use crate::spec::container;
use crate::yaml::{Node, Value};

pub(super) fn read(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    scope.fields(container(spec).healthcheck.get_or_insert_default(), node, &KEYS);
}

const KEYS: [(&str, KeyRule<HealthConfig>); 7] = [
    ("test", KeyRule::Read(test)),
    ("interval", KeyRule::Read(|check, node, scope| put(&mut check.interval_ns, length(node, scope)))),
    ("timeout", KeyRule::Read(|check, node, scope| put(&mut check.timeout_ns, length(node, scope)))),
    (
        "retries",
        KeyRule::Read(|check, node, scope| {
            put(&mut check.retries, scope.number(node, 0..=i32::MAX.unsigned_abs()));
        }),
    ),
    ("start_period", KeyRule::Read(|check, node, scope| put(&mut check.start_period_ns, length(node, scope)))),
    ("start_interval", KeyRule::Read(|check, node, scope| put(&mut check.start_interval_ns, length(node, scope)))),
    (
        "disable",
        KeyRule::Read(|check, node, scope| {
            if scope.boolean(node) == Some(true) {
                check.test = vec!["NONE".to_owned()];
            }
        }),
    ),
];

/// A line for the container's shell, or a list that starts with `NONE`, `CMD` or `CMD-SHELL`.
fn test(check: &mut HealthConfig, node: &Node, scope: &mut Scope<'_>) {
    if let Value::Scalar { .. } = node.value {
        let line = scope.text(node).map(|line| vec!["CMD-SHELL".to_owned(), line.to_owned()]);
        return put(&mut check.test, line);
    }
    check.test = scope.texts(node);
    if !check.test.first().is_some_and(|first| ["NONE", "CMD", "CMD-SHELL"].contains(&first.as_str())) {
        let sentence = format!("{}: the list has to begin with NONE, CMD or CMD-SHELL", scope.path());
        scope.wrong(&node.at, sentence);
    }
}
