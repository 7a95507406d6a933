//! What only plain processes need proof of: that they outlive the program that started them, and their supervisor.

use std::path::Path;
use std::process::Command;

use events::{ClusterId, Id, NodeId, ServiceId, TaskId, Ulimit};
use futures_util::stream::{self, StreamExt};
use node::agent::executor::{ExecutorError, LogQuery, Workload};
use wire::v1::interact_order::What;
use wire::v1::{AttachSpec, ExecSpec, LogStream};

use crate::bench::{Bench, container, process, shared_dir};
use crate::cases::{all, fatal, texts};

/// The environment variable that makes an agent of this program, in the directory that it names.
const AGENT_DIR: &str = "SWARMLOG_TEST_AGENT_DIR";

/// The same task in both programs.
fn workload(bench: &Bench, dir: &Path) -> Workload {
    let mut workload = bench.lasting("exit 7");
    workload.cluster = ClusterId::from_bits(1);
    workload.node = NodeId::from_bits(2);
    workload.task = TaskId::from_bits(3);
    workload.service = ServiceId::from_bits(4);
    container(&mut workload).env = vec![format!("READY={}/ready", dir.display())];
    workload
}

/// Not a test: the agent that starts a task and dies of its own hand, without a word to anybody.
#[tokio::test]
async fn agent_that_dies() {
    let Some(dir) = std::env::var_os(AGENT_DIR) else { return };
    let bench = Bench::process();
    let (executor, workload) = (process(dir.as_ref()), workload(&bench, dir.as_ref()));
    executor.prepare(&workload).await.expect("prepared");
    executor.start(&workload).await.expect("started");
    let noted = Path::new(&dir).join("beside");
    let line = format!("echo $$ > {0}.new; mv {0}.new {0}; while :; do sleep 0.1; done", noted.display());
    let spec = ExecSpec { argv: ["sh", "-c", &line].map(str::to_owned).into(), detach: true, ..ExecSpec::default() };
    let started = executor.interact(&workload, What::Exec(spec), stream::pending().boxed()).await;
    assert!(started.expect("started").next().await.is_some());
    while !noted.exists() {
        tokio::task::yield_now().await;
    }
    std::process::abort();
}

/// Whether the process of a pid runs. One that nobody waited for does not.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|fields| fields.trim_start().starts_with('Z')))
}

#[tokio::test]
async fn a_task_outlives_the_agent_that_started_it() {
    let bench = Bench::process();
    let dir = shared_dir();
    let mut agent = Command::new(std::env::current_exe().expect("the test's own program"));
    let agent =
        agent.args(["process::agent_that_dies", "--exact"]).env(AGENT_DIR, dir.path()).output().expect("it ran");
    assert_eq!(agent.status.code(), None, "it was to die by a signal: {agent:?}");

    let (executor, workload) = (process(dir.path()), workload(&bench, dir.path()));
    assert_eq!(executor.inventory(workload.cluster, workload.node).await.expect("an inventory"), [workload.task]);
    let beside = std::fs::read_to_string(dir.path().join("beside")).expect("a command ran beside the task");
    let outcome = async {
        let adopted = executor.start(&workload).await?;
        let stopped = executor.shutdown(&workload).await?;
        assert!(lives(&beside), "only another agent knew that the task has ended");
        executor.release(workload.task).await?;
        Ok::<_, node::agent::executor::ExecutorError>((adopted.pid, stopped, executor.wait(&workload).await?))
    };
    let outcome = outcome.await;
    executor.remove(workload.task).await.expect("removed");
    let (pid, stopped, exit) = outcome.expect("adopted and stopped");
    assert!(pid > 0);
    // The kernel takes a moment.
    while lives(&beside) {
        tokio::task::yield_now().await;
    }
    assert_eq!(stopped.and_then(|stopped| stopped.exit_code), Some(7));
    assert_eq!((exit.container.exit_code, exit.reason), (Some(7), None));
}

#[tokio::test]
async fn who_wants_to_type_into_a_task_is_refused_at_once() {
    let bench = Bench::process();
    let case = async {
        let mut workload = bench.lasting("exit 7");
        container(&mut workload).open_stdin = true;
        bench.executor.prepare(&workload).await.expect("prepared");
        bench.executor.start(&workload).await.expect("started");
        let attach = async |stdin| {
            let spec = AttachSpec { stdin, terminal: None };
            bench.executor.interact(&workload, What::Attach(spec), stream::pending().boxed()).await
        };
        let refused = attach(true).await.err().expect("it takes no input");
        assert!(matches!(&refused, ExecutorError::Fatal(why) if why.contains("take no input")), "{refused}");
        assert!(attach(false).await.is_ok());
        bench.executor.shutdown(&workload).await.expect("stopped");
    };
    bench.run(case).await;
}

#[tokio::test]
async fn what_a_task_prints_is_kept() {
    let bench = Bench::process();
    let case = async {
        let workload = bench.shell("echo said; echo shouted >&2");
        bench.executor.prepare(&workload).await.expect("prepared");
        bench.executor.start(&workload).await.expect("started");
        bench.executor.wait(&workload).await.expect("ended");
        let lines = all(bench.executor.logs(&workload, LogQuery::default()).await.expect("logs")).await;
        // Each stream has a pipe of its own: which is read first is left to chance.
        let said = |stream, text| texts(&lines).contains(&(stream, text));
        assert!(said(LogStream::Stdout, "said") && said(LogStream::Stderr, "shouted") && lines.len() == 2, "{lines:?}");
    };
    bench.run(case).await;
}

#[tokio::test]
async fn a_task_of_another_user_or_within_a_limit_is_that() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED a_task_of_another_user: only root can become another");
        return;
    }
    let bench = Bench::process();
    let case = async {
        let mut workload = bench.shell("test $(id -u):$(id -g):$(ulimit -n) = 4242:4343:77");
        container(&mut workload).user = "4242:4343".into();
        container(&mut workload).ulimits = vec![Ulimit { name: "nofile".into(), soft: 77, hard: 77 }];
        bench.executor.prepare(&workload).await.expect("prepared");
        let started = bench.executor.start(&workload).await.expect("started");
        assert!(started.warnings.is_empty(), "{:?}", started.warnings);
        assert_eq!(bench.executor.wait(&workload).await.expect("ended").container.exit_code, Some(0));
    };
    bench.run(case).await;
}

#[tokio::test]
async fn a_task_whose_supervisor_was_killed_is_still_stopped() {
    let bench = Bench::process();
    let case = async {
        let workload = bench.lasting("exit 7");
        bench.executor.prepare(&workload).await.expect("prepared");
        let started = bench.executor.start(&workload).await.expect("started");
        let parent = std::fs::read_to_string(format!("/proc/{}/stat", started.pid)).expect("it lives");
        let parent =
            parent.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(1)).expect("a parent");
        assert!(Command::new("kill").args(["-KILL", parent]).status().expect("kill runs").success());
        let another = bench.another_executor();
        let mut wait = another.wait(&workload);
        assert!(futures_util::poll!(&mut wait).is_pending(), "the command itself runs on");
        another.shutdown(&workload).await.expect("stopped");
        let exit = wait.await.expect("ended");
        assert_eq!(exit.container.exit_code, Some(255));
        assert_eq!(exit.reason.as_deref(), Some("the exit code was lost with the supervisor"));
    };
    bench.run(case).await;
}

#[tokio::test]
async fn a_task_is_nobody_unless_it_says_whom_and_gains_no_privileges() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED a_task_is_nobody: only root can become another");
        return;
    }
    let bench = Bench::process();
    let case = async {
        let workload = bench.shell("id -un; id -G; grep NoNewPrivs /proc/self/status");
        bench.executor.prepare(&workload).await.expect("prepared");
        bench.executor.start(&workload).await.expect("started");
        bench.executor.wait(&workload).await.expect("ended");
        let lines = all(bench.executor.logs(&workload, LogQuery::default()).await.expect("logs")).await;
        let said: Vec<&str> = texts(&lines).into_iter().map(|(_, text)| text).collect();
        assert_eq!(said, ["nobody", "65534", "NoNewPrivs:\t1"]);
    };
    bench.run(case).await;
}

#[tokio::test]
async fn root_and_its_group_are_refused_by_default() {
    let bench = Bench::process();
    let case = async {
        for user in ["root", "0", "4242:0"] {
            let mut workload = bench.shell("true");
            container(&mut workload).user = user.into();
            let words = fatal(bench.executor.prepare(&workload).await);
            assert!(words.contains("--process-allow-root"), "{words}");
        }
    };
    bench.run(case).await;
}

#[tokio::test]
async fn a_config_that_a_host_cannot_be_given_is_refused_in_words() {
    let bench = Bench::process();
    let case = async {
        for (target, mode, words) in [("/etc/app.conf", 0o444, "give it as etc/app.conf"), ("app", 0o4755, "mode 4755")]
        {
            let mut workload = bench.shell("true");
            let file = events::FileTarget { name: target.into(), mode: Some(mode), ..Default::default() };
            let config = Some(events::ConfigId::from_bits(1));
            container(&mut workload).configs =
                vec![events::ConfigReference { config, name: "app".into(), file: Some(file), ..Default::default() }];
            workload.configs = [((events::ConfigId::from_bits(1), 0), "data".into())].into();
            let refused = fatal(bench.executor.prepare(&workload).await);
            assert!(refused.contains(words), "{refused}");
        }
    };
    bench.run(case).await;
}
