//! How managers reach each other: each calls every other and tells it what its replica says, over mutual TLS.
//!
//! What is for another manager waits in its [`outbox`], which is bounded and drops what does not fit; a task of its own
//! ([`link`]) carries it there. So neither the thread of the replica nor any other manager waits for one that is slow or gone.
//! Whom to call is the table of members, and besides whoever has introduced itself: a manager that joins, or was away for long,
//! does not have the table yet that names the leader. [`translate`] puts messages into the wire's form and back.

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

/// How often the table of members is looked at, at most: it changes with the members, and commits come thousands a second.
const LOOK_PERIOD: Duration = Duration::from_millis(100);
/// Managers that are remembered because they introduced themselves: many times those of a sensible cluster.
const MET_MAX: usize = 32;

/// This manager to the others.
#[derive(Debug, Clone)]
pub struct Own {
    /// Its node.
    pub node: NodeId,
    /// Its raft id.
    pub raft_id: u64,
    /// Where others reach it.
    pub addr: String,
}

/// Another manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its node.
    pub node: NodeId,
    /// Where it is reached.
    pub addr: String,
}

/// Why messages of another manager are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// It was a member, and is none any more.
    #[error("the manager with the raft id {raft_id} is no member of the cluster any more since frame {since}")]
    Former {
        /// Its raft id.
        raft_id: u64,
        /// The frame that removed it.
        since: u64,
    },
    /// The raft id is another node's.
    #[error("the raft id {raft_id} is that of node {of}, not of node {node}")]
    Impostor {
        /// The raft id.
        raft_id: u64,
        /// Whose it is.
        of: NodeId,
        /// Who claims it.
        node: NodeId,
    },
    /// Another manager is meant, which was here once, or is elsewhere now.
    #[error("messages for the manager with the raft id {to} came to the one with the raft id {own}")]
    Elsewhere {
        /// For whom they are.
        to: u64,
        /// Who got them.
        own: u64,
    },
}

/// The way to all other managers.
#[derive(Clone, Default)]
pub struct Peering {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// What waits for each, by raft id.
    outboxes: Mutex<BTreeMap<u64, Arc<Outbox>>>,
    /// Who introduced itself, by raft id.
    met: Mutex<BTreeMap<u64, Other>>,
    /// Somebody did.
    news: Notify,
    core: OnceLock<(Handle, Own)>,
    credentials: OnceLock<Arc<Credentials>>,
    /// Another manager said that this node is none of the cluster any more.
    removed: CancellationToken,
    /// Another manager, or this one's own state, said that the log of this one is no member's any more.
    former: CancellationToken,
}

impl Peering {
    /// Takes what is for another manager. Never waits; what finds no room is dropped, which raft is told.
    pub fn carry(&self, to: u64, message: PeerMessage) {
        // Without an address nobody can be told; raft tries again.
        let Some(outbox) = locked(&self.shared.outboxes).get(&to).cloned() else { return };
        if outbox.push(message) == outbox::Pushed::FirstDropped
            && let Some((core, _)) = self.shared.core.get()
        {
            core.unreachable(to);
        }
    }

    /// Judges who introduces itself as a member, by the state of this manager and what its certificate says. One that this
    /// state does not know may be known to a newer one.
    ///
    /// # Errors
    /// When it is not whom it says, or not any more.
    pub fn judge(&self, node: NodeId, raft_id: u64) -> Result<(), Stranger> {
        let Some((core, _)) = self.shared.core.get() else { return Ok(()) };
        judge(&core.state().cluster, node, raft_id)
    }

    /// Notes that another manager introduced itself, so that it can be answered.
    ///
    /// # Errors
    /// When it is not whom it says, or means another manager than this one.
    pub fn meet(&self, raft_id: u64, to: u64, other: Other) -> Result<(), Stranger> {
        self.judge(other.node, raft_id)?;
        let own = self.shared.core.get().map_or(0, |(_, own)| own.raft_id);
        if to != own {
            return Err(Stranger::Elsewhere { to, own });
        }
        if let Some(outbox) = locked(&self.shared.outboxes).get(&raft_id) {
            outbox.note_called();
        }
        let mut met = locked(&self.shared.met);
        if met.get(&raft_id) != Some(&other) && (met.len() < MET_MAX || met.contains_key(&raft_id)) {
            met.insert(raft_id, other);
            self.shared.news.notify_one();
        }
        Ok(())
    }

    /// The manager with this raft id, as far as this one knows.
    pub fn other(&self, raft_id: u64) -> Option<Other> {
        let (core, own) = self.shared.core.get()?;
        self.others(&core.state().cluster, own).remove(&raft_id)
    }

    /// The manager that leads, unless it is this one or none is known.
    pub fn leader(&self) -> Option<Other> {
        let (core, _) = self.shared.core.get()?;
        self.other(core.state().leader?)
    }

    /// All other managers that this one knows.
    pub fn known(&self) -> Vec<Other> {
        let Some((core, own)) = self.shared.core.get() else { return Vec::new() };
        self.others(&core.state().cluster, own).into_values().collect()
    }

    /// What this manager shows to others.
    fn credentials(&self) -> Option<Arc<Credentials>> {
        self.shared.credentials.get().cloned()
    }

    /// Waits until another manager says that this node was removed from the cluster.
    pub async fn removed(&self) {
        self.shared.removed.cancelled().await;
    }

    /// Waits until it is known that this manager's log is no member's any more.
    pub async fn former(&self) {
        self.shared.former.cancelled().await;
    }

    /// This manager's own state says that its log is no member's any more.
    pub fn note_former(&self) {
        self.shared.former.cancel();
    }

    /// Keeps a link to every other manager until `shutdown`.
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

    /// Ends the links that are not wanted as they are, and opens those that are.
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

    /// The members in a state, and whoever introduced itself and is no former member there. Where a manager says that it is, it is.
    fn others(&self, cluster: &Cluster, own: &Own) -> BTreeMap<u64, Other> {
        let members = cluster.members.values();
        let members = members.map(|member| (member.raft_id, Other { node: member.node, addr: member.addr.clone() }));
        let mut others: BTreeMap<u64, Other> = members.collect();
        let mut met = locked(&self.shared.met);
        met.retain(|raft_id, other| judge(cluster, other.node, *raft_id).is_ok());
        others.extend(met.iter().map(|(raft_id, other)| (*raft_id, other.clone())));
        others.remove(&own.raft_id);
        others
    }
}

/// Judges a raft id by the table of members, and the certificate's node by the same.
fn judge(cluster: &Cluster, node: NodeId, raft_id: u64) -> Result<(), Stranger> {
    if let Some(since) = cluster.former_members.get(raft_id) {
        return Err(Stranger::Former { raft_id, since: *since });
    }
    match cluster.member_with(raft_id) {
        Some(member) if member.node != node => Err(Stranger::Impostor { raft_id, of: member.node, node }),
        Some(_) | None => Ok(()),
    }
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nobody panics while holding it, so a poisoned one still holds whole data.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
