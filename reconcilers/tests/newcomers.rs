//! Nodes that join and never register: they are removed after an hour, without a trace.

use std::time::Duration;

use events::{
    ClusterId, Event, Id, IdGenerator, Kind, NodeDescribed, NodeDescription, NodeId, NodeJoined, NodeRegistered,
    NodeSpec, Reconciler, Role, SessionId, Timestamp,
};
use projections::{Cluster, Stamp, Touched, check};
use reconcilers::liveness::NEWCOMER_PERIOD;
use reconcilers::{Budget, Candidates, Ctx, Presence, Settled, TimerKey, settle};

const BEGIN: Timestamp = Timestamp::from_unix_ns(1_000_000_000);

fn joined(number: u128, role: Role) -> Kind {
    let spec = NodeSpec { role: role.into(), ..NodeSpec::default() };
    let (hostname, addr) = (format!("node-{number}"), "10.0.0.1:1".to_owned());
    Kind::NodeJoined(NodeJoined { node: NodeId::from_bits(number), spec, hostname, addr })
}

fn registered(number: u128) -> [Kind; 2] {
    let (node, session, addr) = (NodeId::from_bits(number), SessionId::from_bits(number), "10.0.0.1:1".to_owned());
    let described = NodeDescribed { node, description: NodeDescription::default() };
    [Kind::NodeRegistered(NodeRegistered { node, session, addr }), Kind::NodeDescribed(Box::new(described))]
}

/// A turn at this time, after what was touched.
fn turn(cluster: &mut Cluster, time: Timestamp, touched: Touched) -> Settled {
    let at = Stamp { index: cluster.position.index + 1, time };
    let (presence, mut ids) = (Presence::new(), IdGenerator::new(ClusterId::from_bits(1), at.index));
    let mut candidates = Candidates::default();
    let mut ctx = Ctx {
        now: time,
        ids: &mut ids,
        presence: &presence,
        peers: &reconcilers::Peers::default(),
        uses: &reconcilers::Uses::new(),
        candidates: &mut candidates,
    };
    let settled = settle(cluster, touched, &mut ctx, &at, Budget::FRAME);
    cluster.position = at;
    assert_eq!(check::check(cluster), Vec::<String>::new());
    settled
}

/// Turns at every time that one of these nodes requests, up to `end`.
fn pass(cluster: &mut Cluster, nodes: &[u128], end: Timestamp) {
    let overdue = nodes.iter().map(|number| NodeId::from_bits(*number)).collect();
    let touched = Touched { overdue, ..Touched::default() };
    let mut now = BEGIN;
    loop {
        let settled = turn(cluster, now, touched.clone());
        let wakes = nodes.iter().filter_map(|number| settled.wakes.get(&TimerKey::Node(NodeId::from_bits(*number))));
        match wakes.flatten().min() {
            Some(wake) if *wake <= end => now = *wake,
            Some(_) | None => return,
        }
    }
}

#[test]
fn who_never_registers_is_removed_after_an_hour_and_others_are_not() {
    let mut cluster = Cluster::default();
    let (manager, newcomer, worker) = (1, 2, 3);
    let kinds = [joined(manager, Role::Manager), joined(newcomer, Role::Worker), joined(worker, Role::Worker)];
    for kind in kinds.into_iter().chain(registered(worker)) {
        cluster.apply(&Event::by_reconciler(Reconciler::Liveness, kind), &Stamp { index: 1, time: BEGIN });
    }
    cluster.position = Stamp { index: 1, time: BEGIN };
    assert_eq!(cluster.newcomers(), 1);

    let nodes = [manager, newcomer, worker];
    pass(&mut cluster, &nodes, BEGIN + NEWCOMER_PERIOD - Duration::from_secs(1));
    assert_eq!((cluster.nodes.len(), cluster.newcomers()), (3, 1), "it has its hour");
    pass(&mut cluster, &nodes, BEGIN + NEWCOMER_PERIOD);
    assert!(!cluster.nodes.contains(NodeId::from_bits(newcomer)), "nobody is behind it");
    assert_eq!((cluster.nodes.len(), cluster.newcomers(), cluster.banned.len()), (2, 0, 0));
}
