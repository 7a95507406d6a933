//! What must hold of all managers at all times: one history, one state at each index, one leader a term, one effect of each
//! command, and nothing lost that was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use events::frame::{self, FrameHash};
use events::{CommandId, Frame, NodeId};
use node::log::{HistoryReader, LogStore, PageSize};
use node::manager::fold::Folded;
use projections::{Cluster, check};

/// Watches what every manager commits, and folds the one history beside them.
#[derive(Default)]
pub struct Oracle {
    /// What history alone leads to.
    replayed: Folded,
    /// The frames of history, by index: their hashes, and the hash of the state after each.
    frames: BTreeMap<u64, (FrameHash, [u8; 16])>,
    /// Who led in each term.
    leaders: BTreeMap<u64, NodeId>,
    /// Commands that took effect, by id, with the index of their frame.
    effects: BTreeMap<CommandId, u64>,
    /// What clients were answered: the command, and the index of its frame.
    acknowledged: BTreeMap<CommandId, u64>,
    /// How often the members changed.
    member_changes: u64,
    /// How far each manager's history was read, by node.
    seen: BTreeMap<NodeId, u64>,
}

impl Oracle {
    /// What history leads to so far.
    pub fn cluster(&self) -> &Cluster {
        &self.replayed.cluster
    }

    /// How many leaders there were.
    pub fn elections(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// How often the members changed.
    pub fn member_changes(&self) -> u64 {
        self.member_changes
    }

    /// How many commands took effect.
    pub fn effects(&self) -> usize {
        self.effects.len()
    }

    /// Notes that a client was answered that a command took effect.
    pub fn acknowledge(&mut self, command: CommandId, index: u64) {
        let effect = self.effects.get(&command).copied();
        assert!(
            effect.is_none_or(|effect| effect == index),
            "command {command} took effect at {effect:?}, told {index}"
        );
        if effect.is_some() {
            self.acknowledged.insert(command, index);
        }
    }

    /// A manager starts again, or with another disk: it may have less than before.
    pub fn forget(&mut self, node: NodeId) {
        self.seen.remove(&node);
    }

    /// Looks at the committed state of a manager, and at the history that is new there.
    pub fn observe(&mut self, node: NodeId, cluster: &Cluster, store: &Arc<dyn LogStore>) {
        let index = cluster.position.index;
        let from = self.seen.get(&node).map_or(0, |seen| seen + 1);
        let mut reader = HistoryReader::starting_at(from);
        while reader.next() <= index {
            let page = reader.page(&**store, index, PageSize::WHOLE_HISTORY).expect("history can be read");
            if page.is_empty() {
                break;
            }
            page.into_iter().for_each(|(index, stored)| self.note(node, index, &stored));
        }
        self.seen.insert(node, index);
        if let Some((_, state)) = self.frames.get(&index) {
            assert_eq!(*state, cluster.state_hash(), "node {node} has another state after frame {index}");
        }
    }

    /// At the end: every manager's history is the same, from the first frame to the last, and has all that was acknowledged.
    pub fn compare(&self, node: NodeId, store: &Arc<dyn LogStore>) {
        let mut left = self.acknowledged.clone();
        let mut frames = 0;
        let verified = node::log::verify_all::<node::log::LogError>(&**store, |index, stored| {
            frames += 1;
            let known = self.frames.get(&index).map(|(hash, _)| *hash);
            assert_eq!(known, Some(frame::hash(stored)), "frame {index} of node {node} is another one");
            for command in decoded(stored).commands {
                assert!(left.remove(&command.id).is_none_or(|acknowledged| acknowledged == index), "{}", command.id);
            }
            Ok(())
        });
        verified.unwrap_or_else(|error| panic!("the history of node {node}: {error}"));
        assert_eq!(frames, self.frames.len(), "node {node} lacks frames");
        assert!(left.is_empty(), "node {node} lost what was acknowledged: {left:?}");
    }

    fn note(&mut self, node: NodeId, index: u64, stored: &Bytes) {
        let hash = frame::hash(stored);
        if let Some((known, _)) = self.frames.get(&index) {
            assert_eq!(*known, hash, "node {node} committed another frame {index}");
            return;
        }
        let last = self.replayed.cluster.position.index;
        assert!(index > last, "node {node} committed frame {index}, which no other has, before frame {last}");
        let members = self.replayed.cluster.members_changed_at();
        let frame = self.replayed.fold_frame(index, stored).expect("history can be folded");
        if let Some(leader) = frame.header.leader {
            let known = *self.leaders.entry(frame.header.term).or_insert(leader);
            assert_eq!(known, leader, "two leaders in term {}", frame.header.term);
        }
        for command in frame.commands.iter().filter(|command| command.id != CommandId::default()) {
            assert_eq!(self.effects.insert(command.id, index), None, "command {} took effect twice", command.id);
        }
        self.member_changes += u64::from(members != self.replayed.cluster.members_changed_at());
        let faults = check::check(&self.replayed.cluster);
        assert!(faults.is_empty(), "after frame {index}: {faults:#?}");
        self.frames.insert(index, (hash, self.replayed.cluster.state_hash()));
    }
}

fn decoded(stored: &[u8]) -> Frame {
    events::codec::decode_frame(&Bytes::copy_from_slice(stored)).expect("a frame of history can be read")
}
