//! A client that follows history over many runs gets each event once: with real processes that are stopped and killed, and a
//! manager that stops.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::cluster::{Cluster, MANAGER, path};
use super::process::{TIMEOUT, poll, program, run};
use super::units::Executor;

/// A cluster, and a file for creating configs.
fn cluster() -> (Cluster, PathBuf) {
    let cluster = Cluster::start(Executor::Process, &[]);
    let data = cluster.path("data");
    std::fs::write(&data, "data").expect("written");
    (cluster, data)
}

/// Starts to follow the creation of configs; the output is appended to a file.
fn follow(cluster: &Cluster, flags: &[&str], printed: &Path) -> Child {
    let out = File::options().create(true).append(true).open(printed).expect("a file");
    let mut command = Command::new(program("swarmctl"));
    command.arg("--socket").arg(cluster.socket(MANAGER));
    command.args(["events", "--follow", "--format", "json", "--kind", "config_created"]).args(flags);
    command.stdout(out).stderr(Stdio::null()).spawn().expect("started")
}

/// The names of the configs in the output, as far as lines are complete.
fn names(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let name = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        event["event"]["kind"]["config_created"]["spec"]["annotations"]["name"].as_str().expect("a name").to_owned()
    };
    whole.lines().map(name).collect()
}

fn code(child: &mut Child) -> Option<i32> {
    let ended = poll(TIMEOUT, || child.try_wait().expect("waited"));
    if ended.is_none() {
        child.kill().expect("killed");
        child.wait().expect("waited");
    }
    ended.and_then(|status| status.code())
}

#[test]
fn each_event_is_printed_once_over_restarts_of_reader_and_manager() {
    let (mut cluster, data) = cluster();
    let (printed, position) = (cluster.path("printed"), path(&cluster.path("position")));
    let mut created = Vec::new();
    for round in 0..6 {
        let mut child = follow(&cluster, &["--resume", &position], &printed);
        for number in 0..5 {
            created.push(format!("c{round}-{number}"));
            cluster.ok(&format!("config create c{round}-{number} {}", data.display()));
        }
        cluster.until("the events", || names(&printed).len() >= created.len());
        if round % 2 == 0 {
            assert_eq!(run(Command::new("kill").arg(child.id().to_string())).code, 0);
            assert_eq!(code(&mut child), Some(130), "asked to end");
        } else {
            assert_eq!(cluster.end(MANAGER), Some(0));
            assert_eq!(code(&mut child), Some(7), "the manager stopped");
            cluster.resume(MANAGER);
            cluster.await_manager();
        }
    }
    assert_eq!(names(&printed), created);
}

#[test]
fn an_output_has_each_event_once_also_if_its_writer_is_killed() {
    let (cluster, data) = cluster();
    let (output, position) = (cluster.path("output"), path(&cluster.path("position")));
    let shown = path(&output);
    let flags = ["--resume", &position, "--output", &shown];
    let mut created = Vec::new();
    for round in 0..8 {
        let mut child = follow(&cluster, &flags, &cluster.path("nothing"));
        for number in 0..6 {
            created.push(format!("c{round}-{number}"));
            cluster.ok(&format!("config create c{round}-{number} {}", data.display()));
        }
        // At a random step: reading, writing or storing the position.
        child.kill().expect("killed");
        child.wait().expect("waited");
    }
    cluster.ok(&format!("events --format json --kind config_created {}", flags.join(" ")));
    assert_eq!(names(&output), created);
}

#[test]
fn a_position_in_a_history_that_was_put_back_is_refused() {
    let (mut cluster, data) = cluster();
    let (dir, kept) = (cluster.state_dir(MANAGER), cluster.path("kept"));
    assert_eq!(cluster.end(MANAGER), Some(0));
    assert_eq!(run(Command::new("cp").arg("-a").arg(&dir).arg(&kept)).code, 0);
    cluster.resume(MANAGER);
    cluster.await_manager();
    let position = path(&cluster.path("position"));
    let print = format!("events --resume {position}");
    let create = |cluster: &Cluster, name: &str| cluster.ok(&format!("config create {name} {}", data.display()));
    for name in ["a", "b", "c"] {
        create(&cluster, name);
    }
    assert_eq!(cluster.swarmctl(&print).code, 0);
    let before = std::fs::read(&position).expect("kept");
    assert_eq!(cluster.end(MANAGER), Some(0));
    std::fs::remove_dir_all(&dir).expect("removed");
    std::fs::rename(&kept, &dir).expect("put back");
    cluster.resume(MANAGER);
    cluster.await_manager();
    cluster.swarmctl(&print).refused(4, "history was restored from an older state");
    // As long as the other one now.
    for number in 0..20 {
        create(&cluster, &format!("other-{number}"));
    }
    cluster.swarmctl(&print).refused(4, "is not the one that was read");
    assert_eq!(std::fs::read(&position).expect("kept"), before);
}
