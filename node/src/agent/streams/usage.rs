//! Resource usage of tasks of this node, for one reader.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use events::TaskId;
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use wire::v1::from_task::Message as FromTaskMessage;
use wire::v1::to_task::Message as ToTaskMessage;
use wire::v1::{FromTask, LogFailure, UsageOrder, UsageReadings};

use super::{Cancelled, Outbound};
use crate::agent::worker::Worker;

/// Tasks that are read concurrently: the engine takes some milliseconds for each.
const AT_A_TIME: usize = 16;
/// Maximum readings per message: about 8 KiB.
const READINGS_MAX: usize = 64;
/// Shortest period: readings are costly for the engine.
const PERIOD_MIN: Duration = Duration::from_millis(100);

/// Sends readings of these tasks, until the requested number is reached or the manager cancels the stream.
pub(super) async fn serve(
    worker: &Arc<Worker>,
    order: UsageOrder,
    mut more: mpsc::Receiver<ToTaskMessage>,
    outbound: &Outbound,
) {
    let mut rounds = tokio::time::interval(Duration::from_nanos(order.period_ns).max(PERIOD_MIN));
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut left, mut failed) = (order.rounds, BTreeSet::new());
    while left != Some(0) {
        tokio::select! {
            _ = rounds.tick() => {}
            said = more.recv() => match said {
                Some(_) => continue,
                None => return,
            },
        }
        if round(worker, &order.tasks, &mut failed, outbound).await.is_err() {
            return;
        }
        left = left.map(|left| left - 1);
    }
}

/// Reads each task once. A task that cannot be read is reported once.
async fn round(
    worker: &Arc<Worker>,
    tasks: &[TaskId],
    failed: &mut BTreeSet<TaskId>,
    outbound: &Outbound,
) -> Result<(), Cancelled> {
    let read = |task: TaskId| async move { (task, worker.usage(task).await) };
    let mut chunks = stream::iter(tasks.iter().copied().map(read)).buffered(AT_A_TIME).chunks(READINGS_MAX);
    while let Some(chunk) = chunks.next().await {
        let mut readings = Vec::new();
        for (task, read) in chunk {
            match read {
                Ok(reading) => readings.extend(reading),
                Err(sentence) if failed.insert(task) => {
                    let said = Some(FromTaskMessage::Failure(LogFailure { task, sentence }));
                    outbound.send(FromTask { opens: None, message: said }).await?;
                }
                Err(_) => {}
            }
        }
        if !readings.is_empty() {
            let said = Some(FromTaskMessage::Usage(UsageReadings { readings }));
            outbound.send(FromTask { opens: None, message: said }).await?;
        }
    }
    Ok(())
}
