//! The status of a place, and how many tasks there are of each kind.

use super::*;
use crate::samples::{SERVICE, Sample};

fn summary(sample: &Sample) -> String {
    let (places, tasks) = (sample.cluster.places(), sample.cluster.tasks_by_revision().total(SERVICE));
    let idle = places.idle_from(SERVICE, Instance::FIRST).count();
    let ended = |end| places.ended(SERVICE, end);
    format!(
        "{} wanted, {idle} idle: {} finished, {} failed, {} stopped; {} tasks, {} live, {} run",
        places.wanted(SERVICE),
        ended(End::Finished),
        ended(End::Failed),
        ended(End::Stopped),
        tasks.all,
        tasks.live,
        tasks.running
    )
}

#[test]
fn a_place_is_what_its_tasks_make_of_it() {
    let table: [(&[&str], &str); 14] = [
        (&[], "0 wanted, 0 idle: 0 finished, 0 failed, 0 stopped; 0 tasks, 0 live, 0 run"),
        (&["make 1"], "1 wanted, 0 idle: 0 finished, 0 failed, 0 stopped; 1 tasks, 1 live, 0 run"),
        (&["make 1", "run 1"], "1 wanted, 0 idle: 0 finished, 0 failed, 0 stopped; 1 tasks, 1 live, 1 run"),
        // A task that ended stays wanted until its desired state changes.
        (&["make 1", "run 1", "fail 1"], "1 wanted, 0 idle: 0 finished, 0 failed, 0 stopped; 1 tasks, 0 live, 0 run"),
        (&["make 1", "fail 1", "stop 1"], "0 wanted, 1 idle: 0 finished, 1 failed, 0 stopped; 1 tasks, 0 live, 0 run"),
        (&["make 1", "exit 1", "stop 1"], "0 wanted, 1 idle: 1 finished, 0 failed, 0 stopped; 1 tasks, 0 live, 0 run"),
        (&["make 1", "run 1", "stop 1"], "0 wanted, 1 idle: 0 finished, 0 failed, 1 stopped; 1 tasks, 0 live, 0 run"),
        // How it ends after it was stopped counts as well.
        (
            &["make 1", "run 1", "stop 1", "exit 1"],
            "0 wanted, 1 idle: 1 finished, 0 failed, 0 stopped; 1 tasks, 0 live, 0 run",
        ),
        // The newest task determines how its place ended.
        (
            &["make 1", "fail 1", "restart 1", "exit 1", "stop 1"],
            "0 wanted, 1 idle: 1 finished, 0 failed, 0 stopped; 2 tasks, 0 live, 0 run",
        ),
        (
            &["make 1", "fail 1", "restart 1", "run 1"],
            "1 wanted, 0 idle: 0 finished, 0 failed, 0 stopped; 2 tasks, 1 live, 1 run",
        ),
        // A place all of whose tasks are being removed is idle, and has not ended.
        (
            &["make 1", "run 1", "abandon 1"],
            "0 wanted, 1 idle: 0 finished, 0 failed, 0 stopped; 1 tasks, 0 live, 0 run",
        ),
        (
            &["make 1", "fail 1", "stop 1", "abandon 1"],
            "0 wanted, 1 idle: 0 finished, 0 failed, 0 stopped; 1 tasks, 0 live, 0 run",
        ),
        (
            &["make 1", "make 2", "make 3", "run 2", "exit 3", "stop 3"],
            "2 wanted, 1 idle: 1 finished, 0 failed, 0 stopped; 3 tasks, 2 live, 1 run",
        ),
        (&["make 1", "run 1", "reap 1"], "0 wanted, 0 idle: 0 finished, 0 failed, 0 stopped; 0 tasks, 0 live, 0 run"),
    ];
    for (words, expected) in table {
        let sample = Sample::after(words);
        assert_eq!(summary(&sample), expected, "{words:?}");
        assert_eq!(sample.faults(), [""; 0], "{words:?}");
    }
}
