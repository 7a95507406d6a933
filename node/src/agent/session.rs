//! The agent's connection to the managers: one session after the other, with whichever manager answers.
//!
//! A session is four endless errands side by side: taking assignments, heartbeats, reports, and a look at the node's own
//! description. Whichever ends first ends the session; the tasks notice nothing of that.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use events::{NodeDescription, SessionId};
use rand::Rng;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};
use wire::v1::dispatcher_client::DispatcherClient;
use wire::v1::session_message::Message;
use wire::v1::{AssignmentSet, Head, HeartbeatRequest, Refusal, RefusalKind, RegisterRequest, SessionMessage, Welcome};

use super::backoff::Backoff;
use super::executor::ExecutorError;
use super::task::Site;
use super::worker::Worker;
use super::{Config, reporter};
use crate::metrics::Measures;

/// How long a manager may take to answer.
const RPC_DEADLINE: Duration = Duration::from_secs(5);
/// A session that lasted this long was a good one: the next attempt after it comes at once.
const STABLE_AFTER: Duration = Duration::from_secs(5);
/// Pause of a node that is no member, and can only become one again by hand.
const NO_MEMBER_PAUSE: Duration = Duration::from_secs(60);
/// How often the node looks at itself.
const DESCRIPTION_PERIOD: Duration = Duration::from_secs(20);
/// Shortest pause between heartbeats, whatever a manager says.
const HEARTBEAT_PERIOD_MIN: Duration = Duration::from_millis(100);
/// Largest message an agent takes: a complete set with the specs of several thousand tasks.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Pause of a node with whose certificate no manager can be reached; the clock may be set right meanwhile.
const UNFIT_PAUSE: Duration = Duration::from_secs(60);

/// What a node says when the manager does not know it. Its tasks keep running, as SwarmKit's do: nobody decided to end them,
/// and the manager may yet be restored from a newer backup, which knows this node and its tasks.
const NOT_MEMBER: &str = "the manager does not know this node: it was restored from a backup made before this node joined, or \
    removed the node because it did not register within an hour; its tasks keep running, but the cluster does not manage them";
const NOT_MEMBER_HINT: &str = "restore the manager from a newer backup; or stop swarmd, delete the certificates directory in its \
    state directory, and start it with --join-addr and --join-token: it joins as another node and removes its old tasks";

/// Why there is no connection to a manager.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It cannot be reached for the time being.
    #[error("{}", with_causes(.0.as_ref()))]
    Failed(Box<dyn Error + Send + Sync>),
    /// No manager would take what this node has to show.
    #[error("{why}")]
    Unfit {
        /// Why not.
        why: String,
        /// What a person can do about it.
        hint: &'static str,
    },
}

/// Opens connections to managers.
#[tonic::async_trait]
pub trait Connect: Send + Sync + 'static {
    /// A connection to the manager at this address, ready for calls.
    async fn connect(&self, addr: &str) -> Result<Channel, ConnectError>;
}

/// Why a session ended, or never began.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("this node cannot be described: {0}")]
    Describe(ExecutorError),
    #[error("no connection: {0}")]
    Connect(ConnectError),
    #[error("{call} was refused: {}", .status.message())]
    Refused { call: &'static str, status: Status },
    #[error("{0} was not answered within {seconds} s", seconds = RPC_DEADLINE.as_secs())]
    Late(&'static str),
    #[error("the manager closed it")]
    Closed,
    #[error("the manager belongs to another cluster, {0}")]
    OtherCluster(events::ClusterId),
    #[error("the manager sent {0}")]
    Unexpected(&'static str),
    #[error("assignments are missing: a set for {applies_to} came after {after}")]
    Gap { after: u64, applies_to: u64 },
    #[error("the manager acknowledged report {acknowledged} where {sent} was sent")]
    Acknowledged { sent: u64, acknowledged: u64 },
    #[error("this node's description changed")]
    DescriptionChanged,
}

impl Ended {
    /// What a manager refused. Only a manager of the cluster can: the connection proved it to be one.
    fn refusal(&self) -> Option<RefusalKind> {
        let Self::Refused { status, .. } = self else { return None };
        Refusal::from_status(status).map(|refusal| refusal.kind())
    }
}

/// An error and what caused it, on one line.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_causes(cause)),
        None => error.to_string(),
    }
}

/// The answer to a call, if it comes in time.
pub(super) async fn within_deadline<T>(
    call: &'static str,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Ended> {
    let answer = tokio::time::timeout(RPC_DEADLINE, answer).await.map_err(|_| Ended::Late(call))?;
    answer.map_err(|status| Ended::Refused { call, status })
}

/// Keeps a session open, for ever.
///
/// `seen` is the last frame of history that this node was told of before it restarted.
pub(super) async fn hold(
    config: &Config,
    connector: &dyn Connect,
    site: &Site,
    worker: &Arc<Worker>,
    seen: Option<Head>,
) -> Infallible {
    let mut managers = Managers::new(&config.managers, seen);
    let mut backoff = Backoff::default();
    loop {
        let manager = managers.pick();
        let session = Session { config, connector, site, worker };
        let begun = Instant::now();
        let Err(ended) = session.run(&manager, &mut managers).await;
        site.outbox.close();
        // Two agents of one identity end each other's sessions; neither may do so at full speed.
        if begun.elapsed() >= STABLE_AFTER {
            backoff.reset();
        }
        let mut pause = backoff.pause(&mut rand::rng());
        if ended.refusal() == Some(RefusalKind::Removed) {
            worker.withdraw_all();
            pause = NO_MEMBER_PAUSE;
            let hint = "to join again, stop swarmd, empty its state directory and start it with a join token";
            tracing::error!(hint, "this node was removed from the cluster: its tasks are stopped and removed");
        } else if ended.refusal() == Some(RefusalKind::NotMember) {
            pause = NO_MEMBER_PAUSE;
            tracing::error!(hint = NOT_MEMBER_HINT, "{NOT_MEMBER}");
        } else if let Ended::Connect(ConnectError::Unfit { why, hint }) = &ended {
            pause = UNFIT_PAUSE;
            tracing::error!(hint, "no manager accepts this node: {why}; its tasks keep running");
        } else {
            tracing::warn!(manager, pause_ms = pause.as_millis(), "no session: {ended}");
        }
        tokio::time::sleep(pause).await;
    }
}

struct Session<'a> {
    config: &'a Config,
    connector: &'a dyn Connect,
    site: &'a Site,
    worker: &'a Arc<Worker>,
}

/// A session that is open, for as long as this is kept.
struct Open<'a>(&'a Measures);

impl<'a> Open<'a> {
    fn note(measures: &'a Measures) -> Self {
        measures.session.store(true, Ordering::Relaxed);
        Self(measures)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.session.store(false, Ordering::Relaxed);
    }
}

impl Session<'_> {
    async fn run(&self, manager: &str, managers: &mut Managers) -> Result<Infallible, Ended> {
        let description = self.describe().await.map_err(Ended::Describe)?;
        let connecting = tokio::time::timeout(RPC_DEADLINE, self.connector.connect(manager));
        let channel = connecting.await.map_err(|_| Ended::Late("connecting"))?.map_err(Ended::Connect)?;
        let mut client = DispatcherClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (welcome, stream) = self.register(&mut client, &description, managers.seen.clone()).await?;
        managers.learn(welcome.managers);
        tracing::info!(manager, session = %welcome.session, "session opened");
        let _open = Open::note(&self.config.measures);
        let period = Duration::from_nanos(welcome.heartbeat_period_ns);
        tokio::select! {
            ended = self.take_assignments(stream, managers) => ended,
            ended = heartbeats(client.clone(), welcome.session, period) => ended,
            ended = reporter::deliver(&self.site.outbox, client, welcome.session) => ended,
            ended = self.watch_description(&description) => ended,
        }
    }

    async fn register(
        &self,
        client: &mut DispatcherClient<Channel>,
        description: &NodeDescription,
        seen: Option<Head>,
    ) -> Result<(Welcome, Streaming<SessionMessage>), Ended> {
        let advertise_addr = self.config.advertise_addr.clone();
        let request = RegisterRequest { description: description.clone(), advertise_addr, seen };
        let registering = async {
            let mut stream = client.session(request).await.map(Response::into_inner)?;
            stream.message().await.map(|first| (first, stream))
        };
        let (first, stream) = within_deadline("registration", registering).await?;
        match first.ok_or(Ended::Closed)?.message {
            Some(Message::Welcome(welcome)) if welcome.cluster == self.config.cluster => Ok((welcome, stream)),
            Some(Message::Welcome(welcome)) => Err(Ended::OtherCluster(welcome.cluster)),
            Some(Message::Assignments(_)) => Err(Ended::Unexpected("assignments before a welcome")),
            None => Err(Ended::Unexpected("a message that this version does not know")),
        }
    }

    async fn take_assignments(
        &self,
        mut stream: Streaming<SessionMessage>,
        managers: &mut Managers,
    ) -> Result<Infallible, Ended> {
        let mut sequence = Sequence::default();
        loop {
            let message = stream.message().await.map_err(|status| Ended::Refused { call: "the session", status })?;
            match message.ok_or(Ended::Closed)?.message {
                Some(Message::Assignments(set)) => {
                    sequence.follow(&set)?;
                    self.note_head(set.head.as_ref(), managers);
                    let complete = set.complete;
                    let (tasks, removed) = (set.tasks.len(), set.removed.len());
                    tracing::debug!(complete, tasks, removed, "assignments taken");
                    self.worker.assign(set);
                    if complete {
                        self.site.outbox.open();
                    }
                }
                Some(Message::Welcome(welcome)) => managers.learn(welcome.managers),
                None => return Err(Ended::Unexpected("a message that this version does not know")),
            }
        }
    }

    /// Remembers the last frame of history, also for the next start of this node. It comes with assignments, and so is
    /// written no oftener than they are.
    fn note_head(&self, head: Option<&Head>, managers: &mut Managers) {
        let Some(head) = head.filter(|head| managers.seen.as_ref() != Some(head)) else { return };
        if let Err(error) = self.site.store.save_head(head) {
            tracing::warn!(%error, "the end of history is not kept: after a restart this node cannot tell a restored manager");
        }
        managers.seen = Some(head.clone());
    }

    /// Ends the session once this node is not what it said when it registered. An engine that cannot be asked for a
    /// while is no reason: its tasks say so themselves.
    async fn watch_description(&self, registered: &NodeDescription) -> Result<Infallible, Ended> {
        loop {
            tokio::time::sleep(DESCRIPTION_PERIOD).await;
            match self.describe().await {
                Ok(description) if description == *registered => {}
                Ok(_) => return Err(Ended::DescriptionChanged),
                Err(error) => tracing::warn!("this node cannot be described: {error}"),
            }
        }
    }

    /// What the executor says of the machine, and what the operator says of the node.
    async fn describe(&self) -> Result<NodeDescription, ExecutorError> {
        let late = |_| ExecutorError::Temporary("the engine does not answer".to_owned());
        let described = tokio::time::timeout(RPC_DEADLINE, self.site.executor.describe()).await;
        let mut description = described.map_err(late)??;
        description.hostname.clone_from(&self.config.hostname);
        description.version = env!("CARGO_PKG_VERSION").to_owned();
        let generic = &mut description.resources.get_or_insert_default().generic;
        generic.extend_from_slice(&self.config.generic_resources);
        Ok(description)
    }
}

async fn heartbeats(
    mut client: DispatcherClient<Channel>,
    session: SessionId,
    mut period: Duration,
) -> Result<Infallible, Ended> {
    loop {
        tokio::time::sleep(period.max(HEARTBEAT_PERIOD_MIN)).await;
        let reply = within_deadline("a heartbeat", client.heartbeat(HeartbeatRequest { session })).await?;
        period = Duration::from_nanos(reply.get_ref().period_ns);
    }
}

/// Where the assignments of one session are, so that a lost set is noticed.
#[derive(Debug, Default)]
struct Sequence(Option<u64>);

impl Sequence {
    fn follow(&mut self, set: &AssignmentSet) -> Result<(), Ended> {
        match self.0 {
            _ if set.complete => {}
            None => return Err(Ended::Unexpected("changed assignments before all of them")),
            Some(after) if after != set.applies_to => return Err(Ended::Gap { after, applies_to: set.applies_to }),
            Some(_) => {}
        }
        self.0 = Some(set.results_in);
        Ok(())
    }
}

/// The managers' addresses, asked in turn from a random first one, so that agents spread over them; and what they told.
#[derive(Debug)]
struct Managers {
    addrs: Vec<String>,
    /// The addresses that this node was told to begin with: they may be the only ones that lead from here to there.
    first: Vec<String>,
    next: usize,
    /// The last frame of history that a manager told of.
    seen: Option<Head>,
}

impl Managers {
    fn new(addrs: &[String], seen: Option<Head>) -> Self {
        let next = rand::rng().random_range(0..addrs.len().max(1));
        Self { addrs: addrs.to_vec(), first: addrs.to_vec(), next, seen }
    }

    fn pick(&mut self) -> String {
        let addr = self.addrs.get(self.next % self.addrs.len().max(1)).cloned().unwrap_or_default();
        self.next = self.next.wrapping_add(1);
        addr
    }

    /// A manager told who the managers are.
    fn learn(&mut self, addrs: Vec<String>) {
        let known = self.first.iter().filter(|first| !addrs.contains(first)).cloned().collect::<Vec<_>>();
        self.addrs = addrs.into_iter().chain(known).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(complete: bool, applies_to: u64, results_in: u64) -> AssignmentSet {
        AssignmentSet { complete, applies_to, results_in, ..AssignmentSet::default() }
    }

    #[test]
    fn a_gap_in_the_assignments_is_noticed() {
        let mut sequence = Sequence::default();
        assert!(matches!(sequence.follow(&set(false, 0, 1)), Err(Ended::Unexpected(_))));
        assert!(sequence.follow(&set(true, 0, 7)).is_ok());
        assert!(sequence.follow(&set(false, 7, 9)).is_ok());
        assert!(matches!(sequence.follow(&set(false, 7, 9)), Err(Ended::Gap { after: 9, applies_to: 7 })));
        assert!(matches!(sequence.follow(&set(false, 10, 11)), Err(Ended::Gap { after: 9, applies_to: 10 })));
        assert!(sequence.follow(&set(true, 0, 2)).is_ok(), "a complete set begins anew");
        assert!(sequence.follow(&set(false, 2, 3)).is_ok());
    }

    #[test]
    fn managers_are_asked_in_turn() {
        let mut managers = Managers::new(&["a".into(), "b".into()], None);
        let first = managers.pick();
        assert_ne!(managers.pick(), first);
        assert_eq!(managers.pick(), first);
        managers.learn(vec![]);
        assert_ne!(managers.pick(), first);
        managers.learn(vec!["c".into()]);
        let all: std::collections::BTreeSet<String> = (0..3).map(|_| managers.pick()).collect();
        assert_eq!(all, ["a", "b", "c"].map(str::to_owned).into());
    }
}
