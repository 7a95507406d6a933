//! A password that was a plain variable: erased from the disks of three real managers, including one that was down meanwhile.

use std::path::Path;
use std::process::Command;

use node::log::{LogStore, RocksStore};

use super::cluster::{Cluster, MANAGER, path};
use super::process::{program, run};
use super::quorum::managers;

const PASSWORD: &str = "correct-horse-battery-staple";
/// A manager's log message once the value is erased everywhere.
const ERASED: &str = "values were erased from history";

/// The parts of a manager's log that contain the password: history, raft entries, a checkpoint or the keyring.
fn places(log: &Path) -> Vec<&'static str> {
    let store = RocksStore::open(log).expect("a log");
    store.load().expect("intact");
    let has = |bytes: &[u8]| bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
    let history = store.history(0, usize::MAX, usize::MAX).expect("history");
    let entries = store.entries(store.first_index(), store.last_index() + 1, u64::MAX).expect("entries");
    let (mut chunks, mut at_most) = (Vec::new(), Some(u64::MAX));
    while let Some(checkpoint) = at_most.and_then(|at_most| store.whole_checkpoint(at_most).expect("readable")) {
        at_most = checkpoint.head.index.checked_sub(1);
        chunks.extend(checkpoint.chunks);
    }
    let keyring = store.keyring().expect("secrets");
    let found = [
        ("history", history.iter().any(|(_, stored)| has(stored))),
        ("raft", entries.iter().any(|entry| has(&entry.payload))),
        ("checkpoint", chunks.iter().any(|chunk| has(chunk))),
        ("keyring", keyring.iter().any(|secret| secret.value.as_deref().is_some_and(has))),
    ];
    found.into_iter().filter(|(_, found)| *found).map(|(place, _)| place).collect()
}

fn log_of(cluster: &Cluster, name: &str) -> std::path::PathBuf {
    cluster.state_dir(name).join("raft")
}

#[test]
fn a_password_goes_from_the_disks_of_all_managers_also_of_one_that_was_down() {
    let mut cluster = managers(&["m2", "m3"]);
    cluster.ok(&format!("service create --detach --name web --image x --replicas 0 --env PASSWORD={PASSWORD}"));
    cluster.ok("service update --detach web --env-add LOG=debug");
    let given = cluster.list("events --kind service_created")[0]["index"].as_u64().expect("an index");
    let kept = path(&cluster.path("kept"));
    cluster.ok(&format!("audit checkpoint -o {kept}"));
    let redact = format!("history redact {given} env.PASSWORD");
    let refused = cluster.swarmctl(&redact);
    assert!(refused.code == 4 && refused.err.contains("service web has the value in env.PASSWORD now"), "{refused:?}");
    assert!(!refused.err.contains(PASSWORD), "{refused:?}");
    cluster.ok("service update --detach web --env-rm PASSWORD");
    cluster.ok("service update --detach web --force");
    cluster.kill("m3");
    assert_eq!(places(&log_of(&cluster, "m3"))[..1], ["history"]);
    std::fs::create_dir(cluster.state_dir("m2").join("raft.damaged")).expect("made");
    let printed = cluster.ok(&format!("{redact} --reason leaked"));
    assert_eq!(printed, "env.PASSWORD of web in 2 frames of history");
    for name in [MANAGER, "m2"] {
        cluster.until("it to be erased", || cluster.log(name).contains(ERASED));
    }
    cluster.until("the log that was set aside to be named", || {
        cluster
            .log("m2")
            .lines()
            .any(|line| line.contains("may still have what was erased") && line.contains("raft.damaged"))
    });
    cluster.resume("m3");
    cluster.until("it to be erased there too", || cluster.log("m3").contains(ERASED));

    let event = &cluster.list("events --kind history_redacted")[0];
    let at = event["index"].as_u64().expect("an index");
    let before = at - 1;
    // The past can be read, and proofs verify against the kept checkpoint, without the value.
    assert!(cluster.ok(&format!("service inspect web --at {before}")).contains("web"));
    let live = cluster.ok(&format!("audit verify --live --checkpoint {kept}"));
    assert!(live.contains("2 frames lost a value, as later frames announce"), "{live}");
    let shown = cluster.ok("blame service web --all");
    assert!(shown.contains("PASSWORD=redacted:hmac-sha256:") && !shown.contains(PASSWORD), "{shown}");
    // A joining manager gets the redacted history.
    let (address, token) = (cluster.address().to_owned(), cluster.token("manager"));
    cluster.add("m4", &["--join-addr", &address, "--join-token", &token]);
    cluster.until("it to have history", || {
        cluster.swarmctl_at("m4", "events --kind history_redacted").out.contains("env.PASSWORD erased")
    });

    let names = ["m4", "m3", "m2", MANAGER];
    names.into_iter().for_each(|name| assert_eq!(cluster.end(name), Some(0), "{name}"));
    let verify = |file: &str| run(Command::new(program("swarmlog-verify")).args([file, "--checkpoint", &kept]));
    for name in names {
        assert_eq!(places(&log_of(&cluster, name)), <[&str; 0]>::default(), "{name}");
        let state_dir = path(&cluster.state_dir(name));
        let file = path(&cluster.path(&format!("{name}.history")));
        assert_eq!(run(Command::new(program("swarmd")).args(["export", "-d", &state_dir, &file])).code, 0, "{name}");
        let verified = verify(&file);
        assert!(verified.code == 0 && verified.out.contains("2 frames lost a value"), "{name}: {verified:?}");
        assert_eq!(run(Command::new(program("swarmd")).args(["replay", "-d", &state_dir])).code, 0, "{name}");
        let exported = std::fs::read(&file).expect("an export");
        assert!(!exported.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes()), "{name}");
    }
}
