//! Trust on real connections and real disks: operators with certificates, root rotation, and keys that are useless on a stolen
//! disk.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::cluster::{Cluster, MANAGER, free_address, path};
use super::process::{Answer, program, run};
use super::units::Executor;

/// Runs `swarmctl` over the network, with an identity.
fn remote(cluster: &Cluster, identity: &Path, line: &str) -> Answer {
    let mut command = Command::new(program("swarmctl"));
    command.args(["--host", &format!("https://{}", cluster.address()), "--identity", &path(identity)]);
    run(command.args(line.split(' ')))
}

#[test]
fn operators_do_over_the_network_what_their_roles_allow_until_they_are_revoked() {
    let cluster = Cluster::start(Executor::Process, &[]);
    let identity = |name: &str, role: &str| {
        let directory = cluster.path(name);
        cluster.ok(&format!("operator create {name} --role {role} --directory {}", path(&directory)));
        directory
    };
    let (vera, olaf, ada) = (identity("vera", "viewer"), identity("olaf", "operator"), identity("ada", "admin"));
    assert_eq!(std::fs::metadata(&vera).expect("a directory").permissions().mode() & 0o777, 0o700);
    // The permissions of each role: read, change services, change the cluster.
    let create = |name: &str| format!("service create --detach --name {name} --image x");
    for (name, directory, expected) in
        [("vera", &vera, [0, 8, 8]), ("olaf", &olaf, [0, 0, 8]), ("ada", &ada, [0, 0, 0])]
    {
        let lines = ["node ls".to_owned(), create(name), "cluster update --taskhistory 7".to_owned()];
        let codes = lines.map(|line| remote(&cluster, directory, &line).code);
        assert_eq!(codes, expected, "{name}");
    }
    remote(&cluster, &vera, "service rm olaf").refused(8, "operator vera, who has the role viewer,");
    remote(&cluster, &olaf, "cluster update --taskhistory 9").refused(8, "operator olaf, who has the role operator,");
    // Tokens are for admins, and reading them is recorded in the history.
    let shown = |directory: &Path| remote(&cluster, directory, "cluster inspect").out.contains("SWMTKN-1-");
    assert!(!shown(&vera) && !shown(&olaf) && shown(&ada));
    let history = cluster.ok("events --kind secrets_read --kind service_created");
    for words in ["certified_operator olaf", "certified_operator ada", "join-token/manager"] {
        assert!(history.contains(words), "{words}: {history}");
    }
    assert!(!history.contains("vera"), "{history}");
    let names: Vec<String> = cluster.list("operator ls").iter().map(|one| one["name"].to_string()).collect();
    assert_eq!(names, ["\"ada\"", "\"olaf\"", "\"vera\""]);
    // A client that follows the history is disconnected at once.
    let mut follower = Command::new(program("swarmctl"));
    follower.args(["--host", &format!("https://{}", cluster.address()), "--identity", &path(&olaf), "events", "-f"]);
    let mut follower =
        follower.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("started");
    cluster.until("olaf's connection", || remote(&cluster, &olaf, "node ls").code == 0);
    // Another certificate for the same operator, and the next manager if one does not answer.
    let before = std::fs::read(olaf.join("operator.crt")).expect("readable");
    assert_eq!(remote(&cluster, &olaf, "operator renew").code, 0);
    assert_ne!(std::fs::read(olaf.join("operator.crt")).expect("readable"), before);
    assert_eq!(cluster.ok("events --kind operator_renewed --format json").lines().count(), 1);
    let hosts = format!("https://{},https://{}", free_address(), cluster.address());
    let mut several = Command::new(program("swarmctl"));
    assert_eq!(run(several.args(["--host", &hosts, "--identity", &path(&olaf), "node", "ls"])).code, 0);
    cluster.swarmctl("operator renew").refused(2, "no identity is given");
    cluster.swarmctl(&format!("--identity {} operator renew", path(&olaf))).refused(8, "operators with a certificate");
    cluster.ok("operator revoke olaf");
    remote(&cluster, &olaf, "node ls").refused(8, "was revoked");
    cluster.until("the end of olaf's stream", || follower.try_wait().expect("waited").is_some());
    let stranger = cluster.path("stranger");
    remote(&cluster, &stranger, "node ls").refused(8, "cannot be used");
}

#[test]
fn what_a_viewer_is_refused_in_a_minute_is_one_event() {
    const TRIES: u64 = 20;
    let cluster = Cluster::start(Executor::Process, &[]);
    let directory = cluster.path("vera");
    cluster.ok(&format!("operator create vera --role viewer --directory {}", path(&directory)));
    cluster.create("web", "");
    for _ in 0..TRIES {
        remote(&cluster, &directory, "service rm web").refused(8, "may not ask for service.remove");
    }
    remote(&cluster, &directory, "cluster unlock-key").refused(8, "operators with the role admin");
    cluster.until("what was refused", || !cluster.list("events --kind access_refused").is_empty());
    let events = cluster.list("events --kind access_refused");
    let refused = &events[0]["event"]["kind"]["access_refused"]["refused"];
    let refusals_in_row = |row: usize| {
        let row = &refused[row];
        (row["actor"]["subject"].as_str(), row["role"].as_str(), row["call"].as_str(), row["count"].as_u64())
    };
    let expected = |call, count| (Some("vera"), Some("viewer"), Some(call), Some(count));
    assert_eq!((events.len(), refused.as_array().map(Vec::len)), (1, Some(2)), "{events:?}");
    assert_eq!(
        (refusals_in_row(0), refusals_in_row(1)),
        (expected("Control/GetUnlockKey", 1), expected("service.remove", TRIES))
    );
    let refused = cluster.ok("events --kind access_refused");
    assert!(refused.contains("service.remove by vera (viewer) 20 times"), "{refused}");
}

#[test]
fn another_root_is_taken_while_everything_runs() {
    let mut cluster = Cluster::start_with(Executor::Process, &["w1"], &[]);
    let (before, token) = (cluster.ok("cluster ca"), cluster.token("worker"));
    cluster.ok("cluster update --heartbeatperiod 1s");
    cluster.create("web", "--replicas 2");
    let tasks = cluster.settled("web", 2);
    let rotated = run(Command::new(program("swarmctl")).arg("--socket").arg(cluster.socket(MANAGER)).args([
        "cluster",
        "ca",
        "--rotate",
        "--timeout",
        "60s",
    ]));
    assert_eq!(rotated.code, 0, "{rotated:?}\n{}\n{}", cluster.log(MANAGER), cluster.log("w1"));
    assert_ne!(cluster.ok("cluster ca"), before);
    assert_ne!(cluster.token("worker"), token);
    assert_eq!(
        cluster.settled("web", 2).iter().map(|task| &task.id).collect::<Vec<_>>(),
        tasks.iter().map(|task| &task.id).collect::<Vec<_>>()
    );
    // Soon afterwards every node trusts only the new root, and reconnects with it after a restart.
    let roots = |name: &str| {
        let file = cluster.state_dir(name).join("certificates/swarm-root-ca.crt");
        std::fs::read_to_string(file).expect("readable")
    };
    let now = cluster.ok("cluster ca");
    cluster.until("only the new root to be trusted", || [MANAGER, "w1"].iter().all(|name| roots(name).trim() == now));
    for name in [MANAGER, "w1"] {
        cluster.end(name);
        cluster.resume(name);
    }
    cluster.await_manager();
    cluster.until("both nodes", || cluster.list("node ls").iter().filter(|node| node["state"] == "ready").count() == 2);
    let address = cluster.address().to_owned();
    cluster.add("w2", &["--join-addr", &address, "--join-token", &token]);
    cluster.until("the refusal of the old token", || cluster.log("w2").contains("join token was made for"));
}

/// Whether a file below a directory contains this text.
fn found(directory: &Path, text: &str) -> bool {
    let entries = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.into_iter().any(|entry| match entry.is_dir() {
        true => found(&entry, text),
        false => {
            // A socket or a removed file contains nothing.
            let bytes = std::fs::read(&entry).unwrap_or_default();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        }
    })
}

#[test]
fn a_locked_manager_starts_with_the_unlock_key_and_its_disk_shows_no_secret() {
    let mut cluster = Cluster::start(Executor::Process, &[]);
    let key_file = cluster.state_dir(MANAGER).join("certificates/swarm-node.key");
    let stored = || std::fs::read_to_string(&key_file).expect("readable");
    let private = stored().lines().nth(1).expect("a line of the key").to_owned();
    let key = cluster.ok("cluster update --autolock").lines().last().expect("a key").to_owned();
    cluster.until("the key to be wrapped", || stored().contains("WRAPPED"));
    let rotated = cluster.ok("cluster unlock-key --rotate");
    assert!(rotated.starts_with("SWMKEY-1-") && rotated != key);
    cluster.ok("service create --detach --name web --image x --registry-auth the-planted-secret");
    let (worker, manager) = (cluster.token("worker"), cluster.token("manager"));
    let log_key = cluster.state_dir(MANAGER).join("raft/log.key");
    let wrapped = std::fs::read(&log_key).expect("readable");
    cluster.until("the new key", || cluster.log(MANAGER).matches("wrapped with the unlock key").count() == 2);
    cluster.end(MANAGER);
    assert!(std::fs::read(&log_key).is_ok_and(|stored| stored[0] == 2), "{wrapped:?}");
    let exported = cluster.log(MANAGER);
    for secret in [&private, &key, &rotated, &worker, &manager, "the-planted-secret"] {
        assert!(!found(&cluster.state_dir(MANAGER), secret), "the disk shows {secret}");
        assert!(!exported.contains(secret), "the log shows {secret}");
    }
    // A locked manager reports that to all clients and answers nothing else.
    cluster.resume(MANAGER);
    cluster.until("the locked manager", || cluster.swarmctl("node ls").err.contains("this manager is locked"));
    cluster.swarmctl("service ls").refused(7, "this manager is locked");
    let unlock = |key: &str| {
        let file = cluster.path("unlock-key");
        std::fs::write(&file, key).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        cluster.swarmctl(&format!("cluster unlock --key-file {}", path(&file)))
    };
    unlock(&key).refused(8, "this is not the unlock key of this manager");
    assert_eq!(unlock(&rotated).code, 0);
    cluster.await_manager();
    unlock(&rotated).refused(4, "is not locked");
    let history = cluster.ok("events --format json");
    for secret in [&private, &key, &rotated, &worker, &manager, "the-planted-secret"] {
        assert!(!history.contains(secret), "the history shows {secret}");
    }
    // With the key in a file, it starts unattended; without autolock no key is needed.
    cluster.end(MANAGER);
    let file = path(&cluster.path("unlock-key"));
    let address = cluster.address().to_owned();
    let socket = path(&cluster.socket(MANAGER));
    let flags = ["--unlock-key-file", &file, "--listen-remote-api", &address, "--listen-control-api", &socket];
    cluster.resume_with(MANAGER, &flags);
    cluster.await_manager();
    cluster.ok("cluster update --autolock=false");
    cluster.until("the key to be unwrapped", || stored().contains("BEGIN PRIVATE KEY"));
    cluster.end(MANAGER);
    cluster.resume_with(MANAGER, &flags[2..]);
    cluster.await_manager();
}
