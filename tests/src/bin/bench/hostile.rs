//! The damage that an attacker with one worker's certificate can do: the latency of operators' commands while the attacker
//! reports, renews, registers and connects as fast as possible, and how much history grows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use events::{
    Annotations, CommandId, ContainerSpec, Id, NodeDescription, NodeSpec, Placement, Role, ServiceSpec, SessionId,
    TaskId, TaskSpec, TaskState, TaskStatus,
};
use node::clock;
use node::daemon::start_settings::StartSettings;
use node::log::{LogStore, RocksStore};
use node::security::enrolment::{Timeouts, join};
use node::security::{CertificateRequest, CertificateStore, Connector, Credentials};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Streaming};
use wire::v1::certificates_client::CertificatesClient;
use wire::v1::command_request::Command;
use wire::v1::control_client::ControlClient;
use wire::v1::dispatcher_client::DispatcherClient;
use wire::v1::session_message::Message;
use wire::v1::{
    CommandRequest, CreateService, GetClusterRequest, RegisterRequest, RenewRequest, ReportRequest, SessionMessage,
    TaskReport, UpdateNode,
};

use crate::daemon::{Daemon, runtime};
use crate::figure::{Figure, Target};

/// The argument that starts the program as the attacker, followed by the manager's address, the certificate's directory, the
/// session, the task and the seconds.
pub const ATTACK: &str = "hostile-attack";
/// Default duration of the attack, unless this environment variable is set; before it, the manager is measured without attack for
/// as long.
const SECONDS: u64 = 60;
const SECONDS_VARIABLE: &str = "BENCH_SECONDS";
/// Connections of the attacker, and concurrent reports on each: as many as it can get.
const CONNECTIONS: usize = 8;
const CALLS: usize = 16;
const HOSTNAME: &str = "hostile";
/// Operators that each send the next command after the last answer.
const WRITERS: usize = 4;

/// The latency of others with and without the attack, and the growth of history.
pub fn figures() -> Result<Vec<Figure>> {
    let seconds = match std::env::var(SECONDS_VARIABLE) {
        Ok(text) => text.parse().with_context(|| format!("{SECONDS_VARIABLE} is no number"))?,
        Err(_) => SECONDS,
    };
    let sample = runtime()?.block_on(measure(seconds))?;
    let how = format!(
        "{WRITERS} callers of label updates on swarmd's unix socket, for {seconds} s without and {seconds} s with the attack of one worker's \
         certificate, a process of the lowest priority on the same processors, which got: {}",
        sample.attack
    );
    let figure = |name: &str, value, unit, target| Figure {
        name: format!("hostile worker: {name}"),
        runs: vec![value],
        unit,
        target,
        how: how.clone(),
    };
    let (calm, attacked) = (sample.calm_ms, sample.attacked_ms);
    Ok(vec![
        figure("others' p99 without it", calm, "ms", Target::Shown),
        figure("others' p99 with it", attacked, "ms", Target::Shown),
        figure("others' p99, how many times", attacked / calm, "times", Target::AtMost(2.0)),
        figure("growth of history", sample.grown_kib, "KiB", Target::AtMost(2_048.0)),
    ])
}

struct Sample {
    calm_ms: f64,
    attacked_ms: f64,
    /// History that was not caused by the other clients.
    grown_kib: f64,
    attack: String,
}

async fn measure(seconds: u64) -> Result<Sample> {
    let daemon = Daemon::start("process").await?;
    let address = StartSettings::load(&state_dir(&daemon))?.context("the settings of its start")?.listen_remote_api;
    let (address, dir) = (address.to_string(), tempfile::tempdir()?);
    let cluster = daemon.connect().await?.get_cluster(GetClusterRequest { with_tokens: Some(true) }).await?;
    let token = cluster.into_inner().join_tokens.worker.parse()?;
    join(&CertificateStore::new(dir.path()), &address, &token, HOSTNAME, Timeouts::OF_A_JOINER, |_| Ok(())).await?;
    let mut stream = session(connect(&address, dir.path()).await?, 0).await.context("a session")?;
    let session = welcome(&mut stream).await?;
    execute(&mut daemon.connect().await?, Command::CreateService(service())).await?;
    let task = assigned(&mut stream).await?;

    let time = Duration::from_secs(seconds);
    let calm = others(&daemon, time).await?;
    let before = foreign_bytes(&daemon)?;
    let mut attack = Process::new("nice");
    attack.args(["-n", "19"]).arg(std::env::current_exe()?).args([ATTACK, &address]).arg(dir.path());
    attack.args([session.to_string(), task.to_string(), seconds.to_string()]);
    let attack = tokio::task::spawn_blocking(move || attack.output());
    let attacked = others(&daemon, time).await?;
    let output = attack.await??;
    ensure!(output.status.success(), "the attack failed: {}", String::from_utf8_lossy(&output.stderr));
    let grown = foreign_bytes(&daemon)?.saturating_sub(before);
    Ok(Sample {
        calm_ms: p99_ms(calm)?,
        attacked_ms: p99_ms(attacked)?,
        grown_kib: grown as f64 / 1_024.0,
        attack: String::from_utf8(output.stdout)?.trim().to_owned(),
    })
}

/// The latency of operators' commands.
async fn others(daemon: &Daemon, time: Duration) -> Result<Vec<Duration>> {
    let (mut writers, end) = (JoinSet::new(), Instant::now() + time);
    for writer in 0..WRITERS {
        let (mut client, node) = (daemon.connect().await?, daemon.node.clone());
        writers.spawn(async move {
            let mut waits = Vec::new();
            while Instant::now() < end {
                let labels = BTreeMap::from([(format!("writer-{writer}"), waits.len().to_string())]);
                let annotations = Some(Annotations { labels, ..Annotations::default() });
                let spec = NodeSpec { annotations, role: Role::Manager.into(), ..NodeSpec::default() };
                let asked = Instant::now();
                execute(&mut client, Command::UpdateNode(UpdateNode { node: node.clone(), spec, version: None }))
                    .await?;
                waits.push(asked.elapsed());
            }
            Ok::<_, anyhow::Error>(waits)
        });
    }
    let waits = writers.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(waits.concat())
}

fn p99_ms(mut waits: Vec<Duration>) -> Result<f64> {
    waits.sort();
    let wait = waits.get(waits.len() * 99 / 100).context("nobody was answered")?;
    Ok(wait.as_secs_f64() * 1_000.0)
}

/// The bytes of history that were not caused by the operators: frames that contain only label updates are theirs.
fn foreign_bytes(daemon: &Daemon) -> Result<usize> {
    let store = RocksStore::open_read_only(&state_dir(daemon).join("raft"))?;
    let is_others = |kind: &events::Kind| matches!(kind, events::Kind::NodeSpecUpdated(_));
    let mut bytes = 0;
    for (_, stored) in store.history(0, usize::MAX, usize::MAX)? {
        let frame = events::codec::decode_frame(&stored)?;
        if !events::codec::kinds(&frame).all(is_others) {
            bytes += stored.len();
        }
    }
    Ok(bytes)
}

fn state_dir(daemon: &Daemon) -> PathBuf {
    daemon.dir().join("state")
}

async fn execute(client: &mut ControlClient<Channel>, command: Command) -> Result<()> {
    let id = CommandId::from_bits(rand::random());
    client.execute(CommandRequest { id, command: Some(command), ..CommandRequest::default() }).await?;
    Ok(())
}

/// A service with one task, for the hostile node.
fn service() -> CreateService {
    let container =
        ContainerSpec { image: "any".to_owned(), command: vec!["true".to_owned()], ..ContainerSpec::default() };
    let placement = Placement { constraints: vec![format!("node.hostname=={HOSTNAME}")], ..Placement::default() };
    let task = TaskSpec { container: Some(container), placement: Some(placement), ..TaskSpec::default() };
    let mode = events::service_spec::Mode::Replicated(events::ReplicatedMode { replicas: 1 });
    let annotations = Some(Annotations { name: "bait".to_owned(), ..Annotations::default() });
    let spec = ServiceSpec { annotations, task: Some(task), mode: Some(mode), ..ServiceSpec::default() };
    CreateService { spec: Box::new(spec), registry_auth: None, env_secrets: Vec::new() }
}

async fn connect(address: &str, dir: &Path) -> Result<Channel> {
    let identity = CertificateStore::new(dir).load(clock::now())?;
    let connector = Connector::member(Arc::new(Credentials::new(identity)?));
    Ok(Endpoint::from_shared(format!("http://{address}"))?.connect_with_connector(connector).await?)
}

/// Opens a session with its own description, if allowed.
async fn session(channel: Channel, number: usize) -> Option<Streaming<SessionMessage>> {
    let version = format!("{number} {}", "v".repeat(number.min(1) * 10_000));
    let description = NodeDescription { hostname: HOSTNAME.to_owned(), version, ..NodeDescription::default() };
    let request = RegisterRequest { description, advertise_addr: None, seen: None };
    DispatcherClient::new(channel).session(request).await.ok().map(Response::into_inner)
}

async fn welcome(stream: &mut Streaming<SessionMessage>) -> Result<SessionId> {
    match stream.message().await?.and_then(|message| message.message) {
        Some(Message::Welcome(welcome)) => Ok(welcome.session),
        other => bail!("not a welcome: {other:?}"),
    }
}

/// The first task that is assigned to the node.
async fn assigned(stream: &mut Streaming<SessionMessage>) -> Result<TaskId> {
    while let Some(message) = stream.message().await? {
        if let Some(Message::Assignments(set)) = message.message
            && let Some(assignment) = set.tasks.first()
        {
            return Ok(assignment.task);
        }
    }
    bail!("the session ended without a task")
}

/// Attacks from a separate process, and prints the answers.
pub fn attack(arguments: &[String]) -> Result<()> {
    let [address, dir, session, task, seconds] = arguments else { bail!("five arguments make an attack") };
    let (session, task, seconds) = (session.parse()?, task.parse()?, seconds.parse()?);
    let end = Instant::now() + Duration::from_secs(seconds);
    runtime()?.block_on(attack_until(end, address, Path::new(dir), session, task))
}

async fn attack_until(end: Instant, address: &str, dir: &Path, session: SessionId, task: TaskId) -> Result<()> {
    let mut callers: JoinSet<(&'static str, usize)> = JoinSet::new();
    let (newest, session) = watch::channel(session);
    callers.spawn(register(end, connect(address, dir).await?, newest));
    for connection in 0..CONNECTIONS - 2 {
        let channel = connect(address, dir).await?;
        for caller in 0..CALLS - 1 {
            callers.spawn(report(end, channel.clone(), session.clone(), task, connection * CALLS + caller));
        }
        callers.spawn(renew(end, channel));
    }
    let (address, dir) = (address.to_owned(), dir.to_owned());
    callers.spawn(async move {
        let mut connections = 0;
        while Instant::now() < end {
            connections += usize::from(connect(&address, &dir).await.is_ok());
        }
        ("connections", connections)
    });
    let mut answered = BTreeMap::new();
    while let Some(done) = callers.join_next().await {
        let (what, count) = done?;
        *answered.entry(what).or_insert(0) += count;
    }
    let answered: Vec<String> = answered.into_iter().map(|(what, count)| format!("{count} {what}")).collect();
    println!("{}", answered.join(", "));
    Ok(())
}

/// Reports changes of a task in a loop.
async fn report(
    end: Instant,
    channel: Channel,
    session: watch::Receiver<SessionId>,
    task: TaskId,
    caller: usize,
) -> (&'static str, usize) {
    let (mut client, mut taken) = (DispatcherClient::new(channel), 0);
    for sequence in 1.. {
        if Instant::now() >= end {
            break;
        }
        let message = format!("{caller} {sequence} {}", "x".repeat(4_000));
        let status = TaskStatus { state: TaskState::Running.into(), message, ..TaskStatus::default() };
        let request =
            ReportRequest { session: *session.borrow(), sequence, reports: vec![TaskReport { task, status }] };
        taken += usize::from(client.report(request).await.is_ok());
    }
    ("reports", taken)
}

/// Opens sessions, each with another description; the reports continue in the newest.
async fn register(end: Instant, channel: Channel, newest: watch::Sender<SessionId>) -> (&'static str, usize) {
    let (mut opened, mut open) = (0, None);
    for number in 1.. {
        if Instant::now() >= end {
            break;
        }
        let Some(mut stream) = session(channel.clone(), number).await else { continue };
        if let Ok(id) = welcome(&mut stream).await {
            newest.send_replace(id);
            open = Some(stream);
            opened += 1;
        }
    }
    drop(open);
    ("sessions", opened)
}

async fn renew(end: Instant, channel: Channel) -> (&'static str, usize) {
    let mut renewed = 0;
    let Ok(request) = CertificateRequest::new() else { return ("renewals", 0) };
    while Instant::now() < end {
        let renewal = RenewRequest { id: CommandId::from_bits(rand::random()), csr_pem: request.csr_pem.clone() };
        renewed += usize::from(CertificatesClient::new(channel.clone()).renew(renewal).await.is_ok());
    }
    ("renewals", renewed)
}
