//! Exports of history to files, complete and interrupted.

use events::{Event, Id, Kind, NodeDeclaredDown, NodeId};

use super::fake::Fake;
use super::{TestEnv, run};

/// A manager with this many events, one per frame.
fn manager(events: u64) -> Fake {
    let mut manager = Fake::new();
    let down = |index: u64| {
        let node = NodeId::from_bits(index.into());
        Event::by_command(0, Kind::NodeDeclaredDown(NodeDeclaredDown { node, ..Default::default() }))
    };
    manager.history = (1..=events).map(|index| (index, down(index))).collect();
    manager
}

#[tokio::test]
async fn an_export_that_was_cut_anywhere_is_continued_to_the_same_file() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, flags, heading) in
        [("a.jsonl", "", 0), ("b.csv", "", 1), ("d.sql", "", 1), ("c.json", " --as cloudevents", 0)]
    {
        let file = dir.path().join(name);
        let export = format!("events export {}{flags}", file.display());
        let ran = run(&export, &mut manager(4), TestEnv::default()).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, "4 events written\n"), "{name}: {}", ran.out);
        let whole = std::fs::read(&file).expect("written");
        assert_eq!(whole.iter().filter(|byte| **byte == b'\n').count(), 4 + heading, "{name}");
        for cut in [0, 1, whole.len() / 2, whole.len() - 1, whole.len()] {
            std::fs::write(&file, &whole[..cut]).expect("cut");
            let mut manager = manager(4);
            let ran = run(&format!("{export} --resume"), &mut manager, TestEnv::default()).await;
            assert_eq!(ran.code, 0, "{name} cut at {cut}: {}", ran.err);
            assert_eq!(std::fs::read(&file).expect("written"), whole, "{name} cut at {cut}");
            let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count().saturating_sub(heading) as u64;
            assert_eq!(manager.watched[0].from, (lines > 0).then_some(lines), "{name} cut at {cut}");
        }
    }
}

#[tokio::test]
async fn no_file_is_overwritten_or_continued_that_is_something_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("notes.csv");
    let shown = file.display();
    std::fs::write(&file, "my notes\nand more\n").expect("written");
    for (line, code, why) in [
        (format!("events export {shown}"), 4, "exists already"),
        (format!("events export {shown} --resume"), 2, "byte 0 does not start a line of it"),
        (format!("events export {}", dir.path().join("x").display()), 2, "has no known extension"),
    ] {
        let ran = run(&line, &mut manager(1), TestEnv::default()).await;
        assert_eq!(ran.code, code, "{line}: {}", ran.err);
        assert!(ran.err.contains(why), "{line}: {}", ran.err);
    }
    assert_eq!(std::fs::read_to_string(&file).expect("there"), "my notes\nand more\n");
}

#[tokio::test]
async fn a_file_is_continued_only_with_the_same_values_left_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let redactions = ["", " --redact env", " --redact labels", " --redact labels --redact env"];
    for (ending, flags) in [("jsonl", ""), ("csv", ""), ("sql", ""), ("json", " --as cloudevents")] {
        for (number, first) in redactions.iter().enumerate() {
            let file = dir.path().join(format!("{number}.{ending}"));
            let export = format!("events export {}{flags}", file.display());
            // No event has any of these fields yet.
            let ran = run(&format!("{export}{first}"), &mut manager(2), TestEnv::default()).await;
            assert_eq!(ran.code, 0, "{export}{first}: {}", ran.err);
            let whole = std::fs::read(&file).expect("written");
            for resumed in redactions.iter().filter(|resumed| *resumed != first) {
                let line = format!("{export}{resumed} --resume");
                let ran = run(&line, &mut manager(4), TestEnv::default()).await;
                let named = if number == 0 { "without --redact" } else { "was written with --redact " };
                assert!(ran.code == 2 && ran.err.contains(named), "{line}: {} {}", ran.code, ran.err);
                assert_eq!(std::fs::read(&file).expect("written"), whole, "{line}");
            }
            let ran = run(&format!("{export}{first} --resume"), &mut manager(4), TestEnv::default()).await;
            assert_eq!((ran.code, ran.err.as_str()), (0, "2 events written\n"), "{export}{first}");
        }
    }
}
