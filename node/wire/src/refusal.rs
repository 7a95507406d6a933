//! Sends refusals as binary details of a gRPC status, so that a client gets kind, subject and hint.

use prost::Message;
use tonic::{Code, Status};

use crate::v1::{Refusal, RefusalKind};

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.kind() {
            RefusalKind::NotFound => Code::NotFound,
            RefusalKind::Exists => Code::AlreadyExists,
            RefusalKind::Invalid => Code::InvalidArgument,
            RefusalKind::Conflict => Code::FailedPrecondition,
            RefusalKind::Forbidden | RefusalKind::Removed | RefusalKind::NotMember => Code::PermissionDenied,
            RefusalKind::Exhausted => Code::ResourceExhausted,
            RefusalKind::Unavailable => Code::Unavailable,
        };
        Status::with_details(code, refusal.sentence.clone(), refusal.encode_to_vec().into())
    }
}

impl Refusal {
    /// The refusal inside a status; `None` if the status has another origin, such as a lost connection.
    pub fn from_status(status: &Status) -> Option<Self> {
        if status.details().is_empty() { None } else { Refusal::decode(status.details()).ok() }
    }
}
