//! The engine's view of a container, reduced to what a task needs. Pure.

use std::collections::BTreeSet;

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as EngineState, HealthStatusEnum, MountPoint,
    PortMap,
};
use events::{ContainerStatus, MountType, PortConfig};

use super::config::{CLUSTER_LABEL, TASK_LABEL, host_ports, port_key};
use crate::agent::executor::{Exit, Workload};

/// The exit code of a container whose own is unknown, as in Docker.
pub(super) const UNKNOWN_EXIT_CODE: i32 = 255;

/// A container of this executor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Observed {
    /// Its phase.
    pub(super) phase: Phase,
    /// Whether it has a health check, from the spec or the image.
    pub(super) has_health_check: bool,
    /// The reported status.
    pub(super) status: ContainerStatus,
    /// Why it ended, if the engine knows more than the exit code.
    pub(super) reason: Option<String>,
    /// The paths of this machine that it mounts.
    pub(super) binds: Vec<String>,
}

/// The phase of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Created, never started.
    Created,
    /// Running, and healthy if it has a health check.
    Running,
    /// Running; its health check has not decided yet.
    Starting,
    /// Running, but its health check failed.
    Unhealthy,
    /// Exited.
    Ended,
}

impl Observed {
    /// A path of this machine that it mounts but that is not in the task's spec.
    pub(super) fn foreign_bind(&self, workload: &Workload) -> Option<&str> {
        let mounts = &workload.container().mounts;
        let is_own =
            |place: &str| mounts.iter().any(|mount| mount.r#type() == MountType::Bind && mount.source == place);
        self.binds.iter().map(String::as_str).find(|place| !is_own(place))
    }

    /// The exit of the container.
    pub(super) fn exit(self) -> Exit {
        Exit { container: self.status, reason: self.reason }
    }
}

/// Whether a container with a task's name belongs to that task.
pub(super) fn is_ours(answer: &ContainerInspectResponse, workload: &Workload) -> bool {
    let labels = answer.config.as_ref().and_then(|config| config.labels.as_ref());
    let is = |key, value: String| labels.and_then(|labels| labels.get(key)).is_some_and(|label| *label == value);
    is(TASK_LABEL, workload.task.to_string()) && is(CLUSTER_LABEL, workload.cluster.to_string())
}

/// Reads the response to an inspection.
pub(super) fn observe(answer: ContainerInspectResponse, workload: &Workload) -> Observed {
    let state = answer.state.unwrap_or_default();
    let (phase, has_health_check) = phase(&state);
    let ended = phase == Phase::Ended;
    let exit_code = state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(UNKNOWN_EXIT_CODE);
    let bound = answer.network_settings.and_then(|network| network.ports).unwrap_or_default();
    let oom_killed = state.oom_killed.unwrap_or_default();
    let words = state.error.filter(|words| !words.is_empty());
    Observed {
        phase,
        has_health_check,
        status: ContainerStatus {
            container_id: answer.id.unwrap_or_default(),
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default(),
            exit_code: ended.then_some(exit_code),
            oom_killed,
            ports: ports(workload, &bound),
            warnings: Vec::new(),
        },
        reason: words.filter(|_| ended),
        binds: binds(answer.mounts.unwrap_or_default()),
    }
}

fn binds(mounts: Vec<MountPoint>) -> Vec<String> {
    let binds = mounts.into_iter().filter(|mount| mount.typ.as_deref() == Some("bind"));
    binds.filter_map(|mount| mount.source).collect()
}

fn phase(state: &ContainerState) -> (Phase, bool) {
    let health = state.health.as_ref().and_then(|health| health.status).unwrap_or(HealthStatusEnum::NONE);
    let (health, has_health_check) = match health {
        HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => (Phase::Running, false),
        HealthStatusEnum::HEALTHY => (Phase::Running, true),
        HealthStatusEnum::STARTING => (Phase::Starting, true),
        HealthStatusEnum::UNHEALTHY => (Phase::Unhealthy, true),
    };
    let phase = match state.status.unwrap_or(EngineState::EMPTY) {
        EngineState::CREATED => Phase::Created,
        EngineState::RUNNING | EngineState::PAUSED | EngineState::RESTARTING | EngineState::STOPPING => health,
        EngineState::EMPTY | EngineState::EXITED | EngineState::REMOVING | EngineState::DEAD => Phase::Ended,
    };
    (phase, has_health_check)
}

/// The spec's host ports with the numbers that the engine chose. If it chose several for one target, they are assigned in the
/// spec's order.
fn ports(workload: &Workload, bound: &PortMap) -> Vec<PortConfig> {
    let wanted = host_ports(workload);
    let mut taken: BTreeSet<(String, u32)> =
        wanted.iter().map(|port| (port_key(port), port.published_port)).filter(|(_, number)| *number != 0).collect();
    let mut filled = Vec::with_capacity(wanted.len());
    for port in wanted {
        let mut port = port.clone();
        if port.published_port == 0 {
            let key = port_key(&port);
            let bindings = bound.get(&key).and_then(Option::as_ref).into_iter().flatten();
            let mut numbers = bindings.filter_map(|binding| binding.host_port.as_ref()?.parse::<u32>().ok());
            port.published_port = numbers.find(|number| taken.insert((key.clone(), *number))).unwrap_or_default();
        }
        filled.push(port);
    }
    filled
}
