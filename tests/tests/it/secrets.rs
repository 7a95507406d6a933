//! Planted secrets are searched for in everything that is written: disks, logs, history, backups. On the disk of a manager with
//! autolock, nothing that decrypts a secret is in plain text, and core dumps, which would contain all of them, are disabled.

use std::path::Path;
use std::process::Command;

use super::cluster::{Cluster, MANAGER, Task, path};
use super::process::run;
use super::units::Executor;

/// The first line of every private key in PEM.
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// The files below a directory that contain a text.
pub fn found(directory: &Path, text: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let search = |entry: std::path::PathBuf| {
        if entry.is_dir() {
            return found(&entry, text);
        }
        // A socket or a removed file contains nothing.
        let bytes = std::fs::read(&entry).unwrap_or_default();
        let holds = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        holds.then(|| entry.display().to_string()).into_iter().collect()
    };
    entries.flat_map(|entry| search(entry.expect("an entry").path())).collect()
}

/// A line in the middle of a PEM text.
fn line_of(file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("readable");
    text.lines().nth(1).expect("a line of the key").to_owned()
}

fn assert_no_core_dumps(pid: u32) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("readable");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

/// Creates a backup, and returns its file.
fn backup(cluster: &Cluster, passphrase: &str) -> std::path::PathBuf {
    let (file, passphrase_file) = (cluster.path("backup"), cluster.path("passphrase"));
    std::fs::write(&passphrase_file, passphrase).expect("written");
    cluster.ok(&format!("cluster backup {} --passphrase-file {}", path(&file), path(&passphrase_file)));
    std::fs::remove_file(passphrase_file).expect("removed");
    file
}

#[test]
fn planted_secrets_are_found_nowhere_and_older_data_keys_are_destroyed() {
    let debug = ["--log-level", "debug"];
    let mut cluster = Cluster::start_with(Executor::Process, &["w1"], &debug);
    assert_no_core_dumps(cluster.pid(MANAGER));
    assert_no_core_dumps(cluster.pid("w1"));
    let (manager, worker) = (cluster.state_dir(MANAGER), cluster.state_dir("w1"));
    let certificate_key = "certificates/swarm-node.key";
    let manager_key = line_of(&manager.join(certificate_key));
    let log_key = std::fs::read(manager.join("raft/log.key")).expect("readable");
    let tokens = [cluster.token("worker"), cluster.token("manager")];
    // A service that has secrets before autolock is enabled, and one after.
    let variable = cluster.path("variable");
    plant(&cluster, "create key", "a-planted-file");
    plant(&cluster, "update key", "a-planted-revision");
    let create = |name: &str| {
        std::fs::write(&variable, "a-planted-variable").expect("written");
        let secrets = format!("--env-secret PASSWORD={} --registry-auth planted-credentials", path(&variable));
        cluster.create(name, &format!("--replicas 2 --secret key {secrets}"));
        std::fs::remove_file(&variable).expect("removed");
    };
    create("before");
    cluster.ok(&format!("operator create ada --directory {}", path(&cluster.path("ada"))));
    let operator_key = line_of(&cluster.path("ada").join("operator.key"));
    let first = cluster.ok("cluster update --autolock").lines().last().expect("a key").to_owned();
    cluster.until("the first unlock key", || cluster.log(MANAGER).contains("those before it are destroyed"));
    let second = cluster.ok("cluster unlock-key --rotate").lines().last().expect("a key").to_owned();
    cluster.until("the second", || cluster.log(MANAGER).matches("those before it are destroyed").count() == 2);
    create("after");
    cluster.until("all tasks", || cluster.running("before").len() + cluster.running("after").len() == 4);
    cluster.ok("cluster update --rotate-join-token worker");
    let tokens = [&tokens[..], &[cluster.token("worker")]].concat();
    let passphrase = "a planted passphrase";
    let backup = std::fs::read(backup(&cluster, passphrase)).expect("readable");
    let history = cluster.ok("events --format json");
    let planted = [
        "a-planted-variable",
        "a-planted-file",
        "a-planted-revision",
        "planted-credentials",
        passphrase,
        &first,
        &second,
        &operator_key,
        &manager_key,
    ];
    for secret in planted.into_iter().chain(tokens.iter().map(String::as_str)).chain([PRIVATE_KEY]) {
        assert_eq!(found(&manager, secret), [""; 0], "{secret} on the manager's disk");
        assert!(!cluster.log(MANAGER).contains(secret) && !cluster.log("w1").contains(secret), "{secret} in a log");
        assert!(!history.contains(secret), "{secret} in history");
        assert!(!backup.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} in a backup");
        // A worker has to start unattended: its own key is the only one that is stored in plain text.
        let own = if secret == PRIVATE_KEY { vec![path(&worker.join(certificate_key))] } else { Vec::new() };
        assert_eq!(found(&worker, secret), own, "{secret} on the worker's disk");
    }
    // The data keys of the log and of the agent are wrapped, and the log has a new one.
    for file in ["raft/log.key", "worker.key"] {
        let stored = std::fs::read(manager.join(file)).expect("readable");
        assert_eq!(stored[0], 2, "{file} is wrapped");
        assert!(!stored.windows(32).any(|window| window == &log_key[1..33]), "{file}");
    }
    assert_eq!(std::fs::read(worker.join("worker.key")).expect("readable")[0], 1);
    // With the key it starts again, and has everything.
    let tasks = cluster.running("before").len();
    cluster.end(MANAGER);
    cluster.resume(MANAGER);
    let key_file = cluster.path("unlock-key");
    std::fs::write(&key_file, &second).expect("written");
    cluster.until("the manager to be unlocked", || {
        cluster.swarmctl(&format!("cluster unlock --key-file {}", path(&key_file))).code == 0
    });
    cluster.await_manager();
    cluster.until("its tasks", || cluster.running("before").len() == tasks);
    cluster.end(MANAGER);
    let replayed = run(Command::new(super::process::program("swarmd"))
        .args(["replay", "-d", &path(&manager)])
        .args(["--unlock-key-file", &path(&locked_down(&key_file))]));
    assert_eq!(replayed.code, 0, "{replayed:?}");
}

/// Gives a secret its data.
fn plant(cluster: &Cluster, verb: &str, data: &str) {
    let file = cluster.path("planted");
    std::fs::write(&file, data).expect("written");
    cluster.ok(&format!("secret {verb} {}", path(&file)));
    std::fs::remove_file(file).expect("removed");
}

/// The file of the secret `key`, as seen by the process of a task; `None` if it does not exist.
fn file_of(executor: Executor, task: &Task) -> Option<std::path::PathBuf> {
    let pid = task.container["pid"].as_u64()?;
    if executor == Executor::Docker {
        return Some(format!("/proc/{pid}/root/run/secrets/key").into());
    }
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let directory = variables.find_map(|variable| variable.strip_prefix(b"SWARM_SECRET_DIR="))?;
    Some(Path::new(std::str::from_utf8(directory).ok()?).join("key"))
}

pub fn a_secret_is_in_the_memory_of_its_task_and_nowhere_else(executor: Executor) {
    let mut cluster = Cluster::start_with(executor, &["w1"], &["--log-level", "debug"]);
    cluster.ok("node drain m");
    plant(&cluster, "create key", "the-first-marker");
    cluster.create("web", "--secret key");
    let first = cluster.settled("web", 1).remove(0);
    let file = file_of(executor, &first).expect("a file");
    assert_eq!(std::fs::read(&file).expect("it is there"), b"the-first-marker");
    // A restarted agent does not touch it.
    cluster.end("w1");
    cluster.resume("w1");
    cluster.until("the worker", || cluster.list("node ls").iter().all(|node| node["state"] == "ready"));
    assert_eq!(cluster.settled("web", 1)[0].id, first.id);
    assert_eq!(std::fs::read(&file).expect("it is there"), b"the-first-marker");

    // New data is rolled out, and new tasks get it.
    plant(&cluster, "update key", "the-second-marker");
    cluster.until("a new task", || cluster.running("web").iter().any(|task| task.id != first.id));
    let second = cluster.settled("web", 1).remove(0);
    let renewed = file_of(executor, &second).expect("a file");
    assert_eq!(std::fs::read(&renewed).expect("it is there"), b"the-second-marker");
    cluster.until("the first task's file to be gone", || !file.exists());
    if executor == Executor::Docker {
        let inspected =
            run(Command::new("docker").args(["inspect", second.container["container_id"].as_str().expect("an id")]));
        assert!(inspected.out.contains("/run/secrets/key") && !inspected.out.contains("marker"), "{inspected:?}");
    }
    let history = cluster.ok("events --format json");
    for secret in ["the-first-marker", "the-second-marker"] {
        for node in [MANAGER, "w1"] {
            assert_eq!(found(&cluster.state_dir(node), secret), [""; 0], "on the disk of {node}");
            assert!(!cluster.log(node).contains(secret), "in the log of {node}");
        }
        assert!(!history.contains(secret), "in history");
    }
    cluster.ok("service rm web");
    cluster.until("the file to be gone", || !renewed.exists());
    cluster.until("nothing to use the secret", || cluster.swarmctl("secret rm key").code == 0);
}

pub fn templates_of_files_are_expanded_in_memory(executor: Executor) {
    let cluster = Cluster::start(executor, &["w1"]);
    cluster.ok("node drain m");
    let create = |noun: &str, name: &str, data: &str| {
        let file = cluster.path("template");
        std::fs::write(&file, data).expect("written");
        cluster.ok(&format!("{noun} create {name} {} --template-driver golang", path(&file)));
        std::fs::remove_file(file).expect("removed");
    };
    create("secret", "password", "a-{{.Task.Slot}}-marker");
    create("secret", "key", r#"{{env "MODE"}} {{.Node.Hostname}} {{secret "password"}}"#);
    create("config", "plain.conf", "slot {{.Task.Slot}} of {{.Service.Name}}");
    create("config", "full.conf", r#"password={{secret "password"}}"#);
    cluster.create("web", "--secret key --secret password --config plain.conf --env MODE=fast");
    let task = cluster.settled("web", 1).remove(0);
    let read = |file: Option<std::path::PathBuf>| std::fs::read_to_string(file.expect("a file")).expect("readable");
    // A template that it reads is not expanded in turn.
    assert_eq!(read(file_of(executor, &task)), "fast w1 a-{{.Task.Slot}}-marker");
    cluster.ok("service update web --config-add full.conf");
    cluster.until("a new task", || cluster.running("web").iter().any(|known| known.id != task.id));
    let task = cluster.settled("web", 1).remove(0);
    let process = format!("/proc/{}", task.container["pid"].as_u64().expect("a process"));
    let environment = std::fs::read_to_string(format!("{process}/environ")).expect("readable");
    let root = match executor {
        Executor::Docker => format!("{process}/root"),
        Executor::Process => {
            let directory = environment.split('\0').find_map(|variable| variable.strip_prefix("SWARM_CONFIG_DIR="));
            directory.expect("the directory of configs").to_owned()
        }
    };
    let inside = |name: &str| std::path::PathBuf::from(format!("{root}/{name}"));
    assert_eq!(read(Some(inside("plain.conf"))), "slot 1 of web");
    if executor == Executor::Docker {
        assert_eq!(read(Some(inside("run/secrets/password"))), "a-1-marker");
    }
    assert_eq!(read(Some(inside("full.conf"))), "password=a-{{.Task.Slot}}-marker");
    let kind = run(Command::new("stat").args(["-f", "-c", "%T", &path(&inside("full.conf"))]));
    assert_eq!(kind.out.trim(), "tmpfs", "{kind:?}");
    for secret in ["a-1-marker", "a-{{.Task.Slot}}-marker"] {
        assert_eq!(found(&cluster.state_dir("w1"), secret), [""; 0], "{secret} on the disk");
    }
}

/// A key file that others cannot read.
fn locked_down(file: &Path) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    file.to_owned()
}

#[test]
fn a_manager_that_is_demoted_while_its_keys_are_locked_starts_again_without_the_unlock_key() {
    let mut cluster = super::quorum::managers(&["m2", "m3"]);
    cluster.ok("cluster update --autolock");
    let wrapped =
        |name: &str, file: &str| std::fs::read(cluster.state_dir(name).join(file)).is_ok_and(|key| key[0] == 2);
    cluster.until("the keys of m2", || wrapped("m2", "raft/log.key") && wrapped("m2", "worker.key"));
    super::quorum::set_role(&cluster, MANAGER, "m2", events::Role::Worker);
    cluster.until("m2 to be a worker", || cluster.log("m2").contains("this node is a worker from now on"));
    cluster.until("its keys to be its own", || {
        let key =
            std::fs::read_to_string(cluster.state_dir("m2").join("certificates/swarm-node.key")).expect("readable");
        !cluster.state_dir("m2").join("raft").exists() && key.contains(PRIVATE_KEY) && !wrapped("m2", "worker.key")
    });
    cluster.end("m2");
    cluster.resume("m2");
    cluster.until("m2 to be back", || cluster.log("m2").matches("this node is a worker").count() == 2);
}
