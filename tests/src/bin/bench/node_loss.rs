//! The time until a task runs elsewhere after its node is killed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use events::service_spec::Mode;
use events::{
    Annotations, CommandId, ContainerSpec, Id, Kind, NodeId, Placement, ReplicatedMode, ServiceSpec, TaskSpec,
    TaskState,
};
use tonic::Streaming;
use wire::v1::command_request::Command;
use wire::v1::{
    CommandRequest, CreateService, EventRecord, EventsRequest, GetClusterRequest, ListNodesRequest, ListTasksRequest,
    NodeState,
};

use crate::daemon::{Daemon, free_ports, runtime};
use crate::figure::{Figure, Target};

/// The number of killed nodes: each only once, because a node that comes and goes has to wait before it is accepted again.
const RUNS: usize = 10;
const WORKERS: usize = RUNS + 1;
/// Time limit for everything here.
const TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The figure in seconds.
pub fn figures() -> Result<Vec<Figure>> {
    let mut runs = runtime()?.block_on(losses())?;
    runs.sort_by(f64::total_cmp);
    let slowest = runs[runs.len() - 1];
    let how = format!(
        "{RUNS} times: the swarmd of the worker that runs the service's only task is killed, until the manager has the report that another \
         one runs on another node; all on the same processors, process executor"
    );
    let figure = |name: &str, runs, target| Figure { name: name.to_owned(), runs, unit: "s", target, how: how.clone() };
    Ok(vec![
        figure("from the kill of a node to its task running elsewhere", runs, Target::Shown),
        figure("from the kill of a node to its task running elsewhere, maximum", vec![slowest], Target::AtMost(6.0)),
    ])
}

async fn losses() -> Result<Vec<f64>> {
    let mut ports = free_ports().map(|port| ([127, 0, 0, 1], port).into());
    let address = ports.next().context("no port is free")?;
    let manager = Daemon::start_at(address, "process", &[]).await?;
    let asked = GetClusterRequest { with_tokens: Some(true) };
    let token = manager.connect().await?.get_cluster(asked).await?.into_inner().join_tokens.worker.clone();
    let join = ["--join-addr".to_owned(), address.to_string(), "--join-token".to_owned(), token];
    let mut workers = Vec::new();
    for address in ports.take(WORKERS) {
        let before = ready(&manager).await?;
        let worker = Daemon::join(address, "process", &join)?;
        let node = until_joined(&manager, &before).await?;
        workers.push((node, worker));
    }
    let request = EventsRequest { follow: true, ..EventsRequest::default() };
    let mut events = manager.connect().await?.events(request).await?.into_inner();
    let create = CreateService { spec: Box::new(service()), ..CreateService::default() };
    let id = CommandId::from_bits(rand::random());
    let create = CommandRequest { id, command: Some(Command::CreateService(create)), ..CommandRequest::default() };
    manager.connect().await?.execute(create).await?;
    let mut runs_on = await_running(&manager, &mut events, None).await?;
    let mut runs = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let of_node = workers.iter_mut().find(|(node, _)| *node == runs_on);
        let (lost, worker) = of_node.context("the task runs on a worker")?;
        worker.kill()?;
        let killed = Instant::now();
        runs_on = await_running(&manager, &mut events, Some(*lost)).await?;
        runs.push(killed.elapsed().as_secs_f64());
    }
    Ok(runs)
}

fn service() -> ServiceSpec {
    let command = ["sleep", "1000"].map(str::to_owned).to_vec();
    let container = ContainerSpec { image: "bench".to_owned(), command, ..ContainerSpec::default() };
    let placement = Placement { constraints: vec!["node.role==worker".to_owned()], ..Placement::default() };
    let task = TaskSpec { container: Some(container), placement: Some(placement), ..TaskSpec::default() };
    ServiceSpec {
        annotations: Some(Annotations { name: "one".to_owned(), ..Annotations::default() }),
        task: Some(task),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas: 1 })),
        ..ServiceSpec::default()
    }
}

/// The node on which a task is reported as running, other than the lost one. Reads each report of a running task.
async fn await_running(manager: &Daemon, events: &mut Streaming<EventRecord>, lost: Option<NodeId>) -> Result<NodeId> {
    while let Some(record) = events.message().await? {
        let Some(Kind::TaskReported(report)) = &record.event.kind else { continue };
        if report.status.state() != TaskState::Running {
            continue;
        }
        let asked = ListTasksRequest { tasks: vec![report.task.to_string()], ..ListTasksRequest::default() };
        let mut pages = manager.connect().await?.list_tasks(asked).await?.into_inner();
        let task = pages.message().await?.and_then(|page| page.tasks.into_iter().next());
        if let Some(node) = task.and_then(|task| task.node).filter(|node| Some(*node) != lost) {
            return Ok(node);
        }
    }
    bail!("the stream of events ended")
}

async fn ready(manager: &Daemon) -> Result<Vec<NodeId>> {
    let mut pages = manager.connect().await?.list_nodes(ListNodesRequest::default()).await?.into_inner();
    let mut ready = Vec::new();
    while let Some(page) = pages.message().await? {
        ready.extend(page.nodes.iter().filter(|node| node.state() == NodeState::Ready).map(|node| node.id));
    }
    Ok(ready)
}

async fn until_joined(manager: &Daemon, before: &[NodeId]) -> Result<NodeId> {
    let started = Instant::now();
    while started.elapsed() < TIMEOUT {
        if let Some(joined) = ready(manager).await?.into_iter().find(|node| !before.contains(node)) {
            return Ok(joined);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    bail!("a worker was not ready within {TIMEOUT:?}")
}
