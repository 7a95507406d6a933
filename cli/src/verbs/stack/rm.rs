//! `swarmctl stack rm`.

use std::time::Duration;

use tokio_stream::StreamExt;
use wire::v1::command_request::Command;
use wire::v1::{EventsRequest, RemoveService};

use crate::apply::{self, OwnedFile};
use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::duration;

/// Default time to wait for tasks that use configs and secrets: twice as long as most tasks take to stop.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
/// Minimum delay between two attempts to remove them: tasks stop within seconds.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Remove stacks: their services with all tasks, and then their configs and secrets
///
/// A config or secret cannot be removed while a task uses it, so this waits until the tasks have stopped.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of the stacks
    #[arg(required = true, value_name = "STACK")]
    stacks: Vec<String>,

    /// Maximum time to wait for tasks that use them
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
}

/// The objects of a stack.
struct Stack {
    services: Vec<String>,
    files: Vec<OwnedFile>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let (configs, secrets) = (session.configs(Vec::new()).await?, session.secrets(Vec::new()).await?);
    let mut stacks = Vec::new();
    for stack in &args.stacks {
        let services = apply::in_stack(stack, session).await?.into_iter().map(|service| service.name).collect();
        stacks.push((stack, Stack { services, files: apply::files_of_stack(stack, &configs, &secrets) }));
    }
    if let Some((stack, _)) = stacks.iter().find(|(_, stack)| stack.services.is_empty() && stack.files.is_empty()) {
        let failure = Failure::new(Kind::NotFound, format!("there is no stack \"{stack}\"; nothing was changed"));
        return Err(failure.hint("`swarmctl stack ls` lists what there is"));
    }
    let mut removed_at = 0;
    for (_, stack) in &stacks {
        for service in &stack.services {
            let remove = RemoveService { service: service.clone() };
            removed_at = session.execute(Command::RemoveService(remove)).await?.index;
            apply::report(session, "removed", "service", service)?;
        }
    }
    let mut left: Vec<OwnedFile> = stacks.into_iter().flat_map(|(_, stack)| stack.files).collect();
    let Some(in_use) = remove_unused(&mut left, session).await? else { return Ok(()) };
    let time_limit = session.env.clock.sleep(args.timeout.unwrap_or(DEFAULT_TIMEOUT));
    let mut interrupt = std::mem::replace(&mut session.env.interrupt, Box::pin(std::future::pending()));
    let result = tokio::select! {
        // In this order, so that a simulation is deterministic.
        biased;
        removed = remove_as_tasks_stop(&mut left, removed_at, session) => removed,
        () = time_limit => Err(in_use),
        () = &mut interrupt => Err(Failure::new(Kind::Interrupted, "stopped waiting for tasks that use configs or secrets of the stack")
            .hint("its services are removed; `swarmctl stack rm` removes its configs and secrets")),
    };
    session.env.interrupt = interrupt;
    result
}

/// Retries after each event of the history, but not too often, until all are removed.
async fn remove_as_tasks_stop<M: Manager>(
    left: &mut Vec<OwnedFile>,
    since: u64,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let request = EventsRequest { from: Some(since), follow: true, ..Default::default() };
    let mut history = session.manager.events(request).await?;
    loop {
        history.next().await.unwrap_or_else(|| Err(Failure::stopped()))?;
        let mut pause = session.env.clock.sleep(RETRY_EVERY);
        loop {
            tokio::select! {
                biased;
                () = &mut pause => break,
                event = history.next() => event.unwrap_or_else(|| Err(Failure::stopped()))?,
            };
        }
        if remove_unused(left, session).await?.is_none() {
            return Ok(());
        }
    }
}

/// Removes unused ones; returns why the last of the others is still in use.
async fn remove_unused<M: Manager>(
    left: &mut Vec<OwnedFile>,
    session: &mut Session<'_, M>,
) -> Result<Option<Failure>, Failure> {
    let mut in_use = None;
    for file in std::mem::take(left) {
        match session.execute_at_rest(file.id.removal()).await {
            Ok(_) => apply::report(session, "removed", file.id.noun(), &file.name)?,
            Err(failure) if failure.kind == Kind::Conflict => {
                in_use = Some(failure);
                left.push(file);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(in_use)
}
