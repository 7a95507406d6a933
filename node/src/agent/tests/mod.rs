//! Tests the agent against a simulated executor and a manager controlled by the test, on paused time.

mod manager;
mod simulated;
mod streams;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use events::*;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::v1::{
    Assignment, AssignmentSet, ConfigItem, EnvSecretValue, Head, RefusalKind, SecretItem, SpecItem, SpecKey, TaskItem,
};

use super::policy::Policy;
use super::{Agent, Config};
use manager::{CLUSTER, Manager};
use simulated::Simulated;

thread_local! {
    /// Removed at the end of the test's thread and so after its runtime: until then an agent may still be writing.
    static DIRS: RefCell<Vec<TempDir>> = const { RefCell::new(Vec::new()) };
}

/// One node, its manager and its engine.
struct Scene {
    manager: Manager,
    executor: Arc<Simulated>,
    dir: PathBuf,
    agent: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Scene {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().to_owned();
        DIRS.with_borrow_mut(|dirs| dirs.push(dir));
        let mut scene = Self {
            manager: Manager::start(),
            executor: Arc::new(Simulated::default()),
            dir: path,
            agent: tokio::spawn(async {}),
            shutdown: CancellationToken::new(),
        };
        scene.start_agent();
        scene
    }

    fn start_agent(&mut self) {
        let config = Config {
            cluster_info: Arc::default(),
            cluster: ClusterId::from_bits(CLUSTER),
            node: NodeId::from_bits(1),
            hostname: "worker-1".into(),
            advertise_addr: None,
            managers: vec!["manager".into()],
            state_dir: self.dir.clone(),
            policy: Policy::default(),
            measures: Arc::default(),
            lock: Arc::default(),
            generic_resources: vec![GenericResource { kind: "gpu".into(), amount: 1, names: vec![] }],
        };
        let began = Instant::now();
        let clock = Arc::new(move || Timestamp::from_unix_ns(0) + began.elapsed());
        let agent = Agent { config, executor: self.executor.clone(), connector: Arc::new(self.manager.clone()), clock };
        self.shutdown = CancellationToken::new();
        let shutdown = self.shutdown.clone();
        self.agent = tokio::spawn(async move { agent.run(shutdown).await.expect("a usable directory") });
    }

    async fn stop_agent(&mut self) {
        self.shutdown.cancel();
        (&mut self.agent).await.expect("the agent ends");
    }

    /// A session with this complete set, which results in 1.
    async fn assigned(tasks: Vec<Assignment>) -> Self {
        let scene = Self::start();
        scene.manager.registered(1).await;
        scene.manager.send(complete(tasks)).await;
        scene
    }

    /// Waits until this holds for the engine, for an hour of paused time.
    async fn engine_until(&self, holds: impl Fn(&Simulated) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(3600), self.executor.until(holds)).await;
        waited.expect("the engine never got there");
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.join("worker")).expect("a directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

fn id(number: u128) -> TaskId {
    TaskId::from_bits(number)
}

fn assignment(number: u128, image: &str) -> Assignment {
    let container = Some(ContainerSpec { image: image.into(), ..ContainerSpec::default() });
    let spec = ServiceSpec { task: Some(TaskSpec { container, ..TaskSpec::default() }), ..ServiceSpec::default() };
    let (desired, state) = (TaskState::Running.into(), TaskState::Assigned.into());
    let spec_version = u64::try_from(number).expect("a small number");
    Assignment { task: id(number), spec_version, spec, desired, state, ..Assignment::default() }
}

fn desiring(desired: TaskState, assignment: Assignment) -> Assignment {
    Assignment { desired: desired.into(), ..assignment }
}

fn complete(tasks: Vec<Assignment>) -> AssignmentSet {
    AssignmentSet { complete: true, results_in: 1, ..items(tasks) }
}

fn change(applies_to: u64, tasks: Vec<Assignment>, removed: Vec<TaskId>) -> AssignmentSet {
    AssignmentSet { complete: false, applies_to, results_in: applies_to + 1, removed, ..items(tasks) }
}

/// Converts assignments to the items that a manager sends.
fn items(tasks: Vec<Assignment>) -> AssignmentSet {
    let mut set = AssignmentSet::default();
    for of in tasks {
        let spec = SpecKey { service: of.service, version: of.spec_version };
        for secret in &of.spec.template().container().env_secrets {
            let value = of.env_secrets.iter().find(|known| known.name == secret.name);
            let item = |known: &EnvSecretValue| SecretItem {
                key: secret.key.clone(),
                value: known.value.as_str().into(),
                template: false,
            };
            set.secrets.extend(value.map(item));
        }
        set.configs.extend(of.configs);
        set.specs.push(SpecItem { key: spec, spec: of.spec });
        let (task, slot, desired, state) = (of.task, of.slot, of.desired, of.state);
        set.tasks.push(TaskItem { task, spec, slot, desired, state, claims: of.claims });
    }
    set
}

#[tokio::test(start_paused = true)]
async fn sets_are_followed_from_the_first_to_the_last_task() {
    let began = Instant::now();
    let scene = Scene::assigned(vec![assignment(1, "web")]).await;
    let running = scene.manager.reported(id(1), TaskState::Running).await;
    let phases: Vec<_> = running.phases.iter().map(TaskPhase::state).collect();
    assert_eq!(phases, [TaskState::Accepted, TaskState::Preparing, TaskState::Ready, TaskState::Starting]);
    assert!(began.elapsed() < Duration::from_millis(100), "nothing waits on the way to running");

    let stop = desiring(TaskState::Shutdown, assignment(1, "web"));
    scene.manager.send(change(1, vec![assignment(2, "web"), stop], vec![])).await;
    scene.manager.reported(id(2), TaskState::Running).await;
    let stopped = scene.manager.reported(id(1), TaskState::Shutdown).await;
    assert_eq!(stopped.container.and_then(|container| container.exit_code), Some(143));
    assert!(scene.executor.has(id(1)), "a stopped container stays until the assignment is taken back");
    scene.engine_until(|engine| engine.is_released(id(1))).await;
    assert!(!scene.executor.is_released(id(2)), "it runs");

    scene.manager.send(change(2, vec![], vec![id(1)])).await;
    scene.engine_until(|engine| !engine.has(id(1))).await;
    scene.manager.send(complete(vec![])).await;
    scene.engine_until(|engine| !engine.has(id(2))).await;
}

#[tokio::test(start_paused = true)]
async fn each_outcome_reaches_the_manager() {
    let images = ["sim/exit-0", "sim/exit-3", "sim/oom", "sim/unhealthy", "sim/missing"];
    let tasks = images.iter().zip(1..).map(|(image, number)| assignment(number, image)).collect();
    let scene = Scene::assigned(tasks).await;
    for (number, state, error, code) in [
        (1, TaskState::Complete, "", Some(0)),
        (2, TaskState::Failed, "task: non-zero exit (3)", Some(3)),
        (3, TaskState::Failed, "task: non-zero exit (137): out of memory", Some(137)),
        (4, TaskState::Failed, "unhealthy container", Some(137)),
        (5, TaskState::Rejected, "No such image: sim/missing", None),
    ] {
        let status = scene.manager.reported(id(number), state).await;
        assert_eq!(status.error, error);
        assert_eq!(status.container.and_then(|container| container.exit_code), code);
        assert_eq!(scene.executor.starts(id(number)), u32::from(number != 5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_ends_the_session_and_no_task() {
    let scene = Scene::assigned(vec![assignment(1, "web")]).await;
    scene.manager.reported(id(1), TaskState::Running).await;
    scene.manager.send(change(5, vec![], vec![id(1)])).await;
    scene.manager.registered(2).await;
    scene.manager.send(complete(vec![assignment(1, "web"), assignment(2, "web")])).await;
    scene.manager.reported(id(2), TaskState::Running).await;
    assert!(scene.executor.is_running(id(1)), "the set after the gap was not applied");
    assert_eq!(scene.executor.starts(id(1)), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_goes_on_without_any_manager() {
    let mut scene = Scene::assigned(vec![assignment(1, "web"), assignment(2, "sim/slow-pull")]).await;
    scene.manager.reported(id(1), TaskState::Running).await;
    scene.manager.reported(id(2), TaskState::Preparing).await;
    scene.stop_agent().await;
    assert!(scene.executor.is_running(id(1)), "containers outlive the agent");

    scene.manager.go_away();
    scene.start_agent();
    scene.engine_until(|engine| engine.is_running(id(2))).await;
    scene.executor.end(id(1), 3);
    scene.manager.come_back();
    scene.manager.registered(2).await;
    scene.manager.send(complete(vec![assignment(1, "web"), assignment(2, "sim/slow-pull")])).await;
    let ended = scene.manager.reported(id(1), TaskState::Failed).await;
    assert_eq!(ended.container.and_then(|container| container.exit_code), Some(3));
    scene.manager.reported(id(2), TaskState::Running).await;
    assert_eq!([1, 2].map(|task| scene.executor.starts(id(task))), [1, 1], "no task runs twice");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_still_says_which_frame_it_was_told_of_last() {
    let mut scene = Scene::start();
    let head = |index| Some(Head { index, ..Head::default() });
    scene.manager.registered(1).await;
    scene.manager.send(AssignmentSet { head: head(7), ..complete(vec![assignment(1, "web")]) }).await;
    scene.manager.reported(id(1), TaskState::Running).await;
    scene.manager.send(AssignmentSet { head: head(9), ..change(1, vec![assignment(2, "web")], vec![]) }).await;
    scene.manager.reported(id(2), TaskState::Running).await;
    scene.stop_agent().await;
    scene.start_agent();
    scene.manager.registered(2).await;
    let seen =
        scene.manager.change(|seen| seen.registrations.iter().map(|request| request.seen.clone()).collect::<Vec<_>>());
    assert_eq!(seen, [None, head(9)]);
}

#[tokio::test(start_paused = true)]
async fn who_was_removed_stops_its_tasks_and_who_is_not_known_says_so_and_works_on() {
    for (kind, stops) in [(RefusalKind::Removed, true), (RefusalKind::NotMember, false)] {
        let scene = Scene::assigned(vec![assignment(1, "web")]).await;
        scene.manager.reported(id(1), TaskState::Running).await;
        scene.manager.change(|seen| seen.refuses = Some(kind));
        scene.manager.cut();
        scene.manager.registered(2).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        let attempts = scene.manager.change(|seen| seen.registrations.len());
        assert!((11..=13).contains(&attempts), "once a minute, not {attempts} times in ten");
        assert_eq!(scene.executor.has(id(1)), !stops, "{kind:?}");
        scene.manager.change(|seen| seen.refuses = None);
        scene.manager.registered(attempts + 1).await;
        scene.manager.send(complete(vec![])).await;
        scene.engine_until(|engine| !engine.has(id(1))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_goes_on_after_a_restart() {
    let mut scene = Scene::assigned(vec![assignment(1, "web")]).await;
    scene.manager.reported(id(1), TaskState::Running).await;
    scene.executor.set_away(true);
    scene.manager.send(change(1, vec![assignment(2, "web")], vec![id(1)])).await;
    let waiting = scene.manager.reported(id(2), TaskState::Preparing).await;
    assert_eq!(waiting.error, "the simulated engine is away", "the status says what it waits for");
    scene.manager.go_away();
    scene.stop_agent().await;
    scene.executor.set_away(false);
    scene.start_agent();
    scene.engine_until(|engine| !engine.has(id(1)) && engine.is_running(id(2))).await;
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_task_leaves_no_file() {
    let mut scene = Scene::assigned(vec![assignment(1, "web"), assignment(2, "web")]).await;
    scene.manager.reported(id(1), TaskState::Running).await;
    scene.manager.send(change(1, vec![], vec![id(1)])).await;
    scene.engine_until(|engine| !engine.has(id(1))).await;
    // The file is removed last, and stopping waits for that.
    scene.manager.send(change(2, vec![assignment(3, "sim/exit-0")], vec![])).await;
    scene.manager.reported(id(3), TaskState::Complete).await;
    scene.stop_agent().await;
    let mut files = scene.files();
    files.sort();
    // The last file stores the managers' addresses.
    assert_eq!(files, [id(2).to_string(), id(3).to_string(), "managers".to_owned()]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_key_costs_nothing_once_a_manager_is_there() {
    let mut scene = Scene::assigned(vec![assignment(1, "web"), assignment(2, "sim/slow-pull")]).await;
    scene.manager.reported(id(1), TaskState::Running).await;
    scene.manager.reported(id(2), TaskState::Preparing).await;
    scene.stop_agent().await;
    std::fs::remove_file(scene.dir.join("worker.key")).expect("removed");
    scene.start_agent();
    scene.manager.registered(2).await;
    let running = Assignment { state: TaskState::Running.into(), ..assignment(1, "web") };
    let preparing = Assignment { state: TaskState::Preparing.into(), ..assignment(2, "sim/slow-pull") };
    scene.manager.send(complete(vec![running, preparing])).await;
    scene.manager.reported(id(2), TaskState::Running).await;
    scene.executor.end(id(1), 3);
    let ended = scene.manager.reported(id(1), TaskState::Failed).await;
    assert_eq!(ended.container.and_then(|container| container.exit_code), Some(3), "it was adopted");
    assert_eq!([1, 2].map(|task| scene.executor.starts(id(task))), [1, 1], "no task runs twice");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_costs_nothing_once_a_manager_is_there() {
    let mut scene = Scene::assigned(vec![assignment(1, "web")]).await;
    scene.manager.reported(id(1), TaskState::Running).await;
    scene.stop_agent().await;
    let path = scene.dir.join("worker").join(id(1).to_string());
    std::fs::write(&path, b"").expect("written");
    scene.start_agent();
    scene.manager.registered(2).await;
    let known = Assignment { state: TaskState::Running.into(), ..assignment(1, "web") };
    scene.manager.send(complete(vec![known])).await;
    scene.executor.end(id(1), 0);
    scene.manager.reported(id(1), TaskState::Complete).await;
    assert_eq!(scene.executor.starts(id(1)), 1);
    assert!(path.with_extension("damaged").exists());
}

#[tokio::test(start_paused = true)]
async fn a_busy_engine_is_asked_again_after_one_and_two_seconds() {
    let began = Instant::now();
    let scene = Scene::assigned(vec![assignment(1, "sim/busy")]).await;
    scene.manager.reported(id(1), TaskState::Running).await;
    let waited = began.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_millis(3200)).contains(&waited), "{waited:?}");
    let waiting = scene.manager.reported(id(1), TaskState::Preparing).await;
    assert_eq!(waiting.error, "the simulated engine is busy");
}

#[tokio::test(start_paused = true)]
async fn without_a_manager_tasks_run_on_and_are_not_started_again() {
    let scene = Scene::assigned(vec![assignment(1, "web"), assignment(2, "web")]).await;
    scene.manager.reported(id(1), TaskState::Running).await;
    scene.manager.reported(id(2), TaskState::Running).await;
    scene.manager.go_away();
    scene.executor.end(id(2), 0);
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(scene.executor.is_running(id(1)));
    scene.manager.change(|seen| seen.acknowledged.clear());
    let back = Instant::now();
    scene.manager.come_back();
    scene.manager.registered(2).await;
    assert!(back.elapsed() <= Duration::from_secs(8), "the pause between attempts is at most 8 s");
    tokio::time::advance(Duration::from_secs(2)).await;
    let acknowledged = scene.manager.change(|seen| seen.acknowledged.len());
    assert_eq!(acknowledged, 0, "what is still assigned is known with the first set only");
    scene.manager.send(complete(vec![assignment(1, "web"), assignment(2, "web")])).await;
    scene.manager.reported(id(1), TaskState::Running).await;
    scene.manager.reported(id(2), TaskState::Complete).await;
    scene.manager.change(|seen| {
        let second = seen.requests.iter().find(|request| request.session == SessionId::from_bits(2));
        assert_eq!(second.map(|request| request.sequence), Some(1), "sequences belong to a session");
    });
    assert_eq!([1, 2].map(|task| scene.executor.starts(id(task))), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_certificate_opens_no_door_knocks_once_a_minute_and_works_on() {
    let scene = Scene::assigned(vec![assignment(1, "web")]).await;
    scene.manager.reported(id(1), TaskState::Running).await;
    scene.manager.change(|seen| seen.certificate_error = Some("the certificate expired"));
    scene.manager.go_away();
    scene.manager.change(|seen| seen.away = false);
    scene.manager.until("a first refusal", |seen| seen.refused == 1).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let refused = scene.manager.change(|seen| seen.refused);
    assert!((10..=11).contains(&refused), "{refused} times in ten minutes");
    assert!(scene.executor.is_running(id(1)));
    scene.manager.change(|seen| seen.certificate_error = None);
    scene.manager.registered(2).await;
}

#[tokio::test(start_paused = true)]
async fn strays_are_removed_once_all_assignments_are_known() {
    let scene = Scene::start();
    scene.executor.plant(id(9));
    scene.manager.registered(1).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(scene.executor.has(id(9)), "before the first set nobody knows whose it is");
    let adopted = Assignment { state: TaskState::Running.into(), ..assignment(1, "web") };
    scene.executor.plant(id(1));
    scene.executor.plant(id(2));
    let over = Assignment { state: TaskState::Orphaned.into(), ..assignment(2, "web") };
    scene.executor.set_away(true);
    scene.manager.registered(1).await;
    scene.manager.send(complete(vec![adopted, over])).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    scene.executor.set_away(false);
    scene.engine_until(|engine| !engine.has(id(9)) && !engine.has(id(2))).await;
    assert!(scene.executor.is_running(id(1)));
}

#[tokio::test(start_paused = true)]
async fn a_report_is_repeated_unchanged_until_it_is_acknowledged() {
    let scene = Scene::start();
    scene.manager.registered(1).await;
    scene.manager.change(|seen| seen.ignores_reports = true);
    scene.manager.send(complete(vec![assignment(1, "web")])).await;
    scene.manager.until("three attempts", |seen| seen.requests.len() == 3).await;
    scene.executor.end(id(1), 0);
    scene.manager.until("two more", |seen| seen.requests.len() == 5).await;
    scene.manager.change(|seen| {
        assert!(seen.requests.iter().all(|request| *request == seen.requests[0]), "the same batch each time");
        assert_eq!(seen.requests[0].sequence, 1);
        seen.ignores_reports = false;
    });
    scene.manager.reported(id(1), TaskState::Running).await;
    scene.manager.reported(id(1), TaskState::Complete).await;
    scene.manager.change(|seen| {
        assert_eq!(seen.requests.last().expect("a request").sequence, 2);
        assert_eq!(seen.registrations.len(), 1, "a manager that is busy ends no session");
    });
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_exactly_the_period_that_was_returned() {
    let scene = Scene::assigned(vec![]).await;
    let registered = Instant::now();
    scene.manager.until("four heartbeats", |seen| seen.heartbeats.len() == 4).await;
    let times = scene.manager.change(|seen| seen.heartbeats.clone());
    let pauses: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert!((5000..5010).contains(&(times[0] - registered).as_millis()), "the welcome's period comes first");
    assert!(pauses.iter().all(|pause| (3000..3010).contains(pause)), "{pauses:?}");
    assert_eq!(scene.manager.change(|seen| seen.registrations.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_changed_description_is_registered_within_seconds() {
    let scene = Scene::assigned(vec![assignment(1, "web")]).await;
    scene.manager.reported(id(1), TaskState::Running).await;
    tokio::time::advance(Duration::from_secs(19)).await;
    scene.executor.set_nano_cpus(4_000_000_000);
    scene.manager.registered(2).await;
    let descriptions = scene.manager.change(|seen| seen.registrations.clone());
    let resources: Vec<_> =
        descriptions.into_iter().map(|request| request.description.resources.expect("resources")).collect();
    assert_eq!(resources[1].nano_cpus, 4_000_000_000);
    assert_eq!(resources[1].generic[0].kind, "gpu");
    assert!(scene.executor.is_running(id(1)));
}

#[tokio::test(start_paused = true)]
async fn a_manager_of_another_cluster_is_not_obeyed() {
    let scene = Scene::start();
    scene.manager.change(|seen| seen.other_cluster = true);
    scene.executor.plant(id(9));
    scene.manager.registered(3).await;
    assert!(scene.executor.is_running(id(9)));
    assert_eq!(scene.manager.change(|seen| seen.heartbeats.len()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_set_of_many_tasks_runs_and_goes() {
    let count = 500;
    let tasks: Vec<_> = (1..=count).map(|number| assignment(number, "web")).collect();
    let scene = Scene::assigned(tasks).await;
    for number in 1..=count {
        scene.manager.reported(id(number), TaskState::Running).await;
    }
    scene.manager.send(complete(vec![])).await;
    scene.engine_until(|engine| (1..=count).all(|number| !engine.has(id(number)))).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_asks_for_more_than_the_node_gives_is_rejected_with_the_flag_that_would_give_it() {
    let mut asking = assignment(1, "web");
    let container = asking.spec.task.get_or_insert_default().container.get_or_insert_default();
    container.capability_add = vec!["NET_ADMIN".into()];
    let scene = Scene::assigned(vec![asking]).await;
    let rejected = scene.manager.reported(id(1), TaskState::Rejected).await;
    assert!(rejected.error.contains("start its swarmd with --allow-capability NET_ADMIN"), "{rejected:?}");
    assert!(!scene.executor.has(id(1)), "nothing of it was made");
}

#[tokio::test(start_paused = true)]
async fn a_task_without_the_value_of_a_secret_variable_is_rejected_and_not_run_without() {
    let with_secret = |number| {
        let mut assignment = assignment(number, "web");
        let container = assignment.spec.task.get_or_insert_default().container.get_or_insert_default();
        container.env_secrets = vec![EnvSecret { name: "TOKEN".into(), key: format!("env-secret/1/{number}") }];
        assignment
    };
    let value = EnvSecretValue { name: "TOKEN".into(), value: "the-marker".into() };
    let complete = Assignment { env_secrets: vec![value], ..with_secret(2) };
    let scene = Scene::assigned(vec![with_secret(1), complete]).await;
    let rejected = scene.manager.reported(id(1), TaskState::Rejected).await;
    assert!(rejected.error.contains("the secret variable TOKEN has no value"), "{rejected:?}");
    scene.manager.reported(id(2), TaskState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_has_its_configs_before_it_meets_a_manager() {
    let config = ConfigId::from_bits(5);
    let mut pulling = assignment(1, "sim/slow-pull");
    pulling.configs = vec![ConfigItem { key: (config, 0).into(), data: "data".into(), template: false }];
    let container = pulling.spec.task.get_or_insert_default().container.get_or_insert_default();
    container.configs =
        vec![ConfigReference { config: Some(config), name: "web.conf".into(), ..ConfigReference::default() }];
    let mut scene = Scene::assigned(vec![pulling]).await;
    scene.manager.reported(id(1), TaskState::Preparing).await;
    scene.stop_agent().await;
    scene.manager.go_away();
    scene.start_agent();
    scene.engine_until(|engine| engine.is_running(id(1))).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_waits_for_its_config_also_after_a_restart_and_one_that_runs_is_left_alone() {
    let config = ConfigId::from_bits(5);
    let with_config = |configs| {
        let mut assignment = assignment(1, "web");
        let container = assignment.spec.task.get_or_insert_default().container.get_or_insert_default();
        container.configs =
            vec![ConfigReference { config: Some(config), name: "web.conf".into(), ..ConfigReference::default() }];
        Assignment { configs, ..assignment }
    };
    let mut scene = Scene::assigned(vec![with_config(vec![])]).await;
    let waiting = scene.manager.reported(id(1), TaskState::Preparing).await;
    assert_eq!(waiting.error, "config web.conf has not been received from a manager yet");
    scene.stop_agent().await;
    scene.start_agent();
    scene.manager.registered(2).await;
    let complete_set = || {
        complete(vec![with_config(vec![ConfigItem { key: (config, 0).into(), data: "data".into(), template: false }])])
    };
    scene.manager.send(complete_set()).await;
    scene.manager.reported(id(1), TaskState::Running).await;

    scene.stop_agent().await;
    scene.start_agent();
    scene.manager.registered(3).await;
    scene.manager.send(complete_set()).await;
    // The config is available again for later tasks, and the task that already has it was not touched.
    let mut next = change(1, vec![Assignment { task: id(2), ..with_config(vec![]) }], vec![]);
    next.specs.clear();
    scene.manager.send(next).await;
    scene.manager.reported(id(2), TaskState::Running).await;
    assert!(scene.executor.is_running(id(1)));
    assert_eq!([1, 2].map(|task| scene.executor.starts(id(task))), [1, 1], "no task runs twice");
}
