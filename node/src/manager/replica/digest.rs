//! Digests of presence: agents hold their sessions with any manager, and the one that leads judges who is there. The others say
//! to it, twice a second, which nodes they heard since they last said so. Nothing of it enters the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use events::{NodeId, SessionId, Timestamp};
use projections::Cluster;
use wire::v1::TaskUse;

use crate::agent::meter::TASKS_MAX;
use crate::log::raft::TICK;

use super::peers::PeerMessage;
use super::{Replica, Role};

/// Ticks between two digests: half a second, half of the shortest heartbeat period.
const DIGEST_TICKS: u64 = 5;
/// Ticks between two looks for nodes that were removed: 10 s, because each is a look at every node.
const KEEP_TICKS: u64 = 100;
/// Nodes in one message: about 150 KiB.
const BEATS_MAX: usize = 4_096;
/// Tasks in one message, but for those of its last node: about 200 KiB.
const USES_MAX: usize = 8_192;
/// A heartbeat that came longer ago than this says nothing: 10 minutes, longer than any node is waited for.
const TICKS_AGO_MAX: u64 = 6_000;
/// What nodes get of extra time whose manager is not heard any more: they notice that themselves, and register with another.
const MOVE_GRACE: Duration = Duration::from_secs(5);

/// A node's last heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// The node.
    pub node: NodeId,
    /// Its session.
    pub session: SessionId,
    /// How many ticks ago it came. Managers' clocks differ.
    pub ticks_ago: u64,
}

/// What a manager that does not lead heard and has not said, by node: the session and the tick.
#[derive(Default)]
pub(super) struct Digest {
    beats: BTreeMap<NodeId, (SessionId, u64)>,
    uses: BTreeMap<NodeId, (SessionId, Vec<TaskUse>)>,
}

/// What tasks of a node use, as it said in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsesOfNode {
    /// The node.
    pub node: NodeId,
    /// Its session.
    pub session: SessionId,
    /// What it said.
    pub tasks: Vec<TaskUse>,
}

impl Digest {
    pub(super) fn note(&mut self, node: NodeId, session: SessionId, tick: u64) {
        self.beats.insert(node, (session, tick));
    }

    pub(super) fn note_uses(&mut self, node: NodeId, session: SessionId, uses: Vec<TaskUse>) {
        self.uses.insert(node, (session, uses));
    }

    /// What nodes said of their tasks, in messages of a bounded size.
    fn take_uses(&mut self) -> Vec<Vec<UsesOfNode>> {
        let (mut messages, mut message, mut tasks_in_it) = (Vec::new(), Vec::new(), 0);
        for (node, (session, tasks)) in std::mem::take(&mut self.uses) {
            if tasks_in_it + tasks.len() > USES_MAX && !message.is_empty() {
                messages.push(std::mem::take(&mut message));
                tasks_in_it = 0;
            }
            tasks_in_it += tasks.len();
            message.push(UsesOfNode { node, session, tasks });
        }
        if !message.is_empty() {
            messages.push(message);
        }
        messages
    }

    fn take(&mut self, tick: u64) -> Vec<Beat> {
        let beats = std::mem::take(&mut self.beats).into_iter();
        beats.map(|(node, (session, at))| Beat { node, session, ticks_ago: tick - at }).collect()
    }
}

/// What a leader heard from other managers.
#[derive(Default)]
pub(super) struct Digests {
    /// Not looked at yet: by node what it heard, the manager that said so and the tick in which that came.
    new: BTreeMap<NodeId, (Beat, u64, u64)>,
    /// What tasks use, not looked at yet.
    uses: BTreeMap<NodeId, UsesOfNode>,
    /// The manager that last heard each node.
    by: BTreeMap<NodeId, u64>,
}

impl Digests {
    /// A digest came, in this tick.
    pub(super) fn note(&mut self, from: u64, beats: Vec<Beat>, tick: u64) {
        self.new.extend(beats.into_iter().map(|beat| (beat.node, (beat, from, tick))));
    }

    /// What tasks use came from another manager.
    fn note_uses(&mut self, uses: Vec<UsesOfNode>) {
        self.uses.extend(uses.into_iter().map(|of| (of.node, of)));
    }

    /// A node registers at another manager, which may be gone before it says again that it heard the node.
    pub(super) fn registered(&mut self, node: NodeId, at: u64) {
        self.by.insert(node, at);
    }

    /// A node was heard by the leader itself.
    pub(super) fn heard_here(&mut self, node: NodeId) {
        self.by.remove(&node);
    }

    /// Once a tick: forgets nodes that were removed, when it is time to.
    pub(super) fn keep_nodes(&mut self, cluster: &Cluster, tick: u64) {
        if tick.is_multiple_of(KEEP_TICKS) {
            self.by.retain(|node, _| cluster.nodes.contains(*node));
        }
    }

    /// What is new, with the time at which it came.
    pub(super) fn take(&mut self, tick: u64, now: Timestamp) -> Vec<(NodeId, SessionId, Timestamp)> {
        let news = std::mem::take(&mut self.new).into_values().map(|(beat, from, came)| {
            self.by.insert(beat.node, from);
            let ticks = beat.ticks_ago.min(TICKS_AGO_MAX) + (tick - came);
            (beat.node, beat.session, now - TICK * u32::try_from(ticks).unwrap_or(u32::MAX))
        });
        news.collect()
    }

    /// The nodes whose manager is not reached any more; each is said once.
    pub(super) fn stranded(&mut self, is_reached: impl Fn(u64) -> bool) -> BTreeSet<NodeId> {
        let stranded: BTreeSet<NodeId> =
            self.by.iter().filter(|(_, manager)| !is_reached(**manager)).map(|(node, _)| *node).collect();
        self.by.retain(|node, _| !stranded.contains(node));
        stranded
    }
}

impl Replica {
    /// Once a tick: says to the leader who was heard, when it is time to.
    pub(super) fn send_digest(&mut self) {
        let Some(leader) = self.other_leader().filter(|_| self.ticks.is_multiple_of(DIGEST_TICKS)) else { return };
        for beats in self.digest.take(self.ticks).chunks(BEATS_MAX) {
            self.outbox.messages.push((leader, PeerMessage::Presence(beats.to_vec())));
        }
        let uses = self.digest.take_uses().into_iter();
        self.outbox.messages.extend(uses.map(|uses| (leader, PeerMessage::Uses(uses))));
    }

    /// Another manager says what tasks use whose nodes it heard. Only a member's word counts.
    pub(super) fn receive_uses(&mut self, from: u64, uses: Vec<UsesOfNode>) {
        if let Role::Leader(leader) = &mut self.role
            && leader.tip.member_with(from).is_some()
        {
            leader.digests.note_uses(uses);
        }
    }

    /// Another manager says whom it heard. Only a member's word counts.
    pub(super) fn receive_digest(&mut self, from: u64, beats: Vec<Beat>) {
        if let Role::Leader(leader) = &mut self.role
            && leader.tip.member_with(from).is_some()
        {
            leader.digests.note(from, beats, self.ticks);
        }
    }

    /// Before a turn: what other managers heard counts as heard, and whose manager is gone gets time to find another.
    pub(super) fn take_digests(&mut self, now: Timestamp) {
        let Role::Leader(leader) = &mut self.role else { return };
        for (node, session, at) in leader.digests.take(self.ticks, now) {
            leader.heartbeat(node, session, at);
        }
        for (_, UsesOfNode { node, session, mut tasks }) in std::mem::take(&mut leader.digests.uses) {
            tasks.truncate(TASKS_MAX);
            leader.uses.note(&leader.tip, node, session, tasks, now);
        }
        if self.ticks.is_multiple_of(KEEP_TICKS) {
            leader.uses.keep_nodes(&leader.tip);
        }
        let peers = &leader.peers;
        let reached = |raft_id| peers.followers.get(&raft_id).is_some_and(|peer| peer.reachable);
        for node in leader.digests.stranded(reached) {
            leader.heard.extend(node, MOVE_GRACE);
        }
    }
}

#[cfg(test)]
mod tests {
    use events::{Event, Id, Kind, NodeJoined};
    use projections::Stamp;

    use super::*;

    #[test]
    fn a_digest_says_how_long_ago_each_node_was_heard_and_says_it_once() {
        let (node, session) = (NodeId::from_bits(1), SessionId::from_bits(2));
        let (mut digest, mut digests) = (Digest::default(), Digests::default());
        digest.note(node, session, 3);
        digest.note(node, session, 7);
        let beats = digest.take(10);
        assert_eq!(beats, vec![Beat { node, session, ticks_ago: 3 }]);
        assert_eq!(digest.take(10), vec![]);

        digests.note(8, beats, 100);
        let now = Timestamp::from_unix_ns(0) + Duration::from_secs(60);
        assert_eq!(digests.take(102, now), vec![(node, session, now - TICK * 5)]);
        assert_eq!(digests.take(102, now), vec![]);
    }

    #[test]
    fn what_tasks_use_is_said_once_in_messages_of_a_bounded_size() {
        let (mut digest, session) = (Digest::default(), SessionId::from_bits(2));
        let uses = |tasks: usize| vec![TaskUse { task: events::TaskId::from_bits(1), ..TaskUse::default() }; tasks];
        for (node, tasks) in [(1, USES_MAX - 1), (2, 1), (3, 1)] {
            digest.note_uses(NodeId::from_bits(node), session, uses(7));
            digest.note_uses(NodeId::from_bits(node), session, uses(tasks));
        }
        let messages = digest.take_uses();
        assert_eq!(messages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(messages[1], [UsesOfNode { node: NodeId::from_bits(3), session, tasks: uses(1) }]);
        assert_eq!(digest.take_uses(), Vec::<Vec<UsesOfNode>>::new());
    }

    #[test]
    fn a_node_that_was_removed_is_forgotten() {
        let [member, removed] = [1, 2].map(NodeId::from_bits);
        let mut cluster = Cluster::default();
        let joined = Kind::NodeJoined(NodeJoined { node: member, ..NodeJoined::default() });
        cluster.apply(&Event::by_command(0, joined), &Stamp { index: 2, ..Stamp::default() });
        let mut digests = Digests::default();
        for node in [member, removed] {
            digests.registered(node, 7);
        }
        digests.keep_nodes(&cluster, KEEP_TICKS + 1);
        assert_eq!(digests.by.len(), 2, "it is not time yet");
        digests.keep_nodes(&cluster, 2 * KEEP_TICKS);
        assert_eq!(digests.stranded(|_| false), [member].into());
    }

    #[test]
    fn nodes_whose_manager_is_gone_are_named_once_unless_they_were_heard_elsewhere() {
        let session = SessionId::from_bits(2);
        let [moved, here, stranded, fine, registered] = [1, 2, 3, 4, 5].map(NodeId::from_bits);
        let beat = |node| Beat { node, session, ticks_ago: 0 };
        let mut digests = Digests::default();
        digests.note(7, vec![beat(moved), beat(here), beat(stranded)], 1);
        digests.take(1, Timestamp::default() + TICK);
        digests.note(8, vec![beat(moved), beat(fine)], 2);
        digests.take(2, Timestamp::default() + TICK);
        digests.heard_here(here);
        digests.registered(registered, 7);
        assert_eq!(digests.stranded(|manager| manager == 8), [stranded, registered].into());
        assert_eq!(digests.stranded(|manager| manager == 8), [].into());
    }
}
