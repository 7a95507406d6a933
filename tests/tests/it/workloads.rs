//! Preconditions of a running task: an image, and health.

use super::cluster::{Cluster, MANAGER, make_shared, path};
use super::units::{Executor, IMAGE};

pub fn a_task_is_running_when_it_is_healthy(executor: Executor) {
    let cluster = Cluster::start(executor, &[]);
    let gate = cluster.path("gate");
    make_shared(&gate);
    let open = path(&gate.join("open"));
    let check = format!("test -e {open}");
    let bind = format!("{0}:{0}", path(&gate));
    let mut words = vec!["service", "create", "--name", "web", "--image", IMAGE, "--stop-signal", "KILL"];
    words.extend(["--command", "sleep", "--args", "3600", "--health-cmd", &check, "--health-interval", "200ms"]);
    // Practically unlimited retries: only the open gate makes it healthy.
    words.extend(["--health-retries", "1000"]);
    if executor == Executor::Docker {
        words.extend(["--bind", &bind]);
    }
    let created = cluster.swarmctl_words(&words);
    assert_eq!(created.code, 0, "{created:?}");
    cluster.until("the start", || cluster.tasks("web").iter().any(|task| task.state == "starting"));
    cluster.until("the command", || cluster.units().len() == 1);
    assert!(cluster.running("web").is_empty(), "not before it is healthy");
    std::fs::write(&open, "").expect("written");
    cluster.settled("web", 1);
    assert_eq!(cluster.tasks("web").len(), 1, "it was healthy at its first attempt");
}

pub fn templates_are_expanded_on_the_node(executor: Executor) {
    let cluster = Cluster::start(executor, &[]);
    let seen = cluster.path("seen");
    make_shared(&seen);
    let script = format!("touch {}/$WHO; exec sleep 3600", path(&seen));
    let bind = format!("{0}:{0}", path(&seen));
    let mut words = vec!["service", "create", "--name", "web", "--image", IMAGE, "--replicas", "2"];
    words.extend(["--env", "WHO={{.Service.Name}}-{{.Task.Slot}}-{{.Node.Hostname}}", "--stop-signal", "KILL"]);
    words.extend(["--command", "sh", "--args", "-c", "--args", &script]);
    if executor == Executor::Docker {
        words.extend(["--bind", &bind]);
    }
    let created = cluster.swarmctl_words(&words);
    assert_eq!(created.code, 0, "{created:?}");
    cluster.settled("web", 2);
    cluster.until("both files", || ["web-1-m", "web-2-m"].into_iter().all(|name| seen.join(name).exists()));
}

pub fn a_job_runs_to_its_end_and_gives_its_exit_code(executor: Executor) {
    let cluster = Cluster::start(executor, &[]);
    let seen = cluster.path("seen");
    make_shared(&seen);
    let script = format!("echo ran >> {}/$SLOT", path(&seen));
    let bind = format!("{0}:{0}", path(&seen));
    let mut words = vec!["service", "create", "-d", "--name", "job", "--image", IMAGE, "--mode", "replicated-job"];
    words.extend(["--replicas", "3", "--max-concurrent", "1", "--env", "SLOT={{.Task.Slot}}"]);
    words.extend(["--command", "sh", "--args", "-c", "--args", &script]);
    if executor == Executor::Docker {
        words.extend(["--bind", &bind]);
    }
    let created = cluster.swarmctl_words(&words);
    assert_eq!(created.code, 0, "{created:?}");
    let waited = cluster.swarmctl("service wait job");
    assert_eq!((waited.code, waited.out.trim()), (0, "0"), "{waited:?}");
    let times = |slot: u64| std::fs::read_to_string(seen.join(slot.to_string())).map(|text| text.lines().count());
    assert_eq!([0, 1, 2].map(|slot| times(slot).unwrap_or(0)), [1, 1, 1], "each slot ran once");

    let failing = ["service", "update", "-d", "job", "--restart-condition", "none", "--args", "-c", "--args", "exit 7"];
    let failing = cluster.swarmctl_words(&failing);
    assert_eq!(failing.code, 0, "{failing:?}");
    let failed = cluster.swarmctl("service wait job");
    assert_eq!((failed.code, failed.out.trim()), (5, "7"), "{failed:?}");
}

pub fn a_missing_image_is_told_in_the_engines_words() {
    let cluster = Cluster::start(Executor::Docker, &[]);
    // A failed deployment fails its script, and reports where, what and why, in the engine's words.
    let image = "swarmlog.invalid/absent:v9";
    let failed =
        cluster.swarmctl(&format!("service create --name web --image {image} --restart-condition none --timeout 2m"));
    assert_eq!((failed.code, failed.out.lines().count()), (5, 1), "{failed:?}");
    assert!(failed.err.contains(&format!("web.1 ({image} on {MANAGER}) ended")), "{failed:?}");
    assert!(failed.err.contains("\nhint: `swarmctl service inspect -a web`"), "{failed:?}");
    let error = &cluster.tasks("web")[0].error;
    assert!(error.contains("swarmlog.invalid"), "{error}");
    assert!(cluster.ok("service inspect web").contains("swarmlog.invalid"), "a reader of the service sees why");
}

pub fn a_bad_mount_is_told_in_the_engines_words() {
    let cluster = Cluster::start(Executor::Docker, &[]);
    let flags = "--bind /no/such/place:/data --restart-condition none";
    cluster.ok(&format!("service create --name web --image {IMAGE} {flags}"));
    cluster.until("the rejection", || cluster.tasks("web").iter().any(|task| task.state == "rejected"));
    let error = &cluster.tasks("web")[0].error;
    assert!(error.contains("/no/such/place"), "{error}");
}

#[test]
fn what_cannot_be_placed_says_why() {
    let cluster = Cluster::start(Executor::Process, &[]);
    cluster.create("far", "--constraint node.labels.zone==moon");
    let tasks = cluster.ok("task ls");
    assert!(tasks.contains("no suitable node"), "{tasks}");
    cluster.ok("node update m --label zone=moon");
    cluster.settled("far", 1);
}
