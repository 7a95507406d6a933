//! What a case works with: an executor, workloads for it, and the certainty that nothing of them is left behind.

use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use events::{
    Annotations, ClusterId, ContainerSpec, HealthConfig, Id, NodeId, ServiceId, ServiceSpec, TaskId, TaskSpec,
};
use futures_util::FutureExt;
use node::agent::docker::DockerExecutor;
use node::agent::executor::{Executor, Workload};
use node::agent::process::ProcessExecutor;
use node::agent::secret_files::SecretFiles;
use tempfile::TempDir;

/// The environment variable that tells the supervisor its task's directory.
pub const SUPERVISED_DIR: &str = "SWARMLOG_TEST_SUPERVISED_DIR";

/// Where the engine of the tests listens.
pub const ENGINE: &str = "unix:///var/run/docker.sock";

/// No case takes so long unless something hangs.
const CASE_TIMEOUT: Duration = Duration::from_secs(120);

static NEXT: AtomicU64 = AtomicU64::new(1);

/// An executor and its workloads.
pub struct Bench {
    /// The executor under test.
    pub executor: Arc<dyn Executor>,
    /// A cluster and a node of this bench alone.
    pub cluster: ClusterId,
    pub node: NodeId,
    kind: Kind,
    made: Mutex<Vec<TaskId>>,
}

enum Kind {
    Docker(TempDir),
    Process(TempDir),
}

impl Bench {
    /// A bench on the engine, which must answer: tests that need one only run where the runner knows that there is one.
    pub async fn docker() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let executor = docker(dir.path());
        executor.describe().await.expect("a Docker Engine answers");
        Self::new(executor, Kind::Docker(dir))
    }

    /// A bench on plain processes.
    pub fn process() -> Self {
        let dir = shared_dir();
        Self::new(process(dir.path()), Kind::Process(dir))
    }

    /// Whether it runs plain processes.
    pub fn is_process(&self) -> bool {
        matches!(self.kind, Kind::Process(_))
    }

    fn new(executor: Arc<dyn Executor>, kind: Kind) -> Self {
        Self {
            executor,
            cluster: ClusterId::from_bits(unique()),
            node: NodeId::from_bits(unique()),
            kind,
            made: Mutex::default(),
        }
    }

    /// Another executor on the same engine or directory, as after a restart of the agent.
    pub fn another_executor(&self) -> Arc<dyn Executor> {
        match &self.kind {
            Kind::Docker(dir) => docker(dir.path()),
            Kind::Process(dir) => process(dir.path()),
        }
    }

    /// A directory that the task and its health check, but no other task, can write to.
    pub fn scratch(&self) -> String {
        match &self.kind {
            Kind::Docker(_) => "/tmp".into(),
            Kind::Process(dir) => dir.path().display().to_string(),
        }
    }

    /// Where the secrets of a task are.
    pub fn secrets(&self, task: TaskId) -> PathBuf {
        let own = match &self.kind {
            Kind::Docker(_) => self.configs(),
            Kind::Process(dir) => dir.path().join("tasks"),
        };
        SecretFiles::of(&own).directory(task).expect("a file system in memory")
    }

    /// Where configs are that containers mount.
    pub fn configs(&self) -> PathBuf {
        let (Kind::Docker(dir) | Kind::Process(dir)) = &self.kind;
        dir.path().join("configs")
    }

    /// The tasks whose containers mount configs from this machine.
    pub fn kept_configs(&self) -> Vec<String> {
        // Without one there is no directory.
        let entries = std::fs::read_dir(self.configs()).into_iter().flatten();
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// A task that runs a line of shell.
    pub fn shell(&self, line: &str) -> Workload {
        self.workload(ContainerSpec { args: vec!["sh".into(), "-c".into(), line.into()], ..Default::default() })
    }

    /// A task that goes on until it is stopped, and then runs `on_term`. Its start ends when it is ready for that, which its
    /// health check tells: it looks for the file `$READY`.
    pub fn lasting(&self, on_term: &str) -> Workload {
        let mut workload = self.shell(&format!("trap '{on_term}' TERM; touch $READY; while :; do sleep 0.1; done"));
        let ready = format!("READY={}/ready-{}", self.scratch(), workload.task);
        container(&mut workload).env = vec![ready];
        container(&mut workload).healthcheck = check("test -e $READY", 1000);
        workload
    }

    /// A task of this container, on the demo's image unless it names another.
    pub fn workload(&self, mut container: ContainerSpec) -> Workload {
        if container.image.is_empty() {
            container.image = "swarmlog/demo:v1".into();
        }
        let task = TaskId::from_bits(unique());
        self.made.lock().expect("no case panics with the lock").push(task);
        Workload {
            cluster: self.cluster,
            node: self.node,
            node_hostname: "host-a".into(),
            task,
            name: format!("web.1.{task}"),
            slot: 1,
            service: ServiceId::from_bits(unique()),
            spec: Arc::new(ServiceSpec {
                annotations: Some(Annotations { name: "web".into(), ..Default::default() }),
                task: Some(TaskSpec { container: Some(container), ..Default::default() }),
                ..Default::default()
            }),
            claims: vec![],
            registry_auth: None,
            env_secrets: std::collections::BTreeMap::new(),
            configs: Default::default(),
            secrets: Default::default(),
            templates: Default::default(),
            secret_configs: Default::default(),
        }
    }

    /// Runs a case, and removes what it made also when it fails.
    pub async fn run(&self, case: impl Future<Output = ()>) {
        let outcome = AssertUnwindSafe(tokio::time::timeout(CASE_TIMEOUT, case)).catch_unwind().await;
        let made = self.made.lock().expect("no case panics with the lock").clone();
        for task in made {
            if let Err(error) = self.executor.remove(task).await {
                println!("left behind: task {task}: {error}");
            }
        }
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(_)) => panic!("the case hangs"),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// A health check that looks every tenth of a second.
pub fn check(line: &str, retries: u32) -> Option<HealthConfig> {
    let (interval_ns, timeout_ns) = (100_000_000, 30_000_000_000);
    Some(HealthConfig {
        test: vec!["CMD-SHELL".into(), line.into()],
        interval_ns,
        timeout_ns,
        retries,
        ..Default::default()
    })
}

/// Changes the container of a workload.
pub fn container(workload: &mut Workload) -> &mut ContainerSpec {
    let spec = Arc::make_mut(&mut workload.spec);
    spec.task.get_or_insert_default().container.get_or_insert_default()
}

fn docker(dir: &Path) -> Arc<dyn Executor> {
    Arc::new(DockerExecutor::new(ENGINE, dir.join("configs")).expect("a valid address"))
}

/// A directory that tasks of any user can write to: they do not run as the tests do.
pub fn shared_dir() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).expect("a mode");
    dir
}

/// An executor of plain processes below a directory.
pub fn process(root: &Path) -> Arc<dyn Executor> {
    Arc::new(ProcessExecutor::new(root.join("tasks"), false, |dir| {
        let mut command = Command::new(std::env::current_exe().expect("the test's own program"));
        command.args(["supervisor", "--exact", "--nocapture"]).env(SUPERVISED_DIR, dir);
        command
    }))
}

/// A number that no other test has, now or before, so that left-overs of an earlier run do no harm.
fn unique() -> u128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    since.as_nanos() << 64 | u128::from(std::process::id()) << 32 | u128::from(NEXT.fetch_add(1, Ordering::Relaxed))
}
