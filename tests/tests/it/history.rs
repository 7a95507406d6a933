//! History as its readers get it: by name, including removed objects, and until their manager stops.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use wire::v1::EventsRequest;

use super::cluster::{Cluster, MANAGER};
use super::process::{Answer, TIMEOUT, poll, program};
use super::units::Executor;

#[test]
fn what_is_gone_has_a_story_and_a_name() {
    let cluster = Cluster::start(Executor::Process, &[]);
    let ids = [1, 2].map(|_| {
        let id = cluster.create("gone", "--replicas 1");
        cluster.settled("gone", 1);
        cluster.ok("service rm gone");
        cluster.until("its task to be reaped", || cluster.list("task ls -a").is_empty());
        id
    });
    let created = |object: &str| cluster.list(&format!("events --object {object} --kind service_created"));
    for (object, id) in [("gone", &ids[1]), (&ids[0], &ids[0])] {
        let records = created(object);
        assert_eq!(
            (records.len(), records[0]["subjects"][0].as_str()),
            (1, Some(id.as_str())),
            "{object}: {records:?}"
        );
    }
    let removed = cluster.list("events --kind service_removed");
    let from = removed[0]["index"].as_u64().expect("an index");
    let reaped = cluster.ok(&format!("events --from {from} --kind task_reaped"));
    let what: Vec<&str> = reaped.lines().skip(1).filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(what, ["gone.1", "gone.1"], "{reaped}");
    cluster.swarmctl("events --object never").refused(3, "never");
    let past = cluster.list(&format!("service ls --at {}", from - 1));
    assert_eq!((past.len(), past[0]["id"].as_str()), (1, Some(ids[0].as_str())), "{past:?}");
    assert_eq!(cluster.list("service ls"), Vec::<serde_json::Value>::new());
    cluster.swarmctl("service ls --at 99999").refused(2, "history ends at");
}

#[test]
fn who_follows_history_is_told_that_the_manager_stops() {
    let mut cluster = Cluster::start(Executor::Process, &[]);
    let mut command = Command::new(program("swarmctl"));
    command.arg("--socket").arg(cluster.socket(MANAGER)).args(["events", "--follow"]);
    let mut follower = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    let heading = lines.next().expect("a heading").expect("text");
    assert!(heading.starts_with("INDEX"), "{heading}");
    lines.next().expect("an event").expect("text");
    // A full pipe would block swarmctl.
    let rest = std::thread::spawn(move || lines.for_each(drop));
    assert_eq!(cluster.end(MANAGER), Some(0));
    let ended = poll(TIMEOUT, || follower.try_wait().expect("waited"));
    if ended.is_none() {
        follower.kill().expect("killed");
        follower.wait().expect("waited");
    }
    rest.join().expect("read to its end");
    let mut err = String::new();
    follower.stderr.take().expect("a pipe").read_to_string(&mut err).expect("text");
    let code = ended.and_then(|status| status.code()).expect("it ends by itself");
    Answer { code, out: String::new(), err }.refused(7, "the manager was stopped");
    assert!(!cluster.log(MANAGER).contains("did not end in time"), "{}", cluster.log(MANAGER));
}

/// Number of followers: more than there are threads for reading from the disk.
const FOLLOWERS: usize = 300;

/// Follows the creation of configs on streams of one connection, until each has received this many; counts the events.
async fn follow(socket: PathBuf, streams: usize, shown: usize, count: Arc<AtomicUsize>) -> Result<Vec<Vec<String>>> {
    let client = wire::connect(&socket).await?;
    let all = (0..streams).map(|_| {
        let (mut client, count) = (client.clone(), Arc::clone(&count));
        async move {
            let kinds = vec!["config_created".to_owned()];
            let request = EventsRequest { follow: true, kinds, ..EventsRequest::default() };
            let mut stream = client.events(request).await?.into_inner();
            let mut names = Vec::new();
            while names.len() < shown {
                names.extend(stream.message().await?.context("the stream ended")?.names.into_values());
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(names)
        }
    });
    try_join_all(all).await
}

#[test]
fn hundreds_who_follow_cost_no_thread_each_and_miss_nothing() {
    let cluster = Cluster::start(Executor::Process, &[]);
    let file = cluster.path("data");
    std::fs::write(&file, "data").expect("written");
    let create = |name: &str| cluster.ok(&format!("config create {name} {}", file.display()));
    create("before");
    let (runtime, count) = (tokio::runtime::Runtime::new().expect("a runtime"), Arc::new(AtomicUsize::new(0)));
    let connections = 0..3;
    let followers: Vec<_> = connections
        .map(|_| runtime.spawn(follow(cluster.socket(MANAGER), FOLLOWERS / 3, 4, Arc::clone(&count))))
        .collect();
    create("first");
    create("second");
    cluster.until("all to see them", || count.load(Ordering::Relaxed) == 3 * FOLLOWERS);
    let threads = std::fs::read_dir(format!("/proc/{}/task", cluster.pid(MANAGER))).expect("its threads").count();
    assert!(threads < FOLLOWERS / 3, "{threads} threads for {FOLLOWERS} who follow");
    create("third");
    for follower in followers {
        let shown = runtime.block_on(async { tokio::time::timeout(TIMEOUT, follower).await });
        let shown = shown.expect("in time").expect("no panic").expect("events");
        assert!(shown.iter().all(|names| names == &["before", "first", "second", "third"]), "{shown:?}");
    }
}

/// Number of readers that open a stream and read nothing.
const STALLED: usize = 64;
/// Size of a variable of the service whose history they request, three times: one of its events takes about 300 KB.
const VARIABLE_BYTES: usize = 100_000;

/// Maximum memory that may remain once they are gone: several times the measured value.
const KEPT_BYTES_MAX: u64 = 160 * 1024 * 1024;

/// The peak memory of a process, in bytes.
fn most_resident(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

/// A field of the kernel's memory status of a process, in bytes.
fn memory(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let field = status.lines().find_map(|line| line.strip_prefix(field)).expect("its size");
    let kibibytes: u64 = field.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes * 1024
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").count()
}

/// Opens streams of all of history on separate connections, and reads none of them.
async fn stall(socket: PathBuf) -> Result<Vec<tonic::Streaming<wire::v1::EventRecord>>> {
    let open = |_| async {
        let request = EventsRequest { follow: true, ..EventsRequest::default() };
        Ok(wire::connect(&socket).await?.events(request).await?.into_inner())
    };
    try_join_all((0..STALLED).map(open)).await
}

#[test]
fn readers_that_stop_reading_hold_a_bounded_memory_that_does_not_add_up() {
    let cluster = Cluster::start(Executor::Process, &[]);
    let variable = "x".repeat(VARIABLE_BYTES);
    cluster.create("web", &format!("--replicas 0 --env A={variable} --env B={variable} --env C={variable}"));
    for number in 0..10 {
        cluster.ok(&format!("service update web --label number={number}"));
    }
    let (pid, record) = (cluster.pid(MANAGER), 3 * VARIABLE_BYTES as u64);
    let (before, resident) = (most_resident(pid), memory(pid, "VmRSS:"));
    let rounds = [(); 3].map(|()| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let streams = runtime.block_on(stall(cluster.socket(MANAGER))).expect("streams");
        // Each has a thread that reads from the disk and is blocked.
        cluster.until("all to wait", || threads(pid) > STALLED);
        drop(streams);
        drop(runtime);
        cluster.until("nobody to wait", || threads(pid) < STALLED / 2);
        most_resident(pid) - before
    });
    let [first, .., last] = rounds;
    assert!(first < STALLED as u64 * 50 * record, "{first} bytes for {STALLED} who read nothing");
    assert!(last < first * 3 / 2 + STALLED as u64 * record, "what they held adds up: {rounds:?}");
    let kept = || memory(pid, "VmRSS:").saturating_sub(resident);
    cluster.until("what they held to be given back", || kept() < KEPT_BYTES_MAX);
}
