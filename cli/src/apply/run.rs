//! Doing what a plan says, and waiting for it.

use events::SecretText;
use serde::Serialize;
use wire::v1::command_request::Command;
use wire::v1::{CreateConfig, CreateService, RemoveConfig, RemoveService, UpdateService};

use super::plan::{Plan, Step};
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
    let mut awaited: Vec<(String, Goal, u64)> = Vec::new();
    let mut unused = Vec::new();
    for step in plan {
        match step {
            Step::RemoveConfig(id, name) => unused.push((id, name)),
            step => awaited.extend(make(step, registry_auth, session).await?),
        }
    }
    for (name, goal, index) in awaited {
        wait::for_service(session, wait, &name, goal, index).await?;
    }
    for (id, name) in unused {
        let remove = RemoveConfig { config: id.to_string() };
        match session.execute_at_rest(Command::RemoveConfig(remove)).await {
            Ok(_) => told(session, "removed", "config", &name)?,
            // A rollback may need it: the next time it is tried again.
            Err(failure) if failure.kind == Kind::Conflict => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
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
        Step::CreateService(mut spec) => {
            resolve_files(&mut spec, session).await?;
            pin_image(&mut spec, None, registry_auth, session).await?;
            let name = spec.name().to_owned();
            let create = CreateService { spec: *spec, registry_auth: auth, env_secrets: Vec::new() };
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
                service: present.id.to_string(),
                // The version that was read: nobody's change in between is lost.
                version: Some(present.meta.version),
                spec: *spec,
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
        // Those are tried after everything else.
        Step::RemoveConfig(..) => Ok(None),
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
