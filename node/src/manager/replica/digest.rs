//! Presence digests: agents hold their sessions with any manager, and the leader decides which nodes are present. The other
//! managers report to it, twice a second, which nodes sent them heartbeats since the last report. None of it enters the log.

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
/// Ticks between two removals of deleted nodes: 10 s, because each looks at every node.
const KEEP_TICKS: u64 = 100;
/// Nodes in one message: about 150 KiB.
const BEATS_MAX: usize = 4_096;
/// Tasks in one message, not counting those of its last node: about 200 KiB.
const USES_MAX: usize = 8_192;
/// A heartbeat that is older than this is ignored: 10 minutes, longer than the timeout of any node.
const TICKS_AGO_MAX: u64 = 6_000;
/// Extra time for nodes whose manager became unreachable: they detect that themselves, and register with another.
const MOVE_GRACE: Duration = Duration::from_secs(5);

/// A node's last heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// The node.
    pub node: NodeId,
    /// Its session.
    pub session: SessionId,
    /// How many ticks ago it arrived. Ticks, because managers' clocks differ.
    pub ticks_ago: u64,
}

/// Heartbeats that a manager which does not lead has received and not yet reported, by node: the session and the tick.
#[derive(Default)]
pub(super) struct Digest {
    beats: BTreeMap<NodeId, (SessionId, u64)>,
    uses: BTreeMap<NodeId, (SessionId, Vec<TaskUse>)>,
}

/// Resource use of a node's tasks, as reported in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsesOfNode {
    /// The node.
    pub node: NodeId,
    /// Its session.
    pub session: SessionId,
    /// The reported tasks.
    pub tasks: Vec<TaskUse>,
}

impl Digest {
    pub(super) fn note(&mut self, node: NodeId, session: SessionId, tick: u64) {
        self.beats.insert(node, (session, tick));
    }

    pub(super) fn note_uses(&mut self, node: NodeId, session: SessionId, uses: Vec<TaskUse>) {
        self.uses.insert(node, (session, uses));
    }

    /// The reported resource use of tasks, in messages of bounded size.
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

/// Heartbeats that a leader was sent by other managers.
#[derive(Default)]
pub(super) struct Digests {
    /// Not processed yet: by node its heartbeat, the manager that reported it and the tick of the report.
    new: BTreeMap<NodeId, (Beat, u64, u64)>,
    /// Resource use of tasks, not processed yet.
    uses: BTreeMap<NodeId, UsesOfNode>,
    /// The manager that last received a heartbeat of each node.
    by: BTreeMap<NodeId, u64>,
}

impl Digests {
    /// Records a digest that arrived in this tick.
    pub(super) fn note(&mut self, from: u64, beats: Vec<Beat>, tick: u64) {
        self.new.extend(beats.into_iter().map(|beat| (beat.node, (beat, from, tick))));
    }

    /// Records the resource use of tasks that another manager reported.
    fn note_uses(&mut self, uses: Vec<UsesOfNode>) {
        self.uses.extend(uses.into_iter().map(|of| (of.node, of)));
    }

    /// Records that a node registers with another manager, which may fail before it reports a heartbeat of the node.
    pub(super) fn registered(&mut self, node: NodeId, at: u64) {
        self.by.insert(node, at);
    }

    /// Records that the leader itself received a heartbeat of a node.
    pub(super) fn heard_here(&mut self, node: NodeId) {
        self.by.remove(&node);
    }

    /// Once a tick: drops nodes that were removed, when that is due.
    pub(super) fn keep_nodes(&mut self, cluster: &Cluster, tick: u64) {
        if tick.is_multiple_of(KEEP_TICKS) {
            self.by.retain(|node, _| cluster.nodes.contains(*node));
        }
    }

    /// New heartbeats, with their time of arrival.
    pub(super) fn take(&mut self, tick: u64, now: Timestamp) -> Vec<(NodeId, SessionId, Timestamp)> {
        let news = std::mem::take(&mut self.new).into_values().map(|(beat, from, came)| {
            self.by.insert(beat.node, from);
            let ticks = beat.ticks_ago.min(TICKS_AGO_MAX) + (tick - came);
            (beat.node, beat.session, now - TICK * u32::try_from(ticks).unwrap_or(u32::MAX))
        });
        news.collect()
    }

    /// The nodes whose manager is no longer reachable; each is returned once.
    pub(super) fn stranded(&mut self, is_reached: impl Fn(u64) -> bool) -> BTreeSet<NodeId> {
        let stranded: BTreeSet<NodeId> =
            self.by.iter().filter(|(_, manager)| !is_reached(**manager)).map(|(node, _)| *node).collect();
        self.by.retain(|node, _| !stranded.contains(node));
        stranded
    }
}

impl Replica {
    /// Once a tick: reports heartbeats to the leader, when that is due.
    pub(super) fn send_digest(&mut self) {
        let Some(leader) = self.other_leader().filter(|_| self.ticks.is_multiple_of(DIGEST_TICKS)) else { return };
        for beats in self.digest.take(self.ticks).chunks(BEATS_MAX) {
            self.outbox.messages.push((leader, PeerMessage::Presence(beats.to_vec())));
        }
        let uses = self.digest.take_uses().into_iter();
        self.outbox.messages.extend(uses.map(|uses| (leader, PeerMessage::Uses(uses))));
    }

    /// Receives the resource use of tasks from another manager. Only members are trusted.
    pub(super) fn receive_uses(&mut self, from: u64, uses: Vec<UsesOfNode>) {
        if let Role::Leader(leader) = &mut self.role
            && leader.tip.member_with(from).is_some()
        {
            leader.digests.note_uses(uses);
        }
    }

    /// Receives heartbeats from another manager. Only members are trusted.
    pub(super) fn receive_digest(&mut self, from: u64, beats: Vec<Beat>) {
        if let Role::Leader(leader) = &mut self.role
            && leader.tip.member_with(from).is_some()
        {
            leader.digests.note(from, beats, self.ticks);
        }
    }

    /// Before a turn: counts the heartbeats that other managers received, and extends the deadline of nodes whose manager is
    /// gone.
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
