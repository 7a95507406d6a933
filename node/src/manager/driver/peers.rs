//! Several managers, each on its own thread as in separate processes, with channels as the network.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use commands::{Actor, Command};
use events::{CommandId, Id, NodeId, Role};

use super::*;
use crate::log::{Consensus, Crash, Membership, MemoryDisk, MemoryStore};
use crate::manager::core::tests::cluster;
use crate::manager::fold::Folded;
use crate::manager::replica::{Intervals, membership};

/// Timeout of every wait here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The handles of all running managers, by raft id: the network.
type Network = Arc<Mutex<BTreeMap<u64, Handle>>>;

struct Machine {
    node: NodeId,
    raft_id: u64,
    disk: MemoryDisk,
    thread: Option<JoinHandle<Result<(), FatalError>>>,
}

impl Machine {
    fn start(node: NodeId, raft_id: u64, log: &Membership, network: &Network) -> Self {
        let disk = MemoryDisk::default();
        MemoryStore::open(&disk).expect("a log").initialize(log).expect("a log that begins");
        let mut machine = Self { node, raft_id, disk, thread: None };
        machine.run(network);
        machine
    }

    fn run(&mut self, network: &Network) {
        let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(&self.disk).expect("a log"));
        let loaded = store.load().expect("a log that is intact");
        let folded: Folded = crate::manager::core::fold(&*store, &loaded).expect("a state");
        let loaded = loaded.with_members(membership(&folded.cluster));
        let consensus = Consensus::open(Arc::clone(&store), self.raft_id, &loaded).expect("a member");
        let replica = Replica::new(self.node, "0.1.0", consensus, folded, Intervals::default());
        let (from, others) = (self.raft_id, Arc::clone(network));
        let send = move |to, message| {
            let handle = others.lock().expect("no panic with the lock").get(&to).cloned();
            handle.into_iter().for_each(|handle| handle.receive(from, PeerMessage::clone(&message)));
        };
        let (handle, thread) = spawn_among(replica, store, send).expect("a thread");
        network.lock().expect("no panic with the lock").insert(self.raft_id, handle);
        self.thread = Some(thread);
    }

    fn stop(&mut self, network: &Network) {
        let handle = network.lock().expect("no panic with the lock").remove(&self.raft_id).expect("it runs");
        handle.stop();
        self.thread.take().expect("it runs").join().expect("no panic").expect("a good end");
        self.disk.crash(Crash::Killed);
    }
}

fn handles(network: &Network) -> Vec<Handle> {
    network.lock().expect("no panic with the lock").values().cloned().collect()
}

/// Asks the leader, whichever manager that is, until there is an answer.
async fn ask(network: &Network, actor: Actor, command: Command) -> Outcome {
    let id = CommandId::from_bits(rand::random());
    let request = Request::named(id, actor, command);
    let asked = async {
        loop {
            for handle in handles(network).into_iter().filter(|handle| handle.state().leads) {
                match handle.submit(request.clone()).await {
                    Outcome::Unknown => {}
                    Outcome::Rejected(refused) if refused.kind == RejectionKind::Unavailable => {}
                    answer => return answer,
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, asked).await.expect("an answer")
}

async fn committed(network: &Network, actor: Actor, command: Command) -> Option<String> {
    match ask(network, actor, command).await {
        Outcome::Committed { subject, .. } => subject,
        other => panic!("{other:?}"),
    }
}

/// Waits until a condition holds for the states of all managers.
async fn until(network: &Network, holds: impl Fn(&[Arc<Published>]) -> bool) {
    let held = async {
        while !holds(&handles(network).iter().map(Handle::state).collect::<Vec<_>>()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, held).await.expect("it holds in time");
}

/// The second or third manager joins, and announces itself.
async fn join(network: &Network, number: u64) -> Machine {
    let (hostname, addr) = (format!("m{number}"), format!("10.0.0.{number}:4242"));
    let join = commands::JoinNode { secret_sha256: [2; 32], hostname, addr: addr.clone() };
    let node = committed(network, Actor::Joiner(addr.clone()), Command::JoinNode(join)).await;
    let node: NodeId = node.expect("a node").parse().expect("a node's id");
    let certify =
        commands::CertifyNode { node, role: Role::Manager, cert_pem: String::new(), not_after: Timestamp::default() };
    committed(network, Actor::Manager(node), Command::CertifyNode(certify)).await;
    let machine = Machine::start(node, number, &Membership::joining(number), network);
    let announce = commands::AnnounceManager {
        node,
        raft_id: number,
        addr,
        feature_level_max: crate::level::feature_level(),
        audit_key: None,
    };
    committed(network, Actor::Manager(node), Command::AnnounceManager(announce)).await;
    machine
}

/// Three managers that have all seen that they vote.
async fn three() -> (Network, Vec<Machine>) {
    let (network, founder) = (Network::default(), cluster());
    let (node, raft_id) = (founder.node, founder.raft_id);
    let mut machines = vec![Machine::start(node, raft_id, &Membership::single(raft_id), &network)];
    committed(&network, Actor::Manager(node), Command::InitialiseCluster(Box::new(founder))).await;
    for number in [2, 3] {
        machines.push(join(&network, number).await);
    }
    let vote = |state: &Arc<Published>| state.cluster.members.values().filter(|member| member.votes).count() == 3;
    until(&network, |states| states.iter().all(vote)).await;
    (network, machines)
}

fn config(name: &str) -> Command {
    let annotations = Some(events::Annotations { name: name.to_owned(), ..events::Annotations::default() });
    let spec = events::ConfigSpec { annotations, ..Default::default() };
    Command::CreateConfig(commands::CreateConfig { spec, data: b"data".to_vec() })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_manager_takes_commands_and_shows_what_another_acknowledged() {
    let (network, mut machines) = three().await;
    for (made, asked) in handles(&network).iter().enumerate() {
        let (id, actor) = (CommandId::from_bits(rand::random()), Actor::Operator("somebody".to_owned()));
        let request = Request::named(id, actor, config(&format!("c{made}")));
        let outcome = tokio::time::timeout(TIMEOUT, asked.submit(request)).await.expect("an answer");
        let Outcome::Committed { index, .. } = outcome else { panic!("{outcome:?}") };
        assert!(asked.state().cluster.position.index >= index, "who asked reads its own write");
        for read in handles(&network) {
            read.read_barrier().await.expect("the leader confirms");
            assert_eq!(read.state().cluster.configs.len(), made + 1, "what was acknowledged before is seen");
            read.applied(index).await.expect("it is there");
        }
    }
    machines.iter_mut().for_each(|machine| machine.stop(&network));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_managers_on_threads_of_their_own_outlive_their_leader() {
    let (network, mut machines) = three().await;
    let operator = || Actor::Operator("somebody".to_owned());
    committed(&network, operator(), config("one")).await;

    machines[0].stop(&network);
    committed(&network, operator(), config("two")).await;
    machines[0].run(&network);
    committed(&network, operator(), config("three")).await;
    until(&network, |states| {
        let first = states[0].cluster.state_hash();
        let same = states.iter().all(|state| state.cluster.state_hash() == first && state.keyring == states[0].keyring);
        states.len() == 3 && same && states[0].cluster.configs.len() == 3
    })
    .await;
    assert_eq!(handles(&network).iter().filter(|handle| handle.state().leads).count(), 1);
    machines.iter_mut().for_each(|machine| machine.stop(&network));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_hands_over_first() {
    let (network, mut machines) = three().await;
    let first = handles(&network).into_iter().find(|handle| handle.state().leads).expect("one leads");
    let operator = || Actor::Operator("somebody".to_owned());
    let before = first.submit(Request::unnamed(operator(), config("one")));
    let (before, ()) = tokio::join!(before, first.hand_over());
    assert!(matches!(before, Outcome::Committed { .. }), "what was asked before is answered: {before:?}");
    let after = first.submit(Request::unnamed(operator(), config("two"))).await;
    assert!(matches!(after, Outcome::Rejected(ref refused) if refused.kind == RejectionKind::Unavailable), "{after:?}");
    assert!(!first.state().leads, "it was waited for");
    committed(&network, operator(), config("three")).await;
    machines.iter_mut().for_each(|machine| machine.stop(&network));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_manager_shows_how_far_each_is_as_the_leader_says() {
    let (network, mut machines) = three().await;
    committed(&network, Actor::Operator("somebody".to_owned()), config("one")).await;
    let shown = async {
        // A leader has the status of the others; they are sent their own and the leader's as well.
        let knows = |raft: &RaftStatus| {
            let known = raft.followers.values().filter(|follower| follower.matched == raft.committed);
            known.filter(|follower| follower.reachable).count() == if raft.leads() { 2 } else { 3 }
        };
        while !handles(&network).iter().all(|handle| knows(&handle.raft())) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, shown).await.expect("all know it");
    machines.iter_mut().for_each(|machine| machine.stop(&network));
}

#[tokio::test]
async fn former_members_elect_no_leader_and_accept_nothing() {
    let (network, mut machines) = three().await;
    let fenced: Vec<Handle> = {
        let survivor = machines[1].raft_id;
        let handles = network.lock().expect("no panic with the lock");
        handles.iter().filter(|(raft_id, _)| **raft_id != survivor).map(|(_, handle)| handle.clone()).collect()
    };
    assert_eq!(fenced.len(), 2, "a majority");
    fenced.iter().for_each(Handle::fence);
    for handle in &fenced {
        let request = Request::unnamed(Actor::Operator("root".to_owned()), config("lost"));
        let outcome = handle.submit(request).await;
        assert!(
            matches!(&outcome, Outcome::Rejected(refusal) if refusal.sentence.contains("no longer a member of the cluster")),
            "{outcome:?}"
        );
        assert!(handle.read_barrier().await.is_err(), "nor is anything read that was acknowledged elsewhere");
        let state = handle.state();
        assert!(!state.leads && !state.alone && handle.serves_sessions().is_err());
    }
    machines.iter_mut().for_each(|machine| machine.stop(&network));
}
