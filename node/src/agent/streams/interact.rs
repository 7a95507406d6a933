//! Interactive sessions in tasks of this node: exec and attach.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use tokio::sync::{mpsc, watch};
use wire::v1::from_task::Message as FromTaskMessage;
use wire::v1::to_task::Message as ToTaskMessage;
use wire::v1::{FromTask, InteractOrder, InteractionBegun, LogFailure, TaskInput, TaskOutput};

use super::{Cancelled, Outbound};
use crate::agent::executor::Inputs;
use crate::agent::worker::Worker;

/// Serves an interactive session until it ends or the manager cancels it.
pub(super) async fn serve(
    worker: &Arc<Worker>,
    order: InteractOrder,
    more: mpsc::Receiver<ToTaskMessage>,
    outbound: &Outbound,
) {
    let task = order.task;
    let (used, uses) = watch::channel(0);
    let started = tokio::select! {
        started = worker.interact(order, inputs(more, used)) => started,
        () = outbound.messages.closed() => return,
    };
    let served = match started {
        Ok(outputs) => talk(outputs, uses, outbound).await,
        Err(sentence) => Ok(Some(sentence)),
    };
    if let Ok(Some(sentence)) = served {
        let failure = FromTaskMessage::Failure(LogFailure { task, sentence });
        // Best effort: the manager may have disconnected.
        let _ = outbound.send(FromTask { opens: None, message: Some(failure) }).await;
    }
}

/// The input that the manager sends; taking a piece grants it credit for another.
fn inputs(more: mpsc::Receiver<ToTaskMessage>, used: watch::Sender<u32>) -> Inputs {
    let inputs = stream::unfold((more, used), |(mut more, used)| async move {
        loop {
            match more.recv().await? {
                ToTaskMessage::Input(TaskInput { input: Some(input) }) => {
                    used.send_modify(|count| *count += 1);
                    return Some((input, (more, used)));
                }
                ToTaskMessage::Input(TaskInput { input: None }) => used.send_modify(|count| *count += 1),
                ToTaskMessage::Credit(_) | ToTaskMessage::Logs(_) => {
                    tracing::debug!("unexpected message of a manager on the stream of a command")
                }
            }
        }
    });
    inputs.boxed()
}

/// Forwards the output of the task. Returns an error message if it failed.
async fn talk(
    mut outputs: crate::agent::executor::Outputs,
    mut uses: watch::Receiver<u32>,
    outbound: &Outbound,
) -> Result<Option<String>, Cancelled> {
    let say = |said: FromTaskMessage| outbound.send(FromTask { opens: None, message: Some(said) });
    say(FromTaskMessage::Begun(InteractionBegun {})).await?;
    let mut acknowledged = 0;
    loop {
        tokio::select! {
            output = outputs.next() => match output {
                Some(Ok(output)) => say(FromTaskMessage::Output(TaskOutput { output: Some(output) })).await?,
                Some(Err(error)) => return Ok(Some(error.to_string())),
                None => return Ok(None),
            },
            Ok(()) = uses.changed() => {
                let count = *uses.borrow_and_update();
                say(FromTaskMessage::UsedInputs(count - acknowledged)).await?;
                acknowledged = count;
            }
            () = outbound.messages.closed() => return Err(Cancelled),
        }
    }
}
