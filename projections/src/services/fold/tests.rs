//! The effect of each event on a service.

use crate::samples::{SERVICE, Sample};

/// The frames that last changed the spec and what tasks run, the current image and the one to roll back to, the number of
/// replicas, and the rollout.
fn summary(sample: &Sample) -> String {
    let Some(service) = sample.service() else { return "gone".to_owned() };
    let image = |spec: &events::ServiceSpec| spec.template().container().image.clone();
    let previous = service.previous.as_ref().map_or("-".to_owned(), |spec| {
        let replicas = spec.replicas().unwrap_or_default();
        if replicas == 3 { image(spec) } else { format!("{} with {replicas}", image(spec)) }
    });
    let update = service.update.as_ref().map_or("no update".to_owned(), |update| format!("{:?}", update.state));
    let (version, template) = (service.version, service.template_version);
    let replicas = service.spec.replicas().unwrap_or_default();
    format!("{version} {template} {} after {previous}, {replicas} wanted, {update}", image(&service.spec))
}

#[test]
fn a_rollback_goes_to_the_last_spec_that_was_rolled_out_and_a_number_of_replicas_survives_it() {
    let table: [(&[&str], &str); 19] = [
        (&[], "1 1 a after -, 3 wanted, no update"),
        // A label and a number of replicas change the spec, but nothing that tasks run.
        (&["label x"], "2 1 a after -, 3 wanted, no update"),
        (&["replicas 5"], "2 1 a after -, 5 wanted, no update"),
        (&["scale 5"], "2 1 a after -, 5 wanted, no update"),
        (&["login"], "2 1 a after -, 3 wanted, no update"),
        (&["image b"], "2 2 b after a, 3 wanted, Updating"),
        (&["image b", "count 3"], "2 2 b after a, 3 wanted, Updating"),
        (&["image b", "complete"], "2 2 b after a, 3 wanted, Completed"),
        // A spec that was never completed is no target of a rollback.
        (&["image b", "image c"], "3 3 c after a, 3 wanted, Updating"),
        (&["image b", "pause", "image c"], "4 4 c after a, 3 wanted, Updating"),
        (&["image b", "complete", "image c"], "4 4 c after b, 3 wanted, Updating"),
        // A change that does not affect tasks leaves an update unchanged, and drops a completed one.
        (&["image b", "pause", "label x"], "4 2 b after a, 3 wanted, Paused"),
        (&["image b", "complete", "label x"], "4 2 b after a, 3 wanted, no update"),
        // A rollback is never rolled back.
        (&["image b", "undo a"], "3 3 a after -, 3 wanted, RollingBack"),
        (&["image b", "undo a", "pause"], "3 3 a after -, 3 wanted, RollbackPaused"),
        (&["image b", "undo a", "complete"], "3 3 a after -, 3 wanted, RolledBack"),
        // A number of replicas that was set during an update survives a rollback.
        (&["image b", "scale 5"], "3 2 b after a with 5, 5 wanted, Updating"),
        (&["image b", "complete", "scale 5"], "4 2 b after a, 5 wanted, Completed"),
        (&["remove"], "gone"),
    ];
    for (words, expected) in table {
        let sample = Sample::after(words);
        assert_eq!(summary(&sample), expected, "{words:?}");
        assert_eq!(sample.faults(), [""; 0], "{words:?}");
    }
}

#[test]
fn a_spec_is_kept_as_long_as_a_task_runs_it_or_its_service_is_at_it() {
    let table: [(&[&str], &[u64]); 7] = [
        (&[], &[1]),
        (&["image b"], &[2]),
        (&["make 1", "image b"], &[1, 3]),
        (&["make 1", "image b", "take 1"], &[1, 3]),
        (&["make 1", "image b", "reap 1"], &[3]),
        (&["make 1", "remove"], &[1]),
        (&["make 1", "remove", "reap 1"], &[]),
    ];
    for (words, expected) in table {
        let sample = Sample::after(words);
        let kept: Vec<u64> = sample.cluster.revisions.iter().map(|((_, version), _)| version).collect();
        assert_eq!(kept, expected, "{words:?}");
    }
}

#[test]
fn a_service_is_found_by_its_name_without_regard_to_case_until_it_is_gone() {
    for (words, found) in [(&["label x"][..], true), (&["remove"], false)] {
        let sample = Sample::after(words);
        assert_eq!(
            sample.cluster.service_named("WEB").map(|service| service.id),
            found.then_some(SERVICE),
            "{words:?}"
        );
    }
}
