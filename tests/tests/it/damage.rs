//! A state directory that is no longer as its daemon left it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster::{Cluster, MANAGER};
use super::process::{Answer, program, run};
use super::units::Executor;

/// The state directory of a manager with some history, whose daemon was killed.
fn left_behind() -> Cluster {
    let mut cluster = Cluster::start(Executor::Process, &[]);
    for number in 0..20 {
        cluster.ok(&format!("service create --name s{number} --image x --replicas 0"));
    }
    cluster.kill(MANAGER);
    cluster
}

fn start(cluster: &Cluster) -> Answer {
    run(Command::new(program("swarmd")).args(cluster.flags(MANAGER)))
}

fn replay(cluster: &Cluster) -> Answer {
    run(Command::new(program("swarmd")).arg("replay").arg("--state-dir").arg(cluster.state_dir(MANAGER)))
}

/// The log's own files with this name suffix, the largest first.
fn log_files(cluster: &Cluster, ending: &str) -> Vec<PathBuf> {
    let dir = cluster.state_dir(MANAGER).join("raft/log");
    let entries = std::fs::read_dir(dir).expect("a log").map(|entry| entry.expect("a file").path());
    let mut files: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    files.sort_by_key(|path| std::cmp::Reverse(std::fs::metadata(path).expect("a file").len()));
    files
}

/// Inverts some bytes in the middle of a file.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).expect("read");
    let middle = bytes.len() / 2;
    assert!(middle > 16, "{} is too short", file.display());
    bytes[middle..middle + 8].iter_mut().for_each(|byte| *byte ^= 0xff);
    std::fs::write(file, bytes).expect("written");
}

#[test]
fn a_damaged_log_is_not_started_on() {
    let cluster = left_behind();
    let file = &log_files(&cluster, ".log")[0];
    damage(file);
    let damaged = std::fs::read(file).expect("read");
    start(&cluster).refused(1, "was durable");
    assert_eq!(std::fs::read(file).expect("read"), damaged, "a start that is refused throws nothing away");
    let result = replay(&cluster);
    result.refused(1, "was durable");
    assert!(result.out.contains("last index"), "how far it reads: {result:?}");
}

#[test]
fn a_log_that_lost_its_end_is_not_started_on() {
    let cluster = left_behind();
    let file = &log_files(&cluster, ".log")[0];
    let bytes = std::fs::read(file).expect("read");
    std::fs::write(file, &bytes[..bytes.len() / 2]).expect("written");
    start(&cluster).refused(1, "was durable");
}

#[test]
fn a_damaged_table_is_not_started_on() {
    let mut cluster = left_behind();
    // The next start moves the writes of the first one into a table.
    cluster.resume(MANAGER);
    cluster.await_manager();
    assert_eq!(cluster.end(MANAGER), Some(0));
    for table in log_files(&cluster, ".sst") {
        damage(&table);
    }
    start(&cluster).refused(1, "log");
    replay(&cluster).refused(1, "log");
}

#[test]
fn a_log_without_its_key_is_not_started_on() {
    let cluster = left_behind();
    let key = cluster.state_dir(MANAGER).join("raft/log.key");
    let content = std::fs::read(&key).expect("a key");
    std::fs::write(&key, &content[..7]).expect("written");
    start(&cluster).refused(1, "log.key is damaged");
    std::fs::remove_file(&key).expect("removed");
    start(&cluster).refused(1, "log.key is missing");
    replay(&cluster).refused(1, "log.key is missing");
    assert!(!key.exists(), "no new key in its place");
    std::fs::write(&key, &content).expect("written");
    assert_eq!(replay(&cluster).code, 0, "with its key it is whole");
}

#[test]
fn a_managers_lost_certificate_is_made_anew() {
    let mut cluster = left_behind();
    std::fs::remove_dir_all(cluster.state_dir(MANAGER).join("certificates")).expect("removed");
    cluster.resume(MANAGER);
    cluster.await_manager();
    cluster.until("its agent", || cluster.list("node ls")[0]["state"] == "ready");
}
