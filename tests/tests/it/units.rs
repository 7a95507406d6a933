//! What actually runs: the containers and processes of one cluster, without asking the cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::process::{Answer, run};

/// The executor of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executor {
    /// Containers of a Docker Engine.
    Docker,
    /// Plain processes.
    Process,
}

/// The image of the tests; for the process executor it is only a name.
pub const IMAGE: &str = "swarmlog/demo:v1";

fn docker(args: &[&str]) -> Answer {
    run(Command::new("docker").args(args))
}

impl Executor {
    /// The flags of `swarmd` for it.
    pub fn flags(self) -> Vec<String> {
        match self {
            Self::Docker => match std::env::var("DOCKER_HOST") {
                Ok(host) => vec!["--engine-addr".to_owned(), host],
                Err(_) => Vec::new(),
            },
            Self::Process => vec!["--executor".to_owned(), "process".to_owned()],
        }
    }

    /// What currently runs in a cluster: the ids of its tasks, each with its count.
    pub fn running(self, cluster: &str, state_dirs: &[PathBuf]) -> BTreeMap<String, usize> {
        let tasks: Vec<String> = match self {
            Self::Docker => containers(cluster, &[], "{{.Label \"com.docker.swarm.task.id\"}}"),
            Self::Process => state_dirs.iter().flat_map(|dir| processes(dir)).map(|(task, _)| task).collect(),
        };
        let mut counts = BTreeMap::new();
        for task in tasks {
            *counts.entry(task).or_default() += 1;
        }
        counts
    }

    /// Kills the process or container of a task with SIGKILL, from outside.
    pub fn kill(self, status: &Value) {
        let killed = match self {
            Self::Docker => docker(&["kill", status["container_id"].as_str().expect("an id")]),
            Self::Process => run(Command::new("kill").args(["-9", &status["pid"].to_string()])),
        };
        assert_eq!(killed.code, 0, "{killed:?}");
    }

    /// Removes everything that a cluster runs, in any state.
    pub fn remove_all(self, cluster: &str, state_dirs: &[PathBuf]) {
        match self {
            Self::Docker => {
                for id in containers(cluster, &["--all"], "{{.ID}}") {
                    docker(&["rm", "--force", "--volumes", &id]);
                }
            }
            Self::Process => {
                for (_, pid) in state_dirs.iter().flat_map(|dir| processes(dir)) {
                    run(Command::new("kill").args(["-9", "--", &format!("-{pid}")]));
                }
            }
        }
    }
}

/// The running containers of a cluster, or all, each in a given format. None if the engine does not answer, which may happen in
/// the clean-up after a failed test.
pub fn containers(cluster: &str, flags: &[&str], form: &str) -> Vec<String> {
    let label = format!("label=swarmlog.cluster={cluster}");
    let listed = docker(&[&["ps", "--no-trunc", "--filter", &label, "--format", form], flags].concat());
    listed.out.lines().map(str::to_owned).collect()
}

/// The running commands of the process executor below a state directory: task and process id.
pub fn processes(state_dir: &Path) -> Vec<(String, u64)> {
    // A node that never ran a task does not have this directory.
    let Ok(entries) = std::fs::read_dir(state_dir.join("processes")) else { return Vec::new() };
    let mut running = Vec::new();
    for entry in entries {
        let dir = entry.expect("a task's directory").path();
        let Ok(started) = std::fs::read(dir.join("started.json")) else { continue };
        let started: Value = serde_json::from_slice(&started).expect("whole files");
        let pid = started["command"]["pid"].as_u64().expect("a pid");
        if start_ticks(pid) == started["command"]["start_ticks"].as_u64() {
            running.push((dir.file_name().expect("a name").to_string_lossy().into_owned(), pid));
        }
    }
    running
}

/// The start time of a process, in the kernel's ticks; `None` if it has ended.
fn start_ticks(pid: u64) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The fields after the name, which may contain spaces: state is the first, the start the twentieth.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    if fields[0] == "Z" { None } else { fields.get(19)?.parse().ok() }
}
