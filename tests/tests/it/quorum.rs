//! Several managers as real processes: they join, lose their leader, are promoted and demoted, and lose their disks.

use std::collections::BTreeSet;
use std::path::Path;

use events::{CommandId, Id, NodeSpec, Role};
use serde_json::Value;
use wire::v1::command_request::Command;
use wire::v1::{CommandRequest, UpdateNode};

use super::cluster::{Cluster, MANAGER};
use super::process::Answer;
use super::units::{Executor, IMAGE};

/// The log message of a manager when it votes.
const VOTES: &str = "this manager has joined and can vote";

/// A cluster with these managers besides the first one, all of which vote.
pub fn managers(others: &[&str]) -> Cluster {
    managers_of("swarmd", others)
}

/// The same, all of this program.
pub fn managers_of(program: &'static str, others: &[&str]) -> Cluster {
    let mut cluster = Cluster::start_of(program, Executor::Process, &[], &[]);
    for name in others {
        join(&mut cluster, name);
    }
    others.iter().for_each(|name| await_votes(&cluster, name, 1));
    cluster
}

fn join(cluster: &mut Cluster, name: &str) {
    let (address, token) = (cluster.address().to_owned(), cluster.token("manager"));
    cluster.add(name, &["--join-addr", &address, "--join-token", &token]);
}

/// Waits until a manager has joined this many times.
pub fn await_votes(cluster: &Cluster, name: &str, times: usize) {
    cluster.until(&format!("the vote of {name}"), || cluster.log(name).matches(VOTES).count() == times);
}

/// Creates a service at one manager after the other, until one of them accepts it.
pub fn create_at_any(cluster: &Cluster, managers: &[&str], service: &str) {
    let line = format!("service create --detach --name {service} --image x --replicas 0");
    cluster.until(&format!("a manager that creates {service}"), || {
        managers.iter().any(|name| {
            let answer = cluster.swarmctl_at(name, &line);
            // An attempt whose answer was lost may have succeeded.
            answer.code == 0 || answer.err.contains("already exists")
        })
    });
}

/// Asks a manager to change the role of a node.
pub fn set_role(cluster: &Cluster, at: &str, node: &str, role: Role) {
    ask_role(&cluster.socket(at), node, role).expect("taken");
}

/// The same at a control socket.
pub fn ask_role(socket: &Path, node: &str, role: Role) -> Result<(), tonic::Status> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let asked = runtime.block_on(async {
        let mut client = wire::connect(socket).await.expect("a connection");
        let spec = NodeSpec { role: role.into(), ..NodeSpec::default() };
        let command = Command::UpdateNode(UpdateNode { node: node.to_owned(), spec, version: None });
        let id = CommandId::from_bits(rand::random());
        client.execute(CommandRequest { id, command: Some(command), ..CommandRequest::default() }).await
    });
    asked.map(drop)
}

/// The names of the services at a manager.
pub fn services_at(cluster: &Cluster, name: &str) -> Vec<String> {
    let Answer { out, .. } = cluster.swarmctl_at(name, "service ls --format json");
    let parsed = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.filter_map(|service| service["name"].as_str().map(str::to_owned)).collect()
}

#[test]
fn three_managers_outlive_the_kill_of_their_leader_and_it_catches_up() {
    let mut cluster = managers(&["m2", "m3"]);
    create_at_any(&cluster, &[MANAGER], "one");
    cluster.kill(MANAGER);
    create_at_any(&cluster, &["m2", "m3"], "two");
    cluster.resume(MANAGER);
    cluster.until("the killed leader to catch up", || services_at(&cluster, MANAGER) == ["one", "two"]);
    // All of them at once.
    let all = [MANAGER, "m2", "m3"];
    all.iter().for_each(|name| cluster.kill(name));
    all.iter().for_each(|name| cluster.resume(name));
    create_at_any(&cluster, &all, "zoo");
    cluster.until("all to have it", || all.iter().all(|name| services_at(&cluster, name) == ["one", "two", "zoo"]));
}

#[test]
fn a_worker_becomes_a_manager_and_a_worker_again_and_its_tasks_do_not_notice() {
    let mut cluster = Cluster::start(Executor::Process, &["w1"]);
    cluster.create("web", "--replicas 2 --constraint node.hostname==w1");
    let before = cluster.settled("web", 2);
    for round in 1..=2 {
        set_role(&cluster, MANAGER, "w1", Role::Manager);
        await_votes(&cluster, "w1", round);
        create_at_any(&cluster, &[MANAGER, "w1"], &format!("s{round}"));
        set_role(&cluster, MANAGER, "w1", Role::Worker);
        cluster.until("w1 to be a worker", || {
            cluster.log("w1").matches("this node is a worker from now on").count() == round
        });
        cluster.until("its log to be gone", || !cluster.state_dir("w1").join("raft").exists());
        let ids = |tasks: &[super::cluster::Task]| tasks.iter().map(|task| task.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&cluster.settled("web", 2)), ids(&before), "round {round}");
    }
    // It restarts as a worker.
    cluster.kill("w1");
    cluster.resume("w1");
    cluster.until("w1 to be ready", || {
        cluster.list("node ls").iter().any(|node| node["hostname"] == "w1" && node["state"] == "ready")
    });
    cluster.settled("web", 2);
}

#[test]
fn a_leader_that_is_demoted_hands_over_and_goes() {
    let mut cluster = managers(&["m2", "m3"]);
    set_role(&cluster, MANAGER, MANAGER, Role::Worker);
    cluster.until("the first manager to be a worker", || {
        cluster.log(MANAGER).contains("this node is a worker from now on")
    });
    create_at_any(&cluster, &["m2", "m3"], "one");
    // It restarts as a worker, and finds the other managers.
    cluster.kill(MANAGER);
    cluster.resume(MANAGER);
    cluster.until("it to be ready", || {
        let nodes = cluster.swarmctl_at("m2", "node ls --format json").out;
        let ready = |line: &str| line.contains("\"hostname\":\"m\"") && line.contains("\"state\":\"ready\"");
        nodes.lines().any(ready)
    });
    assert!(!cluster.state_dir(MANAGER).join("raft").exists());
}

#[test]
fn a_manager_that_lost_its_disk_joins_as_another_node() {
    let mut cluster = managers(&["m2", "m3"]);
    create_at_any(&cluster, &[MANAGER], "one");
    cluster.kill("m3");
    std::fs::remove_dir_all(cluster.state_dir("m3")).expect("removed");
    cluster.resume("m3");
    await_votes(&cluster, "m3", 2);
    cluster.until("the history", || services_at(&cluster, "m3") == ["one"]);
    let nodes = cluster.list("node ls");
    let lost = nodes.iter().find(|node| node["hostname"] == "m3" && node["state"] != "ready").expect("the lost one");
    let lost = lost["id"].as_str().expect("an id").to_owned();
    set_role(&cluster, MANAGER, &lost, Role::Worker);
    cluster.until("the lost node to go", || cluster.swarmctl(&format!("node rm --force {lost}")).code == 0);
    assert_eq!(cluster.list("node ls").len(), 3);
    create_at_any(&cluster, &[MANAGER], "two");
}

/// The running tasks of a service, by id, as listed by a manager.
fn running_at(cluster: &Cluster, name: &str, service: &str) -> BTreeSet<String> {
    let Answer { out, .. } = cluster.swarmctl_at(name, "task ls --format json");
    let tasks = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let running = tasks.filter(|task| task["service_name"] == service && task["status"]["state"] == "running");
    running.filter_map(|task| task["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn an_agent_whose_manager_is_killed_goes_on_with_another_and_its_tasks_run_on() {
    let mut cluster = managers(&["m2", "m3"]);
    let (address, token) = (cluster.address().to_owned(), cluster.token("worker"));
    // It was given only the first manager's address, and learns the others in its session.
    cluster.add("w1", &["--join-addr", &address, "--join-token", &token]);
    cluster.create("web", "--replicas 2 --constraint node.hostname==w1");
    let before: BTreeSet<String> = cluster.settled("web", 2).into_iter().map(|task| task.id).collect();
    let containers = cluster.units();
    cluster.kill(MANAGER);
    let more = format!(
        "service create --name more --image {IMAGE} --command sleep --args 3600 --stop-signal KILL \
         --constraint node.hostname==w1"
    );
    cluster.until("another leader", || {
        let answer = cluster.swarmctl_at("m2", &more);
        answer.code == 0 || answer.err.contains("already exists")
    });
    cluster.until("a task that comes by way of another manager", || running_at(&cluster, "m3", "more").len() == 1);
    assert_eq!(running_at(&cluster, "m2", "web"), before, "nobody took the node for lost");
    let after = cluster.units();
    assert!(containers.iter().all(|(task, count)| after.get(task) == Some(count)), "{containers:?} became {after:?}");
}

#[test]
fn every_manager_shows_at_once_what_another_acknowledged_and_says_who_is_missing_without_a_majority() {
    let mut cluster = managers(&["m2", "m3"]);
    let all = [MANAGER, "m2", "m3"];
    for (number, name) in all.iter().enumerate() {
        let line = format!("service create --detach --name s{number} --image x --replicas 0");
        let created = cluster.swarmctl_at(name, &line);
        assert_eq!(created.code, 0, "{name} forwards what it does not decide: {created:?}");
        for other in all {
            assert_eq!(services_at(&cluster, other).len(), number + 1, "{other} after {name}");
        }
    }
    cluster.kill("m2");
    cluster.kill("m3");
    cluster.until("a refusal that names who is missing", || {
        let refused = cluster.swarmctl("service scale s0=1");
        refused.code != 0 && ["1 of 3 managers", "m2 (", "m3 ("].iter().all(|part| refused.err.contains(part))
    });
    let stale = cluster.swarmctl("service ls --stale --format json");
    assert_eq!((stale.code, stale.out.lines().count()), (0, 3), "{stale:?}");
}

#[test]
fn a_promotion_that_cannot_work_ends_with_a_demotion_and_works_once_nothing_is_in_its_way() {
    let mut cluster = managers(&[]);
    // A worker does without a control socket; a manager cannot.
    std::fs::write(cluster.socket("w1"), "").expect("a file in the way");
    let (address, token) = (cluster.address().to_owned(), cluster.token("worker"));
    cluster.add("w1", &["--join-addr", &address, "--join-token", &token]);
    let is_ready = || cluster.list("node ls").iter().filter(|node| node["state"] == "ready").count() == 2;
    cluster.until("w1 to be ready", is_ready);
    set_role(&cluster, MANAGER, "w1", Role::Manager);
    cluster.until("the obstacle", || cluster.log("w1").contains("this node cannot start as a manager"));
    set_role(&cluster, MANAGER, "w1", Role::Worker);
    cluster.until("w1 to be a worker", || cluster.log("w1").contains("this node is a worker from now on"));
    std::fs::remove_file(cluster.socket("w1")).expect("the file goes");
    set_role(&cluster, MANAGER, "w1", Role::Manager);
    await_votes(&cluster, "w1", 1);
}

#[test]
fn who_was_demoted_or_removed_while_it_was_away_finds_out_and_disturbs_nobody() {
    let mut cluster = managers(&["m2", "m3"]);
    cluster.kill("m3");
    set_role(&cluster, MANAGER, "m3", Role::Worker);
    cluster.until("m3 to go", || cluster.swarmctl("node rm --force m3").code == 0);
    cluster.resume("m3");
    cluster.until("m3 to know", || cluster.log("m3").contains("this node was removed from the cluster"));
    join(&mut cluster, "m4");
    await_votes(&cluster, "m4", 1);
    cluster.kill("m4");
    set_role(&cluster, MANAGER, "m4", Role::Worker);
    cluster.resume("m4");
    cluster.until("m4 to be a worker", || cluster.log("m4").contains("this node is a worker from now on"));
    create_at_any(&cluster, &[MANAGER], "one");
}

#[test]
fn a_manager_that_finds_no_majority_ends_when_it_is_told_to() {
    let mut cluster = managers(&["m2", "m3"]);
    for name in ["m2", "m3", MANAGER] {
        cluster.kill(name);
    }
    cluster.resume(MANAGER);
    cluster.until("it to miss the others", || {
        let answer = cluster.swarmctl("node ls");
        answer.code != 0 && answer.err.contains("m2") && answer.err.contains("m3")
    });
    assert_eq!(cluster.end(MANAGER), Some(0));
}

#[test]
fn a_manager_logs_what_happens_and_not_what_happened_without_it() {
    let mut cluster = managers(&["m2", "m3"]);
    let (address, token) = (cluster.address().to_owned(), cluster.token("worker"));
    let worker = |cluster: &mut Cluster, name| {
        cluster.add(name, &["--join-addr", &address, "--join-token", &token]);
        cluster.until(&format!("{name} to be up"), || cluster.log(MANAGER).contains(&format!("node {name} is up")));
    };
    cluster.kill("m3");
    worker(&mut cluster, "w1");
    cluster.resume("m3");
    join(&mut cluster, "m4");
    for name in ["m3", "m4"] {
        cluster.until(&format!("{name} to catch up"), || cluster.log(name).contains("this manager has caught up"));
    }
    worker(&mut cluster, "w2");
    for name in ["m3", "m4"] {
        cluster.until(&format!("{name} to log what happens"), || cluster.log(name).contains("node w2 is up"));
        assert!(!cluster.log(name).contains("node w1 "), "{}", cluster.log(name));
    }
}

#[test]
fn a_worker_names_the_managers_that_there_are_when_it_is_asked() {
    let mut cluster = managers(&["m2"]);
    let (address, token) = (cluster.address().to_owned(), cluster.token("worker"));
    cluster.add("w1", &["--join-addr", &address, "--join-token", &token]);
    let named = |cluster: &Cluster| {
        let refused = cluster.swarmctl_at("w1", "service ls").err;
        refused.rsplit_once("the managers are at ").map_or(0, |(_, managers)| managers.split(", ").count())
    };
    cluster.until("both to be named", || named(&cluster) == 2);
    set_role(&cluster, MANAGER, "m2", Role::Worker);
    cluster.until("one to be named", || named(&cluster) == 1);
}

#[test]
fn the_manager_that_is_asked_is_demoted_last() {
    let cluster = managers(&["m2", "m3"]);
    let demoted = cluster.swarmctl_at("m3", "node demote --timeout 60s m3 m2");
    assert!(
        demoted.code == 0 && demoted.err.contains("m3 is the manager that answers, and is being demoted"),
        "{demoted:?}"
    );
    for name in ["m2", "m3"] {
        cluster.until(&format!("{name} to be a worker"), || {
            cluster.log(name).contains("this node is a worker from now on")
        });
    }
    let voters = cluster.ok("raft --format json");
    assert_eq!(voters.matches("\"state\":\"voter\"").count(), 1, "{voters}");
    let last = cluster.swarmctl("node demote m");
    last.refused(4, "the manager cannot be demoted: it is the only one");
}
