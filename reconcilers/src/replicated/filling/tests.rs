//! How many places a turn visits for a service with more or fewer than it needs.

use events::{
    ClusterId, DesiredCause, Id, IdGenerator, Kind, NodeId, NodeSpec, ServiceScaled, TaskAssigned, TaskCreated,
    TaskDesiredStateSet, TaskId, TaskReaped, TaskReported, TaskState, TaskStatus,
};

use super::*;
use crate::replicated::reconcile;
use crate::samples::{Sample, at, replicated, service};
use crate::{Budget, Candidates, Correction, Ctx, Presence, Scope};

/// A budget so small that many turns are needed.
const LITTLE: Budget = Budget { events: 50, bytes: 1_000 };

/// A service, and its cache between turns.
struct World {
    sample: Sample,
    candidates: Candidates,
    ids: IdGenerator,
}

impl World {
    /// This many replicas on ten nodes, whose tasks are running or ended permanently.
    fn new(replicas: u64, state: TaskState) -> Self {
        let nodes = (1..=10).fold(Sample::default(), |sample, node| sample.with_node(node, NodeSpec::default()));
        let policy = events::RestartPolicy {
            condition: Some(events::RestartCondition::None.into()),
            ..events::RestartPolicy::default()
        };
        let mut sample = nodes.with_policy(policy).with_service(replicated(replicas), &[]);
        let spec_version = sample.cluster.services.get(service()).map_or(0, |service| service.template_version);
        for slot in 1..=replicas {
            let (task, node) = (TaskId::from_bits(slot.into()), NodeId::from_bits(u128::from(slot % 10) + 1));
            let (service, desired) = (service(), TaskState::Running.into());
            sample.apply(
                0,
                Kind::TaskCreated(TaskCreated { task, service, spec_version, slot, desired, ..Default::default() }),
            );
            sample.apply(0, Kind::TaskAssigned(TaskAssigned { task, node, claims: Vec::new() }));
            let status = TaskStatus { state: state.into(), ..TaskStatus::default() };
            sample.apply(0, Kind::TaskReported(TaskReported { task, status }));
        }
        if state.is_terminal() {
            let (tasks, desired) = ((1..=replicas).map(|task| TaskId::from_bits(task.into())), TaskState::Shutdown);
            let (tasks, cause) = (tasks.collect(), DesiredCause::Restart.into());
            sample.apply(0, Kind::TaskDesiredStateSet(TaskDesiredStateSet { tasks, desired: desired.into(), cause }));
        }
        Self { sample, candidates: Candidates::default(), ids: IdGenerator::new(ClusterId::from_bits(1), 1_000) }
    }

    /// Scales the service, and takes turns until nothing is left; returns the places visited in each turn.
    fn scale(&mut self, to: u64) -> Vec<usize> {
        self.sample.apply(1, Kind::ServiceScaled(ServiceScaled { service: service(), from: 0, to, reason: None }));
        let mut turns = vec![self.turn()];
        while turns.last().is_some_and(|(_, events)| *events > 0) {
            turns.push(self.turn());
        }
        turns.into_iter().map(|(places, _)| places).collect()
    }

    /// One pass over the service; returns the places that it visited, and the number of its events.
    fn turn(&mut self) -> (usize, usize) {
        let scope = Scope { services: [service()].into(), ..Scope::default() };
        let (ids, candidates, presence) = (&mut self.ids, &mut self.candidates, Presence::new());
        let mut ctx = Ctx {
            now: at(1),
            ids,
            presence: &presence,
            peers: &crate::Peers::default(),
            uses: &crate::Uses::new(),
            candidates,
        };
        let mut out = Correction::with_room(LITTLE);
        reconcile(&self.sample.cluster, &scope, &mut ctx, &mut out);
        let events = out.events.len();
        out.events.into_iter().for_each(|kind| self.sample.apply(1, kind));
        (out.places, events)
    }

    fn wanted(&self) -> u64 {
        self.sample.cluster.places().wanted(service())
    }
}

#[test]
fn a_scale_down_looks_once_at_every_place_and_then_at_those_that_it_gave_up() {
    for replicas in [500, 2_000] {
        let mut world = World::new(replicas, TaskState::Running);
        let turns = world.scale(10);
        let (first, later) = turns.split_first().expect("a turn at least");
        assert_eq!(*first as u64, replicas, "{replicas} replicas");
        assert!(later.len() > 9 && later.iter().all(|places| *places <= 60), "{replicas} replicas: {later:?}");
        assert_eq!(world.wanted(), 10);
    }
}

#[test]
fn what_fills_gaps_looks_at_what_is_near_them() {
    for replicas in [500, 2_000] {
        let mut world = World::new(replicas, TaskState::Running);
        // Every third slot becomes free.
        let gaps = (1..=replicas).filter(|slot| slot % 3 == 0).map(|slot| TaskId::from_bits(slot.into()));
        let tasks: Vec<TaskId> = gaps.collect();
        world.sample.apply(1, Kind::TaskReaped(TaskReaped { tasks }));
        let turns = world.scale(replicas);
        assert!(turns.len() > 9 && turns.iter().all(|places| *places <= 150), "{replicas} replicas: {turns:?}");
        assert_eq!(world.wanted(), replicas);
        assert_eq!(world.sample.cluster.last_place_of_service(service()), Some(Instance::Slot(replicas)));
    }
}

#[test]
fn places_that_ended_for_good_are_looked_at_once_while_others_are_made() {
    for ended in [500, 2_000] {
        let mut world = World::new(ended, TaskState::Complete);
        let turns = world.scale(ended + 500);
        let (first, later) = turns.split_first().expect("a turn at least");
        assert_eq!(*first as u64, ended);
        assert!(later.len() > 9 && later.iter().all(|places| *places <= 60), "{ended} places: {later:?}");
        assert_eq!(world.wanted(), 500);
    }
}

#[test]
fn nothing_is_given_up_before_all_places_are_known() {
    let mut world = World::new(NEW_PLACES_MAX as u64 + 10, TaskState::Running);
    let (kind, to) = (Kind::ServiceScaled, NEW_PLACES_MAX as u64);
    world.sample.apply(1, kind(ServiceScaled { service: service(), from: 0, to, reason: None }));
    assert_eq!(world.turn(), (NEW_PLACES_MAX, 0));
    assert_eq!(world.turn(), (10, 1));
    assert_eq!(world.wanted(), to);
}
