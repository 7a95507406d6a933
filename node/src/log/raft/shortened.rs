//! A log that ends before what this manager confirmed: an older copy of its disk was restored, or the disk lost confirmed writes.
//! Raft itself considers that impossible, and aborts.

use ::raft::eraftpb;

use super::{Consensus, StepError};
use crate::log::LogError;

/// The record that proves how far the log reached.
const WITNESS: &str = "confirmed to the leader";

impl Consensus {
    /// With each heartbeat, a leader states how many of the committed entries this manager has, according to its own
    /// confirmations. If they are missing, neither this run nor a later one may vote: other managers may rely on them.
    pub(super) fn require_confirmed(&self, message: &eraftpb::Message) -> Result<(), StepError> {
        let (known, last) = (message.commit, self.node.raft.raft_log.last_index());
        if message.get_msg_type() != eraftpb::MessageType::MsgHeartbeat || known <= last {
            return Ok(());
        }
        let shortened = LogError::Shortened { last, known, witness: WITNESS };
        Err(StepError::Shortened(self.store.note_durable(known).map_or_else(|failed| failed, |()| shortened)))
    }
}
