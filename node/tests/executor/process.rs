//! What only plain processes need proof of: that they outlive the program that started them, and their supervisor.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use events::{ClusterId, Id, NodeId, ServiceId, TaskId};
use node::agent::executor::Workload;

use crate::bench::{Bench, process};

/// The environment variable that makes an agent of this program, in the directory that it names.
const AGENT_DIR: &str = "SWARMLOG_TEST_AGENT_DIR";

/// The same task in both programs.
fn workload(bench: &Bench, dir: &Path) -> Workload {
    let mut workload = bench.lasting("exit 7");
    workload.cluster = ClusterId::from_bits(1);
    workload.node = NodeId::from_bits(2);
    workload.task = TaskId::from_bits(3);
    workload.service = ServiceId::from_bits(4);
    let spec = Arc::make_mut(&mut workload.spec);
    let container = spec.task.get_or_insert_default().container.get_or_insert_default();
    container.env = vec![format!("READY={}/ready", dir.display())];
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
    std::process::abort();
}

#[tokio::test]
async fn a_task_outlives_the_agent_that_started_it() {
    let bench = Bench::process();
    let dir = tempfile::tempdir().expect("a directory");
    let mut agent = Command::new(std::env::current_exe().expect("the test's own program"));
    let agent =
        agent.args(["process::agent_that_dies", "--exact"]).env(AGENT_DIR, dir.path()).output().expect("it ran");
    assert_eq!(agent.status.code(), None, "it was to die by a signal: {agent:?}");

    let (executor, workload) = (process(dir.path()), workload(&bench, dir.path()));
    assert_eq!(executor.inventory(workload.cluster, workload.node).await.expect("an inventory"), [workload.task]);
    let outcome = async {
        let adopted = executor.start(&workload).await?;
        let stopped = executor.shutdown(&workload).await?;
        Ok::<_, node::agent::executor::ExecutorError>((adopted.pid, stopped, executor.wait(&workload).await?))
    };
    let outcome = outcome.await;
    executor.remove(workload.task).await.expect("removed");
    let (pid, stopped, exit) = outcome.expect("adopted and stopped");
    assert!(pid > 0);
    assert_eq!(stopped.and_then(|stopped| stopped.exit_code), Some(7));
    assert_eq!((exit.container.exit_code, exit.reason), (Some(7), None));
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
