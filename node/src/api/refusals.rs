//! Records refused calls in history: at most once a minute, so that repeated calls do not fill the log.

use std::time::Duration;

use commands::{Actor, Command, RecordRefusals};
use events::{AccessRefused, NodeId};
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::manager::replica::{Outcome, Request};
use crate::security::Refusals;

/// How long refusals are summed up. Those of the last period before a manager stops are only in its own log.
const PERIOD: Duration = Duration::from_secs(60);

/// Records what this manager refuses, until `stop`.
pub async fn record_refusals(context: Context, stop: CancellationToken) {
    let (core, node) = (context.core, context.manager.node);
    let record = |summary| {
        let command = Command::RecordRefusals(RecordRefusals(summary));
        core.submit(Request::unnamed(Actor::Manager(node), command))
    };
    stop.run_until_cancelled(summarise(&context.refusals, node, record)).await;
}

async fn summarise<R: Future<Output = Outcome>>(
    refusals: &Refusals,
    node: NodeId,
    record: impl Fn(AccessRefused) -> R,
) {
    loop {
        refusals.some().await;
        tokio::time::sleep(PERIOD).await;
        let Some(summary) = refusals.take(node) else { continue };
        let outcome = record(summary.clone()).await;
        if !matches!(outcome, Outcome::Committed { .. }) {
            tracing::debug!(?outcome, "refused calls are not recorded yet");
            // They may already be recorded; recording them twice is better than not at all.
            refusals.put_back(summary);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::ready;

    use events::{Id, OperatorRole, Timestamp};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_minute_of_refusals_is_one_record_and_what_was_not_recorded_is_in_the_next() {
        let (refusals, node) = (Refusals::default(), NodeId::from_bits(1));
        let recorded = RefCell::<Vec<u64>>::default();
        let record = |summary: AccessRefused| {
            recorded.borrow_mut().push(summary.refused.iter().map(|calls| calls.count).sum());
            let committed = Outcome::Committed { index: 1, subject: None };
            ready(if recorded.borrow().len() == 2 { Outcome::Unknown } else { committed })
        };
        let eve = Actor::CertifiedOperator { name: "eve".to_owned(), role: OperatorRole::Viewer };
        let attack = async {
            for number in 0..3_000 {
                refusals.note(&eve, true, "service.remove", Timestamp::default());
                if number % 1_000 == 999 {
                    tokio::time::sleep(PERIOD + Duration::from_secs(1)).await;
                }
            }
            tokio::time::sleep(PERIOD * 10).await;
        };
        tokio::select! {
            () = summarise(&refusals, node, record) => unreachable!("it goes on"),
            () = attack => {}
        }
        assert_eq!(*recorded.borrow(), [1_000, 1_000, 2_000]);
    }
}
