//! Trials: the changes of a command are collected instead of made, and the manager tries them all on a copy of its state.

use std::path::{Path, PathBuf};

use wire::plan;
use wire::v1::command_request::Command;
use wire::v1::preview_step::Step;
use wire::v1::{CommandRequest, Plan, PreviewReply, PreviewRequest, PreviewStep};

use crate::failure::{Failure, Kind};
use crate::format::{Format, preview};
use crate::manager::Manager;
use crate::script;
use crate::session::Session;
use crate::values::at::At;

/// The exit code if something would change, or tasks would be left without a node.
const CHANGES: u8 = 2;

/// How to run a command.
#[derive(Debug, Clone, Default)]
pub enum Purpose {
    /// Execute it.
    #[default]
    Do,
    /// Show what it would do.
    DryRun,
    /// Show it, and write it to a plan file.
    Plan(PathBuf),
    /// Show what it would lead to, now or at a point of the past.
    WhatIf(At),
}

impl Purpose {
    /// Whether nothing is changed.
    pub fn is_trial(&self) -> bool {
        match self {
            Self::Do => false,
            Self::DryRun | Self::Plan(_) | Self::WhatIf(_) => true,
        }
    }
}

/// Previews the collected changes, if the command is only tried, and returns the exit code.
///
/// # Errors
/// When a change would be refused, or the manager cannot be reached.
pub async fn conclude<M: Manager>(purpose: &Purpose, session: &mut Session<'_, M>) -> Result<u8, Failure> {
    let Some(steps) = session.trial.take().filter(|steps| !steps.is_empty()) else {
        not_planned(purpose, session)?;
        return Ok(if session.leaves_tasks_over { CHANGES } else { 0 });
    };
    let what_if = matches!(purpose, Purpose::WhatIf(_));
    let reply = session.manager.preview(PreviewRequest { steps: steps.clone(), what_if }).await?;
    let text = preview::text(&reply, session.view())?;
    let changes = reply.steps.iter().any(|step| step.changes);
    match session.globals.format {
        Format::Json => session.json(&reply)?,
        Format::Table => {
            session.text(&text)?;
            if let (Purpose::WhatIf(_), true) = (purpose, changes) {
                session.text(&preview::fullest(&reply, session.view()))?;
            }
        }
    }
    if let Some(refusal) = reply.refusal {
        let failure = session.sources.place(refusal.into());
        return Err(script::refused(failure, reply.steps.len(), &session.lines));
    }
    let is_told = match purpose {
        Purpose::WhatIf(_) => !reply.unplaced.is_empty(),
        Purpose::Plan(file) => {
            match changes {
                true => write(file, &text, steps, &reply, session).await?,
                false => not_planned(purpose, session)?,
            }
            changes
        }
        Purpose::Do | Purpose::DryRun => changes,
    };
    Ok(if is_told { CHANGES } else { 0 })
}

/// Removes the version of an object that an earlier line of the script changes: it is a version in the copy.
pub fn without_versions_of_a_copy(mut request: CommandRequest) -> CommandRequest {
    let version = match &mut request.command {
        Some(Command::UpdateCluster(update)) => &mut update.version,
        Some(Command::UpdateNode(update)) => &mut update.version,
        Some(Command::UpdateService(update)) => &mut update.version,
        Some(Command::UpdateConfig(update)) => &mut update.version,
        Some(Command::UpdateSecret(update)) => &mut update.version,
        _ => return request,
    };
    *version = version.filter(|version| *version != 0);
    request
}

/// Reports that a plan was requested but there is nothing to do.
fn not_planned<M: Manager>(purpose: &Purpose, session: &mut Session<'_, M>) -> Result<(), Failure> {
    match purpose {
        Purpose::Plan(file) => session.note(&format!("no changes: {} is not written", file.display())),
        Purpose::Do | Purpose::DryRun | Purpose::WhatIf(_) => Ok(()),
    }
}

/// Writes a plan: the steps that change something, each with the objects that must be unchanged.
async fn write<M: Manager>(
    file: &Path,
    about: &str,
    steps: Vec<PreviewStep>,
    reply: &PreviewReply,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let cluster = session.manager.cluster(false).await?;
    let changing = steps.into_iter().zip(&reply.steps).filter(|(_, tried)| tried.changes);
    let mut planned = Vec::new();
    for (mut step, tried) in changing {
        let Some(Step::Command(request)) = &mut step.step else { continue };
        if let Some((what, hint)) = secret_part(request) {
            let sentence = format!("a plan is readable text, and this one would contain {what}");
            return Err(Failure::new(Kind::Usage, sentence).hint(format!("{hint}; --dry-run shows what would change")));
        }
        // Before the first step nothing has changed.
        request.unchanged = if planned.is_empty() { reply.read.clone() } else { tried.read.clone() };
        planned.push(step);
    }
    let plan = Plan { cluster: cluster.id, index: reply.index, log_time: reply.log_time, steps: planned };
    let made = format!("Plan for cluster {}, made at index {}, {}", cluster.name, reply.index, reply.log_time);
    std::fs::write(file, plan::write(&format!("{made}\n\n{about}"), &plan)).map_err(|error| {
        let failure = Failure::new(Kind::Other, format!("cannot write {}: {error}", file.display()));
        failure.hint("name a file that you may write with -o")
    })?;
    session.note(&format!("`swarmctl apply {}` does this", file.display()))
}

/// The secret part of a change, in words, and what to do instead of planning it.
fn secret_part(request: &CommandRequest) -> Option<(String, String)> {
    let data = |name: &str| {
        let first = format!("`swarmctl secret create {name} FILE`, and as external: true in a Compose file");
        (format!("the data of secret {name}"), format!("give it to the cluster first: {first}"))
    };
    let of_service = |name: &str, has_credentials: bool, has_variables: bool| {
        let what = match (has_credentials, has_variables) {
            (true, _) => "the registry credentials",
            (false, true) => "the values of secret variables",
            (false, false) => return None,
        };
        let hint = "run the command without a plan".to_owned();
        Some((format!("{what} of service {name}"), hint))
    };
    match &request.command {
        Some(Command::CreateService(create)) => {
            of_service(create.spec.name(), create.registry_auth.is_some(), !create.env_secrets.is_empty())
        }
        Some(Command::UpdateService(update)) => {
            of_service(update.spec.name(), update.registry_auth.is_some(), !update.env_secrets.is_empty())
        }
        Some(Command::CreateSecret(create)) => Some(data(create.spec.name())),
        Some(Command::UpdateSecret(update)) => update.data.as_ref().map(|_| data(&update.secret)),
        Some(Command::CreateSink(create)) => create
            .key
            .as_ref()
            .map(|_| (format!("the key of sink {}", create.spec.name), "run the command without a plan".to_owned())),
        Some(
            Command::UpdateCluster(_)
            | Command::RotateJoinToken(_)
            | Command::RotateRoot(_)
            | Command::RotateUnlockKey(_)
            | Command::UpdateNode(_)
            | Command::RemoveNode(_)
            | Command::ScaleService(_)
            | Command::RemoveService(_)
            | Command::RollbackService(_)
            | Command::PauseUpdate(_)
            | Command::ResumeUpdate(_)
            | Command::RemoveTask(_)
            | Command::CreateConfig(_)
            | Command::RemoveConfig(_)
            | Command::UpdateConfig(_)
            | Command::RemoveSecret(_)
            | Command::RevokeOperator(_)
            | Command::TagHistory(_)
            | Command::UntagHistory(_)
            | Command::RedactHistory(_)
            | Command::RemoveSink(_)
            | Command::PauseSink(_)
            | Command::ResumeSink(_),
        )
        | None => None,
    }
}
