//! The load of simulated tasks: a script sets the load of each service, and its running tasks share it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cli::Failure;
use events::{NodeId, ServiceId, SessionId, TaskId, Timestamp};
use futures_util::Stream;
use node::agent::meter::Meter;
use node::control::logs::{LogNode, TaskSelection};
use wire::v1::{LogSource, TaskUsage, UsagePart, UsageRequest};

use crate::socket::{STRIDE, Socket, broken, refuse};
use crate::world::{LogsUnavailable, World};

/// The memory of an idle task.
const IDLE_BYTES: u64 = 16 << 20;

/// The total load of a service.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// Thousandths of a processor.
    pub milli_cpus: u64,
    /// Bytes.
    pub memory_bytes: u64,
}

/// The loads of services, and the usage of their tasks.
#[derive(Debug, Default)]
pub struct Loads {
    of: BTreeMap<ServiceId, Load>,
    /// CPU time up to the last reading of a task.
    used: BTreeMap<TaskId, (Timestamp, u64)>,
    /// What agents measure of the tasks of autoscaled services.
    meters: BTreeMap<NodeId, Meter>,
}

impl Loads {
    /// Sets the load of a service.
    pub fn set(&mut self, service: ServiceId, load: Load) {
        self.of.insert(service, load);
    }
}

impl World {
    /// The usage of a task on this node; `None` if it does not run.
    ///
    /// # Errors
    /// When its agent cannot be reached.
    pub fn usage(&mut self, node: NodeId, task: TaskId) -> Result<Option<TaskUsage>, LogsUnavailable> {
        match self.printed(node, task) {
            Ok(_) => {}
            Err(LogsUnavailable::Task) => return Ok(None),
            Err(LogsUnavailable::Node) => return Err(LogsUnavailable::Node),
        }
        let service = self.oracle.cluster().tasks.get(task).map(|task| task.service).unwrap_or_default();
        let load = self.loads.of.get(&service).copied().unwrap_or_default();
        let task_count = self.task_count(service);
        if !self.runs(node, task) {
            return Ok(None);
        }
        let now = self.clock.now();
        let (at, cpu_ns) = self.loads.used.entry(task).or_insert((now, 0));
        let passed_ns = u64::try_from(now.since(*at).as_nanos()).unwrap_or(u64::MAX);
        *cpu_ns += passed_ns * load.milli_cpus / 1_000 / task_count;
        *at = now;
        let memory_bytes = IDLE_BYTES + load.memory_bytes / task_count;
        Ok(Some(TaskUsage { task, at: now, cpu_ns: *cpu_ns, memory_bytes, pids: Some(1), ..TaskUsage::default() }))
    }

    /// Adds the usage of a node's tasks to its heartbeat, as far as the manager requested it.
    pub(crate) fn report_use(&mut self, node: NodeId, session: SessionId) {
        let now = self.clock.now();
        let is_wanted = !self.oracle.cluster().autoscaling().is_empty() || self.loads.meters.contains_key(&node);
        let Some(control) = self.manager.control(now).filter(|_| is_wanted) else { return };
        let mut meter = self.loads.meters.remove(&node).unwrap_or_default();
        meter.order(&control.measured(node));
        for task in meter.due(now) {
            // An agent that does not answer has no session either.
            if let Ok(Some(TaskUsage { cpu_ns, memory_bytes, .. })) = self.usage(node, task) {
                meter.note(task, now, cpu_ns, memory_bytes);
            }
        }
        self.manager.note_uses(node, session, meter.uses(now), now);
        self.loads.meters.insert(node, meter);
    }

    /// The number of tasks that share the load of a service.
    fn task_count(&mut self, service: ServiceId) -> u64 {
        let tasks: Vec<(NodeId, TaskId)> = {
            let cluster = self.oracle.cluster();
            cluster.tasks_of_service(service).filter_map(|task| Some((task.node?, task.id))).collect()
        };
        let running = tasks.into_iter().filter(|(node, task)| self.runs(*node, *task)).count();
        running.max(1) as u64
    }

    fn runs(&mut self, node: NodeId, task: TaskId) -> bool {
        self.machine(node).is_ok_and(|machine| machine.engine.running().any(|running| running == task))
    }
}

/// Readings as a stream. A client lets time pass.
pub struct UsageFollower {
    socket: Socket,
    request: UsageRequest,
    selection: TaskSelection,
    known: Vec<TaskId>,
    /// Unreachable nodes that were reported to the client.
    lost: Vec<NodeId>,
    rounds: u32,
    next: Timestamp,
}

/// Number of readings for a client that does not follow.
const ROUNDS: u32 = 2;

impl UsageFollower {
    /// Readings of the tasks in a request.
    ///
    /// # Errors
    /// When it names no task.
    pub fn new(socket: Socket, request: UsageRequest) -> Result<Self, Failure> {
        let selection = socket.control()?.select_usage(&request).map_err(refuse)?;
        let next = socket.world.borrow().clock.now();
        Ok(Self { socket, request, selection, known: Vec::new(), lost: Vec::new(), rounds: 0, next })
    }

    /// One reading of each task.
    fn look(&mut self) -> UsagePart {
        // A manager that is down reports nothing new.
        let Ok(control) = self.socket.control() else { return UsagePart::default() };
        let mut part = UsagePart::default();
        if self.rounds == 0 {
            part.warnings = control.not_running(&self.selection);
        }
        for (id, node) in control.usage_nodes(&self.selection) {
            let silent = match &node.session {
                Err(why) => Err(why.clone()),
                Ok(_) => self.ask(id, &node.sources, &mut part),
            };
            match silent {
                Ok(()) => self.lost.retain(|lost| *lost != id),
                Err(why) if !self.lost.contains(&id) => {
                    self.lost.push(id);
                    part.warnings.push(LogNode::missing(&node.name, &why, "readings", &node.sources));
                }
                Err(_) => {}
            }
        }
        part
    }

    fn ask(&mut self, node: NodeId, sources: &[LogSource], part: &mut UsagePart) -> Result<(), String> {
        for source in sources {
            let read = self.socket.world.borrow_mut().usage(node, source.task);
            let reading = read.map_err(|_| "it did not call back within 10 s".to_owned())?;
            if reading.is_some() && !self.known.contains(&source.task) {
                self.known.push(source.task);
                part.sources.push(source.clone());
            }
            part.readings.extend(reading);
        }
        Ok(())
    }
}

impl Stream for UsageFollower {
    type Item = Result<UsagePart, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.request.follow && self.rounds == ROUNDS {
            return Poll::Ready(None);
        }
        let now = self.socket.world.borrow().clock.now();
        if now >= self.next {
            let part = self.look();
            self.rounds += 1;
            self.next = now + STRIDE;
            if part != UsagePart::default() {
                return Poll::Ready(Some(Ok(part)));
            }
        }
        let until = self.next.min(now + Duration::from_secs(1));
        if let Err(error) = self.socket.world.borrow_mut().step(until) {
            return Poll::Ready(Some(Err(broken(&error))));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
