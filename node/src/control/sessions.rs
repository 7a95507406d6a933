//! Agents' sessions as a manager sees them: what each call of an agent asks of the core, and what an open session is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use commands::{Actor, Command, DisconnectNode, LeaveNode, RegisterNode, Rejection, ReportTasks};
use events::{NodeDescription, NodeId, Role, ServiceId, SessionId, frame};
use wire::v1::session_message::Message;
use wire::v1::{Head, ReportRequest, SessionMessage, UseOrder, Welcome};

use crate::log::{FrameLink, LogStore, frame_at};
use crate::manager::replica::{Request, check_session};

use super::assignments::SentAssignments;
use super::command::check_reason;
use super::{Control, views};

/// Tasks of a node that are looked at for those to be measured, with each of its heartbeats.
const TASKS_LOOKED_AT_MAX: usize = 10_000;

/// A node as its certificate shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The node.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
}

impl Caller {
    /// What opens a session.
    pub fn registration(self, session: SessionId, description: NodeDescription, addr: String) -> Request {
        let description = Box::new(description);
        self.request(Command::RegisterNode(RegisterNode { node: self.node, session, description, addr }))
    }

    /// What notes how tasks are.
    pub fn report(self, report: ReportRequest) -> Request {
        let reports = report.reports.into_iter().map(|report| (report.task, report.status)).collect();
        self.request(Command::ReportTasks(ReportTasks { node: self.node, session: report.session, reports }))
    }

    /// What takes the node out of the cluster.
    ///
    /// # Errors
    /// When the reason is too long.
    pub fn leave(self, reason: Option<String>) -> Result<Request, Rejection> {
        check_reason(reason.as_deref())?;
        Ok(Request { reason, ..self.request(Command::LeaveNode(LeaveNode { node: self.node })) })
    }

    /// Commands of nodes repeat without harm, so they need no id.
    fn request(self, command: Command) -> Request {
        let actor = Actor::Node { id: self.node, role: self.role };
        Request::unnamed(actor, command)
    }
}

impl Control {
    /// What notes that the connection of a session broke.
    pub fn disconnection(&self, node: NodeId, session: SessionId) -> Request {
        let actor = Actor::Manager(self.manager.node);
        let command = Command::DisconnectNode(DisconnectNode { node, session });
        Request::unnamed(actor, command)
    }

    /// Judges a heartbeat; the time to the next one.
    ///
    /// # Errors
    /// When the session is over: the agent has to register again.
    pub fn heartbeat(&self, node: NodeId, session: SessionId) -> Result<Duration, Rejection> {
        check_session(&self.state.cluster, node, session)?;
        Ok(self.state.cluster.heartbeat_period())
    }

    /// The tasks of a node that are to be measured: those that should run of services whose replicas follow from what they use.
    pub fn measured(&self, node: NodeId) -> Vec<UseOrder> {
        let cluster = &self.state.cluster;
        if cluster.autoscaling().is_empty() {
            return Vec::new();
        }
        let mut orders: BTreeMap<(ServiceId, u64), UseOrder> = BTreeMap::new();
        for task in cluster.tasks_of_node(node).filter(|task| task.is_live()).take(TASKS_LOOKED_AT_MAX) {
            let rule = cluster.services.get(task.service).and_then(|service| service.spec.autoscaling());
            let Some(rule) = rule else { continue };
            let order = orders.entry((task.service, task.spec_version)).or_insert_with(|| {
                let whole = cluster.spec_of(task).whole_use();
                UseOrder {
                    tasks: Vec::new(),
                    window_ns: u64::try_from(rule.window.as_nanos()).unwrap_or(u64::MAX),
                    nano_cpus: whole.nano_cpus,
                    memory_bytes: whole.memory_bytes,
                }
            });
            order.tasks.push(task.id);
        }
        orders.into_values().collect()
    }

    /// Compares the history here with what an agent knew of before. If the frame is not there, somebody put this manager
    /// back to a backup, or its disk lost what it had confirmed. The agent gets all of its assignments again in either case;
    /// that history has another future, or cannot be read, is for people to know, and no reason to refuse the session. This may
    /// wait for the disk.
    pub fn compare(&self, node: NodeId, seen: &Head) {
        compare(&*self.store, node, seen);
    }
}

fn compare(store: &dyn LogStore, node: NodeId, seen: &Head) {
    let found = match frame_at(store, seen.index) {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%node, index = seen.index, %error, hint = error.hint(), "history is not compared with what a node knows");
            return;
        }
    };
    let here = found.map(|stored| views::head(FrameLink { index: seen.index, hash: frame::hash(&stored) }));
    if here.as_ref() != Some(seen) {
        let hint = "if nobody restored this manager from a backup, see whether its disk is failing";
        tracing::warn!(%node, index = seen.index, hint, "a node knows a frame that is not in the history of this manager: it was restored from an older backup");
    }
}

/// Where agents reach the managers, this one first: it is known to answer.
fn managers(control: &Control) -> Vec<String> {
    let own = &control.manager.remote_addr;
    let others = control.state.cluster.members.values().filter(|member| member.node != control.manager.node);
    [own.clone()].into_iter().chain(others.map(|member| member.addr.clone())).collect()
}

/// What one open session is sent: a welcome, again whenever the managers are others, and assignments, until the session is over
/// for this manager.
#[derive(Debug)]
pub struct AssignmentStream {
    node: NodeId,
    session: SessionId,
    /// The managers that the agent knows; nothing before it was welcomed.
    managers: Option<Vec<String>>,
    told: SentAssignments,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Its node is no member any more.
    NodeRemoved,
    /// Another session of its node took its place, or its connection was taken to be broken.
    Replaced,
}

impl Over {
    /// What the agent hears of it, which may be the one that ended it.
    pub fn rejection(self) -> Rejection {
        Rejection::conflict("session", "the session has ended", "register again")
    }
}

impl AssignmentStream {
    /// The stream of a session that was registered.
    pub fn new(node: NodeId, session: SessionId) -> Self {
        Self { node, session, managers: None, told: SentAssignments::default() }
    }

    /// The node whose session it is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// What the agent does not know yet of this state. To be asked again at each change that concerns the node.
    ///
    /// # Errors
    /// When the session is over.
    pub fn next(&mut self, control: &Control) -> Result<Vec<SessionMessage>, Over> {
        let member = control.state.cluster.nodes.get(self.node).ok_or(Over::NodeRemoved)?;
        if member.session != Some(self.session) {
            return Err(Over::Replaced);
        }
        let mut messages = Vec::new();
        let managers = managers(control);
        if self.managers.as_ref() != Some(&managers) {
            messages.push(Message::Welcome(self.welcome(control, managers.clone())));
            self.managers = Some(managers);
        }
        if let Some(mut set) = self.told.update(&control.state, self.node) {
            // It only serves to compare, so that a log which cannot be read holds up no assignments.
            set.head = control
                .head()
                .inspect_err(|error| tracing::warn!(error = error.sentence, "the end of history cannot be read"))
                .ok()
                .flatten();
            let (complete, tasks, removed) = (set.complete, set.tasks.len(), set.removed.len());
            tracing::debug!(node = %self.node, complete, tasks, removed, "assignments are sent");
            messages.push(Message::Assignments(set));
        }
        Ok(messages.into_iter().map(|message| SessionMessage { message: Some(message) }).collect())
    }

    fn welcome(&self, control: &Control, managers: Vec<String>) -> Welcome {
        let period = control.state.cluster.heartbeat_period().as_nanos();
        Welcome {
            session: self.session,
            cluster: control.state.cluster.id(),
            heartbeat_period_ns: u64::try_from(period).unwrap_or(u64::MAX),
            managers,
        }
    }
}
