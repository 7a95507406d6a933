//! A manager whose disk is slow.

use super::cluster::{Cluster, MANAGER, path};
use super::cut_short::library;
use super::units::Executor;

/// Additional time for each sync of the disk, in milliseconds: longer than a heartbeat period.
const SYNC_MS: &str = "1200";

#[test]
fn a_killed_worker_is_down_although_every_write_takes_longer_than_a_heartbeat() {
    let mut cluster = Cluster::start(Executor::Process, &["w1", "w2"]);
    cluster.ok("cluster update --heartbeatperiod 1s --heartbeatgrace 4");
    let library = path(&library(&cluster.path("")));
    assert_eq!(cluster.end(MANAGER), Some(0));
    cluster.resume_in(MANAGER, &[("LD_PRELOAD", &library), ("SYNC_MS", SYNC_MS)]);
    cluster.await_manager();
    let in_state = |cluster: &Cluster, state: &str| {
        let nodes = cluster.list("node ls").into_iter().filter(|node| node["state"] == state);
        nodes.map(|node| node["hostname"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    cluster.until("all nodes to be ready", || in_state(&cluster, "ready").len() == 3);
    cluster.kill("w1");
    let mut round = 0;
    cluster.until("the killed worker to be down", || {
        // The disk is never idle.
        round += 1;
        cluster.ok(&format!("node update --label round={round} {MANAGER}"));
        in_state(&cluster, "down") == ["w1"]
    });
    let down = cluster.list("events --kind node_declared_down");
    assert_eq!(down.len(), 1, "the other nodes were heard all the time: {down:?}");
}
