//! The replica among its peers: messages, the progress of followers, and states for those that entries cannot bring up to date.

use std::sync::Arc;

use events::{Event, Kind, VolatilePayload};
use projections::{Cluster, Touched};
use reconcilers::members::{best_successor, next_change, obstacles, successor};

use crate::log::{MemberChange, Membership, Offer, StepError};
use crate::manager::fold::Folded;

use super::catch_up::{CatchUp, Page};
use super::peers::{HistoryAsked, PeerMessage};
use super::{Effects, FatalError, LogError, Replica, Role};

/// The raft membership change of an event, if it is one. The first manager's raft started with it as a voter.
pub(super) fn change_of(event: &Event) -> Option<MemberChange> {
    let kind = event.kind.as_ref()?;
    if let Kind::MemberAdded(added) = kind {
        return (!added.voter).then_some(MemberChange::AddLearner(added.raft_id));
    }
    if let Kind::MemberPromoted(promoted) = kind {
        return Some(MemberChange::AddVoter(promoted.raft_id));
    }
    if let Kind::MemberDemoted(demoted) = kind {
        return Some(MemberChange::AddLearner(demoted.raft_id));
    }
    if let Kind::MemberRemoved(removed) = kind {
        return Some(MemberChange::Remove(removed.raft_id));
    }
    None
}

/// Raft's configuration according to a state; `None` before the first frame.
pub fn membership(cluster: &Cluster) -> Option<Membership> {
    let ids = |votes| {
        let members = cluster.members.values().filter(move |member| member.votes == votes);
        members.map(|member| member.raft_id).collect()
    };
    let membership = Membership { voters: ids(true), learners: ids(false), ..Membership::default() };
    (!membership.voters.is_empty()).then_some(membership)
}

impl Replica {
    /// This manager's raft id.
    pub fn raft_id(&self) -> u64 {
        self.consensus.id()
    }

    /// The newest term that this manager has seen.
    pub fn term(&self) -> u64 {
        self.consensus.term()
    }

    /// The raft id of the manager that leads, if one is known.
    pub fn leader_id(&self) -> Option<u64> {
        self.consensus.leader()
    }

    /// How far this manager has come in catching up with an offered state, and the index of that state.
    pub fn catching_up(&self) -> Option<(u64, u64)> {
        let catch_up = self.catch_up.as_ref()?;
        Some((catch_up.folded.cluster.position.index, catch_up.offer.index))
    }

    /// Reports that messages for another manager cannot be delivered. It counts as absent until it sends something again: this
    /// immediately affects whether the others can do without one more.
    pub fn unreachable(&mut self, raft_id: u64) {
        self.contacts.forget(raft_id);
        self.consensus.unreachable(raft_id);
    }

    /// Hands leadership to another manager, because this one is about to stop: once all commands submitted to it are committed.
    /// Must be called again until it returns that there is nothing to hand over, or no manager to hand it to.
    pub fn hand_over(&mut self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let peers = self.contacts.peers(&self.consensus, self.ticks);
        let Some(next) = best_successor(&leader.tip, &peers, |_| true) else { return false };
        if leader.has_answered() {
            self.consensus.hand_over(next);
        }
        true
    }

    /// Receives a message from another manager. The results are in the next [`Replica::advance`].
    ///
    /// # Errors
    /// When the process must end: the other's history leads to another state, or this manager's log lost what it had.
    pub fn receive(&mut self, from: u64, message: PeerMessage) -> Result<(), FatalError> {
        match message {
            PeerMessage::Raft(bytes) => self.receive_raft(from, &bytes),
            PeerMessage::WantHistory { after, to } => {
                match self.contacts.answer(from, after, to, self.ticks) {
                    Some(answer) => self.outbox.messages.push((from, answer)),
                    None => self.outbox.asked.push(HistoryAsked { peer: from, after, to }),
                }
                Ok(())
            }
            PeerMessage::History { to, frames } => self.receive_history(to, frames),
            PeerMessage::Secrets { at, secrets } => {
                self.receive_secrets(at, secrets);
                Ok(())
            }
            PeerMessage::Command { call, first, request } => {
                self.receive_command(from, call, first, &request);
                Ok(())
            }
            PeerMessage::Resend { call } => {
                self.receive_resend(from, call);
                Ok(())
            }
            PeerMessage::Disk(space) => {
                self.disks.note(from, space, self.ticks);
                Ok(())
            }
            PeerMessage::MembersStatus(members_status) => {
                self.receive_members_status(from, members_status);
                Ok(())
            }
            PeerMessage::Outcome { call, outcome } => {
                self.receive_outcome(from, call, &outcome);
                Ok(())
            }
            PeerMessage::Presence(beats) => {
                self.receive_digest(from, beats);
                Ok(())
            }
            PeerMessage::Uses(uses) => {
                self.receive_uses(from, uses);
                Ok(())
            }
            PeerMessage::NotOffered { at } => {
                if self.catch_up.as_ref().is_some_and(|catch_up| catch_up.offer.index == at) {
                    self.give_up_offer()?;
                }
                Ok(())
            }
        }
    }

    fn receive_raft(&mut self, sender: u64, bytes: &[u8]) -> Result<(), FatalError> {
        match self.consensus.offered(bytes) {
            Ok((from, _)) if from != sender => {
                tracing::warn!(peer = sender, "a message in another manager's name was dropped")
            }
            Ok((from, Some(offer))) => {
                self.contacts.heard(from, self.ticks);
                self.follow_offer(from, offer, bytes)?;
            }
            Ok((from, None)) => {
                self.contacts.heard(from, self.ticks);
                match self.consensus.step(bytes) {
                    Ok(()) => {}
                    Err(StepError::Shortened(error)) => return Err(error.into()),
                    Err(error @ (StepError::Malformed(_) | StepError::Refused(_))) => {
                        tracing::debug!(%error, "a message was dropped");
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "a message was dropped"),
        }
        Ok(())
    }

    /// Starts to fetch the history of an offered state, or continues with what was fetched for another one.
    fn follow_offer(&mut self, leader: u64, offer: Offer, message: &[u8]) -> Result<(), FatalError> {
        if self.restoring.is_some() {
            return Ok(());
        }
        let goes_on = self.catch_up.as_mut().map(|catch_up| catch_up.turn_to(leader, &offer, message));
        match goes_on {
            Some(true) => {}
            Some(false) => return self.give_up_offer(),
            None => {
                tracing::info!(index = offer.index, "this manager fetches the history that it lacks");
                self.discard_fetched()?;
                let folded = self.committed.clone();
                self.catch_up = Some(CatchUp::new(leader, offer, message.to_vec(), folded, self.ticks));
            }
        }
        self.ask_for_history();
        Ok(())
    }

    fn ask_for_history(&mut self) {
        let asked = self.catch_up.as_mut().map(|catch_up| catch_up.ask(self.ticks));
        self.outbox.messages.extend(asked);
    }

    fn give_up_offer(&mut self) -> Result<(), FatalError> {
        self.catch_up = None;
        self.discard_fetched()
    }

    /// Fetched history that is not needed is discarded with the next write of history, which is otherwise empty.
    fn discard_fetched(&mut self) -> Result<(), FatalError> {
        if self.consensus.has_fetched() {
            let applied = self.consensus.applied();
            self.outbox.writes.push(self.consensus.apply(Vec::new(), applied)?);
        }
        Ok(())
    }

    fn receive_history(&mut self, to: u64, frames: Vec<(u64, bytes::Bytes)>) -> Result<(), FatalError> {
        let Some(catch_up) = self.catch_up.as_mut().filter(|catch_up| catch_up.offer.index == to) else {
            return Ok(());
        };
        if catch_up.take(&frames, self.ticks)? == Page::Taken {
            self.outbox.writes.push(self.consensus.fetched(frames)?);
            self.ask_for_history();
        }
        Ok(())
    }

    fn receive_secrets(&mut self, at: u64, secrets: Vec<VolatilePayload>) {
        let Some(mut catch_up) = self.catch_up.take_if(|catch_up| catch_up.offer.index == at && catch_up.is_there())
        else {
            return;
        };
        catch_up.folded.keyring = Arc::default();
        catch_up.folded.keep(&secrets);
        let permits = catch_up.folded.cluster.redacted_frames();
        if self.consensus.restore(&catch_up.message, &catch_up.offer, secrets, permits) {
            self.restoring = Some((None, catch_up.folded));
        }
    }

    /// Continues with the offered state, once it is on disk.
    pub(super) fn resume_from_restored(&mut self, effects: &mut Effects) {
        let is_written = |round: &Option<u64>| round.is_some_and(|round| round <= self.written_round);
        let Some((_, folded)) = self.restoring.take_if(|(round, _)| is_written(round)) else { return };
        let index = folded.cluster.position.index;
        tracing::info!(index, "this manager has the history that it lacked");
        self.consensus.begin_with(index);
        // An existing checkpoint is of an earlier state, and remains usable.
        self.committed = Folded { checkpoint: self.committed.checkpoint, ..folded };
        (effects.changed, effects.restored) = (true, true);
        effects.touched.merge(Touched { everything: true, ..Touched::default() });
    }

    /// Offers the committed state to a manager that needs one to start from.
    pub(super) fn offer_state(&mut self) -> Result<(), LogError> {
        let index = self.committed.cluster.position.index;
        if !self.consensus.wants_offer() || !self.consensus.is_leader() {
            return Ok(());
        }
        let (Some(membership), Some(frame_hash)) = (membership(&self.committed.cluster), self.committed.last_hash)
        else {
            return Ok(());
        };
        let Some(term) = self.consensus.term_at(index)? else { return Ok(()) };
        self.contacts.offer(index, Arc::clone(&self.committed.keyring), self.ticks);
        self.consensus.set_offer(Some(Offer { index, term, frame_hash, membership }));
        Ok(())
    }

    /// Once a tick: checks which peers are present, what they were offered, and whether the members should change.
    pub(super) fn watch_members(&mut self) {
        match self.catch_up.as_ref().map(|catch_up| catch_up.is_overdue(self.ticks)) {
            Some(Some(true)) => self.ask_for_history(),
            Some(None) => self.catch_up = None,
            Some(Some(false)) | None => {}
        }
        self.contacts.watch_offers(&mut self.consensus, self.ticks);
        self.contacts.keep_members(&self.committed.cluster);
        self.disks.keep_members(&self.committed.cluster);
        let Role::Leader(leader) = &mut self.role else { return };
        leader.digests.keep_nodes(&leader.tip, self.ticks);
        let peers = self.contacts.peers(&self.consensus, self.ticks);
        leader.left.members |= next_change(&leader.tip, &peers).is_some();
        let successor = successor(&leader.tip, &peers);
        if let Some(next) = successor.or_else(|| self.disks.successor(&leader.tip, &peers, self.ticks)) {
            self.consensus.hand_over(next);
        }
        self.contacts.log_obstacles(obstacles(&leader.tip, &peers));
    }
}
