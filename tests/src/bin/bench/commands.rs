//! Durable commands: clients at a real manager's control socket that each send the next command after the last answer, which
//! comes after its fsync; and one that sends all on a stream. For comparison, etcd in the same run.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use events::{Annotations, CommandId, Id, NodeSpec, Role};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use wire::v1::command_answer::Outcome;
use wire::v1::command_request::Command;
use wire::v1::control_client::ControlClient;
use wire::v1::{CommandRequest, UpdateNode};

use crate::callers::{self, CONNECTIONS_MAX, RUN, Throughput};
use crate::daemon::{Daemon, runtime};
use crate::etcd::{self, Etcd};
use crate::figure::{Figure, Target};

const RUNS: usize = 5;
/// Numbers of concurrent callers.
const CALLERS: [usize; 3] = [1, 64, 256];
/// Maximum number of unanswered commands on the stream: as many as a manager accepts.
const STREAMED: usize = 4_096;

/// The results of one program for each number of callers.
#[derive(Default)]
struct Throughputs(BTreeMap<usize, Vec<Throughput>>);

/// The figures of ours and of etcd, and their ratio.
pub fn figures() -> Result<Vec<Figure>> {
    runtime()?.block_on(async {
        let (mut ours, mut theirs, mut streamed) = (Throughputs::default(), Throughputs::default(), Vec::new());
        let daemon = Daemon::start("process").await?;
        let etcd = Etcd::start(1).await?;
        // Alternating, so that other load on the machine affects both.
        for callers in CALLERS {
            for _ in 0..RUNS {
                ours.add(callers, measure(&daemon, &daemon.node, callers).await?);
                if let Some(etcd) = &etcd {
                    theirs.add(callers, etcd.measure(callers).await?);
                }
            }
        }
        for _ in 0..RUNS {
            streamed.push(of_stream(&daemon).await?);
        }
        Ok(all_figures(&ours, etcd.as_ref().map(|_| &theirs), streamed))
    })
}

fn all_figures(ours: &Throughputs, theirs: Option<&Throughputs>, streamed: Vec<f64>) -> Vec<Figure> {
    let how = "label updates of a node, each answered after its fsync; up to 8 HTTP/2 connections to swarmd's unix socket, \
               on the same processors, for 3 s";
    let mut figures = ours.figures("durable commands", "commands/s", how, Some((256, Target::AtLeast(20_000.0))));
    let how_streamed =
        format!("the same commands on one ExecuteStream, {STREAMED} unanswered at a time, answers in order");
    let figure = |name: &str, runs, unit, target, how: &str| Figure {
        name: name.to_owned(),
        runs,
        unit,
        target,
        how: how.to_owned(),
    };
    figures.push(figure("durable commands, one stream", streamed.clone(), "commands/s", Target::Shown, &how_streamed));
    let Some(theirs) = theirs else {
        println!("etcd is not installed (Debian: etcd-server), so nothing is compared with it");
        return figures;
    };
    let how = format!(
        "etcd beside it: puts of {} bytes over plain HTTP/2 on loopback, as many connections",
        etcd::VALUE_BYTES
    );
    figures.extend(theirs.figures("etcd puts", "puts/s", &how, None));
    let how = "run by run, each beside the other's";
    let compared = |callers, of: fn(&Throughput) -> f64| -> Vec<f64> {
        ours.of(callers, of).zip(theirs.of(callers, of)).map(|(ours, theirs)| ours / theirs).collect()
    };
    let rate = |measure: &Throughput| measure.per_second;
    figures.extend([
        figure(
            "p50 of one caller against etcd's",
            compared(1, |measure| measure.p50_ms),
            "times",
            Target::AtMost(0.7),
            how,
        ),
        figure("commands of 256 callers against etcd's", compared(256, rate), "times", Target::AtLeast(2.0), how),
        figure(
            "one stream against etcd's 256 callers",
            streamed.iter().zip(theirs.of(256, rate)).map(|(ours, theirs)| ours / theirs).collect(),
            "times",
            Target::AtLeast(8.0),
            how,
        ),
    ]);
    figures
}

impl Throughputs {
    fn add(&mut self, callers: usize, measure: Throughput) {
        self.0.entry(callers).or_default().push(measure);
    }

    fn of(&self, callers: usize, what: fn(&Throughput) -> f64) -> impl Iterator<Item = f64> {
        self.0.get(&callers).into_iter().flatten().map(what)
    }

    fn figures(&self, what: &str, unit: &'static str, how: &str, target: Option<(usize, Target)>) -> Vec<Figure> {
        let rate = |callers| Figure {
            name: format!("{what}, {callers} callers"),
            runs: self.of(callers, |measure| measure.per_second).collect(),
            unit,
            target: target.filter(|(of, _)| *of == callers).map_or(Target::Shown, |(_, target)| target),
            how: how.to_owned(),
        };
        let mut figures: Vec<Figure> = self.0.keys().map(|callers| rate(*callers)).collect();
        figures.push(Figure {
            name: format!("{what}, p50 of one caller"),
            runs: self.of(1, |measure| measure.p50_ms).collect(),
            unit: "ms",
            target: Target::Shown,
            how: how.to_owned(),
        });
        figures
    }
}

/// Callers that change the labels of a node.
pub async fn measure(daemon: &Daemon, node: &str, callers: usize) -> Result<Throughput> {
    let mut connections = Vec::new();
    for _ in 0..callers.min(CONNECTIONS_MAX) {
        connections.push((daemon.connect().await?, node.to_owned()));
    }
    callers::run(&connections, callers, |(mut connection, node), caller, number| async move {
        connection.execute(update(node, caller, number)).await?;
        Ok(())
    })
    .await
}

/// Commands per second on one stream.
async fn of_stream(daemon: &Daemon) -> Result<f64> {
    let mut client: ControlClient<Channel> = daemon.connect().await?;
    let (requests, receiver) = mpsc::channel(STREAMED);
    let node = daemon.node.clone();
    let started = Instant::now();
    let send = async move {
        let mut number = 0;
        while started.elapsed() < RUN && requests.send(update(node.clone(), 0, number)).await.is_ok() {
            number += 1;
        }
        number
    };
    let receive = async {
        let mut answers = client.execute_stream(ReceiverStream::new(receiver)).await?.into_inner();
        let mut answered = 0_u64;
        while let Some(answer) = answers.message().await? {
            anyhow::ensure!(matches!(answer.outcome, Some(Outcome::Reply(_))), "refused: {answer:?}");
            answered += 1;
        }
        Ok(answered)
    };
    let (sent, answered) = tokio::join!(send, receive);
    let answered = answered?;
    anyhow::ensure!(sent == answered, "{sent} commands were sent and {answered} answered");
    Ok(answered as f64 / started.elapsed().as_secs_f64())
}

/// A command of one of the callers.
pub fn update(node: String, caller: usize, number: u64) -> CommandRequest {
    let labels = BTreeMap::from([(format!("client-{caller}"), number.to_string())]);
    let annotations = Some(Annotations { labels, ..Annotations::default() });
    let spec = NodeSpec { annotations, role: Role::Manager.into(), ..NodeSpec::default() };
    let command = Command::UpdateNode(UpdateNode { node, spec, version: None });
    CommandRequest { id: CommandId::from_bits(rand::random()), command: Some(command), ..CommandRequest::default() }
}
