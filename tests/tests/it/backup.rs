//! A backup that is taken under load, and the manager that is restored from it.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::cluster::{Cluster, MANAGER, path};
use super::process::{Answer, program, run};
use super::units::Executor;

/// Restores a backup into the manager's state directory.
fn restore(cluster: &Cluster, passphrase: &str) -> Answer {
    restore_with(cluster, passphrase, &["--rotate-tokens"])
}

fn restore_with(cluster: &Cluster, passphrase: &str, flags: &[&str]) -> Answer {
    let (file, dir) = (path(&cluster.path("backup")), path(&cluster.state_dir(MANAGER)));
    let passphrase = path(&cluster.path(passphrase));
    let all = ["restore", &file, "-d", &dir, "--passphrase-file", &passphrase];
    run(Command::new(program("swarmd")).args(all).args(flags))
}

#[test]
fn a_manager_restored_from_a_backup_has_all_that_was_acknowledged_before_it_and_tasks_go_on() {
    let mut cluster = Cluster::start(Executor::Process, &["w1"]);
    // The manager's own tasks end with its state directory: here everything runs on the worker.
    cluster.ok("node drain m");
    let token = cluster.token("worker");
    cluster.create("web", "--replicas 2");
    let tasks = cluster.settled("web", 2);
    fs::write(cluster.path("passphrase"), "a long and random text\n").expect("written");
    fs::write(cluster.path("wrong"), "another long and random text\n").expect("written");
    let (file, passphrase) = (path(&cluster.path("backup")), path(&cluster.path("passphrase")));

    let mut backup = Command::new(program("swarmctl"));
    backup.arg("--socket").arg(cluster.socket(MANAGER)).args(["--format", "json", "cluster", "backup", &file]);
    backup.args(["--passphrase-file", &passphrase]);
    let taking = std::thread::spawn(move || run(&mut backup));
    let mut acknowledged = Vec::new();
    while !taking.is_finished() || acknowledged.len() < 3 {
        let name = format!("c{}", acknowledged.len());
        let reply = cluster.list(&format!("config create {name} {passphrase}")).remove(0);
        acknowledged.push((name, reply["index"].as_u64().expect("an index")));
    }
    let taken = taking.join().expect("the backup");
    assert_eq!(taken.code, 0, "{taken:?}");
    let taken: Value = serde_json::from_str(&taken.out).expect("an object");
    let index = taken["index"].as_u64().expect("an index");
    let again = cluster.swarmctl(&format!("cluster backup {file} --passphrase-file {passphrase}"));
    assert!(again.code == 4 && again.err.contains("exists already"), "{again:?}");

    cluster.kill(MANAGER);
    let in_use = restore(&cluster, "passphrase");
    assert!(in_use.code == 2 && in_use.err.contains("belongs to a manager"), "{in_use:?}");
    fs::remove_dir_all(cluster.state_dir(MANAGER)).expect("removed");
    let refused = restore(&cluster, "wrong");
    assert!(refused.code == 2 && refused.err.contains("the passphrase is wrong"), "{refused:?}");
    let restored = restore(&cluster, "passphrase");
    assert!(restored.code == 0 && restored.out.contains("restored frame"), "{restored:?}");
    cluster.resume(MANAGER);
    cluster.await_manager();
    cluster.until("all nodes to be ready", || {
        cluster.list("node ls").iter().filter(|node| node["state"] == "ready").count() == 2
    });

    let names: Vec<Value> =
        cluster.list("config ls").into_iter().map(|config| config["spec"]["annotations"]["name"].clone()).collect();
    for (name, at) in acknowledged {
        assert_eq!(names.contains(&Value::from(name.clone())), at <= index, "{name} of frame {at}, backup of {index}");
    }
    let same: Vec<_> = cluster.settled("web", 2).into_iter().map(|task| task.id).collect();
    assert!(tasks.iter().all(|task| same.contains(&task.id)), "the same tasks go on: {same:?}");
    assert_ne!(cluster.token("worker"), token, "tokens are new ones");
    cluster.ok("service scale web=3");
    cluster.settled("web", 3);
    let history = cluster.ok("events");
    for kind in ["cluster_initialised", "continues as the only manager"] {
        assert!(history.contains(kind), "{kind}: {history}");
    }
}

#[test]
fn an_autolocked_cluster_is_restored_locked_as_another_cluster_with_other_tokens() {
    let mut cluster = Cluster::start(Executor::Process, &[]);
    cluster.ok("config create kept Cargo.toml");
    let printed = cluster.ok("cluster update --autolock");
    let key = printed.lines().find(|line| line.starts_with("SWMKEY-")).expect("the unlock key").to_owned();
    let (id, tokens) = (cluster.inspect()["id"].clone(), ["worker", "manager"].map(|role| cluster.token(role)));
    fs::write(cluster.path("passphrase"), "a long and random text\n").expect("written");
    let (file, passphrase) = (path(&cluster.path("backup")), path(&cluster.path("passphrase")));
    cluster.ok(&format!("cluster backup {file} --passphrase-file {passphrase}"));
    cluster.kill(MANAGER);
    fs::remove_dir_all(cluster.state_dir(MANAGER)).expect("removed");

    let restored = restore_with(&cluster, "passphrase", &["--new-cluster-id", "--rotate-tokens"]);
    assert!(restored.code == 0 && restored.out.contains("wrapped with the unlock key"), "{restored:?}");
    cluster.resume(MANAGER);
    cluster.until("it to wait for the key", || cluster.swarmctl("node ls").err.contains("locked"));
    fs::write(cluster.path("key"), &key).expect("written");
    let key = path(&cluster.path("key"));
    cluster.until("it to be unlocked", || cluster.swarmctl(&format!("cluster unlock --key-file {key}")).code == 0);
    cluster.await_manager();
    assert_ne!(cluster.inspect()["id"], id, "another cluster");
    assert_eq!(cluster.ok("config ls -q").lines().count(), 1);
    for (role, before) in ["worker", "manager"].into_iter().zip(tokens) {
        assert_ne!(cluster.token(role), before, "another token for the role {role}");
    }
}
