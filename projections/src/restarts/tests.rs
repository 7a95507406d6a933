//! The effect of each event on the restart record of a place.

use events::RestartPolicy;

use super::*;
use crate::samples::{SERVICE, Sample};

const PLACE: (ServiceId, Instance) = (SERVICE, Instance::Slot(1));

fn summary(sample: &Sample) -> String {
    match sample.cluster.restarts_in(PLACE) {
        None => "nothing".to_owned(),
        Some(known) => format!(
            "{} failed and {} ended in a row, {} restarts{}{}",
            known.failures,
            known.exits,
            known.times.len(),
            if known.last_failure.is_empty() { "" } else { ": " },
            known.last_failure
        ),
    }
}

#[test]
fn ends_are_counted_in_a_row_until_a_task_was_healthy_or_a_new_record_begins() {
    use RestartCondition::{Any, OnFailure};
    // The policy's condition and limit, the events, and the record.
    let table: [(_, u64, &[&str], &str); 17] = [
        (Any, 0, &["make 1"], "nothing"),
        (Any, 0, &["make 1", "run 1"], "nothing"),
        (Any, 0, &["make 1", "fail 1"], "1 failed and 0 ended in a row, 0 restarts: no such file"),
        (Any, 0, &["make 1", "exit 1"], "0 failed and 1 ended in a row, 0 restarts"),
        (OnFailure, 0, &["make 1", "exit 1"], "nothing"),
        (OnFailure, 0, &["make 1", "fail 1", "restart 1", "exit 1"], "nothing"),
        (
            Any,
            0,
            &["make 1", "fail 1", "restart 1", "exit 1"],
            "1 failed and 1 ended in a row, 0 restarts: no such file",
        ),
        (Any, 2, &["make 1", "fail 1", "restart 1"], "1 failed and 0 ended in a row, 1 restarts: no such file"),
        (
            Any,
            2,
            &["make 1", "fail 1", "restart 1", "fail 1", "restart 1", "fail 1", "restart 1"],
            "3 failed and 0 ended in a row, 2 restarts: no such file",
        ),
        // A failure after ten healthy minutes is the first of its row.
        (
            Any,
            0,
            &["make 1", "fail 1", "restart 1", "run 1", "wait 599", "fail 1"],
            "2 failed and 0 ended in a row, 0 restarts: no such file",
        ),
        (
            Any,
            0,
            &["make 1", "fail 1", "restart 1", "run 1", "wait 600", "fail 1"],
            "1 failed and 0 ended in a row, 0 restarts: no such file",
        ),
        // A different image and new credentials start a new record; nothing else does.
        (Any, 0, &["make 1", "fail 1", "image b"], "nothing"),
        (Any, 0, &["make 1", "fail 1", "login"], "nothing"),
        (Any, 0, &["make 1", "fail 1", "label x"], "1 failed and 0 ended in a row, 0 restarts: no such file"),
        (Any, 0, &["make 1", "fail 1", "scale 9"], "1 failed and 0 ended in a row, 0 restarts: no such file"),
        (
            Any,
            0,
            &["make 1", "fail 1", "image b", "restart 1", "fail 1"],
            "1 failed and 0 ended in a row, 0 restarts: no such file",
        ),
        (Any, 0, &["make 1", "fail 1", "remove"], "nothing"),
    ];
    for (condition, max_attempts, words, expected) in table {
        let policy = RestartPolicy { condition: Some(condition.into()), max_attempts, ..RestartPolicy::default() };
        let mut sample = Sample::new(policy);
        words.iter().for_each(|words| sample.apply_words(words));
        assert_eq!(summary(&sample), expected, "{condition:?}, {max_attempts}, {words:?}");
        assert_eq!(sample.faults(), [""; 0], "{words:?}");
    }
}

#[test]
fn what_is_left_of_an_earlier_record_goes_with_the_next_task_of_its_place_or_the_last() {
    for (word, left) in [("make 1", 0), ("make 2", 1), ("reap 1", 0), ("label x", 1)] {
        let mut sample = Sample::after(&["make 1", "fail 1", "image b"]);
        sample.apply_words(word);
        assert_eq!(sample.cluster.restarts.len(), left, "{word}");
    }
}

#[test]
fn the_delay_before_the_next_attempt_doubles_with_each_end_in_a_row() {
    let mut sample = Sample::after(&["make 1"]);
    for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
        sample.apply_words("fail 1");
        let failed = sample.newest(1).expect("a task is there");
        assert_eq!(sample.cluster.restart_delay(failed), Duration::from_secs(seconds));
        assert_eq!(sample.cluster.tried_again_at(failed), failed.ended_at.map(|at| at + Duration::from_secs(seconds)));
        sample.apply_words("restart 1");
    }
    sample.apply_words("run 1");
    sample.apply_words("fail 1");
    let failed = sample.newest(1).expect("a task is there");
    assert_eq!(
        sample.cluster.tried_again_at(failed),
        None,
        "its successor is made at once, and starts after the delay"
    );
}
