//! Checkpoints that three real managers sign, proofs that the verifier checks offline, and a manager whose disk was tampered
//! with.

use std::process::Command;

use super::cluster::{Cluster, MANAGER, path};
use super::process::{Answer, program, run};
use super::quorum::managers;

/// The number of signatures on a checkpoint.
fn signatures(note: &str) -> usize {
    note.lines().filter(|line| line.starts_with('\u{2014}')).count()
}

fn verify(file: &str, flags: &[&str]) -> Answer {
    run(Command::new(program("swarmlog-verify")).arg(file).args(flags))
}

/// Waits until the log has the keys of this many managers.
fn await_keys(cluster: &Cluster, count: usize) {
    cluster.until("the keys of all managers", || {
        let keys = cluster.list("audit keys");
        keys.len() == count && keys.iter().all(|key| key["recorded"] == true)
    });
}

/// The key of a manager.
fn key_of(cluster: &Cluster, name: &str) -> String {
    let keys = cluster.list("audit keys");
    let key = keys.iter().find(|key| key["hostname"] == name).and_then(|key| key["key"].as_str());
    key.expect("a key").to_owned()
}

#[test]
fn what_three_managers_sign_is_verified_away_from_them() {
    let mut cluster = managers(&["m2", "m3"]);
    await_keys(&cluster, 3);
    let (kept, proof) = (path(&cluster.path("kept")), path(&cluster.path("proof")));
    cluster.ok(&format!("audit checkpoint -o {kept}"));
    assert_eq!(signatures(&std::fs::read_to_string(&kept).expect("written")), 3);
    cluster.ok("service create --detach --name web --image x --replicas 0 --reason why");
    let created = cluster.list("events --kind service_created")[0]["index"].as_u64().expect("an index");
    for (name, number) in [(MANAGER, 0), ("m2", 1), ("m3", 2)] {
        let proof = format!("{proof}{number}");
        let made = cluster.swarmctl_at(name, &format!("audit prove {created} -o {proof}"));
        assert_eq!(made.code, 0, "{made:?}");
        let keys = cluster.ok("audit keys -q");
        for key in keys.lines() {
            let verified = verify(&proof, &["--key", key]);
            assert!(verified.code == 0 && verified.out.contains("service_created"), "{verified:?}");
        }
    }
    let text = std::fs::read_to_string(format!("{proof}0")).expect("written");
    let forged = path(&cluster.path("forged"));
    std::fs::write(&forged, text.replacen("index ", "index 1", 1)).expect("written");
    let refused = verify(&forged, &[]);
    assert!(refused.code == 1 && refused.out.contains("not verified"), "{refused:?}");

    let live = cluster.swarmctl_at("m2", &format!("audit verify --live --checkpoint {kept}"));
    assert!(live.code == 0 && live.out.matches("signed by").count() == 3, "{live:?}");
    // A manager that is down is named, and its signature is missing.
    cluster.kill("m3");
    let two = cluster.swarmctl("audit checkpoint");
    assert!(two.code == 0 && signatures(&two.out) == 2 && two.err.contains("not signed by m3"), "{two:?}");
    // The key is kept with the log.
    let before = cluster.ok("audit keys -q");
    cluster.resume("m3");
    cluster.until("three signatures", || signatures(&cluster.ok("audit checkpoint")) == 3);
    assert_eq!(cluster.ok("audit keys -q"), before);
    // The key outlives its manager, so that its signatures can still be verified.
    let gone = key_of(&cluster, "m3");
    cluster.ok("node demote m3");
    cluster.until("m3's key among the former ones", || {
        cluster.list("audit keys").iter().any(|key| key["key"] == *gone && key["former_until"].is_u64())
    });
    assert!(cluster.ok("audit keys").contains("until index"));
    let verified = verify(&format!("{proof}0"), &["--key", &gone]);
    assert!(verified.code == 0 && verified.out.contains("signed by"), "{verified:?}");
    // It no longer signs checkpoints: no signature is missed, and the cluster does not list its key for new ones.
    let live = cluster.swarmctl(&format!("audit verify --live --checkpoint {kept}"));
    assert!(live.code == 0 && live.out.matches("signed by").count() == 2, "{live:?}");
}
