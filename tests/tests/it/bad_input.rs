//! User errors, one per line: the exit code, and words of the error message.

use std::process::Command;

use wire::v1::{CommandRequest, InspectServicesRequest, Refusal, RefusalKind, UpdateService, command_request};

use super::cluster::{Cluster, MANAGER};
use super::process::{program, run};
use super::units::Executor;

/// A line of `swarmctl`, its exit code and words of its error. `NODE` stands for the manager's id.
type Case = (&'static str, i32, &'static str);

/// Refused before a request is sent to a manager.
const LINES: &[Case] = &[
    ("service create --name a --image x --replica 3", 2, "--replica"),
    ("service frobnicate", 2, "frobnicate"),
    ("service create --image x", 2, "--name"),
    ("service create --name a --image x --update-delay 5", 2, "missing unit"),
    ("service create --name a --image x --stop-grace-period 1y", 2, "--stop-grace-period"),
    ("service create --name a --image x --memory-limit 12Q", 2, "size \"12Q\""),
    ("service create --name a --image x --cpu-limit many", 2, "--cpu-limit"),
    ("service create --name a --image x --constraint node.role", 2, "node.role"),
    ("service create --name a --image Bad!Image", 2, "image \"Bad!Image\""),
    ("service create --name a --image x --ports 80", 2, "--ports"),
    ("service create --name a --image x --bind relative:/data", 2, "relative"),
    ("service create --name a/b --image x", 2, "\"a/b\" is not a name"),
    ("service create --name a --image x --replicas -1", 2, "-1"),
    ("service create --name a --image x --replicas 99999999999", 2, "from 0 to 1000000"),
    ("service create --name a --image x --hostname no/name", 2, "not a host name"),
    ("service create --name a --image x --cap-add NOT_A_CAP", 2, "no capability \"NOT_A_CAP\""),
    ("service create --name a --image x --dns nope", 2, "not an IP address"),
    ("service update taken --oom-score-adj 2000", 2, "from -1000 to 1000"),
    ("service create --name a --image x --mode sometimes", 2, "sometimes"),
    ("service create --name a --image x --update-max-failure-ratio 7", 2, "between 0 and 1"),
    ("service scale taken", 2, "taken"),
    ("service scale taken=lots", 2, "lots"),
    ("events --kind task_eaten", 2, "task_eaten"),
    ("events --from tomorrow", 3, "no tag \"tomorrow\""),
    ("events --from 25:99", 2, "25:99"),
    ("cluster update", 2, "nothing to update"),
    ("cluster update --heartbeatperiod fast", 2, "--heartbeatperiod"),
    ("cluster update --heartbeatgrace 0", 2, "--heartbeatgrace"),
    ("node update NODE", 2, "nothing to update"),
    ("node update NODE --label =east", 2, "=east"),
];

/// Refused by the manager.
const REQUESTS: &[Case] = &[
    ("service create --name taken --image x", 4, "taken"),
    ("service create --name a --image x --constraint node.colour==red", 2, "node.colour"),
    ("service create --name a --image x --mode global --replicas 3", 2, "global"),
    ("service create --name a --image x --memory-limit 1k", 2, "memory"),
    ("service create --name a --image x --bind /src:data", 2, "data"),
    ("service inspect nobody", 3, "nobody"),
    ("service update nobody --replicas 1", 3, "nobody"),
    ("service scale nobody=3", 3, "nobody"),
    ("service rm nobody", 3, "nobody"),
    ("service rm taken nobody", 3, "nobody"),
    ("service scale taken=1 nobody=3", 3, "nobody"),
    ("node drain NODE nobody", 3, "nobody"),
    ("task rm nobody nothing", 3, "nobody"),
    ("node inspect nobody", 3, "nobody"),
    ("node drain nobody", 3, "nobody"),
    ("node rm nobody", 3, "nobody"),
    ("task inspect nobody", 3, "nobody"),
    ("task rm nobody", 3, "nobody"),
    ("events --object nobody", 3, "nobody"),
    ("node rm NODE", 4, "manager"),
    ("cluster update --heartbeatperiod 1ns", 2, "heartbeat"),
    ("cluster update --certexpiry 1s", 2, "too short"),
];

#[test]
fn every_mistake_gets_a_sentence_and_changes_nothing() {
    let cluster = Cluster::start(Executor::Process, &[]);
    cluster.ok("service create --name taken --image x --replicas 0");
    let node = cluster.list("node ls")[0]["id"].as_str().expect("an id").to_owned();
    let before = cluster.inspect()["index"].clone();
    for (line, code, words) in LINES.iter().chain(REQUESTS) {
        let answer = cluster.swarmctl(&line.replace("NODE", &node));
        println!("{line}\n{}{}", answer.out, answer.err);
        answer.refused(*code, words);
        assert_eq!(answer.out, "", "{line}");
        let json = cluster.swarmctl(&format!("{} --format json", line.replace("NODE", &node)));
        let failure: serde_json::Value = serde_json::from_str(&json.err).expect("one object");
        assert!(
            failure["error"]["sentence"].as_str().is_some_and(|sentence| sentence.contains(words)),
            "{line}: {failure}"
        );
        assert_eq!(json.code, *code, "{line}");
    }
    assert_eq!(cluster.inspect()["index"], before, "nothing entered the log");
}

#[tokio::test]
async fn a_stale_version_changes_nothing() {
    let cluster = Cluster::start(Executor::Process, &[]);
    cluster.ok("service create --name web --image x --replicas 0");
    let mut client = wire::connect(&cluster.socket(MANAGER)).await.expect("a connection");
    let request = InspectServicesRequest { services: vec!["web".to_owned()] };
    let services = client.inspect_services(request).await.expect("the service").into_inner().services;
    let (spec, version) = (services[0].spec.clone(), Some(services[0].meta.version));
    cluster.ok("service update web --label who=somebody-else");
    let index = cluster.inspect()["index"].clone();
    let update = UpdateService {
        service: "web".to_owned(),
        spec: Box::new(spec),
        version,
        registry_auth: None,
        env_secrets: Vec::new(),
    };
    let command = Some(command_request::Command::UpdateService(update));
    let request = CommandRequest { id: events::Id::from_bits(7), command, ..CommandRequest::default() };
    let status = client.execute(request).await.expect_err("a refusal");
    let refusal = Refusal::from_status(&status).expect("a refusal of ours");
    assert_eq!(refusal.kind(), RefusalKind::Conflict, "{refusal:?}");
    assert!(refusal.hint.is_some());
    assert_eq!(cluster.inspect()["index"], index, "nothing entered the log");
    assert!(cluster.ok("service inspect web").contains("somebody-else"));
}

#[test]
fn an_ambiguous_reference_is_no_reference() {
    let cluster = Cluster::start(Executor::Process, &[]);
    // There are more services than possible first characters of an id: two of them share one.
    for number in 0..37 {
        cluster.ok(&format!("service create --name s{number} --image x --replicas 0"));
    }
    let ids: Vec<String> = cluster.ok("service ls -q").lines().map(str::to_owned).collect();
    let first = |id: &str| id.chars().next().expect("a character");
    let shared = ids.iter().map(|id| first(id)).find(|c| ids.iter().filter(|id| first(id) == *c).count() > 1);
    let shared = shared.expect("two ids that begin alike");
    cluster.swarmctl(&format!("service rm {shared}")).refused(2, "could be");
    assert_eq!(cluster.ok("service ls -q").lines().count(), 37, "nothing was removed");
}

/// A line of `swarmd`, its exit code and words of its error.
const STARTS: &[Case] = &[
    ("--no-such-flag", 2, "--no-such-flag"),
    ("--listen-remote-api everywhere", 2, "the form is IP:PORT"),
    ("--listen-remote-api 0.0.0.0:70000", 2, "the form is IP:PORT"),
    ("--listen-remote-api :4242", 2, "the form is IP:PORT"),
    ("--advertise-remote-api here", 2, "it has no port"),
    ("--advertise-remote-api 0.0.0.0:4242", 2, "other nodes cannot reach"),
    ("--join-addr nonsense --join-token x", 2, "it has no port; the form is host:port"),
    ("--join-addr :4242 --join-token x", 2, "it has no host"),
    ("--join-addr a:0 --join-token x", 2, "a number from 1 to 65535"),
    ("--join-addr a:70000 --join-token x", 2, "a number from 1 to 65535"),
    ("--join-addr http://a:4242 --join-token x", 2, "neither a name nor an IP address"),
    ("--join-addr 127.0.0.1:1 --join-token hunter2", 2, "this is not a join token"),
    ("--join-addr 127.0.0.1:1 --join-token SWMTKN-1-", 2, "it has 3 parts of 4"),
    ("--join-addr 127.0.0.1:1 --join-token SWMTKN-1-abc-def", 2, "the join token's digest has 3 characters of 50"),
    ("--executor magic", 2, "magic"),
    ("--generic-node-resources gpu", 2, "gpu"),
    ("--join-addr 127.0.0.1:1", 2, "a node needs a join token"),
    ("--hostname=", 2, "cannot be called"),
    (
        concat!(
            "--join-token SWMTKN-1-",
            "00000000000000000000000000000000000000000000000000",
            "-",
            "1111111111111111111111111"
        ),
        2,
        "no address of a manager",
    ),
    ("--dev --join-addr 127.0.0.1:1 --join-token x", 2, "--dev"),
    ("--engine-addr tcp://127.0.0.1:1", 2, "tcp://127.0.0.1:1"),
    ("--engine-addr ssh://host", 2, "expected the form unix:///"),
    ("--engine-addr unix://relative.sock", 2, "expected the form unix:///"),
    ("--generic-node-resources gpu=", 2, "the form is"),
    ("--generic-node-resources =1", 2, "the form is"),
    ("--engine-addr unix:///no/such/engine.sock --executor docker", 1, "/no/such/engine.sock"),
    ("replay", 1, "there is no log"),
];

#[test]
fn a_daemon_that_cannot_start_says_why_and_begins_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state");
    for (line, code, words) in STARTS {
        let mut command = Command::new(program("swarmd"));
        command.args(line.split(' ')).arg("--state-dir").arg(&state);
        if *line != "replay" {
            command.arg("--listen-control-api").arg(dir.path().join("socket"));
            if !line.contains("listen-remote-api") {
                command.args(["--listen-remote-api", "127.0.0.1:0"]);
            }
        }
        let answer = run(&mut command);
        println!("{line}\n{}", answer.err);
        answer.refused(*code, words);
        assert!(!answer.err.contains("hunter2"), "a token is not repeated: {answer:?}");
        assert!(!state.join("raft").exists() && !state.join("certificates").exists(), "{line} began a cluster");
    }
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let cluster = Cluster::start(Executor::Process, &[]);
    let file = cluster.path("file");
    std::fs::write(&file, "").expect("written");
    let mut command = Command::new(program("swarmd"));
    command.args(["--executor", "process", "--listen-remote-api", "127.0.0.1:0", "--state-dir"]);
    command.arg(file.join("below")).arg("--listen-control-api").arg(cluster.path("own.sock"));
    run(&mut command).refused(1, "file/below: Not a directory");
    assert!(!cluster.path("own.sock").exists());
    let unusable = cluster.path("file").join("socket");
    let mut command = Command::new(program("swarmd"));
    command.args(["--executor", "process", "--listen-remote-api", "127.0.0.1:0", "--state-dir"]);
    command.arg(cluster.path("own")).arg("--listen-control-api").arg(unusable);
    run(&mut command).refused(1, "the control socket");
    let mut command = Command::new(program("swarmd"));
    command.args(["--executor", "process", "--listen-remote-api", "127.0.0.1:0", "--state-dir"]);
    command.arg(cluster.path("own")).arg("--listen-control-api").arg(&file);
    run(&mut command).refused(1, "exists and is not a socket");
    assert!(file.exists(), "what is no socket is nobody's to remove");
    assert!(cluster.state_dir(MANAGER).exists());
}
