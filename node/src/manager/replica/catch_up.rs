//! How a manager catches up that entries alone cannot bring up to date, because those that it needs are compacted: it is offered
//! a state by its index and hash, fetches the history that leads there from its own last frame on, page by page, and folds it.
//! The chain verifies each frame, and the offer verifies the last one. Only the secrets, which are not in history, are sent as
//! they are.
//!
//! So every voter has the whole history. None of it takes effect before all of it is on disk: a restart in between continues from
//! where the manager stood before.

use bytes::Bytes;

use crate::log::{FrameLink, Offer};
use crate::manager::fold::{FoldError, Folded};

use super::peers::PeerMessage;

/// Ticks after which an unanswered request is repeated.
const ASK_AGAIN_TICKS: u64 = 5;
/// Ticks without any answer after which the offer is abandoned: the current leader will make another.
const GIVE_UP_TICKS: u64 = 100;

/// A manager that catches up with an offered state.
pub(super) struct CatchUp {
    /// The raft id of the leader that offers it.
    pub(super) leader: u64,
    pub(super) offer: Offer,
    /// Raft's own message, which is held back until then.
    pub(super) message: Vec<u8>,
    /// The state folded from what was fetched so far.
    pub(super) folded: Folded,
    asked_at: u64,
    answered_at: u64,
}

/// The result of receiving a page of history.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// It continues what was fetched before.
    Taken,
    /// It was received before, or does not continue yet.
    Skipped,
}

impl CatchUp {
    pub(super) fn new(leader: u64, offer: Offer, message: Vec<u8>, folded: Folded, tick: u64) -> Self {
        Self { leader, offer, message, folded, asked_at: tick, answered_at: tick }
    }

    /// Switches to another offer, of the same leader or a new one; returns whether it can.
    pub(super) fn turn_to(&mut self, leader: u64, offer: &Offer, message: &[u8]) -> bool {
        let can = self.end().is_none_or(|end| end.index <= offer.index);
        if can {
            (self.leader, self.offer, self.message) = (leader, offer.clone(), message.to_vec());
        }
        can
    }

    /// The next request.
    pub(super) fn ask(&mut self, tick: u64) -> (u64, PeerMessage) {
        self.asked_at = tick;
        (self.leader, PeerMessage::WantHistory { after: self.end(), to: self.offer.index })
    }

    /// Whether to repeat the request; `None` if it is time to give up.
    pub(super) fn is_overdue(&self, tick: u64) -> Option<bool> {
        (self.answered_at + GIVE_UP_TICKS > tick).then_some(self.asked_at + ASK_AGAIN_TICKS <= tick)
    }

    /// Folds a page of history.
    ///
    /// # Errors
    /// When a frame in it cannot be folded, or leads to another state than the offered one.
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

    /// Whether all of its history is here. If the leader erased a value meanwhile, only a later offer includes the frame that
    /// announces it.
    pub(super) fn is_there(&self) -> bool {
        self.end().is_some_and(|end| end.index == self.offer.index) && self.folded.unannounced.is_empty()
    }

    fn end(&self) -> Option<FrameLink> {
        self.folded.end()
    }
}
