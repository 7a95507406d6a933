//! Events that are printed once across several runs, and the errors.

use std::path::Path;

use events::{Event, Id, Kind, NodeDeclaredDown, NodeId};
use serde_json::{Value, json};
use wire::v1::{EventPosition, Head};

use super::fake::Fake;
use super::{RunResult, TestEnv, run};

/// A manager with one event for each of these frames, which then reports that it is stopping.
fn manager(frames: std::ops::RangeInclusive<u64>) -> Fake {
    let down = NodeDeclaredDown { node: NodeId::from_bits(9), ..Default::default() };
    let history = frames.map(|index| (index, Event::by_command(0, Kind::NodeDeclaredDown(down)))).collect();
    Fake { history, ..Fake::new() }
}

async fn resume(flags: &str, manager: &mut Fake, world: TestEnv) -> RunResult {
    run(&format!("events --format json {flags}"), manager, world).await
}

fn position(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("kept")).expect("JSON")
}

fn indexes(lines: &str) -> Vec<u64> {
    let index = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["index"].as_u64().expect("an index");
    lines.lines().map(index).collect()
}

#[tokio::test]
async fn the_position_is_kept_after_what_was_printed_however_the_run_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("position");
    let flags = format!("--follow --resume {}", path.display());
    let mut first = manager(1..=700);
    let ran = resume(&flags, &mut first, TestEnv::default()).await;
    assert_eq!((ran.code, indexes(&ran.out)), (7, (1..=700).collect()), "{}", ran.err);
    assert!(ran.err.contains("continues after the position in"), "{}", ran.err);
    assert!(!ran.out.contains("frame_hash"), "{}", ran.out);
    assert_eq!((first.watched[0].after.as_ref(), first.watched[0].with_hash), (None, Some(true)));
    let kept = position(&path);
    assert_eq!((&kept["index"], &kept["ordinal"], &kept["output_bytes"]), (&json!(700), &json!(0), &Value::Null));
    let mut second = manager(701..=702);
    let ran = resume(&flags, &mut second, TestEnv { interrupt: true, ..TestEnv::default() }).await;
    assert_eq!((ran.code, ran.out.as_str()), (130, ""), "{}", ran.err);
    let frame = Head { index: 700, frame_hash: "ab".repeat(32) };
    assert_eq!(second.watched[0].after, Some(EventPosition { frame, ordinal: 0 }));
    assert_eq!(position(&path), kept);
}

#[tokio::test]
async fn an_output_agrees_with_its_position() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, output) = (dir.path().join("position"), dir.path().join("events"));
    let flags = format!("--resume {} --output {}", path.display(), output.display());
    for (frames, cut) in [(1..=300, ""), (301..=301, "half an event"), (302..=302, "")] {
        let mut written = std::fs::read(&output).unwrap_or_default();
        written.extend_from_slice(cut.as_bytes());
        std::fs::write(&output, written).expect("written");
        let (ran, last) = (resume(&flags, &mut manager(frames.clone()), TestEnv::default()).await, *frames.end());
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
        let text = std::fs::read_to_string(&output).expect("written");
        assert_eq!(indexes(&text), (1..=last).collect::<Vec<_>>());
        assert_eq!(position(&path)["output_bytes"], json!(text.len()));
    }
    let (whole, kept) = (std::fs::read(&output).expect("written"), position(&path));
    std::fs::write(&output, &whole[1..]).expect("cut");
    let ran = resume(&flags, &mut manager(303..=303), TestEnv::default()).await;
    assert!(ran.code == 4 && ran.err.contains("were written by the time of"), "{ran:?}");
    assert_eq!((std::fs::read(&output).expect("there"), position(&path)), (whole[1..].to_vec(), kept));
}

#[tokio::test]
async fn no_position_is_taken_for_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("position");
    let flags = format!("--resume {}", path.display());
    assert_eq!(resume(&flags, &mut manager(1..=2), TestEnv::default()).await.code, 0);
    let kept = position(&path);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut changed = kept.clone();
        change(&mut changed);
        changed.to_string()
    };
    for (text, code, why) in [
        (changed(&|kept| kept["cluster"] = json!("0000000000000000000000099")), 4, "but this is cluster"),
        (changed(&|kept| kept["more"] = json!(1)), 2, "is not a position"),
        (changed(&|kept| kept["index"] = json!(-1)), 2, "is not a position"),
        (changed(&|kept| kept["output_bytes"] = json!(7)), 2, "is the position of a file that --output wrote"),
        (String::new(), 2, "is not a position"),
        ("x".repeat(5_000), 2, "is not a position"),
    ] {
        std::fs::write(&path, &text).expect("written");
        let mut manager = manager(3..=3);
        let ran = resume(&flags, &mut manager, TestEnv::default()).await;
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{text}: {}", ran.err);
        assert!(ran.err.contains(why), "{text}: {}", ran.err);
        assert!(manager.watched.is_empty() && std::fs::read_to_string(&path).expect("there") == text, "{text}");
    }
    std::fs::write(&path, kept.to_string()).expect("written");
    let held = std::fs::File::open(&path).expect("there");
    held.try_lock().expect("free");
    let ran = resume(&flags, &mut manager(3..=3), TestEnv::default()).await;
    assert!(ran.code == 4 && ran.err.contains("is in use by another swarmctl"), "{ran:?}");
}
