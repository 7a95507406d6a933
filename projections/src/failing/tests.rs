//! The status of a service with failing places, from the index and from a walk over all of its places.

use events::RestartPolicy;

use super::*;
use crate::samples::{SERVICE, Sample, at};
use crate::views::overview::{restarting, restarting_places};

/// How many places wait for their next attempt, and the most failures in a row, computed by a walk over all places.
fn walked(sample: &Sample, now: Timestamp) -> (u64, u64) {
    let tasks = sample.cluster.tasks_of_service(SERVICE);
    let known = tasks.filter_map(|task| restarting(&sample.cluster, task, now)).filter(|known| !known.running_again);
    known.fold((0, 0), |(tasks, failures), known| (tasks + 1, failures.max(known.failures)))
}

fn shown(sample: &Sample, now: Timestamp) -> (u64, u64) {
    let service = sample.service().expect("the service is there");
    let known = restarting_places(&sample.cluster, service, now).filter(|known| !known.running_again);
    known.map_or((0, 0), |known| (known.tasks, known.failures))
}

#[test]
fn what_is_said_of_a_service_whose_places_fail_is_true_of_all_of_them() {
    let table: [(&[&str], (u64, u64)); 8] = [
        (&["make 1", "make 2"], (0, 0)),
        (&["make 1", "fail 1", "make 2"], (1, 1)),
        (&["make 1", "fail 1", "restart 1", "fail 1", "make 2", "fail 2"], (2, 2)),
        (&["make 1", "fail 1", "restart 1", "run 1", "make 2", "fail 2"], (1, 1)),
        (&["make 1", "fail 1", "restart 1", "run 1"], (0, 0)),
        (&["make 1", "fail 1", "stop 1"], (0, 0)),
        (&["make 1", "fail 1", "image b"], (0, 0)),
        (&["make 1", "fail 1", "scale 9"], (1, 1)),
    ];
    for (words, expected) in table {
        let sample = Sample::after(words);
        assert_eq!(shown(&sample, at(0)), expected, "{words:?}");
        assert_eq!(walked(&sample, at(0)), expected, "{words:?}");
    }
}

#[test]
fn of_many_places_all_are_counted_and_few_are_looked_at() {
    const PLACES: u64 = 300;
    let mut sample = Sample::new(RestartPolicy::default());
    for slot in 1..=PLACES {
        sample.apply_words(&format!("make {slot}"));
        sample.apply_words(&format!("fail {slot}"));
    }
    let worst = PLACES - 1;
    for words in ["restart", "fail", "restart", "fail"] {
        sample.apply_words(&format!("{words} {worst}"));
    }
    assert_eq!(shown(&sample, at(0)), (PLACES, 3));
    assert_eq!(sample.cluster.failing_places(SERVICE).next(), Some(Instance::Slot(worst)));
    for slot in 1..=PLACES {
        sample.apply_words(&format!("restart {slot}"));
        sample.apply_words(&format!("run {slot}"));
    }
    let service = sample.service().expect("the service is there");
    let again = restarting_places(&sample.cluster, service, at(599)).expect("they run, but not for long");
    assert!(again.running_again && again.tasks < PLACES, "{again:?}");
    assert_eq!(restarting_places(&sample.cluster, service, at(600)), None, "they are healthy");
}
