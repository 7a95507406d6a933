//! One turn's work, from the first command to the bytes of the frame.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use commands::{Command, Ctx, Decision, Rejection};
use events::frame::{self, BYTES_HARD_MAX, BYTES_SOFT_MAX, EVENTS_MAX, FrameHash};
use events::{CommandRecord, Event, Frame, FrameHeader, IdGenerator, Kind, NodeId, Timestamp, VolatilePayload, codec};
use projections::{Cluster, Stamp, Touched};
use prost::Message;
use reconcilers::{Budget, Settled, TimerKey};

use super::disks::FullDisk;
use super::role::{Asked, Leader};
use super::{Folded, Outcome, Request, Ticket};
use crate::log::{AppliedFrame, MemberChange};

/// Events after which a turn takes no more commands.
const COMMAND_EVENTS_MAX: usize = EVENTS_MAX / 2;
/// Events that settling may always add, so that a flood of commands cannot starve it. It has a separate share of the bytes.
const SETTLE_EVENTS_MIN: usize = EVENTS_MAX / 2;

/// The position of a turn in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base {
    pub index: u64,
    pub term: u64,
    pub leader: NodeId,
    pub now: Timestamp,
    /// The salt of ids in this run of the manager.
    pub epoch: Option<u64>,
}

/// A frame that was proposed.
pub(super) struct Proposal {
    pub index: u64,
    pub hash: FrameHash,
    /// The frame's stored bytes.
    pub stored: Bytes,
    /// The membership change that it is to raft.
    pub change: Option<MemberChange>,
    /// Bytes of the whole entry: the frame and the secrets that travel with it.
    pub entry_bytes: usize,
    pub volatile: Vec<VolatilePayload>,
    /// The state after it.
    pub after: Cluster,
    /// The answers to send once it is committed.
    pub answers: Vec<(Ticket, Outcome)>,
    /// The requests, for another leader if this one cannot commit them.
    pub requests: Vec<Asked>,
    pub wakes: BTreeMap<TimerKey, Option<Timestamp>>,
    pub left: Touched,
    /// Everything that it touches.
    pub scope: Touched,
}

impl Proposal {
    /// The committed state after this frame is the one that the turn computed: the same fold of the same events.
    pub(super) fn fold_into(self, committed: &mut Folded) -> AppliedFrame {
        committed.cluster = self.after;
        committed.last_hash = Some(self.hash);
        committed.keep(&self.volatile);
        AppliedFrame { index: self.index, bytes: self.stored, secrets: self.volatile }
    }
}

/// A savepoint of a turn, to roll back to.
struct Mark {
    next: Cluster,
    ids: IdGenerator,
    asked: Touched,
    records: usize,
    events: usize,
    bytes: usize,
    volatile: usize,
    registered: usize,
    disconnected: usize,
}

/// A turn in progress, on a clone of the tip.
pub(super) struct Draft {
    base: Base,
    at: Stamp,
    next: Cluster,
    ids: IdGenerator,
    /// The raft ids of the managers that can be reached.
    reached: Arc<BTreeSet<u64>>,
    records: Vec<CommandRecord>,
    events: Vec<Event>,
    bytes: usize,
    volatile: Vec<VolatilePayload>,
    answers: Vec<(Ticket, Outcome)>,
    /// Commands that changed nothing, including rejected ones: answered after everything before them. The state that they were
    /// judged against may not be committed yet, and another manager may lead by now.
    unchanged: Vec<(Ticket, Outcome)>,
    requests: Vec<Asked>,
    /// The full disk that blocks additions.
    full: Option<FullDisk>,
    touched: Touched,
    /// What commands touched.
    asked: Touched,
    registered: Vec<NodeId>,
    disconnected: Vec<NodeId>,
    settled: Settled,
}

impl Draft {
    pub(super) fn new(leader: &mut Leader, base: Base) -> Self {
        let next = leader.tip.clone();
        let at = Stamp { index: base.index, time: base.now.max(next.position.time) };
        let ids = IdGenerator::new(next.id(), base.index);
        let ids = match base.epoch {
            Some(epoch) => ids.salted(epoch, leader.last_hash.as_ref(), at.time),
            None => ids,
        };
        let mut touched = std::mem::take(&mut leader.left);
        touched.merge(leader.timers.due(base.now));
        Self {
            base,
            at,
            ids,
            reached: Arc::new(leader.peers.reached()),
            next,
            records: Vec::new(),
            events: Vec::new(),
            bytes: 0,
            volatile: Vec::new(),
            answers: Vec::new(),
            unchanged: Vec::new(),
            requests: Vec::new(),
            full: leader.full.clone(),
            touched,
            asked: Touched::default(),
            registered: Vec::new(),
            disconnected: Vec::new(),
            settled: Settled::default(),
        }
    }

    /// Judges queued commands in order until the frame has as many as it may.
    pub(super) fn judge(&mut self, queue: &mut VecDeque<Asked>) {
        while self.events.len() < COMMAND_EVENTS_MAX && self.bytes < BYTES_SOFT_MAX {
            let Some(asked) = queue.pop_front() else { return };
            if let Some(answer) = self.first_answer(&asked.request) {
                self.unchanged.push((asked.ticket, answer));
                self.requests.push(asked);
                continue;
            }
            match self.carry_out(&asked) {
                Ok(()) => {}
                Err(rejection) => {
                    let (command, why) = (asked.request.command.name(), &rejection.sentence);
                    tracing::debug!(command, why, "a command was refused");
                    self.unchanged.push((asked.ticket, Outcome::Rejected(rejection)));
                }
            }
            self.requests.push(asked);
        }
    }

    /// Executes a command and those joined to it, or none of them.
    fn carry_out(&mut self, asked: &Asked) -> Result<(), Rejection> {
        let Asked { ticket, via, request } = asked;
        let (mut subject, mut changes) = (None, false);
        let before = (!request.joined.is_empty()).then(|| self.mark());
        for (position, part) in request.all().enumerate() {
            // One that already took effect is not repeated: of those submitted with it, some may have had nothing to do.
            if position > 0 && self.first_answer(part).is_some() {
                continue;
            }
            let decided = self.decide(part).and_then(|(decision, bytes, ids)| {
                self.bytes += bytes;
                if position == 0 {
                    subject.clone_from(&decision.subject);
                }
                changes |= self.take(part, *via, decision, ids);
                before.as_ref().map_or(Ok(()), |before| self.require_room(before, request))
            });
            if let Err(rejection) = decided {
                before.into_iter().for_each(|before| self.go_back(before));
                return Err(rejection);
            }
        }
        let (list, index) = match changes {
            true => (&mut self.answers, self.at.index),
            false => (&mut self.unchanged, self.next.position.index),
        };
        list.push((*ticket, Outcome::Committed { index, subject }));
        Ok(())
    }

    /// The decision on a command, its size in bytes, and the remaining ids.
    fn decide(&self, request: &Request) -> Result<(Decision, usize, IdGenerator), Rejection> {
        let Request { actor, command, reason, .. } = request;
        commands::require_reason(&self.next, command, reason.as_deref())?;
        if let Some(full) = &self.full {
            full.admit(&self.next, command)?;
        }
        commands::unchanged(&self.next, &request.unchanged)?;
        let mut ctx = Ctx { now: self.at.time, ids: self.ids.clone(), reached: Arc::clone(&self.reached) };
        let decision = commands::decide(&self.next, actor, command, &mut ctx)?;
        let secrets = decision.volatile.iter().map(Message::encoded_len);
        let bytes = decision.events.iter().map(Kind::encoded_len).chain(secrets).sum();
        if bytes > BYTES_HARD_MAX { Err(too_large(command, bytes)) } else { Ok((decision, bytes, ctx.ids)) }
    }

    /// The answer that a command got when it was submitted before: in an earlier frame or in this one.
    fn first_answer(&self, request: &Request) -> Option<Outcome> {
        if request.id == events::CommandId::default() {
            return None;
        }
        let actor = request.actor.record(Some(self.base.leader));
        if let Some(answer) = self.next.requests.answer(&actor, request.id) {
            return Some(Outcome::Committed { index: answer.index, subject: answer.subject });
        }
        let same = |record: &&CommandRecord| {
            record.id == request.id && record.actor.subject == actor.subject && record.actor.kind == actor.kind
        };
        let record = self.records.iter().rev().find(same)?;
        Some(Outcome::Committed { index: self.at.index, subject: record.subject.clone() })
    }

    /// Applies a decision; returns whether that changes anything.
    fn take(&mut self, request: &Request, via: NodeId, decision: Decision, ids: IdGenerator) -> bool {
        if decision.events.is_empty() && decision.volatile.is_empty() {
            return false;
        }
        let position = self.records.len();
        self.ids = ids;
        for kind in decision.events {
            let event = Event::by_command(position, kind);
            self.next.apply_into(&event, &self.at, &mut self.asked);
            if let Some(Kind::NodeRegistered(registered)) = &event.kind {
                self.registered.push(registered.node);
            }
            if let Some(Kind::NodeDisconnected(disconnected)) = &event.kind {
                self.disconnected.push(disconnected.node);
            }
            self.events.push(event);
        }
        self.volatile.extend(decision.volatile);
        self.records.push(CommandRecord {
            id: request.id,
            kind: request.command.name().to_owned(),
            actor: request.actor.record(Some(via)),
            reason: request.reason.clone(),
            correlation: request.correlation,
            causation: request.causation,
            subject: decision.subject,
        });
        true
    }

    /// A savepoint before commands that take effect together, or not at all.
    fn mark(&self) -> Mark {
        Mark {
            next: self.next.clone(),
            ids: self.ids.clone(),
            asked: self.asked.clone(),
            records: self.records.len(),
            events: self.events.len(),
            bytes: self.bytes,
            volatile: self.volatile.len(),
            registered: self.registered.len(),
            disconnected: self.disconnected.len(),
        }
    }

    fn go_back(&mut self, mark: Mark) {
        (self.next, self.ids, self.asked, self.bytes) = (mark.next, mark.ids, mark.asked, mark.bytes);
        self.records.truncate(mark.records);
        self.events.truncate(mark.events);
        self.volatile.truncate(mark.volatile);
        self.registered.truncate(mark.registered);
        self.disconnected.truncate(mark.disconnected);
    }

    /// Rejects commands that are together too large for one frame.
    fn require_room(&self, before: &Mark, request: &Request) -> Result<(), Rejection> {
        let (events, bytes) = (self.events.len() - before.events, self.bytes - before.bytes);
        if events <= COMMAND_EVENTS_MAX && bytes <= BYTES_HARD_MAX {
            return Ok(());
        }
        let commands = request.joined.len() + 1;
        let sentence = format!(
            "{commands} commands that take effect together exceed {COMMAND_EVENTS_MAX} events or {BYTES_HARD_MAX} bytes"
        );
        let hint = "do it in several steps, object by object";
        Err(Rejection::new(commands::RejectionKind::Exhausted, request.command.name(), sentence, hint))
    }

    /// Reconciles what the commands, the timers and the last turn left.
    pub(super) fn settle(&mut self, leader: &mut Leader) {
        for node in self.registered.drain(..) {
            leader.heard.returned(&leader.tip, node, self.at.time);
            leader.heard.heard(&self.next, node, self.at.time);
        }
        for node in self.disconnected.drain(..) {
            leader.heard.disconnected(node, self.at.time);
        }
        leader.heard.await_others(&self.next, self.at.time);
        let (ids, presence, candidates) = (&mut self.ids, leader.heard.presence(), &mut leader.candidates);
        let (peers, uses) = (&leader.peers, leader.uses.uses());
        let mut ctx = reconcilers::Ctx { now: self.at.time, ids, presence, peers, uses, candidates };
        let events = EVENTS_MAX.saturating_sub(self.events.len()).max(SETTLE_EVENTS_MIN);
        let room = Budget { events, bytes: BYTES_SOFT_MAX };
        let mut touched = std::mem::take(&mut self.touched);
        touched.merge(self.asked.clone());
        let quarantined = leader.quarantine.at(self.at.time);
        self.settled = reconcilers::settle_without(&quarantined, &mut self.next, touched, &mut ctx, &self.at, room);
        leader.quarantine.note(&mut self.settled, &self.asked, self.at.time);
        let destroyed =
            self.settled.events.iter().flat_map(|event| event.kind.iter().flat_map(Kind::destroyed_secrets));
        self.volatile.extend(destroyed.map(|name| VolatilePayload { key: name.clone(), value: None }));
        self.events.append(&mut self.settled.events);
    }

    /// The frame to propose; `None` if the turn changed nothing.
    pub(super) fn finish(
        mut self,
        leader: &mut Leader,
        unconfirmed: &mut Vec<(Ticket, Outcome)>,
    ) -> Option<(Proposal, Vec<u8>)> {
        if self.events.is_empty() && self.volatile.is_empty() {
            leader.timers.set(&self.settled.wakes);
            leader.left = self.settled.left;
            // These commands may be superfluous only because of something that is not committed yet.
            match leader.pending.back_mut() {
                Some(last) => {
                    last.answers.extend(self.unchanged);
                    last.requests.extend(self.requests);
                }
                None => unconfirmed.extend(self.unchanged),
            }
            return None;
        }
        let header = FrameHeader {
            format: frame::FORMAT,
            index: self.at.index,
            log_time: self.at.time,
            feature_level: self.next.feature_level(),
            previous_hash: leader.last_hash.map(Vec::from).unwrap_or_default(),
            leader: Some(self.base.leader),
            term: self.base.term,
        };
        let unknown =
            |event: &Event| event.kind.as_ref().is_some_and(|kind| kind.feature_level() > header.feature_level);
        assert!(!self.events.iter().any(unknown), "a frame of level {} has newer events", header.feature_level);
        let frame = Frame { header, commands: self.records, events: self.events };
        self.next.conclude(&frame, &self.at);
        let entry = codec::encode_entry(&frame, self.volatile.clone());
        let (commands, events, bytes) = (frame.commands.len(), frame.events.len(), entry.len());
        tracing::debug!(index = self.at.index, commands, events, bytes, cut = !self.settled.left.is_empty(), "a turn");
        let stored = codec::split_entry(&entry).map(|sections| Bytes::copy_from_slice(sections.frame));
        let stored = stored.expect("an entry that was just written can be split");
        self.answers.append(&mut self.unchanged);
        let proposal = Proposal {
            change: frame.events.iter().find_map(super::members::change_of),
            index: self.at.index,
            hash: frame::hash(&stored),
            stored,
            entry_bytes: entry.len(),
            volatile: self.volatile,
            after: self.next,
            answers: self.answers,
            requests: self.requests,
            wakes: self.settled.wakes,
            left: self.settled.left,
            scope: self.settled.touched,
        };
        Some((proposal, entry))
    }
}

fn too_large(command: &Command, bytes: usize) -> Rejection {
    let sentence = format!("{} would write {bytes} bytes at once, more than {BYTES_HARD_MAX}", command.name());
    let hint = "make the spec smaller, or use several steps";
    Rejection::new(commands::RejectionKind::Exhausted, command.name(), sentence, hint)
}
