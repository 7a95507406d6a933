//! Reading a task's log through a manager, and through the engine's own API: megabytes per second, alternating on the same
//! container; and the memory of the manager when a reader stops reading.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bollard::Docker;
use bollard::query_parameters::LogsOptionsBuilder;
use events::service_spec::Mode;
use events::{Annotations, ContainerSpec, ReplicatedMode, ServiceSpec, TaskSpec};
use futures_util::StreamExt;
use tonic::transport::Channel;
use wire::v1::command_request::Command;
use wire::v1::control_client::ControlClient;
use wire::v1::{CreateService, EventsRequest, ListTasksRequest, LogsRequest};

use crate::daemon::{Daemon, runtime};
use crate::figure::{Figure, Target};
use crate::starts::{await_event, execute, is_running, no_engine};

const RUNS: usize = 5;
const IMAGE: &str = "swarmlog/demo:v1";
const SERVICE: &str = "talkative";
/// The size of the container's log in bytes, and its line length, which is typical for programs.
const LINE_BYTES: usize = 100;
const BYTES: usize = 100_000_000;
/// The target rate of the manager; if the engine itself is slower, its rate is the target.
const MEGABYTES_A_SECOND: f64 = 200.0;
/// How long to watch a stopped reader: meanwhile every buffer on the path fills up.
const STOPPED: Duration = Duration::from_secs(3);
const MEGABYTE: f64 = 1_000_000.0;

/// The result of one read.
struct Read {
    bytes: usize,
    messages: usize,
    took: Duration,
}

/// Both rates, the lines per message, and the memory; skipped with a message if there is no engine.
pub fn figures() -> Result<Vec<Figure>> {
    if no_engine("logs") {
        return Ok(Vec::new());
    }
    runtime()?.block_on(measure())
}

async fn measure() -> Result<Vec<Figure>> {
    let daemon = Daemon::start("docker").await?;
    let docker = Docker::connect_with_unix_defaults()?;
    let mut client = daemon.connect().await?;
    let container = talking(&daemon, &mut client).await?;
    // The first read follows until everything is written, and does not count.
    by_the_engine(&docker, &container, true).await?;
    let (mut ours, mut alone, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let engine = by_the_engine(&docker, &container, false).await?;
        let manager = by_a_manager(&mut client).await?;
        ensure!(manager.bytes == engine.bytes, "{} bytes by the manager, {}", manager.bytes, engine.bytes);
        ours.push(rate(&manager));
        alone.push(rate(&engine));
        lines.push((manager.bytes / LINE_BYTES) as f64 / manager.messages as f64);
    }
    let memory = stopped_reader(&daemon).await?;
    let how = format!("{BYTES} bytes in lines of {LINE_BYTES}, one container, read in turn over unix sockets");
    let figure =
        |name: &str, runs, unit, target| Figure { name: name.to_owned(), runs, unit, target, how: how.clone() };
    let engine = figure("docker logs, lines", alone, "MB/s", Target::Shown);
    let target = Target::AtLeast(engine.median().min(MEGABYTES_A_SECOND));
    Ok(vec![
        figure("service logs through a manager, lines", ours, "MB/s", target),
        engine,
        figure("lines of a message", lines, "lines", Target::Shown),
        figure("memory for a reader that stopped", vec![memory], "MB", Target::AtMost(32.0)),
    ])
}

fn rate(read: &Read) -> f64 {
    read.bytes as f64 / MEGABYTE / read.took.as_secs_f64()
}

/// The container of a service that prints and then keeps running.
async fn talking(daemon: &Daemon, client: &mut ControlClient<Channel>) -> Result<String> {
    let line = "x".repeat(LINE_BYTES - 1);
    let script = format!("yes {line} | head -c {BYTES}; exec sleep 1000");
    let container = ContainerSpec {
        image: IMAGE.to_owned(),
        command: ["sh".to_owned(), "-c".to_owned(), script].to_vec(),
        stop_signal: "SIGKILL".to_owned(),
        ..ContainerSpec::default()
    };
    let spec = ServiceSpec {
        annotations: Some(Annotations { name: SERVICE.to_owned(), ..Annotations::default() }),
        task: Some(TaskSpec { container: Some(container), ..TaskSpec::default() }),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas: 1 })),
        ..ServiceSpec::default()
    };
    let request = EventsRequest { follow: true, ..EventsRequest::default() };
    let mut events = daemon.connect().await?.events(request).await?.into_inner();
    let create = CreateService { spec: Box::new(spec), registry_auth: None, env_secrets: Vec::new() };
    execute(client, Command::CreateService(create)).await?;
    await_event(&mut events, is_running).await?;
    let request = ListTasksRequest { service: Some(SERVICE.to_owned()), ..ListTasksRequest::default() };
    let mut pages = client.list_tasks(request).await?.into_inner();
    let tasks = pages.message().await?.context("a page of tasks")?.tasks;
    let running = tasks.into_iter().find_map(|task| task.status.container);
    Ok(running.context("the task has a container")?.container_id)
}

async fn by_the_engine(docker: &Docker, container: &str, follow: bool) -> Result<Read> {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(follow).build();
    let (started, mut read) = (Instant::now(), Read { bytes: 0, messages: 0, took: Duration::ZERO });
    let mut lines = docker.logs(container, Some(options));
    while let Some(line) = lines.next().await {
        read.bytes += line?.into_bytes().len();
        read.messages += 1;
        if read.bytes >= BYTES {
            break;
        }
    }
    ensure!(read.bytes == BYTES, "the engine has {} bytes of {BYTES}", read.bytes);
    Ok(Read { took: started.elapsed(), ..read })
}

async fn by_a_manager(client: &mut ControlClient<Channel>) -> Result<Read> {
    let request = LogsRequest { services: vec![SERVICE.to_owned()], ..LogsRequest::default() };
    let (started, mut read) = (Instant::now(), Read { bytes: 0, messages: 0, took: Duration::ZERO });
    let mut parts = client.logs(request).await?.into_inner();
    while let Some(part) = parts.message().await? {
        if let Some(warning) = part.warnings.first() {
            bail!("{warning}");
        }
        // Including the line end, which is not sent.
        read.bytes += part.batches.iter().flat_map(|batch| &batch.lines).map(|line| line.data.len() + 1).sum::<usize>();
        read.messages += 1;
    }
    Ok(Read { took: started.elapsed(), ..read })
}

/// The growth of the manager's memory in megabytes while a client requests everything and reads nothing.
async fn stopped_reader(daemon: &Daemon) -> Result<f64> {
    let before = daemon.resident_bytes()?;
    let request = LogsRequest { services: vec![SERVICE.to_owned()], ..LogsRequest::default() };
    let mut client = daemon.connect().await?;
    let _unread = client.logs(request).await?.into_inner();
    tokio::time::sleep(STOPPED).await;
    Ok(daemon.resident_bytes()?.saturating_sub(before) as f64 / MEGABYTE)
}
