//! Pauses and resumes the rollout of a service.

use events::{Kind, OperatorRole, ServiceId, UpdatePaused, UpdateResumed};
use projections::{Cluster, Update, UpdateState};

use crate::verb::{AllowedActor, Verb};
use crate::{Ctx, Decision, Rejection};

use super::{existing, subject};

/// Pauses the replacement of tasks until the update is resumed. Replaced tasks stay.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PauseUpdate {
    /// The service.
    pub service: ServiceId,
}

/// Resumes a paused update. Earlier failures no longer count.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ResumeUpdate {
    /// The service.
    pub service: ServiceId,
}

impl Verb for PauseUpdate {
    fn name(&self) -> &'static str {
        "service.pause"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let id = self.service;
        let update = rollout(state, id)?;
        if update.is_some_and(|state| state.is_paused()) {
            return Ok(Decision::nothing(id));
        }
        let Some(state) = update.filter(|state| state.is_open()) else {
            return Err(no_rollout(state, id, "update under way", "only an update that is under way can be paused")?);
        };
        let rollback = state.is_rollback().then_some(true);
        let reason = format!("{} paused on request", if state.is_rollback() { "rollback" } else { "update" });
        Ok(Decision::one(id, Kind::UpdatePaused(UpdatePaused { service: id, reason, rollback })))
    }
}

impl Verb for ResumeUpdate {
    fn name(&self) -> &'static str {
        "service.resume"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let id = self.service;
        match rollout(state, id)? {
            Some(update) if update.is_paused() => {
                let rollback = update.is_rollback().then_some(true);
                Ok(Decision::one(id, Kind::UpdateResumed(UpdateResumed { service: id, rollback })))
            }
            Some(update) if update.is_open() => Ok(Decision::nothing(id)),
            Some(_) | None => {
                Err(no_rollout(state, id, "paused update", "only an update that is paused can be resumed")?)
            }
        }
    }
}

fn rollout(state: &Cluster, id: ServiceId) -> Result<Option<UpdateState>, Rejection> {
    Ok(existing(state, id)?.update.as_ref().map(|update: &Update| update.state))
}

fn no_rollout(state: &Cluster, id: ServiceId, what: &str, hint: &str) -> Result<Rejection, Rejection> {
    let subject = subject(&existing(state, id)?.spec);
    let sentence = format!("{subject} has no {what}");
    Ok(Rejection::conflict(subject, sentence, hint))
}
