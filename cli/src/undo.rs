//! Undo and revert: a plan is shown, confirmed and executed.

use std::io::BufRead;

use wire::v1::command_request::Command;
use wire::v1::{Difference, ObjectSide, UndoConflict, UndoPlan, UndoProblem, UndoStep};

use crate::failure::{Failure, Kind};
use crate::format::difference::Row;
use crate::format::{Format, changes};
use crate::manager::Manager;
use crate::session::Session;

/// Maximum number of listed conflicts.
const CONFLICTS_SHOWN: usize = 50;

/// Confirmation of a change.
#[derive(Debug, Clone, clap::Args)]
pub struct Consent {
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

/// Shows a plan and executes it after confirmation, unless it has unresolved conflicts.
///
/// # Errors
/// When later commands conflict with it, there is nothing to undo, the user declines, or a command is refused.
pub async fn run<M: Manager>(
    plan: UndoPlan,
    is_decided: bool,
    consent: &Consent,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    show(&plan, session)?;
    if !plan.conflicts.is_empty() && !is_decided {
        let failure = Failure::new(Kind::Conflict, "later commands set the same fields; nothing was changed");
        return Err(failure.hint(
            "--ours restores the former values, --theirs keeps the later ones; `swarmctl blame` shows who set them",
        ));
    }
    if plan.steps.is_empty() {
        let failure = Failure::new(Kind::Conflict, "there is nothing to undo; nothing was changed");
        return Err(failure.hint("`swarmctl history diff INDEX` shows what changed since"));
    }
    if !session.is_trial() {
        agree(consent, session)?;
    }
    session.undoes = Some(plan.undoes);
    let steps: Vec<(String, Command)> =
        plan.steps.into_iter().filter_map(|step| Some((step.name, step.command.command?))).collect();
    let (files, others) = in_parts(steps);
    together(others, session).await?;
    together(files, session).await.map_err(|failure| match failure.kind {
        Kind::Conflict => {
            let sentence = format!("{}; everything else was undone", failure.sentence);
            Failure { sentence, ..failure }
                .hint("`swarmctl config rm` and `secret rm` remove what is left once those tasks have stopped")
        }
        _ => failure,
    })
}

/// Executes commands atomically and prints their objects.
async fn together<M: Manager>(steps: Vec<(String, Command)>, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let (names, commands): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    let replies = session.execute_together(commands).await?;
    replies.iter().zip(names).try_for_each(|(reply, name)| session.print_object(reply, &name))
}

type Steps = Vec<(String, Command)>;

/// Separates the removal of configs and secrets if services change: their tasks use them until they have stopped.
fn in_parts(steps: Steps) -> (Steps, Steps) {
    let of_service =
        |(_, command): &(String, Command)| matches!(command, Command::RemoveService(_) | Command::UpdateService(_));
    let of_file =
        |(_, command): &(String, Command)| matches!(command, Command::RemoveConfig(_) | Command::RemoveSecret(_));
    let apart = steps.iter().any(of_service);
    steps.into_iter().partition(|step| apart && of_file(step))
}

fn show<M: Manager>(plan: &UndoPlan, session: &mut Session<'_, M>) -> Result<(), Failure> {
    if session.globals.format == Format::Json {
        return session.json(plan);
    }
    let (ids, width) = (session.globals.no_resolve, session.env.width);
    let mut text = String::new();
    for step in &plan.steps {
        text.push_str(&words(step).text(ids, width));
    }
    for conflict in plan.conflicts.iter().take(CONFLICTS_SHOWN) {
        text.push_str(&format!("conflict: {}\n", against(conflict)));
    }
    if let Some(more) = plan.conflicts.len().checked_sub(CONFLICTS_SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!("and {more} more conflicts\n"));
    }
    for UndoProblem { subject, sentence, impossible } in &plan.problems {
        let what = if *impossible { "cannot be undone" } else { "note" };
        text.push_str(&format!("{what}: {subject}: {sentence}\n"));
    }
    session.text(&text)
}

/// The change of a step, in the words of a comparison.
fn words(step: &UndoStep) -> Row {
    let after = step.command.command.as_ref().and_then(|command| after(command, step.before.as_ref()));
    Row::of(Difference {
        noun: step.noun,
        name: step.name.clone(),
        id: None,
        before: step.before.clone(),
        after,
        end: None,
    })
}

/// The object after a command of the plan; `None` if it is removed.
fn after(command: &Command, before: Option<&ObjectSide>) -> Option<ObjectSide> {
    let side = before.cloned().unwrap_or_default();
    let next = |revision: Option<u64>| revision.map(|revision| revision + 1).or(Some(1));
    Some(match command {
        Command::CreateService(of) => ObjectSide { service: Some((*of.spec).clone()), ..side },
        Command::UpdateService(of) => ObjectSide { service: Some((*of.spec).clone()), ..side },
        Command::CreateConfig(of) => ObjectSide { config: Some(of.spec.clone()), revision: Some(1), ..side },
        Command::UpdateConfig(of) => ObjectSide {
            config: of.spec.clone().or(side.config),
            revision: if of.data.is_some() { next(side.revision) } else { side.revision },
            ..side
        },
        Command::UpdateSecret(of) => ObjectSide { secret: of.spec.clone().or(side.secret), ..side },
        Command::UpdateNode(of) => ObjectSide { node: Some(of.spec.clone()), ..side },
        Command::UpdateCluster(of) => ObjectSide { cluster: Some(of.spec.clone()), ..side },
        Command::PauseUpdate(_) | Command::ResumeUpdate(_) => side,
        Command::RemoveService(_)
        | Command::RemoveConfig(_)
        | Command::RemoveSecret(_)
        | Command::RevokeOperator(_)
        | Command::UntagHistory(_)
        | Command::RemoveNode(_)
        | Command::RemoveTask(_) => return None,
        Command::RotateJoinToken(_)
        | Command::RotateRoot(_)
        | Command::RotateUnlockKey(_)
        | Command::TagHistory(_)
        | Command::RedactHistory(_)
        | Command::ScaleService(_)
        | Command::RollbackService(_)
        | Command::CreateSecret(_)
        | Command::CreateSink(_)
        | Command::RemoveSink(_)
        | Command::PauseSink(_)
        | Command::ResumeSink(_) => side,
    })
}

fn against(of: &UndoConflict) -> String {
    let value = |json: &str| {
        let value = serde_json::from_str(json).unwrap_or_default();
        if value == serde_json::Value::Null { "absent".to_owned() } else { changes::show(&value) }
    };
    if of.path.is_empty() {
        let now = if of.present == "null" { "does not exist now" } else { "was changed since" };
        return format!("{} {now}", of.object);
    }
    let field = changes::name(&of.path);
    let (set, present, former) = (value(&of.set), value(&of.present), value(&of.former));
    format!("{}: {field} was {former}, the command set {set}, and it is {present} now", of.object)
}

/// Asks for confirmation.
fn agree<M: Manager>(consent: &Consent, session: &mut Session<'_, M>) -> Result<(), Failure> {
    if consent.yes {
        return Ok(());
    }
    if !session.env.interactive {
        let failure = Failure::new(Kind::Usage, "this is a preview: nothing was changed");
        return Err(failure.hint("add --yes to do it"));
    }
    write!(session.env.err, "Do this? [y/N] ")?;
    session.env.err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(Failure::new(Kind::Interrupted, "nothing was changed"))
}
