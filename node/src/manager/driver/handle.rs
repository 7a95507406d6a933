//! The handle to a manager's thread, for any number of callers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use commands::space::Space;
use commands::{Rejection, RejectionKind};
use events::{NodeId, SessionId};
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use wire::v1::TaskUse;

use super::{Input, Published, stopping};
use crate::log::LogError;
use crate::manager::heartbeats::{HeartbeatTable, LISTEN_PERIOD};
use crate::manager::mailbox::{SendError, Sender};
use crate::manager::node_watch::NodeWatch;
use crate::manager::replica::{Outcome, PeerMessage, QUEUE_MAX, RaftStatus, Request, check_session};
use crate::metrics::{self, Measures, Progress};

/// Longest time that a reader waits until this manager has the state that it must see. A replica gives up reads a little earlier,
/// and states the reason.
const READ_TIMEOUT: Duration = Duration::from_secs(6);

/// Bytes of messages from other managers that may wait for the thread; further ones are dropped, and raft resends them. As many
/// as a leader may have in flight.
const PEER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The handle to a manager's core, for any number of callers.
#[derive(Clone)]
pub struct Handle {
    pub(super) inputs: Sender<Input>,
    pub(super) published: watch::Receiver<Arc<Published>>,
    pub(super) raft: watch::Receiver<Arc<RaftStatus>>,
    pub(super) node_watch: NodeWatch,
    pub(super) heartbeats: HeartbeatTable,
    /// How full the log's disk is.
    pub(super) space: Arc<Mutex<Option<Space>>>,
    /// Whether the leader is reachable, so that agents are sent the current assignments.
    pub(super) serves_sessions: Arc<AtomicBool>,
    /// Bytes of waiting messages from other managers.
    pub(super) peer_bytes: Arc<AtomicUsize>,
    pub(super) measures: Arc<Measures>,
    /// Cancelled when the thread ends.
    pub(super) over: CancellationToken,
}

impl Handle {
    /// Counters of the thread's work.
    pub fn measures(&self) -> Arc<Measures> {
        Arc::clone(&self.measures)
    }

    /// How far the thread has come.
    pub fn progress(&self) -> Progress {
        self.measures.progress.clone()
    }

    /// Submits a command; the returned future waits for its outcome. The command is queued before that, so that commands are
    /// judged in the order of the calls.
    pub fn submit(&self, request: Request) -> impl Future<Output = Outcome> + Send + use<> {
        let (command, measures) = (request.command.name(), Arc::clone(&self.measures));
        let asked = self.ask(request);
        async move {
            let outcome = match asked {
                Ok(answer) => answer.await.unwrap_or(Outcome::Unknown),
                Err(rejection) => Outcome::Rejected(rejection),
            };
            measures.count(
                command,
                match &outcome {
                    Outcome::Committed { .. } => metrics::CommandResult::Committed,
                    Outcome::Rejected(_) => metrics::CommandResult::Rejected,
                    Outcome::Unknown => metrics::CommandResult::Unknown,
                },
            );
            outcome
        }
    }

    fn ask(&self, request: Request) -> Result<oneshot::Receiver<Outcome>, Rejection> {
        let (answer, outcome) = oneshot::channel();
        // Counted before it is sent, so that it cannot be taken first.
        self.measures.inbox.fetch_add(1, Ordering::Relaxed);
        if let Err(rejection) = self.send(Input::Submit(Box::new(request), answer)) {
            self.measures.inbox.fetch_sub(1, Ordering::Relaxed);
            return Err(rejection);
        }
        Ok(outcome)
    }

    /// Accepts a message from another manager, if there is room for it.
    pub fn receive(&self, from: u64, message: PeerMessage) {
        let bytes = message.size();
        if self.peer_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > PEER_BYTES_MAX
            || self.inputs.try_send(Input::Peer(from, message)).is_err()
        {
            self.peer_bytes.fetch_sub(bytes, Ordering::Relaxed);
            tracing::debug!(from, bytes, "a message of another manager was dropped: too many wait");
        }
    }

    /// Reports that messages for another manager, by its raft id, cannot be delivered. If the inbox is full, raft finds out by
    /// itself.
    pub fn unreachable(&self, raft_id: u64) {
        let _ = self.inputs.try_send(Input::Unreachable(raft_id));
    }

    /// Reports that, according to another manager, this one is no longer a member. It then neither votes nor takes commands.
    pub fn fence(&self) {
        // A thread that has ended does neither.
        let _ = self.inputs.send(Input::Fence);
    }

    /// Records how full the log's disk is, according to the newest reading.
    pub fn note_space(&self, space: Option<Space>) {
        // No code panics while it holds the lock, so a poisoned one still holds whole data.
        *self.space.lock().unwrap_or_else(PoisonError::into_inner) = space;
    }

    /// Records a heartbeat and the resource use of the node's tasks, however busy the thread is.
    ///
    /// # Errors
    /// When the session has ended: the agent has to register again.
    pub fn heartbeat(&self, node: NodeId, session: SessionId, uses: Vec<TaskUse>) -> Result<(), Rejection> {
        if self.is_over() {
            return Err(stopping());
        }
        check_session(&self.published.borrow().cluster, node, session)?;
        self.serves_sessions()?;
        self.heartbeats.note(node, session, Instant::now());
        self.heartbeats.note_uses(node, session, uses);
        Ok(())
    }

    /// Whether agents may hold sessions here.
    ///
    /// # Errors
    /// When this manager has not heard from the leader for some time.
    pub fn serves_sessions(&self) -> Result<(), Rejection> {
        if self.serves_sessions.load(Ordering::Relaxed) {
            return Ok(());
        }
        let sentence = "this manager has lost contact with the manager that leads";
        Err(Rejection::new(RejectionKind::Unavailable, "session", sentence, "register with another manager"))
    }

    /// Waits until the committed state here includes everything that was acknowledged anywhere before this call.
    ///
    /// # Errors
    /// When there is no leader, or this manager does not catch up in time.
    pub async fn read_barrier(&self) -> Result<(), Rejection> {
        if self.published.borrow().alone {
            return Ok(());
        }
        let (answer, readable) = oneshot::channel();
        self.send(Input::Read(answer))?;
        match tokio::time::timeout(READ_TIMEOUT, readable).await {
            Ok(Ok(readable)) => readable,
            Ok(Err(_)) => Err(stopping()),
            Err(_) => Err(late("the manager that leads did not confirm its state")),
        }
    }

    /// Waits until the committed state here includes the frame at an index that the caller has seen.
    ///
    /// # Errors
    /// When this manager does not catch up in time.
    pub async fn applied(&self, index: u64) -> Result<(), Rejection> {
        let mut states = self.published.clone();
        let there = states.wait_for(|state| state.cluster.position.index >= index);
        match tokio::time::timeout(READ_TIMEOUT, there).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(stopping()),
            Err(_) => {
                let here = self.published.borrow().cluster.position.index;
                Err(late(&format!("frame {index} was requested, and this manager has history up to frame {here}")))
            }
        }
    }

    /// Reports periodically that the threads which serve nodes are running, until the core ends. While they are not running,
    /// missing heartbeats are not held against nodes.
    pub async fn listen(self) {
        while !self.is_over() {
            self.heartbeats.listen(Instant::now());
            tokio::time::sleep(LISTEN_PERIOD).await;
        }
    }

    /// The committed state now.
    pub fn state(&self) -> Arc<Published> {
        self.published.borrow().clone()
    }

    /// This manager's raft status, as of the last tick.
    pub fn raft(&self) -> Arc<RaftStatus> {
        self.raft.borrow().clone()
    }

    /// The committed state and its successors.
    pub fn states(&self) -> watch::Receiver<Arc<Published>> {
        self.published.clone()
    }

    /// Follows one node instead of all states. A follower reads the state after it has subscribed, and each time it is woken; it
    /// is also woken when the thread ends.
    pub fn follow(&self, node: NodeId) -> Arc<Notify> {
        self.node_watch.watch(node)
    }

    /// How far this manager has come in catching up with an offered state, and the index of that state.
    pub fn catching_up(&self) -> Option<(u64, u64)> {
        let (at, of) = (&self.measures.catching_up_at, &self.measures.catching_up_of);
        Some((at.load(Ordering::Relaxed), of.load(Ordering::Relaxed))).filter(|(_, of)| *of > 0)
    }

    /// Whether the thread has ended.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Waits until the thread has ended.
    pub async fn ended(&self) {
        self.over.cancelled().await;
    }

    /// Hands leadership to another manager, if there is one, and waits a bounded time for that. No more commands are taken.
    pub async fn hand_over(&self) {
        let (done, handed_over) = oneshot::channel();
        if self.inputs.try_send(Input::HandOver(done)).is_ok() {
            // Nothing is ever sent: the sender is dropped when there is nothing left to wait for.
            let _ = handed_over.await;
        }
    }

    /// Asks the thread to end. If it leads, another manager takes over first, if there is one.
    pub fn stop(&self) {
        // A thread that has ended is already stopped.
        let _ = self.inputs.send(Input::Stop);
    }

    /// Ends the thread because a write outside of it failed: later writes cannot be relied on.
    pub fn fail(&self, error: LogError) {
        // A thread that has ended needs no other reason.
        let _ = self.inputs.send(Input::Failed(error));
    }

    fn send(&self, input: Input) -> Result<(), Rejection> {
        self.inputs.try_send(input).map_err(|error| match error {
            SendError::Full => {
                let sentence = format!("{QUEUE_MAX} requests wait already");
                Rejection::new(RejectionKind::Exhausted, "manager", sentence, "try again in a moment")
            }
            SendError::Closed => stopping(),
        })
    }
}

fn late(why: &str) -> Rejection {
    let sentence = format!("this manager could not bring its state up to date within {READ_TIMEOUT:?}: {why}");
    let hint = "try again, use another manager, or read the local state with --stale";
    Rejection::new(RejectionKind::Unavailable, "cluster", sentence, hint)
}
