//! The effect of each event on the settings.

use events::{ClusterInitialised, ClusterSpecUpdated, Event, Id, JoinTokenRotated, Kind, RootCaGenerated};

use super::*;

fn spec(history: i64) -> ClusterSpec {
    ClusterSpec { task_history_limit: Some(history), ..ClusterSpec::default() }
}

fn initialised() -> Kind {
    let cluster = ClusterId::from_bits(7);
    Kind::ClusterInitialised(ClusterInitialised { cluster, name: "default".to_owned(), spec: spec(5) })
}

fn updated(history: i64) -> Kind {
    Kind::ClusterSpecUpdated(ClusterSpecUpdated { spec: spec(history) })
}

fn rotated(role: Role, secret: u8) -> Kind {
    Kind::JoinTokenRotated(JoinTokenRotated { role: role.into(), secret_sha256: vec![secret] })
}

fn root() -> Kind {
    let (cert_pem, digest) = ("certificate".to_owned(), "abc".to_owned());
    Kind::RootCaGenerated(RootCaGenerated { cert_pem, digest })
}

/// The settings after these events, one frame each, and whether the last of them affects everything.
fn summary(events: &[Kind]) -> (String, bool) {
    let (mut cluster, mut everything) = (Cluster::default(), false);
    for (index, kind) in (1..).zip(events) {
        let at = Stamp { index, time: Timestamp::from_unix_ns(0) + std::time::Duration::from_secs(index) };
        everything = cluster.apply(&Event::by_command(0, kind.clone()), &at).everything;
    }
    let settings = &cluster.settings;
    let second = |at: Timestamp| at.since(Timestamp::from_unix_ns(0)).as_secs();
    let words = format!(
        "{} \"{}\", {} kept since {} ({}, {}), root {:?}, tokens {:?} {:?}",
        settings.id.bits(),
        settings.name,
        settings.spec.history_limit(),
        settings.version,
        second(settings.created_at),
        second(settings.updated_at),
        settings.root_digest,
        settings.token_sha256(Role::Worker),
        settings.token_sha256(Role::Manager),
    );
    (words, everything)
}

#[test]
fn each_event_changes_its_part_of_the_settings() {
    let table: [(&[Kind], &str, bool); 6] = [
        (&[initialised()], "7 \"default\", 5 kept since 1 (1, 1), root \"\", tokens [] []", true),
        (&[initialised(), updated(9)], "7 \"default\", 9 kept since 2 (1, 2), root \"\", tokens [] []", true),
        (&[initialised(), root()], "7 \"default\", 5 kept since 1 (1, 1), root \"abc\", tokens [] []", false),
        (
            &[initialised(), rotated(Role::Worker, 1)],
            "7 \"default\", 5 kept since 1 (1, 1), root \"\", tokens [1] []",
            false,
        ),
        (
            &[initialised(), rotated(Role::Manager, 1)],
            "7 \"default\", 5 kept since 1 (1, 1), root \"\", tokens [] [1]",
            false,
        ),
        // An older token is no longer valid.
        (
            &[initialised(), rotated(Role::Worker, 1), rotated(Role::Worker, 2)],
            "7 \"default\", 5 kept since 1 (1, 1), root \"\", tokens [2] []",
            false,
        ),
    ];
    for (events, expected, everything) in table {
        assert_eq!(summary(events), (expected.to_owned(), everything));
    }
}

#[test]
fn a_cluster_is_initialised_once() {
    let twice = std::panic::catch_unwind(|| summary(&[initialised(), initialised()]));
    assert!(twice.is_err());
}

#[test]
fn a_root_whose_key_is_outside_has_no_secret_but_its_tokens() {
    let started = |key_outside| {
        Kind::RootRotationStarted(events::RootRotationStarted { key_outside, ..events::RootRotationStarted::default() })
    };
    let ended = || Kind::RootRotationCompleted(events::RootRotationCompleted::default());
    // The events, whether the signing key is outside, and the keys that must be in the keyring.
    let table: [(&[Kind], bool, &[&str]); 5] = [
        (&[], false, &["root-ca/key"]),
        (&[started(Some(true))], true, &["root-ca/key"]),
        (&[started(Some(true)), ended()], true, &[]),
        (&[started(Some(true)), ended(), started(None)], false, &["root-ca/key/2"]),
        (&[started(Some(true)), ended(), started(None), ended()], false, &["root-ca/key/2"]),
    ];
    for (events, outside, keys) in table {
        let mut cluster = Cluster::default();
        let all = [initialised(), root()].into_iter().chain(events.iter().cloned());
        for (index, kind) in (1..).zip(all) {
            cluster.apply(&Event::by_command(0, kind), &Stamp { index, time: Timestamp::from_unix_ns(0) });
        }
        assert_eq!(cluster.settings.signing_key_outside(), outside, "{events:?}");
        let mut keyring = crate::Keyring::default();
        let mut needed = Vec::new();
        while let Some(name) = keyring.missing(&cluster) {
            keyring.apply(events::VolatilePayload::keep(name.as_str(), "secret"));
            needed.push(name);
        }
        needed.retain(|name| name.starts_with(ROOT_KEY));
        assert_eq!(needed, keys, "{events:?}");
    }
}
