//! How a manager catches up whom entries alone do not bring up to date, because they are cut where it stands: it is offered a
//! state by its name, fetches the history that leads there from what it has, page by page, and folds it. Each frame is
//! verified by the chain, and the last one by the offer. Only the secrets, which history does not hold, are sent as they are.
//!
//! So every manager that votes has the whole history. Nothing of it counts before all of it is on the disk: a start in the middle
//! begins where the manager stood before.

use bytes::Bytes;

use crate::log::{FrameLink, Offer};
use crate::manager::fold::{FoldError, Folded};

use super::peers::PeerMessage;

/// Ticks after which what was not answered is asked for again.
const ASK_AGAIN_TICKS: u64 = 5;
/// Ticks without any answer after which the offer is given up: who leads by now makes another.
const GIVE_UP_TICKS: u64 = 100;

/// A manager on its way to a state that it was offered.
pub(super) struct CatchUp {
    /// Who offers it.
    pub(super) leader: u64,
    pub(super) offer: Offer,
    /// Raft's own message, for which the time has not come.
    pub(super) message: Vec<u8>,
    /// What was fetched so far, folded.
    pub(super) folded: Folded,
    asked_at: u64,
    answered_at: u64,
}

/// What a page of history came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// It goes on from what there is.
    Taken,
    /// It was taken before, or does not follow yet.
    Skipped,
}

impl CatchUp {
    pub(super) fn new(leader: u64, offer: Offer, message: Vec<u8>, folded: Folded, tick: u64) -> Self {
        Self { leader, offer, message, folded, asked_at: tick, answered_at: tick }
    }

    /// Goes on with another offer, of the same leader or a new one; whether it can.
    pub(super) fn turn_to(&mut self, leader: u64, offer: &Offer, message: &[u8]) -> bool {
        let can = self.end().is_none_or(|end| end.index <= offer.index);
        if can {
            (self.leader, self.offer, self.message) = (leader, offer.clone(), message.to_vec());
        }
        can
    }

    /// What to ask for next.
    pub(super) fn ask(&mut self, tick: u64) -> (u64, PeerMessage) {
        self.asked_at = tick;
        (self.leader, PeerMessage::WantHistory { after: self.end(), to: self.offer.index })
    }

    /// Whether to ask again; nothing if it is time to give up.
    pub(super) fn is_overdue(&self, tick: u64) -> Option<bool> {
        (self.answered_at + GIVE_UP_TICKS > tick).then_some(self.asked_at + ASK_AGAIN_TICKS <= tick)
    }

    /// Folds a page of history.
    ///
    /// # Errors
    /// When a frame in it cannot be folded, or leads to another state than what was offered.
    pub(super) fn take(&mut self, frames: &[(u64, Bytes)], tick: u64) -> Result<Page, FoldError> {
        self.answered_at = tick;
        for (number, (index, stored)) in frames.iter().enumerate() {
            match self.folded.fold_frame(*index, stored) {
                Err(FoldError::Unchained { .. }) if number == 0 => return Ok(Page::Skipped),
                folded => drop(folded?),
            }
        }
        match self.end() {
            Some(end) if end.index == self.offer.index && end.hash != self.offer.frame_hash => {
                Err(FoldError::Unchained { index: end.index })
            }
            Some(_) | None => Ok(if frames.is_empty() { Page::Skipped } else { Page::Taken }),
        }
    }

    /// Whether all of its history is here. Where the other erased a value meanwhile, only a later offer has the frame that says so.
    pub(super) fn is_there(&self) -> bool {
        self.end().is_some_and(|end| end.index == self.offer.index) && self.folded.unannounced.is_empty()
    }

    fn end(&self) -> Option<FrameLink> {
        self.folded.end()
    }
}
