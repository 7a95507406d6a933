//! The leader: its own data and operations.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use commands::{Actor, AssumeLeadership, Command, ForceQuorum, RecordStateHash, Rejection, RejectionKind};
use events::{ClusterId, NodeId, ServiceId, SessionId, Timestamp, frame::FrameHash};
use projections::{Cluster, Touched};
use reconcilers::{Candidates, Peers};

use crate::log::Consensus;
use crate::manager::fold::Folded;
use crate::timers::Timers;

use super::digest::Digests;
use super::disks::FullDisk;
use super::presence::PresenceTracker;
use super::proposal::{Base, Draft, Proposal};
use super::quarantine::Quarantine;
use super::uses::UseTracker;
use super::{Effects, Outcome, Request, Ticket};

/// Commands that may wait for a turn; further ones are refused, so that memory stays bounded.
pub const QUEUE_MAX: usize = 10_000;
/// Frames that may be proposed and not committed; then turns wait.
pub const IN_FLIGHT_FRAMES_MAX: usize = 64;
/// The same while frames are not full: one is written, the next one waits for it, and commands that arrive meanwhile share the
/// one after. More frames would each hold less, and cost more in total.
const PIPELINED_FRAMES: usize = 2;
/// Bytes of frames that may be proposed and not committed.
pub const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The ticket of the leader's own commands, for which no caller waits.
pub(super) const OWN: Ticket = 0;

/// What stays constant during one term of leadership.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    /// The leader.
    pub node: NodeId,
    /// The term that it was elected for.
    pub term: u64,
    /// The salt of ids in this run of the manager.
    pub epoch: Option<u64>,
    /// Frames between two records of the state's hash in the log.
    pub hash_frames: u64,
}

/// A command that waits for its answer.
pub(super) struct Asked {
    /// The caller's ticket.
    pub ticket: Ticket,
    /// The manager that received it.
    pub via: NodeId,
    /// The request.
    pub request: Request,
}

/// What a leader leaves when it stops leading.
pub(super) struct Unfinished {
    /// Proposed commands, which may or may not take effect.
    pub proposed: Vec<Asked>,
    /// Queued commands that were not judged.
    pub queued: Vec<Asked>,
}

/// The data that only a leader has.
pub(super) struct Leader {
    term: Term,
    queue: VecDeque<Asked>,
    /// The state after everything that was proposed.
    pub(super) tip: Cluster,
    pub(super) last_hash: Option<FrameHash>,
    /// Proposals that are not committed.
    pub(super) pending: VecDeque<Proposal>,
    pending_bytes: usize,
    pub(super) heard: PresenceTracker,
    /// Heartbeats reported by other managers.
    pub(super) digests: Digests,
    /// Resource use of the tasks of autoscaled services.
    pub(super) uses: UseTracker,
    /// What is known about the other managers, as of this turn.
    pub(super) peers: Peers,
    /// The full disk that blocks additions, as of this turn.
    pub(super) full: Option<FullDisk>,
    pub(super) timers: Timers,
    pub(super) quarantine: Quarantine,
    /// The scheduler's cache between turns.
    pub(super) candidates: Candidates,
    /// What the last turn had no room to reconcile.
    pub(super) left: Touched,
    /// Whether the last frame was full, so that the next one need not wait for more commands.
    fills_frames: bool,
    /// Index of the last state whose hash is in the log, or in flight.
    hash_at: u64,
}

impl Leader {
    /// A leader whose tip is the committed state.
    pub(super) fn new(term: Term, committed: &Folded) -> Self {
        Self {
            term,
            queue: VecDeque::new(),
            tip: committed.cluster.clone(),
            last_hash: committed.last_hash,
            pending: VecDeque::new(),
            pending_bytes: 0,
            heard: PresenceTracker::default(),
            digests: Digests::default(),
            uses: UseTracker::default(),
            peers: Peers::default(),
            full: None,
            timers: Timers::default(),
            quarantine: Quarantine::default(),
            candidates: Candidates::default(),
            left: Touched { everything: true, ..Touched::default() },
            fills_frames: false,
            hash_at: committed.cluster.position.index,
        }
    }

    /// Makes its first frame record that it leads, with the hash of the state that it starts from.
    pub(super) fn assume_leadership(&mut self, version: String, feature_level_max: u32) {
        let Term { node, term, .. } = self.term;
        self.queue_own(Command::AssumeLeadership(AssumeLeadership { node, term, version, feature_level_max }));
        self.queue_hash();
    }

    /// Makes its very first frame record that it continues alone.
    pub(super) fn continue_alone(&mut self, raft_id: u64, cluster: Option<ClusterId>) {
        self.queue_own(Command::ForceQuorum(ForceQuorum { node: self.term.node, raft_id, cluster }));
    }

    pub(super) fn tip(&self) -> &Cluster {
        &self.tip
    }

    pub(super) fn quarantined(&self) -> Arc<BTreeMap<ServiceId, Timestamp>> {
        self.quarantine.shown()
    }

    /// Queues a command that this manager or another one received.
    pub(super) fn submit(&mut self, ticket: Ticket, via: NodeId, request: Request) -> Result<(), Rejection> {
        if self.queue.len() >= QUEUE_MAX {
            let sentence = format!("{QUEUE_MAX} commands wait already");
            return Err(Rejection::new(RejectionKind::Exhausted, "cluster", sentence, "try again in a moment"));
        }
        self.queue.push_back(Asked { ticket, via, request });
        Ok(())
    }

    pub(super) fn heartbeat(&mut self, node: NodeId, session: SessionId, at: Timestamp) {
        let command = self.heard.note(&self.tip, node, session, at);
        // If there is no room, the next heartbeat of the node tries again.
        if let Some(command) = command.filter(|_| self.queue.len() < QUEUE_MAX) {
            let role = self.tip.nodes.get(node).map_or(events::Role::Worker, |node| node.role);
            let request = Request::unnamed(Actor::Node { id: node, role }, command);
            self.queue.push_back(Asked { ticket: OWN, via: self.term.node, request });
        }
    }

    pub(super) fn grant(&mut self, from: Timestamp, to: Timestamp) {
        self.heard.grant(&self.tip, from, to);
    }

    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.timers.next().filter(|_| self.may_propose())
    }

    pub(super) fn has_work(&self, now: Timestamp) -> bool {
        let due = self.timers.next().is_some_and(|wake| wake <= now);
        self.may_propose() && (!self.queue.is_empty() || due || !self.left.is_empty() || self.hash_is_due())
    }

    pub(super) fn turn(&mut self, consensus: &mut Consensus, now: Timestamp) -> Effects {
        let mut effects = Effects::default();
        if !self.has_work(now) {
            return effects;
        }
        if self.hash_is_due() {
            self.queue_hash();
        }
        let Term { node, term, epoch, .. } = self.term;
        let base = Base { index: consensus.next_index(), term, leader: node, now, epoch };
        let mut draft = Draft::new(self, base);
        draft.judge(&mut self.queue);
        draft.settle(self);
        let Some((proposal, bytes)) = draft.finish(self, &mut effects.unconfirmed) else { return effects };
        let proposed = match proposal.change {
            Some(change) => consensus.propose_change(change, bytes),
            None => consensus.propose(bytes),
        };
        match proposed {
            Ok(_) => {
                self.fills_frames = !proposal.left.is_empty() || !self.queue.is_empty();
                self.push(proposal);
            }
            Err(error) => {
                // None of it is in the log. The tip is unchanged; what was touched is reconciled again.
                tracing::debug!(%error, "a frame was not taken");
                self.left.merge(proposal.scope);
                effects.answers.extend(proposal.answers.into_iter().map(|(ticket, _)| (ticket, Outcome::Unknown)));
            }
        }
        effects
    }

    /// The proposal that was committed at this index, if it is this leader's own.
    pub(super) fn take_committed(&mut self, index: u64) -> Option<Proposal> {
        let proposal = self.pending.pop_front_if(|proposal| proposal.index == index)?;
        self.pending_bytes -= proposal.entry_bytes;
        Some(proposal)
    }

    /// Whether no caller waits for an answer.
    pub(super) fn has_answered(&self) -> bool {
        self.queue.is_empty() && self.pending.iter().all(|proposal| proposal.answers.is_empty())
    }

    /// It no longer leads: what is in flight may or may not take effect.
    pub(super) fn end(self) -> Unfinished {
        let proposed = self.pending.into_iter().flat_map(|proposal| proposal.requests).collect();
        Unfinished { proposed, queued: self.queue.into() }
    }

    fn may_propose(&self) -> bool {
        let frames = if self.fills_frames { IN_FLIGHT_FRAMES_MAX } else { PIPELINED_FRAMES };
        self.pending.len() < frames && self.pending_bytes < IN_FLIGHT_BYTES_MAX
    }

    fn push(&mut self, proposal: Proposal) {
        self.tip = proposal.after.clone();
        self.last_hash = Some(proposal.hash);
        self.pending_bytes += proposal.entry_bytes;
        self.left = proposal.left.clone();
        self.timers.set(&proposal.wakes);
        self.pending.push_back(proposal);
    }

    fn hash_is_due(&self) -> bool {
        self.tip.position.index >= self.hash_at + self.term.hash_frames
    }

    /// The hash is that of the tip, so the command has to come first in its frame.
    fn queue_hash(&mut self) {
        let (index, hash) = (self.tip.position.index, self.tip.state_hash());
        self.hash_at = index;
        self.queue_own(Command::RecordStateHash(RecordStateHash { index, hash }));
    }

    fn queue_own(&mut self, command: Command) {
        let (via, request) = (self.term.node, Request::unnamed(Actor::Manager(self.term.node), command));
        self.queue.push_front(Asked { ticket: OWN, via, request });
    }
}
