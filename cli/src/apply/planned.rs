//! Applies a plan file: exactly the changes in it, provided that what the plan read has not changed since.

use std::time::Duration;

use tokio_stream::StreamExt;
use wire::v1::command_request::Command;
use wire::v1::preview_step::Step;
use wire::v1::{CommandReply, CommandRequest, EventRecord, EventsRequest, Plan, ReadObject};

use crate::failure::{Failure, Kind};
use crate::format::{RecordNames, event_lines};
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::{self, Goal, WaitFlags};

/// How long a change that must come last is retried: a config is in use until the tasks that use it have stopped.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// Delay between two attempts.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Makes the changes of a plan and waits until the services have converged. Repeating a change has no further effect, so a plan
/// that was interrupted can be continued; only new changes are printed.
///
/// # Errors
/// When the plan is for another cluster, was applied already, something that it read has changed, or a change is refused.
pub async fn carry_out<M: Manager>(plan: Plan, wait: &WaitFlags, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let cluster = session.manager.cluster(false).await?;
    if cluster.id != plan.cluster {
        let failure = Failure::new(Kind::Usage, format!("this plan is for another cluster than {}", cluster.name));
        return Err(failure.hint("name a manager of that cluster with --socket or --host"));
    }
    if session.is_trial() {
        plan.steps.into_iter().for_each(|step| session.try_step(step));
        return Ok(());
    }
    let before = cluster.index;
    let (mut awaited, mut last, mut done) = (Vec::new(), Vec::new(), Done { before, newest: None });
    for step in plan.steps {
        let Some(Step::Command(request)) = step.step else { continue };
        if step.at_rest {
            last.push(request);
        } else {
            let goal = goal(&request);
            let reply = ask(request, session).await?;
            done.note(&reply, session)?;
            awaited.extend(goal.map(|(service, goal)| (service, goal, reply.index)));
        }
    }
    if done.is_repeated() {
        // If the last changes are accepted at once, there is nothing to wait for.
        last = not_done(last, &mut done, session).await?;
        if let Some(index) = done.newest.filter(|_| last.is_empty() && done.is_repeated()) {
            let failure = Failure::new(Kind::Conflict, format!("this plan was applied already, at index {index}"));
            return Err(failure.hint("make a new plan"));
        }
    }
    for (service, goal, index) in awaited {
        wait::for_service(session, wait, &service, goal, index).await?;
    }
    for request in last {
        let reply = ask_patiently(request, session).await?;
        done.note(&reply, session)?;
    }
    Ok(())
}

/// Progress of a plan.
struct Done {
    /// The last index of history before the first change.
    before: u64,
    /// Index of the newest change that was answered.
    newest: Option<u64>,
}

impl Done {
    /// Whether all changes so far had been made before.
    fn is_repeated(&self) -> bool {
        self.newest.is_none_or(|newest| newest <= self.before)
    }

    /// Records an answer, and prints its object unless the change had been made before.
    fn note<M: Manager>(&mut self, reply: &CommandReply, session: &mut Session<'_, M>) -> Result<(), Failure> {
        self.newest = self.newest.max(Some(reply.index));
        if reply.index <= self.before { Ok(()) } else { session.print_object(reply, "") }
    }
}

/// Tries the last changes; returns those that are not possible yet.
async fn not_done<M: Manager>(
    requests: Vec<CommandRequest>,
    done: &mut Done,
    session: &mut Session<'_, M>,
) -> Result<Vec<CommandRequest>, Failure> {
    let mut left = Vec::new();
    for request in requests {
        match session.manager.execute(request.clone()).await {
            Ok(reply) => done.note(&reply, session)?,
            Err(failure) if failure.kind == Kind::Conflict => left.push(request),
            Err(failure) => return Err(failure),
        }
    }
    Ok(left)
}

async fn ask<M: Manager>(request: CommandRequest, session: &mut Session<'_, M>) -> Result<CommandReply, Failure> {
    let read = request.unchanged.clone();
    match session.manager.execute(request).await {
        Err(failure) if matches!(failure.kind, Kind::Conflict | Kind::NotFound) => {
            Err(explain(failure, &read, session).await)
        }
        answer => answer,
    }
}

async fn ask_patiently<M: Manager>(
    request: CommandRequest,
    session: &mut Session<'_, M>,
) -> Result<CommandReply, Failure> {
    let began = session.env.clock.now();
    loop {
        let asked = session.manager.execute(request.clone()).await;
        let is_in_time = session.env.clock.now().since(began) < RETRY_TIMEOUT;
        match asked {
            Ok(reply) => return Ok(reply),
            Err(failure) if failure.kind == Kind::Conflict && is_in_time => {
                session.env.clock.sleep(RETRY_EVERY).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// The refusal, with the command that changed what the plan had read.
async fn explain<M: Manager>(failure: Failure, read: &[ReadObject], session: &mut Session<'_, M>) -> Failure {
    for object in read {
        // If history cannot be read either, the refusal itself names the object.
        let Ok(Some(record)) = change_of(object, session).await else { continue };
        let Some(command) = &record.command else { continue };
        let by = event_lines::by(&record.event, &record, RecordNames::with(&record));
        let reason = command.reason.as_ref().map(|reason| format!(" (reason: {reason})")).unwrap_or_default();
        let sentence = format!(
            "{} {} has changed since the plan was made: {} by {by} at index {}{reason}",
            object.kind, object.name, command.kind, record.index
        );
        return Failure { kind: Kind::Conflict, sentence, hint: "create the plan again".to_owned(), ..failure };
    }
    failure
}

/// The first event since the plan was made that changed the desired state of an object.
async fn change_of<M: Manager>(
    object: &ReadObject,
    session: &mut Session<'_, M>,
) -> Result<Option<EventRecord>, Failure> {
    let kinds: &[&str] = match object.kind.as_str() {
        "service" => &["service_spec_updated", "service_scaled", "service_removed"],
        "node" => &["node_spec_updated", "node_removed"],
        "config" => &["config_spec_updated", "config_revised", "config_removed"],
        "secret" => &["secret_spec_updated", "secret_revised", "secret_removed"],
        _ => &["cluster_spec_updated"],
    };
    let request = EventsRequest {
        from: Some(object.version + 1),
        object: (object.kind != "cluster").then(|| object.id.clone()),
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        limit: Some(1),
        ..EventsRequest::default()
    };
    session.manager.events(request).await?.next().await.transpose()
}

/// The service that a command is about, and what to wait for.
fn goal(request: &CommandRequest) -> Option<(String, Goal)> {
    match request.command.as_ref()? {
        Command::CreateService(create) => Some((create.spec.name().to_owned(), Goal::New)),
        Command::UpdateService(update) => Some((update.service.clone(), Goal::Spec)),
        Command::RollbackService(rollback) => Some((rollback.service.clone(), Goal::Spec)),
        Command::ScaleService(scale) => Some((scale.service.clone(), Goal::Count)),
        _ => None,
    }
}
