//! A manager that is put back to a backup, while its workers have gone on.

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
    // What a manager runs itself is in its backup: here everything runs on the worker.
    cluster.ok("node drain m");
    assert_eq!(cluster.end(MANAGER), Some(0));
    let (state_dir, backup) = (cluster.state_dir(MANAGER), cluster.path("backup"));
    copy(&state_dir, &backup);

    let serve = |cluster: &mut Cluster| {
        cluster.resume(MANAGER);
        cluster.await_manager();
        cluster.until("both nodes", || {
            cluster.list("node ls").iter().filter(|node| node["state"] == "ready").count() == 2
        });
    };
    serve(&mut cluster);
    cluster.create("lost", "--replicas 1");
    let lost = cluster.settled("lost", 1);
    cluster.kill(MANAGER);

    fs::remove_dir_all(&state_dir).expect("removed");
    copy(&backup, &state_dir);
    serve(&mut cluster);
    cluster.until("what the worker knows to be told", || {
        cluster.log(MANAGER).contains("history was put back, says a node")
    });
    // The same command at the same place of the log as before.
    cluster.create("new", "--replicas 1");
    let new = cluster.settled("new", 1);
    assert_ne!(new[0].id, lost[0].id, "the worker would go on with what it knows by this id");
}
