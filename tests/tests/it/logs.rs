//! Logs of tasks, through any manager, while nodes come and go.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::cluster::{Cluster, MANAGER};
use super::process::program;
use super::units::{Executor, IMAGE};

/// Prints a line on each stream, and one when it is stopped.
const TALK: &str = "echo hello from $SLOT; echo trouble in $SLOT >&2; trap 'echo bye from $SLOT; exit 0' TERM; \
                    while :; do sleep 0.1; done";

fn talk(cluster: &Cluster, replicas: &str) {
    let mut words = vec!["service", "create", "--name", "web", "--image", IMAGE, "--replicas", replicas];
    words.extend(["--env", "SLOT={{.Task.Slot}}", "--command", "sh", "--args", "-c", "--args", TALK]);
    let created = cluster.swarmctl_words(&words);
    assert_eq!(created.code, 0, "{created:?}");
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

pub fn logs_of_all_nodes_come_through_any_manager(executor: Executor) {
    let mut cluster = Cluster::start(executor, &["w"]);
    if executor == Executor::Process {
        let token = cluster.token("manager");
        let address = cluster.address().to_owned();
        cluster.add("m2", &["--join-addr", &address, "--join-token", &token]);
    }
    talk(&cluster, "4");
    cluster.settled("web", 4);
    let hellos = ["hello from 1", "hello from 2", "hello from 3", "hello from 4"];
    let troubles = ["trouble in 1", "trouble in 2", "trouble in 3", "trouble in 4"];
    let managers: &[&str] = if executor == Executor::Process { &[MANAGER, "m2"] } else { &[MANAGER] };
    for manager in managers {
        cluster.until("all lines", || {
            let result = cluster.swarmctl_at(manager, "service logs --raw web");
            result.code == 0 && sorted(&result.out) == hellos && sorted(&result.err) == troubles
        });
    }
    let named = cluster.ok("service logs web");
    let of_worker = |line: &str| line.starts_with("web.") && line.contains("@w ") && line.contains(" | hello from ");
    assert!(named.lines().any(of_worker), "{named}");

    // A follower continues, also with lines at the very end and with tasks that start later.
    let mut follower = Command::new(program("swarmctl"))
        .args(["--socket", &cluster.socket(MANAGER).display().to_string(), "service", "logs", "--raw", "-f", "web"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("it follows").expect("text");
    for _ in hellos {
        assert!(next().starts_with("hello from "));
    }
    cluster.ok("service scale web=5");
    assert_eq!(next(), "hello from 5");
    cluster.ok("service scale web=4");
    assert!(next().starts_with("bye from "));
    follower.kill().and_then(|()| follower.wait()).expect("ended");

    // An unreachable node is a warning; the lines of the others arrive.
    cluster.kill("w");
    cluster.until("the end of its session", || cluster.list("node ls").iter().any(|node| node["state"] != "ready"));
    let rest = cluster.swarmctl("service logs --raw web");
    assert!(rest.code == 0 && rest.out.contains("hello from "), "{rest:?}");
    assert_eq!(rest.err.matches("warning: node w cannot be asked: ").count(), 1, "{rest:?}");
}
