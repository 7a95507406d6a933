//! Invariants of all managers: one history, one state at each index, one leader per term, one effect per command, and nothing
//! lost that was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use events::frame::{self, FrameHash};
use events::{CommandId, Frame, NodeId, TaskId};
use node::log::{HistoryReader, LogStore, PageSize};
use node::manager::fold::Folded;
use projections::{Cluster, check};

use crate::oracle::states_never_go_back;

/// Checks what every manager commits, and folds the one history independently.
#[derive(Default)]
pub struct Oracle {
    /// The state that follows from history alone.
    replayed: Folded,
    /// The frames of history, by index: their hashes, and the hash of the state after each.
    frames: BTreeMap<u64, (FrameHash, [u8; 16])>,
    /// The leader of each term.
    leaders: BTreeMap<u64, NodeId>,
    /// Commands that took effect, by id, with the index of their frame.
    effects: BTreeMap<CommandId, u64>,
    /// The answers to clients: the command, and the index of its frame.
    acknowledged: BTreeMap<CommandId, u64>,
    /// The node that each task was assigned to.
    placed: BTreeMap<TaskId, NodeId>,
    /// Number of changes of the members.
    member_changes: u64,
    /// How far each manager's history was read, by node.
    seen: BTreeMap<NodeId, u64>,
    /// The interval of full checks of the state, in frames, if they are not done after each.
    check_frames: Option<u64>,
}

impl Oracle {
    /// An oracle that does full checks only once per this many frames: for long histories.
    pub fn checking_every(frames: u64) -> Self {
        Self { check_frames: Some(frames), ..Self::default() }
    }

    /// The state that follows from history so far.
    pub fn cluster(&self) -> &Cluster {
        &self.replayed.cluster
    }

    /// Number of leaders so far.
    pub fn elections(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// Number of changes of the members.
    pub fn member_changes(&self) -> u64 {
        self.member_changes
    }

    /// Number of commands that took effect.
    pub fn effects(&self) -> usize {
        self.effects.len()
    }

    /// The frame in which a command took effect.
    pub fn effect(&self, command: CommandId) -> Option<u64> {
        self.effects.get(&command).copied()
    }

    /// The node that a task was assigned to.
    pub fn node_of(&self, task: TaskId) -> Option<NodeId> {
        self.placed.get(&task).copied()
    }

    /// Number of frames in history.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Records that a client got the answer that a command took effect.
    pub fn acknowledge(&mut self, command: CommandId, index: u64) {
        let effect = self.effects.get(&command).copied();
        assert!(
            effect.is_none_or(|effect| effect == index),
            "command {command} took effect at {effect:?}, and was answered with {index}"
        );
        if effect.is_some() {
            self.acknowledged.insert(command, index);
        }
    }

    /// A manager restarts, or has another disk: it may have less than before.
    pub fn forget(&mut self, node: NodeId) {
        self.seen.remove(&node);
    }

    /// Checks the committed state of a manager, and its new history.
    pub fn observe(&mut self, node: NodeId, cluster: &Cluster, store: &Arc<dyn LogStore>) {
        let index = cluster.position.index;
        self.read_to(node, index, store);
        if let Some((_, state)) = self.frames.get(&index) {
            assert_eq!(*state, cluster.state_hash(), "node {node} has another state after frame {index}");
        }
    }

    /// Checks the whole history of a stopped manager.
    pub fn read(&mut self, node: NodeId, store: &Arc<dyn LogStore>) {
        self.read_to(node, u64::MAX, store);
    }

    fn read_to(&mut self, node: NodeId, index: u64, store: &Arc<dyn LogStore>) {
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
    }

    /// At the end: every manager's history is the same from the first frame on, and contains everything that was acknowledged.
    /// Returns its number of frames.
    pub fn compare(&self, node: NodeId, store: &Arc<dyn LogStore>) -> usize {
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
        assert!(left.is_empty(), "node {node} lost what was acknowledged: {left:?}");
        frames
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
        let before = self.replayed.cluster.clone();
        let frame = self.replayed.fold_frame(index, stored).expect("history can be folded");
        if let Some(leader) = frame.header.leader {
            let known = *self.leaders.entry(frame.header.term).or_insert(leader);
            assert_eq!(known, leader, "two leaders in term {}", frame.header.term);
        }
        for command in frame.commands.iter().filter(|command| command.id != CommandId::default()) {
            assert_eq!(self.effects.insert(command.id, index), None, "command {} took effect twice", command.id);
        }
        self.member_changes += u64::from(members != self.replayed.cluster.members_changed_at());
        states_never_go_back(&before, &self.replayed.cluster);
        let placed = self.replayed.cluster.tasks.values().filter_map(|task| Some((task.id, task.node?)));
        self.placed.extend(placed);
        if self.check_frames.is_none_or(|frames| index.is_multiple_of(frames)) {
            let faults = check::check(&self.replayed.cluster);
            assert!(faults.is_empty(), "after frame {index}: {faults:#?}");
        }
        self.frames.insert(index, (hash, self.replayed.cluster.state_hash()));
    }
}

fn decoded(stored: &[u8]) -> Frame {
    events::codec::decode_frame(&Bytes::copy_from_slice(stored)).expect("a frame of history can be read")
}
