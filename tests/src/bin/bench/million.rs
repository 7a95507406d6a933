//! One service of 1,000,000 replicas, from the command to the last report of a running task, and its effect on other clients.
//!
//! The leader and its log on disk are real. Agents are simulated here; in production they are on other machines, so their time
//! does not count: the clock for all figures runs only while the manager works.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use commands::{Actor, Command, ServiceSecrets};
use events::{Id, NodeId, Role, ServiceId, SessionId, TaskId, TaskState, Timestamp};
use node::log::{Consensus, LogStore, RocksStore, write_all};
use node::manager::fold::Folded;
use node::manager::replica::{Effects, Intervals, Outcome, Replica, Request, Ticket};
use projections::{Table, Task, snapshot};

use crate::figure::{Figure, Target};
use crate::fixture;

const NODES: u64 = 10_000;
/// Default number of replicas, unless this environment variable is set.
const REPLICAS: u64 = 1_000_000;
const REPLICAS_VARIABLE: &str = "BENCH_REPLICAS";
/// Number of replicas of a service that is merely large.
const LARGE_REPLICAS: u64 = 100_000;
/// The intervals at which an operator changes a label, and creates a small service.
const LABEL_EVERY: Duration = Duration::from_millis(50);
const SERVICE_EVERY: Duration = Duration::from_millis(500);
const SMALL_REPLICAS: u64 = 3;
/// The interval of heartbeats.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(3);

/// The time until all tasks run, and the latency of other clients meanwhile.
pub fn figures() -> Result<Vec<Figure>> {
    let replicas = match std::env::var(REPLICAS_VARIABLE) {
        Ok(text) => text.parse().with_context(|| format!("{REPLICAS_VARIABLE} is no number"))?,
        Err(_) => REPLICAS,
    };
    let directory = tempfile::tempdir()?;
    let large = Bench::new(&directory.path().join("large"))?.run(LARGE_REPLICAS)?;
    let mut bench = Bench::new(&directory.path().join("very-large"))?;
    let all = bench.run(replicas)?;
    let computed = bench.computed;
    let p99 = percentile(&mut bench.answered, 99);
    let (bytes, written, read) = bench.checkpoint()?;
    let slowest = bench.placed.iter().max().copied().unwrap_or_default();
    let what = format!(
        "one service of {replicas} replicas on {NODES} nodes (resources, a constraint, spread over 10 zones); leader and log \
         on the disk are real, agents report each task once; counted is the time in which the manager works"
    );
    let figure = |name: &str, value: Duration, unit, target, how: &str| Figure {
        name: name.to_owned(),
        runs: vec![if unit == "s" { value.as_secs_f64() } else { value.as_secs_f64() * 1e3 }],
        unit,
        target,
        how: format!("{what}; {how}"),
    };
    let most = Target::AtMost;
    let longest = bench.longest;
    let size = format!("{} MiB, not sealed and not on the disk", bytes >> 20);
    let of_large = format!(
        "the same for {LARGE_REPLICAS} replicas, in another cluster; from the command to the last task running"
    );
    Ok(vec![
        Figure {
            name: "a large service runs".to_owned(),
            runs: vec![large.as_secs_f64()],
            unit: "s",
            target: Target::AtMost(6.0),
            how: of_large,
        },
        figure("a very large service runs", all, "s", most(60.0), "from the command to the last task running"),
        figure(
            "other commands meanwhile, p99",
            p99,
            "ms",
            most(50.0),
            &format!("{} labels of nodes", bench.answered.len()),
        ),
        figure(
            "other services placed meanwhile, maximum",
            slowest,
            "ms",
            most(1_000.0),
            &format!("{} services of {SMALL_REPLICAS} replicas, until all their tasks have nodes", bench.placed.len()),
        ),
        figure("the longest turn meanwhile", longest, "ms", Target::Shown, "processor time to decide and settle"),
        figure(
            "processor time of the manager",
            computed,
            "s",
            Target::Shown,
            "of its turns and of writing, on one thread",
        ),
        figure("writing its state as a checkpoint", written, "s", Target::Shown, &size),
        figure("reading its state from a checkpoint", read, "s", most(30.0), &size),
    ])
}

/// A manager with its agents and two operators.
struct Bench {
    leader: Replica,
    store: Arc<dyn LogStore>,
    /// The working time of the manager.
    worked: Duration,
    /// The processor time of this, except for threads of the log's database.
    computed: Duration,
    /// The processor time of the longest turn, without its consequences.
    longest: Duration,
    tickets: Ticket,
    /// Tasks that agents reported as running.
    reported: BTreeSet<TaskId>,
    /// The tasks as last sent to agents.
    seen: Table<TaskId, Task>,
    /// Pending label changes, and the latencies of finished ones.
    asked: BTreeMap<Ticket, Duration>,
    answered: Vec<Duration>,
    /// Small services that are being created or placed, and the latencies of finished ones.
    creating: BTreeMap<Ticket, Duration>,
    placing: BTreeMap<ServiceId, Duration>,
    placed: Vec<Duration>,
    /// The number of services created so far.
    services: u64,
}

impl Bench {
    fn new(state_dir: &std::path::Path) -> Result<Self> {
        let store: Arc<dyn LogStore> = Arc::new(RocksStore::open(state_dir)?);
        store.load()?;
        Consensus::bootstrap(&*store, 1)?;
        let loaded = store.load()?;
        let mut folded = Folded::default();
        fixture::fold(&mut folded.cluster, 0, (0..NODES).flat_map(fixture::node));
        let consensus = Consensus::open(Arc::clone(&store), 1, &loaded)?;
        let leader = Replica::new(fixture::id(0), "0.1.0", consensus, folded, Intervals::default());
        let mut bench = Self {
            leader,
            store,
            worked: Duration::ZERO,
            computed: Duration::ZERO,
            longest: Duration::ZERO,
            tickets: 0,
            reported: BTreeSet::new(),
            seen: Table::default(),
            asked: BTreeMap::new(),
            answered: Vec::new(),
            creating: BTreeMap::new(),
            placing: BTreeMap::new(),
            placed: Vec::new(),
            services: 0,
        };
        bench.advance()?;
        ensure!(bench.leader.is_leader(), "a single voter leads at once");
        Ok(bench)
    }

    /// Creates the service and runs everything until its tasks run.
    fn run(&mut self, replicas: u64) -> Result<Duration> {
        self.hear_all();
        // A new leader looks at everything once, independent of commands.
        while self.has_work() {
            self.turn()?;
        }
        let started = self.worked;
        self.create(replicas)?;
        let (mut heartbeat, mut label, mut service) = (started, started, started);
        while (self.reported.len() as u64) < replicas + (self.services - 1) * SMALL_REPLICAS || self.has_work() {
            if self.worked >= heartbeat {
                self.hear_all();
                heartbeat = self.worked + HEARTBEAT_EVERY;
            }
            if self.worked >= label {
                self.label()?;
                label = self.worked + LABEL_EVERY;
            }
            if self.worked >= service && (self.reported.len() as u64) < replicas {
                let ticket = self.create(SMALL_REPLICAS)?;
                self.creating.insert(ticket, self.worked);
                service = self.worked + SERVICE_EVERY;
            }
            self.turn()?;
        }
        let running = self.leader.cluster().tasks.values().filter(|task| task.state == TaskState::Running).count();
        ensure!(running == self.reported.len(), "{running} of {} tasks run", self.reported.len());
        ensure!(self.creating.is_empty() && self.placing.is_empty(), "all small services have their tasks");
        Ok(self.worked - started)
    }

    /// The size of the state as a checkpoint, and how long it takes to write and to read it.
    fn checkpoint(&self) -> Result<(usize, Duration, Duration)> {
        let started = Instant::now();
        let chunks: Vec<Vec<u8>> = snapshot::chunks(self.leader.cluster()).collect();
        let (written, started) = (started.elapsed(), Instant::now());
        let read = snapshot::read(&chunks)?;
        ensure!(read.tasks.len() == self.leader.cluster().tasks.len(), "all tasks are read");
        Ok((chunks.iter().map(Vec::len).sum(), written, started.elapsed()))
    }

    fn has_work(&self) -> bool {
        self.leader.has_work(self.now())
    }

    fn now(&self) -> Timestamp {
        fixture::time(1) + self.worked
    }

    /// One turn of the manager; then agents and operators react.
    fn turn(&mut self) -> Result<()> {
        let now = self.now();
        let started = Instant::now();
        let computed = thread_time()?;
        let mut all = vec![self.leader.turn(now)];
        self.longest = self.longest.max(thread_time()?.saturating_sub(computed));
        all.extend(self.advance()?);
        self.computed += thread_time()?.saturating_sub(computed);
        self.worked += started.elapsed();
        for effects in all {
            for (ticket, outcome) in effects.answers {
                self.hear_answer(ticket, outcome)?;
            }
        }
        self.report()?;
        self.look_at_services();
        Ok(())
    }

    /// Writes everything that is staged and waits for it; a real manager takes its next turn meanwhile.
    fn advance(&mut self) -> Result<Vec<Effects>> {
        let mut all = Vec::new();
        loop {
            let mut effects = self.leader.advance()?;
            let writes = std::mem::take(&mut effects.writes);
            all.push(effects);
            if writes.is_empty() {
                return Ok(all);
            }
            self.leader.written(write_all(&*self.store, writes)?);
        }
    }

    fn hear_answer(&mut self, ticket: Ticket, outcome: Outcome) -> Result<()> {
        let Outcome::Committed { subject, .. } = outcome else { bail!("a command failed: {outcome:?}") };
        if let Some(at) = self.asked.remove(&ticket) {
            self.answered.push(self.worked - at);
        }
        if let Some(at) = self.creating.remove(&ticket) {
            let service = subject.context("a service was made")?;
            self.placing.insert(service.parse().context("the id of a service")?, at);
        }
        Ok(())
    }

    /// Agents start assigned tasks at once, and report this.
    fn report(&mut self) -> Result<()> {
        let tasks = &self.leader.cluster().tasks;
        let mut given: BTreeMap<NodeId, Vec<TaskId>> = BTreeMap::new();
        for task in tasks.changed_since(&self.seen).filter_map(|(_, task)| task) {
            let node = task.node.filter(|_| task.state == TaskState::Assigned && self.reported.insert(task.id));
            if let Some(node) = node {
                given.entry(node).or_default().push(task.id);
            }
        }
        self.seen = tasks.clone();
        let at = self.now();
        let status = |task: TaskId| (task, fixture::status(task.bits(), TaskState::Running, None, at));
        for (node, tasks) in given {
            let reports = tasks.into_iter().map(status).collect();
            let session = self.leader.cluster().nodes.get(node).and_then(|node| node.session).context("a session")?;
            let actor = Actor::Node { id: node, role: Role::Worker };
            self.ask(actor, Command::ReportTasks(commands::ReportTasks { node, session, reports }))?;
        }
        Ok(())
    }

    fn look_at_services(&mut self) {
        let cluster = self.leader.cluster();
        let placed = |service: &ServiceId| {
            cluster.tasks_of_service(*service).filter(|task| task.node.is_some()).count() as u64 == SMALL_REPLICAS
        };
        let all: Vec<ServiceId> = self.placing.keys().copied().filter(placed).collect();
        for service in all {
            self.placed.extend(self.placing.remove(&service).map(|at| self.worked - at));
        }
    }

    fn hear_all(&mut self) {
        let now = self.now();
        for node in 0..NODES {
            self.leader.heartbeat(fixture::id(node), fixture::id::<SessionId>(node), now);
        }
    }

    fn label(&mut self) -> Result<()> {
        let number = self.answered.len() as u64 % NODES;
        let spec = fixture::node_spec(number, &self.tickets.to_string());
        let ticket = self.ask(
            operator(),
            Command::UpdateNode(commands::UpdateNode { node: fixture::id(number), spec, version: None }),
        )?;
        self.asked.insert(ticket, self.worked);
        Ok(())
    }

    fn create(&mut self, replicas: u64) -> Result<Ticket> {
        let spec = Box::new(fixture::service_spec(self.services, replicas));
        self.services += 1;
        self.ask(
            operator(),
            Command::CreateService(commands::CreateService { spec, secrets: ServiceSecrets::default() }),
        )
    }

    fn ask(&mut self, actor: Actor, command: Command) -> Result<Ticket> {
        self.tickets += 1;
        let ticket = self.tickets;
        match self.leader.submit(ticket, Request::unnamed(actor, command)) {
            Ok(()) => Ok(ticket),
            Err(refusal) => bail!("a command was refused: {refusal:?}"),
        }
    }
}

fn operator() -> Actor {
    Actor::Operator("bench".to_owned())
}

/// The processor time of this thread.
fn thread_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = stat.split(' ').next().context("the time on a processor")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// The given percentile.
fn percentile(all: &mut [Duration], percent: usize) -> Duration {
    all.sort_unstable();
    all.get((all.len() * percent / 100).min(all.len().saturating_sub(1))).copied().unwrap_or_default()
}
