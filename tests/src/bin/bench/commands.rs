//! Durable commands per second: clients of a real manager's control socket that each send their next command once the last
//! one is answered, which is after its fsync.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use events::{Annotations, CommandId, Id, NodeSpec, Role};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use wire::v1::command_request::Command;
use wire::v1::control_client::ControlClient;
use wire::v1::{CommandRequest, UpdateNode};

use crate::daemon::{Daemon, runtime};
use crate::figure::{Figure, Target};

const RUNS: usize = 5;
/// How long one run sends commands.
const RUN: Duration = Duration::from_secs(3);
/// Connections that clients share, as the clients of one proxy or one program do.
const CONNECTIONS_MAX: usize = 8;

/// The figure for each number of clients.
pub fn figures() -> Result<Vec<Figure>> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let daemon = Daemon::start("process").await?;
        let mut figures = Vec::new();
        for (clients, target) in [(1, Target::Shown), (64, Target::Shown), (256, Target::AtLeast(20_000.0))] {
            figures.push(figure(&daemon, clients, target).await?);
        }
        Ok(figures)
    })
}

async fn figure(daemon: &Daemon, clients: usize, target: Target) -> Result<Figure> {
    let mut runs = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        runs.push(run(daemon, clients).await?);
    }
    let connections = clients.min(CONNECTIONS_MAX);
    let how = format!(
        "label updates of a node, each answered after its fsync; {clients} callers on {connections} HTTP/2 connections \
         to swarmd's unix socket, on the same processors, for 3 s"
    );
    Ok(Figure { name: format!("durable commands, {clients} clients"), runs, unit: "commands/s", target, how })
}

async fn run(daemon: &Daemon, clients: usize) -> Result<f64> {
    let mut connections = Vec::new();
    for _ in 0..clients.min(CONNECTIONS_MAX) {
        connections.push(daemon.connect().await?);
    }
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for client in 0..clients {
        let connection = connections[client % connections.len()].clone();
        callers.spawn(call(connection, daemon.node.clone(), client, begun + RUN));
    }
    let mut answered = 0;
    while let Some(count) = callers.join_next().await {
        answered += count??;
    }
    Ok(answered as f64 / begun.elapsed().as_secs_f64())
}

/// Sends one command after the other until `end`; returns how many were answered.
async fn call(mut connection: ControlClient<Channel>, node: String, client: usize, end: Instant) -> Result<u64> {
    let mut answered = 0;
    while Instant::now() < end {
        let labels = BTreeMap::from([(format!("client-{client}"), answered.to_string())]);
        let annotations = Some(Annotations { labels, ..Annotations::default() });
        let spec = NodeSpec { annotations, role: Role::Manager.into(), ..NodeSpec::default() };
        let command = Command::UpdateNode(UpdateNode { node: node.clone(), spec, version: None });
        let id = CommandId::from_bits(rand::random());
        connection.execute(CommandRequest { id, command: Some(command), ..CommandRequest::default() }).await?;
        answered += 1;
    }
    Ok(answered)
}
