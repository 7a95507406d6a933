//! Self-healing: killed tasks, killed agents, lost workers.

use std::collections::BTreeSet;

use super::cluster::{Cluster, Task};
use super::units::Executor;

fn ids(tasks: &[Task]) -> BTreeSet<String> {
    tasks.iter().map(|task| task.id.clone()).collect()
}

pub fn a_killed_task_comes_back(executor: Executor) {
    let cluster = Cluster::start(executor, &[]);
    cluster.create("web", "--replicas 2");
    let before = cluster.settled("web", 2);
    cluster.kill_unit(&before[0]);
    cluster.until("the failure to be noticed", || {
        let failed = cluster.tasks("web").into_iter().find(|task| task.id == before[0].id);
        failed.is_some_and(|task| task.state == "failed" && task.error.contains("137"))
    });
    let after = cluster.settled("web", 2);
    assert!(ids(&after).contains(&before[1].id), "the other task was left alone");
    assert!(!ids(&after).contains(&before[0].id));
}

pub fn a_restarted_agent_adopts_its_tasks(executor: Executor) {
    let mut cluster = Cluster::start(executor, &["w1"]);
    cluster.create("web", "--replicas 4");
    let before = cluster.settled("web", 4);
    let units = cluster.units();
    // At once, and after its tasks have run without it: one of them ends meanwhile, which the next agent must notice.
    for victim in [None, before.iter().find(|task| task.node == "w1")] {
        cluster.kill("w1");
        assert_eq!(cluster.units(), units, "tasks go on without their agent");
        let sessions = sessions(&cluster, "w1");
        if let Some(victim) = victim {
            cluster.kill_unit(victim);
        }
        cluster.resume("w1");
        cluster.until("a new session of w1", || self::sessions(&cluster, "w1") > sessions);
        if let Some(victim) = victim {
            cluster.until("the failure to be noticed", || {
                cluster.tasks("web").iter().any(|task| task.id == victim.id && task.state == "failed")
            });
            let after = cluster.settled("web", 4);
            assert_eq!(ids(&before).difference(&ids(&after)).collect::<Vec<_>>(), [&victim.id]);
        } else {
            assert_eq!(ids(&cluster.settled("web", 4)), ids(&before), "all were adopted");
            assert_eq!(cluster.tasks("web").len(), 4, "and none was made again");
        }
    }
}

/// How often a node's agent has opened a session.
fn sessions(cluster: &Cluster, node: &str) -> usize {
    cluster.log(node).matches("session opened").count()
}

pub fn the_tasks_of_a_lost_worker_move(executor: Executor) {
    let mut cluster = Cluster::start(executor, &["w1"]);
    cluster.create("web", "--replicas 4");
    let before = cluster.settled("web", 4);
    let lost: BTreeSet<_> = before.iter().filter(|task| task.node == "w1").map(|task| task.id.clone()).collect();
    assert_eq!(lost.len(), 2);
    cluster.ok("cluster update --heartbeatperiod 1s --heartbeatgrace 2");
    cluster.kill("w1");
    cluster.until("w1 to be down", || {
        cluster.list("node ls").iter().any(|node| node["hostname"] == "w1" && node["state"] == "down")
    });
    let down = cluster.list("events --kind node_declared_down");
    assert_eq!(down.len(), 1, "a shorter period is no reason to give up nodes that have not heard of it: {down:?}");
    cluster.until("four tasks on the manager", || {
        let running = cluster.running("web");
        running.iter().filter(|task| !lost.contains(&task.id)).count() == 4
    });
    assert!(lost.iter().all(|task| cluster.units().contains_key(task)), "nobody is there to end the lost node's own");
    cluster.resume("w1");
    let after = cluster.settled("web", 4);
    assert!(lost.is_disjoint(&ids(&after)), "the lost node's own ended when it came back");
}
