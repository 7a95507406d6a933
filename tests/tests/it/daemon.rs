//! One daemon: its start beside others, its end, and inspection afterwards.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use events::{CommandId, Id};
use node::log::{LogStore, RocksStore};
use wire::v1::{CommandRequest, RemoveService, command_request as request};

use super::cluster::{Cluster, MANAGER, free_address, path};
use super::process::{TIMEOUT, is_root, poll, program, run};
use super::units::{Executor, IMAGE};

pub fn a_dev_cluster_leaves_nothing_behind(executor: Executor) {
    let mut command = Command::new(program("swarmd"));
    let mut child = command.arg("--dev").args(executor.flags()).stderr(Stdio::piped()).spawn().expect("started");
    let mut stderr_lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let socket = stderr_lines.find_map(|line| Some(line.expect("text").split_once("SWARM_SOCKET=")?.1.to_owned()));
    let socket = socket.expect("the way to the cluster");
    // A full pipe would block the daemon.
    let rest = std::thread::spawn(move || stderr_lines.for_each(drop));
    let swarmctl = |words: &[&str]| run(Command::new(program("swarmctl")).args(["--socket", &socket]).args(words));
    let create = ["service", "create", "--name", "web", "--replicas", "2", "--command", "sleep", "--args", "3600"];
    let created = swarmctl(&[&create[..], &["--image", IMAGE, "--timeout", "1m"]].concat());
    let cluster = swarmctl(&["cluster", "inspect", "--format", "json"]).out;
    let dir = std::path::Path::new(&socket).parent().expect("a directory").to_owned();
    let cluster: serde_json::Value = serde_json::from_str(&cluster).unwrap_or_default();
    let id = cluster["id"].as_str().unwrap_or_default().to_owned();
    let running = executor.running(&id, std::slice::from_ref(&dir)).len();
    let pids = processes_below(&dir);

    assert_eq!(run(Command::new("kill").arg(child.id().to_string())).code, 0);
    let ended = poll(TIMEOUT, || child.try_wait().expect("waited"));
    if ended.is_none() {
        child.kill().expect("killed");
        executor.remove_all(&id, std::slice::from_ref(&dir));
    }
    rest.join().expect("read to its end");
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    assert_eq!((created.code, running), (0, 2), "{created:?}");
    assert!(!dir.exists(), "the directory is gone");
    assert!(executor.running(&id, &[]).is_empty(), "the containers are gone");
    assert!(pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()), "the processes are gone");
}

/// The processes with this directory on their command line.
fn processes_below(dir: &std::path::Path) -> Vec<String> {
    let found = run(Command::new("pgrep").args(["-f", "--", &format!("supervise --task-dir {}", dir.display())]));
    found.out.lines().map(str::to_owned).collect()
}

/// Runs a `swarmd` that is expected to exit at once.
fn swarmd(flags: &[String]) -> super::process::Answer {
    run(Command::new(program("swarmd")).args(flags))
}

/// The flags of the cluster's manager, with some changed.
fn with(cluster: &Cluster, changed: &[(&str, String)]) -> Vec<String> {
    let mut flags = cluster.flags(MANAGER);
    for (flag, value) in changed {
        let position = flags.iter().position(|present| present == flag).expect("a flag of the manager");
        flags[position + 1].clone_from(value);
    }
    flags
}

#[test]
fn a_second_daemon_takes_nothing_of_the_first() {
    let cluster = Cluster::start(Executor::Process, &[]);
    let (own_dir, own_socket) = (path(&cluster.path("own")), path(&cluster.path("own.sock")));
    let (dir, address, socket) = ("--state-dir", "--listen-remote-api", "--listen-control-api");
    let elsewhere = (address, free_address());

    let same_dir = with(&cluster, &[elsewhere.clone(), (socket, own_socket.clone())]);
    swarmd(&same_dir).refused(1, "another swarmd is running on the state directory");
    let same_port = with(&cluster, &[(dir, own_dir.clone()), (socket, own_socket)]);
    swarmd(&same_port).refused(1, &format!("cannot listen on {}", cluster.address()));
    let same_socket = with(&cluster, &[(dir, own_dir.clone()), elsewhere.clone()]);
    swarmd(&same_socket).refused(1, "another process listens on the control socket");
    assert!(!cluster.path("own").join("raft").exists(), "no cluster was started");
    assert!(!cluster.path("own.sock").exists());
    cluster.ok("node ls");
}

#[test]
fn a_daemon_ends_cleanly_and_its_socket_goes_with_it() {
    let mut cluster = Cluster::start(Executor::Process, &["w1"]);
    cluster.create("web", "--replicas 2");
    let units = {
        cluster.settled("web", 2);
        cluster.units()
    };
    assert_eq!(cluster.end("w1"), Some(0));
    swarmd(&["replay".to_owned(), "-d".to_owned(), path(&cluster.state_dir("w1"))]).refused(1, "there is no log");
    assert_eq!(cluster.end(MANAGER), Some(0));
    assert!(!cluster.socket(MANAGER).exists());
    assert_eq!(cluster.units(), units, "tasks go on");
    cluster.swarmctl("node ls").refused(7, "no manager answers");
    cluster.resume(MANAGER);
    cluster.resume("w1");
    cluster.await_manager();
    cluster.settled("web", 2);
    assert_eq!(cluster.units(), units);
}

/// The metrics of a manager: dashboards and alerts depend on these names.
const METRICS: [&str; 31] = [
    "process_resident_memory_bytes gauge",
    "swarmlog_archive_failures_total counter",
    "swarmlog_archived_frames gauge",
    "swarmlog_archives_absent gauge",
    "swarmlog_archives_size_bytes gauge",
    "swarmlog_build_info gauge",
    "swarmlog_checkpoint_index gauge",
    "swarmlog_commands_total counter",
    "swarmlog_connections gauge",
    "swarmlog_connections_refused_total counter",
    "swarmlog_connections_replaced_total counter",
    "swarmlog_disk_free_bytes gauge",
    "swarmlog_history_size_bytes gauge",
    "swarmlog_inbox_commands gauge",
    "swarmlog_leader gauge",
    "swarmlog_log_applied_index gauge",
    "swarmlog_log_head_index gauge",
    "swarmlog_log_size_bytes gauge",
    "swarmlog_log_write_duration_seconds histogram",
    "swarmlog_nodes gauge",
    "swarmlog_peer_bytes_total counter",
    "swarmlog_peer_messages_dropped_total counter",
    "swarmlog_peer_messages_total counter",
    "swarmlog_ready gauge",
    "swarmlog_services gauge",
    "swarmlog_services_set_aside gauge",
    "swarmlog_services_update_paused gauge",
    "swarmlog_services_updating gauge",
    "swarmlog_sessions gauge",
    "swarmlog_tasks gauge",
    "swarmlog_turn_duration_seconds histogram",
];

/// Metrics that exist only after a checkpoint, a complete verification of history, or a failed archive.
const LATER_METRICS: [&str; 5] = [
    "swarmlog_archive_failed_timestamp_seconds gauge",
    "swarmlog_checkpoint_timestamp_seconds gauge",
    "swarmlog_history_damaged_places gauge",
    "swarmlog_history_healed_places gauge",
    "swarmlog_history_verified_timestamp_seconds gauge",
];

/// The answer to an HTTP request, including its head.
fn http(address: &str, request: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(TIMEOUT)).expect("set");
    stream.write_all(format!("{request} HTTP/1.1\r\nhost: here\r\n\r\n").as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_node_can_be_measured_and_asked_whether_it_is_well() {
    let manager = free_address();
    let cluster = Cluster::start_with(Executor::Process, &[], &["--metrics-addr", &manager]);
    cluster.create("web", "--replicas 2");
    cluster.settled("web", 2);
    let page = http(&manager, "GET /metrics");
    let mut families: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    families.retain(|family| !LATER_METRICS.contains(family));
    families.sort_unstable();
    assert_eq!(families, METRICS, "{page}");
    for line in [
        "swarmlog_leader 1",
        "swarmlog_nodes{state=\"ready\"} 1",
        "swarmlog_tasks{state=\"running\"} 2",
        "swarmlog_commands_total{command=\"service.create\",result=\"committed\"} 1",
        "swarmlog_inbox_commands 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in {page}");
    }
    let answers = [
        ("GET /healthz", "HTTP/1.1 200"),
        ("GET /readyz", "HTTP/1.1 200"),
        ("GET /", "HTTP/1.1 404"),
        ("POST /metrics", "HTTP/1.1 405"),
    ];
    for (request, expected) in answers {
        assert!(http(&manager, request).starts_with(expected), "{request}");
    }
}

#[test]
fn probes_answer_while_a_node_starts_and_are_found_again_after_a_restart() {
    let (manager, worker) = (free_address(), free_address());
    let mut cluster = Cluster::start_with(Executor::Process, &[], &["--metrics-addr", &manager]);
    let token = cluster.token("worker");
    assert_eq!(cluster.end(MANAGER), Some(0));
    // It cannot join before the manager exists.
    let join = ["--join-addr".to_owned(), cluster.address().to_owned(), "--join-token".to_owned(), token];
    let flags: Vec<&str> = join.iter().map(String::as_str).chain(["--metrics-addr", &worker]).collect();
    cluster.add("w1", &flags);
    let starts = |answer: &str| answer.starts_with("HTTP/1.1 503") && answer.ends_with("this node is still starting\n");
    cluster.until("the probe", || std::net::TcpStream::connect(&worker).is_ok());
    let (ready, healthy) = (http(&worker, "GET /readyz"), http(&worker, "GET /healthz"));
    assert!(starts(&ready) && healthy.starts_with("HTTP/1.1 200"), "{ready} {healthy}");

    cluster.resume_with(MANAGER, &[]);
    cluster.await_manager();
    for address in [&manager, &worker] {
        cluster.until("the node to be ready", || http(address, "GET /readyz").starts_with("HTTP/1.1 200"));
    }
    assert_eq!(cluster.end(MANAGER), Some(0));
    cluster.until("the worker to lose its session", || http(&worker, "GET /readyz").contains("has no session"));
    cluster.resume_with(MANAGER, &["--metrics-addr", "off"]);
    cluster.await_manager();
    let expected = format!("--metrics-addr is off from now on; it was {manager}");
    assert!(cluster.log(MANAGER).contains(&expected), "{}", cluster.log(MANAGER));
    assert!(std::net::TcpStream::connect(&manager).is_err());
}

#[test]
fn a_service_manager_is_told_when_a_node_serves_lives_and_stops() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let notifications = std::os::unix::net::UnixDatagram::bind(&path).expect("bound");
    notifications.set_read_timeout(Some(TIMEOUT)).expect("set");
    let hear = || {
        let mut bytes = [0; 512];
        let length = notifications.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let socket = dir.path().join("control.sock");
    let mut command = Command::new(program("swarmd"));
    command.args(["--executor", "process", "--listen-remote-api", "127.0.0.1:0", "--listen-control-api"]).arg(&socket);
    command.arg("--state-dir").arg(dir.path().join("state")).stderr(Stdio::null());
    let mut child = command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000").spawn().expect("started");
    let ready = hear();
    let listed = run(Command::new(program("swarmctl")).arg("--socket").arg(&socket).args(["node", "ls"]));
    let (alive, still_alive) = (hear(), hear());
    assert_eq!(run(Command::new("kill").arg(child.id().to_string())).code, 0);
    let stopping = (0..100).map(|_| hear()).find(|message| message != "WATCHDOG=1");
    assert_eq!(child.wait().expect("waited").code(), Some(0));
    assert!(ready.starts_with("READY=1\nSTATUS=manager"), "{ready}");
    assert_eq!(listed.code, 0, "what is ready serves: {listed:?}");
    assert_eq!((alive.as_str(), still_alive.as_str()), ("WATCHDOG=1", "WATCHDOG=1"));
    assert!(stopping.is_some_and(|message| message.starts_with("STOPPING=1")));
}

#[test]
fn a_manager_that_stops_ends_the_sessions_of_its_workers() {
    let mut cluster = Cluster::start(Executor::Process, &["w1"]);
    for line in ["node w1 joined as worker", "node w1 is up"] {
        cluster.until("the manager to log what happens", || cluster.log(MANAGER).contains(line));
    }
    assert_eq!(cluster.end(MANAGER), Some(0));
    // Otherwise it would wait until the next heartbeats fail.
    cluster.until("the worker to be notified", || cluster.log("w1").contains("this manager is stopping"));
    assert!(!cluster.log(MANAGER).contains("did not end in time"), "{}", cluster.log(MANAGER));
    cluster.resume(MANAGER);
    cluster.until("the worker to be back", || cluster.log("w1").matches("session opened").count() == 2);
    cluster.until("the manager to log that it leads", || cluster.log(MANAGER).contains("leads the cluster in term"));
}

#[test]
fn who_looks_for_a_fault_is_told_every_step_and_no_secret() {
    const SECRET: &str = "a-word-that-nobody-may-read";
    let mut cluster = Cluster::start_with(Executor::Process, &["w1"], &["--log-level", "debug"]);
    cluster.create("web", &format!("--replicas 2 --env PASSWORD={SECRET}"));
    cluster.settled("web", 2);
    cluster.swarmctl("service create --name web --image x").refused(4, "web");
    let token = cluster.token("worker");
    cluster.end("w1");
    cluster.until("the end of its session", || cluster.log(MANAGER).contains("a session has ended"));
    for (node, words) in [
        (MANAGER, r#""message":"a turn""#),
        (MANAGER, r#""message":"committed""#),
        (MANAGER, r#""message":"a command was refused""#),
        (MANAGER, r#""message":"node w1 joined as worker"#),
        (MANAGER, r#""message":"a session was opened""#),
        (MANAGER, r#""message":"assignments are sent""#),
        ("w1", r#""message":"assignments taken""#),
        ("w1", r#""message":"a call of the executor""#),
        ("w1", r#""state":"Running""#),
        ("w1", r#""message":"reports were taken""#),
    ] {
        assert!(cluster.log(node).contains(words), "{node} does not say {words}: {}", cluster.log(node));
    }
    for node in [MANAGER, "w1"] {
        for secret in [SECRET, &token, token.rsplit('-').next().expect("a secret")] {
            assert!(!cluster.log(node).contains(secret), "{node} tells a secret");
        }
    }
}

#[test]
fn a_daemon_that_has_nothing_to_say_says_little() {
    let cluster = Cluster::start(Executor::Process, &["w1"]);
    cluster.create("web", "--replicas 2");
    cluster.settled("web", 2);
    // The manager also logs about the cluster, and about each node that joined and is up.
    for (node, lines) in [(MANAGER, 12), ("w1", 6)] {
        assert!(cluster.log(node).lines().count() <= lines, "{node}: {}", cluster.log(node));
    }
}

#[test]
fn a_manager_restarted_with_its_directory_alone_comes_back_where_it_was() {
    let mut cluster = Cluster::start(Executor::Process, &["w1"]);
    for line in ["node w1 joined as worker", "node w1 is up"] {
        cluster.until("the manager to log what happens", || cluster.log(MANAGER).contains(line));
    }
    assert_eq!(cluster.end(MANAGER), Some(0));
    cluster.resume_with(MANAGER, &[]);
    // At its control socket and with its name; its worker finds it at the same address.
    cluster.await_manager();
    let names = |cluster: &Cluster| {
        let ready = cluster.list("node ls").into_iter().filter(|node| node["state"] == "ready");
        let name = |node: serde_json::Value| node["hostname"].as_str().unwrap_or_default().to_owned();
        ready.map(name).collect::<std::collections::BTreeSet<_>>()
    };
    cluster.until("both nodes to be ready", || names(&cluster) == ["m", "w1"].map(str::to_owned).into());
    assert!(cluster.log(MANAGER).matches(cluster.address()).count() >= 2, "{}", cluster.log(MANAGER));
    assert_eq!(cluster.end(MANAGER), Some(0));
    cluster.resume_with(MANAGER, &["--hostname", "renamed"]);
    cluster.await_manager();
    cluster.until("the new name", || names(&cluster).contains("renamed"));
    assert!(cluster.log(MANAGER).contains("--hostname is renamed from now on; it was m"), "{}", cluster.log(MANAGER));
}

#[test]
fn a_daemon_dumps_no_core_and_gains_no_privileges() {
    let cluster = Cluster::start(Executor::Process, &[]);
    let about = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", cluster.pid(MANAGER))).expect("a file");
    let limits = about("limits");
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().next(), Some("0"), "{limits}");
    assert!(about("status").contains("NoNewPrivs:\t1"), "{}", about("status"));
}

#[test]
fn a_dead_daemons_socket_is_taken_over() {
    let mut cluster = Cluster::start(Executor::Process, &[]);
    cluster.kill(MANAGER);
    assert!(cluster.socket(MANAGER).exists());
    cluster.swarmctl("node ls").refused(7, "no manager answers");
    cluster.resume(MANAGER);
    cluster.await_manager();
}

#[test]
fn the_control_socket_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::start(Executor::Process, &[]);
    let mode = |path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(cluster.socket(MANAGER)), 0o600);
    assert_eq!(mode(cluster.state_dir(MANAGER)), 0o700);
}

#[test]
fn a_replay_verifies_the_log_beside_its_manager_and_after_it() {
    let mut cluster = Cluster::start(Executor::Process, &[]);
    cluster.create("web", "--replicas 2");
    cluster.settled("web", 2);
    let replay = |cluster: &Cluster| {
        let dir = cluster.state_dir(MANAGER);
        let answer = run(Command::new(program("swarmd")).arg("replay").arg("--state-dir").arg(dir));
        assert_eq!(answer.code, 0, "{answer:?}");
        assert!(answer.out.contains("1 nodes, 1 services, 2 tasks"), "{answer:?}");
        answer.out.lines().last().expect("the hash of the state").to_owned()
    };
    let beside = replay(&cluster);
    // The head that an operator noted equals that of the log.
    let head = &cluster.inspect()["head"];
    let store = RocksStore::open_read_only(&cluster.state_dir(MANAGER).join("raft")).expect("a log");
    let frames = store.history(head["index"].as_u64().expect("an index"), 1, usize::MAX).expect("history");
    let hash: String = events::frame::hash(&frames[0].1).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(head["frame_hash"], hash.as_str());
    drop(store);
    export_is_verified(&cluster, (frames[0].0, events::frame::hash(&frames[0].1)));
    cluster.kill(MANAGER);
    assert_eq!(replay(&cluster), beside);
}

/// Exports the history next to its manager, and verifies it as an auditor does, with the noted head.
fn export_is_verified(cluster: &Cluster, head: (u64, events::frame::FrameHash)) {
    let file = cluster.path("history.frames");
    let export = || {
        let mut swarmd = Command::new(program("swarmd"));
        run(swarmd.arg("export").arg("--state-dir").arg(cluster.state_dir(MANAGER)).arg(&file))
    };
    let exported = export();
    assert!(exported.code == 0 && exported.out.contains(" frames, the last at index "), "{exported:?}");
    export().refused(2, "cannot write");
    let known = verify::verify::TrustedInputs { heads: vec![head], ..Default::default() };
    let report = verify::verify::verify(fs::File::open(&file).expect("the export"), &known).expect("it is read");
    assert_eq!((report.faults.as_slice(), report.compared), (&[] as &[String], 1));
    let checkpoint = report.checkpoint.expect("it is whole");
    assert_eq!(cluster.inspect()["id"], checkpoint.cluster.to_string());
}

#[test]
fn limits_on_threads_and_memory_end_in_a_sentence() {
    /// A unique user, so that no other process counts; not root, because a limit on processes does not apply to root.
    const OWNER: u32 = 61_234;
    let copies = tempfile::tempdir().expect("a directory");
    fs::set_permissions(copies.path(), fs::Permissions::from_mode(0o755)).expect("changed");
    let limited = |limit: &str, name: &str, flags: &[&str]| {
        let copy = copies.path().join(name);
        fs::copy(program(name), &copy).expect("copied");
        let mut command = Command::new("prlimit");
        command.arg(limit).arg(copy).args(flags).current_dir("/");
        if is_root() {
            command.uid(OWNER).gid(OWNER);
        }
        run(&mut command)
    };
    let swarmd = ["--dev", "--executor", "process"];
    limited("--nproc=4", "swarmd", &swarmd).refused(1, "this process can start 3 more threads; a node needs");
    limited("--as=1073741824", "swarmd", &swarmd).refused(1, "this process may use 1024 MiB of address space");
    limited("--nproc=1", "swarmctl", &["version"]).refused(1, "the process cannot start");
}

/// For root: the limit on processes does not apply to root, so the manager runs as another user.
pub fn who_reads_history_without_a_thread_is_told_so_and_others_are_served() {
    /// A unique user, so that only the manager counts.
    const OWNER: u32 = 61_235;
    const ENOUGH: &str = "1000";
    let mut cluster = Cluster::idle(Executor::Process);
    let dir = cluster.path("");
    let copy = cluster.path("swarmd");
    fs::copy(program("swarmd"), &copy).expect("copied");
    std::os::unix::fs::chown(&dir, Some(OWNER), Some(OWNER)).expect("given away");
    let mut command = Command::new(&copy);
    command.args(cluster.flags(MANAGER)).uid(OWNER).gid(OWNER).current_dir("/").stderr(Stdio::null());
    let child = command.spawn().expect("started");
    let pid = child.id();
    cluster.adopt(MANAGER, child);
    cluster.await_manager();
    cluster.create("web", "--replicas 0");

    let limit = |threads: &str| {
        let of = [format!("--pid={pid}"), format!("--nproc={threads}:")];
        let answer = run(Command::new("prlimit").args(of).uid(OWNER).gid(OWNER).current_dir("/"));
        assert_eq!(answer.code, 0, "{answer:?}");
    };
    limit("1");
    cluster.until("no thread to be left", || {
        cluster.swarmctl("events").err.contains("cannot create a thread to read history")
    });
    cluster.ok("node ls");
    cluster.ok("service update web --label a=b");
    limit(ENOUGH);
    assert!(cluster.ok("events").contains("web"), "threads can be had again");
    assert_eq!(cluster.end(MANAGER), Some(0));
}

#[test]
fn a_repeated_removal_gets_its_first_answer() {
    let cluster = Cluster::start(Executor::Process, &[]);
    let service = cluster.create("web", "--replicas 0");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let remove = || {
        let command = Some(request::Command::RemoveService(RemoveService { service: "web".to_owned() }));
        let request = CommandRequest { id: CommandId::from_bits(7), command, ..CommandRequest::default() };
        runtime.block_on(async {
            wire::connect(&cluster.socket(MANAGER)).await.expect("a connection").execute(request).await
        })
    };
    let first = remove().expect("taken").into_inner();
    assert_eq!(remove().expect("the same").into_inner(), first, "{service}");
    // The name was free, and the object that has it now is not the removed one.
    let other = cluster.create("web", "--replicas 0");
    assert_eq!(remove().expect("the same").into_inner(), first);
    assert_ne!(other, service);
    assert_eq!(cluster.list("service ls").len(), 1);
}
