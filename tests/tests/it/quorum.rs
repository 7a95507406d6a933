//! Several managers as real processes: they join, lose their leader, and lose their disks.

use serde_json::Value;

use super::cluster::{Cluster, MANAGER};
use super::process::Answer;
use super::units::Executor;

/// What the log of a manager says once it votes.
const VOTES: &str = "this manager has joined, and votes";

/// A cluster of these managers besides the first one, all of which vote.
fn managers(others: &[&str]) -> Cluster {
    let mut cluster = Cluster::start(Executor::Process, &[]);
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

/// Waits until a manager has joined so many times.
fn await_votes(cluster: &Cluster, name: &str, times: usize) {
    cluster.until(&format!("the vote of {name}"), || cluster.log(name).matches(VOTES).count() == times);
}

/// Asks one manager after the other for a service, until one of them takes it.
fn create_at_any(cluster: &Cluster, managers: &[&str], service: &str) {
    let line = format!("service create --detach --name {service} --image x --replicas 0");
    cluster.until(&format!("a manager that creates {service}"), || {
        managers.iter().any(|name| {
            let answer = cluster.swarmctl_at(name, &line);
            // An attempt whose answer was lost may have been one that succeeded.
            answer.code == 0 || answer.err.contains("already exists")
        })
    });
}

/// The names of the services that a manager knows.
fn services_at(cluster: &Cluster, name: &str) -> Vec<String> {
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
fn a_manager_that_lost_its_disk_joins_as_another_node() {
    let mut cluster = managers(&["m2", "m3"]);
    create_at_any(&cluster, &[MANAGER], "one");
    cluster.kill("m3");
    std::fs::remove_dir_all(cluster.state_dir("m3")).expect("removed");
    cluster.resume("m3");
    await_votes(&cluster, "m3", 2);
    cluster.until("the history", || services_at(&cluster, "m3") == ["one"]);
    create_at_any(&cluster, &[MANAGER], "two");
}
