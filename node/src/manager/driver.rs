//! The thread that drives the leader: it waits for the inbox, for raft's ticks and for timers, lets the leader work, and
//! hands out what came of it: writes to the thread of the log, for which it never waits, answers to callers, states to
//! readers, messages to whoever carries them to other managers. Everything that can wake a manager's core is in [`Input`].

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

/// A jump of the clock from which on nodes are given the time that did not pass for them. Less is the clock being adjusted.
const JUMP: Duration = Duration::from_secs(1);
/// Inputs taken before a turn runs: all that are queued, up to this bound.
const INPUTS_MAX: usize = 4_096;

/// How long a leader that is to stop waits for another one to lead: an election takes a few round trips, and whoever is in the
/// way of more than that would not have led soon anyhow.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// The committed state as everybody reads it.
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
    /// Whether it leads alone: nobody else can have committed anything that is not in this state.
    pub alone: bool,
    /// The services over which the reconcilers found no rest, and until when they are left alone.
    pub set_aside: Arc<BTreeMap<ServiceId, Timestamp>>,
    /// What the tasks of autoscaled services use, which only a manager that leads knows. It is no part of the state.
    pub uses: Arc<Uses>,
}

/// Everything that can wake the thread, besides time.
enum Input {
    Submit(Box<Request>, oneshot::Sender<Outcome>),
    /// Somebody reads, and is to see everything that was acknowledged.
    Read(oneshot::Sender<Result<(), Rejection>>),
    /// What another manager says, by its raft id.
    Peer(u64, PeerMessage),
    /// Messages for another manager, by its raft id, do not get there.
    Unreachable(u64),
    /// Another manager says that this one is a member no more.
    Fence,
    Checkpointed(Result<(), LogError>),
    /// The log's thread has something to say.
    Written,
    /// A write of another thread failed.
    Failed(LogError),
    /// This manager is about to stop: another one is to lead. What is given is dropped once that is so, or in vain.
    HandOver(oneshot::Sender<()>),
    Stop,
}

/// What callers are answered while this manager ends.
pub(crate) fn stopping() -> Rejection {
    Rejection::new(
        RejectionKind::Unavailable,
        "manager",
        "this manager is stopping",
        "ask another manager, or try again",
    )
}

/// What callers are answered once this manager is a member no more.
fn no_member() -> Rejection {
    Rejection::new(
        RejectionKind::Unavailable,
        "manager",
        "this manager is not a member of the cluster any more: its node was demoted, or the cluster goes on without it",
        "ask another manager; what was asked here just before may have taken effect",
    )
}

/// Starts the thread of a manager that has no others. It ends when told to, or with the error that made it impossible to go on.
pub fn spawn(
    replica: Replica,
    store: Arc<dyn LogStore>,
) -> std::io::Result<(Handle, JoinHandle<Result<(), FatalError>>)> {
    spawn_among(replica, store, |_, message| tracing::debug!(?message, "nobody carries messages to other managers"))
}

/// Starts the thread of a manager among others. `carry` takes what is for another one, by its raft id: it must neither wait nor
/// keep more than it has room for, and may drop what it is given.
pub fn spawn_among(
    replica: Replica,
    store: Arc<dyn LogStore>,
    carry: impl Fn(u64, PeerMessage) + Clone + Send + 'static,
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
    let outbound = Outbound::spawn(Arc::clone(&store), carry)?;
    let notifier = inputs.clone();
    // A full inbox wakes the thread as well, and whenever it wakes it asks how far the disk is.
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
        // Who is woken looks whether it is over.
        drop(over);
        node_watch.wake_all();
        result
    })?;
    Ok((handle, thread))
}

/// When the tick is due after one that was due at `due` and came `now`: the pace is kept, but a tick that was missed is not made up for.
fn tick_after(due: Instant, now: Instant) -> Instant {
    let next = due + TICK;
    if next > now { next } else { now + TICK }
}

fn publish(replica: &Replica) -> Published {
    let (cluster, keyring) = (replica.cluster().clone(), Arc::clone(replica.keyring()));
    let (leads, leader) = (replica.is_leader(), replica.leader_id());
    let alone = leads && cluster.members.values().filter(|member| member.votes).count() == 1;
    Published { cluster, keyring, leads, leader, alone, set_aside: replica.set_aside(), uses: replica.uses() }
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
    /// Whether this manager is a member no more: it neither votes nor decides anything, which the cluster would not have.
    fenced: bool,
    leaving: Option<Leaving>,
    clock: SteadyClock,
    /// The time of this round: read once, when the thread wakes up.
    now: Timestamp,
}

/// This manager is about to stop.
struct Leaving {
    /// Until when another one may take over.
    until: Instant,
    /// Who waits for that.
    waiting: Vec<oneshot::Sender<()>>,
    /// Whether the thread ends then.
    ends: bool,
}

impl Driver {
    fn run(mut self) -> Result<(), FatalError> {
        let mut next_tick = Instant::now() + TICK;
        self.now = self.clock.read().now;
        // A single manager leads from its first round on; nobody has to wait for a tick.
        self.work()?;
        loop {
            if !self.take_inputs(self.patience(next_tick))? || self.has_left() {
                self.writer.end()?;
                self.store.sync()?;
                return Ok(());
            }
            self.measures.progress.note();
            // Ticks that were missed are not made up for: raft would take them for a time in which nobody was heard.
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

    /// How long nothing needs to be done.
    fn patience(&self, next_tick: Instant) -> Duration {
        let until_tick = next_tick.saturating_duration_since(Instant::now());
        if self.fenced {
            return until_tick;
        }
        if self.replica.has_work(self.now) {
            return Duration::ZERO;
        }
        self.replica.next_wake().map_or(until_tick, |wake| wake.since(self.now).min(until_tick))
    }

    /// Waits for input and takes what is there; whether to go on.
    fn take_inputs(&mut self, patience: Duration) -> Result<bool, FatalError> {
        let inputs = self.inbox.take(Some(patience), INPUTS_MAX);
        self.read_clock();
        let Ok(inputs) = inputs else { return Ok(false) };
        inputs.into_iter().try_for_each(|input| self.take(input))?;
        Ok(true)
    }

    /// Reads the clock, and then what was heard until then. Time in which nobody could be heard is not held against nodes.
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
        if let Some((from, to)) = news.deaf {
            tracing::warn!(seconds = to.since(from).as_secs(), "this manager was paused and received no heartbeats");
            self.replica.grant(from, to);
        }
    }

    /// Lets another manager lead, if this one is about to stop; whether the thread is to end.
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

    /// From here on this manager does nothing but end: whether what it was asked took effect, it does not hear.
    fn fence(&mut self) {
        if std::mem::replace(&mut self.fenced, true) {
            return;
        }
        tracing::warn!("this manager is not a member of the cluster any more, and takes no commands");
        self.serves_sessions.store(false, Ordering::Relaxed);
        self.callers.clear();
        for reader in std::mem::take(&mut self.readers).into_values() {
            // One that is gone waits no more.
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

    /// Hands out what the disk made durable, takes a turn, and hands its writes over.
    fn work(&mut self) -> Result<(), FatalError> {
        self.replica.written(self.writer.written()?);
        if self.fenced {
            return Ok(());
        }
        self.advance()?;
        // Each turn judges by the newest reading, and so does the leader that is told of it.
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
        // Before the writes: a leader's entries are on their way to the others while its own disk is at work.
        self.outbound.send(advance.messages, advance.asked);
        self.writer.give(advance.writes);
        // Readers see a state before its caller hears of it, so that everybody reads their own writes. Those who follow all
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
            // A reader that is gone waits no more.
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

    /// Lets everybody who looks see a state, and wakes nobody.
    fn show(&self, state: Arc<Published>) {
        self.publisher.send_if_modified(|shown| {
            *shown = state;
            false
        });
    }

    /// Shows what tasks use, if nodes said so since.
    fn show_uses(&self) {
        let (shown, uses) = (Arc::clone(&self.publisher.borrow()), self.replica.uses());
        let is_known = shown.uses.is_empty() && uses.is_empty();
        if !is_known && !Arc::ptr_eq(&shown.uses, &uses) {
            self.show(Arc::new(Published { uses, ..(*shown).clone() }));
        }
    }

    /// Shows where this manager stands in raft, if that is elsewhere than before.
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

    /// Writes a checkpoint beside the turns.
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
            // A driver that is gone needs no checkpoint.
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
