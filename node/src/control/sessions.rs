//! Agents' sessions at a manager: the core requests of an agent's calls, and the messages of an open session.

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

/// Maximum tasks of a node examined per heartbeat to find those to measure.
const TASKS_LOOKED_AT_MAX: usize = 10_000;

/// A node as its certificate identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The node.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
}

impl Caller {
    /// The core request that opens a session.
    pub fn registration(self, session: SessionId, description: NodeDescription, addr: String) -> Request {
        let description = Box::new(description);
        self.request(Command::RegisterNode(RegisterNode { node: self.node, session, description, addr }))
    }

    /// The core request that records a report of tasks.
    pub fn report(self, report: ReportRequest) -> Request {
        let reports = report.reports.into_iter().map(|report| (report.task, report.status)).collect();
        self.request(Command::ReportTasks(ReportTasks { node: self.node, session: report.session, reports }))
    }

    /// The core request that removes the node from the cluster.
    ///
    /// # Errors
    /// When the reason is too long.
    pub fn leave(self, reason: Option<String>) -> Result<Request, Rejection> {
        check_reason(reason.as_deref())?;
        Ok(Request { reason, ..self.request(Command::LeaveNode(LeaveNode { node: self.node })) })
    }

    /// Commands of nodes are idempotent, so they need no id.
    fn request(self, command: Command) -> Request {
        let actor = Actor::Node { id: self.node, role: self.role };
        Request::unnamed(actor, command)
    }
}

impl Control {
    /// The core request that records a lost connection of a session.
    pub fn disconnection(&self, node: NodeId, session: SessionId) -> Request {
        let actor = Actor::Manager(self.manager.node);
        let command = Command::DisconnectNode(DisconnectNode { node, session });
        Request::unnamed(actor, command)
    }

    /// Checks a heartbeat. Returns the time until the next one.
    ///
    /// # Errors
    /// When the session has ended: the agent must register again.
    pub fn heartbeat(&self, node: NodeId, session: SessionId) -> Result<Duration, Rejection> {
        check_session(&self.state.cluster, node, session)?;
        Ok(self.state.cluster.heartbeat_period())
    }

    /// The tasks of a node to be measured: the desired running tasks of autoscaled services.
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

    /// Compares this manager's history with the last frame that an agent has seen. If the frame is missing, this manager was
    /// restored from a backup, or its disk lost acknowledged writes. The agent receives all its assignments again in either
    /// case; a diverged or unreadable history is logged for the operator, and is no reason to refuse the session. May block on
    /// disk I/O.
    pub fn compare(&self, node: NodeId, seen: &Head) {
        compare(&*self.store, node, seen);
    }
}

fn compare(store: &dyn LogStore, node: NodeId, seen: &Head) {
    let found = match frame_at(store, seen.index) {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%node, index = seen.index, %error, hint = error.hint(), "history cannot be compared with the last frame that a node has seen");
            return;
        }
    };
    let here = found.map(|stored| views::head(FrameLink { index: seen.index, hash: frame::hash(&stored) }));
    if here.as_ref() != Some(seen) {
        let hint = "if nobody restored this manager from a backup, see whether its disk is failing";
        tracing::warn!(%node, index = seen.index, hint, "a node knows a frame that is not in the history of this manager: it was restored from an older backup");
    }
}

/// The addresses of the managers, this one first because it is known to respond.
fn managers(control: &Control) -> Vec<String> {
    let own = &control.manager.remote_addr;
    let others = control.state.cluster.members.values().filter(|member| member.node != control.manager.node);
    [own.clone()].into_iter().chain(others.map(|member| member.addr.clone())).collect()
}

/// The messages of an open session: a welcome, repeated whenever the managers change, and assignments, until the session ends
/// for this manager.
#[derive(Debug)]
pub struct AssignmentStream {
    node: NodeId,
    session: SessionId,
    /// The managers that were sent to the agent; `None` before the welcome.
    managers: Option<Vec<String>>,
    sent: SentAssignments,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// Its node is no longer a member.
    NodeRemoved,
    /// Another session of its node replaced it, or its connection was considered lost.
    Replaced,
}

impl SessionEnd {
    /// The rejection for the agent, which may itself have ended the session.
    pub fn rejection(self) -> Rejection {
        Rejection::conflict("session", "the session has ended", "register again")
    }
}

impl AssignmentStream {
    /// The stream of a registered session.
    pub fn new(node: NodeId, session: SessionId) -> Self {
        Self { node, session, managers: None, sent: SentAssignments::default() }
    }

    /// The node of the session.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The messages that bring the agent up to date with this state. Call it again at each change that concerns the node.
    ///
    /// # Errors
    /// When the session has ended.
    pub fn next(&mut self, control: &Control) -> Result<Vec<SessionMessage>, SessionEnd> {
        let member = control.state.cluster.nodes.get(self.node).ok_or(SessionEnd::NodeRemoved)?;
        if member.session != Some(self.session) {
            return Err(SessionEnd::Replaced);
        }
        let mut messages = Vec::new();
        let managers = managers(control);
        if self.managers.as_ref() != Some(&managers) {
            messages.push(Message::Welcome(self.welcome(control, managers.clone())));
            self.managers = Some(managers);
        }
        if let Some(mut set) = self.sent.update(&control.state, self.node) {
            // It is only used to compare histories, so an unreadable log does not block assignments.
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
