//! Log lines of tasks of this node, for one reader.

use std::collections::BTreeSet;
use std::sync::Arc;

use events::TaskId;
use futures_util::stream::{self, BoxStream, StreamExt};
use futures_util::{FutureExt, future};
use tokio::sync::mpsc;
use wire::v1::from_task::Message as FromTaskMessage;
use wire::v1::to_task::Message as ToTaskMessage;
use wire::v1::{FromTask, LogBatches, LogDetails, LogFailure, LogTask, LogsOrder};

use super::{Cancelled, Outbound};
use crate::agent::executor::{LogQuery, TaskLogs};
use crate::agent::worker::Worker;
use crate::streams::{Gather, Line, MESSAGE_BYTES, Piece, batches, encoded};

/// Maximum tasks per stream: each buffers some lines, and holds a connection of the engine.
const TASKS_MAX: usize = 256;

/// Sends lines until all tasks have ended or the manager cancels the stream.
pub(super) async fn serve(
    worker: &Arc<Worker>,
    order: LogsOrder,
    mut more: mpsc::Receiver<ToTaskMessage>,
    outbound: &Outbound,
) {
    let follow = order.follow;
    let mut reader = Reader { worker, outbound, gather: Gather::new(follow), known: BTreeSet::new() };
    if reader.add(order).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            biased;
            added = more.recv() => {
                match added {
                    Some(ToTaskMessage::Logs(order)) => if reader.add(order).await.is_err() {
                        return;
                    },
                    Some(ToTaskMessage::Credit(_) | ToTaskMessage::Input(_)) => {
                        tracing::debug!("unexpected message of a manager on a stream of logs");
                    }
                    // The manager, which grants credit, is disconnected: the stream is cancelled.
                    None => return,
                }
            }
            piece = reader.next(follow) => {
                let Some(piece) = piece else { return };
                if reader.send(piece).await.is_err() {
                    return;
                }
            }
        }
    }
}

struct Reader<'a> {
    worker: &'a Arc<Worker>,
    outbound: &'a Outbound,
    gather: Gather<LogFailure>,
    known: BTreeSet<TaskId>,
}

impl Reader<'_> {
    /// Adds these tasks to the stream.
    async fn add(&mut self, order: LogsOrder) -> Result<(), Cancelled> {
        let LogsOrder { tasks, follow, until, details } = order;
        let opened = tasks.into_iter().map(|wanted| {
            let LogTask { task, tail, since } = wanted;
            self.open(task, LogQuery { follow, tail, since, until }).map(move |opened| (task, opened))
        });
        let opened: Vec<_> = opened.collect();
        for (task, opened) in future::join_all(opened).await {
            let said = match opened {
                Ok(logs) => {
                    self.known.insert(task);
                    self.gather.push(pieces(task, logs.lines));
                    details.then_some(FromTaskMessage::Details(LogDetails { task, details: logs.details }))
                }
                Err(sentence) => Some(FromTaskMessage::Failure(LogFailure { task, sentence })),
            };
            if let Some(said) = said {
                self.outbound.send(FromTask { opens: None, message: Some(said) }).await?;
            }
        }
        Ok(())
    }

    fn open(&self, task: TaskId, query: LogQuery) -> impl Future<Output = Result<TaskLogs, String>> + use<> {
        let (worker, full) = (Arc::clone(self.worker), self.known.len() >= TASKS_MAX);
        async move {
            if full {
                return Err(format!("its node shows the logs of {TASKS_MAX} tasks at a time"));
            }
            worker.logs(task, query).await
        }
    }

    /// The next piece; with `follow`, waits for further tasks when all have ended.
    async fn next(&mut self, follow: bool) -> Option<Piece<LogFailure>> {
        match self.gather.next().await {
            None if follow => future::pending().await,
            piece => piece,
        }
    }

    /// Sends a piece, batched with lines that are already available as long as they fit in a message.
    async fn send(&mut self, piece: Piece<LogFailure>) -> Result<(), Cancelled> {
        let (mut message, mut bytes, mut full) = (Vec::new(), 0, false);
        let mut next = Some(piece);
        while let Some(piece) = next.take() {
            match piece {
                Piece::Control(failure) => {
                    flush(self.outbound, &mut message).await?;
                    let said = Some(FromTaskMessage::Failure(failure));
                    self.outbound.send(FromTask { opens: None, message: said }).await?;
                }
                Piece::Lines(lines) => {
                    for line in lines {
                        bytes += encoded(&line);
                        message.push(line);
                        if bytes >= MESSAGE_BYTES {
                            flush(self.outbound, &mut message).await?;
                            (bytes, full) = (0, true);
                        }
                    }
                }
            }
            if !message.is_empty() && !full {
                next = self.gather.next().now_or_never().flatten();
            }
        }
        flush(self.outbound, &mut message).await
    }
}

async fn flush(outbound: &Outbound, lines: &mut Vec<Line>) -> Result<(), Cancelled> {
    if lines.is_empty() {
        return Ok(());
    }
    let batches = batches(lines.drain(..));
    let said = Some(FromTaskMessage::Lines(LogBatches { batches }));
    outbound.send(FromTask { opens: None, message: said }).await
}

/// The lines of a task as pieces; a failure is the last one.
fn pieces(
    task: TaskId,
    lines: BoxStream<'static, Result<Vec<wire::v1::LogLine>, crate::agent::executor::ExecutorError>>,
) -> BoxStream<'static, Piece<LogFailure>> {
    let pieces = stream::unfold(Some(lines), move |lines| async move {
        let mut lines = lines?;
        Some(match lines.next().await? {
            Ok(some) => (Piece::Lines(some.into_iter().map(|line| Line { task, line }).collect()), Some(lines)),
            Err(error) => (Piece::Control(LogFailure { task, sentence: error.to_string() }), None),
        })
    });
    pieces.boxed()
}
