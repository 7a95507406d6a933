//! A manager's core on its disk: opened, initialized if there is no cluster yet, and brought up to date with its log.

mod new_cluster;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use commands::{Actor, Command};
use events::{ClusterId, CommandId, Id, NodeId, Role};
use projections::{Cluster, snapshot};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::clock;
use crate::control::audit;
use crate::daemon::failure::Failure;
use crate::daemon::memory_limit;
use crate::daemon::state_dir::{self, StateDir};
use crate::level::feature_level;
use crate::log::{CheckpointPart, Checkpoints, Consensus, Loaded, LogError, LogStore, Membership, RocksStore, Table};
use crate::manager::alone;
use crate::manager::archiver::{self, Archiver};
use crate::manager::driver::{self, Handle};
use crate::manager::fold::Folded;
use crate::manager::indexer::{self, Indexer};
use crate::manager::journal;
use crate::manager::redactor::{self, Redactor};
use crate::manager::replica::{FatalError, Intervals, Outcome, PeerMessage, Replica, Request, membership};
use crate::manager::scrub::{self, OtherHistories, Scrubber};
use crate::security::seal::KeyFile;
use crate::security::{
    CertificateRequest, CertificateStore, ExternalClient, Identity, IdentityError, Issued, SignError, Signer, Subject,
    TrustedRoots,
};

use new_cluster::NewCluster;

/// Hint for a manager without a valid certificate where the certificate authority is external and has signed none.
const NO_CERTIFICATE_HINT: &str = "this manager has no valid certificate and asks without one: allow that on the server, and start \
     swarmd again; or, if the cluster has other managers, `swarmctl node rm --force` this node there, run `swarmd leave --force` \
     here and join again";

/// How often a log that is to be closed is checked for readers, 10 ms apart: 5 s in all, many times as long as a read takes.
const RELEASE_LOOKS_MAX: u32 = 500;
const RELEASE_LOOK_PERIOD: Duration = Duration::from_millis(10);

/// A manager's core, running.
pub struct Core {
    /// The handle to its thread.
    pub handle: Handle,
    /// The log.
    pub store: Arc<dyn LogStore>,
    /// This manager.
    pub node: NodeId,
    /// Its raft id, which belongs to its log.
    pub raft_id: u64,
    /// The thread that drives it.
    pub thread: JoinHandle<Result<(), FatalError>>,
    /// The file of the log's data keys, where the log is on a disk.
    pub key_file: Option<Arc<KeyFile>>,
    /// The thread that verifies its history, once started.
    scrubber: Option<Scrubber>,
    /// The thread that maintains the index of its history, once started.
    indexer: Option<Indexer>,
    /// The thread that moves old history into archives, once started.
    archiver: Option<Archiver>,
    /// The thread that erases values from the disk, once started.
    redactor: Option<Redactor>,
    /// The thread that logs committed events for operators, once started.
    journal: Option<JoinHandle<()>>,
    /// Index of the last frame of earlier runs.
    pub began_after: u64,
}

/// A log that was read before anything on its disk is changed.
#[derive(Default)]
pub struct Read {
    /// The state folded from it; `None` if there is no log yet.
    folded: Option<Folded>,
    /// This manager's node id, if the log records it.
    node: Option<NodeId>,
    /// What to do with the checkpoints.
    checkpoints: Checkpoints,
    /// Whether the manager is to continue alone.
    alone: bool,
    /// Where its archives are.
    archives: Option<PathBuf>,
}

/// Reads the log in the state directory, with its archives in another directory, and changes nothing: a refused start leaves the
/// log intact for repair.
///
/// # Errors
/// When a start would have to refuse the log.
pub fn read(state_dir: &StateDir, archives: Option<PathBuf>) -> Result<Read, Failure> {
    let Some(store) = RocksStore::open_to_verify(&state_dir::log(state_dir.path()), state_dir.keys())? else {
        return Ok(Read { archives, ..Read::default() });
    };
    let store = store.with_archives(archives.clone());
    let loaded = store.examine()?;
    let mut folded = fold(&store, &loaded)?;
    require_known_level(&folded.cluster)?;
    let node = member(&folded.cluster, &loaded)?;
    let checkpoints = store.checkpoint_action();
    if checkpoints == Checkpoints::Discard {
        // The next one is due as if none had been written.
        folded.checkpoint = 0;
    }
    Ok(Read { folded: Some(folded), node, checkpoints, alone: false, archives })
}

impl Read {
    /// The same, for a manager that is to continue without the others.
    #[must_use]
    pub fn going_alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// This manager's node id, if the log records it.
    pub fn node(&self) -> Option<NodeId> {
        self.node
    }

    /// Addresses of the other voters, as recorded in the log.
    pub fn voters(&self) -> Vec<String> {
        let members = self.folded.iter().flat_map(|folded| folded.cluster.members.values());
        let others = members.filter(|member| member.votes && Some(member.node) != self.node);
        others.map(|member| member.addr.clone()).collect()
    }

    /// Addresses of managers, as recorded in the log.
    pub fn managers(&self) -> Vec<String> {
        let members = self.folded.iter().flat_map(|folded| folded.cluster.members.values());
        members.filter(|member| Some(member.node) != self.node).map(|member| member.addr.clone()).collect()
    }
}

/// The identity with which a manager starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// It creates a cluster, unless it has one already; a new node gets the drawn id.
    Founder(NodeId),
    /// It is this node according to its certificate; if there is no log yet, it joins the cluster with an empty one.
    Member(NodeId),
}

/// Opens the log in the state directory, initializes it if it is empty, and starts the core on it. What was already read of it is
/// not read again. `send` sends messages to other managers, as in [`driver::spawn_among`].
///
/// # Errors
/// When the log cannot be used.
pub fn start(
    state_dir: &StateDir,
    read: Read,
    begin: Begin,
    send: impl Fn(u64, PeerMessage) + Clone + Send + 'static,
) -> Result<Core, Failure> {
    let path = state_dir.make_log()?;
    let store = RocksStore::open_with(&path, read.checkpoints, state_dir.keys())?;
    let key_file = store.key_file(&path);
    let store: Arc<dyn LogStore> = Arc::new(store.with_archives(read.archives));
    if read.alone {
        let loaded = store.load()?;
        let before = read.folded.as_ref().map(|folded| folded.cluster.clone()).unwrap_or_default();
        alone::begin(&*store, &loaded, &before, &mut rand::random)?;
    }
    let mut core = start_on(Arc::clone(&store), read.folded, begin, send, None)?;
    core.key_file = Some(Arc::new(key_file));
    Ok(core)
}

fn no_thread(error: std::io::Error) -> Failure {
    Failure::new(format!("no thread for the core: {error}"), "free some memory, or raise the limit on threads")
}

/// Starts the core on a log restored from a backup: it continues alone, as another cluster if an id is given.
///
/// # Errors
/// When the log cannot be used.
pub(crate) fn start_restored(store: Arc<dyn LogStore>, cluster: Option<ClusterId>) -> Result<Core, Failure> {
    start_on(store, None, Begin::Founder(NodeId::default()), |_, _| {}, cluster)
}

fn start_on(
    store: Arc<dyn LogStore>,
    folded: Option<Folded>,
    begin: Begin,
    send: impl Fn(u64, PeerMessage) + Clone + Send + 'static,
    another: Option<ClusterId>,
) -> Result<Core, Failure> {
    let mut loaded = store.load()?;
    if loaded.membership.is_none() {
        match begin {
            Begin::Founder(drawn) => Consensus::bootstrap(&*store, raft_id(drawn))?,
            // Drawn at random: the raft id of a log that this node lost must never be used again.
            Begin::Member(_) => store.initialize(&Membership::joining(raft_id(NodeId::from_bits(rand::random()))))?,
        }
        loaded = store.load()?;
    }
    let folded = match folded.filter(|folded| folded.end() == loaded.last_frame) {
        Some(folded) => folded,
        None => fold(&*store, &loaded)?,
    };
    // Until the first frame is applied, only the raft id identifies this node.
    let node = match begin {
        Begin::Founder(drawn) => member(&folded.cluster, &loaded)?.or_else(|| founder(&loaded)).unwrap_or(drawn),
        Begin::Member(node) => node,
    };
    let own = own_raft_id(&loaded).unwrap_or_else(|| raft_id(node));
    let goes_alone = alone::replaced(&folded.cluster, &loaded).is_some();
    let loaded = if goes_alone { loaded } else { loaded.with_members(membership(&folded.cluster)) };
    let was_joining = loaded.membership.as_ref().is_none_or(|members| members.voters.is_empty());
    if matches!(begin, Begin::Founder(_)) && was_joining {
        let hint = "empty the state directory, and join again with a manager token";
        return Err(Failure::new("this node was joining a cluster as a manager, and its certificate is missing", hint));
    }
    if store.audit_seed()?.is_none() {
        store.keep_audit_seed(&Zeroizing::new(rand::random()))?;
    }
    let consensus = Consensus::open(Arc::clone(&store), own, &loaded)?;
    let began_after = folded.cluster.position.index;
    let mut leader =
        Replica::new(node, env!("CARGO_PKG_VERSION"), consensus, folded, Intervals::default()).in_epoch(rand::random());
    if goes_alone {
        leader = leader.going_alone(another);
    }
    let (handle, thread) = driver::spawn_among(leader, Arc::clone(&store), send).map_err(no_thread)?;
    Ok(Core {
        handle,
        store,
        node,
        raft_id: own,
        thread,
        key_file: None,
        scrubber: None,
        indexer: None,
        archiver: None,
        redactor: None,
        journal: None,
        began_after,
    })
}

/// Builds the state at the applied index from the newest usable checkpoint, the frames of history after it, and the secrets,
/// which have a table of their own.
///
/// # Errors
/// When history cannot be read where it is needed, is not continuous or does not end where it should, or secrets are missing.
pub fn fold(store: &dyn LogStore, loaded: &Loaded) -> Result<Folded, Failure> {
    let mut folded = checkpointed(store)?;
    folded.fold_history(store, |_, _| {})?;
    if folded.end() != loaded.last_frame {
        let index = folded.cluster.position.index;
        let reason = "the state does not end with the frame that was applied last".into();
        return Err(LogError::Damaged { table: Table::History, index, reason }.into());
    }
    folded.keyring = Arc::new(store.keyring()?.into_iter().collect());
    match folded.keyring.missing(&folded.cluster) {
        None => Ok(folded),
        Some(name) => Err(Failure::new(
            format!("the log's keyring does not hold the secret \"{name}\", which this cluster has"),
            "history does not hold secrets: restore the state directory from a backup",
        )),
    }
}

/// Refuses a state whose feature level this build does not support.
fn require_known_level(cluster: &Cluster) -> Result<(), Failure> {
    let (used, known) = (cluster.feature_level(), feature_level());
    if used <= known {
        return Ok(());
    }
    let sentence = format!("the log uses feature level {used}, and this swarmd supports none above {known}");
    Err(Failure::new(sentence, "start the newest swarmd that ran on this state directory, or a newer one"))
}

/// The state in the newest usable checkpoint: an intact one with this build's fold version. The state before the first frame if
/// there is none.
fn checkpointed(store: &dyn LogStore) -> Result<Folded, Failure> {
    let mut at_most = u64::MAX;
    let mut why = None;
    loop {
        let mut reader = snapshot::Reader::default();
        let loaded = store.load_checkpoint(at_most, &mut |part| match part {
            CheckpointPart::Begin { bytes } => {
                memory_limit::warn_if_short(bytes);
                reader = snapshot::Reader::default();
            }
            CheckpointPart::Chunk(chunk) => reader.push(chunk),
        });
        let head = match loaded {
            Ok(Some(head)) => head,
            Ok(None) => break,
            Err(error) if error.is_of_a_checkpoint() => {
                why = Some(error.to_string());
                break;
            }
            Err(error) => return Err(error.into()),
        };
        match Folded::from_checkpoint(head, reader) {
            Ok(folded) => return Ok(folded),
            Err(error) => {
                let index = head.index;
                tracing::warn!(index, %error, "a checkpoint cannot be used; an older one or the history is used");
                why = Some(error.to_string());
                at_most = index.saturating_sub(1);
            }
        }
    }
    if let Some(why) = why {
        tracing::warn!(
            error = why,
            "no checkpoint can be used: the state is folded from the whole history, which takes longer"
        );
    }
    Ok(Folded::default())
}

/// The node of this log, identified by its raft id; `None` before the first frame.
fn member(cluster: &Cluster, loaded: &Loaded) -> Result<Option<NodeId>, Failure> {
    let own = alone::replaced(cluster, loaded).or_else(|| own_raft_id(loaded));
    let member = own.and_then(|own| cluster.member_with(own)).map(|member| member.node);
    // A node that was removed, or is added only by later entries, is identified by its certificate.
    let was_founded_here = loaded.membership.as_ref().is_some_and(|members| !members.voters.is_empty());
    let is_former = own.is_some_and(|own| cluster.former_members.contains(own));
    if member.is_none() && was_founded_here && !is_former && cluster.id() != ClusterId::default() {
        let sentence = "the log's own manager is no node of the cluster that it describes";
        return Err(Failure::new(sentence, "restore the state directory from a backup"));
    }
    Ok(member)
}

/// The node that initialized this log. A first start may be interrupted after the log is initialized, before or after the node's
/// id is recorded; every later start must derive the same id, so it follows from the voter's raft id.
fn founder(loaded: &Loaded) -> Option<NodeId> {
    let voter = own_raft_id(loaded)?;
    let mut high = [0; 8];
    high.copy_from_slice(&Sha256::digest(voter.to_le_bytes())[..8]);
    Some(NodeId::from_bits(u128::from(u64::from_le_bytes(high)) << 64 | u128::from(voter) << 1))
}

/// The raft id with which this log was initialized.
fn own_raft_id(loaded: &Loaded) -> Option<u64> {
    loaded.membership.as_ref().and_then(Membership::own)
}

/// The raft id of the first manager of a cluster: it must not be 0, and fits into 63 bits.
fn raft_id(node: NodeId) -> u64 {
    (node.bits() as u64 >> 1) | 1
}

impl Core {
    /// Logs committed events for operators, from the start of this run.
    ///
    /// # Errors
    /// When the thread cannot be spawned.
    pub fn log_events(&mut self) -> Result<(), Failure> {
        let journal = journal::spawn(self.handle.clone(), Arc::clone(&self.store), self.began_after);
        self.journal = Some(journal.map_err(no_thread)?);
        Ok(())
    }

    /// Starts to verify history in the background, and heals it from the other managers.
    ///
    /// # Errors
    /// When the thread cannot be spawned.
    pub fn verify_history(&mut self, others: impl OtherHistories) -> Result<(), Failure> {
        let handle = self.handle.clone();
        let scrubber = scrub::spawn(Arc::clone(&self.store), others, move |error| handle.fail(error));
        self.scrubber = Some(scrubber.map_err(no_thread)?);
        Ok(())
    }

    /// Starts to maintain the index of history; if there is none yet, it is built from all of history.
    ///
    /// # Errors
    /// When the thread cannot be spawned.
    pub fn index_history(&mut self) -> Result<(), Failure> {
        let handle = self.handle.clone();
        let indexer = indexer::spawn(Arc::clone(&self.store), move |error| handle.fail(error));
        self.indexer = Some(indexer.map_err(no_thread)?);
        Ok(())
    }

    /// Starts to move old history into archives, if the manager has a directory for them.
    ///
    /// # Errors
    /// When the thread cannot be spawned.
    pub fn archive_history(&mut self) -> Result<(), Failure> {
        let handle = self.handle.clone();
        let (states, store, measures) = (self.handle.states(), Arc::clone(&self.store), self.handle.measures());
        let archiver = archiver::spawn(states, store, measures, move |error| handle.fail(error));
        self.archiver = Some(archiver.map_err(no_thread)?);
        Ok(())
    }

    /// Starts to erase values from the disk when the log announces a redaction, and reports logs in the state directory that may
    /// contain them.
    ///
    /// # Errors
    /// When the thread cannot be spawned.
    pub fn redact_history(&mut self, state_dir: &Path) -> Result<(), Failure> {
        let (handle, states, dir) = (self.handle.clone(), self.handle.states(), state_dir.to_owned());
        let redactor = redactor::spawn(states, Arc::clone(&self.store), dir, move |error| handle.fail(error));
        self.redactor = Some(redactor.map_err(no_thread)?);
        Ok(())
    }

    /// Stops the core.
    ///
    /// # Errors
    /// The error that it failed with, if it did not stop regularly.
    pub async fn end(self) -> Result<(), Failure> {
        let Self { handle, store, thread, scrubber, indexer, archiver, redactor, journal, .. } = self;
        let states = handle.states();
        let ended = tokio::task::spawn_blocking(move || {
            scrubber.into_iter().for_each(Scrubber::end);
            indexer.into_iter().for_each(Indexer::end);
            archiver.into_iter().for_each(Archiver::end);
            redactor.into_iter().for_each(Redactor::end);
            handle.stop();
            let ended = thread.join();
            if journal.is_some_and(|journal| journal.join().is_err()) {
                tracing::error!("the thread that logs what is committed panicked");
            }
            ended
        });
        let ended = ended.await;
        release(store).await;
        match ended {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_)) | Err(_) => {
                let hint = "report this as a bug, with the log above";
                let applied = states.borrow().cluster.position.index;
                Err(Failure::new(
                    format!("the state machine stopped: cannot apply an event after index {applied}"),
                    hint,
                ))
            }
        }
    }

    /// Creates the cluster if the log is empty.
    ///
    /// # Errors
    /// When keys cannot be created or written, or the log cannot be written.
    pub async fn ensure_cluster(
        &self,
        certificates: &CertificateStore,
        hostname: &str,
        addr: &str,
    ) -> Result<(), Failure> {
        if self.handle.state().cluster.id() == ClusterId::default() {
            // What earlier runs started is committed by then.
            self.wait_for_leadership().await?;
        }
        if self.handle.state().cluster.id() != ClusterId::default() {
            return Ok(());
        }
        let bug = |why: String| Failure::new(why, "report this as a bug");
        let mut new = NewCluster::make(self.node, hostname, addr).map_err(bug)?;
        let signer = audit::signer(&*self.store, new.command.cluster, self.node);
        new.command.audit_key = Some(signer.map_err(|refused| bug(refused.sentence))?.key().to_string());
        let cert_pem = new.command.cert_pem.clone();
        self.submit(Command::InitialiseCluster(Box::new(new.command))).await?;
        // If this fails, the next start issues a certificate again.
        certificates.save_roots(&new.root.into())?;
        Ok(certificates.save(&cert_pem, &new.key)?)
    }

    async fn wait_for_leadership(&self) -> Result<(), Failure> {
        let mut states = self.handle.states();
        let led = states.wait_for(|state| state.leads).await;
        led.map(|_| ()).map_err(|_| Failure::new("the core ended while it started", "see the log above"))
    }

    /// Waits until the state lists this manager as a member: for one that continues alone, its first frame does that.
    ///
    /// # Errors
    /// When the core stops first.
    pub(crate) async fn wait_for_own_membership(&self) -> Result<(), Failure> {
        let own = self.handle.raft().raft_id;
        let mut states = self.handle.states();
        let is_there = states.wait_for(|state| state.leads && state.cluster.member_with(own).is_some()).await;
        is_there.map(drop).map_err(|_| Failure::new("the core ended while it started", "see the log above"))
    }

    /// Submits a command on behalf of this manager.
    ///
    /// # Errors
    /// When it is rejected, or the core stops.
    pub(crate) async fn submit(&self, command: Command) -> Result<(), Failure> {
        self.submit_as(Actor::Manager(self.node), command).await
    }

    /// Submits a command on behalf of a user who works on the state directory.
    ///
    /// # Errors
    /// When it is rejected, or the core stops.
    pub(crate) async fn submit_as(&self, actor: Actor, command: Command) -> Result<(), Failure> {
        let id = CommandId::from_bits(rand::random());
        match self.handle.submit(Request::named(id, actor, command)).await {
            Outcome::Committed { .. } => Ok(()),
            Outcome::Rejected(rejection) => Err(Failure::new(rejection.sentence, rejection.hint)),
            Outcome::Unknown => Err(Failure::new("the core ended while it started", "start swarmd again")),
        }
    }

    /// This manager's identity: from its files, or, if these are lost, expired or not yet valid, issued again by the certificate
    /// authority.
    ///
    /// # Errors
    /// When the files are damaged or cannot be written.
    pub async fn identity(&self, certificates: &CertificateStore) -> Result<Identity, Failure> {
        match certificates.load(clock::now()) {
            Ok(identity) => Ok(identity),
            Err(
                IdentityError::Missing(_)
                | IdentityError::Expired { .. }
                | IdentityError::NotYetValid { .. }
                | IdentityError::Locked,
            ) => self.issue_own(certificates).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn issue_own(&self, certificates: &CertificateStore) -> Result<Identity, Failure> {
        let state = self.handle.state();
        let broken = |why: String| Failure::new(why, "restore the state directory from a backup");
        let signer = Signer::of(&state.cluster.settings, &state.keyring).map_err(broken)?;
        let roots = TrustedRoots::from_pem(signer.roots_pem()).map_err(|error| broken(error.to_string()))?;
        let request = CertificateRequest::new().map_err(|error| broken(error.to_string()))?;
        let subject = Subject { node: self.node, role: Role::Manager, cluster: state.cluster.id() };
        let expiry = state.cluster.spec().cert_expiry();
        let issued = signer.sign(&ExternalClient::anonymous(), &request.csr_pem, subject, clock::now(), expiry).await;
        let Issued { cert_pem, not_after, .. } = issued.map_err(|error| match error {
            SignError::External(error) => Failure::new(error, NO_CERTIFICATE_HINT),
            SignError::Authority(error) => broken(error.to_string()),
        })?;
        certificates.save_roots(&roots)?;
        certificates.save(&cert_pem, &request.key)?;
        if state.cluster.members.len() > 1 {
            tracing::warn!("this manager issued itself a certificate that the cluster notes with the next renewal");
            return Ok(certificates.load(clock::now())?);
        }
        self.wait_for_leadership().await?;
        self.submit(Command::CertifyNode(commands::CertifyNode {
            node: self.node,
            role: Role::Manager,
            cert_pem,
            not_after,
        }))
        .await?;
        Ok(certificates.load(clock::now())?)
    }
}

/// Waits until the log has no other users, and closes it: until then no other start can open it, and a process that exits while
/// threads of the database run aborts.
async fn release(store: Arc<dyn LogStore>) {
    for _ in 0..RELEASE_LOOKS_MAX {
        if Arc::strong_count(&store) == 1 {
            return;
        }
        tokio::time::sleep(RELEASE_LOOK_PERIOD).await;
    }
    tracing::warn!("the log of this manager is still being read while it stops");
}

#[cfg(test)]
mod archives;
#[cfg(test)]
mod damage;
#[cfg(test)]
pub(crate) mod tests;
