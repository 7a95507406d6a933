//! Copies of small clusters.

use events::service_spec::Mode;
use events::{
    Availability, ClusterInitialised, ClusterSpec, ClusterSpecUpdated, ConfigCreated, ConfigId, ConfigRemoved, Id,
    LeadershipAssumed, NodeDescribed, NodeDescription, NodeJoined, NodeSpec, PlacementStrategy, ReplicatedJobMode,
    ReplicatedMode, ServiceSpec, SessionId, UpdateConfig,
};

use super::*;

fn operator() -> Actor {
    Actor::Operator("root".to_owned())
}

/// A cluster with this many ready nodes.
fn cluster(nodes: u128) -> Cluster {
    let mut cluster = Cluster::default();
    let mut kinds = vec![Kind::ClusterInitialised(ClusterInitialised {
        spec: ClusterSpec::default(),
        ..ClusterInitialised::default()
    })];
    for number in 1..=nodes {
        let (node, session) = (NodeId::from_bits(number), SessionId::from_bits(number));
        let hostname = format!("n{number}");
        let resources = Some(events::Resources { nano_cpus: 4_000_000_000, ..events::Resources::default() });
        let description = NodeDescription { hostname: hostname.clone(), resources, ..NodeDescription::default() };
        kinds.push(Kind::NodeJoined(NodeJoined { node, hostname, ..NodeJoined::default() }));
        kinds.push(Kind::NodeDescribed(Box::new(NodeDescribed { node, description })));
        kinds.push(Kind::NodeRegistered(NodeRegistered { node, session, ..NodeRegistered::default() }));
    }
    let at = Stamp { index: 1, time: Timestamp::default() };
    for kind in kinds {
        cluster.apply(&Event::by_command(0, kind), &at);
    }
    let header = FrameHeader { index: 1, log_time: at.time, ..FrameHeader::default() };
    cluster.conclude(&Frame { header, commands: Vec::new(), events: Vec::new() }, &at);
    cluster
}

fn spec(name: &str, mode: Mode) -> ServiceSpec {
    let mut spec = ServiceSpec { mode: Some(mode), ..ServiceSpec::default() };
    spec.annotations.get_or_insert_default().name = name.to_owned();
    spec.task.get_or_insert_default().container.get_or_insert_default().image = "x".to_owned();
    spec
}

fn create(spec: ServiceSpec) -> Command {
    Command::CreateService(commands::CreateService { spec: Box::new(spec), secrets: Default::default() })
}

/// A copy with a service of this many running tasks.
fn with_web(nodes: u128, replicas: u64) -> Sandbox {
    let mut sandbox = Sandbox::of(cluster(nodes), Timestamp::default(), BTreeSet::new());
    let web = spec("web", Mode::Replicated(ReplicatedMode { replicas }));
    sandbox.judge(&operator(), &create(web)).expect("a service");
    assert_eq!(sandbox.run_until_settled(&|| false), Ending::Settled);
    sandbox
}

fn again(sandbox: &Sandbox) -> Sandbox {
    Sandbox::of(sandbox.cluster().clone(), sandbox.cluster().position.time, BTreeSet::new())
}

/// The changes of tasks, a word each.
fn words(before: &Sandbox, after: &Sandbox) -> Vec<String> {
    let node = |id: Option<NodeId>| id.map_or("-".to_owned(), |id| format!("n{}", id.bits()));
    let difference = Difference::between(before.cluster(), after.cluster(), after.began());
    let word = |change: &TaskChange| {
        let (slot, seconds) = (change.place.1.slot().unwrap_or_default(), change.after.as_secs());
        format!("{:?} {}.{slot} {}>{} +{seconds}", change.action, change.service, node(change.from), node(change.to))
    };
    difference.tasks.iter().map(word).collect()
}

fn running(sandbox: &Sandbox) -> usize {
    sandbox.cluster().tasks.values().filter(|task| task.is_live() && task.state == TaskState::Running).count()
}

#[test]
fn tasks_of_a_new_service_are_placed_and_run() {
    let before = Sandbox::of(cluster(2), Timestamp::default(), BTreeSet::new());
    let after = with_web(2, 3);
    assert_eq!(running(&after), 3);
    let started = words(&before, &after);
    assert!(started.iter().all(|word| word.starts_with("Start web.") && word.ends_with("+0")), "{started:?}");
    assert_eq!(started.len(), 3, "{started:?}");
    assert!(after.elapsed() > Duration::ZERO, "starting takes time");
}

#[test]
fn a_rollout_takes_its_steps_and_its_delay() {
    let before = with_web(2, 2);
    let mut after = again(&before);
    let service = after.cluster().services.values().next().expect("web").clone();
    let mut spec = (*service.spec).clone();
    spec.task.get_or_insert_default().force_update = 1;
    spec.update = Some(UpdateConfig { parallelism: Some(1), delay_ns: 10_000_000_000, ..UpdateConfig::default() });
    let update = commands::UpdateService {
        service: service.id,
        spec: Box::new(spec),
        version: Some(service.version),
        secrets: Default::default(),
    };
    after.judge(&operator(), &Command::UpdateService(update)).expect("an update");
    assert_eq!(after.run_until_settled(&|| false), Ending::Settled);
    let replaced = words(&before, &after);
    assert!(replaced.iter().all(|word| word.starts_with("Replace web.")), "{replaced:?}");
    let waits = Difference::between(before.cluster(), after.cluster(), after.began());
    let [first, second] = &waits.tasks[..] else { panic!("two tasks, not {replaced:?}") };
    assert!(second.after >= first.after + Duration::from_secs(10), "{replaced:?}");
    assert_eq!(running(&after), 2);
}

#[test]
fn tasks_move_off_a_node_that_is_drained_or_lost() {
    let before = with_web(3, 3);
    let node = before.cluster().tasks.values().find_map(|task| task.node).expect("a node with a task");
    let mut drained = again(&before);
    let spec = NodeSpec { availability: Availability::Drain.into(), ..NodeSpec::default() };
    let drain = commands::UpdateNode { node, spec, version: None };
    drained.judge(&operator(), &Command::UpdateNode(drain)).expect("a drain");
    let mut lost = again(&before);
    let down = events::NodeDeclaredDown { node, ..events::NodeDeclaredDown::default() };
    lost.apply(vec![Kind::NodeDeclaredDown(down)]);
    for mut after in [drained, lost] {
        assert_eq!(after.run_until_settled(&|| false), Ending::Settled);
        let moved = words(&before, &after);
        assert!(moved.len() == 1 && moved[0].starts_with("Move web."), "{moved:?}");
        assert_eq!(running(&after), 3);
    }
}

#[test]
fn a_job_runs_to_its_end() {
    let before = Sandbox::of(cluster(1), Timestamp::default(), BTreeSet::new());
    let mut after = before.clone();
    let job = Mode::ReplicatedJob(ReplicatedJobMode { max_concurrent: 1, total_completions: 2 });
    after.judge(&operator(), &create(spec("job", job))).expect("a job");
    assert_eq!(after.run_until_settled(&|| false), Ending::Settled);
    let ran = words(&before, &after);
    assert!(ran.len() == 2 && ran.iter().all(|word| word.starts_with("Start job.")), "{ran:?}");
}

#[test]
fn changes_in_progress_continue_and_are_not_attributed_to_a_command() {
    let mut busy = Sandbox::of(cluster(2), Timestamp::default(), BTreeSet::new());
    busy.judge(&operator(), &create(spec("web", Mode::Replicated(ReplicatedMode { replicas: 2 })))).expect("a service");
    // Its tasks have not started yet.
    let before = again(&busy);
    let (mut without, mut with) = (before.clone(), before.clone());
    assert_eq!(without.run_until_settled(&|| false), Ending::Settled);
    assert_eq!(running(&without), 2);
    with.judge(&operator(), &create(spec("db", Mode::Replicated(ReplicatedMode { replicas: 1 })))).expect("another");
    assert_eq!(with.run_until_settled(&|| false), Ending::Settled);
    let between = |after: &Sandbox| Difference::between(before.cluster(), after.cluster(), before.began());
    let difference = between(&with).without(&between(&without));
    let services: Vec<&str> = difference.tasks.iter().map(|change| change.service.as_str()).collect();
    assert_eq!(services, ["db"]);
}

#[test]
fn who_does_not_wait_ends_it_and_a_refusal_is_the_managers() {
    let mut sandbox = with_web(1, 1);
    assert_eq!(sandbox.run_until_settled(&|| true), Ending::Stopped);
    let taken = create(spec("web", Mode::Replicated(ReplicatedMode { replicas: 1 })));
    let refused = sandbox.judge(&operator(), &taken).expect_err("the name is taken");
    assert_eq!(refused.kind, commands::RejectionKind::Exists);
}

/// A copy of the same state an hour later, in which nothing else happened.
fn later(sandbox: &Sandbox) -> Sandbox {
    Sandbox::of(sandbox.cluster().clone(), sandbox.now + Duration::from_secs(3600), BTreeSet::new())
}

fn settings() -> Kind {
    Kind::ClusterSpecUpdated(ClusterSpecUpdated { spec: ClusterSpec::default() })
}

#[test]
fn other_settings_lose_no_node() {
    let before = later(&with_web(3, 3));
    let mut after = before.clone();
    after.apply(vec![settings()]);
    assert_eq!(after.run_until_settled(&|| false), Ending::Settled);
    assert_eq!(words(&before, &after), [""; 0]);
}

#[test]
fn nodes_that_a_new_leader_has_not_heard_yet_come_back() {
    let mut unheard = with_web(3, 3);
    unheard.apply(vec![Kind::LeadershipAssumed(LeadershipAssumed::default())]);
    let liveness = |sandbox: &Sandbox| sandbox.cluster().nodes.values().map(|node| node.liveness).collect::<Vec<_>>();
    assert_eq!(liveness(&unheard), [Liveness::Unknown; 3]);
    let before = again(&unheard);
    assert_eq!(liveness(&before), [Liveness::Ready; 3]);
    let mut after = before.clone();
    after.judge(&operator(), &create(spec("db", Mode::Replicated(ReplicatedMode { replicas: 3 })))).expect("a service");
    assert_eq!(after.run_until_settled(&|| false), Ending::Settled);
    assert_eq!(running(&after), 6);
}

#[test]
fn a_rollout_that_takes_the_place_of_another_one_replaces_every_task() {
    let image = |sandbox: &mut Sandbox, image: &str| {
        let web = sandbox.cluster().services.values().next().expect("web").clone();
        let mut spec = (*web.spec).clone();
        spec.task.get_or_insert_default().container.get_or_insert_default().image = image.to_owned();
        let (service, spec) = (web.id, Box::new(spec));
        let update = commands::UpdateService { service, spec, version: None, secrets: Default::default() };
        sandbox.judge(&operator(), &Command::UpdateService(update)).expect("an update");
    };
    let mut busy = with_web(2, 4);
    image(&mut busy, "y");
    let before = again(&busy);
    let (mut without, mut with) = (before.clone(), before.clone());
    image(&mut with, "z");
    assert_eq!([without.run_until_settled(&|| false), with.run_until_settled(&|| false)], [Ending::Settled; 2]);
    let between = |after: &Sandbox| Difference::between(before.cluster(), after.cluster(), before.began());
    let mut places: Vec<u64> =
        between(&with).without(&between(&without)).tasks.iter().filter_map(|change| change.place.1.slot()).collect();
    places.sort_unstable();
    assert_eq!(places, [1, 2, 3, 4]);
    assert!(between(&with).without(&between(&with)).tasks.is_empty());
}

#[test]
fn a_replay_keeps_its_nodes_and_takes_names_that_were_given_again() {
    let config = |number: u128| {
        let mut spec = events::ConfigSpec::default();
        spec.annotations.get_or_insert_default().name = "motd".to_owned();
        Kind::ConfigCreated(ConfigCreated { config: ConfigId::from_bits(number), spec, data: b"hello".to_vec() })
    };
    let removed = |number: u128| Kind::ConfigRemoved(ConfigRemoved { config: ConfigId::from_bits(number) });
    let before = later(&with_web(3, 6));
    let policy = Policy { strategy: Some(PlacementStrategy::Binpack), without: BTreeSet::new() };
    for policy in [Policy::default(), policy] {
        let mut replay = Replay::of(before.clone(), policy);
        // One frame may hold several commands.
        let frames = [vec![config(1)], vec![settings()], vec![removed(1), config(2), removed(2)], vec![config(3)]];
        let mut time = before.began();
        for frame in frames {
            time = time + Duration::from_secs(60);
            let events: Vec<Event> = frame.into_iter().map(|kind| Event::by_command(0, kind)).collect();
            assert!(replay.frame(time, &events));
        }
        let figures = replay.figures();
        assert_eq!((figures.created, figures.waiting, figures.nodes_used), (0, 0, 3), "nothing moves: {figures:?}");
    }
}
