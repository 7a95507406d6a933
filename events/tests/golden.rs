//! The encoding of every event never changes: the bytes in `events/golden` exist in users' logs.
//!
//! Each file holds the bytes and the JSON of one event. `SWARMLOG_BLESS=1` writes the missing files and changes none. When a
//! field is added to a message: set it in the sample, raise the event's version in [`VERSIONS`], and bless; the older file is
//! kept, and must still decode to the same event.

#![allow(clippy::disallowed_methods, reason = "golden files are files, and blessing is asked for by the environment")]

mod support;

use std::fs;
use std::path::PathBuf;

use events::{Event, Kind, Reconciler, catalogue, frame};
use prost::Message;

/// Versions above the first, by event: how often its message was extended.
const VERSIONS: [(&str, u32); 21] = [
    ("cluster_initialised", 6),
    ("cluster_spec_updated", 6),
    ("config_created", 2),
    ("config_spec_updated", 2),
    ("manager_announced", 2),
    ("member_added", 2),
    ("node_declared_down", 2),
    ("node_joined", 2),
    ("node_spec_updated", 2),
    ("root_rotation_started", 2),
    ("secret_created", 2),
    ("secret_spec_updated", 2),
    ("service_created", 15),
    ("service_scaled", 2),
    ("service_spec_updated", 15),
    ("sink_created", 2),
    ("state_hash_recorded", 2),
    ("task_accessed", 2),
    ("update_completed", 2),
    ("update_paused", 2),
    ("update_started", 2),
];

/// The type number of an event, repeated here so that it cannot change by mistake. A new event has to be added here and to the
/// samples.
fn number(kind: &Kind) -> u32 {
    match kind {
        Kind::LeadershipAssumed(_) => 10,
        Kind::StateHashRecorded(_) => 11,
        Kind::ClusterInitialised(_) => 100,
        Kind::ClusterSpecUpdated(_) => 101,
        Kind::JoinTokenRotated(_) => 102,
        Kind::FeatureLevelRaised(_) => 103,
        Kind::RootCaGenerated(_) => 110,
        Kind::RootRotationStarted(_) => 111,
        Kind::RootRotationCompleted(_) => 112,
        Kind::CertificateIssued(_) => 116,
        Kind::NodeMovedToRoot(_) => 117,
        Kind::OperatorCreated(_) => 120,
        Kind::OperatorRevoked(_) => 121,
        Kind::SecretsRead(_) => 122,
        Kind::UnlockKeyChanged(_) => 123,
        Kind::HistoryTagged(_) => 106,
        Kind::HistoryUntagged(_) => 107,
        Kind::HistoryRedacted(_) => 108,
        Kind::OperatorRenewed(_) => 124,
        Kind::AccessRefused(_) => 125,
        Kind::MemberAdded(_) => 130,
        Kind::MemberPromoted(_) => 131,
        Kind::MemberDemoted(_) => 132,
        Kind::MemberRemoved(_) => 133,
        Kind::ManagerAnnounced(_) => 135,
        Kind::QuorumForced(_) => 137,
        Kind::NodeJoined(_) => 200,
        Kind::NodeRegistered(_) => 203,
        Kind::NodeDescribed(_) => 204,
        Kind::NodeSpecUpdated(_) => 205,
        Kind::NodeBecameReady(_) => 210,
        Kind::NodeDeclaredDown(_) => 212,
        Kind::NodeDisconnected(_) => 213,
        Kind::NodeRemoved(_) => 217,
        Kind::ServiceCreated(_) => 300,
        Kind::ServiceSpecUpdated(_) => 301,
        Kind::ServiceScaled(_) => 302,
        Kind::ServiceRebalanced(_) => 303,
        Kind::ServiceRemoved(_) => 306,
        Kind::UpdateStarted(_) => 320,
        Kind::UpdateTasksOverdue(_) => 321,
        Kind::UpdatePaused(_) => 322,
        Kind::UpdateCompleted(_) => 324,
        Kind::RollbackStarted(_) => 326,
        Kind::UpdateResumed(_) => 328,
        Kind::TaskCreated(_) => 400,
        Kind::TaskAssigned(_) => 402,
        Kind::TaskPlacementFailed(_) => 403,
        Kind::TaskDesiredStateSet(_) => 404,
        Kind::TaskReported(_) => 405,
        Kind::TaskRejected(_) => 408,
        Kind::TaskOrphaned(_) => 412,
        Kind::TaskReaped(_) => 413,
        Kind::TaskAccessed(_) => 420,
        Kind::ConfigCreated(_) => 650,
        Kind::ConfigSpecUpdated(_) => 651,
        Kind::ConfigRevised(_) => 652,
        Kind::ConfigRemoved(_) => 653,
        Kind::SecretCreated(_) => 660,
        Kind::SecretSpecUpdated(_) => 661,
        Kind::SecretRevised(_) => 662,
        Kind::SecretRemoved(_) => 663,
        Kind::RunScheduled(_) => 755,
        Kind::RunStarted(_) => 756,
        Kind::RunSkipped(_) => 757,
        Kind::SinkCreated(_) => 960,
        Kind::SinkRemoved(_) => 961,
        Kind::SinkPaused(_) => 962,
        Kind::SinkResumed(_) => 963,
        Kind::SinkProgressed(_) => 964,
        Kind::SinkFailed(_) => 965,
        Kind::SinkParked(_) => 966,
    }
}

/// Bytes in one line of a file.
const LINE_BYTES: usize = 40;

/// An event's encoding, as in a file.
struct Golden {
    bytes: Vec<u8>,
    json: String,
}

impl Golden {
    fn of(event: &Event) -> Self {
        let json = serde_json::to_string_pretty(event).expect("events are plain data");
        Self { bytes: event.encode_to_vec(), json }
    }

    fn to_text(&self) -> String {
        let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let hex: Vec<String> = self.bytes.chunks(LINE_BYTES).map(line).collect();
        format!("frame format {}\n\n{}\n\n{}\n", frame::FORMAT, hex.join("\n"), self.json)
    }

    fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, "\n\n");
        let (_, hex) = (parts.next(), parts.next().expect("a golden file has bytes").replace('\n', ""));
        let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16).expect("a hexadecimal digit")).collect();
        let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits are a byte");
        let json = parts.next().expect("a golden file has JSON").trim_end().to_owned();
        Self { bytes: digits.chunks_exact(2).map(byte).collect(), json }
    }

    fn decode(&self) -> Event {
        Event::decode(self.bytes.as_slice()).expect("the bytes of a golden file can be read")
    }
}

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/golden"))
}

fn file_name(kind: &Kind) -> String {
    let version = VERSIONS.iter().find(|(name, _)| *name == kind.name()).map(|(_, version)| version);
    let suffix = version.map(|version| format!(".v{version}")).unwrap_or_default();
    format!("{}-{}{suffix}.txt", number(kind), kind.name())
}

/// The events of the files: some caused by commands, the others by reconcilers, depending on their own numbers, so that adding or
/// removing an event changes no other file.
fn events() -> impl Iterator<Item = Event> {
    support::samples().into_iter().map(|kind| match number(&kind) % 2 {
        0 => Event::by_command(3, kind),
        _ => Event::by_reconciler(Reconciler::Schedule, kind),
    })
}

fn kind_of(event: &Event) -> &Kind {
    event.kind.as_ref().expect("a known event")
}

#[test]
fn every_event_has_a_sample() {
    let names: Vec<_> = support::samples().iter().map(Kind::name).collect();
    assert_eq!(names, catalogue::NAMES);
}

#[test]
fn type_numbers_never_change() {
    for kind in support::samples() {
        let bytes = Event { kind: Some(kind.clone()), ..Event::default() }.encode_to_vec();
        let (tag, _) = prost::encoding::decode_key(&mut bytes.as_slice()).expect("a field");
        assert_eq!(tag, number(&kind), "{}", kind.name());
    }
}

/// One test, because a file cannot be read while it is being blessed.
#[test]
fn golden_files_hold() {
    compare_or_bless();
    read_all();
}

/// Every event has the encoding of its file.
fn compare_or_bless() {
    let bless = std::env::var_os("SWARMLOG_BLESS").is_some();
    let mut faults = Vec::new();
    for event in events() {
        let (path, now) = (directory().join(file_name(kind_of(&event))), Golden::of(&event));
        match fs::read_to_string(&path) {
            Ok(text) if Golden::parse(&text).bytes != now.bytes => faults.push(format!("{path:?} has other bytes")),
            Ok(text) if Golden::parse(&text).json != now.json => faults.push(format!("{path:?} has other JSON")),
            Ok(_) => {}
            Err(_) if bless => fs::write(&path, now.to_text()).expect("the golden file can be written"),
            Err(error) => faults.push(format!("{path:?} is missing (bless it if the event is new): {error}")),
        }
    }
    let hint =
        "what was written to a log stays readable as it is: see the beginning of this file for how a message grows";
    assert!(faults.is_empty(), "{}\n{hint}", faults.join("\n"));
}

/// Files of every version decode to what they contain, and have the name of the event.
fn read_all() {
    for entry in fs::read_dir(directory()).expect("the golden files are there") {
        let path = entry.expect("a directory entry").path();
        let golden = Golden::parse(&fs::read_to_string(&path).expect("a golden file"));
        let event = golden.decode();
        let said: Event = serde_json::from_str(&golden.json).expect("the JSON of a golden file");
        assert_eq!(event, said, "{path:?}");
        let start = format!("{}-{}.", number(kind_of(&event)), kind_of(&event).name());
        let name = path.file_name().and_then(|name| name.to_str()).expect("a file name");
        assert!(name.starts_with(&start), "{path:?} holds a {start}");
    }
}
