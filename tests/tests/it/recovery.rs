//! Managers that survive the loss of most others, or of their own log.

use std::fs;
use std::process::Command;

use super::cluster::{Cluster, MANAGER, path};
use super::process::{Answer, program, run};
use super::quorum::{await_votes, create_at_any, managers, services_at};

fn reseed(cluster: &Cluster, name: &str) -> Answer {
    let (dir, address) = (path(&cluster.state_dir(name)), cluster.address().to_owned());
    run(Command::new(program("swarmd")).args(["reseed", "-d", &dir, "--join-addr", &address]))
}

#[test]
fn a_survivor_goes_on_alone_and_one_that_it_fenced_joins_again() {
    let mut cluster = managers(&["m2", "m3"]);
    create_at_any(&cluster, &[MANAGER], "one");
    cluster.until("all to have it", || ["m2", "m3"].iter().all(|name| services_at(&cluster, name) == ["one"]));
    [MANAGER, "m2", "m3"].iter().for_each(|name| cluster.kill(name));
    let (empty, socket) = (path(&cluster.path("empty")), path(&cluster.path("empty.sock")));
    let flags = ["--executor", "process", "-d", &empty, "--listen-control-api", &socket, "--force-new-cluster"];
    let refused = run(Command::new(program("swarmd")).args(flags));
    assert!(refused.code == 2 && refused.err.contains("there is no cluster to continue"), "{refused:?}");

    cluster.resume_with("m2", &["--force-new-cluster"]);
    cluster.until("what was acknowledged", || services_at(&cluster, "m2") == ["one"]);
    create_at_any(&cluster, &["m2"], "two");
    let history = cluster.swarmctl_at("m2", "events").out;
    assert!(history.contains("m2: continues as the only manager; 3 managers before it are fenced"), "{history}");

    // The former managers learn of it, and come back as new members with empty logs. They are a majority of the members that they
    // know, but accept no commands: whatever is acknowledged stays.
    cluster.resume("m3");
    cluster.resume(MANAGER);
    create_at_any(&cluster, &["m3", MANAGER], "zoo");
    await_votes(&cluster, "m3", 2);
    let all = ["one", "two", "zoo"];
    cluster.until("the history of the survivor", || {
        [MANAGER, "m2", "m3"].iter().all(|name| services_at(&cluster, name) == all)
    });

    // Their old logs are kept and can be read.
    for name in ["m3", MANAGER] {
        let aside = path(&cluster.state_dir(name).join("raft.fenced"));
        assert!(cluster.log(name).contains(&aside), "{}", cluster.log(name));
        let replayed = run(Command::new(program("swarmd")).args(["replay", "--state-dir", &aside]));
        assert!(replayed.code == 0 && replayed.out.contains("1 services"), "{replayed:?}");
    }

    // A cluster with a quorum is not abandoned.
    cluster.kill("m2");
    let (dir, socket) = (path(&cluster.state_dir("m2")), path(&cluster.path("alone.sock")));
    let flags = ["-d", &dir, "--listen-control-api", &socket, "--force-new-cluster"];
    let refused = run(Command::new(program("swarmd")).args(flags));
    assert!(refused.code != 0 && refused.err.contains("the cluster is not lost"), "{refused:?}");
}

#[test]
fn a_manager_whose_log_is_damaged_does_not_vote_and_is_reseeded_from_the_others() {
    let mut cluster = managers(&["m2", "m3"]);
    create_at_any(&cluster, &[MANAGER], "one");
    let running = reseed(&cluster, "m3");
    assert!(running.code != 0 && running.err.contains("another swarmd is running"), "{running:?}");
    cluster.kill("m3");
    fs::remove_file(cluster.state_dir("m3").join("raft/log/CURRENT")).expect("damaged");
    cluster.resume("m3");
    cluster.until("a start to be refused", || cluster.log("m3").contains("its file CURRENT is missing"));
    cluster.kill("m3");
    create_at_any(&cluster, &[MANAGER], "two");

    let reseeded = reseed(&cluster, "m3");
    assert!(reseeded.code == 0 && reseeded.out.contains("the log is set aside"), "{reseeded:?}");
    cluster.resume("m3");
    await_votes(&cluster, "m3", 2);
    cluster.until("the whole history", || services_at(&cluster, "m3") == ["one", "two"]);
    let voters = cluster.ok("raft --format json");
    assert_eq!(voters.matches("\"state\":\"voter\"").count(), 3, "{voters}");
}

#[test]
fn a_manager_whose_disk_was_put_back_votes_no_more_and_is_reseeded_without_its_key() {
    let mut cluster = managers(&["m2", "m3"]);
    let (dir, old) = (cluster.state_dir("m3"), cluster.path("old"));
    create_at_any(&cluster, &[MANAGER], "one");
    cluster.until("m3 to have it", || services_at(&cluster, "m3") == ["one"]);
    cluster.kill("m3");
    let copied = run(Command::new("cp").args(["-a", &path(&dir), &path(&old)]));
    assert_eq!(copied.code, 0, "{copied:?}");
    cluster.resume("m3");
    create_at_any(&cluster, &[MANAGER], "two");
    cluster.until("m3 to have that", || services_at(&cluster, "m3") == ["one", "two"]);
    // Only what the leader knows to be on its disk is missed there later.
    cluster.until("m3 to have confirmed it", || {
        let raft = cluster.list("raft").remove(0);
        let m3 = raft["members"].as_array().and_then(|members| members.iter().find(|member| member["name"] == "m3"));
        m3.is_some_and(|m3| m3["matched"].as_u64() >= raft["committed"].as_u64())
    });
    cluster.kill("m3");
    fs::remove_dir_all(&dir).expect("removed");
    fs::rename(&old, &dir).expect("put back");

    cluster.resume("m3");
    assert_eq!(cluster.await_end("m3"), Some(1), "{}", cluster.log("m3"));
    let log = cluster.log("m3");
    assert!(log.contains("was durable (confirmed to the leader)") && !log.contains("report this as a bug"), "{log}");
    assert!(log.contains("an older copy of its disk was put back") && log.contains("`swarmd reseed`"), "{log}");
    // It also refuses to start if no other manager can confirm the position: its own high-water mark is enough.
    cluster.resume("m3");
    assert_eq!(cluster.await_end("m3"), Some(1), "{}", cluster.log("m3"));
    assert!(cluster.log("m3").contains("was durable (high-water mark)"), "{}", cluster.log("m3"));
    fs::remove_file(dir.join("raft/log.key")).expect("removed");
    cluster.resume("m3");
    assert_eq!(cluster.await_end("m3"), Some(1), "{}", cluster.log("m3"));
    let log = cluster.log("m3");
    let refused = log.rsplit("log.key is missing").next().unwrap_or_default();
    assert!(refused != log && refused.contains("`swarmd reseed`"), "{log}");

    let reseeded = reseed(&cluster, "m3");
    assert!(reseeded.code == 0 && reseeded.out.contains("the log is set aside"), "{reseeded:?}");
    cluster.resume("m3");
    await_votes(&cluster, "m3", 2);
    cluster.until("the whole history", || services_at(&cluster, "m3") == ["one", "two"]);
}
