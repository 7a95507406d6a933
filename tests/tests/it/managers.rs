//! The manager is killed and restarted.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use super::cluster::{Cluster, MANAGER, path};
use super::process::{poll, program, run};
use super::units::{Executor, IMAGE};

/// Number of acknowledged services before the manager is killed: at the start of a burst, within it, and so late that tasks of
/// earlier bursts are being created as well.
const MOMENTS: [usize; 3] = [1, 2, 4];
/// Number of services in each burst, created by several clients at once.
const BURST: usize = 6;
const CLIENTS: usize = 3;

pub fn a_manager_killed_in_a_burst_forgets_nothing_it_acknowledged(executor: Executor) {
    let mut cluster = Cluster::start(executor, &["w1"]);
    let mut acknowledged: Vec<String> = Vec::new();
    for (burst, moment) in MOMENTS.into_iter().enumerate() {
        let created = Mutex::new(Vec::new());
        let socket = path(&cluster.socket(MANAGER));
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (created, socket) = (&created, &socket);
                scope.spawn(move || {
                    for number in (client..BURST).step_by(CLIENTS) {
                        let name = format!("s{burst}-{number}");
                        if create(socket, &name) {
                            created.lock().expect("no client broke off").push(name);
                        }
                    }
                });
            }
            cluster.until("acknowledgements", || created.lock().expect("no client broke off").len() >= moment);
            cluster.kill(MANAGER);
        });
        acknowledged.append(&mut created.into_inner().expect("no client broke off"));
        cluster.resume(MANAGER);
        cluster.await_manager();
        let known: Vec<String> = cluster.list("service ls").iter().map(name_of).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|name| !known.contains(name)).collect();
        assert!(lost.is_empty(), "acknowledged and forgotten: {lost:?} of {known:?}");
    }
    cluster.until("every task to run exactly once", || {
        let services = cluster.list("service ls").len();
        let tasks = cluster.list("task ls -a").into_iter().filter(|task| task["status"]["state"] == "running");
        let reported: BTreeMap<_, _> = tasks.map(|task| (task["id"].as_str().expect("an id").to_owned(), 1)).collect();
        reported.len() == services && reported == cluster.units()
    });
    let failed = cluster.list("task ls -a").into_iter().filter(|task| task["status"]["state"] != "running");
    assert_eq!(failed.count(), 0, "no task was lost on the way");
}

/// Whether a service was created and acknowledged. The only other accepted result is that no manager answers.
fn create(socket: &str, name: &str) -> bool {
    let mut command = Command::new(program("swarmctl"));
    command.args([
        "--socket",
        socket,
        "service",
        "create",
        "--detach",
        "--no-resolve-image",
        "--name",
        name,
        "--image",
        IMAGE,
    ]);
    let answer = run(command.args(["--command", "sleep", "--args", "3600", "--stop-signal", "KILL"]));
    if answer.code != 0 {
        answer.refused(7, "manager");
    }
    answer.code == 0
}

fn name_of(service: &serde_json::Value) -> String {
    service["name"].as_str().expect("a name").to_owned()
}

pub fn without_a_manager_tasks_go_on_but_are_not_restarted(executor: Executor) {
    let mut cluster = Cluster::start(executor, &["w1"]);
    cluster.create("web", "--replicas 3 --constraint node.hostname==w1");
    let before = cluster.settled("web", 3);
    cluster.kill(MANAGER);
    assert_eq!(cluster.units().len(), 3, "tasks go on without a manager");
    let victim = &before[0];
    cluster.kill_unit(victim);
    cluster.until("the task to end", || !cluster.units().contains_key(&victim.id));
    // The policy's delay is a fifth of a second: an unwanted restart would occur within this time.
    let restarted = poll(Duration::from_secs(1), || (cluster.units().len() != 2).then(|| cluster.units()));
    assert_eq!(restarted, None, "nothing restarts without a manager");
    cluster.resume(MANAGER);
    cluster.await_manager();
    let after = cluster.settled("web", 3);
    assert!(after.iter().all(|task| task.id != victim.id));
    let kept = after.iter().filter(|task| before.iter().any(|old| old.id == task.id)).count();
    assert_eq!(kept, 2, "the others were left alone");
}
