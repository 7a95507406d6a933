//! Sends events to sinks while this manager leads. The progress of each is recorded in the log, so that the next leader continues
//! from there: events that are sent twice then have the same ids. Turns never wait for it: at most two sinks read history at a
//! time, at idle priority, and each sink waits only for its own receiver.
//!
//! Suggested order: [`pace`] and [`batch`] (what is sent when, as functions), then this file, [`file`] and [`webhook`] (how).

mod batch;
mod file;
mod pace;
mod webhook;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use commands::{Actor, Command, Rejection, ReportSink};
use events::{NodeId, SinkId};
use projections::sinks::sink_key;
use projections::{Sink, SinkState};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use wire::redaction::Redaction;
use wire::v1::EventsRequest;

use crate::control::event_reader::EventReader;
use crate::log::LogStore;
use crate::manager::driver::{Handle, Published};
use crate::manager::replica::{Outcome, Request};
use crate::manager::scrub::run_when_idle;

use batch::{Batch, batches};

/// Maximum number of sinks that read history at a time.
const READERS_MAX: usize = 2;

/// This manager's flags for sinks.
#[derive(Debug, Clone, Default)]
pub struct SinkSettings {
    /// The only directory in which sinks may write files.
    pub dir: Option<PathBuf>,
    /// The authorities that verify receivers' certificates; `None`: the system's.
    pub roots: Option<PathBuf>,
}

/// The sinks of a manager.
pub struct Sinks {
    core: Handle,
    store: Arc<dyn LogStore>,
    node: NodeId,
    settings: SinkSettings,
    readers: Arc<Semaphore>,
}

/// The task that sends to one sink; it ends when this is dropped.
struct Sending(JoinHandle<()>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The events to send next.
struct Found {
    batches: Vec<Batch>,
    /// Includes all selected events up to this frame, except for those sent before.
    up_to: u64,
}

impl Sinks {
    /// The sinks of this manager.
    pub fn new(core: Handle, store: Arc<dyn LogStore>, node: NodeId, settings: SinkSettings) -> Self {
        Self { core, store, node, settings, readers: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// Sends to all active sinks whenever this manager leads, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let sinks = Arc::new(self);
        let mut states = sinks.core.states();
        let mut sending: BTreeMap<SinkId, Sending> = BTreeMap::new();
        loop {
            let state = Arc::clone(&states.borrow_and_update());
            let active = |sink: &&Sink| state.leads && sink.state == SinkState::Active;
            sending.retain(|id, _| state.cluster.sinks.get(*id).as_ref().is_some_and(active));
            for sink in state.cluster.sinks.values().filter(active) {
                let start = || Sending(tokio::spawn(Arc::clone(&sinks).send(sink.clone())));
                sending.entry(sink.id).or_insert_with(start);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = states.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Sends the events of a sink, until the core ends.
    async fn send(self: Arc<Self>, sink: Sink) {
        let mut states = self.core.states();
        let (mut delivery, mut failures) = (Delivery::from(sink.position), 0_u32);
        loop {
            if delivery.due().is_some_and(|due| due <= Instant::now()) {
                self.note(&sink, &mut delivery).await;
            }
            match self.step(&sink, &mut delivery).await {
                Ok(()) => failures = 0,
                Err(why) => {
                    failures = failures.saturating_add(1);
                    tracing::debug!(sink = %sink.spec.name, failures, why, "events cannot be sent to a sink");
                    self.report(&sink, Err(why)).await;
                    sleep(pace::pause(failures, rand::random())).await;
                }
            }
            if delivery.is_at_end && self.wait(&sink, &mut states, &mut delivery).await.is_err() {
                return;
            }
        }
    }

    /// Sends the next batch, or reads more if all were sent.
    async fn step(&self, sink: &Sink, delivery: &mut Delivery) -> Result<(), String> {
        if let Some(batch) = delivery.pending.front() {
            self.deliver(sink, batch).await?;
            delivery.pending.pop_front();
            delivery.arrived = delivery.pending.is_empty().then_some(delivery.cursor).or(delivery.arrived);
            return Ok(());
        }
        let Found { batches, up_to } = self.read(sink, delivery.cursor).await?;
        (delivery.cursor, delivery.is_at_end, delivery.pending) = (up_to, batches.is_empty(), batches.into());
        if delivery.pending.is_empty() && pace::is_far_from(delivery.noted, up_to) {
            delivery.arrived = Some(up_to);
        }
        Ok(())
    }

    /// The selected events after a frame, as many as are read at once.
    async fn read(&self, sink: &Sink, cursor: u64) -> Result<Found, String> {
        let _reading = self.readers.acquire().await.map_err(|error| error.to_string())?;
        let request = EventsRequest {
            from: Some(cursor + 1),
            kinds: sink.spec.kinds.clone(),
            actors: sink.spec.actors.clone(),
            commands: sink.spec.commands.clone(),
            object: Some(sink.spec.object.clone()).filter(|object| !object.is_empty()),
            node: Some(sink.spec.node.clone()).filter(|node| !node.is_empty()),
            ..EventsRequest::default()
        };
        let redaction = Redaction { env: sink.spec.redact_env, labels: sink.spec.redact_labels };
        let (store, state) = (Arc::clone(&self.store), self.core.state());
        let (made, answer) = oneshot::channel();
        let thread = std::thread::Builder::new().name("sink".to_owned()).spawn(move || {
            run_when_idle();
            let found = find(store, &state, request, redaction, &made);
            // The caller may be gone by now.
            let _ = made.send(found);
        });
        thread.map_err(|error| format!("cannot create a thread to read history: {error}"))?;
        answer.await.map_err(|_| "the reading of history broke off".to_owned())?
    }

    async fn deliver(&self, sink: &Sink, batch: &Batch) -> Result<(), String> {
        if sink.spec.file.is_empty() {
            let keyring = Arc::clone(&self.core.state().keyring);
            let key = keyring.get(&sink_key(sink.id)).map(|key| key.reveal());
            if sink.signed && key.is_none() {
                return Err("the key to sign with is not in the keyring".to_owned());
            }
            return webhook::post(&sink.spec.webhook, self.settings.roots.as_deref(), key, batch).await;
        }
        let Some(dir) = self.settings.dir.clone() else {
            return Err("the manager that leads was started without --sink-dir".to_owned());
        };
        let (name, batch) = (sink.spec.file.clone(), batch.clone());
        let written = tokio::task::spawn_blocking(move || {
            file::append(&dir, &name, &batch)
                .map_err(|error| format!("cannot write {}: {error}", dir.join(&name).display()))
        });
        written.await.map_err(|error| error.to_string())?
    }

    /// Waits until there is more history; records progress when that is due.
    async fn wait(
        &self,
        sink: &Sink,
        states: &mut watch::Receiver<Arc<Published>>,
        delivery: &mut Delivery,
    ) -> Result<(), watch::error::RecvError> {
        delivery.is_at_end = false;
        // Events at short intervals are sent together.
        sleep(pace::LOOK).await;
        while states.borrow_and_update().cluster.position.index <= delivery.cursor {
            tokio::select! {
                changed = states.changed() => changed?,
                () = sleep_until(delivery.due().unwrap_or_else(Instant::now)), if delivery.arrived.is_some() => {
                    self.note(sink, delivery).await;
                }
            }
        }
        Ok(())
    }

    async fn note(&self, sink: &Sink, delivery: &mut Delivery) {
        if let Some(arrived) = delivery.arrived.take() {
            (delivery.noted, delivery.noted_at) = (arrived, Some(Instant::now()));
            self.report(sink, Ok(arrived)).await;
        }
    }

    async fn report(&self, sink: &Sink, outcome: Result<u64, String>) {
        let report = Command::ReportSink(ReportSink { sink: sink.id, outcome });
        let reported = self.core.submit(Request::unnamed(Actor::Manager(self.node), report)).await;
        if !matches!(reported, Outcome::Committed { .. }) {
            tracing::debug!(sink = %sink.spec.name, ?reported, "how a sink does was not noted");
        }
    }
}

/// The progress of a sink.
#[derive(Default)]
struct Delivery {
    /// All selected events up to this frame were sent, or are pending.
    cursor: u64,
    pending: VecDeque<Batch>,
    /// Whether the end of history was reached.
    is_at_end: bool,
    /// Everything up to this frame was delivered, which is not recorded yet.
    arrived: Option<u64>,
    /// The last recorded progress, and when this manager recorded it.
    noted: u64,
    noted_at: Option<Instant>,
}

impl Delivery {
    fn from(position: u64) -> Self {
        Self { cursor: position, noted: position, ..Self::default() }
    }

    /// When progress may be recorded, if there is any.
    fn due(&self) -> Option<Instant> {
        self.arrived?;
        Some(self.noted_at.map_or_else(Instant::now, |noted| noted + pace::NOTED_EVERY))
    }
}

/// Reads until there is something to send, history ends, or the caller is gone.
fn find(
    store: Arc<dyn LogStore>,
    state: &Published,
    request: EventsRequest,
    redaction: Redaction,
    made: &oneshot::Sender<Result<Found, String>>,
) -> Result<Found, String> {
    let unreadable = |rejection: Rejection| rejection.sentence;
    let cluster = &state.cluster;
    let mut reader = EventReader::open(store, cluster, request).map_err(unreadable)?;
    while let Some(records) = reader.page(cluster).map_err(unreadable)?.filter(|_| !made.is_closed()) {
        let batches = batches(cluster.id(), redaction, &records).map_err(|error| error.to_string())?;
        if let Some(last) = records.last().filter(|_| !batches.is_empty()) {
            return Ok(Found { batches, up_to: last.index });
        }
    }
    Ok(Found { batches: Vec::new(), up_to: cluster.position.index })
}
