//! Verification of live history: intact, and tampered with in each way.

use events::frame::{self, hash};
use events::{ClusterId, ClusterInitialised, Event, Frame, FrameHeader, Id, Kind, NodeId, NodeJoined, Timestamp};
use prost::Message;
use verify::checkpoint::Checkpoint;
use verify::note::{SignedNote, Signer};
use verify::tree::Tree;
use wire::v1::{CheckpointReply, Cosigner, DamagedFrames, FramesPage};

use super::fake::Fake;
use super::{RunResult, TestEnv, run};

type Stored = Vec<Vec<u8>>;

/// The stored frames of a cluster that nodes join; every second index is used.
fn history(frames: u64) -> Stored {
    let (mut stored, mut previous_hash) = (Stored::new(), Vec::new());
    for number in 1..=frames {
        let kind = if number == 1 {
            Kind::ClusterInitialised(ClusterInitialised { cluster: ClusterId::from_bits(7), ..Default::default() })
        } else {
            let node = NodeId::from_bits(number.into());
            Kind::NodeJoined(NodeJoined { node, hostname: format!("node-{number}"), ..Default::default() })
        };
        let header = FrameHeader {
            format: frame::FORMAT,
            index: number * 2,
            log_time: Timestamp::from_unix_ns(number.cast_signed()),
            feature_level: frame::FEATURE_LEVEL_MIN,
            previous_hash: std::mem::take(&mut previous_hash),
            ..FrameHeader::default()
        };
        let frame = Frame { header, commands: Vec::new(), events: vec![Event::by_command(0, kind)] };
        stored.push(frame.encode_to_vec());
        previous_hash = stored.last().map(|last| hash(last).to_vec()).unwrap_or_default();
    }
    stored
}

fn checkpoint(frames: &Stored) -> Checkpoint {
    let mut tree = Tree::default();
    frames.iter().for_each(|stored| tree.add(stored));
    Checkpoint { cluster: ClusterId::from_bits(7), size: tree.size(), root: tree.root() }
}

fn signer() -> Signer {
    Signer::new("swarmlog/a/b", &[1; 32]).expect("a signer")
}

/// A manager that signs one history and returns another.
fn manager(signs: &Stored, shows: &Stored) -> Fake {
    let mut manager = Fake::new();
    let note = SignedNote::new(checkpoint(signs).to_string()).signed_by(&signer()).to_string();
    manager.checkpoint = CheckpointReply { note, index: signs.len() as u64 * 2, others: Vec::new() };
    let page =
        |frames: &[Vec<u8>]| FramesPage { stored: frames.iter().cloned().map(Into::into).collect(), damaged: None };
    manager.frames = shows.chunks(7).map(page).collect();
    manager
}

async fn verified(flags: &str, manager: &mut Fake) -> RunResult {
    let line = format!("audit verify --live --key {} {flags}", signer().key());
    run(line.trim_end(), manager, TestEnv::default()).await
}

#[tokio::test]
async fn a_whole_history_is_verified_to_its_root() {
    let frames = history(20);
    let ran = verified("", &mut manager(&frames, &frames)).await;
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
    assert!(
        ran.out.contains("frames      20, from index 2") && ran.out.contains("signed by   swarmlog/a/b"),
        "{}",
        ran.out
    );
    assert!(ran.out.ends_with(&format!("verified\n\n{}", checkpoint(&frames))), "{}", ran.out);
    let ran = verified("--format json", &mut manager(&frames, &frames)).await;
    assert!(ran.out.contains("\"verified\":true") && ran.out.contains("\"frames\":20"), "{}", ran.out);
}

#[tokio::test]
async fn each_tampering_of_a_live_history_is_named() {
    let frames = history(20);
    let changed = |change: &dyn Fn(&mut Stored)| {
        let mut changed = frames.clone();
        change(&mut changed);
        changed
    };
    let other_name = changed(&|frames| {
        let at = frames[5].windows(6).position(|bytes| bytes == b"node-6").expect("its name");
        frames[5][at + 5] = b'7';
    });
    let table = [
        (changed(&|frames| drop(frames.remove(12))), "frame 28 does not contain the hash of frame 24"),
        (changed(&|frames| frames.swap(8, 9)), "frame 18 is out of order: it comes after frame 20"),
        (changed(&|frames| frames[3].truncate(9)), "after frame 6: the frame is damaged"),
        (changed(&|frames| frames.truncate(18)), "the 18 frames of this manager do not match the 20 that it signed"),
        (other_name, "frame 14 does not contain the hash of frame 12: that was changed"),
        // The whole history, chain included.
        (history(19), "the 19 frames of this manager do not match the 20 that it signed"),
    ];
    for (shown, fault) in table {
        let ran = verified("", &mut manager(&frames, &shown)).await;
        assert_eq!(ran.code, 1, "{fault}: {}", ran.out);
        assert!(ran.out.contains(fault) && ran.out.contains("\nnot verified\n"), "{fault}: {}", ran.out);
    }
    let mut damaged = manager(&frames, &frames);
    let why = Some(DamagedFrames { from: 16, to: 18, reason: "a flipped bit".to_owned() });
    damaged.frames.insert(1, FramesPage { stored: Vec::new(), damaged: why });
    let ran = verified("", &mut damaged).await;
    let fault = "FAULT       after frame 14: frames 16 to 18 cannot be read: a flipped bit\n";
    assert!(ran.code == 1 && ran.out.contains(fault), "{}", ran.out);
}

#[tokio::test]
async fn a_history_that_was_put_back_or_signed_by_nobody_known_or_differs_from_others_is_told() {
    let (frames, dir) = (history(20), tempfile::tempdir().expect("a directory"));
    let kept = dir.path().join("kept");
    std::fs::write(&kept, checkpoint(&history(25)).to_string()).expect("written");
    let ran = verified(&format!("--checkpoint {}", kept.display()), &mut manager(&frames, &frames)).await;
    let fault = "history was rolled back: it has 20 frames, and the checkpoint that was kept has 25";
    assert!(ran.code == 1 && ran.out.contains(fault), "{}", ran.out);

    let stranger = Signer::new("stranger", &[2; 32]).expect("a signer").key().to_string();
    let line = format!("audit verify --live --key {stranger}");
    let ran = run(&line, &mut manager(&frames, &frames), TestEnv::default()).await;
    assert!(ran.code == 1 && ran.out.contains("none of the trusted keys signed the checkpoint"), "{}", ran.out);

    let other = |hostname: &str, silent: Option<&str>, other_root: Option<&str>| Cosigner {
        node: NodeId::from_bits(2),
        hostname: hostname.to_owned(),
        silent: silent.map(str::to_owned),
        other_root: other_root.map(str::to_owned),
    };
    let others = vec![other("m2", Some("it is gone"), None), other("m3", None, Some("00ff")), other("m4", None, None)];
    let disagreeing = || {
        let mut manager = manager(&frames, &frames);
        manager.checkpoint.others = others.clone();
        manager
    };
    let differs = "manager m3 (0000000000000000000000002) has a different history: its root of the same frames is 00ff";
    let ran = verified("", &mut disagreeing()).await;
    assert!(ran.code == 1 && ran.out.contains(differs) && ran.err.contains("not signed by m2: it is gone"), "{ran:?}");
    let ran = run("audit checkpoint", &mut disagreeing(), TestEnv::default()).await;
    assert!(ran.code == 1 && ran.err.contains(differs) && ran.out.starts_with("swarmlog/"), "{ran:?}");
}

#[tokio::test]
async fn an_export_of_frames_that_was_cut_anywhere_is_continued_and_verified_with_its_checkpoint() {
    let (frames, dir) = (history(20), tempfile::tempdir().expect("a directory"));
    let file = dir.path().join("history");
    let export = format!("events export {} --as proto", file.display());
    let ran = run(&export, &mut manager(&frames, &frames), TestEnv::default()).await;
    let checkpoint = dir.path().join("history.checkpoint");
    assert_eq!((ran.code, ran.err), (0, format!("20 frames written, and {}\n", checkpoint.display())), "{}", ran.out);
    let whole = std::fs::read(&file).expect("written");
    for cut in [0, 1, whole.len() / 2, whole.len() - 1, whole.len()] {
        std::fs::write(&file, &whole[..cut]).expect("cut");
        let ran = run(&format!("{export} --resume"), &mut manager(&frames, &frames), TestEnv::default()).await;
        assert_eq!(ran.code, 0, "cut at {cut}: {}", ran.err);
        assert_eq!(std::fs::read(&file).expect("written"), whole, "cut at {cut}");
    }
    let verify = format!("audit verify {} --checkpoint {}", file.display(), checkpoint.display());
    let ran = run(&verify, &mut Fake::new(), TestEnv::default()).await;
    assert!(ran.code == 0 && ran.out.contains("1 checkpoints and heads compared"), "{} {}", ran.out, ran.err);
    for (line, code, why) in [
        (export.clone(), 4, "exists already"),
        (format!("{export} --resume --redact env"), 2, "frames are exported completely"),
        (format!("{export} --resume --until 7"), 2, "frames are exported completely"),
        (format!("events export {} --as proto --resume", checkpoint.display()), 2, "is not an export of frames"),
    ] {
        let ran = run(&line, &mut manager(&frames, &frames), TestEnv::default()).await;
        assert!(ran.code == code && ran.err.contains(why), "{line}: {}", ran.err);
    }
}
