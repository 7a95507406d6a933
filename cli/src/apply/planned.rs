//! Carrying out a plan that was written to a file: exactly the changes in it, as long as what it read is as it was.

use std::time::Duration;

use tokio_stream::StreamExt;
use wire::v1::command_request::Command;
use wire::v1::preview_step::Step;
use wire::v1::{CommandReply, CommandRequest, EventRecord, EventsRequest, Plan, ReadObject};

use crate::failure::{Failure, Kind};
use crate::format::{RecordNames, story};
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::{self, Goal, WaitFlags};

/// How long a change that has to come last is tried again: configs are in use until the tasks that use them have stopped.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two attempts.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Makes the changes of a plan and waits until the services are as they should be. Each change has one effect, however often it is asked
/// for: a plan that was cut short goes on, and what is new in it is printed.
///
/// # Errors
/// When it is a plan for another cluster, it was carried out already, something that it read has changed, or a change is refused.
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
        // What comes last was done as well if it is answered at once: there is nothing to wait for then.
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

/// What of a plan is done.
struct Done {
    /// Where history ended before the first change was asked for.
    before: u64,
    /// Where the last of the changes that were answered is.
    newest: Option<u64>,
}

impl Done {
    /// Whether all that was answered so far had been done before.
    fn is_repeated(&self) -> bool {
        self.newest.is_none_or(|newest| newest <= self.before)
    }

    /// Notes an answer, and prints what it is about unless it is the answer to what was asked before.
    fn note<M: Manager>(&mut self, reply: &CommandReply, session: &mut Session<'_, M>) -> Result<(), Failure> {
        self.newest = self.newest.max(Some(reply.index));
        if reply.index <= self.before { Ok(()) } else { session.tell(reply, "") }
    }
}

/// Those of the last changes that are left to do, of which some cannot be done yet.
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
    let began = session.around.clock.now();
    loop {
        let asked = session.manager.execute(request.clone()).await;
        let is_in_time = session.around.clock.now().since(began) < PATIENCE;
        match asked {
            Ok(reply) => return Ok(reply),
            Err(failure) if failure.kind == Kind::Conflict && is_in_time => {
                session.around.clock.sleep(RETRY_EVERY).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// The refusal, with the command that changed what the plan read.
async fn explain<M: Manager>(failure: Failure, read: &[ReadObject], session: &mut Session<'_, M>) -> Failure {
    for object in read {
        // If history cannot be read either, the refusal itself says which object it is.
        let Ok(Some(record)) = change_of(object, session).await else { continue };
        let Some(command) = &record.command else { continue };
        let by = story::by(&record.event, &record, RecordNames::with(&record));
        let reason = command.reason.as_ref().map(|reason| format!(" (reason: {reason})")).unwrap_or_default();
        let sentence = format!(
            "{} {} has changed since the plan was made: {} by {by} at index {}{reason}",
            object.kind, object.name, command.kind, record.index
        );
        return Failure { kind: Kind::Conflict, sentence, hint: "make the plan again".to_owned(), ..failure };
    }
    failure
}

/// The first event that changed what is asked of an object since a plan was made.
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

/// The service that a command is about, and what is waited for.
fn goal(request: &CommandRequest) -> Option<(String, Goal)> {
    match request.command.as_ref()? {
        Command::CreateService(create) => Some((create.spec.name().to_owned(), Goal::New)),
        Command::UpdateService(update) => Some((update.service.clone(), Goal::Spec)),
        Command::RollbackService(rollback) => Some((rollback.service.clone(), Goal::Spec)),
        Command::ScaleService(scale) => Some((scale.service.clone(), Goal::Count)),
        _ => None,
    }
}
