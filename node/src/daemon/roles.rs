//! The lifecycle of a node: how it starts, its agent for all of its lifetime, and a manager part as long as its certificate is
//! a manager's. The role changes with the certificate, while `swarmd` and its tasks keep running.

use std::sync::Arc;
use std::time::Duration;

use events::{NodeId, Role};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::backoff;
use crate::agent::executor::Executor;
use crate::agent::{Agent, ClusterInfo, Config as AgentConfig, unusable_store};
use crate::clock;
use crate::daemon::config::RunArgs;
use crate::daemon::failure::{Failure, code};
use crate::daemon::local_node::{self, LocalApi};
use crate::daemon::manager_part::{Opened, STOP_TIMEOUT, Served, random_node_id};
use crate::daemon::notify::Notifier;
use crate::daemon::run::{Managers, announce, policy};
use crate::daemon::start_settings::StartSettings;
use crate::daemon::state_dir::StateDir;
use crate::daemon::{joining, leaving, serve};
use crate::manager::core::{self, Begin};
use crate::manager::driver::Handle;
use crate::metrics::{self, Measures};
use crate::peering::client_at;
use crate::security::enrolment::{self, MemberConnect, Timeouts};
use crate::security::{CertificateStore, Credentials, Identity, IdentityError, JoinToken, Subject};

/// Delay before a node that became a manager tries again to start that part; it doubles with each failure.
const BEGIN_PAUSE: Duration = Duration::from_secs(5);
/// The maximum of that delay.
const BEGIN_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a manager whose log is no longer a member's waits for another certificate: a demoted one receives it within that
/// time.
const FORMER_TIMEOUT: Duration = Duration::from_secs(15);

/// How a node starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartMode {
    /// As the manager of this log; without one it creates a cluster.
    Log,
    /// With its existing certificate, or the one it is issued for its join token.
    Certificate,
    /// As a manager that is still joining.
    Joining,
}

/// The parts of a node.
pub(super) struct Node {
    pub(super) args: RunArgs,
    pub(super) settings: StartSettings,
    pub(super) state_dir: StateDir,
    pub(super) certificates: CertificateStore,
    pub(super) hostname: String,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) shutdown: CancellationToken,
    /// The counters of the agent's work.
    pub(super) measures: Arc<Measures>,
    /// The metrics and the readiness probe.
    pub(super) probe: metrics::Probe,
    /// The service manager.
    pub(super) notifier: Notifier,
    /// Receives what its sessions report about managers and about its role.
    pub(super) cluster_info: Arc<ClusterInfo>,
}

/// Why a manager part ended.
enum PartEnd {
    /// The node is stopped, or a part of it failed.
    Stopped(Result<(), Failure>),
    /// The node's certificate is now a worker's.
    Demoted,
    /// Its log is no longer a member's, but the node is still to be a manager: with a new log.
    LogReplaced,
    /// The node was removed from the cluster.
    Removed,
}

impl Node {
    /// Runs until it is stopped.
    pub(super) async fn start(self, start_mode: StartMode, token: Option<JoinToken>) -> Result<(), Failure> {
        if start_mode == StartMode::Log {
            match self.open_log().await? {
                Some(opened) => return self.begin_with_log(opened).await,
                None => tracing::warn!("this node is no longer a manager: its log is discarded"),
            }
        }
        let Some(identity) = self.enrolled(start_mode, token).await? else { return Ok(()) };
        let subject = identity.subject();
        let opened = match subject.role {
            Role::Manager => Some(self.open_as(subject.node).await?),
            Role::Worker => None,
        };
        self.run(identity, opened).await
    }

    /// Opens the existing log, or creates one. `None` if the node has become a worker.
    async fn open_log(&self) -> Result<Option<Opened>, Failure> {
        let listeners = self.bind_listeners().await?;
        let mut log = core::read(&self.state_dir, self.settings.history_archive.clone())?;
        if self.args.force_new_cluster {
            self.require_lost(&log.voters()).await?;
            log = log.going_alone();
        }
        let Ok(identity) = self.certificates.load(clock::now()) else {
            return self.open_core(log, Begin::Founder(random_node_id()), listeners).map(Some);
        };
        if let Some(managers) = joining::read_note(self.state_dir.path())? {
            self.cluster_info.set_managers(managers);
        }
        let subject = identity.subject();
        let is_own = log.node().is_none_or(|node| node == subject.node);
        match subject.role {
            // A certificate and a log of different nodes would be inconsistent.
            _ if !is_own => {
                let node = log.node().map_or_else(String::new, |node| node.to_string());
                let sentence = format!("the certificate is for {subject}, the log for manager {node}");
                Err(Failure::new(sentence, "restore the state directory from a backup").with_code(code::NOT_ALLOWED))
            }
            Role::Manager => self.open_core(log, Begin::Member(subject.node), listeners).map(Some),
            // It gets such a certificate only after it has stopped replicating the log.
            Role::Worker => self.leave_log(log.managers()).map(|()| None),
        }
    }

    /// Refuses to continue without the other voters while they have a quorum: their cluster would be left with an old state,
    /// and what it accepted since would be lost.
    async fn require_lost(&self, others: &[String]) -> Result<(), Failure> {
        let Ok(identity) = self.certificates.load(clock::now()) else { return Ok(()) };
        let credentials = Arc::new(Credentials::new(identity).map_err(|error| Failure::new(error, ""))?);
        let calls = others.iter().map(|addr| client_at(addr, Arc::clone(&credentials)));
        let answers = futures_util::future::join_all(calls).await;
        let alive: Vec<&str> =
            others.iter().zip(answers).filter(|(_, answer)| answer.is_ok()).map(|(addr, _)| addr.as_str()).collect();
        // A majority of all voters, including this one.
        if alive.len() < others.len().div_ceil(2) + 1 {
            return Ok(());
        }
        let sentence = format!(
            "the cluster is not lost: its managers at {} respond and have a quorum without this one",
            alive.join(", ")
        );
        let hint = "start this manager without --force-new-cluster; to give the others up, end swarmd on them first";
        Err(Failure::new(sentence, hint).with_code(code::NOT_ALLOWED))
    }

    /// Continues as a worker.
    fn step_down(&self, managers: Vec<String>) -> Result<(), Failure> {
        tracing::info!("this node is a worker from now on");
        self.leave_log(managers)
    }

    /// Discards the log of a node that is no longer a manager, after the other managers' addresses were stored.
    fn leave_log(&self, managers: Vec<String>) -> Result<(), Failure> {
        self.cluster_info.set_managers(managers);
        if let Some(first) = self.cluster_info.managers().first() {
            Managers { first: first.clone() }.save(&self.state_dir)?;
        }
        joining::remove_note(self.state_dir.path())?;
        self.unwrap_keys()?;
        joining::discard_log(self.state_dir.path())
    }

    /// Unwraps the keys, because a worker must start unattended. Must precede the removal of the log: as long as the log
    /// exists, a start requires the unlock key.
    fn unwrap_keys(&self) -> Result<(), Failure> {
        let lock = self.state_dir.keys();
        let before = lock.key();
        lock.set(None);
        Ok(self.certificates.rewrap(before.as_ref())?)
    }

    async fn begin_with_log(self, opened: Opened) -> Result<(), Failure> {
        let Some(identity) = self.shutdown.run_until_cancelled(self.identity(&opened)).await else {
            return opened.core.end().await;
        };
        match identity {
            Ok(identity) => self.run(identity, Some(opened)).await,
            Err(failure) => {
                // An error of the core is the cause of any other failure.
                opened.core.end().await?;
                Err(failure)
            }
        }
    }

    /// Loads the certificate; reissues a missing or expired one.
    async fn identity(&self, opened: &Opened) -> Result<Identity, Failure> {
        match self.certificates.load(clock::now()) {
            Ok(identity) => Ok(identity),
            Err(_) => self.found(opened).await,
        }
    }

    /// The identity of a node that has a certificate, or is issued one now. `None` if it is stopped before.
    async fn enrolled(&self, start_mode: StartMode, token: Option<JoinToken>) -> Result<Option<Identity>, Failure> {
        let noted = joining::read_note(self.state_dir.path())?.filter(|_| start_mode == StartMode::Joining);
        let known = match noted {
            Some(managers) => managers,
            None => vec![Managers::load(&self.state_dir, self.args.join_addr.clone())?.first],
        };
        self.cluster_info.set_managers(known.clone());
        let identity = match self.certificates.load(clock::now()) {
            Ok(identity) => {
                // The process may have been stopped between the two.
                self.certificates.forget_pending_join()?;
                identity
            }
            Err(IdentityError::Missing(_)) => {
                let token = token.ok_or_else(|| {
                    let hint =
                        "`swarmctl cluster inspect` on a manager shows the token for --join-token or --join-token-file";
                    Failure::new("a join token is needed to join a cluster", hint).with_code(code::USAGE)
                })?;
                let (patience, first) = (Timeouts::OF_A_JOINER, known.first().map_or("", String::as_str));
                let before = self.before_role();
                let joining = enrolment::join(&self.certificates, first, &token, &self.hostname, patience, before);
                // A pending join is resumed at the next start.
                let Some(joined) = self.shutdown.run_until_cancelled(joining).await else { return Ok(None) };
                joined?
            }
            Err(error) => return Err(error.into()),
        };
        if let (Role::Worker, Some(first)) = (identity.subject().role, known.first()) {
            Managers { first: first.clone() }.save(&self.state_dir)?;
        }
        Ok(Some(identity))
    }

    /// Runs before a certificate is stored: a manager's certificate without a log must not be mistaken for a lost log.
    fn before_role(&self) -> impl Fn(Role) -> Result<(), Failure> + Send + Sync + use<> {
        let (dir, cluster_info) = (self.state_dir.path().to_owned(), Arc::clone(&self.cluster_info));
        move |role| match role {
            Role::Manager if crate::daemon::state_dir_kind::has_log(&dir)? => Ok(()),
            Role::Manager => joining::write_note(&dir, &cluster_info.managers()),
            Role::Worker => Ok(()),
        }
    }

    /// Runs a member of the cluster: its agent, and a manager part while it is a manager.
    async fn run(self, identity: Identity, opened: Option<Opened>) -> Result<(), Failure> {
        let subject = identity.subject();
        let credentials = Arc::new(Credentials::new(identity).map_err(|error| Failure::new(error, ""))?);
        let served = opened.map(|opened| self.serve_manager(opened, &credentials)).transpose()?;
        let agent = match self.agent(subject.cluster, subject.node, &credentials).open().map_err(unusable_store) {
            Ok(agent) => agent,
            Err(failure) => {
                if let Some(served) = served {
                    served.end().await?;
                }
                return Err(failure);
            }
        };
        let managers = self.cluster_info.managers().join(", ");
        if served.is_none() {
            // From here on, nothing can refuse this start.
            self.settings.save(self.state_dir.path())?;
            tracing::info!(node = %subject.node, manager = managers, "this node is a worker");
        }
        self.notifier.ready(&match &served {
            Some(_) => format!("manager, serving nodes; managers: {managers}"),
            None => format!("worker of the managers at {managers}"),
        });
        announce(self.args.dev, &self.settings);
        self.keep_renewed(&credentials);
        tokio::spawn(notify_stopping(self.notifier.clone(), self.shutdown.clone()));
        let agent = tokio::spawn(agent.run(self.shutdown.clone()));
        let ended = self.run_roles(subject.node, served, &credentials).await;
        self.shutdown.cancel();
        if tokio::time::timeout(STOP_TIMEOUT, agent).await.is_err() {
            tracing::warn!("the agent did not end in time");
        }
        if leaving::has_note(self.state_dir.path())? {
            return self.leave(subject, ended).await;
        }
        if self.args.dev
            && let Err(failure) = leaving::sweep(self.executor.as_ref(), subject).await
        {
            tracing::warn!("{}", failure.sentence);
        }
        ended
    }

    /// Removes everything of a node that left its cluster.
    async fn leave(&self, subject: Subject, ended: Result<(), Failure>) -> Result<(), Failure> {
        if let Err(failure) = ended {
            tracing::warn!(error = failure.sentence, "a part of the node failed while stopping");
        }
        leaving::sweep(self.executor.as_ref(), subject).await?;
        leaving::empty(self.state_dir.path())?;
        tracing::info!(cluster = %subject.cluster, "this node has left its cluster, and can join again with a join token");
        Ok(())
    }

    /// The control socket API for any role.
    pub(super) fn local_api(&self, credentials: &Arc<Credentials>) -> LocalApi {
        LocalApi {
            dir: self.state_dir.path().to_owned(),
            credentials: Arc::clone(credentials),
            cluster_info: Arc::clone(&self.cluster_info),
            shutdown: self.shutdown.clone(),
        }
    }

    /// Serves a worker's control socket until `stop`. A worker continues without it if it cannot be bound.
    async fn serve_locally(&self, credentials: &Arc<Credentials>, stop: CancellationToken) {
        let served = match serve::bind_control(&self.settings.listen_control_api).await {
            Ok((listener, file)) => {
                let served = local_node::serve_worker(listener, file, self.local_api(credentials), stop);
                served.await.map_err(|error| Failure::new(format!("the control socket failed: {error}"), ""))
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = served {
            tracing::warn!(
                error = failure.sentence,
                hint = failure.hint,
                "`swarmctl node leave` cannot ask this worker"
            );
        }
    }

    /// Runs the role of the certificate, until the node stops.
    async fn run_roles(
        &self,
        node: NodeId,
        served: Option<Served>,
        credentials: &Arc<Credentials>,
    ) -> Result<(), Failure> {
        let (mut served, mut role) = (served, credentials.role());
        loop {
            let Some(present) = served.take() else {
                if !self.await_promotion(credentials).await {
                    return Ok(());
                }
                match self.begin_as_manager(node, credentials).await {
                    Some(started) => served = Some(started),
                    None if self.shutdown.is_cancelled() => return Ok(()),
                    None => self.step_down(Vec::new())?,
                }
                continue;
            };
            let (progress, stop) = (present.core.handle.progress(), present.stop.clone());
            tokio::spawn(self.notifier.clone().keep_alive(progress, stop));
            let (present, ended) = self.watch(present, &mut role).await;
            let managers = present.peering.known().into_iter().map(|other| other.addr).collect();
            let state = present.core.handle.state();
            let (raft_id, last) = (present.core.raft_id, state.cluster.position.index);
            // Releases the log, so that nothing holds it when the part ends.
            self.probe.started(Arc::clone(&self.measures), None);
            let end = present.end().await;
            match ended {
                PartEnd::Stopped(result) => return end.and(result),
                PartEnd::Demoted => self.step_down(managers)?,
                PartEnd::LogReplaced => {
                    tracing::warn!("this manager is no longer a member; it joins again with an empty log");
                    self.cluster_info.set_managers(managers);
                    joining::write_note(self.state_dir.path(), &self.cluster_info.managers())?;
                    // A log that contains its own removal ends before it, so nothing is lost; another one may have entries that
                    // the cluster continued without.
                    if state.cluster.former_members.contains(raft_id) {
                        joining::discard_log(self.state_dir.path())?;
                    } else {
                        let path = joining::set_log_aside(self.state_dir.path())?;
                        let hint =
                            "what the cluster lacks is read with `swarmd export --state-dir` on it; then remove it";
                        tracing::warn!(path = %path.display(), last, hint, "the log that this manager had is set aside");
                    }
                }
                PartEnd::Removed => {
                    if !self.cluster_info.is_leaving() {
                        let hint = "to join again, stop swarmd, run `swarmd leave` and start swarmd with a join token";
                        tracing::error!(hint, "this node was removed from the cluster");
                    }
                    self.shutdown.cancelled().await;
                }
            }
        }
    }

    /// Waits until the certificate is a manager's; false if the node is stopped before.
    async fn await_promotion(&self, credentials: &Arc<Credentials>) -> bool {
        let mut role = credentials.role();
        if *role.borrow() == Role::Manager {
            return true;
        }
        self.probe.started(Arc::clone(&self.measures), None);
        let worker = self.shutdown.child_token();
        tokio::spawn(self.notifier.clone().keep_alive(self.measures.progress.clone(), worker.clone()));
        let promotion = async {
            let promoted = self.shutdown.run_until_cancelled(role.wait_for(|role| *role == Role::Manager)).await;
            worker.cancel();
            promoted.is_some()
        };
        // The manager's socket replaces the worker's, whose requests have been answered by then.
        let ((), promoted) = tokio::join!(self.serve_locally(credentials, worker.clone()), promotion);
        if promoted {
            tracing::info!("this node becomes a manager");
        }
        promoted
    }

    /// Starts a manager's part, and tries again after failures. `None` if the node is stopped before, or is a worker again.
    async fn begin_as_manager(&self, node: NodeId, credentials: &Arc<Credentials>) -> Option<Served> {
        let (mut role, mut pause) = (credentials.role(), BEGIN_PAUSE);
        loop {
            let started = match self.open_as(node).await {
                Ok(opened) => self.serve_manager(opened, credentials),
                Err(failure) => Err(failure),
            };
            match started {
                Ok(served) => return Some(served),
                Err(Failure { sentence, hint, .. }) => {
                    let pause_ms = backoff::ms(pause);
                    tracing::error!(error = sentence, hint, pause_ms, "this node cannot start as a manager");
                }
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                _ = role.wait_for(|role| *role == Role::Worker) => return None,
                () = tokio::time::sleep(pause) => pause = BEGIN_PAUSE_MAX.min(pause * 2),
            }
        }
    }

    /// Waits until a manager part must end.
    async fn watch(&self, mut served: Served, role: &mut tokio::sync::watch::Receiver<Role>) -> (Served, PartEnd) {
        let Served { core, peering, tasks, .. } = &mut served;
        let ended = tokio::select! {
            ended = parts(tasks, &core.handle, &self.shutdown) => PartEnd::Stopped(ended),
            _ = role.wait_for(|role| *role == Role::Worker) => PartEnd::Demoted,
            () = peering.removed() => PartEnd::Removed,
            () = self.wait_for_new_log(peering.former(), &core.handle) => PartEnd::LogReplaced,
        };
        (served, ended)
    }

    /// Waits until this manager needs a new log, because its log is no longer a member's and the node is still to be a manager.
    /// It is fenced as soon as it learns this: anything it accepted would be lost with its log.
    async fn wait_for_new_log(&self, former: impl Future<Output = ()>, core: &Handle) {
        former.await;
        core.fence();
        tokio::time::sleep(FORMER_TIMEOUT).await;
        let mut role = self.cluster_info.role();
        if role.wait_for(|role| *role == Some(Role::Manager)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Keeps the certificate renewed as long as the node runs.
    fn keep_renewed(&self, credentials: &Arc<Credentials>) {
        let (credentials, certificates) = (Arc::clone(credentials), self.certificates.clone());
        let (cluster_info, before) = (Arc::clone(&self.cluster_info), self.before_role());
        tokio::spawn(enrolment::keep_renewed(credentials, certificates, cluster_info, before, self.shutdown.clone()));
    }

    fn agent(&self, cluster: events::ClusterId, node: NodeId, credentials: &Arc<Credentials>) -> Agent {
        let generic = self.args.generic_node_resources.clone();
        let config = AgentConfig {
            cluster,
            node,
            hostname: self.hostname.clone(),
            advertise_addr: self.settings.advertise_remote_api.clone(),
            managers: self.cluster_info.managers(),
            state_dir: self.state_dir.path().to_owned(),
            generic_resources: generic.map(|generic| generic.0).unwrap_or_default(),
            policy: policy(&self.args, &self.settings),
            cluster_info: Arc::clone(&self.cluster_info),
            measures: Arc::clone(&self.measures),
            lock: Arc::clone(self.state_dir.keys()),
        };
        let connector = Arc::new(MemberConnect(Arc::clone(credentials)));
        Agent { config, executor: Arc::clone(&self.executor), connector, clock: Arc::new(clock::now) }
    }
}

/// Waits until the node is stopped, or a part of its manager ends by itself.
async fn parts(
    tasks: &mut JoinSet<Result<(), Failure>>,
    core: &Handle,
    shutdown: &CancellationToken,
) -> Result<(), Failure> {
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        // The error of the thread is reported when it is joined.
        () = core.ended() => Ok(()),
        ended = tasks.join_next() => match ended {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(Failure::new(format!("a part of the node ended unexpectedly: {error}"), "report this as a bug")),
            None => Ok(()),
        },
    }
}

/// Notifies the service manager when the node begins to stop.
async fn notify_stopping(notifier: Notifier, shutdown: CancellationToken) {
    shutdown.cancelled().await;
    notifier.stopping();
}
