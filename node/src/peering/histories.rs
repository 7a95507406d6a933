//! The histories of the other managers, for the thread that heals this one's: each page is one call with a timeout.

use std::sync::Arc;

use bytes::Bytes;
use events::Duration;
use tokio_util::sync::CancellationToken;
use wire::v1::{HistoryFrame, ReadHistoryRequest};

use crate::log::OtherHistory;
use crate::manager::driver::Handle;
use crate::manager::scrub::OtherHistories;
use crate::security::Credentials;

use super::link::client;
use super::{Other, Own};

/// Timeout for a page of 1 MiB, including the connection: sufficient for a slow disk over a slow link.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Access to the histories of all other voters.
#[derive(Clone)]
pub struct Histories {
    core: Handle,
    own: Own,
    credentials: Arc<Credentials>,
    runtime: tokio::runtime::Handle,
    stop: CancellationToken,
}

impl Histories {
    /// Access to the other managers' histories until `stop`; must be created within the runtime that performs the calls.
    pub fn new(core: Handle, own: Own, credentials: Arc<Credentials>, stop: CancellationToken) -> Self {
        Self { core, own, credentials, runtime: tokio::runtime::Handle::current(), stop }
    }
}

impl OtherHistories for Histories {
    fn list(&self) -> Vec<Box<dyn OtherHistory>> {
        let state = self.core.state();
        let others = state.cluster.members.values().filter(|member| member.votes && member.node != self.own.node);
        let one = |member: &projections::Member| {
            let other = Other { node: member.node, addr: member.addr.clone() };
            Box::new(History { other, of: self.clone() }) as Box<dyn OtherHistory>
        };
        others.map(one).collect()
    }
}

/// The history of one other manager.
struct History {
    other: Other,
    of: Histories,
}

impl History {
    async fn read(&self, from: u64) -> Result<Vec<(u64, Bytes)>, String> {
        let mut client = client(&self.other, Arc::clone(&self.of.credentials)).await?;
        let part = client.read_history(ReadHistoryRequest { from }).await;
        let part = part.map_err(|status| status.message().to_owned())?.into_inner();
        Ok(part.frames.into_iter().map(|HistoryFrame { index, stored }| (index, stored)).collect())
    }
}

impl OtherHistory for History {
    fn name(&self) -> String {
        format!("{} ({})", self.other.node, self.other.addr)
    }

    fn page(&self, from: u64) -> Result<Vec<(u64, Bytes)>, String> {
        // A timer must be created within the runtime.
        let read = async { tokio::time::timeout(TIMEOUT, self.read(from)).await };
        match self.of.runtime.block_on(self.of.stop.run_until_cancelled(read)) {
            Some(Ok(read)) => read,
            Some(Err(_)) => Err(format!("nothing came within {} s", TIMEOUT.as_secs())),
            None => Err("this manager is stopping".to_owned()),
        }
    }
}
