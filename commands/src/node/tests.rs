//! Given events, when a command about a node, then events or a rejection.

use super::*;
use crate::Command;
use crate::testing::{Fixture, manager, node, operator, registered, removed, session, this_manager, web, worker};
use events::{Annotations, Availability, Id, TaskState};
use std::sync::Arc;

fn register(id: NodeId, number: u128, description: NodeDescription) -> Command {
    let (session, description) = (session(number), Box::new(description));
    Command::RegisterNode(crate::RegisterNode { node: id, session, description, addr: "10.0.0.2:1".into() })
}

fn described(hostname: &str) -> NodeDescription {
    NodeDescription { hostname: hostname.into(), ..Default::default() }
}

fn hear(number: u128) -> Command {
    Command::HearNode(crate::HearNode { node: worker(), session: session(number) })
}

fn disconnect(number: u128) -> Command {
    Command::DisconnectNode(crate::DisconnectNode { node: worker(), session: session(number) })
}

fn update(id: NodeId, spec: NodeSpec, version: Option<u64>) -> Command {
    Command::UpdateNode(crate::UpdateNode { node: id, spec, version })
}

fn remove(id: NodeId, force: bool) -> Command {
    Command::RemoveNode(crate::RemoveNode { node: id, force })
}

fn names(decision: &Decision) -> Vec<&'static str> {
    decision.events.iter().map(Kind::name).collect()
}

fn worker_of(fixture: &Fixture) -> &Node {
    fixture.state.nodes.get(worker()).expect("the worker is a member")
}

#[test]
fn a_description_is_noted_only_when_it_differs() {
    let mut fixture = Fixture::with_worker();
    let first = fixture.accept(&node(worker()), register(worker(), 1, described("w")));
    assert_eq!(names(&first), ["node_registered", "node_described"]);
    let again = fixture.accept(&node(worker()), register(worker(), 2, described("w")));
    assert_eq!(names(&again), ["node_registered"]);
    let repeated = fixture.accept(&node(worker()), register(worker(), 2, described("w")));
    assert_eq!(names(&repeated), [""; 0]);
    let renamed = fixture.accept(&node(worker()), register(worker(), 2, described("x")));
    assert_eq!(names(&renamed), ["node_described"]);
    assert_eq!((worker_of(&fixture).hostname(), worker_of(&fixture).session), ("x", Some(session(2))));
}

#[test]
fn only_members_register_and_only_for_themselves() {
    let mut fixture = Fixture::with_worker();
    let stranger = NodeId::from_bits(99);
    let refused = fixture.refuse(&node(stranger), register(stranger, 1, described("w")));
    assert_eq!(refused.kind, RejectionKind::Forbidden);
    assert!(refused.hint.contains("join again"), "{}", refused.hint);
    assert_eq!(fixture.refuse(&node(worker()), register(manager(), 1, described("w"))).kind, RejectionKind::Forbidden);
    assert_eq!(fixture.refuse(&node(worker()), register(worker(), 1, described(""))).kind, RejectionKind::Invalid);
    fixture.given([removed(worker())]);
    let refused = fixture.refuse(&node(worker()), register(worker(), 1, described("w")));
    assert_eq!(refused.kind, RejectionKind::Forbidden);
    assert!(refused.sentence.contains("was removed"), "{}", refused.sentence);
}

#[test]
fn a_heartbeat_counts_in_the_open_session_also_for_a_new_leader() {
    let mut fixture = Fixture::with_worker();
    fixture.given([registered(worker(), 1)]);
    assert_eq!(names(&fixture.accept(&node(worker()), hear(1))), [""; 0]);
    let stale = fixture.refuse(&node(worker()), hear(2));
    assert_eq!(stale.kind, RejectionKind::Conflict);
    assert!(stale.sentence.starts_with("session ended"), "{}", stale.sentence);

    let (node_id, version, feature_level_max) = (manager(), String::new(), 1);
    let assumed = events::LeadershipAssumed { node: node_id, term: 2, version, feature_level_max };
    fixture.given([Kind::LeadershipAssumed(assumed)]);
    assert_eq!(names(&fixture.accept(&node(worker()), hear(1))), ["node_became_ready"]);
    assert_eq!(worker_of(&fixture).liveness, Liveness::Ready);

    fixture.accept(&this_manager(), disconnect(1));
    assert_eq!(fixture.refuse(&node(worker()), hear(1)).kind, RejectionKind::Conflict);
}

#[test]
fn the_end_of_an_old_connection_ends_no_new_session() {
    let mut fixture = Fixture::with_worker();
    fixture.given([registered(worker(), 1), registered(worker(), 2)]);
    assert_eq!(names(&fixture.accept(&this_manager(), disconnect(1))), [""; 0]);
    assert_eq!(names(&fixture.accept(&this_manager(), disconnect(2))), ["node_disconnected"]);
    assert_eq!(names(&fixture.accept(&this_manager(), disconnect(2))), [""; 0]);
    assert_eq!(worker_of(&fixture).liveness, Liveness::Disconnected);
    fixture.given([removed(worker())]);
    assert_eq!(names(&fixture.accept(&this_manager(), disconnect(2))), [""; 0]);
}

#[test]
fn a_change_names_the_version_it_was_made_from() {
    let mut fixture = Fixture::with_worker();
    let drained = NodeSpec { availability: Availability::Drain.into(), ..Default::default() };
    let version = worker_of(&fixture).version;
    let decision = fixture.accept(&operator(), update(worker(), drained.clone(), Some(version)));
    assert_eq!(names(&decision), ["node_spec_updated"]);
    assert_eq!(worker_of(&fixture).spec.availability(), Availability::Drain);

    let stale = fixture.refuse(&operator(), update(worker(), NodeSpec::default(), Some(version)));
    assert_eq!(stale.kind, RejectionKind::Conflict);
    let now = worker_of(&fixture).version;
    for part in ["update out of sequence", &format!("version {now},"), &format!("version {version}")] {
        assert!(stale.sentence.contains(part), "{}", stale.sentence);
    }
    assert_eq!(names(&fixture.accept(&operator(), update(worker(), drained, None))), [""; 0]);
}

#[test]
fn specs_of_nodes_are_judged() {
    let fixture = Fixture::with_worker();
    let demoted = fixture.refuse(&operator(), update(manager(), NodeSpec::default(), None));
    assert_eq!(demoted.kind, RejectionKind::Conflict);
    assert!(demoted.sentence.contains("the only one"), "{}", demoted.sentence);

    let annotations = Some(Annotations { name: "a b".into(), ..Default::default() });
    let named = NodeSpec { annotations, ..Default::default() };
    assert_eq!(fixture.refuse(&operator(), update(worker(), named, None)).kind, RejectionKind::Invalid);
    let nobody = NodeId::from_bits(99);
    assert_eq!(fixture.refuse(&operator(), update(nobody, NodeSpec::default(), None)).kind, RejectionKind::NotFound);
}

#[test]
fn managers_are_promoted_demoted_and_removed_but_never_the_last_one() {
    let mut fixture = Fixture::with_worker();
    let promoted = NodeSpec { role: Role::Manager.into(), ..Default::default() };
    assert_eq!(names(&fixture.accept(&operator(), update(worker(), promoted, None))), ["node_spec_updated"]);
    let kept = fixture.refuse(&operator(), remove(worker(), true));
    assert!(kept.sentence.contains("one of the"), "{}", kept.sentence);
    let early = fixture.refuse(&operator(), update(manager(), NodeSpec::default(), None));
    assert_eq!(early.sentence, "manager-1 cannot be demoted: no other manager votes");
    let (node, raft_id, addr) = (worker(), 2, String::new());
    fixture.given([Kind::MemberAdded(events::MemberAdded {
        node,
        raft_id,
        addr,
        voter: true,
        feature_level_max: 1,
        audit_key: None,
    })]);
    let lost = fixture.refuse(&operator(), update(manager(), NodeSpec::default(), None));
    assert_eq!(
        lost.sentence,
        "manager-1 cannot be demoted: that would leave 0 of 1 managers reachable, and 1 are needed"
    );
    assert!(lost.hint.contains("add one first"), "{}", lost.hint);
    fixture.reached = Arc::new([1, 2].into());
    assert_eq!(
        names(&fixture.accept(&operator(), update(manager(), NodeSpec::default(), None))),
        ["node_spec_updated"]
    );
    let last = fixture.refuse(&operator(), update(worker(), NodeSpec::default(), None));
    assert!(last.sentence.contains("the only one"), "{}", last.sentence);
    // As long as it replicates the log, it cannot be removed like other workers.
    assert!(fixture.refuse(&operator(), remove(manager(), true)).hint.contains("demote"));
    fixture.given([
        Kind::MemberDemoted(events::MemberDemoted { node: manager(), raft_id: 1 }),
        Kind::MemberRemoved(events::MemberRemoved { node: manager(), raft_id: 1 }),
    ]);
    assert_eq!(names(&fixture.accept(&operator(), remove(manager(), true))), ["node_removed"]);
}

#[test]
fn a_node_that_is_ready_is_removed_only_by_force() {
    let mut fixture = Fixture::with_worker();
    fixture.given([registered(worker(), 1)]);
    let refused = fixture.refuse(&operator(), remove(worker(), false));
    assert_eq!(refused.kind, RejectionKind::Conflict);
    assert!(refused.hint.contains("--force"), "{}", refused.hint);
    let decision = fixture.accept(&operator(), remove(worker(), true));
    assert_eq!(decision.events, [Kind::NodeRemoved(NodeRemoved { node: worker(), forced: true, forgotten: false })]);
    assert!(fixture.state.banned.contains(worker()));
    assert_eq!(fixture.refuse(&operator(), remove(worker(), true)).kind, RejectionKind::NotFound);
}

#[test]
fn the_manager_stays() {
    let fixture = Fixture::with_worker();
    for force in [false, true] {
        assert_eq!(fixture.refuse(&operator(), remove(manager(), force)).kind, RejectionKind::Conflict);
    }
}

#[test]
fn tasks_that_are_not_over_go_with_their_node() {
    let mut fixture = Fixture::with_worker();
    let service = fixture.service(&web());
    let running = fixture.task(1, service, Some((worker(), TaskState::Running)));
    let assigned = fixture.task(2, service, Some((worker(), TaskState::Assigned)));
    let failed = fixture.task(3, service, Some((worker(), TaskState::Failed)));
    let elsewhere = fixture.task(4, service, Some((manager(), TaskState::Running)));
    let decision = fixture.accept(&operator(), remove(worker(), false));
    let message = "Task belonged to a node that has been deleted".to_owned();
    assert_eq!(decision.events[0], Kind::TaskOrphaned(TaskOrphaned { tasks: vec![running, assigned], message }));
    assert_eq!(names(&decision), ["task_orphaned", "node_removed"]);
    let state = |task| fixture.state.tasks.get(task).expect("the task").state;
    assert_eq!([running, assigned].map(state), [TaskState::Orphaned; 2]);
    assert_eq!((state(failed), state(elsewhere)), (TaskState::Failed, TaskState::Running));
}
