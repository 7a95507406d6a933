//! Commands about services. A spec is recorded in the log as the user wrote it, with three exceptions: messages that set nothing are
//! left out, the names under which the keyring stores its secrets are filled in (`secrets.rs`), and the revisions of its configs and
//! secrets.

pub(crate) mod dependencies;
mod payloads;
mod rollback;
mod rollout;
mod secrets;

use std::mem::discriminant;

use events::service_spec::Mode;
use events::{
    Kind, OperatorRole, ReplicatedMode, ServiceCreated, ServiceId, ServiceRemoved, ServiceScaled, ServiceSpec,
    ServiceSpecUpdated, SpecChange, VolatilePayload,
};
use projections::{Cluster, Service};

use crate::text::quote;
use crate::validate::Fault;
use crate::verb::{AllowedActor, Verb};
use crate::version::require_version;
use crate::{Ctx, Decision, Rejection, RejectionKind, config, secret, validate};

pub use rollback::{RevisionSpec, RollbackService};
pub use rollout::{PauseUpdate, ResumeUpdate};
pub use secrets::ServiceSecrets;
use secrets::{credentials_key, keep_credentials, place_env, with_credentials};

/// Creates a service.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CreateService {
    /// Its spec.
    pub spec: Box<ServiceSpec>,
    /// Its secrets, for the keyring.
    pub secrets: ServiceSecrets,
}

/// Replaces a service's spec. New secrets count as a change even without other changes: the name of credentials in the spec is
/// the same, and history must show that they were replaced.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct UpdateService {
    /// The service.
    pub service: ServiceId,
    /// The new spec.
    pub spec: Box<ServiceSpec>,
    /// The version that was read; `None`: any.
    pub version: Option<u64>,
    /// New secrets; the others are kept.
    pub secrets: ServiceSecrets,
}

/// Changes only the number of a service's replicas, so that no task is replaced.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ScaleService {
    /// The service.
    pub service: ServiceId,
    /// The new number.
    pub replicas: u64,
}

/// Removes a service and its secrets; reconcilers then remove its tasks.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RemoveService {
    /// The service.
    pub service: ServiceId,
}

impl Verb for CreateService {
    fn name(&self) -> &'static str {
        "service.create"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let Self { spec, secrets } = self;
        let subject = subject(spec);
        validate::service(spec).map_err(|fault| fault.about(&subject))?;
        let spec = with_files(state, spec, None).map_err(|fault| fault.about(&subject))?;
        let spec = within_bounds(spec, None);
        dependencies::exist(state, &spec, None).map_err(|fault| fault.about(&subject))?;
        let auth = secrets.registry_auth.as_ref();
        auth.map_or(Ok(()), validate::credentials).map_err(|fault| fault.about(&subject))?;
        if let Some(taken) = state.service_named(spec.name()) {
            let sentence = format!("the name {} is taken by service {}", taken.spec.name(), taken.id);
            let hint =
                format!("choose another name, or change that service with `swarmctl service update {}`", taken.id);
            return Err(Rejection::new(RejectionKind::Exists, subject, sentence, hint));
        }
        let service: ServiceId = ctx.ids.next();
        let mut spec = with_credentials(&spec, auth.map(|_| credentials_key(service)).unwrap_or_default());
        let values =
            place_env(&mut spec, None, &secrets.env, service, &mut ctx.ids).map_err(|fault| fault.about(&subject))?;
        let mut decision = Decision::one(service, Kind::ServiceCreated(Box::new(ServiceCreated { service, spec })));
        decision.volatile.extend(auth.map(|auth| keep_credentials(service, auth)));
        decision.volatile.extend(values);
        Ok(decision)
    }
}

impl Verb for UpdateService {
    fn name(&self) -> &'static str {
        "service.update"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let Self { service: id, spec, version, secrets } = self;
        let (id, spec, version) = (*id, &**spec, *version);
        let service = existing(state, id)?;
        let subject = subject(&service.spec);
        require_version(&subject, service.version, version)?;
        validate::service(spec).map_err(|fault| fault.about(&subject))?;
        let spec = with_files(state, spec, Some(&service.spec)).map_err(|fault| fault.about(&subject))?;
        let spec = within_bounds(spec, Some(&service.spec));
        dependencies::exist(state, &spec, Some(&service.spec)).map_err(|fault| fault.about(&subject))?;
        let auth = secrets.registry_auth.as_ref();
        auth.map_or(Ok(()), validate::credentials).map_err(|fault| fault.about(&subject))?;
        same_identity(&service.spec, &spec)?;
        let key = match auth {
            Some(_) => credentials_key(id),
            None => service.spec.template().container().registry_auth_key.clone(),
        };
        let mut spec = with_credentials(&spec, key);
        let values = place_env(&mut spec, Some(&service.spec), &secrets.env, id, &mut ctx.ids)
            .map_err(|fault| fault.about(&subject))?;
        if spec == *service.spec && auth.is_none() {
            return Ok(Decision::nothing(id));
        }
        if let Some(scaled) = scaling(service, &spec).filter(|_| auth.is_none()) {
            return Ok(Decision::one(id, Kind::ServiceScaled(scaled)));
        }
        let unused = state.unused_env_secrets(service, &spec);
        let mut volatile: Vec<_> = auth.map(|auth| keep_credentials(id, auth)).into_iter().chain(values).collect();
        volatile.extend(unused.iter().map(VolatilePayload::destroy));
        let (change, credentials) = (SpecChange::Update.into(), auth.map(|_| true));
        let updated =
            ServiceSpecUpdated { service: id, spec, change, credentials, destroyed_secrets: unused, restored: None };
        Ok(Decision { volatile, ..Decision::one(id, Kind::ServiceSpecUpdated(Box::new(updated))) })
    }
}

impl Verb for ScaleService {
    fn name(&self) -> &'static str {
        "service.scale"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, state: &Cluster) -> bool {
        let present = state.services.get(self.service).and_then(|service| service.spec.replicas());
        present.is_none_or(|present| self.replicas > present)
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let (id, replicas) = (self.service, self.replicas);
        let service = existing(state, id)?;
        let subject = subject(&service.spec);
        let Some(from) = service.spec.replicas() else {
            let (why, hint) = unscaled(&service.spec.mode());
            return Err(Rejection::invalid(&subject, format!("{subject} {why}"), hint));
        };
        if let Some(rule) = service.spec.autoscaling() {
            let sentence = format!("{subject} is autoscaled between {} and {} replicas", rule.min, rule.max);
            let hint =
                "change the bounds with `swarmctl service update --autoscale`, or end it first with --autoscale off";
            return Err(Rejection::conflict(&subject, sentence, hint));
        }
        validate::replicas(replicas).map_err(|fault| fault.about(&subject))?;
        if from == replicas {
            return Ok(Decision::nothing(id));
        }
        Ok(Decision::one(id, Kind::ServiceScaled(ServiceScaled { service: id, from, to: replicas, reason: None })))
    }
}

impl Verb for RemoveService {
    fn name(&self) -> &'static str {
        "service.remove"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let id = self.service;
        let service = existing(state, id)?;
        let mut decision = Decision::one(id, Kind::ServiceRemoved(ServiceRemoved { service: id }));
        // Even if the current spec names none: an earlier one may have.
        decision.volatile.push(VolatilePayload::destroy(credentials_key(id)));
        decision.volatile.extend(service.env_secrets.iter().map(VolatilePayload::destroy));
        Ok(decision)
    }
}

/// The spec as it is recorded, with the revisions of its configs and secrets, if all of them exist. A job that runs again gets the
/// newest.
fn with_files(state: &Cluster, spec: &ServiceSpec, present: Option<&ServiceSpec>) -> Result<ServiceSpec, Fault> {
    let mut spec = spec.clone().without_empty_messages();
    let runs_again = present.is_some_and(|present| present.is_job() && !present.same_template(&spec));
    config::resolve(state, &mut spec, runs_again)?;
    secret::resolve(state, &mut spec, runs_again)?;
    payloads::tried(state, &spec)?;
    Ok(spec)
}

/// The spec of an autoscaled service with a number of replicas within its bounds: the current one, since the client may have read
/// an outdated number.
fn within_bounds(mut spec: ServiceSpec, present: Option<&ServiceSpec>) -> ServiceSpec {
    if let (Some(rule), Some(given)) = (spec.autoscaling(), spec.replicas()) {
        let known = present.filter(|present| present.autoscaling().is_some()).and_then(ServiceSpec::replicas);
        let replicas = known.unwrap_or(given).clamp(rule.min, rule.max);
        spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas }));
    }
    spec
}

/// Why a service that is not replicated cannot be scaled, and the alternative.
fn unscaled(mode: &Mode) -> (&'static str, &'static str) {
    match mode {
        Mode::Global(_) | Mode::Replicated(_) => (
            "is global: it has one task on every node",
            "limit a global service with placement constraints, or make a replicated one",
        ),
        Mode::GlobalJob(_) => (
            "is a global job: it runs one task on every node",
            "limit a global job with placement constraints, or make a replicated one",
        ),
        Mode::ReplicatedJob(_) => (
            "is a job: its tasks complete, and are not replicas",
            "change how many have to complete with `swarmctl service update --replicas`, and how many run at the same time with \
             --max-concurrent",
        ),
    }
}

/// The effect of an update that only changes the number of replicas: the same as scaling.
fn scaling(service: &Service, spec: &ServiceSpec) -> Option<ServiceScaled> {
    let (from, to) = (service.spec.replicas()?, spec.replicas()?);
    let only_replicas = ServiceSpec { mode: spec.mode, ..(*service.spec).clone() } == *spec;
    (from != to && only_replicas).then_some(ServiceScaled { service: service.id, from, to, reason: None })
}

/// The properties that identify a service cannot change.
fn same_identity(old: &ServiceSpec, new: &ServiceSpec) -> Result<(), Rejection> {
    let subject = subject(old);
    if old.name() != new.name() {
        let sentence = format!("{subject} cannot be renamed to {}", new.name());
        let hint = "create another service with the new name";
        return Err(Rejection::invalid(subject, sentence, hint));
    }
    if discriminant(&old.mode()) != discriminant(&new.mode()) {
        let mode = |spec: &ServiceSpec| match spec.mode() {
            Mode::Global(_) => "global",
            Mode::Replicated(_) => "replicated",
            Mode::ReplicatedJob(_) => "a replicated job",
            Mode::GlobalJob(_) => "a global job",
        };
        let sentence = format!("{subject} is {} and cannot become {}", mode(old), mode(new));
        let hint = "create another service in the other mode";
        return Err(Rejection::invalid(subject, sentence, hint));
    }
    Ok(())
}

fn existing(state: &Cluster, id: ServiceId) -> Result<&Service, Rejection> {
    state.services.get(id).ok_or_else(|| Rejection::not_found("service", id))
}

/// The service's name in a rejection; an invalid name could contain anything.
fn subject(spec: &ServiceSpec) -> String {
    if validate::is_service_name(spec.name()) {
        format!("service {}", spec.name())
    } else {
        format!("service {}", quote(spec.name()))
    }
}

#[cfg(test)]
mod tests;
