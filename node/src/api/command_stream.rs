//! Pipelined commands on one stream: a command enters the core's queue before the previous ones are answered, and responses are
//! sent in the order of the commands.

use commands::{Actor, Rejection};
use events::CommandId;
use futures_util::future::{Either, ready};
use futures_util::{Stream, StreamExt as _, stream};
use tonic::{Status, Streaming};
use wire::v1::command_answer::Outcome;
use wire::v1::{CommandAnswer, CommandReply, CommandRequest};

use crate::control::command::Received;
use crate::control::views;
use crate::manager::driver::stopping;

use super::{Context, status};

/// Maximum unanswered commands per stream; the next one is read when the first of them is answered. As many as one turn takes
/// from all callers, so that one stream can fill a turn.
const UNANSWERED_MAX: usize = 4_096;

/// Runs the commands of a stream. It ends with the requests, with the connection, or when this manager stops.
pub(super) fn answers(
    context: Context,
    actor: Actor,
    requests: Streaming<CommandRequest>,
) -> impl Stream<Item = Result<CommandAnswer, Status>> + Send {
    let stopping_token = context.stopping.clone();
    let answers = requests.map(move |request| match request {
        // Started here rather than when it is awaited, because this is called in the order of the requests.
        Ok(request) => Either::Left(begin(&context, &actor, request)),
        Err(broken) => Either::Right(ready(Err(broken))),
    });
    let last = stream::once(async { Err(status(stopping())) });
    let is_over = stopping_token.clone();
    let last = last.filter(move |_| ready(is_over.is_cancelled()));
    answers.buffered(UNANSWERED_MAX).take_until(stopping_token.cancelled_owned()).chain(last)
}

fn begin(
    context: &Context,
    actor: &Actor,
    request: CommandRequest,
) -> impl Future<Output = Result<CommandAnswer, Status>> + Send + use<> {
    let joined: Vec<CommandId> = request.joined.iter().map(|joined| joined.id).collect();
    let received = context.receive(actor, request);
    let (context, actor) = (context.clone(), actor.clone());
    let started = received.map(|received| match received {
        Received::Answered(reply) => Either::Left(ready(Ok(reply))),
        Received::New(request) => Either::Right(context.begin(*request)),
    });
    async move {
        let outcome = match started {
            Ok(outcome) => outcome.await,
            Err(refused) => Err(refused),
        };
        Ok(answer(outcome.map(|reply| context.control().answer(reply, &actor, &joined))))
    }
}

fn answer(outcome: Result<CommandReply, Rejection>) -> CommandAnswer {
    let outcome = match outcome {
        Ok(reply) => Outcome::Reply(reply),
        Err(refused) => Outcome::Refusal(views::refusal(refused)),
    };
    CommandAnswer { outcome: Some(outcome) }
}
