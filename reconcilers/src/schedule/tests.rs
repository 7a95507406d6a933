//! Explanations for tasks without a suitable node.

use events::{ClusterId, Id, IdGenerator, TaskState};

use super::*;
use crate::samples::{Sample, replicated, service};
use crate::{Budget, Candidates, Presence};

/// The tasks that get a reason, and the reason.
fn explained(sample: &Sample) -> (Vec<u128>, String) {
    let (mut ids, mut candidates) = (IdGenerator::new(ClusterId::from_bits(1), 1_000), Candidates::default());
    let now = Timestamp::default();
    let mut ctx = Ctx {
        now,
        ids: &mut ids,
        presence: &Presence::new(),
        peers: &crate::Peers::default(),
        uses: &crate::Uses::new(),
        candidates: &mut candidates,
    };
    let mut out = Correction::with_room(Budget::FRAME);
    reconcile(&sample.cluster, &Scope::everything(&sample.cluster), &mut ctx, &mut out);
    match out.events.as_slice() {
        [] => (Vec::new(), String::new()),
        [Kind::TaskPlacementFailed(event)] => {
            (event.tasks.iter().map(|task| task.bits()).collect(), event.explanation.clone())
        }
        others => panic!("{others:?}"),
    }
}

/// What tasks waited for before, whether all of these wait for the current reason, and which get the new reason.
type Row<'a> = (&'a [(u128, &'a str)], bool, &'a [u128]);

#[test]
fn waiting_tasks_are_explained_again_only_when_the_reason_changes() {
    // Service 1 is created in frame 1, which is its template version.
    let group = (service(), 1);
    let sample = || {
        let sample = Sample::default().with_service(replicated(4), &["node.labels.disk==ssd"]);
        (7..).zip(1..=4).fold(sample, |sample, (task, slot)| sample.with_task(task, slot, None, TaskState::Pending))
    };
    let (all, reason) = explained(&sample());
    assert_eq!(all, [7, 8, 9, 10]);
    let table: [Row<'_>; 6] = [
        (&[(7, "another"), (7, &reason)], true, &[8, 9, 10]),
        (&[(7, &reason), (9, &reason)], true, &[8, 10]),
        (&[(9, &reason), (10, &reason)], true, &[7, 8]),
        (&[(7, &reason), (8, "another"), (10, &reason)], false, &[8, 9]),
        (&[(7, "another"), (8, "another"), (9, "another"), (10, "another")], false, &[7, 8, 9, 10]),
        (&[(7, &reason), (8, &reason), (9, &reason), (10, &reason)], true, &[]),
    ];
    for (known, is_known, expected) in table {
        let mut sample = sample();
        for (task, explanation) in known {
            let (tasks, explanation) = (vec![TaskId::from_bits(*task)], (*explanation).to_owned());
            sample.apply(0, Kind::TaskPlacementFailed(TaskPlacementFailed { tasks, explanation }));
        }
        assert_eq!(sample.cluster.unplaced().all_wait_for(group, &reason), is_known, "{known:?}");
        assert_eq!(explained(&sample).0, expected, "{known:?}");
    }
}
