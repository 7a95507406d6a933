//! Limits the memory of messages to agents. Each stream holds its encoded messages until the agent has read them; after a
//! restart of a manager, complete assignments are sent to all agents at once, and some agents may never read them. All such
//! messages share a bounded amount of memory. When others wait for it, the connection of the slowest reader is closed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use events::NodeId;
use http::Response;
use http_body_util::BodyExt as _;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use wire::v1::SessionMessage;

/// The unit of accounting.
const UNIT_BYTES: usize = 1_024;
/// Bytes of messages to be encoded or sent: enough for a few of the largest, for hundreds with one config, or for the initial
/// messages of 20,000 agents with some tasks each.
const UNITS_MAX: usize = 256 * 1_024;
/// Minimum size of a counted message. Smaller ones are few per session, and use little memory.
const COUNTED_BYTES: usize = 4 * 1_024;
/// How long an agent may take to read one message while others wait: enough for the largest one at 20 Mbit/s.
const SLOW_AFTER: Duration = Duration::from_secs(30);
/// Minimum time between closing two slow connections, so that the memory of the first one is released before.
const END_PAUSE: Duration = Duration::from_millis(100);

/// The memory shared by messages.
#[derive(Debug, Clone)]
pub struct SendMemory {
    room: Arc<Semaphore>,
    readers: Arc<Mutex<Readers>>,
}

/// Agents whose messages use memory, in the order in which they started.
#[derive(Debug, Default)]
struct Readers {
    reading: BTreeMap<u64, Reader>,
    last: u64,
    ended_at: Option<Instant>,
}

/// An agent that has not completely read one message.
#[derive(Debug)]
struct Reader {
    node: NodeId,
    since: Instant,
    end: CancellationToken,
}

impl Default for SendMemory {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(UNITS_MAX)), readers: Arc::default() }
    }
}

impl SendMemory {
    /// Waits for the share of a message to a node, whose connection `end` closes; `None` for a small message.
    pub async fn share(&self, message: &SessionMessage, node: NodeId, end: &CancellationToken) -> Option<Share> {
        let bytes = message.encoded_len();
        if bytes < COUNTED_BYTES {
            return None;
        }
        // A message larger than the total waits until it is the only one.
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).min(UNITS_MAX)).ok()?;
        let room = Arc::clone(&self.room).acquire_many_owned(units);
        tokio::pin!(room);
        loop {
            let look_again = lock(&self.readers).end_slowest(Instant::now());
            tokio::select! {
                biased;
                room = &mut room => return Some(self.taken(room.ok()?, node, end)),
                () = tokio::time::sleep_until(look_again) => {}
            }
        }
    }

    fn taken(&self, room: OwnedSemaphorePermit, node: NodeId, end: &CancellationToken) -> Share {
        let mut readers = lock(&self.readers);
        readers.last += 1;
        let number = readers.last;
        readers.reading.insert(number, Reader { node, since: Instant::now(), end: end.clone() });
        Share { number, readers: Arc::clone(&self.readers), _room: room }
    }
}

impl Readers {
    /// Closes the connection of the slowest reader, if it exceeds the limit. Returns when to check again.
    fn end_slowest(&mut self, now: Instant) -> Instant {
        let may_end_at = self.ended_at.map_or(now, |ended_at| ended_at + END_PAUSE);
        let Some(first) = self.reading.first_entry() else { return now + SLOW_AFTER };
        let due = may_end_at.max(first.get().since + SLOW_AFTER);
        if due > now {
            return due;
        }
        let Reader { node, end, .. } = first.remove();
        tracing::warn!(
            %node,
            seconds = SLOW_AFTER.as_secs(),
            "the connection of a node was closed: it did not read what it was sent, and others need the memory"
        );
        end.cancel();
        self.ended_at = Some(now);
        now + END_PAUSE
    }
}

fn lock(readers: &Mutex<Readers>) -> MutexGuard<'_, Readers> {
    readers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The share of one message, released when it is dropped.
#[derive(Debug)]
pub struct Share {
    number: u64,
    readers: Arc<Mutex<Readers>>,
    _room: OwnedSemaphorePermit,
}

impl Drop for Share {
    fn drop(&mut self) {
        lock(&self.readers).reading.remove(&self.number);
    }
}

/// Passes the shares of the next encoded messages to the response body. It is an extension of the stream's response.
#[derive(Debug, Clone, Default)]
pub struct NextShares(Arc<Mutex<Vec<Share>>>);

impl NextShares {
    /// Adds a share.
    pub fn leave(&self, share: Option<Share>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(share);
    }

    fn take(&self) -> Vec<Share> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Encoded messages with their shares.
struct Encoded {
    data: Bytes,
    _shares: Vec<Share>,
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Makes the encoded messages of a response hold their shares until they are sent.
pub fn keep_shares(response: Response<Body>) -> Response<Body> {
    let Some(next) = response.extensions().get::<NextShares>().cloned() else { return response };
    // Messages that are ready together are encoded into one frame.
    let keep = move |data: Bytes| match next.take() {
        shares if shares.is_empty() => data,
        shares => Bytes::from_owner(Encoded { data, _shares: shares }),
    };
    response.map(|body| Body::new(body.map_frame(move |frame| frame.map_data(&keep))))
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use events::{Id as _, Role};
    use futures_util::stream::{self, BoxStream, StreamExt as _};
    use http_body_util::Full;
    use tokio::net::TcpListener;
    use tonic::transport::{Endpoint, Server};
    use tonic::{Request, Status, Streaming};
    use tower::ServiceExt as _;
    use tower::util::MapResponseLayer;
    use wire::v1::dispatcher_client::DispatcherClient;
    use wire::v1::dispatcher_server::{Dispatcher, DispatcherServer};
    use wire::v1::session_message::Message;
    use wire::v1::{AssignmentSet, ConfigItem, FromTask, HeartbeatReply, HeartbeatRequest, RegisterRequest, ToTask};
    use wire::v1::{LeaveReply, LeaveRequest, ReportReply, ReportRequest};

    use super::*;
    use crate::security::testing::{KnownMembers, identity, subject, wall_clock};
    use crate::security::{Authority, Caller, Connector, Credentials, Limits, incoming};

    /// A message of about this many bytes.
    fn message(bytes: usize) -> SessionMessage {
        let config = ConfigItem { data: vec![7; UNIT_BYTES].into(), ..ConfigItem::default() };
        let configs = vec![config; bytes / UNIT_BYTES];
        let set = AssignmentSet { configs, ..AssignmentSet::default() };
        SessionMessage { message: Some(Message::Assignments(set)) }
    }

    fn node(number: u128) -> NodeId {
        NodeId::from_bits(number)
    }

    /// Sends each session two messages of this size that are ready together.
    struct TwoMessages {
        memory: SendMemory,
        bytes: usize,
        /// Closes the connection of the first session.
        end: Arc<OnceLock<CancellationToken>>,
    }

    #[tonic::async_trait]
    impl Dispatcher for TwoMessages {
        type SessionStream = BoxStream<'static, Result<SessionMessage, Status>>;
        type HeartbeatsStream = BoxStream<'static, Result<HeartbeatReply, Status>>;

        async fn session(
            &self,
            request: Request<RegisterRequest>,
        ) -> Result<tonic::Response<Self::SessionStream>, Status> {
            let connection = request.extensions().get::<Caller>();
            self.end.get_or_init(|| connection.map(Caller::end).unwrap_or_default());
            let (next, sent) = (NextShares::default(), message(self.bytes));
            let (memory, leave) = (self.memory.clone(), next.clone());
            let messages = stream::iter([sent.clone(), sent]).then(move |sent| {
                let (memory, leave) = (memory.clone(), leave.clone());
                async move {
                    leave.leave(memory.share(&sent, node(1), &CancellationToken::new()).await);
                    Ok(sent)
                }
            });
            let mut response: tonic::Response<Self::SessionStream> = tonic::Response::new(messages.boxed());
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

        type TaskStreamStream = BoxStream<'static, Result<ToTask, Status>>;

        async fn task_stream(
            &self,
            _: Request<Streaming<FromTask>>,
        ) -> Result<tonic::Response<Self::TaskStreamStream>, Status> {
            Err(Status::unimplemented("no streams"))
        }

        async fn leave(&self, _: Request<LeaveRequest>) -> Result<tonic::Response<LeaveReply>, Status> {
            Err(Status::unimplemented("nobody leaves"))
        }
    }

    #[tokio::test]
    async fn a_session_has_the_shares_of_its_messages_until_they_are_sent() {
        let memory = SendMemory::default();
        let asked = RegisterRequest::default().encode_to_vec();
        let length = u32::try_from(asked.len()).expect("a short request").to_be_bytes();
        let call = http::Request::post("/swarmlog.wire.v1.Dispatcher/Session")
            .header("content-type", "application/grpc")
            .body(Full::new(Bytes::from([&[0], &length[..], &asked].concat())))
            .expect("a request");
        let answer =
            DispatcherServer::new(TwoMessages { memory: memory.clone(), bytes: COUNTED_BYTES, end: Arc::default() })
                .oneshot(call)
                .await
                .expect("an answer");
        let mut body = keep_shares(answer).into_body();
        let frame = body.frame().await.expect("one frame").expect("whole").into_data().expect("data");
        drop(body);
        let taken = UNITS_MAX - memory.room.available_permits();
        assert!(frame.len() >= 2 * COUNTED_BYTES && taken * UNIT_BYTES >= frame.len(), "the frame is not sent yet");
        drop(frame);
        assert_eq!(memory.room.available_permits(), UNITS_MAX);
        assert!(lock(&memory.readers).reading.is_empty());
    }

    #[tokio::test]
    async fn a_connection_that_is_ended_gives_back_what_was_not_read() {
        let authority = Authority::generate(wall_clock()).expect("an authority");
        let of = |number, role| {
            let shown = identity(&authority, subject(number, role), wall_clock());
            Arc::new(Credentials::new(shown).expect("credentials"))
        };
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = Endpoint::from_shared(format!("http://{}", tcp.local_addr().expect("an address")));
        let (limits, members) = (Limits::of_descriptors(1_024), KnownMembers::everybody());
        let connections = Box::pin(incoming(tcp, of(1, Role::Manager), limits, members, Arc::default()));
        let (memory, end) = (SendMemory::default(), Arc::new(OnceLock::new()));
        // More than the socket buffers of the system.
        let service = TwoMessages { memory: memory.clone(), bytes: 32 * 1024 * 1024, end: Arc::clone(&end) };
        let mut server = Server::builder().layer(MapResponseLayer::new(keep_shares));
        tokio::spawn(server.add_service(DispatcherServer::new(service)).serve_with_incoming(connections));
        let connector = Connector::member(of(2, Role::Worker));
        let channel = endpoint.expect("an address").connect_with_connector(connector).await.expect("a connection");
        let unread = DispatcherClient::new(channel).session(RegisterRequest::default()).await.expect("a session");

        assert!(memory.room.available_permits() < UNITS_MAX, "it is not read");
        end.get().expect("its connection").cancel();
        let all = memory.room.acquire_many(UNITS_MAX as u32);
        let all = tokio::time::timeout(Duration::from_secs(10), all).await.expect("in time").expect("all of it");
        drop((all, unread));
    }

    #[tokio::test(start_paused = true)]
    async fn where_others_wait_whoever_reads_for_longest_loses_its_connection() {
        let memory = SendMemory::default();
        let ends = [(); 4].map(|()| CancellationToken::new());
        assert!(memory.share(&message(COUNTED_BYTES / 2), node(0), &ends[0]).await.is_none(), "it is small");
        // Two fit, including the overhead of each item.
        let half = message(UNITS_MAX * UNIT_BYTES / 20 * 9);
        let began = Instant::now();
        let mut unread = Vec::new();
        for (number, end) in (0..).zip(&ends[..2]) {
            unread.push(memory.share(&half, node(number), end).await.expect("there is room"));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(SLOW_AFTER * 10).await;
        assert!(ends.iter().all(|end| !end.is_cancelled()), "nobody needs the memory");
        let waiting = tokio::spawn({
            let (memory, half, end) = (memory.clone(), half.clone(), ends[2].clone());
            async move { memory.share(&half, node(2), &end).await.expect("there is room again") }
        });
        tokio::time::timeout(SLOW_AFTER, ends[0].cancelled()).await.expect("it has read for long enough");
        assert!(!ends[1].is_cancelled() && !waiting.is_finished(), "its memory is there until it is gone");
        drop(unread.remove(0));
        let third = waiting.await.expect("a share");
        assert!(!ends[1].is_cancelled() && began.elapsed() < SLOW_AFTER * 11, "one was enough");
        drop(unread);
        let waited = Instant::now();
        let fresh = memory.share(&half, node(1), &ends[1]).await.expect("there is room");
        let late = memory.share(&half, node(3), &ends[3]);
        tokio::pin!(late);
        tokio::select! {
            biased;
            _ = &mut late => panic!("there is no room"),
            () = ends[2].cancelled() => assert!(waited.elapsed() >= SLOW_AFTER / 2, "it has its time"),
        }
        drop(third);
        assert!(late.await.is_some() && !ends[1].is_cancelled());
        drop(fresh);
    }
}
