//! Checkpoints of history and proofs about it, which can be verified without this manager.

use std::sync::Arc;

use commands::{Rejection, RejectionKind};
use events::{ClusterId, NodeId, redaction};
use verify::checkpoint::Checkpoint;
use verify::note::{SignedNote, Signer, Verdict, VerifierKey};
use verify::path;
use verify::proof::InclusionProof;
use wire::v1::{
    AuditKey, AuditKeyList, ConsistencyProof, Cosigner, DamagedFrames, FramesPage, ProveConsistencyRequest,
    ReadFramesRequest,
};

use super::{Control, unreadable};
use crate::log::{LogError, LogStore, Table, TreeError, TreeReader, frame_at};

/// Maximum frames of a page, and the size at which a page ends.
const PAGE_FRAMES: usize = 1_024;
const PAGE_BYTES: usize = 1024 * 1024;

/// The signer of a manager: the key in its log, with a name that identifies the cluster and the node.
///
/// # Errors
/// When the log cannot be read, or has no key.
pub fn signer(store: &dyn LogStore, cluster: ClusterId, node: NodeId) -> Result<Signer, Rejection> {
    let seed = store.audit_seed().map_err(|error| unreadable(&error))?;
    let signer = seed.and_then(|seed| Signer::new(format!("{}/{node}", Checkpoint::origin(cluster)), &seed));
    let hint = "restart swarmd on this manager: it makes its key when it starts";
    signer.ok_or_else(|| Rejection::new(RejectionKind::Unavailable, "audit", "this manager has no audit key yet", hint))
}

/// A checkpoint signed by this manager.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Its content.
    pub checkpoint: Checkpoint,
    /// The content with signatures.
    pub note: SignedNote,
    /// The last frame that it covers.
    pub index: u64,
}

/// Another manager's response about the same frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CosignResponse {
    /// It signed the same checkpoint.
    Agrees(SignedNote, VerifierKey),
    /// It has a different root.
    Differs(Checkpoint),
    /// It returned no valid signature; the reason.
    Silent(String),
}

/// Judges another manager's response, with its key in the log.
pub fn judge(own: &Checkpoint, key: Option<&str>, answer: Result<String, String>) -> CosignResponse {
    let read = answer.and_then(|note| {
        let note: SignedNote = note.parse()?;
        let checkpoint: Checkpoint = note.text().parse()?;
        Ok((note, checkpoint))
    });
    let (note, checkpoint) = match read {
        Ok(read) => read,
        Err(why) => return CosignResponse::Silent(why),
    };
    if (checkpoint.cluster, checkpoint.size) != (own.cluster, own.size) {
        return CosignResponse::Silent("its checkpoint has another origin".to_owned());
    }
    // Even without a valid signature: the connection authenticated that manager.
    if checkpoint.root != own.root {
        return CosignResponse::Differs(checkpoint);
    }
    match key.map(str::parse::<VerifierKey>) {
        None => CosignResponse::Silent("its audit key is not in the log yet".to_owned()),
        Some(Err(why)) => CosignResponse::Silent(why),
        Some(Ok(key)) if note.verdict(&key) == Verdict::Signed => CosignResponse::Agrees(note, key),
        Some(Ok(_)) => CosignResponse::Silent("its signature does not match its audit key in the log".to_owned()),
    }
}

impl Control {
    /// The keys that verify managers' signatures, sorted by name; then those of former managers, oldest first.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit_keys(&self) -> Result<AuditKeyList, Rejection> {
        let (cluster, own) = (&self.state.cluster, self.manager.node);
        let mut keys = Vec::new();
        for member in cluster.members.values() {
            let key = match &member.audit_key {
                Some(key) => key.clone(),
                None if member.node == own => signer(&*self.store, cluster.id(), own)?.key().to_string(),
                None => continue,
            };
            let (hostname, recorded) = (self.hostname(member.node), member.audit_key.is_some());
            keys.push(AuditKey { node: member.node, hostname, key, recorded, ..AuditKey::default() });
        }
        keys.sort_by(|one, other| (&one.hostname, one.node).cmp(&(&other.hostname, other.node)));
        keys.extend(cluster.former_audit_keys.iter().map(|((until, node), former)| AuditKey {
            node,
            hostname: self.hostname(node),
            key: former.key.clone(),
            recorded: true,
            former_since: Some(former.since),
            former_until: Some(until),
        }));
        Ok(AuditKeyList { keys })
    }

    fn hostname(&self, node: NodeId) -> String {
        self.state.cluster.nodes.get(node).map_or_else(|| node.to_string(), |node| node.name().to_owned())
    }

    /// The checkpoint of the first `size` frames, or of all up to the selected point, with this manager's signature.
    ///
    /// # Errors
    /// When there are not that many frames, or the log cannot be read.
    pub fn checkpoint(&self, size: Option<u64>) -> Result<Signed, Rejection> {
        let failed = |error| unread(&*self.store, error);
        let mut tree = self.tree()?;
        let size = match (size, self.past) {
            (Some(size), _) => size,
            (None, Some(end)) => {
                end.map_or(Ok(None), |end| tree.leaf_of(end.index)).map_err(failed)?.map_or(0, |leaf| leaf + 1)
            }
            (None, None) => tree.size(),
        };
        require_size(size, tree.size())?;
        let last = size.checked_sub(1).map(|last| tree.index_of(last)).transpose().map_err(failed)?;
        let root = path::root(&mut tree, size).map_err(failed)?;
        let checkpoint = Checkpoint { cluster: self.state.cluster.id(), size, root };
        let signer = signer(&*self.store, checkpoint.cluster, self.manager.node)?;
        let note = SignedNote::new(checkpoint.to_string()).signed_by(&signer);
        Ok(Signed { checkpoint, note, index: last.flatten().unwrap_or(0) })
    }

    /// Adds the signatures of the other managers that agree. Also returns the result for each of them.
    pub fn cosign(&self, signed: Signed, answers: Vec<(NodeId, Result<String, String>)>) -> (Signed, Vec<Cosigner>) {
        let (Signed { checkpoint, mut note, index }, mut others) = (signed, Vec::new());
        for (node, answer) in answers {
            let Some(member) = self.state.cluster.members.get(node) else { continue };
            let mut other = Cosigner { node, hostname: self.hostname(node), silent: None, other_root: None };
            match judge(&checkpoint, member.audit_key.as_deref(), answer) {
                CosignResponse::Agrees(theirs, key) => note = note.cosigned(&theirs, &key),
                CosignResponse::Differs(theirs) => other.other_root = Some(verify::verify::hex(&theirs.root)),
                CosignResponse::Silent(why) => other.silent = Some(why),
            }
            others.push(other);
        }
        others.sort_by(|one, other| (&one.hostname, one.node).cmp(&(&other.hostname, other.node)));
        (Signed { checkpoint, note, index }, others)
    }

    /// The proof that a checkpoint contains the frame at this index, with the frame.
    ///
    /// # Errors
    /// When it does not contain such a frame, or the log cannot be read.
    pub fn prove_frame(&self, index: u64, signed: Signed) -> Result<InclusionProof, Rejection> {
        let failed = |error| unread(&*self.store, error);
        let mut tree = self.tree()?;
        let size = signed.checkpoint.size;
        let number = tree.leaf_of(index).map_err(failed)?.filter(|number| *number < size);
        let frame = frame_at(&*self.store, index).map_err(failed)?;
        let (Some(number), Some(frame)) = (number, frame) else {
            let sentence = format!("history has no frame at index {index}");
            let hint = "`swarmctl events` shows indexes that have one; some carry no frame, such as those of elections";
            return Err(Rejection::new(RejectionKind::NotFound, format!("frame {index}"), sentence, hint));
        };
        if redaction::original(&frame).is_some() {
            let sentence = format!("frame {index} was redacted, and its bytes prove nothing by themselves");
            let hint = "export history up to the redaction with `swarmctl events export --as proto`: `swarmlog-verify` verifies both";
            return Err(Rejection::conflict(format!("frame {index}"), sentence, hint));
        }
        let path = path::inclusion(&mut tree, number, size).map_err(failed)?;
        Ok(InclusionProof { number, path, frame, checkpoint: signed.note })
    }

    /// The proof that history at one size is a prefix of history at another size.
    ///
    /// # Errors
    /// When there are not that many frames, or the log cannot be read.
    pub fn prove_consistency(&self, request: &ProveConsistencyRequest) -> Result<ConsistencyProof, Rejection> {
        let failed = |error| unread(&*self.store, error);
        let (mut tree, ProveConsistencyRequest { old, size }) = (self.tree()?, *request);
        require_size(size, tree.size())?;
        require_size(old, size)?;
        let path = if old == 0 { Vec::new() } else { path::consistency(&mut tree, old, size).map_err(failed)? };
        Ok(ConsistencyProof { path: path.into_iter().map(|hash| hash.to_vec()).collect() })
    }

    /// The frames that a request selects, as stored on disk.
    pub fn frames(&self, request: &ReadFramesRequest) -> Frames {
        let ReadFramesRequest { from, to } = *request;
        Frames { store: Arc::clone(&self.store), next: from, to, one_by_one: 0 }
    }

    fn tree(&self) -> Result<TreeReader<'_>, Rejection> {
        TreeReader::open(&*self.store).map_err(|error| match error {
            TreeError::Log(error) => unread(&*self.store, error),
            TreeError::Behind { .. } => {
                let hint = "try again in a while, or ask another manager";
                Rejection::new(RejectionKind::Unavailable, "audit", error.to_string(), hint)
            }
        })
    }
}

fn require_size(size: u64, there: u64) -> Result<(), Rejection> {
    if size <= there {
        return Ok(());
    }
    let sentence = format!("history has {there} frames here, and {size} were asked for");
    let hint =
        "it may have been restored to an older state: compare with other managers and with checkpoints that were kept";
    Err(Rejection::conflict("audit", sentence, hint))
}

/// The rejection for a failed read. A damaged tree is rebuilt from history.
fn unread(store: &dyn LogStore, error: LogError) -> Rejection {
    if !error.is_of(Table::Tree) {
        return unreadable(&error);
    }
    tracing::warn!(%error, "the tree of frames is damaged and is being rebuilt");
    match store.discard_tiles() {
        Ok(()) => {
            let sentence = "the tree of frames was damaged, and is being made again of history";
            Rejection::new(
                RejectionKind::Unavailable,
                "audit",
                sentence,
                "try again in a while, or ask another manager",
            )
        }
        Err(error) => unreadable(&error),
    }
}

/// Frames as stored on disk, in pages. The chain is not verified here, but by the client.
pub struct Frames {
    store: Arc<dyn LogStore>,
    next: u64,
    to: u64,
    /// Frames before this index are read one by one, because of damage there.
    one_by_one: u64,
}

impl Frames {
    /// The next page; `None` at the end.
    ///
    /// # Errors
    /// When the log cannot be read at all.
    pub fn page(&mut self) -> Result<Option<FramesPage>, Rejection> {
        loop {
            let frames = if self.next < self.one_by_one { 1 } else { PAGE_FRAMES };
            let damaged = match self.store.history(self.next, frames, PAGE_BYTES) {
                Ok(mut page) => {
                    page.retain(|(index, _)| *index <= self.to);
                    let Some((last, _)) = page.last() else { return Ok(None) };
                    self.next = last + 1;
                    let stored = page.into_iter().map(|(_, stored)| stored).collect();
                    return Ok(Some(FramesPage { stored, damaged: None }));
                }
                Err(LogError::Damaged { table: Table::History, index, reason }) => {
                    DamagedFrames { from: index, to: index, reason }
                }
                Err(LogError::Corrupt { table: Table::History, indexes: Some((from, to)), reason }) => {
                    DamagedFrames { from: from.max(self.next), to, reason }
                }
                Err(LogError::ArchiveDamaged { last, reason, .. }) => {
                    DamagedFrames { from: self.next, to: last.index, reason }
                }
                Err(error) => return Err(unreadable(&error)),
            };
            if damaged.from > self.next && self.one_by_one < damaged.from {
                self.one_by_one = damaged.from;
                continue;
            }
            if damaged.from > self.to {
                return Ok(None);
            }
            self.next = damaged.to.saturating_add(1).max(self.next + 1);
            return Ok(Some(FramesPage { stored: Vec::new(), damaged: Some(damaged) }));
        }
    }
}

#[cfg(test)]
mod tests;
