//! Messages between managers, and what a leader records about the others: when each was last heard from, and which states it
//! offers to those that entries alone cannot bring up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use commands::space::Space;
use events::VolatilePayload;
use projections::{Cluster, Keyring};
use reconcilers::{Follower, Peers};
use zeroize::Zeroizing;

use super::digest::{Beat, UsesOfNode};
use super::forward::Call;
use super::members_status::MembersStatus;
use crate::log::raft::ELECTION_TICKS;
use crate::log::{Consensus, FrameLink, HistoryReader, LogError, LogStore, PageSize};

/// Ticks after which a manager that was offered a state and requests nothing is offered another: 5 s, many times what a page of
/// history takes.
const OFFER_TICKS: u64 = 50;
/// States offered at a time: a manager that joins may need a newer one than another that is catching up.
const OFFERS_MAX: usize = 4;
/// Size of a page of history: a fraction of a second on a slow link, and far below gRPC's maximum message size.
pub const PEER_PAGE: PageSize = PageSize { frames: 1_024, bytes: 1024 * 1024 };

/// A message from one manager to another.
#[derive(Clone, PartialEq)]
pub enum PeerMessage {
    /// A message of raft.
    Raft(Vec<u8>),
    /// Requests the history after a frame, to reach the state at an index; including that state's own frame, for its secrets.
    WantHistory {
        /// The last frame that the requester has.
        after: Option<FrameLink>,
        /// The index of the state that it was offered.
        to: u64,
    },
    /// The next frames of history.
    History {
        /// The index of the state that they lead to.
        to: u64,
        /// Their indexes and stored bytes.
        frames: Vec<(u64, Bytes)>,
    },
    /// All secrets that belong to an offered state.
    Secrets {
        /// The index of the state.
        at: u64,
        /// The secrets.
        secrets: Vec<VolatilePayload>,
    },
    /// A command submitted to the sender, to be judged by the leader.
    Command {
        /// Its id among those of the sender.
        call: Call,
        /// The lowest number that the sender still waits for.
        first: u64,
        /// The request, as [`Request`](super::Request) is serialized; it may hold secrets.
        request: Zeroizing<Vec<u8>>,
    },
    /// The outcome of a command that the receiver forwarded.
    Outcome {
        /// Its id there.
        call: Call,
        /// The outcome, as [`Outcome`](super::Outcome) is serialized.
        outcome: Vec<u8>,
    },
    /// The sender leads, and lacks the receiver's command with this id. It takes no later one before it.
    Resend {
        /// Its id there.
        call: Call,
    },
    /// How full the sender's disk is.
    Disk(Space),
    /// The sender leads, and reports the status of all managers.
    MembersStatus(MembersStatus),
    /// The nodes that sent the sender heartbeats since its last report.
    Presence(Vec<Beat>),
    /// Resource use of the tasks of these nodes.
    Uses(Vec<UsesOfNode>),
    /// The state at an index is no longer offered.
    NotOffered {
        /// The index.
        at: u64,
    },
}

impl PeerMessage {
    /// Its approximate size in bytes.
    pub fn size(&self) -> usize {
        let payload = match self {
            Self::Raft(bytes) => bytes.len(),
            Self::WantHistory { .. } | Self::NotOffered { .. } | Self::Resend { .. } | Self::Disk(_) => 0,
            Self::MembersStatus(members_status) => members_status.size(),
            Self::Command { request, .. } => request.len(),
            Self::Outcome { outcome, .. } => outcome.len(),
            Self::Presence(beats) => std::mem::size_of_val(beats.as_slice()),
            Self::Uses(nodes) => {
                nodes.iter().map(|of| std::mem::size_of_val(of) + std::mem::size_of_val(of.tasks.as_slice())).sum()
            }
            Self::History { frames, .. } => frames.iter().map(|(_, stored)| stored.len()).sum(),
            Self::Secrets { secrets, .. } => {
                secrets.iter().map(|secret| secret.key.len() + secret.value.as_ref().map_or(0, Vec::len)).sum()
            }
        };
        payload + std::mem::size_of::<Self>()
    }
}

impl std::fmt::Debug for PeerMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Raft(bytes) => write!(f, "Raft({} bytes)", bytes.len()),
            Self::WantHistory { after, to } => write!(f, "WantHistory({after:?}, to {to})"),
            Self::History { to, frames } => write!(f, "History({} frames, to {to})", frames.len()),
            Self::Secrets { at, .. } => write!(f, "Secrets(at {at})"),
            Self::NotOffered { at } => write!(f, "NotOffered(at {at})"),
            Self::Command { call, first, request } => {
                write!(f, "Command({call:?}, {first} waits, {} bytes)", request.len())
            }
            Self::Resend { call } => write!(f, "Resend({call:?})"),
            Self::Disk(space) => write!(f, "Disk({} bytes free)", space.free_bytes),
            Self::MembersStatus(members_status) => {
                write!(f, "MembersStatus({} managers)", members_status.members.len())
            }
            Self::Outcome { call, .. } => write!(f, "Outcome({call:?})"),
            Self::Uses(nodes) => write!(f, "Uses({} nodes)", nodes.len()),
            Self::Presence(beats) => write!(f, "Presence({} nodes)", beats.len()),
        }
    }
}

/// Frames that another manager requests, to be read outside of the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryAsked {
    /// The raft id of the requester.
    pub peer: u64,
    /// The last frame that it has.
    pub after: Option<FrameLink>,
    /// The index of the state that it was offered.
    pub to: u64,
}

impl HistoryAsked {
    /// Reads the next page.
    ///
    /// # Errors
    /// When history cannot be read, or does not continue the requester's frame.
    pub fn answer(&self, store: &dyn LogStore, size: PageSize) -> Result<PeerMessage, LogError> {
        let frames = HistoryReader::after(self.after).page(store, self.to, size)?;
        Ok(PeerMessage::History { to: self.to, frames })
    }
}

/// What is known about the other managers.
#[derive(Default)]
pub(super) struct Contacts {
    /// The tick in which each was last heard from.
    heard: BTreeMap<u64, u64>,
    /// The secrets of the states that are offered, by index.
    offers: BTreeMap<u64, Arc<Keyring>>,
    /// The last tick in which a state was offered or requested: raft asks for an offer some heartbeats later.
    offered_at: u64,
    /// The tick in which each manager that was offered a state last requested a part of it.
    asked: BTreeMap<u64, u64>,
    /// Why managers that should be removed remain, by raft id, as last logged.
    obstacles: BTreeMap<u64, String>,
}

impl Contacts {
    pub(super) fn heard(&mut self, raft_id: u64, tick: u64) {
        self.heard.insert(raft_id, tick);
    }

    /// Whether a message from a manager arrived within this many ticks.
    pub(super) fn heard_within(&self, raft_id: u64, ticks: u64, tick: u64) -> bool {
        self.heard.get(&raft_id).is_some_and(|heard| heard + ticks >= tick)
    }

    /// Forgets when a manager was last heard from.
    pub(super) fn forget(&mut self, raft_id: u64) {
        self.heard.remove(&raft_id);
    }

    /// Drops managers that are no longer members.
    pub(super) fn keep_members(&mut self, cluster: &Cluster) {
        self.heard.retain(|raft_id, _| cluster.member_with(*raft_id).is_some());
    }

    /// The raft ids of those heard from within this many ticks.
    pub(super) fn recently_heard(&self, ticks: u64, tick: u64) -> BTreeSet<u64> {
        let recent = self.heard.iter().filter(|(_, heard)| **heard + ticks >= tick);
        recent.map(|(raft_id, _)| *raft_id).collect()
    }

    /// The view of the reconcilers.
    pub(super) fn peers(&self, consensus: &Consensus, tick: u64) -> Peers {
        let recent = |raft_id| self.heard_within(raft_id, ELECTION_TICKS as u64, tick);
        let followers = consensus.followers().map(|follower| {
            let raft_id = follower.raft_id;
            (raft_id, Follower { matched: follower.matched, reachable: recent(raft_id) })
        });
        let followers = followers.collect();
        Peers {
            leader: if consensus.is_leader() { consensus.id() } else { 0 },
            committed: consensus.applied(),
            followers,
        }
    }

    /// Records a state that is offered.
    pub(super) fn offer(&mut self, index: u64, keyring: Arc<Keyring>, tick: u64) {
        self.offered_at = tick;
        self.offers.insert(index, keyring);
        while self.offers.len() > OFFERS_MAX {
            self.offers.pop_first();
        }
    }

    /// The index of the oldest offered state: the entries after it are needed.
    pub(super) fn oldest_offer(&self) -> Option<u64> {
        self.offers.first_key_value().map(|(index, _)| *index)
    }

    /// The immediate answer to a request for history; `None` if history must be read first.
    pub(super) fn answer(&mut self, peer: u64, after: Option<FrameLink>, to: u64, tick: u64) -> Option<PeerMessage> {
        let Some(keyring) = self.offers.get(&to) else { return Some(PeerMessage::NotOffered { at: to }) };
        self.asked.insert(peer, tick);
        let is_there = after.is_some_and(|frame| frame.index >= to);
        let secrets = || PeerMessage::Secrets { at: to, secrets: keyring.payloads() };
        is_there.then(secrets)
    }

    /// Withdraws offers that no manager takes up; managers that do not answer are offered another state.
    pub(super) fn watch_offers(&mut self, consensus: &mut Consensus, tick: u64) {
        let offered: Vec<u64> =
            consensus.followers().filter(|follower| follower.is_offered).map(|follower| follower.raft_id).collect();
        self.asked.retain(|raft_id, _| offered.contains(raft_id));
        for raft_id in &offered {
            let asked = *self.asked.entry(*raft_id).or_insert(tick);
            if asked + OFFER_TICKS <= tick {
                self.asked.remove(raft_id);
                consensus.offer_failed(*raft_id);
                // The next one is of the current state.
                consensus.set_offer(None);
            }
        }
        if !offered.is_empty() {
            self.offered_at = tick;
        }
        if !self.offers.is_empty() && self.offered_at + OFFER_TICKS <= tick {
            self.offers.clear();
            consensus.set_offer(None);
        }
    }

    /// Logs why a manager that should be removed remains, whenever the reason changes.
    pub(super) fn log_obstacles(&mut self, obstacles: BTreeMap<u64, String>) {
        for (raft_id, reason) in &obstacles {
            if self.obstacles.get(raft_id) != Some(reason) {
                tracing::warn!(error = %reason, "a manager cannot be demoted yet");
            }
        }
        self.obstacles = obstacles;
    }
}
