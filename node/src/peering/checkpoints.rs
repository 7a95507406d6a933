//! Requests the other managers' signed checkpoints over the same frames.

use std::sync::Arc;

use events::{Duration, NodeId};
use futures_util::future;
use wire::v1::SignCheckpointRequest;

use super::link::client;
use super::{Other, Peering};
use crate::security::Credentials;

/// Timeout for another manager's answer: a client is waiting for it.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Peering {
    /// The checkpoint that each other manager signs over its first `size` frames, the last of which has this index; or why it
    /// signs none.
    pub async fn checkpoints(&self, size: u64, index: u64) -> Vec<(NodeId, Result<String, String>)> {
        let Some(credentials) = self.credentials() else { return Vec::new() };
        let asked = self.known().into_iter().map(|other| {
            let credentials = Arc::clone(&credentials);
            async move {
                let signed = tokio::time::timeout(TIMEOUT, ask(&other, credentials, size, index)).await;
                let late = |_| Err(format!("it does not answer within {} s", TIMEOUT.as_secs()));
                (other.node, signed.unwrap_or_else(late))
            }
        });
        future::join_all(asked).await
    }
}

async fn ask(other: &Other, credentials: Arc<Credentials>, size: u64, index: u64) -> Result<String, String> {
    let mut client = client(other, credentials).await?;
    let signed = client.sign_checkpoint(SignCheckpointRequest { size, index }).await;
    signed.map(|signed| signed.into_inner().note).map_err(|status| status.message().to_owned())
}
