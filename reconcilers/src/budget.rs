//! The room left in a turn: events and bytes, so that one frame never grows with the size of a service.

use events::{Kind, TaskId, frame};

/// Bytes of one task's id in an event that lists tasks: tag, length, and two halves of nine bytes.
const ID_BYTES: usize = 20;
/// Bytes around an event's own fields in a frame: its cause, tags and lengths.
const EVENT_BYTES: usize = 16;

/// Events and bytes that still fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Events.
    pub events: usize,
    /// Their encoded bytes.
    pub bytes: usize,
}

impl Budget {
    /// The budget of one frame.
    pub const FRAME: Self = Self { events: frame::EVENTS_MAX, bytes: frame::BYTES_SOFT_MAX };

    /// Whether nothing more fits, not even an event about one task. A step in progress when this becomes true is completed: a
    /// turn exceeds its budget by one step at most.
    pub fn is_spent(self) -> bool {
        self.events == 0 || self.bytes < EVENT_BYTES + ID_BYTES
    }

    /// An equal share for the first of `among` users; whatever the others get, one step fits into it.
    pub(crate) fn share(self, among: usize) -> Self {
        let bytes = self.bytes.div_ceil(among).max(EVENT_BYTES + ID_BYTES);
        Self { events: self.events.div_ceil(among), bytes: bytes.min(self.bytes) }
    }

    /// What remains after a share was used up to what is left of it.
    pub(crate) fn after(self, share: Self, left: Self) -> Self {
        let events = self.events.saturating_sub(share.events - left.events);
        Self { events, bytes: self.bytes.saturating_sub(share.bytes - left.bytes) }
    }

    /// The first of these tasks, as many as one event may still list. If some are left out, listing these uses up the budget.
    pub(crate) fn first_of(self, mut tasks: Vec<TaskId>) -> Vec<TaskId> {
        tasks.truncate(self.most_tasks());
        tasks
    }

    /// How many tasks one event may still list. Listing that many uses up the budget.
    pub(crate) fn most_tasks(self) -> usize {
        self.bytes.saturating_sub(EVENT_BYTES).div_ceil(ID_BYTES)
    }

    /// Deducts an event.
    pub(crate) fn take(&mut self, event: &Kind) {
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(event.encoded_len() + EVENT_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use events::{Id, TaskReaped};

    use super::*;

    #[test]
    fn a_list_that_was_cut_spends_the_room() {
        for bytes in [0, 35, 36, 37, 55, 56, 57, 1_000, 1_001, 1_019, 1_020] {
            let mut room = Budget { events: 10, bytes };
            let all: Vec<TaskId> = (1..100).map(TaskId::from_bits).collect();
            let tasks = room.first_of(all.clone());
            assert!(tasks.len() < all.len());
            room.take(&Kind::TaskReaped(TaskReaped { tasks }));
            assert!(room.is_spent(), "{bytes} bytes: {room:?}");
        }
    }

    #[test]
    fn a_share_of_room_that_is_not_spent_is_not_spent_and_what_is_left_of_it_goes_on() {
        for (events, bytes) in [(1, 36), (2, 40), (10, 100), (1_000, 500_000)] {
            let room = Budget { events, bytes };
            for among in [1, 2, 3, 1_000] {
                let share = room.share(among);
                assert!(!share.is_spent() && share.events <= events && share.bytes <= bytes, "{room:?} among {among}");
                assert_eq!(room.after(share, share), room);
                assert_eq!(room.after(share, Budget { events: 0, bytes: 0 }).events, events - share.events);
            }
        }
    }

    #[test]
    fn room_that_is_not_spent_has_place_for_a_task() {
        let room = Budget { events: 1, bytes: EVENT_BYTES + ID_BYTES };
        assert!(!room.is_spent());
        assert_eq!(room.first_of(vec![TaskId::from_bits(1), TaskId::from_bits(2)]), [TaskId::from_bits(1)]);
    }
}
