//! Communication between managers: each calls every other and sends it the messages of its replica, over mutual TLS.
//!
//! Messages for another manager wait in its [`outbox`], which is bounded and drops messages when it is full; a separate task
//! ([`link`]) sends them. So neither the thread of the replica nor any other manager waits for one that is slow or down. The
//! managers to call are those in the table of members, and those that have introduced themselves: a manager that joins, or was
//! down for long, may not have the table that names the leader yet. [`translate`] converts messages to and from the wire format.

mod checkpoints;
mod histories;
mod link;
mod orders;
mod outbox;
mod translate;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use events::{Duration, NodeId};
use projections::Cluster;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::manager::driver::Handle;
use crate::manager::replica::PeerMessage;
use crate::security::Credentials;

pub use histories::Histories;
use link::Link;
pub use link::client_at;
use outbox::Outbox;
pub use translate::{from_wire, to_wire};

/// Minimum interval between two checks of the table of members: it rarely changes, and there are thousands of commits per second.
const LOOK_PERIOD: Duration = Duration::from_millis(100);
/// Maximum number of managers recorded because they introduced themselves: many times those of a sensible cluster.
const INTRODUCED_MAX: usize = 32;

/// This manager's identity for the others.
#[derive(Debug, Clone)]
pub struct Own {
    /// Its node.
    pub node: NodeId,
    /// Its raft id.
    pub raft_id: u64,
    /// Its address for other managers.
    pub addr: String,
}

/// Another manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its node.
    pub node: NodeId,
    /// Its address.
    pub addr: String,
}

/// Why messages of another manager are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefused {
    /// It was a member, and no longer is.
    #[error("the manager with the raft id {raft_id} is no longer a member of the cluster since frame {since}")]
    Former {
        /// Its raft id.
        raft_id: u64,
        /// The frame that removed it.
        since: u64,
    },
    /// The raft id belongs to another node.
    #[error("the raft id {raft_id} is that of node {of}, not of node {node}")]
    Impostor {
        /// The raft id.
        raft_id: u64,
        /// The node that it belongs to.
        of: NodeId,
        /// The node that claims it.
        node: NodeId,
    },
    /// The message is for another manager, which had or has another address.
    #[error("messages for the manager with the raft id {to} came to the one with the raft id {own}")]
    WrongReceiver {
        /// The intended receiver.
        to: u64,
        /// The actual receiver.
        own: u64,
    },
}

/// The connections to all other managers.
#[derive(Clone, Default)]
pub struct Peering {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Queued messages for each manager, by raft id.
    outboxes: Mutex<BTreeMap<u64, Arc<Outbox>>>,
    /// Managers that introduced themselves, by raft id.
    introduced: Mutex<BTreeMap<u64, Other>>,
    /// Notified when a manager introduced itself.
    news: Notify,
    core: OnceLock<(Handle, Own)>,
    credentials: OnceLock<Arc<Credentials>>,
    /// Cancelled when another manager reported that this node is no longer part of the cluster.
    removed: CancellationToken,
    /// Cancelled when another manager, or this one's own state, reported that its log no longer belongs to a member.
    former: CancellationToken,
}

impl Peering {
    /// Queues a message for another manager. Never waits; if the queue is full, the message is dropped, and raft is notified.
    pub fn send(&self, to: u64, message: PeerMessage) {
        // Without a known address the message is dropped; raft tries again.
        let Some(outbox) = locked(&self.shared.outboxes).get(&to).cloned() else { return };
        if outbox.push(message) == outbox::Pushed::FirstDropped
            && let Some((core, _)) = self.shared.core.get()
        {
            core.unreachable(to);
        }
    }

    /// Checks a manager that introduces itself as a member against this manager's state and its certificate. One that is not in
    /// this state may be in a newer one.
    ///
    /// # Errors
    /// When it is not who it claims to be, or no longer a member.
    pub fn judge(&self, node: NodeId, raft_id: u64) -> Result<(), PeerRefused> {
        let Some((core, _)) = self.shared.core.get() else { return Ok(()) };
        judge(&core.state().cluster, node, raft_id)
    }

    /// Records that another manager introduced itself, so that it can be answered.
    ///
    /// # Errors
    /// When it is not who it claims to be, or addresses another manager than this one.
    pub fn introduce(&self, raft_id: u64, to: u64, other: Other) -> Result<(), PeerRefused> {
        self.judge(other.node, raft_id)?;
        let own = self.shared.core.get().map_or(0, |(_, own)| own.raft_id);
        if to != own {
            return Err(PeerRefused::WrongReceiver { to, own });
        }
        if let Some(outbox) = locked(&self.shared.outboxes).get(&raft_id) {
            outbox.record_call();
        }
        let mut introduced = locked(&self.shared.introduced);
        if introduced.get(&raft_id) != Some(&other)
            && (introduced.len() < INTRODUCED_MAX || introduced.contains_key(&raft_id))
        {
            introduced.insert(raft_id, other);
            self.shared.news.notify_one();
        }
        Ok(())
    }

    /// The manager with this raft id, if it is known.
    pub fn other(&self, raft_id: u64) -> Option<Other> {
        let (core, own) = self.shared.core.get()?;
        self.others(&core.state().cluster, own).remove(&raft_id)
    }

    /// The manager that leads, unless it is this one or none is known.
    pub fn leader(&self) -> Option<Other> {
        let (core, _) = self.shared.core.get()?;
        self.other(core.state().leader?)
    }

    /// All other known managers.
    pub fn known(&self) -> Vec<Other> {
        let Some((core, own)) = self.shared.core.get() else { return Vec::new() };
        self.others(&core.state().cluster, own).into_values().collect()
    }

    /// This manager's credentials for others.
    fn credentials(&self) -> Option<Arc<Credentials>> {
        self.shared.credentials.get().cloned()
    }

    /// Waits until another manager reports that this node was removed from the cluster.
    pub async fn removed(&self) {
        self.shared.removed.cancelled().await;
    }

    /// Waits until it is known that this manager's log no longer belongs to a member.
    pub async fn former(&self) {
        self.shared.former.cancelled().await;
    }

    /// Records that, according to this manager's own state, its log no longer belongs to a member.
    pub fn note_former(&self) {
        self.shared.former.cancel();
    }

    /// Maintains a link to every other manager until `shutdown`.
    pub async fn keep(self, core: Handle, own: Own, credentials: Arc<Credentials>, shutdown: CancellationToken) {
        let _ = self.shared.credentials.set(Arc::clone(&credentials));
        let _ = self.shared.core.set((core.clone(), own.clone()));
        let mut links: BTreeMap<u64, (Other, CancellationToken)> = BTreeMap::new();
        let mut states = core.states();
        loop {
            let wanted = self.others(&states.borrow_and_update().cluster, &own);
            self.change_links(&mut links, wanted, &own, &credentials, &shutdown);
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = states.changed() => if changed.is_err() { return },
                () = self.shared.news.notified() => {}
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }

    /// Closes links that are outdated, and opens missing ones.
    fn change_links(
        &self,
        links: &mut BTreeMap<u64, (Other, CancellationToken)>,
        wanted: BTreeMap<u64, Other>,
        own: &Own,
        credentials: &Arc<Credentials>,
        shutdown: &CancellationToken,
    ) {
        links.retain(|raft_id, (other, end)| {
            let stays = wanted.get(raft_id) == Some(other);
            if !stays {
                end.cancel();
                locked(&self.shared.outboxes).remove(raft_id);
            }
            stays
        });
        let Some((core, _)) = self.shared.core.get() else { return };
        for (raft_id, other) in wanted {
            if links.contains_key(&raft_id) {
                continue;
            }
            let end = shutdown.child_token();
            let counts = core.measures().peer(&other.node.to_string());
            let outbox = Arc::new(Outbox::new(counts));
            locked(&self.shared.outboxes).insert(raft_id, Arc::clone(&outbox));
            let link = Link {
                to: raft_id,
                other: other.clone(),
                own: own.clone(),
                outbox,
                core: core.clone(),
                credentials: Arc::clone(credentials),
                removed: self.shared.removed.clone(),
                former: self.shared.former.clone(),
            };
            let ending = end.clone();
            tokio::spawn(async move { ending.run_until_cancelled(link.run()).await });
            links.insert(raft_id, (other, end));
        }
    }

    /// The members in a state, and managers that introduced themselves and are no former members there. A manager's own statement
    /// of its address takes precedence.
    fn others(&self, cluster: &Cluster, own: &Own) -> BTreeMap<u64, Other> {
        let members = cluster.members.values();
        let members = members.map(|member| (member.raft_id, Other { node: member.node, addr: member.addr.clone() }));
        let mut others: BTreeMap<u64, Other> = members.collect();
        let mut introduced = locked(&self.shared.introduced);
        introduced.retain(|raft_id, other| judge(cluster, other.node, *raft_id).is_ok());
        others.extend(introduced.iter().map(|(raft_id, other)| (*raft_id, other.clone())));
        others.remove(&own.raft_id);
        others
    }
}

/// Checks a raft id, and the node in the certificate, against the table of members.
fn judge(cluster: &Cluster, node: NodeId, raft_id: u64) -> Result<(), PeerRefused> {
    if let Some(since) = cluster.former_members.get(raft_id) {
        return Err(PeerRefused::Former { raft_id, since: *since });
    }
    match cluster.member_with(raft_id) {
        Some(member) if member.node != node => Err(PeerRefused::Impostor { raft_id, of: member.node, node }),
        Some(_) | None => Ok(()),
    }
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while holding it, so a poisoned lock still holds valid data.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
