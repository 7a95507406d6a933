//! The thread that drives the replica: it waits for the inbox, for raft's ticks and for timers, lets the replica work, and
//! distributes the results: writes to the log's thread, for which it never waits, answers to callers, states to readers, messages
//! to the transport that carries them to other managers. Everything that can wake a manager's core is in [`Input`].

mod handle;

pub use handle::Handle;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use commands::space::Space;
use commands::{Rejection, RejectionKind};
use events::{ServiceId, Timestamp};
use projections::{Cluster, Keyring};
use reconcilers::Uses;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::SteadyClock;
use crate::log::{LogError, LogStore, raft::TICK};
use crate::manager::heartbeats::HeartbeatTable;
use crate::manager::mailbox::{Receiver, Sender, mailbox};
use crate::manager::node_watch::NodeWatch;
use crate::manager::outbound::Outbound;
use crate::manager::replica::{FatalError, Outcome, PeerMessage, QUEUE_MAX, RaftStatus, Replica, Request, Ticket};
use crate::manager::writer::Writer;
use crate::metrics::Measures;

/// Clock jumps of at least this size extend the deadlines of nodes, whose heartbeats could not be counted. Smaller ones are
/// normal clock adjustment.
const JUMP: Duration = Duration::from_secs(1);
/// Inputs taken before a turn runs: all that are queued, up to this limit.
const INPUTS_MAX: usize = 4_096;

/// How long a leader that is about to stop waits for another one to lead: an election takes a few round trips, and if more than
/// that is needed, no other manager would have led soon anyway.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// The committed state that all readers share.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// The state.
    pub cluster: Cluster,
    /// The secrets that go with it.
    pub keyring: Arc<Keyring>,
    /// Whether this manager leads.
    pub leads: bool,
    /// The raft id of the manager that leads, if one is known.
    pub leader: Option<u64>,
    /// Whether it is the only voter: no other manager can have committed anything that is missing from this state.
    pub alone: bool,
    /// The quarantined services, on which the reconcilers did not converge, and the time at which each is retried.
    pub quarantined: Arc<BTreeMap<ServiceId, Timestamp>>,
    /// Resource use of the tasks of autoscaled services, which only the leader has. It is not part of the state.
    pub uses: Arc<Uses>,
}

/// Everything that can wake the thread, apart from time.
enum Input {
    Submit(Box<Request>, oneshot::Sender<Outcome>),
    /// A read that must see everything that was acknowledged before.
    Read(oneshot::Sender<Result<(), Rejection>>),
    /// A message from another manager, by its raft id.
    Peer(u64, PeerMessage),
    /// Messages for another manager, by its raft id, cannot be delivered.
    Unreachable(u64),
    /// Another manager reports that this one is no longer a member.
    Fence,
    Checkpointed(Result<(), LogError>),
    /// The log's thread has progress or an error to report.
    Written,
    /// A write of another thread failed.
    Failed(LogError),
    /// This manager is about to stop: another one should take over leadership. The sender is dropped once that has happened, or
    /// once the attempt has failed.
    HandOver(oneshot::Sender<()>),
    Stop,
}

/// The answer to callers while this manager stops.
pub(crate) fn stopping() -> Rejection {
    Rejection::new(
        RejectionKind::Unavailable,
        "manager",
        "this manager is stopping",
        "ask another manager, or try again",
    )
}

/// The answer to callers once this manager is no longer a member.
fn no_member() -> Rejection {
    Rejection::new(
        RejectionKind::Unavailable,
        "manager",
        "this manager is no longer a member of the cluster: its node was demoted, or the cluster continues without it",
        "use another manager; the last requests to this one may have taken effect",
    )
}

/// Starts the thread of a single manager. It ends when it is stopped, or with the error that prevents it from continuing.
pub fn spawn(
    replica: Replica,
    store: Arc<dyn LogStore>,
) -> std::io::Result<(Handle, JoinHandle<Result<(), FatalError>>)> {
    spawn_among(replica, store, |_, message| tracing::debug!(?message, "there is no connection to other managers"))
}

/// Starts the thread of a manager among others. `send` sends a message to another manager, by its raft id: it must neither block
/// nor buffer without bound, and may drop messages.
pub fn spawn_among(
    replica: Replica,
    store: Arc<dyn LogStore>,
    send: impl Fn(u64, PeerMessage) + Clone + Send + 'static,
) -> std::io::Result<(Handle, JoinHandle<Result<(), FatalError>>)> {
    let (inputs, inbox) = mailbox(QUEUE_MAX);
    let (publisher, published) = watch::channel(Arc::new(publish(&replica)));
    let (raft_publisher, raft) = watch::channel(Arc::new(replica.raft_status()));
    let (node_watch, heartbeats) = (NodeWatch::default(), HeartbeatTable::default());
    let measures = Arc::<Measures>::default();
    measures.checkpoint.store(replica.checkpoint(), Ordering::Relaxed);
    let handle = Handle {
        inputs: inputs.clone(),
        published,
        raft,
        node_watch: node_watch.clone(),
        heartbeats: heartbeats.clone(),
        space: Arc::default(),
        serves_sessions: Arc::new(AtomicBool::new(true)),
        peer_bytes: Arc::default(),
        measures: Arc::clone(&measures),
        over: CancellationToken::new(),
    };
    let outbound = Outbound::spawn(Arc::clone(&store), send)?;
    let notifier = inputs.clone();
    // A full inbox wakes the thread as well, and each time it wakes it checks the progress of the disk.
    let writer = Writer::spawn(Arc::clone(&store), Arc::clone(&measures), move || {
        let _ = notifier.try_send(Input::Written);
    })?;
    let clock = SteadyClock::starting_at(replica.cluster().position.time);
    let now = replica.cluster().position.time;
    let (callers, tickets, checkpointing, leaving) = (BTreeMap::new(), 0, false, None);
    let (peer_bytes, serves_sessions) = (Arc::clone(&handle.peer_bytes), Arc::clone(&handle.serves_sessions));
    let space = Arc::clone(&handle.space);
    let driver = Driver {
        replica,
        store,
        writer,
        outbound,
        peer_bytes,
        serves_sessions,
        space,
        inbox,
        inputs,
        publisher,
        raft_publisher,
        node_watch,
        heartbeats,
        measures,
        callers,
        readers: BTreeMap::new(),
        tickets,
        checkpointing,
        fenced: false,
        leaving,
        clock,
        now,
    };
    let over = handle.over.clone().drop_guard();
    let thread = std::thread::Builder::new().name("leader".to_owned()).spawn(move || {
        let node_watch = driver.node_watch.clone();
        let result = driver.run();
        // Woken watchers check whether the thread has ended.
        drop(over);
        node_watch.wake_all();
        result
    })?;
    Ok((handle, thread))
}

/// When the next tick is due after one that was due at `due` and came at `now`: the pace is kept, but missed ticks are not made
/// up for.
fn tick_after(due: Instant, now: Instant) -> Instant {
    let next = due + TICK;
    if next > now { next } else { now + TICK }
}

fn publish(replica: &Replica) -> Published {
    let (cluster, keyring) = (replica.cluster().clone(), Arc::clone(replica.keyring()));
    let (leads, leader) = (replica.is_leader(), replica.leader_id());
    let alone = leads && cluster.members.values().filter(|member| member.votes).count() == 1;
    Published { cluster, keyring, leads, leader, alone, quarantined: replica.quarantined(), uses: replica.uses() }
}

struct Driver {
    replica: Replica,
    store: Arc<dyn LogStore>,
    writer: Writer,
    outbound: Outbound,
    peer_bytes: Arc<AtomicUsize>,
    serves_sessions: Arc<AtomicBool>,
    space: Arc<Mutex<Option<Space>>>,
    inbox: Receiver<Input>,
    inputs: Sender<Input>,
    publisher: watch::Sender<Arc<Published>>,
    raft_publisher: watch::Sender<Arc<RaftStatus>>,
    node_watch: NodeWatch,
    heartbeats: HeartbeatTable,
    measures: Arc<Measures>,
    callers: BTreeMap<Ticket, oneshot::Sender<Outcome>>,
    readers: BTreeMap<Ticket, oneshot::Sender<Result<(), Rejection>>>,
    tickets: Ticket,
    /// Whether a checkpoint is being written.
    checkpointing: bool,
    /// Whether this manager is no longer a member: it then neither votes nor decides anything, since the cluster would not have
    /// it.
    fenced: bool,
    leaving: Option<Leaving>,
    clock: SteadyClock,
    /// The time of this round: read once, when the thread wakes.
    now: Timestamp,
}

/// State of a manager that is about to stop.
struct Leaving {
    /// Deadline for another manager to take over.
    until: Instant,
    /// Callers that wait for the handover.
    waiting: Vec<oneshot::Sender<()>>,
    /// Whether the thread ends afterwards.
    ends: bool,
}

impl Driver {
    fn run(mut self) -> Result<(), FatalError> {
        let mut next_tick = Instant::now() + TICK;
        self.now = self.clock.read().now;
        // A single manager leads from its first round; no caller has to wait for a tick.
        self.work()?;
        loop {
            if !self.take_inputs(self.sleep_time(next_tick))? || self.has_left() {
                self.writer.end()?;
                self.store.sync()?;
                return Ok(());
            }
            self.measures.progress.note();
            // Missed ticks are not made up for: raft would take them for time in which no peer was heard from.
            let now = Instant::now();
            if now >= next_tick {
                self.tick();
                next_tick = tick_after(next_tick, now);
            }
            self.work()?;
        }
    }

    fn tick(&mut self) {
        if self.fenced {
            return;
        }
        self.replica.tick();
        self.serves_sessions.store(self.replica.serves_sessions(), Ordering::Relaxed);
        self.publish_raft();
        self.show_uses();
    }

    /// How long the thread may sleep.
    fn sleep_time(&self, next_tick: Instant) -> Duration {
        let until_tick = next_tick.saturating_duration_since(Instant::now());
        if self.fenced {
            return until_tick;
        }
        if self.replica.has_work(self.now) {
            return Duration::ZERO;
        }
        self.replica.next_wake().map_or(until_tick, |wake| wake.since(self.now).min(until_tick))
    }

    /// Waits for input and takes all that is queued; returns whether to continue.
    fn take_inputs(&mut self, timeout: Duration) -> Result<bool, FatalError> {
        let inputs = self.inbox.take(Some(timeout), INPUTS_MAX);
        self.read_clock();
        let Ok(inputs) = inputs else { return Ok(false) };
        inputs.into_iter().try_for_each(|input| self.take(input))?;
        Ok(true)
    }

    /// Reads the clock, and then the heartbeats received until then. Time in which none could be received is not held against
    /// nodes.
    fn read_clock(&mut self) {
        self.clock.not_before(self.replica.cluster().position.time);
        let reading = self.clock.read();
        self.now = reading.now;
        if reading.jumped >= JUMP {
            tracing::warn!(
                seconds = reading.jumped.as_secs(),
                "the clock was set forward, or this machine was suspended"
            );
            let before = reading.now - reading.jumped;
            self.replica.grant(before, reading.now);
        }
        let news = self.heartbeats.take(reading.at, reading.now);
        for (node, session, at) in news.beats {
            self.replica.heartbeat(node, session, at);
        }
        for (node, session, uses) in news.uses {
            self.replica.note_uses(node, session, uses, reading.now);
        }
        if let Some((from, to)) = news.unresponsive {
            tracing::warn!(seconds = to.since(from).as_secs(), "this manager was paused and received no heartbeats");
            self.replica.grant(from, to);
        }
    }

    /// Hands leadership to another manager, if this one is about to stop; returns whether the thread ends.
    fn has_left(&mut self) -> bool {
        let Some(leaving) = &mut self.leaving else { return false };
        if !self.fenced && Instant::now() < leaving.until && self.replica.hand_over() {
            return false;
        }
        leaving.waiting.clear();
        leaving.ends
    }

    fn leave(&mut self, waits: Option<oneshot::Sender<()>>, ends: bool) {
        let until = Instant::now() + HAND_OVER_MAX;
        let leaving = self.leaving.get_or_insert_with(|| Leaving { until, waiting: Vec::new(), ends });
        leaving.waiting.extend(waits);
        leaving.ends |= ends;
    }

    fn take(&mut self, input: Input) -> Result<(), FatalError> {
        match input {
            Input::Submit(request, caller) => {
                self.measures.inbox.fetch_sub(1, Ordering::Relaxed);
                self.submit(*request, caller);
            }
            Input::Read(reader) => self.read(reader),
            Input::Peer(from, message) => {
                self.peer_bytes.fetch_sub(message.size(), Ordering::Relaxed);
                if !self.fenced {
                    self.replica.receive(from, message)?;
                }
            }
            Input::Unreachable(raft_id) => self.replica.unreachable(raft_id),
            Input::Fence => self.fence(),
            Input::Checkpointed(result) => {
                self.checkpointing = false;
                result?;
            }
            Input::Written => {}
            Input::Failed(error) => return Err(error.into()),
            Input::HandOver(waits) => self.leave(Some(waits), false),
            Input::Stop => self.leave(None, true),
        }
        Ok(())
    }

    /// From here on this manager does nothing but stop: it does not learn whether its pending requests took effect.
    fn fence(&mut self) {
        if std::mem::replace(&mut self.fenced, true) {
            return;
        }
        tracing::warn!("this manager is no longer a member of the cluster, and takes no commands");
        self.serves_sessions.store(false, Ordering::Relaxed);
        self.callers.clear();
        for reader in std::mem::take(&mut self.readers).into_values() {
            // Ignored: the reader may have gone away.
            let _ = reader.send(Err(no_member()));
        }
        self.show(Arc::new(Published { leads: false, leader: None, alone: false, ..publish(&self.replica) }));
        self.publisher.send_modify(|_| ());
    }

    fn submit(&mut self, request: Request, caller: oneshot::Sender<Outcome>) {
        if self.leaving.is_some() || self.fenced {
            let refusal = if self.fenced { no_member() } else { stopping() };
            let _ = caller.send(Outcome::Rejected(refusal));
            return;
        }
        self.tickets += 1;
        let ticket = self.tickets;
        match self.replica.submit(ticket, request) {
            Ok(()) => {
                self.callers.insert(ticket, caller);
            }
            Err(rejection) => {
                let _ = caller.send(Outcome::Rejected(rejection));
            }
        }
    }

    fn read(&mut self, reader: oneshot::Sender<Result<(), Rejection>>) {
        if self.fenced {
            let _ = reader.send(Err(no_member()));
            return;
        }
        self.tickets += 1;
        match self.replica.read(self.tickets) {
            Ok(()) => drop(self.readers.insert(self.tickets, reader)),
            Err(rejection) => drop(reader.send(Err(rejection))),
        }
    }

    /// Distributes what the disk made durable, takes a turn, and hands over its writes.
    fn work(&mut self) -> Result<(), FatalError> {
        self.replica.written(self.writer.written()?);
        if self.fenced {
            return Ok(());
        }
        self.advance()?;
        // Each turn uses the newest reading, and so does the leader that this manager reports it to.
        self.replica.note_space(*self.space.lock().unwrap_or_else(PoisonError::into_inner));
        let began = self.replica.has_work(self.now).then(Instant::now);
        let turn = self.replica.turn(self.now);
        self.outbound.send(turn.messages, turn.asked);
        self.answer(turn.answers);
        if let Some(began) = began {
            self.measures.turns.observe(began.elapsed());
        }
        self.advance()?;
        self.checkpoint();
        Ok(())
    }

    fn advance(&mut self) -> Result<(), FatalError> {
        let advance = self.replica.advance()?;
        let (at, of) = self.replica.catching_up().unwrap_or_default();
        self.measures.catching_up_at.store(at, Ordering::Relaxed);
        self.measures.catching_up_of.store(of, Ordering::Relaxed);
        // Before the writes: a leader's entries travel to the others while its own disk works.
        self.outbound.send(advance.messages, advance.asked);
        self.writer.give(advance.writes);
        // Readers see a state before the caller gets its answer, so that all callers read their own writes. Subscribers of all
        // states are woken after the callers, who wait for nothing else.
        let follows_another = self.publisher.borrow().leader != self.replica.leader_id();
        let is_news = advance.changed || advance.role_changed || follows_another;
        if is_news {
            let (index, leads) = (self.replica.cluster().position.index, self.replica.is_leader());
            tracing::debug!(index, leads, answers = advance.answers.len(), "committed");
            self.show(Arc::new(publish(&self.replica)));
        }
        self.answer(advance.answers);
        for (ticket, readable) in advance.reads {
            // Ignored: the reader may have gone away.
            self.readers.remove(&ticket).map(|reader| reader.send(readable));
        }
        if is_news {
            self.publisher.send_modify(|_| ());
            if advance.role_changed {
                self.publish_raft();
            }
            self.node_watch.wake(&advance.touched);
        }
        Ok(())
    }

    /// Makes a state visible to readers without waking anyone.
    fn show(&self, state: Arc<Published>) {
        self.publisher.send_if_modified(|shown| {
            *shown = state;
            false
        });
    }

    /// Publishes the resource use of tasks, if nodes reported any since the last time.
    fn show_uses(&self) {
        let (shown, uses) = (Arc::clone(&self.publisher.borrow()), self.replica.uses());
        let is_known = shown.uses.is_empty() && uses.is_empty();
        if !is_known && !Arc::ptr_eq(&shown.uses, &uses) {
            self.show(Arc::new(Published { uses, ..(*shown).clone() }));
        }
    }

    /// Publishes this manager's raft status, if it changed.
    fn publish_raft(&self) {
        let status = self.replica.raft_status();
        self.raft_publisher.send_if_modified(|shown| {
            let differs = **shown != status;
            if differs {
                *shown = Arc::new(status);
            }
            differs
        });
    }

    fn answer(&mut self, answers: Vec<(Ticket, Outcome)>) {
        for (ticket, outcome) in answers {
            if let Some(caller) = self.callers.remove(&ticket) {
                let _ = caller.send(outcome);
            }
        }
    }

    /// Writes a checkpoint in the background.
    fn checkpoint(&mut self) {
        if self.checkpointing {
            return;
        }
        let Some(job) = self.replica.take_checkpoint() else { return };
        let (store, inputs, measures) = (Arc::clone(&self.store), self.inputs.clone(), Arc::clone(&self.measures));
        let spawned = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(move || {
            let index = job.index();
            let result = job.run(&store);
            if result.is_ok() {
                measures.checkpoint.store(index, Ordering::Relaxed);
            }
            // A driver that has ended needs no checkpoint.
            let _ = inputs.send(Input::Checkpointed(result));
        });
        match spawned {
            Ok(_) => self.checkpointing = true,
            Err(error) => {
                tracing::warn!(%error, "no thread can be started for a checkpoint; the next checkpoint is taken as usual")
            }
        }
    }
}

#[cfg(test)]
mod peers;
#[cfg(test)]
mod tests;
