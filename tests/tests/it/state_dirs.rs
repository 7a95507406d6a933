//! Every file and directory of a node's state directory, damaged in every way: each start either works as if nothing had
//! happened, or fails with one sentence, a hint and its exit code, and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::cluster::{Cluster, MANAGER, free_address, path};
use super::process::{Answer, TIMEOUT, is_root, poll, program, run};
use super::units::Executor;

/// The kinds of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Missing,
    Empty,
    Truncated,
    Garbage,
    /// A directory instead of a file, or the reverse.
    Swapped,
    /// Not readable by anyone.
    Unreadable,
}
use Damage::{Empty, Garbage, Missing, Swapped, Truncated, Unreadable};

/// The expected result of a start.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// It starts, with these words in its log.
    Starts(&'static str),
    /// It fails with this exit code and these words, and has changed nothing.
    Refuses(i32, &'static str),
}
use Expected::{Refuses, Starts};

/// The damaged file, the kinds of damage, and the expected result.
type Case = (&'static str, &'static [Damage], Expected);

const ANY: &[Damage] = &[Empty, Truncated, Garbage];
const LEADS: Expected = Starts("this node is a manager");
const WORKS: Expected = Starts("this node is a worker");
const LOG_IS_GONE: &str = "this node is a manager, but its log";

/// Cases of a manager. `LOG/x` stands for all files of the database whose names start or end with x.
const OF_A_MANAGER: &[Case] = &[
    ("lock", &[Missing, Empty, Garbage], LEADS),
    ("lock", &[Swapped], Refuses(1, "lock: Is a directory")),
    ("raft", &[Missing, Empty], Refuses(1, LOG_IS_GONE)),
    ("raft", &[Swapped], Refuses(1, "Not a directory")),
    ("raft/log", &[Missing, Empty], Refuses(1, "but everything up to index")),
    ("raft/log", &[Swapped], Refuses(1, "Not a directory")),
    ("raft/log.key", ANY, Refuses(1, "log.key is damaged")),
    ("raft/log.key", &[Missing], Refuses(1, "log.key is missing")),
    ("raft/log.key", &[Swapped], Refuses(1, "log.key: Is a directory")),
    ("raft/log.mark", &[Missing, Empty, Truncated, Garbage], LEADS),
    ("raft/log.mark", &[Swapped], Refuses(1, "log.mark: Is a directory")),
    ("LOG/CURRENT", &[Missing], Refuses(1, "its file CURRENT is missing")),
    ("LOG/CURRENT", &[Empty, Truncated, Garbage, Swapped], Refuses(1, "log")),
    ("LOG/MANIFEST-", &[Missing, Empty, Truncated, Garbage, Swapped], Refuses(1, "log")),
    ("LOG/.log", &[Missing, Empty, Truncated, Garbage, Swapped], Refuses(1, "log")),
    ("LOG/.sst", &[Missing, Empty, Truncated, Garbage, Swapped], Refuses(1, "log")),
    ("certificates", &[Missing, Empty], LEADS),
    ("certificates", &[Swapped], Refuses(8, "Not a directory")),
    ("certificates/swarm-node.crt", &[Missing], LEADS),
    ("certificates/swarm-node.crt", ANY, Refuses(8, "swarm-node.crt is not usable")),
    ("certificates/swarm-node.crt", &[Swapped], Refuses(8, "Is a directory")),
    ("certificates/swarm-node.key", &[Missing], LEADS),
    ("certificates/swarm-node.key", ANY, Refuses(8, "swarm-node.key is not usable")),
    ("certificates/swarm-root-ca.crt", &[Missing], LEADS),
    ("certificates/swarm-root-ca.crt", ANY, Refuses(8, "swarm-root-ca.crt is not usable")),
    ("start.json", &[Missing], LEADS),
    ("start.json", ANY, Refuses(1, "start.json cannot be read")),
    ("start.json", &[Swapped], Refuses(1, "start.json: Is a directory")),
    ("worker", &[Missing, Empty], LEADS),
    ("worker", &[Swapped], Refuses(1, "worker: Not a directory")),
    (
        "worker.key",
        &[Missing, Empty, Truncated, Garbage],
        Starts("cannot be read, and the managers assign the tasks again"),
    ),
    ("worker.key", &[Swapped], Refuses(1, "worker.key: Is a directory")),
    ("worker/TASK", &[Missing], LEADS),
    ("worker/TASK", &[Empty, Truncated, Garbage, Swapped], Starts("kept as")),
];

const OF_A_WORKER: &[Case] = &[
    ("lock", &[Missing, Empty, Garbage], WORKS),
    ("lock", &[Swapped], Refuses(1, "lock: Is a directory")),
    ("certificates", &[Missing, Empty], Refuses(8, "its root certificate is missing")),
    ("certificates", &[Swapped], Refuses(8, "Not a directory")),
    ("certificates/swarm-node.crt", &[Missing], Refuses(8, "its certificate is missing")),
    ("certificates/swarm-node.crt", ANY, Refuses(8, "swarm-node.crt is not usable")),
    ("certificates/swarm-node.crt", &[Swapped], Refuses(8, "Is a directory")),
    ("certificates/swarm-node.key", &[Missing], Refuses(8, "its key is missing")),
    ("certificates/swarm-node.key", ANY, Refuses(8, "swarm-node.key is not usable")),
    ("certificates/swarm-node.key", &[Swapped], Refuses(8, "Is a directory")),
    ("certificates/swarm-root-ca.crt", &[Missing], Refuses(8, "its root certificate is missing")),
    ("certificates/swarm-root-ca.crt", ANY, Refuses(8, "swarm-root-ca.crt is not usable")),
    ("certificates/swarm-root-ca.crt", &[Swapped], Refuses(8, "Is a directory")),
    ("manager.addr", &[Missing], Refuses(1, "manager.addr cannot be read: No such file")),
    ("manager.addr", ANY, Refuses(1, "no manager is known")),
    ("manager.addr", &[Swapped], Refuses(1, "manager.addr cannot be read: Is a directory")),
    ("start.json", &[Missing], WORKS),
    ("start.json", ANY, Refuses(1, "start.json cannot be read")),
    ("start.json", &[Swapped], Refuses(1, "start.json: Is a directory")),
    ("worker", &[Missing, Empty], WORKS),
    ("worker", &[Swapped], Refuses(1, "worker: Not a directory")),
    (
        "worker.key",
        &[Missing, Empty, Truncated, Garbage],
        Starts("cannot be read, and the managers assign the tasks again"),
    ),
    ("worker.key", &[Swapped], Refuses(1, "worker.key: Is a directory")),
    ("worker/TASK", &[Missing], WORKS),
    ("worker/TASK", &[Empty, Truncated, Garbage, Swapped], Starts("kept as")),
    // An empty directory, as an interrupted start leaves it, does not make a node a manager.
    ("raft", &[Empty], WORKS),
    ("raft", &[Swapped], Refuses(1, "Not a directory")),
];

/// The errors for a user without read access; everything in a state directory belongs to its owner only.
const UNREADABLE: &[(&str, &str, i32)] = &[
    (MANAGER, "", 1),
    (MANAGER, "lock", 1),
    (MANAGER, "raft", 1),
    (MANAGER, "raft/log", 1),
    (MANAGER, "raft/log.key", 1),
    (MANAGER, "raft/log.mark", 1),
    (MANAGER, "LOG/CURRENT", 1),
    (MANAGER, "LOG/MANIFEST-", 1),
    (MANAGER, "LOG/.log", 1),
    (MANAGER, "LOG/.sst", 1),
    (MANAGER, "certificates", 8),
    (MANAGER, "certificates/swarm-node.key", 8),
    (MANAGER, "worker", 1),
    (MANAGER, "worker.key", 1),
    ("w1", "certificates", 8),
    ("w1", "certificates/swarm-node.crt", 8),
    ("w1", "manager.addr", 1),
    ("w1", "start.json", 1),
    ("w1", "worker", 1),
    ("w1", "worker.key", 1),
];

/// State directories of a manager and a worker, each with a task, as their daemons left them.
struct Pristine {
    cluster: Cluster,
    copies: tempfile::TempDir,
    swarmd: PathBuf,
}

impl Pristine {
    fn make() -> Self {
        let mut cluster = Cluster::start(Executor::Process, &["w1"]);
        cluster.create("web", "--replicas 2");
        cluster.settled("web", 2);
        // The next start moves the writes of the first one into tables.
        assert_eq!(cluster.end(MANAGER), Some(0));
        cluster.resume(MANAGER);
        cluster.await_manager();
        cluster.settled("web", 2);
        cluster.kill("w1");
        cluster.kill(MANAGER);
        Self { cluster, copies: tempfile::tempdir().expect("a directory"), swarmd: program("swarmd") }
    }

    /// A copy of a node's directory.
    fn copy(&self, node: &str) -> PathBuf {
        let to = self.copies.path().join("state");
        if to.exists() {
            fs::remove_dir_all(&to).expect("removed");
        }
        let from = self.cluster.state_dir(node);
        let copied = run(Command::new("cp").arg("--recursive").arg("--preserve").arg(from).arg(&to));
        assert_eq!(copied.code, 0, "{copied:?}");
        to
    }

    fn swarmd(&self, dir: &Path) -> Command {
        let mut command = Command::new(&self.swarmd);
        command.args(["--executor", "process", "--hostname", "n", "--listen-remote-api", &free_address()]);
        command.arg("--listen-control-api").arg(self.copies.path().join("control.sock")).arg("--state-dir").arg(dir);
        command
    }
}

/// The paths that a case's name stands for.
fn places(dir: &Path, name: &str) -> Vec<PathBuf> {
    let listed = |dir: PathBuf, wanted: &dyn Fn(&str) -> bool| {
        let entries = fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry").path());
        let found = entries.filter(|path| path.file_name().is_some_and(|name| wanted(&name.to_string_lossy())));
        let mut found: Vec<_> = found.collect();
        found.sort();
        assert!(!found.is_empty(), "nothing of {} is in it", dir.display());
        found
    };
    match name.split_once('/') {
        Some(("LOG", part)) => listed(dir.join("raft/log"), &|name| {
            // A write-ahead log that is empty after a flush contains nothing that could be damaged.
            let size = fs::metadata(dir.join("raft/log").join(name)).expect("a file").len();
            (name.starts_with(part) || name.ends_with(part)) && size > 0
        }),
        Some(("worker", "TASK")) => listed(dir.join("worker"), &|_| true),
        Some(_) | None => vec![dir.join(name)],
    }
}

fn damage(place: &Path, how: Damage) {
    let is_dir = place.is_dir();
    let remove = || if is_dir { fs::remove_dir_all(place) } else { fs::remove_file(place) };
    match how {
        Missing => remove().expect("removed"),
        Swapped if is_dir || !place.exists() => {
            let _ = remove();
            fs::write(place, "not a directory").expect("written");
        }
        Swapped => {
            remove().expect("removed");
            fs::create_dir(place).expect("made");
        }
        Empty if is_dir || !place.exists() => {
            let _ = remove();
            fs::create_dir(place).expect("made");
        }
        Empty => fs::write(place, "").expect("written"),
        Truncated => {
            let whole = fs::read(place).expect("read");
            fs::write(place, &whole[..whole.len() / 2]).expect("written");
        }
        Garbage => fs::write(place, [0xa5; 200]).expect("written"),
        Unreadable => fs::set_permissions(place, fs::Permissions::from_mode(0o000)).expect("changed"),
    }
}

/// Everything in a directory except its lock: names and contents.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.ends_with("lock") {
            continue;
        }
        if path.is_dir() {
            found.extend(contents(&path));
            found.insert(path, None);
        } else {
            let bytes = fs::read(&path).ok();
            found.insert(path, bytes);
        }
    }
    found
}

/// Starts a daemon, which must get far enough to log these words, and stops it.
fn starts(command: &mut Command, log: &Path, words: &str) -> Result<(), String> {
    let log_text = || fs::read_to_string(log).expect("a log");
    let file = fs::File::create(log).expect("a log");
    let mut child: Child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().expect("started");
    let found =
        poll(TIMEOUT, || (log_text().contains(words) || child.try_wait().expect("waited").is_some()).then_some(()));
    let goes_on = child.try_wait().expect("waited").is_none();
    if goes_on {
        run(Command::new("kill").arg(child.id().to_string()));
    }
    let ended = poll(TIMEOUT, || child.try_wait().expect("waited"));
    if ended.is_none() {
        child.kill().expect("killed");
    }
    let ended = ended.and_then(|status| status.code());
    match (found, goes_on, ended) {
        (Some(()), true, Some(0)) => Ok(()),
        _ => Err(format!("it ended with {ended:?}: {}", log_text())),
    }
}

fn check(pristine: &Pristine, node: &str, cases: &[Case]) {
    let mut wrong = Vec::new();
    for (name, damages, expected) in cases {
        let count = places(&pristine.copy(node), name).len();
        for (how, number) in damages.iter().flat_map(|how| (0..count).map(move |number| (how, number))) {
            let dir = pristine.copy(node);
            let place = places(&dir, name).swap_remove(number);
            damage(&place, *how);
            let case = format!("{node}: {} {how:?}", place.strip_prefix(&dir).expect("within").display());
            let before = contents(&dir);
            let log = pristine.copies.path().join("log");
            let judged = match expected {
                Starts(words) => starts(&mut pristine.swarmd(&dir), &log, words),
                Refuses(code, words) => {
                    let answer = run(&mut pristine.swarmd(&dir));
                    println!("{case}\n{}", answer.err);
                    let unchanged = before == contents(&dir);
                    refused(&answer, *code, words)
                        .and_then(|()| if unchanged { Ok(()) } else { Err("something is different now".to_owned()) })
                }
            };
            if let Err(why) = judged {
                wrong.push(format!("{case}: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Like [`Answer::refused`], but for a table: all failing rows are reported.
fn refused(answer: &Answer, code: i32, words: &str) -> Result<(), String> {
    let check = std::panic::AssertUnwindSafe(|| answer.refused(code, words));
    std::panic::catch_unwind(check).map_err(|_| format!("not refused with {code} and \"{words}\": {answer:?}"))
}

#[test]
fn every_damage_of_a_managers_directory_is_told_or_mended() {
    check(&Pristine::make(), MANAGER, OF_A_MANAGER);
}

#[test]
fn every_damage_of_a_workers_directory_is_told_or_mended() {
    check(&Pristine::make(), "w1", OF_A_WORKER);
}

#[test]
fn what_may_not_be_read_is_named() {
    /// The id of the unprivileged user and group on most systems; any other would do.
    const NOBODY: u32 = 65_534;
    let mut pristine = Pristine::make();
    let is_root = is_root();
    if is_root {
        // Other users must have access to this test's own programs.
        pristine.swarmd = pristine.copies.path().join("swarmd");
        fs::copy(program("swarmd"), &pristine.swarmd).expect("copied");
    }
    let mut wrong = Vec::new();
    for (node, name, code) in UNREADABLE {
        let dir = pristine.copy(node);
        let place = places(&dir, name).swap_remove(0);
        damage(&place, Unreadable);
        let mut command = pristine.swarmd(&dir);
        if is_root {
            // Root can read everything, so the test runs as another user, who owns all files.
            let owner = format!("{NOBODY}:{NOBODY}");
            let given = run(Command::new("chown").arg("--recursive").arg(&owner).arg(pristine.copies.path()));
            assert_eq!(given.code, 0, "{given:?}");
            command.uid(NOBODY).gid(NOBODY);
        }
        let answer = run(&mut command);
        println!("{node}: {name}\n{}", answer.err);
        fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).expect("changed");
        if let Err(why) = refused(&answer, *code, "ermission denied") {
            wrong.push(format!("{node}: {name}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_replay_says_what_a_directory_is_instead() {
    let pristine = Pristine::make();
    let replay = |dir: &Path| run(Command::new(program("swarmd")).args(["replay", "-d", &path(dir)]));
    assert_eq!(replay(&pristine.copy(MANAGER)).code, 0);
    replay(&pristine.copy("w1")).refused(1, "it belongs to a worker, and only managers have a log");
    replay(&pristine.copies.path().join("absent")).refused(1, "there is no such directory");
    let empty = pristine.copies.path().join("empty");
    fs::create_dir(&empty).expect("made");
    replay(&empty).refused(1, "no manager has a log there");
    assert_eq!(fs::read_dir(&empty).expect("a directory").count(), 0, "a replay makes nothing");
    let file = pristine.copies.path().join("file");
    fs::write(&file, "").expect("written");
    replay(&file).refused(1, "Not a directory");

    let dir = pristine.copy(MANAGER);
    fs::remove_dir_all(dir.join("raft")).expect("removed");
    let before = contents(&dir);
    replay(&dir).refused(1, LOG_IS_GONE);
    assert!(before == contents(&dir), "a replay changes nothing");
    let dir = pristine.copy(MANAGER);
    fs::remove_dir_all(dir.join("raft/log")).expect("removed");
    replay(&dir).refused(1, "but everything up to index");
}

#[test]
fn a_worker_without_its_certificate_begins_no_cluster_and_may_join_anew() {
    let mut cluster = Cluster::start(Executor::Process, &["w1"]);
    let token = cluster.token("worker");
    cluster.end("w1");
    fs::remove_dir_all(cluster.state_dir("w1").join("certificates")).expect("removed");
    let flags = cluster.flags("w1");
    let start = |more: &[&str]| run(Command::new(program("swarmd")).args(&flags).args(more));
    start(&["--join-token", &token]).refused(2, "no address of a manager");
    start(&[]).refused(8, "is missing");
    assert!(!cluster.state_dir("w1").join("raft").exists(), "it begins no cluster");
    // With the flags of its first start it comes back, as a new node.
    cluster.resume("w1");
    cluster.until("three nodes, of which two are ready", || {
        let nodes = cluster.list("node ls");
        nodes.len() == 3 && nodes.iter().filter(|node| node["state"] == "ready").count() == 2
    });
}
