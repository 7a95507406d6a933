//! The progress of a service, for clients that wait for it: counts, and the tasks that explain problems. The cost of neither
//! grows with the number of tasks.

use std::collections::BTreeSet;

use events::{TaskId, TaskState};

use crate::tasks::End;
use crate::{Cluster, Instance, Service, Task};

/// Number of places of a service up to which all are listed. For more, this many of each kind of problem are.
pub const PLACES_MAX: usize = 100;
/// Places that are visited for each kind of problem.
const LOOKED_AT_MAX: usize = 1_000;
/// Tasks of a place that are listed, the newest ones: the current attempt, and why earlier ones failed.
const TASKS_OF_PLACE_MAX: usize = 5;

/// How many tasks and places of a service have reached the desired state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tasks that are wanted and have not ended.
    pub live: u64,
    /// Those of them that run, or will run, the current spec.
    pub current: u64,
    /// Those of these that are running.
    pub current_running: u64,
    /// Places whose task had such a spec, and ended without an error.
    pub current_finished: u64,
}

/// Whether tasks of a revision run the current spec of their service. The version alone does not show that: an update and its
/// rollback may end where they started.
pub fn is_current(cluster: &Cluster, service: &Service, version: u64) -> bool {
    version == service.template_version
        || cluster.revisions.get((service.id, version)).is_some_and(|revision| {
            revision.spec.task == service.spec.task && revision.spec.endpoint == service.spec.endpoint
        })
}

/// How many tasks and places of a service have reached the desired state.
pub fn progress(cluster: &Cluster, service: &Service) -> Progress {
    let mut progress = Progress::default();
    for (version, counts) in cluster.tasks_by_revision().of_service(service.id) {
        progress.live += counts.live;
        if is_current(cluster, service, version) {
            progress.current += counts.live;
            progress.current_running += counts.running;
            progress.current_finished += cluster.places().ended_at(service.id, version, End::Finished);
        }
    }
    progress
}

/// The tasks to report to a client that waits for a service: for a small one the newest of each place, for a large one those of
/// places with problems or in progress.
pub fn watched<'a>(cluster: &'a Cluster, service: &Service) -> Vec<&'a Task> {
    let first: Vec<Instance> = cluster.places_of_service(service.id).take(LOOKED_AT_MAX).collect();
    let places: BTreeSet<Instance> =
        if first.len() <= PLACES_MAX { first.into_iter().collect() } else { troubled(cluster, service, &first) };
    places.into_iter().flat_map(|place| newest(cluster, service, place)).collect()
}

fn newest<'a>(cluster: &'a Cluster, service: &Service, place: Instance) -> Vec<&'a Task> {
    let mut tasks: Vec<&Task> = cluster.tasks_of_instance(service.id, place).collect();
    tasks.sort_by_key(|task| std::cmp::Reverse((task.created_index, task.id)));
    tasks.truncate(TASKS_OF_PLACE_MAX);
    tasks
}

/// Places of a large service with problems or in progress, as far as a bounded search finds them; `first` are the first of all.
fn troubled(cluster: &Cluster, service: &Service, first: &[Instance]) -> BTreeSet<Instance> {
    let is_few = cluster.tasks_by_revision().total(service.id).live <= PLACES_MAX as u64;
    let is_shown = |task: &Task| task.is_live() && (is_few || task.state != TaskState::Running);
    let on_their_way = |place: &Instance| cluster.tasks_of_instance(service.id, *place).any(is_shown);
    let mut places: BTreeSet<Instance> = first.iter().copied().filter(on_their_way).take(PLACES_MAX).collect();
    let restarted = cluster.restarted_places(service.id).take(LOOKED_AT_MAX);
    let restarted = restarted.filter(|(_, restarts)| restarts.in_a_row() > 0).map(|(place, _)| place);
    places.extend(restarted.take(PLACES_MAX));
    let unplaced = cluster.unplaced();
    let unplaced = unplaced.tried_groups_of(service.id).flat_map(|group| unplaced.tasks_of(group, true));
    places.extend(unplaced.map(|(place, _)| place).take(PLACES_MAX));
    let ended =
        |place: &Instance| cluster.tasks_of_instance(service.id, *place).any(|task| task.desired != TaskState::Remove);
    let idle = cluster.places().idle_from(service.id, Instance::FIRST).take(LOOKED_AT_MAX);
    places.extend(idle.filter(ended).take(PLACES_MAX));
    places.extend(failed_place(cluster, service));
    places
}

/// The place of the task that made an update stop: the update's message names it.
fn failed_place(cluster: &Cluster, service: &Service) -> Option<Instance> {
    let message = &service.update.as_ref()?.message;
    let mut named = message.split(' ').filter_map(|word| word.parse::<TaskId>().ok());
    named.find_map(|task| cluster.tasks.get(task)).map(Task::instance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Sample;

    fn progress_after(words: &[&str]) -> (Progress, usize) {
        let sample = Sample::after(words);
        let service = sample.service().expect("the service is there");
        (progress(&sample.cluster, service), watched(&sample.cluster, service).len())
    }

    #[test]
    fn what_runs_what_the_service_asks_for_is_counted() {
        let counts = |live, current, current_running, current_finished| Progress {
            live,
            current,
            current_running,
            current_finished,
        };
        let table: [(&[&str], Progress); 8] = [
            (&[], counts(0, 0, 0, 0)),
            (&["make 1", "make 2", "run 1"], counts(2, 2, 1, 0)),
            (&["make 1", "run 1", "fail 1"], counts(0, 0, 0, 0)),
            (&["make 1", "run 1", "image b"], counts(1, 0, 0, 0)),
            (&["make 1", "run 1", "image b", "take 2", "run 2"], counts(2, 1, 1, 0)),
            // An update and its rollback may end where they started.
            (&["make 1", "run 1", "image b", "undo a"], counts(1, 1, 1, 0)),
            (&["make 1", "exit 1", "stop 1"], counts(0, 0, 0, 1)),
            (&["make 1", "exit 1", "stop 1", "image b"], counts(0, 0, 0, 0)),
        ];
        for (words, expected) in table {
            assert_eq!(progress_after(words).0, expected, "{words:?}");
        }
    }

    /// How many tasks are listed for this many places, with the same events in each.
    fn large(places: u64, words: &[&str], last: &[&str]) -> usize {
        let in_place = |place: u64| words.iter().map(move |word| format!("{word} {place}"));
        let all: Vec<String> =
            (1..=places).flat_map(in_place).chain(last.iter().map(|word| (*word).to_owned())).collect();
        progress_after(&all.iter().map(String::as_str).collect::<Vec<_>>()).1
    }

    #[test]
    fn for_a_large_service_a_bounded_number_of_tasks_is_listed_including_failing_ones() {
        // The events in each place, the events after them, and how many tasks are listed of 50 and of 300 places.
        let table: [(&[&str], &[&str], usize, usize); 6] = [
            (&["make", "run"], &[], 50, 0),
            (&["make"], &[], 50, PLACES_MAX),
            (&["make", "run"], &["fail 30", "restart 30"], 51, 2),
            (&["make", "fail", "restart"], &[], 100, 2 * PLACES_MAX),
            (&["make", "fail", "stop"], &[], 50, PLACES_MAX),
            (
                &[
                    "make", "fail", "restart", "fail", "restart", "fail", "restart", "fail", "restart", "fail",
                    "restart",
                ],
                &[],
                250,
                5 * PLACES_MAX,
            ),
        ];
        for (words, last, few, many) in table {
            assert_eq!((large(50, words, last), large(300, words, last)), (few, many), "{words:?}, then {last:?}");
        }
    }
}
