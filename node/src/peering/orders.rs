//! Orders for agents whose sessions are held by other managers.

use std::collections::BTreeSet;
use std::sync::Arc;

use events::{Duration, NodeId};
use futures_util::future;
use wire::v1::{HandOverRequest, NodeOrder};

use super::Peering;
use super::link::client;

/// Timeout for another manager's answer: a client is waiting for it.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Peering {
    /// Sends orders to the other managers that hold the sessions of these nodes; returns the nodes that accepted theirs.
    pub async fn hand_over(&self, orders: Vec<NodeOrder>) -> BTreeSet<NodeId> {
        let Some(credentials) = self.credentials() else { return BTreeSet::new() };
        let asked = self.known().into_iter().map(|other| {
            let (credentials, request) = (Arc::clone(&credentials), HandOverRequest { orders: orders.clone() });
            async move {
                let call = async {
                    let mut client = client(&other, credentials).await?;
                    client.hand_over(request).await.map_err(|status| status.message().to_owned())
                };
                match tokio::time::timeout(TIMEOUT, call).await {
                    Ok(Ok(reply)) => reply.into_inner().taken,
                    Ok(Err(why)) => {
                        tracing::debug!(manager = %other.node, error = why, "another manager takes no orders for agents");
                        Vec::new()
                    }
                    Err(_) => Vec::new(),
                }
            }
        });
        future::join_all(asked).await.into_iter().flatten().collect()
    }
}
