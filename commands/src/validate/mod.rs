//! Validation of specs, independent of the state of the cluster. The rules are SwarmKit's (`manager/controlapi`) and, where the
//! engine alone would report an error too late, the engine's own.
//!
//! Absent on purpose: clashes of published ports between services. Ports are published on the nodes that run a task, where two
//! services may share a number; only the routing mesh will have ports of the whole cluster.

mod autoscale;
mod cluster;
mod config;
mod container;
mod devices;
mod endpoint;
mod file;
mod image;
mod kernel;
mod mount;
mod name;
mod node;
mod placement;
mod rebalance;
mod resources;
mod rollout;
mod schedule;
mod secrets;
mod sink;
mod template;

use events::spec::Completions;
pub(crate) use events::spec::limits::REPLICAS_MAX;
use events::{ServiceSpec, redaction};
use prost::Message;

use crate::{Rejection, RejectionKind};

pub(crate) use cluster::cluster;
#[cfg(test)]
pub(crate) use config::SECRET_BYTES_MAX;
pub(crate) use config::{CONFIG_BYTES_MAX, CONFIGS_BYTES_MAX, SECRETS_KIB_MAX, config, secret_data, secret_spec};
pub use image::{IMAGE_HINT, is_image_reference};
pub(crate) use name::{hostname, is_service_name, operator, tag};
pub(crate) use node::{addr, node_description, node_spec};
#[cfg(test)]
pub(crate) use secrets::CREDENTIALS_BYTES_MAX;
pub(crate) use secrets::{credentials, env_names, env_secrets};
pub(crate) use sink::{sink, sink_key};
pub(crate) use template::with_example;

/// Whether a node may have this host name.
pub fn is_hostname(name: &str) -> bool {
    hostname(name).is_ok()
}

/// Maximum size of a service spec in bytes: an update contains it twice within one frame's soft limit.
const SPEC_BYTES_MAX: usize = 512 * 1024;

/// An error in a part of a spec; the caller adds the name of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    kind: RejectionKind,
    sentence: String,
    hint: String,
}

/// Whether a part of a spec is valid.
pub(crate) type Verdict = Result<(), Fault>;

impl Fault {
    fn new(kind: RejectionKind, sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, sentence: sentence.into(), hint: hint.into() }
    }

    pub(crate) fn invalid(sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(RejectionKind::Invalid, sentence, hint)
    }

    pub(crate) fn exhausted(sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(RejectionKind::Exhausted, sentence, hint)
    }

    #[cfg(test)]
    fn sentence(&self) -> &str {
        &self.sentence
    }

    /// The rejection of a command about this object.
    pub(crate) fn about(self, subject: &str) -> Rejection {
        Rejection::new(self.kind, subject, self.sentence, self.hint)
    }
}

/// Checks the whole spec of a service.
pub(crate) fn service(spec: &ServiceSpec) -> Verdict {
    name::service(spec.name())?;
    let bytes = spec.encoded_len();
    if bytes > SPEC_BYTES_MAX {
        let sentence = format!("the spec has {bytes} bytes; the maximum is {SPEC_BYTES_MAX}");
        return Err(Fault::new(
            RejectionKind::Exhausted,
            sentence,
            "keep large values in files that the service mounts",
        ));
    }
    name::labels(&spec.annotations().labels)?;
    if let Some(field) = redaction::redacted_field(spec) {
        let sentence = format!("the value of {field} was erased from history: only its digest is left");
        return Err(Fault::invalid(sentence, format!("give {field} another value, or leave it out")));
    }
    replicas(spec.replicas().unwrap_or(0))?;
    job(spec)?;
    let task = spec.template();
    let Some(of) = &task.container else {
        return Err(Fault::invalid("the spec has no container", "name the image that the tasks run"));
    };
    container::container(template::tried(spec, of)?.as_ref())?;
    devices::claimed(task)?;
    if let Some(requirements) = &task.resources {
        resources::requirements(requirements)?;
    }
    if let Some(policy) = &task.restart {
        rollout::restart(policy)?;
    }
    if let Some(config) = &spec.update {
        rollout::update(config)?;
    }
    if let Some(config) = &spec.rollback {
        rollout::rollback(config)?;
    }
    placement::placement(task.placement())?;
    if spec.autoscale.is_some() {
        autoscale::autoscale(spec)?;
    }
    if spec.rebalance.is_some() {
        rebalance::rebalance(spec)?;
    }
    let network = task.container().network();
    spec.endpoint.as_ref().map_or(Ok(()), |ports| endpoint::endpoint(ports, network))
}

/// Checks a number of replicas.
pub(crate) fn replicas(count: u64) -> Verdict {
    if count > REPLICAS_MAX {
        let sentence = format!("{count} replicas are more than a service may have: {REPLICAS_MAX}");
        return Err(Fault::new(RejectionKind::Exhausted, sentence, "split the work over several services"));
    }
    Ok(())
}

/// Checks settings that are specific to jobs.
fn job(spec: &ServiceSpec) -> Verdict {
    if let Some(Completions { concurrent, total }) = spec.completions() {
        replicas(total)?;
        replicas(concurrent)?;
    }
    if spec.is_job() && (spec.update.is_some() || spec.rollback.is_some()) {
        let sentence = "a job has no update settings: a change runs all of its tasks again";
        return Err(Fault::invalid(sentence, "leave out the --update and --rollback flags"));
    }
    spec.schedule.as_ref().map_or(Ok(()), |of| schedule::schedule(spec, of))
}

/// Rejects an enum value that this version does not support.
fn known<E: TryFrom<i32>>(number: i32, what: &str) -> Verdict {
    E::try_from(number).map(|_| ()).map_err(|_| {
        Fault::invalid(
            format!("{number} is not a {what} that this cluster knows"),
            "use a client of the cluster's version",
        )
    })
}

/// Rejects a duration that other tools, which count signed nanoseconds, could not read.
fn duration(ns: u64, what: &str) -> Verdict {
    if i64::try_from(ns).is_err() {
        return Err(Fault::invalid(
            format!("the {what} is longer than 292 years"),
            "give a duration such as 30s or 5m",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{replicated, web};

    /// The error that `change` causes in a valid spec.
    fn fault(change: impl FnOnce(&mut ServiceSpec)) -> Fault {
        let mut spec = web();
        service(&spec).expect("the spec before the change is sound");
        change(&mut spec);
        service(&spec).expect_err("the change makes the spec unsound")
    }

    #[test]
    fn every_part_of_a_spec_is_judged() {
        let with_task =
            |change: fn(&mut events::TaskSpec)| fault(|spec| change(spec.task.get_or_insert_default())).sentence;
        let too_few = events::Resources { nano_cpus: 1, ..Default::default() };
        let limits = events::ResourceRequirements { limits: Some(too_few), ..Default::default() };
        assert!(fault(|spec| spec.task.get_or_insert_default().resources = Some(limits)).sentence.contains("CPU"));
        assert!(with_task(|task| task.container = None).contains("no container"));
        assert!(with_task(|task| task.container.get_or_insert_default().image.clear()).contains("image"));
        assert!(with_task(|task| task.restart.get_or_insert_default().window_ns = u64::MAX).contains("window"));
        assert!(
            with_task(|task| task.placement.get_or_insert_default().constraints.push("x".into())).contains("\"x\"")
        );
        assert!(fault(|spec| spec.annotations = None).sentence.contains("name"));
        assert!(
            fault(|spec| {
                spec.annotations.get_or_insert_default().labels.insert(String::new(), "v".into());
            })
            .sentence
            .contains("label")
        );
        assert!(
            fault(|spec| spec.update.get_or_insert_default().max_failure_ppm = 1_000_001).sentence.contains("update")
        );
        assert!(
            fault(|spec| spec.rollback.get_or_insert_default().max_failure_ppm = 1_000_001)
                .sentence
                .contains("rollback")
        );
        let ingress = events::PortConfig { target_port: 80, ..Default::default() };
        assert_eq!(
            fault(|spec| spec.endpoint.get_or_insert_default().ports.push(ingress)).kind,
            RejectionKind::Unavailable
        );
    }

    #[test]
    fn size_and_number_have_limits() {
        assert_eq!(service(&replicated("web", REPLICAS_MAX)), Ok(()));
        assert_eq!(fault(|spec| spec.mode = replicated("web", REPLICAS_MAX + 1).mode).kind, RejectionKind::Exhausted);
        let large = fault(|spec| {
            spec.task.get_or_insert_default().container.get_or_insert_default().args = vec!["x".repeat(SPEC_BYTES_MAX)];
        });
        assert_eq!(large.kind, RejectionKind::Exhausted);
    }
}
