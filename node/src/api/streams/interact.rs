//! An interactive session of one client in a running task: relays input to the task's node, and output back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use commands::{Actor, Rejection, RejectionKind};
use events::{ActorRecord, TaskId};
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wire::v1::from_task::Message;
use wire::v1::interact_request::Message as ClientMessage;
use wire::v1::interaction::What;
use wire::v1::stream_order::Order;
use wire::v1::task_input::Input;
use wire::v1::task_output::Output;
use wire::v1::to_task::Message as ToMessage;
use wire::v1::{InteractOrder, InteractRequest, Interaction, TaskInput, TaskOutput, ToTask, interact_order};

use super::inbound::{NodeStream, ToAgent};
use super::{Context, lock, order};
use crate::api::status;
use crate::streams::{INPUTS_MAX, MESSAGE_BYTES};

/// Maximum concurrent interactions of a manager. With their credit, this bounds their memory to 32 MiB.
const INTERACTIONS_MAX: usize = 64;
/// Maximum concurrent interactions of one caller.
const CALLER_MAX: usize = 16;
/// Bytes of output in flight.
const CREDIT: u64 = 512 << 10;
/// Outputs queued for a client's connection.
const WAITING_MAX: usize = 2;
/// Deadline for the client's first message.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Deadline for an engine to start the interaction.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// An interaction without data in either direction for this long is closed.
const IDLE_MAX: Duration = Duration::from_secs(4 * 3600);

/// The callers that interact with tasks through this manager.
#[derive(Debug, Default)]
pub(in crate::api) struct Interactions {
    by_caller: Mutex<BTreeMap<(i32, String), usize>>,
}

/// Counts an interaction of a caller until it is dropped.
struct Admitted {
    interactions: Arc<Interactions>,
    caller: (i32, String),
}

impl Interactions {
    fn admit(self: &Arc<Self>, actor: &Actor) -> Result<Admitted, Rejection> {
        let ActorRecord { kind, subject, .. } = actor.record(None);
        let caller = (kind, subject);
        let mut by_caller = lock(&self.by_caller);
        let own = by_caller.get(&caller).copied().unwrap_or_default();
        let who = if own >= CALLER_MAX {
            format!("{} has {own}", caller.1)
        } else if by_caller.values().sum::<usize>() >= INTERACTIONS_MAX {
            format!("others have {INTERACTIONS_MAX}")
        } else {
            by_caller.insert(caller.clone(), own + 1);
            return Ok(Admitted { interactions: Arc::clone(self), caller });
        };
        let sentence = format!("{who} interactions with tasks through this manager already");
        Err(Rejection::new(RejectionKind::Exhausted, "task", sentence, "end one of them, or ask another manager"))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut by_caller = lock(&self.interactions.by_caller);
        if let Some(count) = by_caller.get_mut(&self.caller) {
            *count -= 1;
        }
        by_caller.retain(|_, count| *count > 0);
    }
}

/// Starts the interaction that a client requests. Returns the output of the task.
pub(in crate::api) async fn stream(
    context: &Context,
    interactions: &Arc<Interactions>,
    actor: Actor,
    mut inputs: Streaming<InteractRequest>,
) -> Result<impl Stream<Item = Result<TaskOutput, Status>> + use<>, Status> {
    let wanted = wanted(&mut inputs).await?;
    let admitted = interactions.admit(&actor).map_err(status)?;
    context.catch_up_with_leader().await.map_err(status)?;
    let (task, noted) = context.control().access(actor, &wanted).map_err(status)?;
    // Recorded first, so that no request reaches a node without a trace in history.
    let reply = context.submit(noted).await.map_err(status)?;
    context.core.applied(reply.index).await.map_err(status)?;
    let node = begin(context, task, wanted).await?;
    let (outputs, receiver) = mpsc::channel(WAITING_MAX);
    let relay = Relay { context: context.clone(), task, to_node: node.sender(), node, outputs, room: INPUTS_MAX };
    tokio::spawn(async move {
        let stopping = relay.context.stopping.clone();
        // If this manager stops, the client notices by the end of the stream.
        let _ = stopping.run_until_cancelled(relay.run(inputs)).await;
        drop(admitted);
    });
    Ok(ReceiverStream::new(receiver))
}

/// The request in the client's first message.
async fn wanted(inputs: &mut Streaming<InteractRequest>) -> Result<Interaction, Status> {
    let first = timeout(CLIENT_TIMEOUT, inputs.message()).await;
    let first = first.map_err(|_| status(unclear("the client sent no request")))??;
    match first.and_then(|first| first.message) {
        Some(ClientMessage::Begin(wanted)) => Ok(wanted),
        Some(ClientMessage::Input(_)) | None => {
            Err(status(unclear("the first message of the client must be the request")))
        }
    }
}

fn unclear(sentence: &str) -> Rejection {
    Rejection::invalid("task", sentence, "use a swarmctl of the version of the managers")
}

/// Has the node of a task start the interaction. Returns its stream.
async fn begin(context: &Context, task: TaskId, wanted: Interaction) -> Result<NodeStream, Status> {
    let node = context.control().node_of_task(task).map_err(status)?;
    let unreachable = |why: &str| status(context.control().unreachable_task(task, why));
    let what = wanted.what.map(|what| match what {
        What::Exec(exec) => interact_order::What::Exec(exec),
        What::Attach(attach) => interact_order::What::Attach(attach),
        What::Copy(copy) => interact_order::What::Copy(copy),
    });
    let ordered = order(context, vec![(node, Order::Interact(InteractOrder { task, what }))], CREDIT).pop();
    // One order has exactly one result.
    let (_, opened) = ordered.ok_or_else(|| unreachable("it was not asked"))?.await;
    let mut stream = opened.map_err(|why| unreachable(&why))?;
    let first = timeout(BEGIN_TIMEOUT, stream.next())
        .await
        .map_err(|_| unreachable(&format!("its engine did not begin within {} s", BEGIN_TIMEOUT.as_secs())))?;
    match first {
        Some(Ok(first)) => match first.message {
            Some(Message::Begun(_)) => Ok(stream),
            Some(Message::Failure(failure)) => Err(status(context.control().refused_by_node(task, &failure.sentence))),
            Some(
                Message::Lines(_)
                | Message::Details(_)
                | Message::Usage(_)
                | Message::Output(_)
                | Message::UsedInputs(_),
            )
            | None => Err(unreachable("its agent sent an unexpected response")),
        },
        Some(Err(broken)) => Err(unreachable(broken.message())),
        None => Err(unreachable("its agent does not support this request, or was stopped")),
    }
}

/// An interaction in progress.
struct Relay {
    context: Context,
    task: TaskId,
    node: NodeStream,
    to_node: mpsc::Sender<ToAgent>,
    outputs: mpsc::Sender<Result<TaskOutput, Status>>,
    /// How many more inputs may be sent to the node.
    room: u32,
}

/// The interaction has ended.
struct InteractionEnded;

impl Relay {
    async fn run(mut self, mut inputs: Streaming<InteractRequest>) {
        let mut more_input = true;
        let mut idle = std::pin::pin!(tokio::time::sleep(IDLE_MAX));
        loop {
            let moved = tokio::select! {
                said = self.node.next() => self.take(said).await,
                input = inputs.message(), if self.room > 0 && more_input => match input {
                    Ok(Some(input)) => self.give(input).await,
                    // The client closed its input, and continues to read.
                    Ok(None) => {
                        more_input = false;
                        Ok(())
                    }
                    Err(_) => return,
                },
                () = self.outputs.closed() => return,
                () = &mut idle => {
                    let hours = IDLE_MAX.as_secs() / 3600;
                    let sentence = format!("nothing was sent either way for {hours} hours, which ends the interaction");
                    let hint = "start another one; `swarmctl task exec -d` runs a command by itself";
                    self.fail(Rejection::new(RejectionKind::Unavailable, "task", sentence, hint)).await
                }
            };
            match moved {
                Ok(()) => idle.as_mut().reset(Instant::now() + IDLE_MAX),
                Err(InteractionEnded) => return,
            }
        }
    }

    /// Processes a message of the node.
    async fn take(&mut self, said: Option<Result<wire::v1::FromTask, Status>>) -> Result<(), InteractionEnded> {
        let broken = |why: &str| self.context.control().unreachable_task(self.task, why);
        let message = match said {
            None => return self.fail(broken("its stream ended before the command did")).await,
            Some(Err(why)) => {
                return self.fail(broken(&format!("its stream was interrupted: {}", why.message()))).await;
            }
            Some(Ok(said)) => said.message,
        };
        match message {
            Some(Message::Output(output)) => {
                let is_last = matches!(output.output, Some(Output::ExitCode(_)));
                self.outputs.send(Ok(output)).await.map_err(|_| InteractionEnded)?;
                if is_last { Err(InteractionEnded) } else { Ok(()) }
            }
            // A node that acknowledges more inputs than were sent gains no additional credit.
            Some(Message::UsedInputs(count)) => {
                self.room = self.room.saturating_add(count).min(INPUTS_MAX);
                Ok(())
            }
            Some(Message::Failure(failure)) => {
                let refusal = self.context.control().refused_by_node(self.task, &failure.sentence);
                self.fail(refusal).await
            }
            Some(Message::Lines(_) | Message::Details(_) | Message::Usage(_) | Message::Begun(_)) | None => Ok(()),
        }
    }

    /// Forwards a message of the client to the node.
    async fn give(&mut self, said: InteractRequest) -> Result<(), InteractionEnded> {
        let Some(ClientMessage::Input(TaskInput { input: Some(input) })) = said.message else {
            return self.fail(unclear("unknown message of the client: this manager does not support it")).await;
        };
        if let Input::Data(data) = &input
            && data.len() > MESSAGE_BYTES
        {
            let sentence = format!("the client sends {} bytes at once; at most {MESSAGE_BYTES} are taken", data.len());
            return self.fail(unclear(&sentence)).await;
        }
        self.room -= 1;
        let message = ToTask { message: Some(ToMessage::Input(TaskInput { input: Some(input) })) };
        match self.to_node.try_send(Ok(message)) {
            Ok(()) => Ok(()),
            // The queue has space for many more inputs than the credit allows.
            Err(_) => {
                let refusal = self.context.control().unreachable_task(self.task, "its agent reads nothing");
                self.fail(refusal).await
            }
        }
    }

    async fn fail(&self, why: Rejection) -> Result<(), InteractionEnded> {
        // Ignored if the client has disconnected.
        let _ = self.outputs.send(Err(status(why))).await;
        Err(InteractionEnded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_so_many_interactions_and_all_callers_together_more() {
        let interactions = Arc::new(Interactions::default());
        let admit = |who: usize| interactions.admit(&Actor::Operator(format!("user-{who}")));
        let mut admitted: Vec<_> = (0..CALLER_MAX).map(|_| admit(0).expect("room")).collect();
        let refused = admit(0).err().expect("too many");
        assert_eq!(refused.sentence, "user-0 has 16 interactions with tasks through this manager already");
        admitted.extend((CALLER_MAX..INTERACTIONS_MAX).map(|who| admit(who).expect("room")));
        let refused = admit(1_000).err().expect("too many");
        assert_eq!(refused.sentence, "others have 64 interactions with tasks through this manager already");
        admitted.pop();
        drop(admit(1_000).expect("room again"));
        drop(admitted);
        assert!(lock(&interactions.by_caller).is_empty(), "nothing is remembered of who is gone");
    }
}
