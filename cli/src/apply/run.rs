//! Executes a plan and waits for the result.

use std::collections::BTreeSet;
use std::mem::take;

use events::SecretText;
use events::frame::{BYTES_HARD_MAX, JOINED_LEVEL};
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
use crate::spec::pin_image;
use crate::wait::{self, Goal, WaitFlags};

/// Shown for an object without changes.
const UNCHANGED: &str = "unchanged";

/// Maximum number of changes in one request: the limit of a manager.
const TOGETHER_MAX: usize = 256;
/// Maximum size of these changes, in bytes: two thirds of the limit of a frame, which leaves room for the services that follow
/// new data.
const TOGETHER_BYTES_MAX: usize = BYTES_HARD_MAX / 3 * 2;

/// What was done to one object.
#[derive(Serialize)]
struct Done<'a> {
    action: &'a str,
    kind: &'a str,
    name: &'a str,
}

/// The change of one object.
struct Change {
    /// `None` if there is nothing to change.
    command: Option<Command>,
    action: &'static str,
    noun: &'static str,
    name: String,
    then: Then,
}

/// What to do after a change.
enum Then {
    Nothing,
    /// Wait for its service.
    Await(Goal),
    /// Wait for the services that follow the new data of a config.
    FollowConfig(Box<ConfigView>),
    /// The same for a secret; whether its data was new is visible only in its new state.
    FollowSecret(Box<SecretView>),
}

/// Services to wait for, each with the index of its last change.
type Awaited = Vec<(String, Goal, u64)>;

/// Makes all changes atomically, or in as few parts as possible, and then waits until the services have converged.
///
/// # Errors
/// When a change is refused, or a service does not converge.
pub async fn run<M: Manager>(
    plan: Plan,
    registry_auth: Option<&SecretText>,
    wait: &WaitFlags,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let services: BTreeSet<String> = plan.iter().filter_map(Step::service).map(str::to_owned).collect();
    let (mut changes, mut unused) = (Vec::new(), Vec::new());
    for step in plan {
        match step {
            // A config or secret that a rollback of a remaining service may need is not removed.
            Step::RemoveFile(file) if session.is_trial() && file.users.iter().any(|name| services.contains(name)) => {}
            Step::RemoveFile(file) => unused.push(file),
            step => {
                let change = change(step, registry_auth, session).await;
                changes.extend(change.map_err(|failure| refused(failure, 0, session))?);
            }
        }
    }
    for (name, goal, index) in make(changes, &services, session).await? {
        wait::for_service(session, wait, &name, goal, index).await?;
    }
    for OwnedFile { id, name, .. } in unused {
        match session.execute_at_rest(id.removal()).await {
            Ok(_) => report(session, "removed", id.noun(), &name)?,
            // A rollback may need it: the next deployment tries again.
            Err(failure) if failure.kind == Kind::Conflict => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// The change of a step; `None` for the removal of a file, which comes after everything else.
async fn change<M: Manager>(
    step: Step,
    registry_auth: Option<&SecretText>,
    session: &mut Session<'_, M>,
) -> Result<Option<Change>, Failure> {
    let auth = registry_auth.map(|auth| auth.0.clone());
    let name = step.name().to_owned();
    let (action, noun, command, then) = match step {
        Step::CreateConfig(WantedConfig { spec, data }) => {
            ("created", "config", Some(Command::CreateConfig(CreateConfig { spec, data })), Then::Nothing)
        }
        Step::CreateSecret(WantedSecret { spec, mut data }) => {
            let create = CreateSecret { spec, data: take(&mut data.0) };
            ("created", "secret", Some(Command::CreateSecret(create)), Then::Nothing)
        }
        Step::CreateService(mut spec) => {
            pin_image(&mut spec, None, registry_auth, session).await.map_err(|failure| of_service(failure, &name))?;
            let create = CreateService { spec, registry_auth: auth, env_secrets: Vec::new() };
            ("created", "service", Some(Command::CreateService(create)), Then::Await(Goal::New))
        }
        Step::UpdateService(present, mut spec) => {
            if spec.template().container().image != present.spec.template().container().image {
                let pinned = pin_image(&mut spec, Some(&*present), registry_auth, session).await;
                pinned.map_err(|failure| of_service(failure, &name))?;
            }
            let goal = super::goal(&present.spec, &spec);
            let update = UpdateService {
                service: session.reference(present.id, &name),
                // The version that was read: no concurrent change is lost.
                version: Some(present.meta.version),
                spec,
                registry_auth: auth,
                env_secrets: Vec::new(),
            };
            ("updated", "service", Some(Command::UpdateService(update)), Then::Await(goal))
        }
        Step::UpdateConfig(present, WantedConfig { spec, data }) => {
            let is_new = present.data.as_ref() != Some(&data);
            let update = UpdateConfig {
                config: session.reference(present.id, &name),
                spec: Some(spec).filter(|spec| *spec != present.spec),
                data: Some(data).filter(|_| is_new),
                version: Some(present.meta.version),
            };
            let then = if is_new { Then::FollowConfig(present) } else { Then::Nothing };
            ("updated", "config", Some(Command::UpdateConfig(update)), then)
        }
        Step::UpdateSecret(present, WantedSecret { spec, mut data }) => {
            let update = UpdateSecret {
                secret: session.reference(present.id, &name),
                spec: Some(spec).filter(|spec| *spec != present.spec),
                data: Some(take(&mut data.0)),
                version: Some(present.meta.version),
                if_changed: true,
            };
            ("updated", "secret", Some(Command::UpdateSecret(update)), Then::FollowSecret(present))
        }
        Step::KeepService(_) => (UNCHANGED, "service", None, Then::Nothing),
        Step::KeepConfig(_) => (UNCHANGED, "config", None, Then::Nothing),
        Step::RemoveService(_) => {
            let remove = RemoveService { service: name.clone() };
            ("removed", "service", Some(Command::RemoveService(remove)), Then::Nothing)
        }
        Step::RemoveFile(_) => return Ok(None),
    };
    Ok(Some(Change { command, action, noun, name, then }))
}

/// Adds the service to a failure about its image.
fn of_service(failure: Failure, name: &str) -> Failure {
    Failure { subject: Some(format!("service {name}")), ..failure }
}

/// Makes the changes, each part atomically; returns what to wait for.
async fn make<M: Manager>(
    changes: Vec<Change>,
    services: &BTreeSet<String>,
    session: &mut Session<'_, M>,
) -> Result<Awaited, Failure> {
    let (most, why) = together(session).await?;
    let (parts, mut awaited) = (in_parts(changes, most), Vec::new());
    let count = parts.len();
    if count > 1 && !session.is_trial() {
        session.note(&format!(
            "{why}, so the changes are made in {count} parts: if one is refused, those before it stay"
        ))?;
    }
    for (before, mut part) in parts.into_iter().enumerate() {
        let commands = part.iter_mut().filter_map(|change| change.command.take()).collect();
        let replies = session.execute_together(commands).await.map_err(|failure| refused(failure, before, session))?;
        // All changes of one frame have the same index.
        let index = replies.first().map_or(0, |reply| reply.index);
        for change in part {
            conclude(change, index, services, &mut awaited, session).await?;
        }
    }
    Ok(awaited)
}

/// Maximum number of changes in one request, and the reason for the limit.
async fn together<M: Manager>(session: &mut Session<'_, M>) -> Result<(usize, &'static str), Failure> {
    if session.manager.cluster(false).await?.feature_level < JOINED_LEVEL {
        return Ok((1, "not every manager supports changes that are made together"));
    }
    Ok((TOGETHER_MAX, "the changes do not fit into one frame"))
}

/// Splits changes into parts of at most so many that fit into a frame.
fn in_parts(changes: Vec<Change>, most: usize) -> Vec<Vec<Change>> {
    let (mut parts, mut part) = (Vec::new(), Vec::new());
    let (mut commands, mut bytes) = (0, 0);
    for change in changes {
        if let Some(size) = change.command.as_ref().map(Command::encoded_len) {
            if commands > 0 && (commands == most || bytes + size > TOGETHER_BYTES_MAX) {
                parts.push(take(&mut part));
                (commands, bytes) = (0, 0);
            }
            (commands, bytes) = (commands + 1, bytes + size);
        }
        part.push(change);
    }
    parts.push(part);
    parts
}

/// A refusal with the location of its object in a file, and what was changed already.
fn refused<M>(failure: Failure, parts_before: usize, session: &Session<'_, M>) -> Failure {
    let is_refusal = matches!(failure.kind, Kind::Usage | Kind::NotFound | Kind::Exists | Kind::Conflict);
    let stays = match parts_before {
        _ if !is_refusal => "",
        0 => "; nothing was changed",
        _ => "; what was done before stays",
    };
    let failure = session.sources.place(failure);
    Failure { sentence: format!("{}{stays}", failure.sentence), ..failure }
}

/// Reports what was done to an object, and adds what to wait for.
async fn conclude<M: Manager>(
    Change { action, noun, name, then, .. }: Change,
    index: u64,
    services: &BTreeSet<String>,
    awaited: &mut Awaited,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let is_trial = session.is_trial();
    let followers = match then {
        Then::FollowSecret(_) | Then::FollowConfig(_) if is_trial => Vec::new(),
        Then::FollowSecret(present) => return conclude_secret(&present, index, services, awaited, session).await,
        Then::FollowConfig(present) => {
            let now = session.manager.configs(vec![present.id.to_string()]).await?.pop();
            now.map_or_else(Vec::new, |now| now.services)
        }
        Then::Await(goal) => {
            awaited.push((name.clone(), goal, index));
            Vec::new()
        }
        Then::Nothing => Vec::new(),
    };
    follow(awaited, followers.into_iter().filter(|name| services.contains(name)), index);
    report(session, action, noun, &name)
}

/// The same for a secret; only the manager knows whether its data differed.
async fn conclude_secret<M: Manager>(
    present: &SecretView,
    index: u64,
    services: &BTreeSet<String>,
    awaited: &mut Awaited,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let (name, found) = (present.spec.name(), session.manager.secrets(vec![present.id.to_string()]).await?);
    let newest = |view: &SecretView| view.revisions.last().map(|revision| revision.revision);
    let Some(now) = found.into_iter().find(|now| now.meta.version != present.meta.version) else {
        return report(session, UNCHANGED, "secret", name);
    };
    if newest(&now) != newest(present) {
        follow(awaited, now.services.into_iter().filter(|name| services.contains(name)), index);
    }
    report(session, "updated", "secret", name)
}

/// Waits for services that follow a new revision, once each, for their last change.
fn follow(awaited: &mut Awaited, followers: impl Iterator<Item = String>, index: u64) {
    for name in followers {
        match awaited.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, _, changed_at)) => *changed_at = index,
            None => awaited.push((name, Goal::Spec, index)),
        }
    }
}

/// Reports what was done to an object.
///
/// # Errors
/// When the output cannot be written.
pub fn report<M: Manager>(session: &mut Session<'_, M>, action: &str, kind: &str, name: &str) -> Result<(), Failure> {
    if session.is_trial() && action != UNCHANGED {
        return Ok(());
    }
    match session.globals.format {
        Format::Json => session.json(&Done { action, kind, name }),
        Format::Table => session.line(&format!("{action} {kind} {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the parts for changes of these sizes; `None` for objects without a change.
    fn parts(sizes: &[Option<usize>], most: usize) -> Vec<usize> {
        let change = |bytes: &Option<usize>| Change {
            command: bytes
                .map(|bytes| Command::CreateConfig(CreateConfig { data: vec![0; bytes], ..CreateConfig::default() })),
            action: UNCHANGED,
            noun: "config",
            name: String::new(),
            then: Then::Nothing,
        };
        in_parts(sizes.iter().map(change).collect(), most).iter().map(Vec::len).collect()
    }

    #[test]
    fn changes_are_made_in_as_few_parts_as_they_fit_into() {
        let (small, half, large) = (Some(1), Some(TOGETHER_BYTES_MAX / 2 - 100), Some(TOGETHER_BYTES_MAX));
        for (sizes, expected) in [
            (&[][..], &[0][..]),
            (&[small, None, half, half, None], &[5]),
            (&[half, half, half], &[2, 1]),
            (&[small, large, small], &[1, 1, 1]),
            (&[large, None, large], &[2, 1]),
            (&[small; TOGETHER_MAX], &[TOGETHER_MAX]),
            (&[small; TOGETHER_MAX + 1], &[TOGETHER_MAX, 1]),
        ] {
            assert_eq!(parts(sizes, TOGETHER_MAX), expected);
        }
        assert_eq!(parts(&[None, small, small, None], 1), [2, 2]);
    }
}
