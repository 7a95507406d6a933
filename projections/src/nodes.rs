//! Nodes: the desired state set by operators, what they report about themselves, and their liveness.

use std::sync::Arc;

use events::certificate::{self, CertificateDigest};
use events::spec::NodeFacts;
use events::{Availability, NodeDescription, NodeId, NodeSpec, Resources, Role, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::settings::RootRotation;
use crate::{Cluster, Stamp, Touched, counts, members, settings};

/// Period in which losses of a node count when it returns: a node that was lost more than twice in it is flapping, and takes no
/// tasks before it has been back for a while.
const FLAP_WINDOW: std::time::Duration = std::time::Duration::from_secs(600);
const FLAPS_MIN: usize = 3;
/// Losses that are recorded: with this many the hold has its maximum length.
const LOSSES_MAX: usize = 8;
/// How long a flapping node must stay connected; doubled for each further loss, up to the maximum.
const HOLD_MIN: std::time::Duration = std::time::Duration::from_secs(30);
const HOLD_MAX: std::time::Duration = std::time::Duration::from_secs(300);

/// How long a removed node stays banned after its certificate expired, to tolerate clock differences; as in SwarmKit.
const BAN_OUTLIVES: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The node's id.
    pub id: NodeId,
    /// The desired state set by operators.
    pub spec: Arc<NodeSpec>,
    /// Index of the frame that last changed the spec.
    pub version: u64,
    /// When it joined.
    pub created_at: Timestamp,
    /// When its spec last changed.
    pub updated_at: Timestamp,
    /// The role in its certificate.
    pub role: Role,
    /// When its certificate expires; `None` before it has one.
    pub certificate_not_after: Option<Timestamp>,
    /// Index of the frame that holds its certificate; 0 before it has one.
    pub certificate_index: u64,
    /// The digest of its certificate; `None` before it has one.
    pub certificate_digest: Option<CertificateDigest>,
    /// Index of the frame in which it had moved to the new root of a rotation; 0 if there was none.
    pub moved_at: u64,
    /// The name that it gave when it joined.
    pub joined_as: String,
    /// What it reports about itself; `None` before its first registration.
    pub description: Option<Arc<NodeDescription>>,
    /// Its liveness.
    pub liveness: Liveness,
    /// When its liveness last changed.
    pub liveness_since: Timestamp,
    /// The address of its own API.
    pub addr: String,
    /// Its open session.
    pub session: Option<SessionId>,
    /// When it was declared down, the last time at the end; only losses that count as flapping.
    pub losses: Vec<Timestamp>,
    /// It is flapping: it is back, and counts as down until this time, provided that it stays connected.
    pub held_until: Option<Timestamp>,
    /// It is being drained: the deadline at which tasks that still wait for their replacements to run are stopped.
    pub drain_deadline: Option<Timestamp>,
    /// How many were stopped at the deadline.
    pub stopped_at_deadline: u64,
}

/// The liveness of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Liveness {
    /// No heartbeat since it joined, or since the leader changed.
    Unknown,
    /// Its session is open.
    Ready,
    /// Its session ended; the grace period is running.
    Disconnected,
    /// No heartbeat for longer than the grace period.
    Down,
}

impl Node {
    /// Whether it joined as a worker and never registered: its certificate may be unused.
    pub fn is_newcomer(&self) -> bool {
        self.description.is_none() && self.spec.role() == Role::Worker
    }

    /// Whether it has moved to the new root of this rotation.
    pub fn has_moved(&self, rotation: &RootRotation) -> bool {
        self.moved_at > rotation.started
    }

    /// Its display name: the one set by the operator, or else its own.
    pub fn name(&self) -> &str {
        let given = self.spec.annotations.as_ref().map_or("", |annotations| &annotations.name);
        if given.is_empty() { self.hostname() } else { given }
    }

    /// The host name of its machine.
    pub fn hostname(&self) -> &str {
        self.description.as_ref().map_or(&self.joined_as, |description| &description.hostname)
    }

    /// Whether it accepts new tasks.
    pub fn takes_tasks(&self) -> bool {
        self.liveness == Liveness::Ready && self.spec.availability() == Availability::Active
    }

    /// Whether its tasks must be moved elsewhere. A node with unknown liveness is spared: it may return at once.
    pub fn must_be_vacated(&self) -> bool {
        self.is_down() || self.spec.availability() == Availability::Drain
    }

    /// Whether it is drained and its tasks may stay until their replacements are running.
    pub fn drains_gracefully(&self, now: Timestamp) -> bool {
        let in_time = self.drain_deadline.is_none_or(|deadline| now < deadline);
        self.spec.availability() == Availability::Drain && !self.is_down() && in_time
    }

    /// Whether its tasks count as lost.
    pub fn is_down(&self) -> bool {
        self.liveness == Liveness::Down
    }

    /// Whether the change from this node to the other makes no difference for its tasks and for those that replace them: when all
    /// agents of a cluster reconnect at once, only nodes with a difference are reconciled.
    fn is_equivalent_for_tasks(&self, other: &Node) -> bool {
        let same_spec = Arc::ptr_eq(&self.spec, &other.spec) && self.role == other.role && self.addr == other.addr;
        let same_description = match (&self.description, &other.description) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_spec && same_description && self.is_down() == other.is_down()
    }

    /// Its CPU, memory and generic resources; `None` before it registered.
    pub fn offers(&self) -> Option<&Resources> {
        self.description.as_ref().and_then(|description| description.resources.as_ref())
    }

    /// How long it must stay connected before it counts as back; `None` if it is not flapping.
    fn hold(&self, now: Timestamp) -> Option<std::time::Duration> {
        let recent = self.losses.iter().filter(|lost| **lost + FLAP_WINDOW > now).count();
        let further = u32::try_from(recent.checked_sub(FLAPS_MIN)?).unwrap_or(u32::MAX);
        Some(HOLD_MIN.saturating_mul(2_u32.saturating_pow(further)).min(HOLD_MAX))
    }

    /// Sets the drain deadline. An existing deadline is kept unless a different one is requested.
    fn drain(&mut self, spec: &NodeSpec, at: &Stamp) {
        let wanted = |spec: &NodeSpec| (spec.availability(), spec.drain_deadline_ns);
        if wanted(&self.spec) != wanted(spec) {
            let drained = spec.availability() == Availability::Drain;
            let allowed = spec.drain_deadline_ns.filter(|_| drained).map(std::time::Duration::from_nanos);
            self.drain_deadline = allowed.map(|allowed| at.time + allowed);
            self.stopped_at_deadline = 0;
        }
    }

    /// The reason for its liveness, as a message.
    pub fn liveness_message(&self) -> String {
        match self.liveness {
            Liveness::Unknown => "no heartbeat since the leader changed or the node joined".to_owned(),
            Liveness::Ready => String::new(),
            Liveness::Disconnected => format!("its session ended at {}", self.liveness_since),
            Liveness::Down => match self.held_until {
                Some(until) => format!(
                    "flapping: lost {} times in {} minutes; takes tasks again at {until} if it stays connected",
                    self.losses.len(),
                    FLAP_WINDOW.as_secs() / 60
                ),
                None => format!("no heartbeat: declared down at {}", self.liveness_since),
            },
        }
    }

    /// The facts about this node that constraints can refer to.
    pub fn facts(&self) -> NodeFacts<'_> {
        let description = self.description.as_deref();
        let platform = description.and_then(|description| description.platform.as_ref());
        let engine = description.and_then(|description| description.engine.as_ref());
        NodeFacts {
            id: self.id,
            hostname: self.hostname(),
            addr: host(&self.addr).trim_matches(['[', ']']),
            role: self.role,
            os: platform.map_or("", |platform| &platform.os),
            architecture: platform.map_or("", |platform| &platform.architecture),
            node_labels: self.spec.annotations.as_ref().map(|annotations| &annotations.labels),
            engine_labels: engine.map(|engine| &engine.labels),
        }
    }
}

/// The host of an address, which may have a port. A bare IPv6 address contains colons, too.
pub fn host(addr: &str) -> &str {
    let bare = addr.parse::<std::net::IpAddr>().is_ok();
    addr.rsplit_once(':').filter(|_| !bare).map_or(addr, |(host, _)| host)
}

pub(crate) fn joined(cluster: &mut Cluster, event: &events::NodeJoined, at: &Stamp, touched: &mut Touched) {
    assert!(!cluster.nodes.contains(event.node), "node {} joined twice", event.node);
    let node = Node {
        id: event.node,
        spec: Arc::new(event.spec.clone()),
        version: at.index,
        created_at: at.time,
        updated_at: at.time,
        role: event.spec.role(),
        certificate_not_after: None,
        certificate_index: 0,
        certificate_digest: None,
        moved_at: 0,
        joined_as: event.hostname.clone(),
        description: None,
        liveness: Liveness::Unknown,
        liveness_since: at.time,
        addr: event.addr.clone(),
        session: None,
        losses: Vec::new(),
        held_until: None,
        drain_deadline: None,
        stopped_at_deadline: 0,
    };
    if node.is_newcomer() {
        cluster.newcomers.insert(event.node);
    }
    cluster.lookup.node_changed(None, Some(&node));
    counts::up(&mut cluster.nodes_by_liveness, node.liveness);
    cluster.nodes.insert(event.node, node);
    touched.nodes.insert(event.node);
}

pub(crate) fn registered(cluster: &mut Cluster, event: &events::NodeRegistered, at: &Stamp, touched: &mut Touched) {
    change(cluster, event.node, touched, |node| {
        node.session = Some(event.session);
        node.addr.clone_from(&event.addr);
        node.held_until = node.hold(at.time).filter(|_| node.is_down()).map(|hold| at.time + hold);
        if node.held_until.is_none() {
            (node.liveness, node.liveness_since) = (Liveness::Ready, at.time);
        }
    });
}

pub(crate) fn described(cluster: &mut Cluster, event: &events::NodeDescribed, touched: &mut Touched) {
    let before = cluster.nodes.share(event.node);
    change(cluster, event.node, touched, |node| node.description = Some(Arc::new(event.description.clone())));
    cluster.lookup.node_changed(before.as_deref(), cluster.nodes.get(event.node));
    cluster.newcomers.remove(&event.node);
}

pub(crate) fn spec_updated(cluster: &mut Cluster, event: &events::NodeSpecUpdated, at: &Stamp, touched: &mut Touched) {
    touched.members |= cluster.members.contains(event.node) || cluster.announced.contains(event.node);
    let mut is_newcomer = false;
    change(cluster, event.node, touched, |node| {
        node.drain(&event.spec, at);
        node.spec = Arc::new(event.spec.clone());
        node.version = at.index;
        node.updated_at = at.time;
        is_newcomer = node.is_newcomer();
    });
    // A change of role replaces a node that never registered.
    if is_newcomer {
        cluster.newcomers.insert(event.node);
    } else {
        cluster.newcomers.remove(&event.node);
    }
}

/// Counts a task that was stopped at its node's drain deadline.
pub(crate) fn task_stopped_at_deadline(cluster: &mut Cluster, node: NodeId) {
    cluster.nodes.update(node, |node| node.stopped_at_deadline += 1);
}

pub(crate) fn certified(cluster: &mut Cluster, event: &events::CertificateIssued, at: &Stamp, touched: &mut Touched) {
    touched.members |= cluster.announced.contains(event.node);
    change(cluster, event.node, touched, |node| {
        node.role = event.role();
        node.certificate_not_after = Some(event.not_after);
        node.certificate_index = at.index;
        node.certificate_digest = Some(certificate::digest(&event.cert_pem));
    });
}

pub(crate) fn moved_to_root(cluster: &mut Cluster, event: &events::NodeMovedToRoot, at: &Stamp, touched: &mut Touched) {
    change(cluster, event.node, touched, |node| node.moved_at = at.index);
    settings::count_moved(cluster, |moved| moved + 1);
}

pub(crate) fn liveness_changed(
    cluster: &mut Cluster,
    node: NodeId,
    liveness: Liveness,
    at: &Stamp,
    touched: &mut Touched,
) {
    change(cluster, node, touched, |node| {
        node.liveness = liveness;
        node.liveness_since = at.time;
        node.held_until = None;
        if matches!(liveness, Liveness::Disconnected | Liveness::Down) {
            node.session = None;
        }
        if liveness == Liveness::Down {
            node.losses.retain(|lost| *lost + FLAP_WINDOW > at.time);
            node.losses.push(at.time);
            let too_many = node.losses.len().saturating_sub(LOSSES_MAX);
            node.losses.drain(..too_many);
        }
    });
}

/// A new leader has received no heartbeats: each node gets the whole grace period.
pub(crate) fn leader_changed(cluster: &mut Cluster, at: &Stamp, touched: &mut Touched) {
    let heard_before = cluster.nodes.values().filter(|node| match node.liveness {
        Liveness::Ready | Liveness::Disconnected => true,
        Liveness::Unknown | Liveness::Down => false,
    });
    let heard_before: Vec<NodeId> = heard_before.map(|node| node.id).collect();
    for node in heard_before {
        liveness_changed(cluster, node, Liveness::Unknown, at, touched);
    }
    touched.everything = true;
}

pub(crate) fn removed(cluster: &mut Cluster, event: &events::NodeRemoved, at: &Stamp, touched: &mut Touched) {
    let node =
        cluster.nodes.remove(event.node).unwrap_or_else(|| panic!("node {} is not there to be removed", event.node));
    let past: Vec<NodeId> =
        cluster.banned.iter().filter(|(_, expiry)| **expiry + BAN_OUTLIVES < at.time).map(|(id, _)| id).collect();
    for id in past {
        cluster.banned.remove(id);
    }
    cluster.newcomers.remove(&event.node);
    members::node_removed(cluster, event.node);
    if cluster.settings.rotation.as_ref().is_some_and(|rotation| node.has_moved(rotation)) {
        settings::count_moved(cluster, |moved| moved - 1);
    }
    cluster.lookup.node_changed(Some(&node), None);
    counts::down(&mut cluster.nodes_by_liveness, node.liveness);
    // A certificate of a non-member is refused like a banned one; and bans of all nodes admitted by a leaked token would be kept
    // for as long as their certificates last.
    if !event.forgotten {
        cluster.banned.insert(event.node, node.certificate_not_after.unwrap_or_default());
    }
    touched.members |= cluster.members.contains(event.node);
    touched.nodes.insert(event.node);
}

fn change(cluster: &mut Cluster, id: NodeId, touched: &mut Touched, change: impl FnOnce(&mut Node)) {
    let replaced = cluster.nodes.replace(id, change);
    let ((), before, after) = replaced.unwrap_or_else(|| panic!("node {id} is not there to be changed"));
    if before.liveness != after.liveness {
        counts::down(&mut cluster.nodes_by_liveness, before.liveness);
        counts::up(&mut cluster.nodes_by_liveness, after.liveness);
    }
    if before.is_equivalent_for_tasks(&after) {
        touched.contacts.insert(id)
    } else {
        touched.nodes.insert(id)
    };
}

/// Builds the indices of nodes.
pub(crate) fn derive(cluster: &mut Cluster) {
    cluster.newcomers = cluster.nodes.values().filter(|node| node.is_newcomer()).map(|node| node.id).collect();
    for node in cluster.nodes.values() {
        counts::up(&mut cluster.nodes_by_liveness, node.liveness);
    }
}

#[cfg(test)]
mod tests {
    use events::{
        Event, Id, Kind, LeadershipAssumed, NodeBecameReady, NodeDeclaredDown, NodeDisconnected, NodeJoined,
        NodeRegistered, Reconciler,
    };

    use super::*;

    fn apply(cluster: &mut Cluster, kinds: impl IntoIterator<Item = Kind>) {
        for kind in kinds {
            cluster.apply(&Event::by_reconciler(Reconciler::Liveness, kind), &Stamp::default());
        }
    }

    #[test]
    fn every_event_makes_of_a_node_what_it_says() {
        let (node, session) = (NodeId::from_bits(1), SessionId::from_bits(1));
        let joined = Kind::NodeJoined(NodeJoined { node, ..NodeJoined::default() });
        let registered = Kind::NodeRegistered(NodeRegistered { node, session, addr: String::new() });
        let ready = Kind::NodeBecameReady(NodeBecameReady { node });
        let disconnected = Kind::NodeDisconnected(NodeDisconnected { node, session });
        let down = Kind::NodeDeclaredDown(NodeDeclaredDown { node, last_heard: Timestamp::default(), unheard: None });
        let led = Kind::LeadershipAssumed(LeadershipAssumed::default());
        let befores = [vec![], vec![&registered], vec![&registered, &disconnected], vec![&registered, &down]];
        // Columns: a node that joined, one in a session, one whose session ended, and one that is down. An `*` marks a session.
        let table = [
            (&registered, ["Ready*", "Ready*", "Ready*", "Ready*"]),
            (&ready, ["Ready", "Ready*", "Ready", "Ready"]),
            (&disconnected, ["Disconnected", "Disconnected", "Disconnected", "Disconnected"]),
            (&down, ["Down", "Down", "Down", "Down"]),
            // A session outlives a change of leader; a lost node stays lost.
            (&led, ["Unknown", "Unknown*", "Unknown", "Down"]),
        ];
        for (event, expected) in table {
            let after = befores.clone().map(|before| {
                let mut cluster = Cluster::default();
                apply(&mut cluster, [&joined].into_iter().chain(before).chain([event]).cloned());
                let node = cluster.nodes.get(node).expect("the node");
                format!("{:?}{}", node.liveness, if node.session.is_some() { "*" } else { "" })
            });
            assert_eq!(after, expected, "{event:?}");
        }
    }

    #[test]
    fn a_node_that_is_lost_again_and_again_is_back_only_once_it_stays() {
        let (node, session) = (NodeId::from_bits(1), SessionId::from_bits(1));
        let second = |second: u64| Timestamp::default() + std::time::Duration::from_secs(second);
        let registered = Kind::NodeRegistered(NodeRegistered { node, session, addr: String::new() });
        let down = Kind::NodeDeclaredDown(NodeDeclaredDown { node, ..NodeDeclaredDown::default() });
        // When it was lost, when it returns, and until when it is held.
        let table = [
            (vec![], 5, None),
            (vec![10, 20], 30, None),
            (vec![10, 20, 30], 40, Some(70)),
            (vec![10, 20, 30, 40], 50, Some(110)),
            (vec![10, 20, 30, 40, 50, 60, 70], 80, Some(380)),
            (vec![10; 20], 80, Some(380)),
            // Old losses do not count.
            (vec![10, 20, 600], 611, None),
            (vec![10, 500, 605], 609, Some(639)),
        ];
        for (losses, back, expected) in table {
            let mut cluster = Cluster::default();
            let mut tell = |at, kind: &Kind| {
                let event = Event::by_reconciler(Reconciler::Liveness, kind.clone());
                cluster.apply(&event, &Stamp { index: 1, time: second(at) });
            };
            tell(0, &Kind::NodeJoined(NodeJoined { node, ..NodeJoined::default() }));
            losses.iter().for_each(|at| tell(*at, &down));
            tell(back, &registered);
            let known = cluster.nodes.get(node).expect("the node");
            let case = format!("lost at {losses:?}, back at {back}: {}", known.liveness_message());
            assert_eq!(known.held_until, expected.map(second), "{case}");
            assert_eq!((known.is_down(), known.session), (expected.is_some(), Some(session)), "{case}");
            assert!(known.losses.len() <= LOSSES_MAX && case.contains("flapping") == expected.is_some(), "{case}");
        }
    }

    #[test]
    fn an_address_gives_its_host() {
        let table = [
            ("10.0.0.1:4242", "10.0.0.1"),
            ("10.0.0.1", "10.0.0.1"),
            ("[fe80::1]:4242", "[fe80::1]"),
            ("fe80::1", "fe80::1"),
            ("worker-1:4242", "worker-1"),
            ("worker-1", "worker-1"),
            ("", ""),
        ];
        for (addr, expected) in table {
            assert_eq!(host(addr), expected, "{addr}");
        }
    }
}
