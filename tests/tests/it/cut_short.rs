//! First starts and joins that are killed at each durable step: the next start completes them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use events::Role;

use super::cluster::{Cluster, MANAGER, path};
use super::process::{TIMEOUT, poll, program, run};
use super::quorum::set_role;
use super::units::Executor;

/// Minimum number of steps; fewer mean that the preloaded library does not see what the daemon does.
const POINTS_MIN: usize = 8;

/// Builds the preloaded library that kills a process at its n-th durable step, or slows each of them down.
pub fn library(dir: &Path) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/kill_at.c");
    let built = dir.join("kill_at.so");
    let mut compiler = Command::new("cc");
    let answer = run(compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&built).arg(source).arg("-ldl"));
    assert_eq!(answer.code, 0, "{answer:?}");
    built
}

/// Starts a daemon with these flags, and its output in a file; it is killed at its n-th durable step, if it gets that far.
fn swarmd(flags: &[String], log: &Path, kill_at: Option<(&Path, usize)>) -> Child {
    let log = File::options().create(true).append(true).open(log).expect("a log");
    let mut command = Command::new(program("swarmd"));
    command.args(flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    if let Some((library, steps)) = kill_at {
        command.env("LD_PRELOAD", library).env("KILL_AT", steps.to_string());
    }
    command.spawn().expect("started")
}

/// Waits until a daemon has died or `ready` holds; returns whether it is ready.
fn survives(child: &mut Child, log: &Path, ready: impl Fn() -> bool) -> bool {
    let known = poll(TIMEOUT, || match child.try_wait().expect("waited") {
        Some(_) => Some(false),
        None => ready().then_some(true),
    });
    known.unwrap_or_else(|| {
        child.kill().expect("killed");
        panic!("neither dead nor ready: {}", std::fs::read_to_string(log).expect("a log"))
    })
}

/// Stops a daemon gracefully.
fn end(mut child: Child, log: &Path) {
    assert_eq!(run(Command::new("kill").arg(child.id().to_string())).code, 0);
    let ended = poll(TIMEOUT, || child.try_wait().expect("waited"));
    if ended.is_none() {
        child.kill().expect("killed");
    }
    let log_text = || std::fs::read_to_string(log).expect("a log");
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", log_text());
}

/// Whether the log of a daemon contains these words.
fn says(log: &Path, words: &str) -> bool {
    std::fs::read_to_string(log).expect("a log").contains(words)
}

#[test]
fn a_first_start_may_be_killed_at_any_point() {
    let cluster = Cluster::idle(Executor::Process);
    let library = library(&cluster.path(""));
    let (dir, log) = (cluster.state_dir(MANAGER), cluster.path("log"));
    let serves = || {
        let answer = cluster.swarmctl("node ls --format json");
        answer.code == 0 && answer.out.contains(r#""state":"ready""#)
    };
    for steps in 1.. {
        let mut child = swarmd(&cluster.flags(MANAGER), &log, Some((&library, steps)));
        let survived = survives(&mut child, &log, serves);
        // Stopping it gracefully may include its next durable step.
        child.kill().and_then(|()| child.wait()).expect("killed");
        let mut child = swarmd(&cluster.flags(MANAGER), &log, None);
        let serves_again = survives(&mut child, &log, serves);
        assert!(serves_again, "killed at step {steps}: {}", std::fs::read_to_string(&log).expect("a log"));
        end(child, &log);
        let replay = run(Command::new(program("swarmd")).args(["replay", "--state-dir", &path(&dir)]));
        assert!(replay.code == 0 && replay.out.contains("1 nodes"), "killed at step {steps}: {replay:?}");
        if survived {
            assert!(steps > POINTS_MIN, "a first start with {steps} durable steps");
            return;
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}

#[test]
fn a_join_may_be_killed_at_any_point() {
    let cluster = Cluster::start(Executor::Process, &[]);
    let (library, token) = (library(&cluster.path("")), cluster.token("worker"));
    for steps in 1.. {
        let name = format!("w{steps}");
        let log = cluster.path(&format!("{name}.log"));
        let join = ["--join-addr", cluster.address(), "--join-token", &token].map(str::to_owned);
        let flags = [cluster.flags(&name), join.to_vec()].concat();
        let joined = || says(&log, "session opened");
        let mut child = swarmd(&flags, &log, Some((&library, steps)));
        let survived = survives(&mut child, &log, joined);
        // Stopping it gracefully may include its next durable step.
        child.kill().and_then(|()| child.wait()).expect("killed");
        let mut child = swarmd(&flags, &log, None);
        let listed = || cluster.list("node ls").into_iter().filter(|node| node["hostname"] == name.as_str());
        let ready = || listed().any(|node| node["state"] == "ready");
        assert!(survives(&mut child, &log, ready), "killed at step {steps}");
        assert_eq!(listed().count(), 1, "killed at step {steps}: one node");
        end(child, &log);
        if survived {
            assert!(steps > POINTS_MIN, "a join with {steps} durable steps");
            return;
        }
    }
}

/// The durable steps of a manager's join at which it is killed: all early ones, and some of the later ones.
const MANAGER_STEPS: [usize; 12] = [1, 2, 3, 4, 5, 6, 7, 9, 12, 16, 22, 30];

#[test]
fn a_managers_join_may_be_killed_at_any_point() {
    let cluster = Cluster::start(Executor::Process, &[]);
    let (library, token) = (library(&cluster.path("")), cluster.token("manager"));
    for steps in MANAGER_STEPS {
        let name = format!("m{steps}");
        let log = cluster.path(&format!("{name}.log"));
        let join = ["--join-addr", cluster.address(), "--join-token", &token].map(str::to_owned);
        let flags = [cluster.flags(&name), join.to_vec()].concat();
        let votes = || says(&log, "this manager has joined and can vote");
        let mut child = swarmd(&flags, &log, Some((&library, steps)));
        survives(&mut child, &log, votes);
        // Stopping it gracefully may include its next durable step.
        child.kill().and_then(|()| child.wait()).expect("killed");
        let mut child = swarmd(&flags, &log, None);
        let listed = || cluster.list("node ls").into_iter().filter(|node| node["hostname"] == name.as_str());
        assert!(survives(&mut child, &log, votes), "killed at step {steps}");
        let nodes: Vec<String> = listed().filter_map(|node| node["id"].as_str().map(str::to_owned)).collect();
        assert_eq!(nodes.len(), 1, "killed at step {steps}: one node");
        // The next one joins a cluster of a single manager again.
        set_role(&cluster, MANAGER, &nodes[0], Role::Worker);
        assert!(survives(&mut child, &log, || says(&log, "this node is a worker from now on")), "after step {steps}");
        end(child, &log);
        cluster.until("it to be gone", || cluster.swarmctl(&format!("node rm --force {}", nodes[0])).code == 0);
    }
}
