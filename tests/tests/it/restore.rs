//! A manager that is restored from a backup, while its workers have continued and others have joined.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::cluster::{Cluster, MANAGER};
use super::process::run;
use super::units::Executor;

fn copy(from: &Path, to: &Path) {
    let copied = run(Command::new("cp").arg("--recursive").arg("--preserve").arg(from).arg(to));
    assert_eq!(copied.code, 0, "{copied:?}");
}

#[test]
fn a_worker_that_went_on_runs_what_the_restored_manager_says_and_nothing_else() {
    let mut cluster = Cluster::start(Executor::Process, &["w1"]);
    let (address, token) = (cluster.address().to_owned(), cluster.token("worker"));
    // The manager's own tasks are part of its backup: here everything runs on the worker.
    cluster.ok("node drain m");
    assert_eq!(cluster.end(MANAGER), Some(0));
    let (state_dir, backup) = (cluster.state_dir(MANAGER), cluster.path("backup"));
    copy(&state_dir, &backup);

    let ready = |cluster: &Cluster, nodes: usize| {
        cluster.until("all nodes to be ready", || {
            cluster.list("node ls").iter().filter(|node| node["state"] == "ready").count() == nodes
        });
    };
    cluster.resume(MANAGER);
    cluster.await_manager();
    ready(&cluster, 2);
    cluster.create("lost", "--replicas 1 --constraint node.hostname==w1");
    let lost = cluster.settled("lost", 1);
    cluster.add("w2", &["--join-addr", &address, "--join-token", &token]);
    ready(&cluster, 3);
    cluster.create("late", "--replicas 1 --constraint node.hostname==w2");
    cluster.until("a task on the late node", || cluster.running("late").len() == 1);
    let late = cluster.running("late").remove(0).id;
    // The state of a worker outlives its process.
    assert_eq!(cluster.end("w1"), Some(0));
    cluster.kill(MANAGER);

    fs::remove_dir_all(&state_dir).expect("removed");
    copy(&backup, &state_dir);
    cluster.resume(MANAGER);
    cluster.resume("w1");
    cluster.await_manager();
    ready(&cluster, 2);
    cluster.until("the worker to report what it knows", || {
        cluster.log(MANAGER).contains("a node knows a frame that is not in the history of this manager")
    });
    // The same command at the same index of the log as before.
    cluster.create("new", "--replicas 1");
    cluster.until("a task of the restored cluster", || cluster.running("new").len() == 1);
    assert_ne!(cluster.running("new")[0].id, lost[0].id, "the worker would go on with what it knows by this id");

    // A node that joined after the backup reports that, keeps working, and rejoins in the way that its hint describes.
    cluster.until("the late node to say so", || cluster.log("w2").contains("the manager does not know this node"));
    assert!(cluster.log(MANAGER).contains("is not a member: it joined after the backup"), "{}", cluster.log(MANAGER));
    assert_eq!(cluster.units().get(&late), Some(&1), "nobody decided to end its task");
    assert_eq!(cluster.end("w2"), Some(0));
    fs::remove_dir_all(cluster.state_dir("w2").join("certificates")).expect("removed");
    cluster.resume("w2");
    ready(&cluster, 3);
    cluster.settled("new", 1);
}
