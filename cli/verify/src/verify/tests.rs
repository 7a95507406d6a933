//! Small histories, intact and tampered with.

use events::redaction::{self, Field};
use events::{
    Annotations, ClusterId, ClusterInitialised, ContainerSpec, Event, FrameHeader, HistoryRedacted, Id, NodeId,
    NodeJoined, Reconciler, RedactedBytes, ServiceCreated, ServiceId, ServiceSpec, ServiceSpecUpdated,
    StateHashRecorded, TaskSpec, Timestamp, UpdateCompleted,
};
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// The interval of state hashes, in frames.
const HASH_EVERY: u64 = 10;

/// The number of the frame that gives a service a value, and of the one that announces the value's erasure.
const GIVEN: usize = 3;
const REDACTED: usize = 22;
const SERVICE: ServiceId = ServiceId::MAX;

fn with_password(value: &str) -> ServiceSpec {
    let container = ContainerSpec { env: vec![format!("PASSWORD={value}")], ..ContainerSpec::default() };
    let task = Some(TaskSpec { container: Some(container), ..TaskSpec::default() });
    let annotations = Some(Annotations { name: "web".to_owned(), ..Annotations::default() });
    ServiceSpec { annotations, task, ..ServiceSpec::default() }
}

/// The first of these frames, without the value.
fn redacted_frame(given: &[u8]) -> Vec<u8> {
    redaction::redact(given, SERVICE, &Field::Env("PASSWORD".to_owned()), "gone").expect("it has the field")
}

fn redaction_of(given: &[u8]) -> HistoryRedacted {
    let sha256 = redaction::sha256(&redacted_frame(given)).to_vec();
    HistoryRedacted {
        service: SERVICE,
        field: "env.PASSWORD".to_owned(),
        digest: "gone".to_owned(),
        frames: vec![RedactedBytes { index: GIVEN as u64 * 2, sha256 }],
        revisions: Vec::new(),
    }
}

/// The same history after the redaction.
fn redacted(mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    frames[GIVEN - 1] = redacted_frame(&frames[GIVEN - 1]);
    frames
}

/// The events of a frame besides nodes that join.
fn scripted_events(number: usize, stored: &[Vec<u8>]) -> Option<Vec<Kind>> {
    let completed = UpdateCompleted { service: SERVICE, rollback: None };
    let updated = |value| ServiceSpecUpdated { service: SERVICE, spec: with_password(value), ..Default::default() };
    let update = |value| vec![Kind::ServiceSpecUpdated(Box::new(updated(value))), Kind::UpdateCompleted(completed)];
    let created = || ServiceCreated { service: SERVICE, spec: with_password("hunter2") };
    match number {
        1 => {
            let event = ClusterInitialised { cluster: ClusterId::from_bits(7), ..Default::default() };
            Some(vec![Kind::ClusterInitialised(event)])
        }
        GIVEN => Some(vec![Kind::ServiceCreated(Box::new(created()))]),
        4 => Some(update("another")),
        5 => Some(update("a third")),
        REDACTED => Some(vec![Kind::HistoryRedacted(redaction_of(&stored[GIVEN - 1]))]),
        _ => None,
    }
}

/// The stored frames of a history: nodes that join, and a service whose first password is erased. Some indexes have no frame.
fn history(frames: u64) -> Vec<Vec<u8>> {
    let (mut cluster, mut previous_hash, mut stored) = (Cluster::default(), Vec::new(), Vec::new());
    for number in 1..=frames {
        let node = NodeId::from_bits(number.into());
        let kinds = scripted_events(number as usize, &stored).unwrap_or_else(|| {
            let (at_index, hash) = (cluster.position.index, cluster.state_hash().to_vec());
            vec![if number.is_multiple_of(HASH_EVERY) {
                Kind::StateHashRecorded(StateHashRecorded { at_index, hash, fold_version: Some(FOLD_VERSION) })
            } else {
                Kind::NodeJoined(NodeJoined { node, hostname: format!("node-{number}"), ..Default::default() })
            }]
        });
        let header = FrameHeader {
            format: frame::FORMAT,
            index: number * 2,
            log_time: Timestamp::from_unix_ns(number.cast_signed()),
            feature_level: frame::FEATURE_LEVEL_MIN,
            previous_hash: std::mem::take(&mut previous_hash),
            leader: None,
            term: 1,
        };
        let events = kinds.into_iter().map(|kind| Event::by_reconciler(Reconciler::Replicated, kind)).collect();
        let frame = Frame { header, commands: Vec::new(), events };
        cluster.apply_frame(&frame);
        let bytes = frame.encode_to_vec();
        previous_hash = frame::hash(&bytes).to_vec();
        stored.push(bytes);
    }
    stored
}

fn exported(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for frame in frames {
        prost::encoding::encode_varint(frame.len() as u64, &mut file);
        file.extend_from_slice(frame);
    }
    file
}

fn verified(file: &[u8], known: &TrustedInputs) -> Report {
    verify(file, known).expect("it is read")
}

#[test]
fn a_whole_export_has_no_fault_and_continues_what_was_kept() {
    let frames = history(35);
    let half = verified(&exported(&frames[..17]), &TrustedInputs::default());
    let checkpoint = half.checkpoint.clone().expect("a checkpoint");
    assert_eq!((checkpoint.cluster, checkpoint.size, half.hashes), (ClusterId::from_bits(7), 17, (1, 0)));
    let known = TrustedInputs {
        checkpoints: vec![checkpoint],
        heads: half.head.into_iter().collect(),
        ..TrustedInputs::default()
    };
    let whole = verified(&exported(&frames), &known);
    assert_eq!(whole.faults, Vec::<String>::new());
    assert_eq!((whole.frames, whole.first, whole.hashes, whole.compared), (35, 2, (3, 0), 2));
    assert_eq!(whole.head, Some((70, frame::hash(&frames[34]))));
}

#[test]
fn each_fault_is_named() {
    let frames = history(35);
    let head = (70, frame::hash(&frames[34]));
    let whole = verified(&exported(&frames), &TrustedInputs::default()).checkpoint.expect("a checkpoint");
    let other = Checkpoint { cluster: ClusterId::from_bits(8), ..whole.clone() };
    let rewritten = Checkpoint { root: [0; 32], size: 20, ..whole.clone() };
    let mut missing = frames.clone();
    missing.remove(12);
    let mut swapped = frames.clone();
    swapped.swap(20, 21);
    let mut damaged = frames.clone();
    let last = damaged[5].len() - 1;
    damaged[5][last] ^= 1;
    let mut changed = frames.clone();
    let name = changed[5].windows(6).position(|bytes| bytes == b"node-6").expect("its name");
    changed[5][name + 5] = b'7';
    let mut cut = exported(&frames);
    cut.pop();
    let known =
        |checkpoints: Vec<Checkpoint>| TrustedInputs { checkpoints, heads: vec![head], ..TrustedInputs::default() };
    let table = [
        (exported(&missing), known(vec![]), "frame 28 does not contain the hash of frame 24"),
        (exported(&swapped), known(vec![]), "frame 42 is out of order: it comes after frame 44"),
        (exported(&changed), known(vec![]), "frame 14 does not contain the hash of frame 12: that was changed"),
        (exported(&damaged), known(vec![]), "after frame 10: the frame is damaged: "),
        (cut, known(vec![]), "after frame 68: the file ends within a frame"),
        (exported(&frames[..30]), known(vec![]), "the export ends with frame 60, before frame 70 that was noted"),
        (exported(&frames[..30]), known(vec![whole.clone()]), "5 frames are missing at the end"),
        (exported(&frames), known(vec![rewritten]), "the first 20 frames do not match those of the checkpoint"),
        (exported(&frames), known(vec![other]), "this is the history of cluster 0000000000000000000000007"),
        (
            exported(&frames),
            TrustedInputs { heads: vec![(2, [0; 32])], ..TrustedInputs::default() },
            "frame 2 does not match the noted head",
        ),
    ];
    for (file, known, fault) in table {
        let report = verified(&file, &known);
        assert!(report.faults.iter().any(|found| found.contains(fault)), "{fault}: {:?}", report.faults);
        assert_eq!(report.checkpoint, None, "{fault}");
    }
}

#[test]
fn a_state_that_the_events_do_not_make_shows_although_every_hash_of_the_chain_fits() {
    let mut frames = history(12);
    let mut previous = frame::hash(&frames[3]).to_vec();
    // A history that was rewritten from one frame on, including the hash chain.
    for stored in &mut frames[4..] {
        let mut frame = Frame::decode(stored.as_slice()).expect("a frame");
        frame.header.previous_hash = previous;
        if let Some(Kind::NodeJoined(joined)) = frame.events[0].kind.as_mut() {
            joined.hostname = "another".to_owned();
        }
        *stored = frame.encode_to_vec();
        previous = frame::hash(stored).to_vec();
    }
    let report = verified(&exported(&frames), &TrustedInputs::default());
    assert_eq!(report.faults, ["the events up to frame 18 lead to another state than the recorded one"]);
}

#[test]
fn an_export_that_begins_in_the_middle_is_verified_from_there() {
    let frames = history(35);
    let known = TrustedInputs { heads: vec![(70, frame::hash(&frames[34]))], ..TrustedInputs::default() };
    let report = verified(&exported(&frames[9..]), &known);
    assert_eq!((report.faults.len(), report.first, report.hashes, report.checkpoint), (0, 20, (0, 0), None));
    assert_eq!(report.compared, 1);
}

#[test]
fn what_was_erased_is_counted_and_changes_neither_chain_nor_tree() {
    let frames = history(35);
    let whole = verified(&exported(&frames), &TrustedInputs::default());
    let known = TrustedInputs {
        checkpoints: whole.checkpoint.clone().into_iter().collect(),
        heads: vec![(6, frame::hash(&frames[GIVEN - 1]))],
        ..TrustedInputs::default()
    };
    let report = verified(&exported(&redacted(frames)), &known);
    assert_eq!((report.faults.len(), report.redacted, report.compared), (0, 1, 2), "{:?}", report.faults);
    assert_eq!((report.root, report.checkpoint), (whole.root, whole.checkpoint));
    // The state before the announcement differs; the one after it does not.
    assert_eq!((whole.hashes, report.hashes), ((3, 0), (1, 2)));
}

#[test]
fn an_erasure_that_no_later_frame_announces_is_a_fault() {
    let frames = history(35);
    let sentence = |index: u64| format!("frame {index} was redacted, and no frame after it announces that");
    let update = redaction::redact(&frames[3], SERVICE, &Field::Env("PASSWORD".to_owned()), "gone").expect("a field");
    let mut another_frame = redacted(frames.clone());
    another_frame[3] = update;
    let mut another_value = redacted(frames.clone());
    another_value[2] =
        redaction::redact(&frames[2], SERVICE, &Field::Env("PASSWORD".to_owned()), "lies").expect("a field");
    let mut the_announcement_itself = redacted(frames.clone());
    let announcement = redacted_frame(&frames[2])[..70].to_vec();
    let mut original = announcement;
    original[4..36].copy_from_slice(&frame::hash(&frames[REDACTED - 1]));
    original[38..].copy_from_slice(&frame::leaf(&frames[REDACTED - 1]));
    the_announcement_itself[REDACTED - 1] = [original, frames[REDACTED - 1].clone()].concat();
    let table = [
        (redacted(frames.clone())[..REDACTED - 1].to_vec(), 6),
        (another_frame, 8),
        (another_value, 6),
        (the_announcement_itself, 44),
    ];
    for (tampered, index) in table {
        let report = verified(&exported(&tampered), &TrustedInputs::default());
        assert!(report.faults.contains(&sentence(index)), "{:?}", report.faults);
        assert_eq!(report.checkpoint, None);
    }
}

#[test]
fn each_of_a_thousand_tamperings_is_found() {
    let frames = history(25);
    let checkpoints = verified(&exported(&frames), &TrustedInputs::default()).checkpoint.into_iter().collect();
    let known = TrustedInputs { checkpoints, ..TrustedInputs::default() };
    let mut random = StdRng::seed_from_u64(1);
    for (history, frames) in [("as it was", frames.clone()), ("redacted", redacted(frames))] {
        for number in 0..1_000 {
            let mut tampered = frames.clone();
            let (at, kind) = (random.random_range(0..frames.len()), random.random_range(0..5));
            match kind {
                0 => drop(tampered.remove(at)),
                1 => tampered.insert(at, frames[at].clone()),
                2 => tampered.swap(at, (at + 1) % frames.len()),
                3 => tampered.truncate(at),
                _ => {
                    let byte = random.random_range(0..tampered[at].len());
                    tampered[at][byte] ^= 1 << random.random_range(0..8);
                }
            }
            let report = verified(&exported(&tampered), &known);
            assert!(!report.faults.is_empty(), "{history}: tampering {number} of kind {kind} at frame {at}");
        }
    }
}
