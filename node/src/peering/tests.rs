//! Which managers' messages are accepted.

use events::{Event, Id, Kind, MemberAdded, MemberRemoved, Reconciler};
use projections::Stamp;

use super::*;

fn node(number: u128) -> NodeId {
    NodeId::from_bits(number)
}

/// A cluster with a member, and with a node that was a member and has another log now.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let added = |node, raft_id| {
        let (addr, feature_level_max) = ("m:1".to_owned(), 1);
        Kind::MemberAdded(MemberAdded { node, raft_id, addr, voter: raft_id != 12, feature_level_max, audit_key: None })
    };
    let kinds = [
        added(node(1), 11),
        added(node(2), 12),
        Kind::MemberRemoved(MemberRemoved { node: node(2), raft_id: 12 }),
        added(node(2), 22),
    ];
    for (index, kind) in (2..).zip(kinds) {
        cluster.apply(&Event::by_reconciler(Reconciler::Members, kind), &Stamp { index, ..Stamp::default() });
    }
    cluster
}

#[test]
fn a_manager_is_heard_as_what_its_certificate_and_the_members_say() {
    let cluster = cluster();
    let table = [
        (1, 11, Ok(())),
        (2, 22, Ok(())),
        // This manager may be behind: a newer state may contain it.
        (3, 33, Ok(())),
        (1, 44, Ok(())),
        (2, 12, Err(PeerRefused::Former { raft_id: 12, since: 4 })),
        (3, 12, Err(PeerRefused::Former { raft_id: 12, since: 4 })),
        (3, 11, Err(PeerRefused::Impostor { raft_id: 11, of: node(1), node: node(3) })),
        (1, 22, Err(PeerRefused::Impostor { raft_id: 22, of: node(2), node: node(1) })),
    ];
    for (caller, raft_id, expected) in table {
        assert_eq!(judge(&cluster, node(caller), raft_id), expected, "node {caller} as {raft_id}");
    }
}

#[test]
fn a_manager_that_introduces_itself_is_called_at_its_own_address() {
    let (cluster, peering) = (cluster(), Peering::default());
    let own = Own { node: node(1), raft_id: 11, addr: "m:1".to_owned() };
    let at = |number, addr: &str| Other { node: node(number), addr: addr.to_owned() };
    let others = || peering.others(&cluster, &own).into_iter().collect::<Vec<_>>();
    assert_eq!(others(), [(22, at(2, "m:1"))]);
    locked(&peering.shared.introduced).extend([(22, at(2, "m:2")), (33, at(3, "m:3")), (12, at(2, "m:0"))]);
    assert_eq!(others(), [(22, at(2, "m:2")), (33, at(3, "m:3"))], "a former member is forgotten");
    assert_eq!(peering.introduce(33, 5, at(3, "m:3")), Err(PeerRefused::WrongReceiver { to: 5, own: 0 }));
}

#[tokio::test(start_paused = true)]
async fn only_a_member_that_calls_is_called_at_once() {
    let (peering, pause) = (Peering::default(), std::time::Duration::from_secs(3_600));
    let outbox = Arc::new(Outbox::new(Arc::default()));
    locked(&peering.shared.outboxes).insert(22, Arc::clone(&outbox));
    let at = |number| Other { node: node(number), addr: "m:1".to_owned() };
    for (raft_id, to, is_called) in [(33, 0, false), (22, 5, false), (22, 0, true)] {
        let _ = peering.introduce(raft_id, to, at(2));
        assert_eq!(outbox.wait_for_call(pause).await, is_called, "{raft_id} calls {to}");
    }
}
