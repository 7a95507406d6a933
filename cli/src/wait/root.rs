//! Waiting until every node has a certificate of the new root.

use tokio_stream::StreamExt;
use wire::v1::EventsRequest;

use super::WaitFlags;
use crate::failure::{Failure, Kind};
use crate::format::cluster;
use crate::manager::Manager;
use crate::session::Session;

/// Events that advance or end a rotation.
const KINDS: [&str; 5] =
    ["root_rotation_started", "root_rotation_completed", "node_moved_to_root", "node_joined", "node_removed"];

/// Waits, unless the flags disable it, until the rotation that started at `since` is completed.
///
/// # Errors
/// When the wait times out, the user interrupts it or the connection to the manager is lost.
pub async fn for_root<M: Manager>(session: &mut Session<'_, M>, flags: &WaitFlags, since: u64) -> Result<(), Failure> {
    if !flags.waits() || session.is_trial() {
        return Ok(());
    }
    let limit = match flags.limit(session.env.interactive) {
        Some(limit) => session.env.clock.sleep(limit),
        None => Box::pin(std::future::pending()),
    };
    let mut interrupt = std::mem::replace(&mut session.env.interrupt, Box::pin(std::future::pending()));
    let result = tokio::select! {
        biased;
        result = watch(session, since) => result,
        () = limit => Err(timed_out()),
        () = &mut interrupt => Err(Failure::new(Kind::Interrupted, "stopped waiting; the rotation continues")),
    };
    session.env.interrupt = interrupt;
    result
}

async fn watch<M: Manager>(session: &mut Session<'_, M>, since: u64) -> Result<(), Failure> {
    let kinds = KINDS.map(str::to_owned).to_vec();
    let request = EventsRequest { from: Some(since), follow: true, kinds, ..Default::default() };
    let mut history = session.manager.events(request).await?;
    let mut shown = String::new();
    loop {
        let Some(rotation) = session.manager.cluster(false).await?.root_rotation else {
            session.note("every node has a certificate of the new root; the join tokens have changed")?;
            return Ok(());
        };
        let line = cluster::rotation(&rotation);
        if line != shown {
            session.note(&line)?;
            shown = line;
        }
        match history.next().await {
            Some(record) => drop(record?),
            None => return Err(Failure::new(Kind::Unreachable, "the manager ended the stream of events")),
        }
    }
}

fn timed_out() -> Failure {
    let hint = "the rotation continues; `swarmctl cluster ca` shows which nodes it waits for";
    Failure::new(Kind::TimedOut, "timed out waiting for nodes to renew their certificates").hint(hint)
}
