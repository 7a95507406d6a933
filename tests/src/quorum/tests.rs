//! Particular cases with several managers.

use events::{Annotations, ConfigSpec, Event, Kind, NodeDeclaredDown, Reconciler};

use super::*;
use crate::net::NetworkConditions;

/// No checkpoint in a short test, and the hash of the state after every few frames.
const INTERVALS: Intervals = Intervals { checkpoint_frames: 1_000, hash_frames: 5 };
/// Longer than a leader takes to notice that it is alone.
const NOTICED: Duration = Duration::from_secs(5);

fn config(number: u128) -> Request {
    let spec = ConfigSpec { annotations: Some(Annotations { name: format!("c{number}"), ..Annotations::default() }) };
    let command = Command::CreateConfig(commands::CreateConfig { spec, data: b"data".to_vec() });
    let (id, actor) = (CommandId::from_bits(number), Actor::Operator("client".to_owned()));
    Request { id, actor, command, reason: None, correlation: None }
}

fn followers(quorum: &Quorum) -> Vec<usize> {
    (0..quorum.peers.len()).filter(|number| quorum.leader() != Some(*number)).collect()
}

fn index(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Committed { index, .. } => *index,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_manager_whose_state_is_another_than_the_leaders_stops_and_says_so() {
    let mut quorum = Quorum::new(1, 3, INTERVALS, false).expect("three managers");
    let spoilt = followers(&quorum)[0];
    quorum.crash(spoilt, Crash::Killed);
    quorum.spoilt = Some(spoilt);
    let start = quorum.peers[spoilt].start_with(|folded| {
        let node = folded.cluster.nodes.values().next().expect("a node").id;
        let down = Kind::NodeDeclaredDown(NodeDeclaredDown { node, ..NodeDeclaredDown::default() });
        let at = folded.cluster.position;
        folded.cluster.apply(&Event::by_reconciler(Reconciler::Liveness, down), &at);
    });
    start.expect("nobody knows yet");
    let told = (1..20).find_map(|number| quorum.execute(&config(number)).err()).expect("it stops");
    let told = format!("{told:#}");
    let expected = format!("manager {} ended", spoilt + 1);
    assert!(told.contains(&expected) && told.contains("this manager's state after frame"), "{told}");
}

#[test]
fn without_a_majority_nothing_is_acknowledged_and_nothing_takes_effect_twice() {
    let mut quorum = Quorum::new(2, 3, INTERVALS, false).expect("three managers");
    let (leader, others) = (quorum.leader().expect("one leads"), followers(&quorum));
    others.iter().for_each(|number| quorum.crash(*number, Crash::Killed));
    let ticket = quorum.ask(leader, config(1)).expect("it does not know yet");
    quorum.advance(NOTICED).expect("time passes");
    assert_eq!(quorum.take_answer(ticket), Some(Outcome::Unknown));
    assert_eq!(quorum.leader(), None, "who reaches nobody does not lead");
    quorum.start(others[0]).expect("a start");
    let first = quorum.execute(&config(1)).expect("two of three decide");
    let again = quorum.execute(&config(1)).expect("two of three decide");
    assert_eq!(index(&first), index(&again));
}

#[test]
fn who_is_cut_off_by_one_way_links_deposes_nobody() {
    let mut quorum = Quorum::new(3, 3, INTERVALS, false).expect("three managers");
    let (leader, deaf) = (quorum.leader().expect("one leads"), followers(&quorum)[0]);
    let term = quorum.peers[leader].replica().expect("it runs").term();
    let ids: Vec<u64> = quorum.peers.iter().map(|peer| peer.raft_id).collect();
    ids.iter().for_each(|from| quorum.wires.cut(*from, ids[deaf]));
    quorum.advance(NOTICED).expect("time passes");
    index(&quorum.execute(&config(1)).expect("two of three decide"));
    quorum.wires.mend();
    quorum.until("all managers agree", Quorum::agree).expect("the deaf one catches up");
    let replica = quorum.peers[leader].replica().expect("it runs");
    assert_eq!((quorum.leader(), replica.term()), (Some(leader), term));
}

#[test]
fn a_leader_that_is_demoted_hands_over_and_goes() {
    let mut quorum = Quorum::new(4, 3, INTERVALS, false).expect("three managers");
    let leader = quorum.leader().expect("one leads");
    let node = quorum.peers[leader].node;
    let demoted = quorum.execute(&Quorum::role_of(node, Role::Worker)).expect("an answer");
    index(&demoted);
    quorum.until("the manager that was demoted is a member no more", Quorum::all_vote).expect("it goes");
    assert_ne!(quorum.leader(), Some(leader));
    let raft_id = quorum.peers[leader].raft_id;
    assert!(quorum.oracle.cluster().former_members.contains(raft_id), "its number is never used again");
    index(&quorum.execute(&config(1)).expect("two managers decide"));
}

#[test]
fn what_is_asked_while_a_leader_hands_over_waits_for_the_next_one() {
    let mut quorum = Quorum::new(5, 3, INTERVALS, false).expect("three managers");
    let node = quorum.peers[quorum.leader().expect("one leads")].node;
    // The next leader hears of it late, and commands come all the time.
    let latency = (Duration::from_millis(300), Duration::from_millis(300));
    quorum.wires.conditions = NetworkConditions { latency, ..NetworkConditions::FINE };
    index(&quorum.execute(&Quorum::role_of(node, Role::Worker)).expect("an answer"));
    for number in 1..10 {
        index(&quorum.execute(&config(number)).expect("an answer"));
    }
    quorum.until("the manager that was demoted is a member no more", Quorum::all_vote).expect("it goes");
}
