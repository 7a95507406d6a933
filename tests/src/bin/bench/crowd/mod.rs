//! Many simulated agents in separate processes: each has its own certificate, its own TLS connection from its own address, and
//! one session, like agents on separate machines.

mod agent;
mod member;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

pub use member::run;

/// The argument that starts the program as one process of a crowd.
pub const MEMBER: &str = "crowd-member";

/// Agents per process: each has a connection, and the number of open files is limited per process.
const AGENTS_EACH: usize = 5_000;
/// Delay between two checks of the counters.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The credentials of an agent.
pub struct Identity {
    pub number: u64,
    pub cert_pem: String,
    pub key_pem: String,
}

/// The source address of the agent with this number, as if it were on its own machine.
pub fn address(number: u64) -> Ipv4Addr {
    let [.., high, middle, low] = (number + 1).to_be_bytes();
    Ipv4Addr::new(127, high.wrapping_add(1), middle, low)
}

/// Counters of the crowd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open sessions with all their assignments.
    pub open: u64,
    /// Sessions that were ever open.
    pub opened: u64,
    /// Tasks in the complete sets of assignments of all sessions ever opened.
    pub tasks: u64,
    pub heartbeats: u64,
    pub reports: u64,
    /// Why sessions, or attempts to open one, ended.
    pub ended: BTreeMap<String, u64>,
}

impl Counts {
    fn to_json(&self) -> Value {
        let Self { open, opened, tasks, heartbeats, reports, ended } = self;
        json!({ "open": open, "opened": opened, "tasks": tasks, "heartbeats": heartbeats, "reports": reports, "ended": ended })
    }

    fn from_json(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line)?;
        let number = |name: &str| value[name].as_u64().with_context(|| format!("no {name}"));
        let ended = value["ended"].as_object().context("no ends")?;
        let ended = ended.iter().map(|(why, count)| (why.clone(), count.as_u64().unwrap_or_default())).collect();
        Ok(Self {
            open: number("open")?,
            opened: number("opened")?,
            tasks: number("tasks")?,
            heartbeats: number("heartbeats")?,
            reports: number("reports")?,
            ended,
        })
    }

    fn add(&mut self, other: &Self) {
        self.open += other.open;
        self.opened += other.opened;
        self.tasks += other.tasks;
        self.heartbeats += other.heartbeats;
        self.reports += other.reports;
        for (why, count) in &other.ended {
            *self.ended.entry(why.clone()).or_default() += count;
        }
    }

    /// The differences since `before`, in words.
    pub fn ended_since(&self, before: &Self) -> String {
        let more = |why: &String, count: &u64| count - before.ended.get(why).copied().unwrap_or_default();
        let all = self.ended.iter().map(|(why, count)| (why, more(why, count))).filter(|(_, count)| *count > 0);
        let words: Vec<String> = all.map(|(why, count)| format!("{count} x {why}")).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }
}

/// The processes; dropping this ends them.
pub struct Crowd {
    members: Vec<(Child, Arc<Mutex<Counts>>)>,
}

impl Crowd {
    /// Starts the agents. Each reports a change of one of its tasks about once per `report_every`.
    pub fn start(
        directory: &Path,
        manager: SocketAddr,
        root_pem: &str,
        identities: &[Identity],
        report_every: Option<Duration>,
    ) -> Result<Self> {
        let mut crowd = Self { members: Vec::new() };
        let each = AGENTS_EACH.min(identities.len().div_ceil(2)).max(1);
        for (part, identities) in identities.chunks(each).enumerate() {
            let path = directory.join(format!("crowd-{part}.json"));
            let agents: Vec<Value> = identities.iter().map(|of| json!([of.number, of.cert_pem, of.key_pem])).collect();
            let order = json!({
                "manager": manager.to_string(),
                "root": root_pem,
                "report_every_ms": report_every.map(|every| every.as_millis() as u64),
                "agents": agents,
            });
            std::fs::write(&path, order.to_string())?;
            crowd.members.push(spawn(&path)?);
        }
        Ok(crowd)
    }

    /// The sum of all counters.
    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        for (_, latest) in &self.members {
            all.add(&latest.lock().unwrap_or_else(PoisonError::into_inner));
        }
        all
    }

    /// Waits until a condition on the counters holds; returns how long that took.
    pub async fn wait(&mut self, what: &str, timeout: Duration, done: impl Fn(&Counts) -> bool) -> Result<Duration> {
        let started = Instant::now();
        while !done(&self.counts()) {
            if started.elapsed() > timeout {
                bail!("{what} not within {} s: {:?}", timeout.as_secs(), self.counts());
            }
            for (process, _) in &mut self.members {
                if let Some(status) = process.try_wait()? {
                    bail!("a process of agents ended with {status}");
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(started.elapsed())
    }
}

fn spawn(order: &Path) -> Result<(Child, Arc<Mutex<Counts>>)> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut process = command.arg(MEMBER).arg(order).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let output = process.stdout.take().context("its output is ours")?;
    let latest = Arc::new(Mutex::new(Counts::default()));
    let heard = Arc::clone(&latest);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            match Counts::from_json(&line) {
                Ok(counts) => *heard.lock().unwrap_or_else(PoisonError::into_inner) = counts,
                Err(error) => eprintln!("bench: cannot parse the counters of the agents: {error}"),
            }
        }
    });
    Ok((process, latest))
}

/// Writes one line to the parent process.
fn write_counts(counts: &Counts) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", counts.to_json())?;
    out.flush()
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for (process, _) in &mut self.members {
            // It may have ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
