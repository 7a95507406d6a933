//! A log that ends before what this manager confirmed: an older copy of its disk was put back, or the disk lost what it had
//! confirmed. Raft itself takes that for impossible, and breaks off.

use ::raft::eraftpb;

use super::{Consensus, StepError};
use crate::log::LogError;

/// Who knows how far the log reached.
const WITNESS: &str = "confirmed to the leader";

impl Consensus {
    /// A leader says with each heartbeat how much of what is committed this manager has, by its own confirmations. If that is not there,
    /// neither this run nor a later one may vote: others may rely on what is gone.
    pub(super) fn require_confirmed(&self, message: &eraftpb::Message) -> Result<(), StepError> {
        let (known, last) = (message.commit, self.node.raft.raft_log.last_index());
        if message.get_msg_type() != eraftpb::MessageType::MsgHeartbeat || known <= last {
            return Ok(());
        }
        let shortened = LogError::Shortened { last, known, witness: WITNESS };
        Err(StepError::Shortened(self.store.note_durable(known).map_or_else(|failed| failed, |()| shortened)))
    }
}
