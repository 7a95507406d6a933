//! Properties of services with rebalancing: each move makes the spread more even, the number of concurrent moves is limited, and
//! moves come to an end.

use events::{ServiceRebalanced, TaskCause};
use projections::{Service, Task};

use super::*;

/// Time limit for a service to settle, and the size of a step.
const REST_STEPS: usize = 60;
const REST_STEP: Duration = Duration::from_secs(10);

/// Checks a move, in the state before it.
pub(super) fn judge_move(cluster: &Cluster, event: &ServiceRebalanced, at: Stamp) {
    let service = cluster.services.get(event.service).expect("a service that is there");
    let rule = service.spec.rebalancing().expect("a service that rebalances");
    assert!(!service.is_rolling() && !service.is_paused(), "moved while an update is open");
    let last = service.rebalanced.as_ref().map(|last| last.at);
    assert!(last.is_none_or(|last| at.time == last || at.time >= last + rule.every), "moved too soon");
    let tasks = |node| cluster.usage.active_on(service.id, node);
    let in_zone = |node| {
        let zone = |id| cluster.nodes.get(id).map(|node| node.facts().node_labels.cloned());
        let nodes = cluster.nodes.iter().map(|(id, _)| id).filter(|id| zone(*id) == zone(node));
        nodes.map(tasks).sum::<u64>()
    };
    let (from, to) = (event.from, event.to);
    let over_zones = !service.spec.template().placement().preferences.is_empty();
    let zones = if over_zones && in_zone(from) != in_zone(to) { (in_zone(from), in_zone(to)) } else { (0, 0) };
    // Moves of the same step are counted.
    let is_better = if zones == (0, 0) { tasks(from) > tasks(to) + 1 } else { zones.0 > zones.1 + 1 };
    assert!(is_better, "{} to {}, {zones:?}: {}", tasks(from), tasks(to), event.reason);
    let replicas = service.spec.replicas().expect("only replicas are moved");
    assert!(missing(cluster, service) < rule.max_tasks, "more at once than {}", rule.max_tasks);
    let moves = cluster.tasks_of_service(service.id).filter(|task| goes_on(task));
    assert!((moves.count() as u64) < rule.max_tasks);
    let served = places(cluster, service, serves);
    assert!(served + rule.max_tasks > replicas, "{served} of {replicas} served before a move");
}

/// With start-first, a moving task stops only when another one serves in its slot.
pub(super) fn judge_stop(cluster: &Cluster, stopped: &[TaskId]) {
    for task in stopped.iter().filter_map(|task| cluster.tasks.get(*task)) {
        let Some(service) = cluster.services.get(task.service) else { continue };
        let others = || cluster.tasks_of_instance(task.service, task.instance()).filter(|other| other.id != task.id);
        let is_start_first = others().any(|other| other.replaces == Some(task.id) && other.start_after.is_none());
        let is_served = others().any(serves);
        assert!(!is_start_first || is_served, "{task:?} of {} stops before another serves", service.spec.name());
    }
}

fn serves(task: &Task) -> bool {
    task.is_live() && task.state == TaskState::Running
}

/// A task that is moving and does not run yet.
fn goes_on(task: &Task) -> bool {
    task.cause == TaskCause::Rebalanced && task.is_live() && !serves(task)
}

fn places(cluster: &Cluster, service: &Service, is_such: impl Fn(&Task) -> bool) -> u64 {
    let mut places = cluster.places_of_service(service.id).collect::<Vec<_>>();
    places.retain(|place| cluster.tasks_of_instance(service.id, *place).any(&is_such));
    places.len() as u64
}

/// The number of slots without a serving task.
fn missing(cluster: &Cluster, service: &Service) -> u64 {
    let served = places(cluster, service, serves);
    service.spec.replicas().unwrap_or(0).saturating_sub(served)
}

/// One random event about the nodes.
#[derive(Debug, Clone)]
enum Act {
    Join { memory: u8, zone: u8 },
    FallSilent(usize),
    Return(usize),
    Set(usize, Availability),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let availability =
        prop_oneof![3 => Just(Availability::Active), 1 => Just(Availability::Pause), 1 => Just(Availability::Drain)];
    prop_oneof![
        2 => (1..6_u8, 0..2_u8).prop_map(|(memory, zone)| Act::Join { memory, zone }),
        1 => any::<usize>().prop_map(Act::FallSilent),
        2 => any::<usize>().prop_map(Act::Return),
        1 => (any::<usize>(), availability).prop_map(|(node, availability)| Act::Set(node, availability)),
        4 => (1..20_u64).prop_map(Act::Pass),
    ]
}

impl Core {
    /// Lets agents act for this many seconds, and checks throughout that no more slots than allowed are without a serving task.
    fn watch(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(Duration::from_secs(1));
        }
    }

    /// The number of tasks on each active node, and in each zone.
    fn spread(&self, service: &Service) -> (Vec<u64>, Vec<u64>) {
        let nodes: Vec<_> = self.cluster.nodes.values().filter(|node| node.takes_tasks()).collect();
        let tasks = |id| self.cluster.usage.active_on(service.id, id);
        let mut zones: BTreeMap<String, u64> = BTreeMap::new();
        for node in &nodes {
            let zone = node.facts().node_labels.and_then(|labels| labels.get("zone")).cloned().unwrap_or_default();
            *zones.entry(zone).or_default() += tasks(node.id);
        }
        (nodes.iter().map(|node| tasks(node.id)).collect(), zones.into_values().collect())
    }
}

fn is_even(numbers: &[u64]) -> bool {
    let least = numbers.iter().min().copied().unwrap_or(0);
    numbers.iter().all(|number| *number <= least + 1)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn moves_come_to_an_end_and_leave_an_even_spread(
        room in room(),
        shape in shape(),
        replicas in 0..9_u64,
        rule in (1..4_u64, 1..40_u64),
        acts in prop::collection::vec(act(), 1..12),
    ) {
        let mut core = Core::new(room);
        for _ in 0..2 {
            core.take(&Step::Join { memory: 4, zone: 0 });
        }
        // The placement depends on the nodes only, and tasks fit everywhere.
        let shape = Shape {
            replicas: Some(replicas), image: 0, memory: 0, zone: None, job: None, port: None, max_replicas: 0,
            condition: RestartCondition::Any, attempts: 0, rebalance: Some(rule), ..shape
        };
        let spec = Box::new(shape.spec("service"));
        core.operator(&Command::CreateService(commands::CreateService { spec, secrets: ServiceSecrets::default() }));
        for act in &acts {
            match act {
                Act::Join { memory, zone } => core.take(&Step::Join { memory: *memory, zone: *zone }),
                Act::FallSilent(node) => core.take(&Step::FallSilent(*node)),
                Act::Return(node) => core.take(&Step::Return(*node)),
                Act::Set(node, availability) => core.take(&Step::SetNode { node: *node, availability: *availability, zone: 0, deadline_secs: None }),
                Act::Pass(seconds) => core.watch(*seconds),
            }
        }
        for node in 0..core.cluster.nodes.len() {
            core.take(&Step::SetNode { node, availability: Availability::Active, zone: u8::from(node.is_multiple_of(2)), deadline_secs: None });
            core.take(&Step::Return(node));
        }
        (0..REST_STEPS).for_each(|_| core.pass(REST_STEP));
        let service = core.cluster.services.values().next().expect("the service").clone();
        let (nodes, zones) = core.spread(&service);
        prop_assert_eq!(nodes.iter().sum::<u64>(), replicas);
        if shape.over_zones {
            prop_assert!(is_even(&zones), "{:?}", zones);
        } else {
            prop_assert!(is_even(&nodes), "{:?}", nodes);
        }
        core.expect_repeatable();
    }
}
