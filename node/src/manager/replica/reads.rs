//! Linearizable reads: a read that is asked for at any manager sees everything that was acknowledged before.
//!
//! The leader says up to which index everything is committed, once a majority has confirmed that it still leads (raft's read
//! index); who asked then waits until it has applied that. Reads that come in one round share one question. Raft drops questions
//! silently, so they are repeated under another name until they are answered or their time is over.

use std::collections::BTreeMap;

use commands::{Rejection, RejectionKind};

use super::contact::NO_LEADER_TICKS;
use super::{Effects, Outcome, Replica, Ticket};

/// Ticks after which a question is repeated: 0.3 s, more than one heartbeat.
const ASK_AGAIN_TICKS: u64 = 3;
/// Ticks after which a read is given up: 5 s, more than two elections.
const GIVE_UP_TICKS: u64 = 50;
/// Reads that wait; more are refused.
const READS_MAX: usize = 10_000;

/// From here on tickets are those of answers that wait until it is certain that this manager leads.
const CONFIRMS: Ticket = 1 << 63;

/// A read that waits, and the tick in which it was asked for.
type Read = (Ticket, u64);

/// The reads that wait.
#[derive(Default)]
pub(super) struct Reads {
    questions: u64,
    /// Not asked of the leader yet.
    new: Vec<Read>,
    /// Those that a question is under way for, by its number, with the tick in which it was asked.
    asked: BTreeMap<u64, (u64, Vec<Read>)>,
    /// Those that wait for an index to be applied.
    confirmed: BTreeMap<u64, Vec<Ticket>>,
    /// Answers of a leader that changed nothing, by the read that they wait for.
    unconfirmed: BTreeMap<Ticket, Vec<(Ticket, Outcome)>>,
    /// Numbers those reads.
    confirmations: u64,
}

impl Reads {
    fn len(&self) -> usize {
        let asked: usize = self.asked.values().map(|(_, reads)| reads.len()).sum();
        self.new.len() + asked + self.confirmed.values().map(Vec::len).sum::<usize>()
    }

    /// The leader answered a question.
    fn confirm(&mut self, question: u64, index: u64) {
        if let Some((_, reads)) = self.asked.remove(&question) {
            self.confirmed.entry(index).or_default().extend(reads.into_iter().map(|(ticket, _)| ticket));
        }
    }

    /// Takes back what was not answered for so long that it is to be asked again; those whose time is over.
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
    /// Asks for the moment from which on this manager's state holds everything that was acknowledged until now.
    ///
    /// # Errors
    /// When too many reads wait already, or nobody has led for some time.
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

    /// Holds answers that say that nothing had to change until it is certain that this manager led when it said so: another one may
    /// have changed what they speak of. One that votes alone need not ask.
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

    /// This manager leads no more: what it held to be true may not have been.
    pub(super) fn deny_confirmation(&mut self, effects: &mut Effects) {
        let denied = std::mem::take(&mut self.reads.unconfirmed).into_values().flatten();
        effects.answers.extend(denied.map(|(ticket, _)| (ticket, Outcome::Unknown)));
    }

    /// Asks the leader one question for all that is new.
    pub(super) fn ask_for_reads(&mut self) {
        if self.reads.new.is_empty() || self.consensus.leader().is_none() {
            return;
        }
        self.reads.questions += 1;
        let (question, new) = (self.reads.questions, std::mem::take(&mut self.reads.new));
        self.reads.asked.insert(question, (self.ticks, new));
        self.consensus.read_index([self.run(), self.consensus.id(), question]);
    }

    /// Says which reads may go on.
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

    /// Once a tick: repeats questions, and gives up reads whose time is over.
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
