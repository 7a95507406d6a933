//! Nodes that leave their cluster: their tasks end, their data is removed, and they can join again.

use std::path::Path;
use std::process::Command;

use super::cluster::{Cluster, MANAGER, path};
use super::process::{Answer, program, run};
use super::quorum::managers;
use super::units::Executor;

fn swarmd_leave(state_dir: &Path, flags: &[&str]) -> Answer {
    run(Command::new(program("swarmd")).args(["leave", "--state-dir", &path(state_dir)]).args(flags))
}

/// The files in a state directory.
fn files(state_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(state_dir).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Waits until a node's daemon has exited successfully and left nothing behind.
fn assert_left(cluster: &mut Cluster, name: &str) {
    assert_eq!(cluster.await_end(name), Some(0), "{}", cluster.log(name));
    assert_eq!(files(&cluster.state_dir(name)), ["lock", "node.left"]);
    let log = cluster.log(name);
    assert!(!log.contains("this node was removed"), "that is what was asked for: {log}");
}

fn hostnames(cluster: &Cluster) -> Vec<String> {
    cluster.list("node ls").iter().map(|node| node["hostname"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_worker_leaves_and_joins_again_and_the_last_manager_ends_the_cluster() {
    let mut cluster = Cluster::start(Executor::Process, &["w1", "w2"]);
    cluster.swarmctl_at("w1", "service ls").refused(8, "this node is a worker");
    cluster.create("web", "--replicas 2 --constraint node.role==worker");
    cluster.settled("web", 2);
    assert_eq!(cluster.swarmctl_at("w1", "node leave --reason moving").code, 0);
    assert_left(&mut cluster, "w1");
    assert_eq!(hostnames(&cluster), [MANAGER, "w2"]);
    assert!(cluster.settled("web", 2).iter().all(|task| task.node == "w2"));
    let history = cluster.ok("events --kind node_removed --format json");
    assert!(history.contains("moving"), "{history}");
    // An empty directory does not make it create a new cluster.
    cluster.resume_with("w1", &["--listen-control-api", &path(&cluster.socket("w1"))]);
    assert_eq!(cluster.await_end("w1"), Some(2));
    assert!(cluster.log("w1").contains("left its cluster"), "{}", cluster.log("w1"));
    let (address, token) = (cluster.address().to_owned(), cluster.token("worker"));
    cluster.add("w1", &["--join-addr", &address, "--join-token", &token]);
    cluster.until("w1 to be back", || hostnames(&cluster) == [MANAGER, "w1", "w2"]);
    // A node that cannot reach its manager leaves with force.
    cluster.kill("w2");
    cluster.kill(MANAGER);
    let w2 = cluster.state_dir("w2");
    swarmd_leave(&w2, &[]).refused(7, "no manager agreed to let this node leave");
    assert_eq!(swarmd_leave(&w2, &["--force"]).code, 0);
    assert_eq!(files(&w2), ["lock", "node.left"]);
    cluster.resume(MANAGER);
    cluster.await_manager();
    cluster.swarmctl("node leave").refused(4, "it is the only manager");
    let runs = swarmd_leave(&cluster.state_dir(MANAGER), &[]);
    runs.refused(1, "another swarmd is running");
    assert!(runs.err.contains("hint: `swarmctl node leave` asks it to leave"), "{runs:?}");
    assert_eq!(cluster.swarmctl("node leave --force").code, 0);
    assert_left(&mut cluster, MANAGER);
    swarmd_leave(&cluster.path("nowhere"), &[]).refused(2, "is not the state directory of a member");
    assert!(!cluster.path("nowhere").exists(), "made for nothing");
    let file = cluster.path("a-file");
    std::fs::write(&file, "of somebody").expect("written");
    swarmd_leave(&file, &["--force"]).refused(2, "is not the state directory of a member");
}

#[test]
fn managers_leave_as_long_as_those_that_are_left_can_decide() {
    let mut cluster = managers(&["m2", "m3"]);
    cluster.create("web", "--mode global");
    cluster.settled("web", 3);
    cluster.kill("m3");
    cluster.until("m3 to be missed", || cluster.ok("node ls").contains("UNREACHABLE"));
    let kept = cluster.swarmctl_at("m2", "node leave");
    kept.refused(4, "m2 cannot leave: that would leave 1 of 2 managers reachable, and 2 are needed");
    // A stopped node is removed by the others.
    let m3 = cluster.state_dir("m3");
    let left = swarmd_leave(&m3, &[]);
    assert_eq!(left.code, 0, "{left:?}");
    assert_eq!(files(&m3), ["lock", "node.left"]);
    let left = cluster.swarmctl_at("m2", "node leave");
    assert_eq!(left.code, 0, "{left:?}\n{}", cluster.log("m2"));
    assert!(left.err.contains("demoted first"), "{left:?}");
    assert_left(&mut cluster, "m2");
    assert_eq!(hostnames(&cluster), [MANAGER]);
    cluster.settled("web", 1);
}
