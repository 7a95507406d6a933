//! The one table from rejections to gRPC statuses.

use commands::{Rejection, RejectionKind};
use tonic::Status;
use wire::v1::{Refusal, RefusalKind};

use crate::driver::Request;
use crate::leader::Outcome;

use super::Context;

/// A refusal as its client gets it.
pub fn status(rejection: Rejection) -> Status {
    let kind = match rejection.kind {
        RejectionKind::NotFound => RefusalKind::NotFound,
        RejectionKind::Exists => RefusalKind::Exists,
        RejectionKind::Invalid => RefusalKind::Invalid,
        RejectionKind::Conflict => RefusalKind::Conflict,
        RejectionKind::Forbidden => RefusalKind::Forbidden,
        RejectionKind::Exhausted => RefusalKind::Exhausted,
        RejectionKind::Unavailable => RefusalKind::Unavailable,
    };
    let hint = (!rejection.hint.is_empty()).then_some(rejection.hint);
    Refusal { kind: kind.into(), subject: rejection.subject, sentence: rejection.sentence, hint }.into()
}

/// Asks the core for a command: the index of its frame and the object that it is about.
pub(super) async fn execute(context: &Context, request: Request) -> Result<(u64, Option<String>), Status> {
    if let Some(space) = context.space.last() {
        let state = context.state();
        // A command that took effect already adds nothing: it gets its answer again.
        let answered = state.cluster.requests.answer(&request.actor.record(None), request.id).is_some();
        if !answered {
            space.admit(&state.cluster, &request.command).map_err(status)?;
        }
    }
    match context.core.submit(request).await {
        Outcome::Committed { index, subject } => Ok((index, subject)),
        Outcome::Rejected(rejection) => Err(status(rejection)),
        Outcome::Unknown => {
            let sentence =
                "the manager stopped or lost its leadership while the command was under way: it may have taken effect";
            let hint = "look whether it did, and repeat it if not; repeated with the same command id it never takes effect twice";
            Err(status(Rejection::new(RejectionKind::Unavailable, "cluster", sentence, hint)))
        }
    }
}
