//! The effect of each event on the record of a rollout.

use events::NodeRemoved;
use events::{Id, Kind, NodeId};

use super::*;
use crate::samples::{SERVICE, Sample, changed_rows};

/// The counters of the current rollout, and the places that it or one that it superseded took.
fn summary(sample: &Sample) -> String {
    let Some(tally) = sample.cluster.rollout_tallies.get(SERVICE) else { return "nothing".to_owned() };
    let own = sample.service().map(|service| service.template_version);
    let step = |slot| {
        let step = sample.cluster.rollout_step(SERVICE, Instance::Slot(slot))?;
        let how = if step.settled_at.is_some() { "settled" } else { "in flight" };
        let whose = if Some(step.rollout) == own { "" } else { " of another" };
        Some(format!(", {slot} {how}{whose} by task {}", step.task.bits()))
    };
    let steps: String = (1..=3).filter_map(step).collect();
    format!("{} taken, {} failed{steps}", tally.taken, tally.failed)
}

#[test]
fn a_rollout_is_known_by_the_events_of_its_own_tasks() {
    let table: [(&[&str], &str); 25] = [
        (&[], "nothing"),
        (&["make 1", "fail 1"], "nothing"),
        (&["image b"], "0 taken, 0 failed"),
        (&["label x"], "nothing"),
        (&["make 1", "image b", "take 1"], "1 taken, 0 failed, 1 in flight by task 2"),
        (&["image b", "take 1", "take 2"], "2 taken, 0 failed, 1 in flight by task 1, 2 in flight by task 2"),
        (&["image b", "take 1", "run 1"], "1 taken, 0 failed, 1 settled by task 1"),
        (&["image b", "take 1", "fail 1"], "1 taken, 1 failed, 1 settled by task 1"),
        (&["image b", "take 1", "exit 1"], "1 taken, 1 failed, 1 settled by task 1"),
        // A task is monitored for five seconds.
        (&["image b", "take 1", "run 1", "wait 5", "fail 1"], "1 taken, 1 failed, 1 settled by task 1"),
        (&["image b", "take 1", "run 1", "wait 6", "fail 1"], "1 taken, 0 failed, 1 settled by task 1"),
        // A task that replaces one which lost its node takes its role; a restart and a task of a new slot do not.
        (&["image b", "take 1", "move 1"], "1 taken, 0 failed, 1 in flight by task 2"),
        (&["image b", "take 1", "move 1", "fail 1"], "1 taken, 1 failed, 1 settled by task 2"),
        (&["image b", "take 1", "fail 1", "restart 1", "fail 1"], "1 taken, 1 failed, 1 settled by task 1"),
        (&["image b", "make 1", "fail 1"], "0 taken, 0 failed"),
        // A place stays taken when another rollout supersedes the one that took it, even after a pause, and is released when that
        // ends.
        (&["image b", "take 1", "pause", "image c"], "0 taken, 0 failed, 1 in flight of another by task 1"),
        (
            &["image b", "take 1", "run 1", "undo a", "take 2"],
            "1 taken, 0 failed, 1 settled of another by task 1, 2 in flight by task 2",
        ),
        // An overdue task counts as failed, once.
        (&["image b", "take 1", "overdue 1"], "1 taken, 1 failed, 1 settled by task 1"),
        (&["image b", "take 1", "overdue 1", "fail 1"], "1 taken, 1 failed, 1 settled by task 1"),
        (&["image b", "take 1", "overdue 1", "run 1", "fail 1"], "1 taken, 1 failed, 1 settled by task 1"),
        // After a pause, only later failures count.
        (&["image b", "take 1", "fail 1", "pause", "resume"], "1 taken, 0 failed, 1 settled by task 1"),
        (
            &["image b", "take 1", "fail 1", "pause", "resume", "take 2", "fail 2"],
            "2 taken, 1 failed, 1 settled by task 1, 2 settled by task 2",
        ),
        (&["image b", "complete", "back a", "take 1"], "1 taken, 0 failed, 1 in flight by task 1"),
        (&["image b", "take 1", "run 1", "complete"], "nothing"),
        (&["image b", "take 1", "run 1", "complete", "image c", "take 2"], "1 taken, 0 failed, 2 in flight by task 2"),
    ];
    for (words, expected) in table {
        let sample = Sample::after(words);
        assert_eq!(summary(&sample), expected, "{words:?}");
        assert_eq!(sample.faults(), [""; 0], "{words:?}");
    }
}

/// This many places, each of which failed on a node of its own, was taken by a rollout, and failed again.
fn large(places: u64) -> Sample {
    let mut sample = Sample::after(&[]);
    for place in 1..=places {
        sample.apply_words(&format!("node {place}"));
        sample.apply_words(&format!("make {place}"));
    }
    sample.apply_words("image b");
    for place in 1..=places {
        sample.apply_words(&format!("take {place}"));
        sample.assign(place, place);
        sample.apply_words(&format!("fail {place}"));
    }
    sample
}

#[test]
fn what_ends_a_rollout_or_a_service_changes_as_few_rows_however_many_places_there_are() {
    for last in ["complete", "image c", "undo a", "login", "remove", "pause"] {
        let changed = |places| {
            let mut sample = large(places);
            let before = sample.cluster.clone();
            sample.apply_words(last);
            assert_eq!(sample.faults(), [""; 0], "{last}");
            changed_rows(&before, &sample.cluster)
        };
        assert_eq!(changed(50), changed(5), "{last}");
    }
    let mut sample = large(5);
    let before = sample.cluster.clone();
    let node = NodeId::from_bits(1);
    sample.apply(Kind::NodeRemoved(NodeRemoved { node, forced: true, forgotten: false }));
    assert_eq!(changed_rows(&before, &sample.cluster), 0);
}

#[test]
fn remains_of_an_ended_rollout_are_dropped_with_the_next_change_of_the_place() {
    let table: [(&str, usize); 6] =
        [("make 4", 3), ("restart 1", 2), ("take 1", 2), ("move 1", 2), ("reap 1", 2), ("remove", 3)];
    for (word, left) in table {
        let mut sample = large(3);
        sample.apply_words("complete");
        assert_eq!(sample.cluster.rollout_steps.len(), 3);
        sample.apply_words(word);
        assert_eq!(sample.cluster.rollout_steps.len(), left, "{word}");
    }
}
