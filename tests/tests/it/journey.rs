//! The README's journey: the first commands of a new user, in order.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::cluster::{Cluster, MANAGER, Task};
use super::process::{program, run};
use super::units::{Executor, containers};

fn nodes(tasks: &[Task]) -> BTreeSet<&str> {
    tasks.iter().map(|task| task.node.as_str()).collect()
}

fn ids(tasks: &[Task]) -> BTreeSet<&str> {
    tasks.iter().map(|task| task.id.as_str()).collect()
}

pub fn the_readmes_journey(executor: Executor) {
    let mut cluster = Cluster::start(executor, &["w1", "w2"]);
    let table = cluster.ok("node ls");
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("LEADER"), "{table}");

    cluster.create("web", "--replicas 3 --update-parallelism 2 --update-monitor 300ms");
    let three = cluster.settled("web", 3);
    assert_eq!(nodes(&three), BTreeSet::from([MANAGER, "w1", "w2"]), "spread over all nodes");
    if executor == Executor::Docker {
        let names: BTreeSet<String> =
            containers(cluster.inspect()["id"].as_str().expect("an id"), &[], "{{.Names}}").into_iter().collect();
        let expected = three.iter().map(|task| cluster.list(&format!("task inspect {}", task.id))[0]["name"].clone());
        assert_eq!(names, expected.map(|name| name.as_str().expect("a name").to_owned()).collect());
        assert!(names.iter().all(|name| name.starts_with("web.") && name.len() == "web.1.".len() + 25), "{names:?}");
    }

    // Waiting in a script works as on a terminal, with plain lines on stderr.
    let scaled = cluster.swarmctl("service scale web=6 --timeout 2m");
    assert_eq!((scaled.code, scaled.out.lines().count()), (0, 1), "{scaled:?}");
    assert!(scaled.err.ends_with("web: 6 of 6 tasks running\n"), "{scaled:?}");
    let six = cluster.settled("web", 6);
    assert!(ids(&six).is_superset(&ids(&three)), "the first three were left alone");
    for node in nodes(&six) {
        assert_eq!(six.iter().filter(|task| task.node == node).count(), 2, "tasks on {node}");
    }

    cluster.ok("service update web --image swarmlog/demo:v2 --timeout 2m");
    assert_eq!(service(&cluster)["update"]["state"], "completed");
    let updated = cluster.settled("web", 6);
    assert!(ids(&updated).is_disjoint(&ids(&six)), "every task was replaced");

    cluster.ok("node drain w1 --reason maintenance --timeout 2m");
    assert!(!nodes(&cluster.running("web")).contains("w1"), "w1 is empty");
    cluster.settled("web", 6);
    cluster.ok("node activate w1");

    let victim = cluster.running("web").remove(0);
    cluster.kill_unit(&victim);
    cluster.until("the failure to be noticed", || {
        cluster.tasks("web").iter().any(|task| task.id == victim.id && task.state == "failed")
    });
    let healed = cluster.settled("web", 6);
    assert!(!ids(&healed).contains(victim.id.as_str()));

    let history = cluster.list("events");
    assert_history(&history, &victim.id);
    assert_eq!(cluster.end(MANAGER), Some(0));
    let replay = run(Command::new(program("swarmd")).arg("replay").arg("--state-dir").arg(cluster.state_dir(MANAGER)));
    assert_eq!(replay.code, 0, "{replay:?}");
    assert!(replay.out.contains("3 nodes, 1 services"), "{replay:?}");
}

fn service(cluster: &Cluster) -> Value {
    cluster.list("service inspect web").remove(0)
}

/// The log contains all of it, in order, with callers and reasons.
fn assert_history(history: &[Value], victim: &str) {
    let kind = |record: &Value| record["event"]["kind"].as_object().and_then(|kind| kind.keys().next().cloned());
    let kinds: Vec<String> = history.iter().filter_map(kind).collect();
    let mut rest = kinds.iter();
    let chapters = [
        "cluster_initialised",
        "node_joined",
        "service_created",
        "task_assigned",
        "task_reported",
        "service_scaled",
        "service_spec_updated",
        "update_started",
        "update_completed",
        "node_spec_updated",
    ];
    for chapter in chapters {
        assert!(rest.any(|kind| kind == chapter), "{chapter} is missing, or too early: {kinds:?}");
    }
    assert!(history.iter().any(|record| record["command"]["reason"] == "maintenance"), "the drain's reason");
    let reported = |record: &&Value| record["event"]["kind"]["task_reported"]["task"] == victim;
    let last = history.iter().rfind(reported).expect("a report of the killed task");
    assert_eq!(last["event"]["kind"]["task_reported"]["status"]["state"], "failed");
    let indices: Vec<u64> = history.iter().map(|record| record["index"].as_u64().expect("an index")).collect();
    assert!(indices.is_sorted());
}
