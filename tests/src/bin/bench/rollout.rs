//! A rolling update of a service, and the same containers created, started, stopped and removed through the Docker API only.

use std::cell::Cell;
use std::time::Instant;

use anyhow::Result;
use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
};
use events::service_spec::Mode;
use events::{Annotations, ClusterSpec, ContainerSpec, Kind, ReplicatedMode, ServiceSpec, TaskSpec, UpdateConfig};
use tonic::Streaming;
use tonic::transport::Channel;
use wire::v1::command_request::Command;
use wire::v1::control_client::ControlClient;
use wire::v1::{CreateService, EventRecord, RemoveService, UpdateCluster, UpdateService};

use crate::daemon::runtime;
use crate::figure::{Figure, Target};
use crate::starts::{await_event, execute, in_turn, is_running, no_engine, sleeping};

const RUNS: usize = 3;
const TASKS: usize = 20;
const BEFORE: &str = "swarmlog/demo:v1";
const AFTER: &str = "swarmlog/demo:v2";

/// The two times and their ratio; skipped with a message if there is no engine.
pub fn figures() -> Result<Vec<Figure>> {
    if no_engine("rollout") {
        return Ok(Vec::new());
    }
    let pairs = runtime()?.block_on(in_turn(RUNS, through_the_cluster, through_the_engine))?;
    let (ours, alone): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let compared = pairs.iter().map(|(ours, alone)| ours / alone).collect();
    let figure = |name: &str, runs, unit, target, how: &str| {
        let name = name.to_owned();
        Figure { name, runs, unit, target, how: how.to_owned() }
    };
    let how = format!(
        "{TASKS} tasks, parallelism 1, monitor and delay 0, stop first, SIGKILL; from the command to the event that the last new task runs, \
         without the second for which it is watched then"
    );
    let alone_how = "the same containers one after another: kill, create, start and remove over the unix socket";
    Ok(vec![
        figure("rolling update", ours, "s", Target::Shown, &how),
        figure("the same through the Docker API", alone, "s", Target::Shown, alone_how),
        figure("rolling update against the Docker API", compared, "times", Target::AtMost(1.05), "measured in turn"),
    ])
}

fn spec(run: usize, image: &str) -> Box<ServiceSpec> {
    let container = ContainerSpec {
        image: image.to_owned(),
        command: sleeping(),
        stop_signal: "SIGKILL".to_owned(),
        ..ContainerSpec::default()
    };
    Box::new(ServiceSpec {
        annotations: Some(Annotations { name: format!("roll-{run}"), ..Annotations::default() }),
        task: Some(TaskSpec { container: Some(container), ..TaskSpec::default() }),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas: TASKS as u64 })),
        update: Some(UpdateConfig { monitor_ns: Some(0), ..UpdateConfig::default() }),
        ..ServiceSpec::default()
    })
}

/// The duration of the update in seconds; the service is removed again before this returns.
async fn through_the_cluster(
    client: &mut ControlClient<Channel>,
    events: &mut Streaming<EventRecord>,
    run: usize,
) -> Result<f64> {
    // Replaced containers are removed while the update is running.
    let settings = ClusterSpec { task_history_limit: Some(0), ..ClusterSpec::default() };
    execute(client, Command::UpdateCluster(UpdateCluster { spec: settings, version: None })).await?;
    let create = CreateService { spec: spec(run, BEFORE), ..CreateService::default() };
    let service = execute(client, Command::CreateService(create)).await?;
    for _ in 0..TASKS {
        await_event(events, is_running).await?;
    }
    let started = Instant::now();
    let update = UpdateService { service: service.clone(), spec: spec(run, AFTER), ..UpdateService::default() };
    execute(client, Command::UpdateService(update)).await?;
    for _ in 0..TASKS {
        await_event(events, is_running).await?;
    }
    let elapsed = started.elapsed();
    await_event(events, |kind| matches!(kind, Kind::UpdateCompleted(_))).await?;
    execute(client, Command::RemoveService(RemoveService { service })).await?;
    let left = Cell::new(TASKS);
    while left.get() > 0 {
        await_event(events, |kind| {
            let Kind::TaskReaped(reaped) = kind else { return false };
            left.set(left.get().saturating_sub(reaped.tasks.len()));
            true
        })
        .await?;
    }
    Ok(elapsed.as_secs_f64())
}

/// The duration in seconds of replacing one container after another.
async fn through_the_engine(docker: &Docker, run: usize) -> Result<f64> {
    let name = |image: &str, number: usize| {
        format!("swarmlog-bench-{}-{run}-{}-{number}", std::process::id(), image.trim_start_matches("swarmlog/demo:"))
    };
    for number in 0..TASKS {
        start(docker, &name(BEFORE, number), BEFORE).await?;
    }
    let started = Instant::now();
    for number in 0..TASKS {
        let old = name(BEFORE, number);
        docker.kill_container(&old, Some(KillContainerOptionsBuilder::new().signal("SIGKILL").build())).await?;
        start(docker, &name(AFTER, number), AFTER).await?;
        docker.remove_container(&old, Some(RemoveContainerOptionsBuilder::new().force(true).build())).await?;
    }
    let elapsed = started.elapsed();
    for number in 0..TASKS {
        let force = RemoveContainerOptionsBuilder::new().force(true).build();
        docker.remove_container(&name(AFTER, number), Some(force)).await?;
    }
    Ok(elapsed.as_secs_f64())
}

async fn start(docker: &Docker, name: &str, image: &str) -> Result<()> {
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    let image = Some(image.to_owned());
    let body = ContainerCreateBody { image, entrypoint: Some(sleeping()), ..ContainerCreateBody::default() };
    docker.create_container(Some(options), body).await?;
    docker.start_container(name, None::<StartContainerOptions>).await?;
    Ok(())
}
