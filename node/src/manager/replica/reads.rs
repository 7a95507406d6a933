//! Linearizable reads: a read on any manager sees everything that was acknowledged before.
//!
//! The leader returns the index up to which everything is committed, once a majority has confirmed that it still leads (raft's
//! read index); the reader then waits until this manager has applied that index. Reads that arrive in one round share one
//! request. Raft drops requests silently, so they are repeated with a new number until they are answered or time out.

use std::collections::BTreeMap;

use commands::{Rejection, RejectionKind};

use super::contact::NO_LEADER_TICKS;
use super::{Effects, Outcome, Replica, Ticket};

/// Ticks after which a request is repeated: 0.3 s, more than one heartbeat.
const ASK_AGAIN_TICKS: u64 = 3;
/// Ticks after which a read times out: 5 s, more than two elections.
const GIVE_UP_TICKS: u64 = 50;
/// Reads that may wait; further ones are refused.
const READS_MAX: usize = 10_000;

/// Tickets from here on belong to answers that wait until it is certain that this manager leads.
const CONFIRMS: Ticket = 1 << 63;

/// A waiting read, and the tick in which it was requested.
type Read = (Ticket, u64);

/// The waiting reads.
#[derive(Default)]
pub(super) struct Reads {
    questions: u64,
    /// Not requested from the leader yet.
    new: Vec<Read>,
    /// Those with a request in flight, by its number, with the tick in which it was sent.
    asked: BTreeMap<u64, (u64, Vec<Read>)>,
    /// Those that wait for an index to be applied.
    confirmed: BTreeMap<u64, Vec<Ticket>>,
    /// Answers of a leader to commands that changed nothing, by the read that they wait for.
    unconfirmed: BTreeMap<Ticket, Vec<(Ticket, Outcome)>>,
    /// Numbers those reads.
    confirmations: u64,
}

impl Reads {
    fn len(&self) -> usize {
        let asked: usize = self.asked.values().map(|(_, reads)| reads.len()).sum();
        self.new.len() + asked + self.confirmed.values().map(Vec::len).sum::<usize>()
    }

    /// The leader answered a request.
    fn confirm(&mut self, question: u64, index: u64) {
        if let Some((_, reads)) = self.asked.remove(&question) {
            self.confirmed.entry(index).or_default().extend(reads.into_iter().map(|(ticket, _)| ticket));
        }
    }

    /// Queues reads again that were not answered for too long; returns those that timed out.
    fn overdue(&mut self, tick: u64) -> Vec<Ticket> {
        let late: Vec<u64> =
            self.asked.iter().filter(|(_, (at, _))| at + ASK_AGAIN_TICKS <= tick).map(|(n, _)| *n).collect();
        for question in late {
            self.new.extend(self.asked.remove(&question).into_iter().flat_map(|(_, reads)| reads));
        }
        let (over, left): (Vec<Read>, Vec<Read>) =
            std::mem::take(&mut self.new).into_iter().partition(|(_, since)| since + GIVE_UP_TICKS <= tick);
        self.new = left;
        over.into_iter().map(|(ticket, _)| ticket).collect()
    }
}

impl Replica {
    /// Requests the point from which on this manager's state includes everything that was acknowledged until now.
    ///
    /// # Errors
    /// When too many reads are waiting, or there has been no leader for some time.
    pub fn read(&mut self, ticket: Ticket) -> Result<(), Rejection> {
        if self.contact.is_lost_for(NO_LEADER_TICKS, self.ticks) {
            return Err(self.no_leader());
        }
        if self.reads.len() >= READS_MAX {
            let sentence = format!("{READS_MAX} reads wait already");
            return Err(Rejection::new(RejectionKind::Exhausted, "cluster", sentence, "try again in a moment"));
        }
        self.reads.new.push((ticket, self.ticks));
        Ok(())
    }

    /// Holds back answers that nothing had to change until it is certain that this manager was still the leader: another one may
    /// have changed the objects concerned. A single voter need not check.
    pub(super) fn confirm(&mut self, effects: &mut Effects) {
        let answers = std::mem::take(&mut effects.unconfirmed);
        if self.committed.cluster.members.values().filter(|member| member.votes).count() <= 1 {
            effects.answers.extend(answers);
        } else if !answers.is_empty() {
            self.reads.confirmations += 1;
            let ticket = CONFIRMS | self.reads.confirmations;
            self.reads.unconfirmed.insert(ticket, answers);
            self.reads.new.push((ticket, self.ticks));
        }
    }

    /// This manager no longer leads: what it took for true may be outdated.
    pub(super) fn deny_confirmation(&mut self, effects: &mut Effects) {
        let denied = std::mem::take(&mut self.reads.unconfirmed).into_values().flatten();
        effects.answers.extend(denied.map(|(ticket, _)| (ticket, Outcome::Unknown)));
    }

    /// Sends the leader one request for all new reads.
    pub(super) fn ask_for_reads(&mut self) {
        if self.reads.new.is_empty() || self.consensus.leader().is_none() {
            return;
        }
        self.reads.questions += 1;
        let (question, new) = (self.reads.questions, std::mem::take(&mut self.reads.new));
        self.reads.asked.insert(question, (self.ticks, new));
        self.consensus.read_index([self.run(), self.consensus.id(), question]);
    }

    /// Releases the reads that may proceed.
    pub(super) fn release_reads(&mut self, effects: &mut Effects) {
        let own = (self.run(), self.consensus.id());
        for ([run, raft_id, question], index) in self.consensus.take_read_states() {
            if (run, raft_id) == own {
                self.reads.confirm(question, index);
            }
        }
        let applied = self.consensus.applied();
        while let Some(first) = self.reads.confirmed.first_entry().filter(|first| *first.key() <= applied) {
            for ticket in first.remove() {
                match self.reads.unconfirmed.remove(&ticket) {
                    Some(answers) => effects.answers.extend(answers),
                    // Its answers were denied.
                    None if ticket >= CONFIRMS => {}
                    None => effects.reads.push((ticket, Ok(()))),
                }
            }
        }
    }

    /// Once a tick: repeats requests, and gives up reads that timed out.
    pub(super) fn watch_reads(&mut self) {
        let (confirms, over): (Vec<Ticket>, Vec<Ticket>) =
            self.reads.overdue(self.ticks).into_iter().partition(|ticket| *ticket >= CONFIRMS);
        for answers in confirms.iter().filter_map(|ticket| self.reads.unconfirmed.remove(ticket)).collect::<Vec<_>>() {
            self.outbox.answers.extend(answers.into_iter().map(|(ticket, _)| (ticket, Outcome::Unknown)));
        }
        if !over.is_empty() {
            let rejection = self.no_leader();
            self.outbox.reads.extend(over.into_iter().map(|ticket| (ticket, Err(rejection.clone()))));
        }
    }
}
