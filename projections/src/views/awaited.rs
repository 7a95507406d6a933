//! What a service or a task waits for, other than a node, and when that is expected, if the state determines it.

use std::time::Duration;

use events::{TaskState, Timestamp};

use super::overview::{Restarting, restarting, restarting_places};
use super::progress::is_current;
use crate::rollouts::watch;
use crate::{Cluster, Instance, Service, Step, Task};

/// A condition that a service or task waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// The condition, as text.
    pub what: String,
    /// When it is met, if that only depends on time.
    pub due: Option<Timestamp>,
}

/// What a service other than a job waits for. Visits each place that the current rollout took.
pub fn of_service(cluster: &Cluster, service: &Service, now: Timestamp) -> Vec<Awaited> {
    if service.spec.is_job() {
        return Vec::new();
    }
    let attempt = restarting_places(cluster, service, now).and_then(|known| next_attempt(&known, now));
    attempt.into_iter().chain(of_rollout(cluster, service, now)).collect()
}

/// What a task waits for, and what a rollout of its service that affects it waits for.
pub fn of_task(cluster: &Cluster, task: &Task, now: Timestamp) -> Vec<Awaited> {
    if !task.is_wanted() {
        return Vec::new();
    }
    let attempt = restarting(cluster, task, now).and_then(|known| next_attempt(&known, now));
    let service = cluster.services.get(task.service);
    let of_service = service.and_then(|service| match service.spec.is_job() {
        true => completion(task),
        false => share_in_rollout(cluster, service, task, now),
    });
    attempt.or_else(|| turn(cluster, task, now)).into_iter().chain(of_service).collect()
}

/// The end of the restart back-off.
fn next_attempt(known: &Restarting<'_>, now: Timestamp) -> Option<Awaited> {
    let due = known.next_attempt.filter(|at| now < *at)?;
    let which = if known.tasks > 1 { format!(" of the first of {} tasks", known.tasks) } else { String::new() };
    let last = if known.last_failure.is_empty() { String::new() } else { format!(": {}", known.last_failure) };
    Some(Awaited { what: format!("the next attempt{which}{last}"), due: Some(due) })
}

/// The precondition for a task to start on its node.
fn turn(cluster: &Cluster, task: &Task, now: Timestamp) -> Option<Awaited> {
    if task.desired != TaskState::Ready {
        return None;
    }
    let before = task.replaces.and_then(|id| cluster.tasks.get(id)).filter(|before| !before.state.is_terminal());
    match (before, task.start_after.filter(|at| now < *at)) {
        (Some(before), _) => Some(Awaited { what: format!("the end of task {}, which stops", before.id), due: None }),
        (None, Some(at)) => Some(Awaited { what: "its start".to_owned(), due: Some(at) }),
        (None, None) => None,
    }
}

/// The completion of a job's task.
fn completion(task: &Task) -> Option<Awaited> {
    let what = "its own end: a task of a job is done once it ends without an error".to_owned();
    (task.state == TaskState::Running).then_some(Awaited { what, due: None })
}

/// What a rollout waits for that has yet to replace the task, or created it.
fn share_in_rollout(cluster: &Cluster, service: &Service, task: &Task, now: Timestamp) -> Option<Awaited> {
    let awaited = of_rollout(cluster, service, now)?;
    if !is_current(cluster, service, task.spec_version) {
        return Some(Awaited { what: format!("its replacement; before that, {}", awaited.what), ..awaited });
    }
    let step = cluster.rollout_step(service.id, task.instance());
    step.is_some_and(|step| step.task == task.id).then_some(awaited)
}

/// What the rollout of a service waits for, if one is in progress or paused.
fn of_rollout(cluster: &Cluster, service: &Service, now: Timestamp) -> Option<Awaited> {
    let update = service.update.as_ref()?;
    let what = if update.state.is_rollback() { "rollback" } else { "update" };
    if service.is_paused() {
        let name = service.spec.name();
        let undo = if update.state.is_rollback() { "" } else { &format!(", `service rollback {name}` undoes it") };
        let what =
            format!("a decision about the {what} ({}): `service resume {name}` continues it{undo}", update.message);
        return Some(Awaited { what, due: None });
    }
    let tally = cluster.rollout_tallies.get(service.id).filter(|_| service.is_rolling())?;
    let rollout = service.rollout();
    let all = (service.id, Instance::FIRST)..;
    let steps = cluster.rollout_steps.range(all).take_while(|((of, _), _)| *of == service.id).map(|(_, step)| step);
    let own: Vec<&Step> = steps.filter(|step| step.rollout == service.template_version).collect();
    let unsettled = own.iter().filter(|step| step.settled_at.is_none());
    let on_their_way: Vec<&Task> =
        unsettled.filter_map(|step| cluster.tasks.get(step.task)).filter(|task| task.is_live()).collect();
    if let Some(created) = on_their_way.iter().map(|task| task.created_at).min() {
        let tasks = if on_their_way.len() == 1 { "1 task" } else { &format!("{} tasks", on_their_way.len()) };
        let running = format!("{tasks} of the {what} to run");
        return Some(match rollout.progress_deadline {
            Duration::ZERO => Awaited { what: running, due: None },
            deadline => Awaited {
                what: format!("{running}, or the progress deadline of the first"),
                due: Some(created + deadline),
            },
        });
    }
    let ends = own.iter().filter_map(|step| step.settled_at).map(|settled| settled + rollout.delay);
    let next = ends.filter(|end| now < *end).min().filter(|_| tally.slots.is_none_or(|slots| tally.taken < slots));
    let watched_until = tally.last_step_at.map(|last| last + watch(&rollout)).filter(|until| now < *until);
    Some(match (next, watched_until) {
        (Some(end), _) => Awaited { what: format!("the end of the delay of the {what}"), due: Some(end) },
        (None, Some(until)) => {
            Awaited { what: format!("the end of the {what}, while its last tasks are monitored"), due: Some(until) }
        }
        (None, None) => Awaited { what: format!("the next step of the {what}"), due: None },
    })
}

#[cfg(test)]
mod tests {
    use events::UpdateConfig;

    use super::*;
    use crate::samples::{Sample, at};

    /// An update policy, the events, the time, and what the service and the task in slot 2 wait for.
    type Case<'a> = (Option<UpdateConfig>, &'a [&'a str], u64, &'a [&'a str], &'a [&'a str]);

    /// What the service and the newest task of slot 2 wait for after these steps, at this second.
    fn waits_after(words: &[&str], now: u64, config: Option<UpdateConfig>) -> (Vec<String>, Vec<String>) {
        let mut sample = Sample::after(&["make 1", "run 1", "make 2", "run 2"]);
        if let Some(config) = config {
            sample.configure(config);
        }
        words.iter().for_each(|words| sample.apply_words(words));
        let service = sample.service().expect("the service is there");
        let task = sample.newest(2).expect("a task is there");
        let show = |all: Vec<Awaited>| -> Vec<String> {
            let due = |of: &Awaited| of.due.map_or_else(String::new, |due| format!(" +{}", due.since(at(0)).as_secs()));
            all.iter().map(|of| format!("{}{}", of.what, due(of))).collect()
        };
        (show(of_service(&sample.cluster, service, at(now))), show(of_task(&sample.cluster, task, at(now))))
    }

    #[test]
    fn what_is_awaited_is_said_and_when_it_comes() {
        let delayed = UpdateConfig { delay_ns: 30_000_000_000, ..UpdateConfig::default() };
        let bounded = UpdateConfig { progress_deadline_ns: Some(60_000_000_000), ..UpdateConfig::default() };
        const DECISION: &str =
            "a decision about the update (why): `service resume web` continues it, `service rollback web` undoes it";
        const WATCHED: &str = "the end of the update, while its last tasks are monitored +5";
        let table: [Case<'_>; 8] = [
            (None, &[], 0, &[], &[]),
            (
                None,
                &["image b"],
                0,
                &["the next step of the update"],
                &["its replacement; before that, the next step of the update"],
            ),
            (
                None,
                &["image b", "count 2", "take 1"],
                0,
                &["1 task of the update to run"],
                &["its replacement; before that, 1 task of the update to run"],
            ),
            (
                Some(bounded),
                &["image b", "count 2", "take 1"],
                0,
                &["1 task of the update to run, or the progress deadline of the first +60"],
                &[
                    "its replacement; before that, 1 task of the update to run, or the progress deadline of the first +60",
                ],
            ),
            (
                Some(delayed),
                &["image b", "count 2", "take 1", "run 1"],
                1,
                &["the end of the delay of the update +30"],
                &["its replacement; before that, the end of the delay of the update +30"],
            ),
            (None, &["image b", "count 2", "take 1", "run 1", "take 2", "run 2"], 1, &[WATCHED], &[WATCHED]),
            (
                None,
                &["image b", "count 2", "take 1", "pause"],
                1,
                &[DECISION],
                &[&format!("its replacement; before that, {DECISION}")],
            ),
            (None, &["image b", "count 2", "take 1", "run 1", "take 2", "run 2", "complete"], 9, &[], &[]),
        ];
        for (config, words, now, service, task) in table {
            let (of_service, of_task) = waits_after(words, now, config);
            assert_eq!((of_service, of_task), (owned(service), owned(task)), "{words:?}");
        }
    }

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}
