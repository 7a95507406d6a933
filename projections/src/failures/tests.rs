//! Which failures are recorded, and for how long.

use super::*;
use crate::samples::{SERVICE, Sample};

/// The nodes with recorded failures, and how many.
fn summary(sample: &Sample) -> Vec<(u128, usize)> {
    use events::Id;
    sample.cluster.failures.iter().map(|((_, node), failures)| (node.bits(), failures.len())).collect()
}

/// A failure of the service on a node, in the slot with the same number, at this second.
type Failure = (u64, u64);
/// Failures, and the recorded number for each node afterwards.
type Row<'a> = (&'a [Failure], &'a [(u128, usize)]);

#[test]
fn failures_are_remembered_by_node_until_they_are_too_old_to_count() {
    let table: [Row<'_>; 7] = [
        (&[], &[]),
        (&[(0, 1)], &[(1, 1)]),
        (&[(0, 1), (1, 2), (1, 1)], &[(1, 2), (2, 1)]),
        (&[(0, 1), (299, 1)], &[(1, 2)]),
        (&[(0, 1), (300, 1)], &[(1, 1)]),
        // Expired rows are removed when new ones arrive, two at a time.
        (&[(0, 1), (299, 2)], &[(1, 1), (2, 1)]),
        (&[(0, 1), (0, 2), (0, 3), (300, 4)], &[(3, 1), (4, 1)]),
    ];
    for (failures, expected) in table {
        let mut sample = Sample::after(&["node 1", "node 2", "node 3", "node 4"]);
        for (after, node) in failures {
            sample.apply_words(&format!("wait {after}"));
            sample.apply_words(&format!("make {node}"));
            sample.assign(*node, *node);
            sample.apply_words(&format!("fail {node}"));
        }
        assert_eq!(summary(&sample), expected, "{failures:?}");
        assert_eq!(sample.faults(), [""; 0], "{failures:?}");
    }
}

#[test]
fn failures_of_another_spec_and_of_a_service_that_is_gone_do_not_add_up() {
    let fail = |sample: &mut Sample| {
        sample.apply_words("make 1");
        sample.assign(1, 1);
        sample.apply_words("fail 1");
    };
    for (word, expected) in [("label x", 2), ("image b", 1)] {
        let mut sample = Sample::after(&["node 1"]);
        fail(&mut sample);
        sample.apply_words(word);
        fail(&mut sample);
        assert_eq!(summary(&sample), [(1, expected)], "{word}");
    }
    let mut sample = Sample::after(&["node 1", "make 1"]);
    sample.assign(1, 1);
    sample.apply_words("remove");
    let task = sample.cluster.tasks_of_service(SERVICE).next().expect("a task is there").id;
    let status = events::TaskStatus { state: TaskState::Failed.into(), ..events::TaskStatus::default() };
    sample.apply(events::Kind::TaskReported(events::TaskReported { task, status }));
    assert_eq!(summary(&sample), []);
}
