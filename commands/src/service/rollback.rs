//! Rollback to an earlier spec of a service, on request.

use events::{
    Kind, OperatorRole, RollbackStarted, ServiceId, ServiceSpec, ServiceSpecUpdated, SpecChange, VolatilePayload,
};
use projections::{Cluster, Service};

use crate::text::quote;
use crate::verb::{AllowedActor, Verb};
use crate::{Ctx, Decision, Rejection, validate};

use super::secrets::with_credentials;
use super::{existing, same_identity, subject, with_files, within_bounds};

/// Restores an earlier spec of a service, and rolls it out by the service's rollback settings. The number of replicas and the
/// registry credentials are kept.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RollbackService {
    /// The service.
    pub service: ServiceId,
    /// The spec to restore; `None`: the last one that was completely rolled out before the current one.
    pub to: Option<Box<RevisionSpec>>,
}

/// A revision of a service, read from history by the shell: the core does not read history.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RevisionSpec {
    /// Index of the frame that gave the service this spec.
    pub revision: u64,
    /// The spec.
    pub spec: ServiceSpec,
}

impl Verb for RollbackService {
    fn name(&self) -> &'static str {
        "service.rollback"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let id = self.service;
        let service = existing(state, id)?;
        let subject = subject(&service.spec);
        let (restored, target) = match &self.to {
            Some(to) => (Some(to.revision), &to.spec),
            None => (None, service.previous.as_deref().ok_or_else(|| nothing_before(service))?),
        };
        same_identity(&service.spec, target)?;
        let spec = as_of_now(target, service);
        if spec == *service.spec {
            let spec = restored.map_or_else(|| described(None), |of| format!("the spec of revision {of}"));
            let sentence = format!("{subject} already has {spec}");
            return Err(Rejection::conflict(&subject, sentence, list_hint(service)));
        }
        // A spec that was valid may now refer to removed objects.
        validate::service(&spec).map_err(|fault| fault.about(&subject))?;
        let spec = with_files(state, &spec, None).map_err(|fault| fault.about(&subject))?;
        let spec = within_bounds(spec, Some(&service.spec));
        secrets_exist(service, &spec, restored)?;
        let unused = state.unused_env_secrets(service, &spec);
        let volatile = unused.iter().map(VolatilePayload::destroy).collect();
        let begins = !service.spec.is_job() && !service.spec.same_template(&spec);
        let updated = ServiceSpecUpdated {
            service: id,
            spec,
            change: SpecChange::ManualRollback.into(),
            credentials: None,
            destroyed_secrets: unused,
            restored,
        };
        let mut decision = Decision { volatile, ..Decision::one(id, Kind::ServiceSpecUpdated(Box::new(updated))) };
        if begins {
            let reason = format!("requested rollback to {}", described(restored));
            decision.events.push(Kind::RollbackStarted(RollbackStarted { service: id, reason }));
        }
        Ok(decision)
    }
}

/// The earlier spec, with the service's current credentials and replicas.
fn as_of_now(target: &ServiceSpec, service: &Service) -> ServiceSpec {
    let key = service.spec.template().container().registry_auth_key.clone();
    let mut spec = with_credentials(target, key);
    if service.spec.replicas().is_some() {
        spec.mode = service.spec.mode;
    }
    spec
}

fn described(revision: Option<u64>) -> String {
    revision.map_or_else(|| "the previous spec".to_owned(), |revision| format!("revision {revision}"))
}

fn list_hint(service: &Service) -> String {
    let name = service.spec.name();
    format!("`swarmctl service revisions {name}` lists the revisions; choose one with --to")
}

fn nothing_before(service: &Service) -> Rejection {
    let subject = subject(&service.spec);
    let sentence = format!("{subject} has no earlier spec whose rollout was completed");
    Rejection::conflict(subject, sentence, list_hint(service))
}

/// The values of secret variables are destroyed once they are not needed, so that an old spec may refer to destroyed ones.
fn secrets_exist(service: &Service, spec: &ServiceSpec, revision: Option<u64>) -> Result<(), Rejection> {
    let mut named = spec.template().container().env_secrets.iter();
    let Some(gone) = named.find(|secret| !service.env_secrets.contains(&secret.key)) else { return Ok(()) };
    let (subject, variable) = (subject(&service.spec), quote(&gone.name));
    let sentence =
        format!("the value that {} has for the secret variable {variable} was destroyed", described(revision));
    let hint = "make the change with `swarmctl service update` and give the value with --env-secret NAME=FILE";
    Err(Rejection::conflict(subject, sentence, hint))
}
