//! The logs of simulated tasks. The selection of tasks, and the messages about unreachable ones, are the real code of `swarmd`;
//! its connections are not simulated, so each node answers at once or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::task::{Context, Poll};

use cli::Failure;
use events::{NodeId, TaskId, Timestamp};
use futures_util::Stream;
use node::control::logs::{LogNode, TaskSelection, incomplete};
use node::streams::{Line, batches};
use wire::v1::{LogSource, LogsPart, LogsRequest};

use crate::socket::{STRIDE, Socket, broken, refuse};
use crate::world::LogsUnavailable;

/// Lines as a stream. A client that follows it lets time pass.
pub struct LogFollower {
    socket: Socket,
    request: LogsRequest,
    selection: TaskSelection,
    /// Tasks that were read, and the number of lines read.
    read: BTreeMap<TaskId, usize>,
    /// The tasks that existed at the start: of others all lines are wanted.
    first: Option<BTreeSet<TaskId>>,
    /// Tasks that were introduced to the client.
    named: BTreeSet<TaskId>,
    /// Unreachable nodes that were reported to the client.
    lost: BTreeSet<NodeId>,
    started: bool,
}

impl LogFollower {
    pub fn new(socket: Socket, request: LogsRequest) -> Result<Self, Failure> {
        let selection = socket.control()?.select_logs(&request).map_err(refuse)?;
        let (read, named, lost) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Ok(Self { socket, request, selection, read, first: None, named, lost, started: false })
    }

    /// The output since the last call.
    fn look(&mut self) -> Result<LogsPart, Failure> {
        // A manager that is down reports nothing new.
        let Ok(control) = self.socket.control() else { return Ok(LogsPart::default()) };
        let mut part = LogsPart::default();
        if !std::mem::replace(&mut self.started, true) && !self.request.follow {
            part.warnings = control.without_logs(&self.selection);
        }
        let (mut lines, nodes) = (Vec::new(), control.log_nodes(&self.selection));
        self.first.get_or_insert_with(|| nodes.values().flat_map(LogNode::tasks).collect());
        for (id, node) in nodes {
            let silent = match &node.session {
                Err(why) => Err(why.clone()),
                Ok(_) => self.ask(id, &node.sources, &mut part, &mut lines),
            };
            match silent {
                Ok(()) => {
                    self.lost.remove(&id);
                }
                Err(why) if self.lost.insert(id) => {
                    part.warnings.push(LogNode::missing(&node.name, &why, "logs", &node.sources));
                }
                Err(_) => {}
            }
        }
        lines.sort_by_key(|line| line.line.at);
        part.batches = batches(lines);
        Ok(part)
    }

    fn ask(
        &mut self,
        node: NodeId,
        sources: &[LogSource],
        part: &mut LogsPart,
        lines: &mut Vec<Line>,
    ) -> Result<(), String> {
        for source in sources {
            let task = source.task;
            let printed = match self.socket.world.borrow().printed(node, task) {
                Ok(printed) => printed,
                Err(LogsUnavailable::Node) => return Err("it did not call back within 10 s".to_owned()),
                Err(LogsUnavailable::Task) if self.read.contains_key(&task) => continue,
                Err(LogsUnavailable::Task) => {
                    self.read.insert(task, 0);
                    part.warnings.push(incomplete(source, "its container is gone"));
                    continue;
                }
            };
            let (since, until) = (self.request.since, self.request.until);
            let wants = |at: Timestamp| since.is_none_or(|since| since <= at) && until.is_none_or(|until| at <= until);
            let wanted: Vec<_> = printed.into_iter().filter(|line| wants(line.at)).collect();
            let tail = self.request.tail.filter(|_| self.first.as_ref().is_none_or(|first| first.contains(&task)));
            let tail = tail.and_then(|tail| usize::try_from(tail).ok()).unwrap_or(usize::MAX);
            let read = self.read.entry(task).or_insert_with(|| wanted.len().saturating_sub(tail));
            let new = wanted.get(*read..).unwrap_or_default();
            *read += new.len();
            if !new.is_empty() && self.named.insert(task) {
                part.sources.push(source.clone());
            }
            lines.extend(new.iter().map(|line| Line { task, line: line.clone() }));
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let now = self.socket.world.borrow().clock.now();
        !self.request.follow || self.request.until.is_some_and(|until| until < now)
    }
}

impl Stream for LogFollower {
    type Item = Result<LogsPart, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let over = self.started && self.is_over();
        let part = match self.look() {
            Ok(part) => part,
            Err(failure) => return Poll::Ready(Some(Err(failure))),
        };
        if part != LogsPart::default() {
            return Poll::Ready(Some(Ok(part)));
        }
        if over || self.is_over() {
            return Poll::Ready(None);
        }
        let mut world = self.socket.world.borrow_mut();
        let until = world.clock.now() + STRIDE;
        if let Err(error) = world.step(until) {
            return Poll::Ready(Some(Err(broken(&error))));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
