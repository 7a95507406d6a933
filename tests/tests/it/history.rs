//! History as its readers get it: by name, also of what is gone, and until their manager stops.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use super::cluster::{Cluster, MANAGER};
use super::process::{Answer, PATIENCE, poll, program};
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
        let told = created(object);
        assert_eq!((told.len(), told[0]["subjects"][0].as_str()), (1, Some(id.as_str())), "{object}: {told:?}");
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
    let mut told = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    let heading = told.next().expect("a heading").expect("text");
    assert!(heading.starts_with("INDEX"), "{heading}");
    told.next().expect("an event").expect("text");
    // Nobody may be held up by a full pipe.
    let rest = std::thread::spawn(move || told.for_each(drop));
    assert_eq!(cluster.end(MANAGER), Some(0));
    let ended = poll(PATIENCE, || follower.try_wait().expect("waited"));
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
