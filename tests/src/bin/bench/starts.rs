//! The overhead of the cluster at the start of a container: `service create` of one replica until its task is reported as
//! running, alternating with create and start through the Docker API only.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions};
use events::service_spec::Mode;
use events::{
    Annotations, CommandId, ContainerSpec, Id, Kind, ReplicatedMode, ServiceSpec, TaskReported, TaskSpec, TaskState,
};
use tonic::Streaming;
use tonic::transport::Channel;
use wire::v1::command_request::Command;
use wire::v1::control_client::ControlClient;
use wire::v1::{CommandRequest, CreateService, EventRecord, EventsRequest, RemoveService};

use crate::daemon::{Daemon, runtime};
use crate::figure::{Figure, Target};

const RUNS: usize = 11;
const IMAGE: &str = "swarmlog/demo:v1";

/// The two times and their difference; skipped with a message if there is no engine.
pub fn figures() -> Result<Vec<Figure>> {
    if no_engine("starts") {
        return Ok(Vec::new());
    }
    let pairs = runtime()?.block_on(in_turn(RUNS, through_the_cluster, through_the_engine))?;
    let figure = |name: &str, runs, target, how: &str| {
        let name = name.to_owned();
        Figure { name, runs, unit: "ms", target, how: how.to_owned() }
    };
    let (ours, alone): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let extra = pairs.iter().map(|(ours, alone)| ours - alone).collect();
    Ok(vec![
        figure("service create to running", ours, Target::Shown, "until a follower of the events sees RUNNING"),
        figure("the same through the Docker API", alone, Target::Shown, "create and start over the unix socket"),
        figure(
            "overhead of the cluster",
            extra,
            Target::AtMost(100.0),
            "the difference of each pair, measured in turn",
        ),
    ])
}

/// Whether there is no Docker Engine; prints a message with the figure's name then.
pub fn no_engine(figure: &str) -> bool {
    let is_missing = std::env::var("SWARMLOG_TEST_ENGINE").is_ok_and(|wanted| wanted == "0");
    if is_missing {
        println!("SKIPPED {figure}: no Docker Engine can be had here");
    }
    is_missing
}

/// Runs something through a cluster and through the engine only, alternating, this many times; returns the results of each.
pub async fn in_turn(
    runs: usize,
    through_the_cluster: impl AsyncFn(&mut ControlClient<Channel>, &mut Streaming<EventRecord>, usize) -> Result<f64>,
    through_the_engine: impl AsyncFn(&Docker, usize) -> Result<f64>,
) -> Result<Vec<(f64, f64)>> {
    let daemon = Daemon::start("docker").await?;
    let docker = Docker::connect_with_unix_defaults()?;
    let mut client = daemon.connect().await?;
    let request = EventsRequest { follow: true, ..EventsRequest::default() };
    let mut events = daemon.connect().await?.events(request).await?.into_inner();
    let mut pairs = Vec::with_capacity(runs);
    // The first pair warms up both and does not count.
    for run in 0..=runs {
        let ours = through_the_cluster(&mut client, &mut events, run).await?;
        let alone = through_the_engine(&docker, run).await?;
        if run > 0 {
            pairs.push((ours, alone));
        }
    }
    Ok(pairs)
}

/// Milliseconds from the command to the event; the service is removed again before this returns.
async fn through_the_cluster(
    client: &mut ControlClient<Channel>,
    events: &mut Streaming<EventRecord>,
    run: usize,
) -> Result<f64> {
    let container = ContainerSpec {
        image: IMAGE.to_owned(),
        command: sleeping(),
        stop_signal: "SIGKILL".to_owned(),
        ..ContainerSpec::default()
    };
    let spec = ServiceSpec {
        annotations: Some(Annotations { name: format!("start-{run}"), ..Annotations::default() }),
        task: Some(TaskSpec { container: Some(container), ..TaskSpec::default() }),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas: 1 })),
        ..ServiceSpec::default()
    };
    let started = Instant::now();
    let service = execute(
        client,
        Command::CreateService(CreateService { spec: Box::new(spec), registry_auth: None, env_secrets: Vec::new() }),
    )
    .await?;
    await_event(events, is_running).await?;
    let elapsed = started.elapsed();
    execute(client, Command::RemoveService(RemoveService { service })).await?;
    await_event(events, |kind| matches!(kind, Kind::TaskReaped(_))).await?;
    Ok(elapsed.as_secs_f64() * 1_000.0)
}

/// Whether this is the report of a running task.
pub fn is_running(kind: &Kind) -> bool {
    matches!(kind, Kind::TaskReported(TaskReported { status, .. }) if status.state() == TaskState::Running)
}

/// Executes a command; returns the object that it is about.
pub async fn execute(client: &mut ControlClient<Channel>, command: Command) -> Result<String> {
    let id = CommandId::from_bits(rand::random());
    let request = CommandRequest { id, command: Some(command), ..CommandRequest::default() };
    client.execute(request).await?.into_inner().subject.context("a command about a service names it")
}

/// Waits for an event. No task may be rejected meanwhile, or end unexpectedly.
pub async fn await_event(events: &mut Streaming<EventRecord>, wanted: impl Fn(&Kind) -> bool) -> Result<()> {
    while let Some(record) = events.message().await? {
        match &record.event.kind {
            Some(Kind::TaskReported(report)) if report.status.state().is_terminal() && !wanted_end(report) => {
                bail!("the task ended early: {} {}", report.status.message, report.status.error)
            }
            Some(kind) if wanted(kind) => return Ok(()),
            Some(_) | None => {}
        }
    }
    bail!("the stream of events ended")
}

/// Whether a task was shut down as desired.
fn wanted_end(report: &TaskReported) -> bool {
    !matches!(report.status.state(), TaskState::Rejected)
}

/// Milliseconds of a create and a start.
async fn through_the_engine(docker: &Docker, run: usize) -> Result<f64> {
    let name = format!("swarmlog-bench-{}-{run}", std::process::id());
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    let image = Some(IMAGE.to_owned());
    let body = ContainerCreateBody { image, entrypoint: Some(sleeping()), ..ContainerCreateBody::default() };
    let started = Instant::now();
    docker.create_container(Some(options), body).await?;
    docker.start_container(&name, None::<StartContainerOptions>).await?;
    let elapsed = started.elapsed();
    let force = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.remove_container(&name, Some(force)).await?;
    Ok(elapsed.as_secs_f64() * 1_000.0)
}

/// The command of a container that does nothing.
pub fn sleeping() -> Vec<String> {
    ["sleep", "1000"].map(str::to_owned).to_vec()
}
