//! The machines of the test: three managers on separate disks, two workers, and the network between them.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use events::Role;
use serde_json::Value;
use tempfile::TempDir;

use crate::hosts::Hosts;
use crate::process::{Answer, TIMEOUT, poll, program, run};
use crate::quorum::ask_role;
use crate::units::processes;

use super::disk::Disk;

/// Managers: the first machines.
pub const MANAGERS: usize = 3;
/// All machines.
pub const MACHINES: usize = 5;
/// The service that runs on the workers, and its tasks.
pub const SERVICE: &str = "web";
pub const REPLICAS: usize = 4;
/// Log messages of a manager when it votes, and when it is no longer a manager.
const VOTES: &str = "this manager has joined and can vote";
const IS_WORKER: &str = "this node is a worker from now on";

/// The machines, and what runs on them.
pub struct Machines {
    pub hosts: Hosts,
    pub disks: Vec<Disk>,
    preload: PathBuf,
    children: Vec<Option<Child>>,
    /// The join token of managers.
    token: String,
    /// The directory of all files; dropped last.
    pub dir: TempDir,
}

/// Builds a C source in this directory.
pub fn compile(dir: &Path, source: &str, built: &str, flags: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults").join(source);
    let built = dir.join(built);
    let answer = run(Command::new("cc").args(["-O1", "-Wall", "-Werror", "-o"]).arg(&built).arg(source).args(flags));
    assert_eq!(answer.code, 0, "{answer:?}");
    built
}

fn objects(answer: &Answer) -> Vec<Value> {
    answer.out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

impl Machines {
    /// Managers that all vote, and workers that run a service with a secret.
    pub fn start(secret: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // Tasks run as another user, and have directories below this one.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).expect("a mode");
        let preload = compile(dir.path(), "preload.c", "preload.so", &["-shared", "-fPIC", "-ldl"]);
        let cutter = compile(dir.path(), "power_cut.c", "power_cut", &[]);
        let disks = (0..MANAGERS).map(|number| Disk::new(&dir.path().join(format!("disk{number}")), &cutter)).collect();
        let (hosts, children) = (Hosts::new(MACHINES), (0..MACHINES).map(|_| None).collect());
        let mut machines = Self { hosts, disks, preload, children, token: String::new(), dir };
        (0..MANAGERS).for_each(|number| machines.set_clock(number, 0));
        machines.children[0] = Some(machines.spawn(0, &[]));
        machines.token = machines.until("a cluster", |machines| machines.join_token("manager"));
        (1..MANAGERS).for_each(|number| machines.join(number, 0));
        (1..MANAGERS).for_each(|number| machines.await_log(number, VOTES, 1));
        let token = machines.until("a token", |machines| machines.join_token("worker"));
        for number in MANAGERS..MACHINES {
            machines.children[number] =
                Some(machines.spawn(number, &["--join-addr", &machines.address(0), "--join-token", &token]));
        }
        machines.until("ready workers", |machines| (machines.ready_workers(0) == MACHINES - MANAGERS).then_some(()));
        machines.serve(secret);
        machines
    }

    /// Runs the service on the workers.
    fn serve(&self, secret: &str) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), secret).expect("written");
        let mut words = vec!["service".to_owned(), "create".to_owned(), "--detach".to_owned()];
        let flags =
            format!("--name {SERVICE} --image x --command sleep --args 36000 --replicas {REPLICAS} --stop-signal KILL");
        words.extend(flags.split(' ').map(str::to_owned));
        words.push(format!("--env-secret=SECRET={}", file.path().display()));
        words.extend((0..MANAGERS).map(|number| format!("--constraint=node.hostname!=m{number}")));
        let created = self.swarmctl(0, &words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(created.code, 0, "{created:?}");
        self.until("tasks", |machines| (machines.tasks().len() == REPLICAS).then_some(()));
    }

    /// The tasks that actually run on the workers, with their processes.
    pub fn tasks(&self) -> BTreeSet<(String, u64)> {
        (MANAGERS..MACHINES).flat_map(|number| processes(&self.state_dir(number))).collect()
    }

    fn address(&self, number: usize) -> String {
        format!("{}:4242", self.hosts.address(number))
    }

    pub fn socket(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("{number}.sock"))
    }

    /// A manager's state is on its own disk, below the file system's own files.
    pub fn state_dir(&self, number: usize) -> PathBuf {
        if number < MANAGERS {
            self.dir.path().join(format!("disk{number}/state"))
        } else {
            self.dir.path().join(format!("w{number}"))
        }
    }

    pub fn log(&self, number: usize) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("{number}.log"))).unwrap_or_default()
    }

    fn trigger(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("{number}.fail"))
    }

    fn clock(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("{number}.clock"))
    }

    /// Lets a manager's next sync fail.
    pub fn fail_sync(&self, number: usize) {
        File::create(self.trigger(number)).expect("made");
    }

    /// Shifts a manager's wall clock by this many seconds.
    pub fn set_clock(&self, number: usize, seconds: i64) {
        let file = File::options().write(true).create(true).truncate(false).open(self.clock(number)).expect("a file");
        file.write_all_at(&seconds.to_ne_bytes(), 0).expect("written");
    }

    fn spawn(&self, number: usize, flags: &[&str]) -> Child {
        let log = self.dir.path().join(format!("{number}.log"));
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let mut command = self.hosts.command(number, &program("swarmd"));
        if number < MANAGERS {
            command
                .env("LD_PRELOAD", &self.preload)
                .env("FAIL_SYNC", self.trigger(number))
                .env("CLOCK", self.clock(number));
        }
        command.args(["--executor", "process", "--hostname", &name(number), "--state-dir"]);
        command.arg(self.state_dir(number)).arg("--listen-control-api").arg(self.socket(number));
        command.args(["--listen-remote-api", &self.address(number)]).args(flags);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("started")
    }

    /// Starts a manager that joins at another one.
    pub fn join(&mut self, number: usize, at: usize) {
        let child = self.spawn(number, &["--join-addr", &self.address(at), "--join-token", &self.token]);
        self.children[number] = Some(child);
    }

    pub fn signal(&self, number: usize, signal: &str) {
        if let Some(child) = &self.children[number] {
            run(Command::new("kill").args([signal, &child.id().to_string()]));
        }
    }

    pub fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.children[number].take() {
            child.kill().expect("killed");
            child.wait().expect("waited");
        }
    }

    pub fn resume(&mut self, number: usize) {
        if self.children[number].is_none() {
            self.children[number] = Some(self.spawn(number, &[]));
        }
    }

    /// Removes processes that have exited.
    pub fn forget_ended(&mut self) {
        self.children.iter_mut().for_each(|child| {
            child.take_if(|child| child.try_wait().expect("waited").is_some());
        });
    }

    /// Waits until a manager exits on its own; its exit code must state a reason.
    #[track_caller]
    pub fn await_end(&mut self, number: usize, why: &str) {
        let mut child = self.children[number].take().expect("it runs");
        let ended = poll(TIMEOUT, || child.try_wait().expect("waited"));
        self.children[number] = Some(child);
        let ended = ended.unwrap_or_else(|| panic!("m{number} goes on: {why}\n{}", self.log(number)));
        assert!(!ended.success(), "m{number} ends well: {why}");
        self.children[number] = None;
    }

    /// Waits until a manager has logged something this many times.
    #[track_caller]
    fn await_log(&self, number: usize, words: &str, times: usize) {
        self.until(&format!("m{number} to say so: {words}"), |machines| {
            (machines.said(number, words) >= times).then_some(())
        });
    }

    /// How often a manager has logged something.
    pub fn said(&self, number: usize, words: &str) -> usize {
        self.log(number).matches(words).count()
    }

    pub fn swarmctl(&self, at: usize, words: &[&str]) -> Answer {
        run(Command::new(program("swarmctl")).arg("--socket").arg(self.socket(at)).args(words))
    }

    fn join_token(&self, role: &str) -> Option<String> {
        let cluster = objects(&self.swarmctl(0, &["cluster", "inspect", "--format", "json"])).pop()?;
        cluster["join_tokens"][role].as_str().map(str::to_owned)
    }

    fn ready_workers(&self, at: usize) -> usize {
        let nodes = objects(&self.swarmctl(at, &["node", "ls", "--format", "json"]));
        let is_worker = |node: &&Value| node["hostname"].as_str().is_some_and(|name| name.starts_with('w'));
        nodes.iter().filter(is_worker).filter(|node| node["state"] == "ready").count()
    }

    /// The manager that claims to lead.
    pub fn leader(&self) -> Option<usize> {
        (0..MANAGERS).filter(|number| self.children[*number].is_some()).find(|number| {
            let raft = objects(&self.swarmctl(*number, &["raft", "--format", "json"])).pop();
            raft.is_some_and(|raft| raft["leader"].is_string() && raft["leader"] == raft["node"])
        })
    }

    /// The nodes with the name of a manager's host, as listed by another one.
    fn nodes(&self, number: usize, at: usize) -> Vec<String> {
        let listed = objects(&self.swarmctl(at, &["node", "ls", "--format", "json"])).into_iter();
        let own = listed.filter(|node| node["hostname"] == name(number).as_str());
        own.filter_map(|node| node["id"].as_str().map(str::to_owned)).collect()
    }

    /// Asks another manager to change the role of a node until that is accepted.
    fn set_role(&self, node: &str, role: Role, at: usize) {
        self.until("another role", |machines| ask_role(&machines.socket(at), node, role).ok());
    }

    /// Demotes a manager to worker, and promotes it again.
    pub fn demote_and_promote(&self, victim: usize, at: usize) {
        let (worker, votes) = (self.said(victim, IS_WORKER) + 1, self.said(victim, VOTES) + 1);
        let node = self.until("a node", |machines| machines.nodes(victim, at).pop());
        self.set_role(&node, Role::Worker, at);
        self.await_log(victim, IS_WORKER, worker);
        self.set_role(&node, Role::Manager, at);
        self.await_log(victim, VOTES, votes);
    }

    /// Replaces a manager's disk. It joins as a new node, and its old node is removed.
    pub fn lose_disk(&mut self, victim: usize, at: usize) {
        let lost = self.until("a node", |machines| machines.nodes(victim, at).pop());
        let votes = self.said(victim, VOTES) + 1;
        self.kill(victim);
        self.disks[victim].replace();
        self.join(victim, at);
        self.await_log(victim, VOTES, votes);
        self.set_role(&lost, Role::Worker, at);
        self.until("the lost node to go", |machines| {
            (machines.swarmctl(at, &["node", "rm", "--force", &lost]).code == 0).then_some(())
        });
    }

    /// Lets a stopped manager start with an empty log, as its hint tells the operator.
    pub fn reseed(&mut self, victim: usize, at: usize) {
        let (dir, votes) = (self.state_dir(victim), self.said(victim, VOTES) + 1);
        let mut command = Command::new(program("swarmd"));
        let reseeded = run(command.arg("reseed").arg("-d").arg(&dir).args(["--join-addr", &self.address(at)]));
        assert_eq!(reseeded.code, 0, "{reseeded:?}");
        self.resume(victim);
        self.await_log(victim, VOTES, votes);
        std::fs::remove_dir_all(dir.join("raft.damaged")).expect("removed");
    }

    /// The names of a manager's configs, read at that manager; `None` if it does not answer.
    pub fn configs(&self, number: usize) -> Option<Vec<String>> {
        let answer = self.swarmctl(number, &["config", "ls", "--format", "json"]);
        let name = |config: Value| config["spec"]["annotations"]["name"].as_str().map(str::to_owned);
        let mut names: Vec<String> = objects(&answer).into_iter().filter_map(name).collect();
        names.sort();
        (answer.code == 0).then_some(names)
    }

    #[track_caller]
    pub fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        poll(TIMEOUT, || look(self)).unwrap_or_else(|| {
            let tail = |number| {
                self.log(number)
                    .lines()
                    .rev()
                    .take(60)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            let logs: String = (0..MACHINES).map(|number| format!("{}:\n{}\n", name(number), tail(number))).collect();
            panic!("waited in vain for {what}\n{logs}")
        })
    }
}

fn name(number: usize) -> String {
    if number < MANAGERS { format!("m{number}") } else { format!("w{number}") }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        for (_, pid) in self.tasks() {
            run(Command::new("kill").args(["-9", "--", &format!("-{pid}")]));
        }
    }
}
