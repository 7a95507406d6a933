//! Raft's read index: the index up to which everything is committed at the time of the request.

use raft::ReadState;

use super::Consensus;

/// Identifies a request among those of all managers: the run of the requesting manager, its raft id, a number. No name is used
/// twice.
pub type ReadName = [u64; 3];

impl Consensus {
    /// Asks the leader for the index up to which everything is committed. [`Consensus::take_read_states`] returns the answer,
    /// under this name; raft drops the request if there is no leader, or one that has not committed anything in its term.
    pub fn read_index(&mut self, name: ReadName) {
        let mut context = Vec::with_capacity(size_of::<ReadName>());
        name.iter().for_each(|part| context.extend_from_slice(&part.to_be_bytes()));
        self.node.read_index(context);
    }

    /// The answers to such requests so far.
    pub fn take_read_states(&mut self) -> Vec<(ReadName, u64)> {
        let named = |state: ReadState| {
            let (parts, rest) = state.request_ctx.as_chunks::<8>();
            let name: [[u8; 8]; 3] = parts.try_into().ok().filter(|_| rest.is_empty())?;
            Some((name.map(u64::from_be_bytes), state.index))
        };
        std::mem::take(&mut self.read_states).into_iter().filter_map(named).collect()
    }
}
