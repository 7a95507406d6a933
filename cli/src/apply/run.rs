//! Doing what a plan says, and waiting for it.

use std::collections::BTreeSet;

use events::SecretText;
use serde::Serialize;
use wire::v1::command_request::Command;
use wire::v1::{
    ConfigView, CreateConfig, CreateSecret, CreateService, RemoveService, SecretView, UpdateConfig, UpdateSecret,
    UpdateService,
};

use super::plan::{OwnedFile, Plan, Step, WantedConfig, WantedSecret};
use crate::failure::{Failure, Kind};
use crate::format::Format;
use crate::manager::Manager;
use crate::session::Session;
use crate::spec::{pin_image, resolve_files};
use crate::wait::{self, Goal, WaitFlags};

/// What is said of an object that is as it should be.
const UNCHANGED: &str = "unchanged";

/// What was done to one object.
#[derive(Serialize)]
struct Done<'a> {
    action: &'a str,
    kind: &'a str,
    name: &'a str,
}

/// Makes all changes, and then waits until the services are as they should be.
///
/// # Errors
/// When a change is refused, or a service does not become what it should be.
pub async fn run<M: Manager>(
    plan: Plan,
    registry_auth: Option<&SecretText>,
    wait: &WaitFlags,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let services: BTreeSet<String> = plan.iter().filter_map(Step::service).map(str::to_owned).collect();
    let mut awaited: Vec<(String, Goal, u64)> = Vec::new();
    let mut unused = Vec::new();
    for step in plan {
        match step {
            // What a rollback of a service that stays may need is not removed.
            Step::RemoveFile(file) if session.is_trial() && file.users.iter().any(|name| services.contains(name)) => {}
            Step::RemoveFile(file) => unused.push(file),
            Step::UpdateConfig(present, config) => {
                let (followers, index) = revise_config(&present, config, session).await?;
                follow(&mut awaited, followers.into_iter().filter(|name| services.contains(name)), index);
            }
            Step::UpdateSecret(present, secret) => {
                let (followers, index) = revise_secret(&present, secret, session).await?;
                follow(&mut awaited, followers.into_iter().filter(|name| services.contains(name)), index);
            }
            step => awaited.extend(make(step, registry_auth, session).await?),
        }
    }
    for (name, goal, index) in awaited {
        wait::for_service(session, wait, &name, goal, index).await?;
    }
    for OwnedFile { id, name, .. } in unused {
        match session.execute_at_rest(id.removal()).await {
            Ok(_) => told(session, "removed", id.noun(), &name)?,
            // A rollback may need it: the next time it is tried again.
            Err(failure) if failure.kind == Kind::Conflict => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Waits for services that follow a new revision, for their last change only.
fn follow(awaited: &mut Vec<(String, Goal, u64)>, followers: impl Iterator<Item = String>, index: u64) {
    for name in followers {
        match awaited.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, _, changed_at)) => *changed_at = index,
            None => awaited.push((name, Goal::Spec, index)),
        }
    }
}

/// Gives a config its data and labels; the services that follow it, if its data is new, and the index of the change.
async fn revise_config<M: Manager>(
    present: &ConfigView,
    WantedConfig { spec, data }: WantedConfig,
    session: &mut Session<'_, M>,
) -> Result<(Vec<String>, u64), Failure> {
    let (name, is_new) = (spec.name().to_owned(), present.data.as_ref() != Some(&data));
    let update = UpdateConfig {
        config: session.reference(present.id, &name),
        spec: Some(spec).filter(|spec| *spec != present.spec),
        data: Some(data).filter(|_| is_new),
        version: Some(present.meta.version),
    };
    let reply = session.execute(Command::UpdateConfig(update)).await?;
    told(session, "updated", "config", &name)?;
    if session.is_trial() || !is_new {
        return Ok((Vec::new(), reply.index));
    }
    let now = session.manager.configs(vec![present.id.to_string()]).await?.pop();
    Ok((now.map_or_else(Vec::new, |now| now.services), reply.index))
}

/// Gives a secret its data and labels; the services that follow it, if that was a change, and the index of it.
async fn revise_secret<M: Manager>(
    present: &SecretView,
    WantedSecret { spec, mut data }: WantedSecret,
    session: &mut Session<'_, M>,
) -> Result<(Vec<String>, u64), Failure> {
    let name = spec.name().to_owned();
    let update = UpdateSecret {
        secret: session.reference(present.id, &name),
        spec: Some(spec).filter(|spec| *spec != present.spec),
        data: Some(std::mem::take(&mut data.0)),
        version: Some(present.meta.version),
        if_changed: true,
    };
    let reply = session.execute(Command::UpdateSecret(update)).await?;
    if session.is_trial() {
        return Ok((Vec::new(), reply.index));
    }
    let found = session.manager.secrets(vec![present.id.to_string()]).await?;
    let newest = |view: &SecretView| view.revisions.last().map(|revision| revision.revision);
    let Some(now) = found.into_iter().find(|now| now.meta.version != present.meta.version) else {
        told(session, UNCHANGED, "secret", &name)?;
        return Ok((Vec::new(), reply.index));
    };
    told(session, "updated", "secret", &name)?;
    Ok((if newest(&now) == newest(present) { Vec::new() } else { now.services }, reply.index))
}

/// Makes one change; what has to be waited for, if anything.
async fn make<M: Manager>(
    step: Step,
    registry_auth: Option<&SecretText>,
    session: &mut Session<'_, M>,
) -> Result<Option<(String, Goal, u64)>, Failure> {
    let auth = registry_auth.map(|auth| auth.0.clone());
    match step {
        Step::CreateConfig(config) => {
            let name = config.spec.name().to_owned();
            let create = CreateConfig { spec: config.spec, data: config.data };
            session.execute(Command::CreateConfig(create)).await?;
            told(session, "created", "config", &name)?;
            Ok(None)
        }
        Step::CreateSecret(WantedSecret { spec, mut data }) => {
            let name = spec.name().to_owned();
            let create = CreateSecret { spec, data: std::mem::take(&mut data.0) };
            session.execute(Command::CreateSecret(create)).await?;
            told(session, "created", "secret", &name)?;
            Ok(None)
        }
        Step::CreateService(mut spec) => {
            resolve_files(&mut spec, session).await?;
            pin_image(&mut spec, None, registry_auth, session).await?;
            let name = spec.name().to_owned();
            let create = CreateService { spec, registry_auth: auth, env_secrets: Vec::new() };
            let reply = session.execute(Command::CreateService(create)).await?;
            told(session, "created", "service", &name)?;
            Ok(Some((name, Goal::New, reply.index)))
        }
        Step::UpdateService(present, mut spec) => {
            resolve_files(&mut spec, session).await?;
            if spec.template().container().image != present.spec.template().container().image {
                pin_image(&mut spec, Some(&*present), registry_auth, session).await?;
            }
            let (name, goal) = (spec.name().to_owned(), super::goal(&present.spec, &spec));
            let update = UpdateService {
                service: session.reference(present.id, &name),
                // The version that was read: nobody's change in between is lost.
                version: Some(present.meta.version),
                spec,
                registry_auth: auth,
                env_secrets: Vec::new(),
            };
            let reply = session.execute(Command::UpdateService(update)).await?;
            told(session, "updated", "service", &name)?;
            Ok(Some((name, goal, reply.index)))
        }
        Step::KeepService(name) => told(session, UNCHANGED, "service", &name).map(|()| None),
        Step::KeepConfig(name) => told(session, UNCHANGED, "config", &name).map(|()| None),
        Step::RemoveService(name) => {
            session.execute(Command::RemoveService(RemoveService { service: name.clone() })).await?;
            told(session, "removed", "service", &name).map(|()| None)
        }
        // Those come after everything else.
        Step::RemoveFile(..) | Step::UpdateConfig(..) | Step::UpdateSecret(..) => Ok(None),
    }
}

/// Tells what was done to an object.
///
/// # Errors
/// When the output cannot be written.
pub fn told<M: Manager>(session: &mut Session<'_, M>, action: &str, kind: &str, name: &str) -> Result<(), Failure> {
    if session.is_trial() && action != UNCHANGED {
        return Ok(());
    }
    match session.globals.format {
        Format::Json => session.json(&Done { action, kind, name }),
        Format::Table => session.line(&format!("{action} {kind} {name}")),
    }
}
