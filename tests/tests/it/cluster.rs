//! A cluster of real daemons in a temporary directory. It is stopped at the end of the test, even if that fails.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use tests::script::detached;

use super::process::{Answer, TIMEOUT, poll, program, run};
use super::units::{Executor, IMAGE};

/// The name of every test cluster's manager.
pub const MANAGER: &str = "m";

/// One `swarmd`, running or not.
struct Daemon {
    args: Vec<String>,
    child: Option<Child>,
}

/// A manager and its workers.
pub struct Cluster {
    dir: TempDir,
    executor: Executor,
    id: String,
    address: String,
    /// The address of each of the other nodes, should it be a manager: the same after each start.
    others: RefCell<BTreeMap<String, String>>,
    /// The program that nodes are started with.
    program: &'static str,
    daemons: BTreeMap<String, Daemon>,
}

/// A task as listed by `swarmctl task ls`.
#[derive(Debug, Clone)]
pub struct Task {
    /// Id.
    pub id: String,
    /// Name of its node; empty if it has none.
    pub node: String,
    /// State, in lower case.
    pub state: String,
    /// Error.
    pub error: String,
    /// The executor's status of it.
    pub container: Value,
}

/// A free address on loopback, outside the ephemeral port range: a worker that connects to a dead manager there must not connect
/// to itself.
pub fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = (std::process::id() % 700) as u16 * 30;
    let mut addresses = std::iter::repeat_with(|| {
        let port = 10_500 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 21_000;
        format!("127.0.0.1:{port}")
    });
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("an address")
}

/// A directory in which tasks can have directories of their own: processes run as another user than the tests.
fn open_dir() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).expect("a mode");
    dir
}

/// Creates a directory that tasks of any user can write to.
pub fn make_shared(path: &std::path::Path) {
    std::fs::create_dir(path).expect("made");
    std::fs::set_permissions(path, Permissions::from_mode(0o777)).expect("a mode");
}

impl Cluster {
    /// Starts a manager and these workers, and waits until all are ready.
    pub fn start(executor: Executor, workers: &[&str]) -> Self {
        Self::start_with(executor, workers, &[])
    }

    /// The directory and the addresses of a cluster without running daemons.
    pub fn idle(executor: Executor) -> Self {
        let dir = open_dir();
        Self {
            dir,
            executor,
            id: String::new(),
            address: free_address(),
            others: RefCell::default(),
            program: "swarmd",
            daemons: BTreeMap::new(),
        }
    }

    /// The same as [`Cluster::start`], with these flags for each of the daemons.
    pub fn start_with(executor: Executor, workers: &[&str], flags: &[&str]) -> Self {
        Self::start_of("swarmd", executor, workers, flags)
    }

    /// The same with daemons of another program.
    pub fn start_of(program: &'static str, executor: Executor, workers: &[&str], flags: &[&str]) -> Self {
        let mut cluster = Self::idle(executor);
        cluster.program = program;
        cluster.add(MANAGER, flags);
        cluster.await_manager();
        cluster.id = cluster.inspect()["id"].as_str().expect("an id").to_owned();
        let token = cluster.token("worker");
        for worker in workers {
            let address = cluster.address.clone();
            cluster.add(worker, &[&["--join-addr", &address, "--join-token", &token], flags].concat());
        }
        cluster.until("all nodes to be ready", || {
            cluster.list("node ls").iter().filter(|node| node["state"] == "ready").count() == 1 + workers.len()
        });
        cluster
    }

    /// Adds and starts a new node.
    pub fn add(&mut self, name: &str, flags: &[&str]) {
        let args = [self.flags(name), flags.iter().map(|flag| (*flag).to_owned()).collect()].concat();
        self.daemons.insert(name.to_owned(), Daemon { args, child: None });
        self.resume(name);
    }

    /// The flags of a node of this cluster.
    pub fn flags(&self, name: &str) -> Vec<String> {
        let listen = match name {
            MANAGER => self.address.clone(),
            _ => self.others.borrow_mut().entry(name.to_owned()).or_insert_with(free_address).clone(),
        };
        let (state_dir, socket) = (self.state_dir(name), self.socket(name));
        let flags = ["--hostname", name, "--listen-remote-api", &listen, "--state-dir"].map(str::to_owned);
        let paths = [path(&state_dir), "--listen-control-api".to_owned(), path(&socket)];
        flags.into_iter().chain(paths).chain(self.executor.flags()).collect()
    }

    /// A node's state directory.
    pub fn state_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The control socket of a node, in case it is a manager.
    pub fn socket(&self, name: &str) -> PathBuf {
        // A directory that `swarmd` creates.
        self.dir.path().join("sockets").join(format!("{name}.sock"))
    }

    /// An unused path in the cluster's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The address at which the manager serves nodes.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The log of a node.
    pub fn log(&self, name: &str) -> String {
        // A node that never started has no log.
        std::fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Starts a stopped node with other flags than before.
    pub fn resume_with(&mut self, name: &str, flags: &[&str]) {
        let dir = path(&self.state_dir(name));
        let flags = [&["-d", &dir], flags].concat().into_iter().map(str::to_owned);
        let args = flags.chain(self.executor.flags()).collect();
        self.daemons.insert(name.to_owned(), Daemon { args, child: None });
        self.resume(name);
    }

    /// From now on, nodes are started with this program.
    pub fn change_program(&mut self, program: &'static str) {
        self.program = program;
    }

    /// Starts a stopped node.
    pub fn resume(&mut self, name: &str) {
        self.resume_in(name, &[]);
    }

    /// Starts a stopped node with these environment variables.
    pub fn resume_in(&mut self, name: &str, env: &[(&str, &str)]) {
        let log = self.dir.path().join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let daemon = self.daemons.get_mut(name).expect("a node");
        assert!(daemon.child.is_none(), "{name} runs already");
        let mut command = Command::new(program(self.program));
        command.envs(env.iter().copied());
        command.args(&daemon.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        daemon.child = Some(command.spawn().expect("started"));
    }

    /// Takes over a node's daemon that was started elsewhere.
    pub fn adopt(&mut self, name: &str, child: Child) {
        self.daemons.insert(name.to_owned(), Daemon { args: self.flags(name), child: Some(child) });
    }

    /// Kills a node's daemon at once, like a power failure, except that its containers keep running.
    pub fn kill(&mut self, name: &str) {
        let mut child = self.child(name);
        child.kill().expect("killed");
        child.wait().expect("waited");
    }

    /// Stops a node's daemon gracefully and returns its exit code.
    pub fn end(&mut self, name: &str) -> Option<i32> {
        let asked = run(Command::new("kill").arg(self.pid(name).to_string()));
        assert_eq!(asked.code, 0, "{asked:?}");
        self.await_end(name)
    }

    /// Waits until a node's daemon has ended on its own, and returns its exit code.
    pub fn await_end(&mut self, name: &str) -> Option<i32> {
        let mut child = self.child(name);
        let ended = poll(TIMEOUT, || child.try_wait().expect("waited"));
        if ended.is_none() {
            child.kill().expect("killed");
            panic!("{name} does not end: {}", self.log(name));
        }
        ended.and_then(|status| status.code())
    }

    /// The process id of a running node.
    pub fn pid(&self, name: &str) -> u32 {
        self.daemons.get(name).and_then(|daemon| daemon.child.as_ref()).expect("a node that runs").id()
    }

    fn child(&mut self, name: &str) -> Child {
        self.daemons.get_mut(name).and_then(|daemon| daemon.child.take()).expect("a node that runs")
    }

    /// Waits until the manager answers.
    pub fn await_manager(&self) {
        self.until("the manager's answer", || self.swarmctl("node ls").code == 0);
    }

    /// Runs a line of `swarmctl`, split at spaces.
    pub fn swarmctl(&self, line: &str) -> Answer {
        self.swarmctl_words(&line.split(' ').collect::<Vec<_>>())
    }

    /// Runs `swarmctl`, which waits only if the arguments say so.
    pub fn swarmctl_words(&self, words: &[&str]) -> Answer {
        self.swarmctl_words_at(MANAGER, words)
    }

    /// Runs a line of `swarmctl` at one of several managers.
    pub fn swarmctl_at(&self, name: &str, line: &str) -> Answer {
        self.swarmctl_words_at(name, &line.split(' ').collect::<Vec<_>>())
    }

    fn swarmctl_words_at(&self, name: &str, words: &[&str]) -> Answer {
        let words = detached(words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>());
        run(Command::new(program("swarmctl")).arg("--socket").arg(self.socket(name)).args(words))
    }

    /// Runs a line of `swarmctl` that must succeed, and returns its output.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let answer = self.swarmctl(line);
        assert_eq!(answer.code, 0, "swarmctl {line}: {answer:?}");
        answer.out.trim_end().to_owned()
    }

    /// The output of a list command of `swarmctl`.
    #[track_caller]
    pub fn list(&self, line: &str) -> Vec<Value> {
        let out = self.ok(&format!("{line} --format json"));
        out.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
    }

    /// The cluster, without its tokens, because reading those is an event.
    pub fn inspect(&self) -> Value {
        self.list("cluster ls").remove(0)
    }

    /// The join token of a role.
    pub fn token(&self, role: &str) -> String {
        self.list("cluster inspect")[0]["join_tokens"][role].as_str().expect("a token").to_owned()
    }

    /// Creates a service whose tasks sleep, and end at once when stopped.
    pub fn create(&self, name: &str, flags: &str) -> String {
        let line = format!(
            "service create --name {name} --image {IMAGE} --command sleep --args 3600 --stop-signal KILL \
             --restart-delay 200ms {flags}"
        );
        self.ok(line.trim_end())
    }

    /// The tasks of a service, including ended ones.
    pub fn tasks(&self, service: &str) -> Vec<Task> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let listed = self.list("task ls -a").into_iter().filter(|task| task["service_name"] == service);
        let task = |task: Value| Task {
            id: text(&task["id"]),
            node: text(&task["node_hostname"]),
            state: text(&task["status"]["state"]),
            error: text(&task["status"]["error"]),
            container: task["status"]["container"].clone(),
        };
        listed.map(task).collect()
    }

    /// The running tasks of a service.
    pub fn running(&self, service: &str) -> Vec<Task> {
        self.tasks(service).into_iter().filter(|task| task.state == "running").collect()
    }

    /// Waits until the cluster reports this many running tasks of a service, and until exactly these run, each once, and nothing
    /// else of this cluster. Returns them.
    #[track_caller]
    pub fn settled(&self, service: &str, replicas: usize) -> Vec<Task> {
        let mut tasks = Vec::new();
        self.until(&format!("{replicas} tasks of {service}, and no others"), || {
            tasks = self.running(service);
            let reported: BTreeMap<String, usize> = tasks.iter().map(|task| (task.id.clone(), 1)).collect();
            reported.len() == replicas && reported == self.units()
        });
        tasks
    }

    /// The tasks that actually run in this cluster, each with its count.
    pub fn units(&self) -> BTreeMap<String, usize> {
        self.executor.running(&self.id, &self.state_dirs())
    }

    /// Kills the process or container of a task from outside.
    pub fn kill_unit(&self, task: &Task) {
        self.executor.kill(&task.container);
    }

    /// Waits until `condition` holds; if it does not in time, fails the test with all available information.
    #[track_caller]
    pub fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        if poll(TIMEOUT, || condition().then_some(())).is_none() {
            let logs = self.daemons.keys().map(|name| format!("{name}:\n{}", self.log(name))).collect::<String>();
            let tasks = self.swarmctl("task ls -a").out;
            panic!("waited in vain for {what}\n{tasks}\nrunning: {:?}\n{logs}", self.units());
        }
    }

    fn state_dirs(&self) -> Vec<PathBuf> {
        self.daemons.keys().map(|name| self.state_dir(name)).collect()
    }
}

/// A path as an argument.
pub fn path(path: &Path) -> String {
    path.to_str().expect("a path that is text").to_owned()
}

impl Drop for Cluster {
    /// Stops the daemons first: they would restore everything.
    fn drop(&mut self) {
        let children = self.daemons.values_mut().filter_map(|daemon| daemon.child.take());
        for mut child in children {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if !self.id.is_empty() {
            self.executor.remove_all(&self.id, &self.state_dirs());
        }
    }
}
