//! Converts a workload into the body of `POST /containers/create`: the container itself. `host.rs` adds the resources of the
//! host. Pure, so that the mapping of every field can be tested with a table.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HealthConfig as EngineHealth, PortBinding, PortMap};
use events::{HealthConfig, PortConfig, PortProtocol, PublishMode};

use super::host;
use crate::agent::executor::Workload;

/// Label of the cluster that a container belongs to.
pub(super) const CLUSTER_LABEL: &str = "swarmlog.cluster";
/// Label of the task that a container runs.
pub(super) const TASK_LABEL: &str = "com.docker.swarm.task.id";
/// Label of the node that a container was created on.
pub(super) const NODE_LABEL: &str = "com.docker.swarm.node.id";

/// The request to create a workload's container.
pub(super) fn create_body(workload: &Workload) -> ContainerCreateBody {
    let spec = workload.container();
    let ports = host_ports(workload);
    ContainerCreateBody {
        image: text(&spec.image),
        labels: Some(labels(workload)),
        entrypoint: list(&spec.command),
        cmd: list(&spec.args),
        hostname: text(&spec.hostname),
        env: list(&workload.environment()),
        working_dir: text(&spec.dir),
        user: text(&spec.user),
        tty: Some(spec.tty),
        open_stdin: Some(spec.open_stdin),
        stop_signal: text(&spec.stop_signal),
        stop_timeout: Some(i64::from(whole_seconds(spec.stop_grace()))),
        healthcheck: spec.healthcheck.as_ref().map(health),
        exposed_ports: (!ports.is_empty()).then(|| ports.iter().map(|port| port_key(port)).collect()),
        host_config: Some(host::host_config(workload, bindings(&ports))),
        ..Default::default()
    }
}

/// The spec's labels, and those by which Docker's tools and this executor identify a task. The latter take precedence.
fn labels(workload: &Workload) -> HashMap<String, String> {
    let own = [
        ("com.docker.swarm.task", String::new()),
        (TASK_LABEL, workload.task.to_string()),
        ("com.docker.swarm.task.name", workload.name.clone()),
        (NODE_LABEL, workload.node.to_string()),
        ("com.docker.swarm.service.id", workload.service.to_string()),
        ("com.docker.swarm.service.name", workload.spec.name().to_owned()),
        (CLUSTER_LABEL, workload.cluster.to_string()),
    ];
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value));
    workload.container().labels.clone().into_iter().chain(own).collect()
}

/// The ports published on the host, including those whose number the engine chooses.
pub(super) fn host_ports(workload: &Workload) -> Vec<&PortConfig> {
    let ports = workload.spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
    ports.filter(|port| port.publish_mode() == PublishMode::Host).collect()
}

/// The engine's name of a container's port: `80/tcp`.
pub(super) fn port_key(port: &PortConfig) -> String {
    let protocol = match port.protocol() {
        PortProtocol::Tcp => "tcp",
        PortProtocol::Udp => "udp",
        PortProtocol::Sctp => "sctp",
    };
    format!("{}/{protocol}", port.target_port)
}

fn bindings(ports: &[&PortConfig]) -> Option<PortMap> {
    let mut map = PortMap::new();
    for port in ports {
        // An empty host port lets the engine choose one.
        let host_port = if port.published_port == 0 { String::new() } else { port.published_port.to_string() };
        let binding = PortBinding { host_ip: None, host_port: Some(host_port) };
        map.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    (!map.is_empty()).then_some(map)
}

/// Zero means "as in the image" to the engine, like an absent field.
fn health(config: &HealthConfig) -> EngineHealth {
    EngineHealth {
        test: list(&config.test),
        interval: Some(signed(config.interval_ns)),
        timeout: Some(signed(config.timeout_ns)),
        retries: Some(i64::from(config.retries)),
        start_period: Some(signed(config.start_period_ns)),
        start_interval: number(signed(config.start_interval_ns)),
    }
}

/// A grace period in the engine's unit, rounded up so that no container is killed early.
pub(super) fn whole_seconds(period: Duration) -> i32 {
    let seconds = period.as_secs() + u64::from(period.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

/// The engine's API uses signed numbers; a larger value exceeds any machine and is replaced by the maximum.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// `None` for an empty text.
pub(super) fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// `None` for an empty list.
pub(super) fn list(values: &[String]) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| values.to_vec())
}

/// `None` for zero.
pub(super) fn number(value: i64) -> Option<i64> {
    (value != 0).then_some(value)
}
