//! Memory for large messages to agents. Each stream holds what it sends encoded until its agent has read it, and after a restart
//! of a manager all agents are sent everything that they need at once: together such messages share a bounded amount.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use wire::v1::SessionMessage;

/// What is counted in.
const UNIT_BYTES: usize = 1_024;
/// Bytes of large messages that are encoded and not sent yet: a few of the largest, hundreds with one config.
const UNITS_MAX: usize = 256 * 1_024;
/// Bytes from which on a message is large. Others are as many as there are sessions, and cost little.
const LARGE_BYTES: usize = 64 * 1_024;
/// How long a message has its share, sent or not: an agent that does not read holds up nobody for longer.
const HELD_MAX: Duration = Duration::from_secs(30);

/// The memory that large messages share.
#[derive(Debug, Clone)]
pub struct SendMemory(Arc<Semaphore>);

impl Default for SendMemory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(UNITS_MAX)))
    }
}

impl SendMemory {
    /// The share of a message, once there is enough; none for a small message.
    pub async fn share(&self, message: &SessionMessage) -> Option<Share> {
        let bytes = message.encoded_len();
        if bytes < LARGE_BYTES {
            return None;
        }
        // A message that is larger than all there is waits until it is alone.
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).min(UNITS_MAX)).ok()?;
        let permit = Arc::clone(&self.0).acquire_many_owned(units).await.ok()?;
        let share = Share(Arc::new(Mutex::new(Some(permit))));
        let held = Arc::downgrade(&share.0);
        tokio::spawn(async move {
            tokio::time::sleep(HELD_MAX).await;
            if let Some(held) = held.upgrade() {
                held.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        });
        Some(share)
    }
}

/// The share of one message, given back with it.
#[derive(Debug)]
pub struct Share(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

/// Where a stream leaves the share of the message that is encoded next. It is an extension of the stream's response.
#[derive(Debug, Clone, Default)]
pub struct NextShare(Arc<Mutex<Option<Share>>>);

impl NextShare {
    /// Leaves a share.
    pub fn leave(&self, share: Option<Share>) {
        if share.is_some() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = share;
        }
    }

    fn take(&self) -> Option<Share> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An encoded message with its share.
struct Encoded {
    data: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Has the encoded messages of a response keep their shares until they are sent.
pub fn keep_shares(response: Response<Body>) -> Response<Body> {
    let Some(next) = response.extensions().get::<NextShare>().cloned() else { return response };
    let keep = move |data: Bytes| match next.take() {
        Some(share) => Bytes::from_owner(Encoded { data, _share: share }),
        None => data,
    };
    response.map(|body| Body::new(body.map_frame(move |frame| frame.map_data(&keep))))
}

#[cfg(test)]
mod tests {
    use futures_util::stream::{self, BoxStream, StreamExt as _};
    use http_body_util::Full;
    use tonic::{Request, Status, Streaming};
    use tower::ServiceExt as _;
    use wire::v1::dispatcher_server::{Dispatcher, DispatcherServer};
    use wire::v1::session_message::Message;
    use wire::v1::{AssignmentSet, ConfigItem, HeartbeatReply, HeartbeatRequest, RegisterRequest};
    use wire::v1::{ReportReply, ReportRequest};

    use super::*;

    /// A message of about so many bytes, which are the same again and again.
    fn message(bytes: usize) -> SessionMessage {
        let config = ConfigItem { data: vec![7; LARGE_BYTES / 2].into(), ..ConfigItem::default() };
        let configs = vec![config; bytes * 2 / LARGE_BYTES];
        let set = AssignmentSet { configs, ..AssignmentSet::default() };
        SessionMessage { message: Some(Message::Assignments(set)) }
    }

    /// Sends each session one large message.
    struct OneMessage(SendMemory);

    #[tonic::async_trait]
    impl Dispatcher for OneMessage {
        type SessionStream = BoxStream<'static, Result<SessionMessage, Status>>;
        type HeartbeatsStream = BoxStream<'static, Result<HeartbeatReply, Status>>;

        async fn session(&self, _: Request<RegisterRequest>) -> Result<tonic::Response<Self::SessionStream>, Status> {
            let (next, sent) = (NextShare::default(), message(LARGE_BYTES));
            next.leave(self.0.share(&sent).await);
            let mut response: tonic::Response<Self::SessionStream> =
                tonic::Response::new(stream::iter([Ok(sent)]).boxed());
            response.extensions_mut().insert(next);
            Ok(response)
        }

        async fn heartbeats(
            &self,
            _: Request<Streaming<HeartbeatRequest>>,
        ) -> Result<tonic::Response<Self::HeartbeatsStream>, Status> {
            Err(Status::unimplemented("no heartbeats"))
        }

        async fn report(&self, _: Request<ReportRequest>) -> Result<tonic::Response<ReportReply>, Status> {
            Err(Status::unimplemented("no reports"))
        }
    }

    #[tokio::test]
    async fn a_session_has_the_share_of_its_message_until_that_is_sent() {
        let memory = SendMemory::default();
        let asked = RegisterRequest::default().encode_to_vec();
        let length = u32::try_from(asked.len()).expect("a short request").to_be_bytes();
        let call = http::Request::post("/swarmlog.wire.v1.Dispatcher/Session")
            .header("content-type", "application/grpc")
            .body(Full::new(Bytes::from([&[0], &length[..], &asked].concat())))
            .expect("a request");
        let answer = DispatcherServer::new(OneMessage(memory.clone())).oneshot(call).await.expect("an answer");
        let mut body = keep_shares(answer).into_body();
        let frame = body.frame().await.expect("one frame").expect("whole").into_data().expect("data");
        drop(body);
        assert!(frame.len() >= LARGE_BYTES && memory.0.available_permits() < UNITS_MAX, "the frame is not sent yet");
        drop(frame);
        assert_eq!(memory.0.available_permits(), UNITS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_holds_up_the_others_for_a_time_only() {
        let memory = SendMemory::default();
        assert!(memory.share(&message(LARGE_BYTES / 2)).await.is_none(), "it is small");
        let largest = message(UNITS_MAX * UNIT_BYTES);
        let began = tokio::time::Instant::now();
        let unread = memory.share(&largest).await;
        assert!(memory.share(&message(LARGE_BYTES)).await.is_some());
        assert!(unread.is_some() && began.elapsed() >= HELD_MAX, "it waited");
    }
}
