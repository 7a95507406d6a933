//! Properties of every job, derived from its tasks: no more tasks run than allowed, a completed one never runs again, and the job
//! ends.

use std::time::Duration;

use events::{GlobalJobMode, ReplicatedJobMode, TaskCause, TaskCreated};
use projections::Task;
use projections::tasks::End;

use super::rollouts::Act;
use super::*;

/// Time limit for a job to end, and the size of a step.
const END_STEPS: usize = 400;
const END_STEP: Duration = Duration::from_secs(5);

/// Checks a new task, before the event is applied.
pub(super) fn judge_task(cluster: &Cluster, event: &TaskCreated) {
    let service = cluster.services.get(event.service).expect("an event about a service that is there");
    if !service.spec.is_job() {
        return;
    }
    let of_run = |task: &&Task| task.spec_version == event.spec_version;
    let of_place = cluster.tasks_of_service(service.id).filter(of_run).filter(|task| match event.node {
        Some(node) => task.instance().node() == Some(node),
        None => task.instance().slot() == Some(event.slot),
    });
    for task in of_place.filter(|task| task.desired != TaskState::Remove) {
        assert!(task.state != TaskState::Complete, "{task:?} completed, and is made again");
    }
    let Some(wanted) = service.completions() else { return };
    assert!(event.slot < wanted.total, "slot {} of {wanted:?}", event.slot);
    if event.cause() == TaskCause::Scale {
        let live = cluster.tasks_of_service(service.id).filter(|task| task.is_live()).count() as u64;
        assert!(live < wanted.concurrent, "{live} tasks of {wanted:?} run, and another is made");
    }
}

/// In a finished job, every task completed or failed permanently.
fn expect_over(cluster: &Cluster) {
    for service in cluster.services.values() {
        let places = cluster.places();
        assert_eq!(places.wanted(service.id), 0, "{:?} is not over", service.spec.mode());
        let ended = places.ended(service.id, End::Finished) + places.ended(service.id, End::Failed);
        let total = service.completions().map_or(ended, |wanted| wanted.total);
        // A task without a restart policy that had to leave its node is finished as well.
        assert!(ended + places.ended(service.id, End::Stopped) >= total, "{ended} of {total} tasks are over");
    }
}

/// A step of the one job in a case. All images but two fail.
fn act() -> impl Strategy<Value = Act> {
    let availability =
        prop_oneof![3 => Just(Availability::Active), 1 => Just(Availability::Pause), 1 => Just(Availability::Drain)];
    prop_oneof![
        1 => frequent_job().prop_map(Act::Update),
        1 => (any::<usize>(), availability).prop_map(|(node, availability)| Act::SetNode(node, availability)),
        1 => prop::option::of(any::<usize>()).prop_map(Act::Back),
        4 => (0..12_u64).prop_map(Act::Pass),
    ]
}

fn job() -> impl Strategy<Value = Shape> {
    (shape(), 0..6_u8, 0..3_u64, 1..3_u64).prop_map(|(shape, image, concurrent, attempts)| Shape {
        image,
        job: Some(concurrent),
        attempts,
        memory: 0,
        zone: None,
        port: None,
        max_replicas: 0,
        ..shape
    })
}

/// A job whose schedule, if it has one, is due every minute.
fn frequent_job() -> impl Strategy<Value = Shape> {
    job().prop_map(|job| Shape { schedule: job.schedule.map(|(_, overlap)| ("* * * * *", overlap)), ..job })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_job_keeps_to_its_numbers_and_comes_to_an_end(
        room in room(),
        first in frequent_job(),
        acts in prop::collection::vec(act(), 1..20),
    ) {
        let mut core = Core::new(room);
        for _ in 0..3 {
            core.take(&Step::Join { memory: 4, zone: 0 });
        }
        core.operator(&Command::CreateService(commands::CreateService {
            spec: Box::new(first.spec("job")),
            secrets: ServiceSecrets::default(),
        }));
        for act in &acts {
            core.act(act);
        }
        let nodes = core.cluster.nodes.len();
        (0..nodes).for_each(|node| core.act(&Act::SetNode(node, Availability::Active)));
        core.end_schedule();
        for _ in 0..END_STEPS {
            if core.cluster.services.values().all(|service| core.cluster.places().wanted(service.id) == 0) {
                break;
            }
            core.pass(END_STEP);
        }
        expect_over(&core.cluster);
        core.expect_repeatable();
    }

    /// A task may complete after the order to leave its node: then its replacement is no longer needed.
    #[test]
    fn whatever_happens_to_a_job_nothing_runs_again_that_completed(
        room in room(),
        first in job(),
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let mut core = Core::new(room);
        core.take(&Step::Join { memory: 4, zone: 0 });
        core.take(&Step::Create(first));
        steps.iter().for_each(|step| core.take(step));
        core.expect_repeatable();
    }
}

impl Core {
    /// Removes the job's schedule; changes that were made meanwhile run now.
    fn end_schedule(&mut self) {
        let Some(service) = self.service(0) else { return };
        let spec = (*self.cluster.services.get(service).expect("the service").spec).clone();
        self.operator(&Command::UpdateService(commands::UpdateService {
            service,
            spec: Box::new(ServiceSpec { schedule: None, ..spec }),
            version: None,
            secrets: ServiceSecrets::default(),
        }));
    }
}

impl Shape {
    /// The mode, of a job or not.
    pub(super) fn mode(&self) -> Mode {
        match (self.job, self.replicas) {
            (None, Some(replicas)) => Mode::Replicated(ReplicatedMode { replicas }),
            (None, None) => Mode::Global(GlobalMode {}),
            (Some(max_concurrent), Some(total_completions)) => {
                Mode::ReplicatedJob(ReplicatedJobMode { max_concurrent, total_completions })
            }
            (Some(_), None) => Mode::GlobalJob(GlobalJobMode {}),
        }
    }
}
