//! What every executor must do.

use std::task::Poll;
use std::time::{Duration, Instant};

use events::{
    ClusterId, ConfigId, ConfigReference, Driver, FileTarget, GenericResource, Id, ResourceRequirements, Resources,
    SecretBytes, SecretId, SecretReference, SecretText,
};
use futures_util::{StreamExt, poll};
use node::agent::executor::{ExecutorError, LogQuery, TaskLogs, Workload};
use wire::v1::{LogLine, LogStream};

use crate::bench::{Bench, check, container};

/// A probe that waits until the task is ready to be stopped.
const WHEN_READY: &str = "until test -e $READY; do sleep 0.01; done";

pub async fn a_node_is_described(bench: &Bench) {
    let node = bench.executor.describe().await.expect("described");
    let resources = node.resources.expect("resources");
    assert!(resources.nano_cpus >= 1_000_000_000 && resources.memory_bytes > 64 << 20, "{resources:?}");
    assert!(!node.hostname.is_empty());
    assert_eq!(node.platform.expect("a platform").os, "linux");
}

pub async fn a_task_lives_and_is_removed(bench: &Bench) {
    let workload = bench.lasting("exit 7");
    let prepared = bench.executor.prepare(&workload).await.expect("prepared");
    assert_eq!((prepared.pid, prepared.exit_code), (0, None));
    assert!(!prepared.container_id.is_empty());
    let started = bench.executor.start(&workload).await.expect("started");
    assert_eq!((&started.container_id, started.exit_code), (&prepared.container_id, None));
    assert!(started.pid > 0);
    {
        let mut wait = bench.executor.wait(&workload);
        assert!(poll!(&mut wait).is_pending());
        bench.executor.shutdown(&workload).await.expect("stopped");
        let exit = wait.await.expect("ended");
        assert_eq!((exit.container.exit_code, exit.reason), (Some(7), None));
    }
    bench.executor.remove(workload.task).await.expect("removed");
    assert_eq!(bench.executor.shutdown(&workload).await.expect("nothing there is success"), None);
    assert_eq!(bench.executor.inventory(bench.cluster, bench.node).await.expect("an inventory"), []);
}

/// However far the engine has come with a container that nobody waits for any more.
pub async fn a_preparation_that_was_given_up_leaves_nothing(bench: &Bench) {
    for delay in [0, 1, 2, 4, 8, 16, 32] {
        let workload = bench.lasting("exit 0");
        let preparing = bench.executor.prepare(&workload);
        // Given up in time or done before: both are what this is about.
        let _ = tokio::time::timeout(Duration::from_millis(delay), preparing).await;
        bench.executor.shutdown(&workload).await.expect("stopped");
        bench.executor.remove(workload.task).await.expect("removed");
    }
    // Slower than any of those that were given up.
    let last = bench.lasting("exit 0");
    bench.executor.prepare(&last).await.expect("prepared");
    bench.executor.remove(last.task).await.expect("removed");
    assert_eq!(bench.executor.inventory(bench.cluster, bench.node).await.expect("an inventory"), []);
}

pub async fn exit_codes_are_reported(bench: &Bench) {
    for code in [0, 3] {
        let workload = bench.shell(&format!("exit {code}"));
        run(bench, &workload).await;
        let exit = bench.executor.wait(&workload).await.expect("ended");
        assert_eq!((exit.container.exit_code, exit.container.oom_killed, exit.reason), (Some(code), false, None));
    }
}

pub async fn steps_may_be_repeated(bench: &Bench) {
    let workload = bench.lasting("exit 7");
    let executor = &bench.executor;
    let first = executor.prepare(&workload).await.expect("prepared");
    let again = executor.prepare(&workload).await.expect("prepared again");
    assert_eq!(first.container_id, again.container_id);
    let first = executor.start(&workload).await.expect("started");
    assert_eq!(executor.start(&workload).await.expect("started again"), first);
    for _ in 0..2 {
        let stopped = executor.shutdown(&workload).await.expect("stopped").expect("a status");
        assert_eq!(stopped.exit_code, Some(7));
    }
    // A task is one-shot: what has ended does not start again.
    let ended = executor.start(&workload).await.expect("started before");
    assert_eq!((ended.pid, ended.exit_code), (0, Some(7)));
    for _ in 0..2 {
        executor.remove(workload.task).await.expect("removed");
    }
}

pub async fn a_polite_stop_is_heeded(bench: &Bench) {
    let mut workload = bench.lasting("exit 7");
    // A shell that hears both says which it was by its exit code.
    let line = container(&mut workload).args[2].replace("touch", "trap 'exit 8' USR1; touch");
    container(&mut workload).args[2] = line;
    container(&mut workload).stop_signal = "SIGUSR1".into();
    run(bench, &workload).await;
    let begin = Instant::now();
    let stopped = bench.executor.shutdown(&workload).await.expect("stopped").expect("a status");
    assert_eq!(stopped.exit_code, Some(8));
    assert!(begin.elapsed() < Duration::from_secs(10), "the grace period need not pass");
}

pub async fn a_deaf_task_is_killed_after_its_grace_period(bench: &Bench) {
    let mut workload = bench.lasting("");
    container(&mut workload).stop_grace_period_ns = Some(1_000_000_000);
    run(bench, &workload).await;
    let begin = Instant::now();
    let stopped = bench.executor.shutdown(&workload).await.expect("stopped").expect("a status");
    assert_eq!(stopped.exit_code, Some(137));
    assert!(begin.elapsed() >= Duration::from_secs(1), "the grace period is the task's");
}

pub async fn a_missing_command_is_fatal_in_words(bench: &Bench) {
    let mut workload = bench.shell("");
    container(&mut workload).args = vec!["no-such-command".into()];
    bench.executor.prepare(&workload).await.expect("prepared");
    for _ in 0..2 {
        let words = fatal(bench.executor.start(&workload).await);
        assert!(words.contains("no-such-command"), "{words}");
    }
}

pub async fn a_healthy_task_starts(bench: &Bench) {
    let mut workload = bench.lasting("exit 7");
    container(&mut workload).healthcheck = check("true", 2);
    run(bench, &workload).await;
}

pub async fn an_unhealthy_task_does_not_start(bench: &Bench) {
    let mut workload = bench.lasting("exit 7");
    container(&mut workload).healthcheck = check(&format!("{WHEN_READY}; exit 1"), 2);
    bench.executor.prepare(&workload).await.expect("prepared");
    let reason = fatal(bench.executor.start(&workload).await);
    assert!(reason.starts_with("unhealthy"), "{reason}");
    let stopped = bench.executor.shutdown(&workload).await.expect("stopped").expect("a status");
    assert_eq!(stopped.exit_code, Some(7), "it was stopped, politely");
}

pub async fn a_task_that_falls_ill_ends(bench: &Bench) {
    let mut workload = bench.lasting("exit 7");
    // Well at the first probe, ill from the second on.
    container(&mut workload).healthcheck =
        check(&format!("{WHEN_READY}; test ! -e $READY.well && touch $READY.well"), 2);
    run(bench, &workload).await;
    let exit = bench.executor.wait(&workload).await.expect("ended");
    assert_eq!(exit.container.exit_code, Some(7));
    assert!(exit.reason.as_deref().is_some_and(|reason| reason.starts_with("unhealthy")), "{:?}", exit.reason);
}

pub async fn a_task_that_ends_before_it_is_healthy_does_not_start(bench: &Bench) {
    let mut workload = bench.shell("sleep 0.3; exit 3");
    container(&mut workload).healthcheck = check("exit 1", 1000);
    bench.executor.prepare(&workload).await.expect("prepared");
    let words = fatal(bench.executor.start(&workload).await);
    assert!(words.ends_with("ended with exit code 3 before it was healthy"), "{words}");
}

pub async fn a_shutdown_gives_up_a_start(bench: &Bench) {
    let mut workload = bench.lasting("exit 7");
    container(&mut workload).healthcheck = check("exit 1", 1000);
    bench.executor.prepare(&workload).await.expect("prepared");
    let start = bench.executor.start(&workload);
    let shutdown = async {
        while bench.executor.prepare(&workload).await.expect("prepared before").pid == 0 {
            tokio::task::yield_now().await;
        }
        bench.executor.shutdown(&workload).await
    };
    let (started, stopped) = tokio::join!(start, shutdown);
    assert!(matches!(started, Err(ExecutorError::Temporary(_))), "{started:?}");
    assert!(stopped.expect("stopped").is_some_and(|stopped| stopped.exit_code.is_some()));
}

pub async fn the_environment_arrives(bench: &Bench) {
    let mut workload = bench.shell(
        r#"test "$A" = "b c" && test "$TOKEN" = 's{{.=' && test "$DOCKER_RESOURCE_GPU" = x,y && test "$(pwd)" = /tmp"#,
    );
    container(&mut workload).env = vec!["A=b c".into()];
    workload.env_secrets = [("TOKEN".to_owned(), SecretText("s{{.=".to_owned()))].into();
    container(&mut workload).dir = "/tmp".into();
    workload.claims = vec![GenericResource { kind: "gpu".into(), amount: 0, names: vec!["x".into(), "y".into()] }];
    run(bench, &workload).await;
    assert_eq!(bench.executor.wait(&workload).await.expect("ended").container.exit_code, Some(0));
}

pub async fn configs_are_put_in_place(bench: &Bench) {
    // A process finds its own below a directory, a container below the root.
    let mut workload = bench.shell(
        r#"cd "${SWARM_CONFIG_DIR:-/}" && test "$(cat web.conf)" = hello && test "$(stat -c %a web.conf)" = 444 &&
           test "$(cat app/deep/own.conf)" = mine && test "$(stat -c '%u:%g %a' app/deep/own.conf)" = "$OWNER 640""#,
    );
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (uid, gid) = if bench.is_process() { (uid, gid) } else { (1000, 1001) };
    let reference = |id, name: &str, file| ConfigReference {
        config: Some(ConfigId::from_bits(id)),
        name: name.into(),
        file,
        ..ConfigReference::default()
    };
    let target =
        FileTarget { name: "app/deep/own.conf".into(), uid: uid.to_string(), gid: gid.to_string(), mode: Some(0o640) };
    container(&mut workload).configs = vec![reference(1, "web.conf", None), reference(2, "own", Some(target))];
    container(&mut workload).env = vec![format!("OWNER={uid}:{gid}")];
    if !bench.is_process() {
        // Who reads a file that only its owner may read.
        container(&mut workload).user = format!("{uid}:{gid}");
    } else if uid == 0 {
        container(&mut workload).configs[1].file.get_or_insert_default().gid = "65534".into();
        container(&mut workload).env = vec!["OWNER=0:65534".into()];
    }
    workload.configs =
        [((ConfigId::from_bits(1), 0), "hello".into()), ((ConfigId::from_bits(2), 0), "mine".into())].into();
    bench.executor.prepare(&workload).await.expect("prepared");
    // Once more, as after a crash of the agent.
    run(bench, &workload).await;
    assert_eq!(bench.executor.wait(&workload).await.expect("ended").container.exit_code, Some(0));
}

pub async fn secrets_are_given_in_memory_until_the_task_has_ended(bench: &Bench) {
    let mut workload = bench.shell(
        r#"cd "${SWARM_SECRET_DIR:-/run/secrets}" && test "$(cat key)" = hello && test "$(stat -c %a key)" = 444 &&
           test "$(stat -f -c %T key)" = tmpfs && test "$(cat app/deep/own)" = mine && test "$(stat -c %a app/deep/own)" = 440"#,
    );
    let reference = |id, name: &str, file| SecretReference {
        secret: Some(SecretId::from_bits(id)),
        name: name.into(),
        file,
        revision: 3,
        pinned: false,
    };
    let mut target = FileTarget { name: "app/deep/own".into(), mode: Some(0o440), ..FileTarget::default() };
    if !bench.is_process() {
        (target.uid, target.gid) = ("1000".into(), "1001".into());
        container(&mut workload).user = "1000:1001".into();
    } else if rustix::process::geteuid().is_root() {
        // Whom a process without a user runs as.
        target.gid = "65534".into();
    }
    container(&mut workload).secrets = vec![reference(1, "key", None), reference(2, "own", Some(target))];
    let missing = bench.executor.prepare(&workload).await.expect_err("the data has not come");
    assert!(
        matches!(&missing, ExecutorError::Temporary(why) if why.contains("secret key has not been received")),
        "{missing}"
    );
    let data = |text: &str| SecretBytes(text.as_bytes().to_vec());
    let keys = container(&mut workload).secrets.iter().map(SecretReference::key).collect::<Vec<_>>();
    workload.secrets = keys.into_iter().zip([data("hello"), data("mine")]).collect();
    bench.executor.prepare(&workload).await.expect("prepared");
    let directory = bench.secrets(workload.task);
    assert!(directory.exists());
    // Once more, as after a crash of the agent; and without the data, which a restarted one may not have.
    bench.executor.prepare(&workload).await.expect("prepared");
    workload.secrets.clear();
    bench.executor.start(&workload).await.expect("started");
    assert_eq!(bench.executor.wait(&workload).await.expect("ended").container.exit_code, Some(0));
    for _ in 0..2 {
        bench.executor.release(workload.task).await.expect("released");
        assert!(!directory.exists(), "they go with the end of the task");
    }
    // Files that outlived their container and the agent's memory are found, and go like a stray container.
    bench.executor.remove(workload.task).await.expect("removed");
    std::fs::create_dir_all(&directory).expect("made");
    if !bench.is_process() {
        let strays = bench.executor.inventory(bench.cluster, bench.node).await.expect("an inventory");
        assert_eq!(strays, [workload.task]);
    }
    bench.executor.remove(workload.task).await.expect("removed");
    assert!(!directory.exists(), "they go, too");
}

pub async fn memory_is_limited(bench: &Bench) {
    let mut workload = bench.shell("tail /dev/zero");
    let task = std::sync::Arc::make_mut(&mut workload.spec).task.get_or_insert_default();
    let limits = Some(Resources { memory_bytes: 32 << 20, ..Default::default() });
    task.resources = Some(ResourceRequirements { limits, ..Default::default() });
    bench.executor.prepare(&workload).await.expect("prepared");
    let started = bench.executor.start(&workload).await.expect("started");
    if let Some(warning) = started.warnings.iter().find(|warning| warning.contains("not applied")) {
        println!("SKIPPED memory_is_limited: {warning}");
        return;
    }
    let exit = bench.executor.wait(&workload).await.expect("ended");
    assert_eq!((exit.container.oom_killed, exit.reason.as_deref()), (true, None));
}

pub async fn another_executor_takes_over(bench: &Bench) {
    let workload = bench.lasting("exit 7");
    run(bench, &workload).await;
    let another = bench.another_executor();
    assert_eq!(another.inventory(bench.cluster, bench.node).await.expect("an inventory"), [workload.task]);
    let adopted = another.prepare(&workload).await.expect("prepared before");
    assert_eq!(another.start(&workload).await.expect("started before").pid, adopted.pid);
    let mut wait = another.wait(&workload);
    assert!(poll!(&mut wait).is_pending());
    another.shutdown(&workload).await.expect("stopped");
    assert_eq!(wait.await.expect("ended").container.exit_code, Some(7));
}

pub async fn an_end_is_learnt_by_another_executor(bench: &Bench) {
    let workload = bench.shell("exit 4");
    {
        let first = bench.another_executor();
        first.prepare(&workload).await.expect("prepared");
        first.start(&workload).await.expect("started");
    }
    assert_eq!(bench.executor.wait(&workload).await.expect("ended").container.exit_code, Some(4));
}

pub async fn the_inventory_is_of_one_cluster_and_node(bench: &Bench) {
    let workload = bench.lasting("exit 7");
    bench.executor.prepare(&workload).await.expect("prepared");
    assert_eq!(bench.executor.inventory(bench.cluster, bench.node).await.expect("an inventory"), [workload.task]);
    let other = ClusterId::from_bits(bench.cluster.bits() + 1);
    assert_eq!(bench.executor.inventory(other, bench.node).await.expect("an inventory"), []);
}

/// Prepares and starts a task.
async fn run(bench: &Bench, workload: &Workload) {
    bench.executor.prepare(workload).await.expect("prepared");
    bench.executor.start(workload).await.expect("started");
}

/// The words of a refusal.
pub fn fatal<T: std::fmt::Debug>(outcome: Result<T, ExecutorError>) -> String {
    match outcome {
        Err(ExecutorError::Fatal(words)) => words,
        other => panic!("expected Fatal, got {other:?}"),
    }
}

pub async fn what_a_task_printed_is_read_also_after_its_end(bench: &Bench) {
    let mut workload = bench.shell("echo one; sleep 0.2; echo two >&2; sleep 0.2; echo; printf 'no end'");
    let task = std::sync::Arc::make_mut(&mut workload.spec).task.get_or_insert_default();
    let options = [("labels".to_owned(), "tier".to_owned()), ("env".to_owned(), "MODE".to_owned())].into();
    task.log_driver = Some(Driver { name: "json-file".into(), options });
    container(&mut workload).labels = [("tier".to_owned(), "web".to_owned())].into();
    container(&mut workload).env = vec!["MODE=fast".to_owned(), "OTHER=x".to_owned()];
    run(bench, &workload).await;
    bench.executor.wait(&workload).await.expect("ended");
    let logs = bench.executor.logs(&workload, LogQuery::default()).await.expect("logs");
    assert_eq!(logs.details, "MODE=fast,tier=web");
    let lines = all(logs).await;
    let (out, err) = (LogStream::Stdout, LogStream::Stderr);
    assert_eq!(texts(&lines), [(out, "one"), (err, "two"), (out, ""), (out, "no end")]);
    assert!(lines.windows(2).all(|pair| pair[0].at <= pair[1].at) && lines[0].at < lines[3].at, "{lines:?}");

    let since = LogQuery { since: Some(lines[1].at), ..LogQuery::default() };
    assert_eq!(all(bench.executor.logs(&workload, since).await.expect("logs")).await, lines[1..]);
    let until = LogQuery { until: Some(lines[0].at), ..LogQuery::default() };
    assert_eq!(all(bench.executor.logs(&workload, until).await.expect("logs")).await, lines[..1]);

    bench.executor.remove(workload.task).await.expect("removed");
    let gone = bench.executor.logs(&workload, LogQuery::default()).await.err();
    assert!(matches!(gone, Some(ExecutorError::Fatal(_))), "{gone:?}");
}

pub async fn the_last_lines_are_told(bench: &Bench) {
    let workload = bench.shell("for n in $(seq 500); do echo line $n; done");
    run(bench, &workload).await;
    bench.executor.wait(&workload).await.expect("ended");
    for (tail, first) in [(0, None), (1, Some("line 500")), (3, Some("line 498")), (900, Some("line 1"))] {
        let query = LogQuery { tail: Some(tail), ..LogQuery::default() };
        let lines = all(bench.executor.logs(&workload, query).await.expect("logs")).await;
        assert_eq!((lines.len() as u64, texts(&lines).first().map(|(_, text)| *text)), (tail.min(500), first));
    }
}

pub async fn who_follows_reads_until_the_task_ends(bench: &Bench) {
    let workload = bench.lasting("echo bye; exit 7");
    run(bench, &workload).await;
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let mut logs = bench.executor.logs(&workload, query).await.expect("logs");
    let mut early = Vec::new();
    while let Poll::Ready(some) = poll!(logs.lines.next()) {
        early.extend(some.expect("it goes on").expect("lines"));
    }
    assert_eq!(texts(&of_the_task(early)), [], "it has printed nothing");
    bench.executor.shutdown(&workload).await.expect("stopped");
    // A shell may say on stderr what ended its command.
    let lines: Vec<_> = all(logs).await.into_iter().filter(|line| line.stream() == LogStream::Stdout).collect();
    assert_eq!(texts(&lines), [(LogStream::Stdout, "bye")], "and then it ends");
}

/// All lines of a task.
pub async fn all(mut logs: TaskLogs) -> Vec<LogLine> {
    let mut lines = Vec::new();
    while let Some(some) = logs.lines.next().await {
        lines.extend(some.expect("lines"));
    }
    of_the_task(lines)
}

/// Without what the test's own program, which the supervisor is here, prints before it becomes the command.
fn of_the_task(mut lines: Vec<LogLine>) -> Vec<LogLine> {
    let banner = lines.iter().position(|line| &*line.data == b"running 1 test");
    // What the task prints to its other stream may have been read before.
    let mut after = lines.split_off(banner.map_or(0, |last| last + 1));
    lines.retain(|line| line.stream() != LogStream::Stdout);
    lines.append(&mut after);
    lines.drain(..usize::from(lines.len() == 1 && lines[0].data.is_empty()));
    lines
}

/// What they say, and where.
pub fn texts(lines: &[LogLine]) -> Vec<(LogStream, &str)> {
    lines.iter().map(|line| (line.stream(), std::str::from_utf8(&line.data).expect("text"))).collect()
}

pub async fn a_busy_task_uses_the_processor(bench: &Bench) {
    let workload = bench.shell("while :; do :; done");
    let executor = &bench.executor;
    assert_eq!(executor.usage(&workload).await.expect("nothing there is nothing to read"), None);
    run(bench, &workload).await;
    let mut last = executor.usage(&workload).await.expect("read").expect("it runs");
    // A clock tick of the kernel, however busy the machine is.
    let began = last.cpu_ns;
    while last.cpu_ns <= began {
        last = executor.usage(&workload).await.expect("read").expect("it runs");
    }
    assert!(last.memory_bytes > 0 && last.memory_limit_bytes > Some(last.memory_bytes), "{last:?}");
    assert!(last.pids >= Some(1), "{last:?}");
    executor.shutdown(&workload).await.expect("stopped");
    assert_eq!(executor.usage(&workload).await.expect("it has ended"), None);
}
