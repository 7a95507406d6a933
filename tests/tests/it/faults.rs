//! Three managers as real processes on hosts of their own, under load, while whatever can break breaks: kills, pauses, partitions,
//! changes of the members, lost disks.
//! Clients keep a journal of what was acknowledged, and in the end every manager must have all of it, once, in one history.
//!
//! `SWARMLOG_SOAK_SECONDS` says how long, and `SWARMLOG_SOAK_SEED` which faults; `make soak` sets the former.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use events::{Annotations, CommandId, ConfigSpec, Id, Role};
use node::log::{LogStore, RocksStore};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use wire::v1::command_request::Command as Asked;
use wire::v1::{CommandRequest, CreateConfig};

use super::hosts::Hosts;
use super::process::{PATIENCE, poll, program, run};
use super::quorum::ask_role;

/// Managers.
const COUNT: usize = 3;
/// Clients that ask at the same time.
const CLIENTS: u64 = 4;
/// How long a client waits for an answer before it asks another manager for the same.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// How long the faults last unless told otherwise, and which they are.
const SECONDS: u64 = 20;
const SEED: u64 = 7;
/// Changes of the members in all: a node gets six certificates at once, and one more each ten minutes.
const CHANGES_MAX: u64 = 3;
/// What a manager's log says once it votes, and once it is none any more.
const VOTES: &str = "this manager has joined, and votes";
const IS_WORKER: &str = "this node is a worker from now on";
/// Longest time that a fault lasts.
const FAULT_MAX_MS: u64 = 3_000;

/// What was acknowledged: the name of each config, by the index of its frame.
type Journal = Arc<Mutex<BTreeMap<u64, Vec<String>>>>;

struct Managers {
    dir: TempDir,
    hosts: Hosts,
    children: Vec<Option<Child>>,
    /// Lets managers in.
    token: String,
    /// Changes of the members that may still be made: a node gets six certificates at once.
    changes: u64,
}

impl Managers {
    /// Managers that all vote.
    fn start(hosts: Hosts) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut managers = Self { dir, hosts, children: Vec::new(), token: String::new(), changes: CHANGES_MAX };
        managers.children.push(Some(managers.spawn(0, &[])));
        managers.token = managers.until("a cluster", |managers| managers.token());
        (1..COUNT).for_each(|number| managers.children.push(Some(managers.join(number, 0))));
        (1..COUNT).for_each(|number| managers.await_log(number, VOTES, 1));
        managers
    }

    /// Starts a manager that joins at another one.
    fn join(&self, number: usize, at: usize) -> Child {
        let at = format!("{}:4242", self.hosts.address(at));
        self.spawn(number, &["--join-addr", &at, "--join-token", &self.token])
    }

    /// Waits until a manager has said something so many times.
    fn await_log(&self, number: usize, words: &str, times: usize) {
        self.until(&format!("m{number} to say so: {words}"), |managers| {
            (managers.log(number).matches(words).count() >= times).then_some(())
        });
    }

    /// The nodes with the name of a manager's host, as another one has them.
    fn nodes(&self, number: usize, at: usize) -> Vec<String> {
        let mut command = Command::new(program("swarmctl"));
        let answer = run(command.arg("--socket").arg(self.socket(at)).args(["node", "ls", "--format", "json"]));
        let listed = answer.out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let own = listed.filter(|node| node["hostname"] == format!("m{number}").as_str());
        own.filter_map(|node| node["id"].as_str().map(str::to_owned)).collect()
    }

    /// Asks another manager for another role of a node until that is taken.
    fn set_role(&self, node: &str, role: Role, at: usize) {
        self.until("another role", |managers| ask_role(&managers.socket(at), node, role).ok());
    }

    /// Makes a worker of a manager, and a manager again.
    fn demote_and_promote(&self, victim: usize, at: usize) {
        let said = |words: &str| self.log(victim).matches(words).count() + 1;
        let (worker, votes) = (said(IS_WORKER), said(VOTES));
        let node = self.until("a node", |managers| managers.nodes(victim, at).pop());
        self.set_role(&node, Role::Worker, at);
        self.await_log(victim, IS_WORKER, worker);
        self.set_role(&node, Role::Manager, at);
        self.await_log(victim, VOTES, votes);
    }

    /// Takes a manager's disk away. It joins as another node, and the one that it was goes.
    fn lose_disk(&mut self, victim: usize, at: usize) {
        let lost = self.until("a node", |managers| managers.nodes(victim, at).pop());
        let votes = self.log(victim).matches(VOTES).count() + 1;
        self.kill(victim);
        std::fs::remove_dir_all(self.state_dir(victim)).expect("removed");
        self.children[victim] = Some(self.join(victim, at));
        self.await_log(victim, VOTES, votes);
        self.set_role(&lost, Role::Worker, at);
        self.until("the lost node to go", |managers| {
            let mut command = Command::new(program("swarmctl"));
            let socket = managers.socket(at);
            (run(command.arg("--socket").arg(socket).args(["node", "rm", "--force", &lost])).code == 0).then_some(())
        });
    }

    fn socket(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("{number}.sock"))
    }

    fn state_dir(&self, number: usize) -> PathBuf {
        self.dir.path().join(number.to_string())
    }

    fn log(&self, number: usize) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("{number}.log"))).unwrap_or_default()
    }

    fn spawn(&self, number: usize, flags: &[&str]) -> Child {
        let log = self.dir.path().join(format!("{number}.log"));
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let mut command = self.hosts.command(number, &program("swarmd"));
        command.args(["--executor", "process", "--hostname", &format!("m{number}"), "--state-dir"]);
        command.arg(self.state_dir(number)).arg("--listen-control-api").arg(self.socket(number));
        command.args(["--listen-remote-api", &format!("{}:4242", self.hosts.address(number))]).args(flags);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("started")
    }

    fn token(&self) -> Option<String> {
        let mut command = Command::new(program("swarmctl"));
        let answer = run(command.arg("--socket").arg(self.socket(0)).args(["cluster", "inspect", "--format", "json"]));
        let cluster: serde_json::Value = serde_json::from_str(answer.out.lines().next()?).ok()?;
        cluster["join_tokens"]["manager"].as_str().map(str::to_owned)
    }

    #[track_caller]
    fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        poll(PATIENCE, || look(self)).unwrap_or_else(|| {
            let logs: String = (0..COUNT).map(|number| format!("m{number}:\n{}", self.log(number))).collect();
            panic!("waited in vain for {what}\n{logs}")
        })
    }

    fn signal(&self, number: usize, signal: &str) {
        if let Some(child) = &self.children[number] {
            run(Command::new("kill").args([signal, &child.id().to_string()]));
        }
    }

    fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.children[number].take() {
            child.kill().expect("killed");
            child.wait().expect("waited");
        }
    }

    fn resume(&mut self, number: usize) {
        if self.children[number].is_none() {
            self.children[number] = Some(self.spawn(number, &[]));
        }
    }

    /// The names of the configs that a manager has, in its own words; nothing if it does not answer.
    fn configs(&self, number: usize) -> Option<Vec<String>> {
        let mut command = Command::new(program("swarmctl"));
        let answer = run(command.arg("--socket").arg(self.socket(number)).args(["config", "ls", "--format", "json"]));
        let listed = answer.out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let name = |config: serde_json::Value| config["spec"]["annotations"]["name"].as_str().map(str::to_owned);
        let mut names: Vec<String> = listed.filter_map(name).collect();
        names.sort();
        (answer.code == 0).then_some(names)
    }

    /// The frames of history on the disk of a manager that does not run.
    fn history(&self, number: usize) -> Vec<(u64, Bytes)> {
        let store =
            RocksStore::open_to_verify(&self.state_dir(number).join("raft"), &Default::default()).expect("a log");
        store.expect("a log").history(0, usize::MAX, usize::MAX).expect("history")
    }

    /// Breaks something for a while; what it was, in a word.
    fn fault(&mut self, random: &mut StdRng) -> &'static str {
        let (victim, other) = (random.random_range(0..COUNT), random.random_range(1..COUNT));
        let (other, length) = ((victim + other) % COUNT, Duration::from_millis(random.random_range(200..FAULT_MAX_MS)));
        let others = (0..COUNT).filter(|number| *number != victim);
        let kind = random.random_range(0..8);
        if kind >= 6 && self.changes > 0 {
            self.changes -= 1;
            return match kind {
                6 => {
                    self.demote_and_promote(victim, other);
                    "one demoted and promoted"
                }
                _ => {
                    self.lose_disk(victim, other);
                    "one disk lost"
                }
            };
        }
        match kind {
            0 => {
                self.kill(victim);
                std::thread::sleep(length);
                self.resume(victim);
                "one killed"
            }
            1 => {
                (0..COUNT).for_each(|number| self.kill(number));
                (0..COUNT).for_each(|number| self.resume(number));
                "all killed"
            }
            2 => {
                self.signal(victim, "-STOP");
                std::thread::sleep(length);
                self.signal(victim, "-CONT");
                "one paused"
            }
            3 => {
                others.for_each(|other| {
                    self.hosts.cut(victim, other);
                    self.hosts.cut(other, victim);
                });
                std::thread::sleep(length);
                self.hosts.heal();
                "one cut off"
            }
            4 => {
                others.for_each(|other| self.hosts.cut(victim, other));
                std::thread::sleep(length);
                self.hosts.heal();
                "one not heard"
            }
            _ => {
                self.hosts.cut(victim, other);
                std::thread::sleep(length);
                self.hosts.heal();
                "one not heard by another"
            }
        }
    }
}

impl Drop for Managers {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // One that has ended already is just as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Asks for one config after the other, each until it is acknowledged, of one manager after the other and with the same id.
async fn client(number: u64, sockets: Vec<PathBuf>, journal: Journal, over: Arc<AtomicBool>) {
    let mut random = StdRng::seed_from_u64(number);
    let mut manager = number as usize;
    for sequence in 0.. {
        let name = format!("c{number}-{sequence}");
        let id = CommandId::from_bits(random.random());
        loop {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let asked = tokio::time::timeout(ANSWER_PATIENCE, ask(&sockets[manager % sockets.len()], id, &name));
            match asked.await {
                Ok(Ok(index)) => {
                    journal.lock().expect("no panic").entry(index).or_default().push(name);
                    break;
                }
                Ok(Err(())) | Err(_) => manager += 1,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn ask(socket: &Path, id: CommandId, name: &str) -> Result<u64, ()> {
    let mut client = wire::connect(socket).await.map_err(drop)?;
    let spec = ConfigSpec { annotations: Some(Annotations { name: name.to_owned(), ..Annotations::default() }) };
    let command = Some(Asked::CreateConfig(CreateConfig { spec, data: b"data".to_vec() }));
    let answered = client.execute(CommandRequest { id, command, ..CommandRequest::default() }).await;
    answered.map(|reply| reply.into_inner().index).map_err(drop)
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub fn what_managers_acknowledged_they_keep_whatever_breaks() {
    let mut managers = Managers::start(Hosts::new(COUNT));
    let (seconds, seed) = (setting("SWARMLOG_SOAK_SECONDS", SECONDS), setting("SWARMLOG_SOAK_SEED", SEED));
    let (journal, over) = (Journal::default(), Arc::new(AtomicBool::new(false)));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let sockets: Vec<PathBuf> = (0..COUNT).map(|number| managers.socket(number)).collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| runtime.spawn(client(number, sockets.clone(), Arc::clone(&journal), Arc::clone(&over))))
        .collect();
    let (mut random, mut faults, begun) = (StdRng::seed_from_u64(seed), BTreeMap::<_, u64>::new(), Instant::now());
    while begun.elapsed() < Duration::from_secs(seconds) {
        *faults.entry(managers.fault(&mut random)).or_default() += 1;
        let before = journal.lock().expect("no panic").len();
        let goes_on = |_: &Managers| (journal.lock().expect("no panic").len() > before).then_some(());
        managers.until("commands to be taken again", goes_on);
    }
    over.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| runtime.block_on(client).expect("no panic"));
    let acknowledged: Vec<String> = journal.lock().expect("no panic").values().flatten().cloned().collect();
    println!("{} commands were acknowledged under {faults:?}", acknowledged.len());
    let same = managers.until("the same on all managers", |managers| {
        let all: Option<Vec<Vec<String>>> = (0..COUNT).map(|number| managers.configs(number)).collect();
        all.filter(|all| all.iter().all(|names| *names == all[0])).map(|mut all| all.remove(0))
    });
    let lost: Vec<&String> = acknowledged.iter().filter(|name| same.binary_search(name).is_err()).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    (0..COUNT).for_each(|number| managers.kill(number));
    let histories: Vec<Vec<(u64, Bytes)>> = (0..COUNT).map(|number| managers.history(number)).collect();
    let shortest = histories.iter().map(Vec::len).min().unwrap_or(0);
    assert!(shortest > 0 && !acknowledged.is_empty(), "nothing was compared");
    assert!(histories.iter().all(|history| history[..shortest] == histories[0][..shortest]), "one history");
    for number in 0..COUNT {
        let replay =
            run(Command::new(program("swarmd")).args(["replay", "--state-dir"]).arg(managers.state_dir(number)));
        assert_eq!(replay.code, 0, "{replay:?}");
    }
}
