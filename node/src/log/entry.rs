//! Raft's entries and records as they are stored. They have types and an encoding of their own: nothing on disk is parsed by
//! raft's protobuf library, and raft's types do not leave the driver.

use bytes::Bytes;
use events::frame::FrameHash;
use events::{VolatilePayload, redacted_debug};
use serde::{Deserialize, Serialize};

/// First byte of every value; any other byte was written by a newer build.
const VERSION: u8 = 1;
/// Version, kind and term.
pub(super) const ENTRY_HEAD_BYTES: usize = 10;

/// How raft treats an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A frame, or nothing if the payload is empty: a new leader's first entry.
    Frame,
    /// A membership change, one at a time, with the frame that records it.
    Membership,
    /// A membership change by joint consensus.
    JointMembership,
}

/// A membership change, by raft id. Raft makes one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberChange {
    /// It becomes a learner: it follows without a vote.
    AddLearner(u64),
    /// It becomes a voter.
    AddVoter(u64),
    /// It is no longer part of the cluster.
    Remove(u64),
}

/// Bytes of a change before its frame.
const CHANGE_BYTES: usize = 9;

impl MemberChange {
    /// The payload of an entry with this change and this frame.
    pub(super) fn payload(self, carried: &[u8]) -> Bytes {
        let (code, raft_id) = match self {
            Self::AddLearner(raft_id) => (0, raft_id),
            Self::AddVoter(raft_id) => (1, raft_id),
            Self::Remove(raft_id) => (2, raft_id),
        };
        [[code].as_slice(), &raft_id.to_le_bytes(), carried].concat().into()
    }

    /// Parses such a payload into the change and the frame.
    ///
    /// # Errors
    /// A sentence that describes the problem.
    pub(super) fn parse(mut payload: Bytes) -> Result<(Self, Bytes), String> {
        if payload.len() < CHANGE_BYTES {
            return Err("the membership change is truncated".into());
        }
        let carried = payload.split_off(CHANGE_BYTES);
        let mut raft_id = [0; CHANGE_BYTES - 1];
        raft_id.copy_from_slice(&payload[1..]);
        let raft_id = u64::from_le_bytes(raft_id);
        let change = match payload[0] {
            0 => Self::AddLearner(raft_id),
            1 => Self::AddVoter(raft_id),
            2 => Self::Remove(raft_id),
            other => {
                return Err(format!("the membership change is of kind {other}, which this build does not support"));
            }
        };
        Ok((change, carried))
    }
}

/// One entry of the raft log.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its index; the log has no gaps.
    pub index: u64,
    /// The term of the leader that created it.
    pub term: u64,
    /// How raft treats it.
    pub kind: EntryKind,
    /// Its contents, opaque here.
    pub payload: Bytes,
}

// A frame's entry has secrets in its second section, and in the environment of its specs.
redacted_debug! { Entry shows [index, term, kind] hides [payload] }

impl Entry {
    /// The stored bytes before the payload. The index is not among them: it is the key, and the value is sealed with it.
    pub(super) fn head(&self) -> [u8; ENTRY_HEAD_BYTES] {
        let kind = match self.kind {
            EntryKind::Frame => 0,
            EntryKind::Membership => 1,
            EntryKind::JointMembership => 2,
        };
        let mut head = [VERSION, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        head[2..].copy_from_slice(&self.term.to_le_bytes());
        head
    }

    /// Decodes an entry; the payload shares the bytes.
    ///
    /// # Errors
    /// A sentence that describes the problem.
    pub(super) fn decode(index: u64, mut stored: Bytes) -> Result<Self, String> {
        if stored.len() < ENTRY_HEAD_BYTES {
            return Err("the entry is truncated".into());
        }
        let payload = stored.split_off(ENTRY_HEAD_BYTES);
        check_version(stored[0])?;
        let kind = match stored[1] {
            0 => EntryKind::Frame,
            1 => EntryKind::Membership,
            2 => EntryKind::JointMembership,
            other => return Err(format!("the entry is of kind {other}, which this build does not support")),
        };
        let mut term = [0; 8];
        term.copy_from_slice(&stored[2..]);
        Ok(Self { index, term: u64::from_le_bytes(term), kind, payload })
    }
}

/// Raft's persistent state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The newest term seen.
    pub term: u64,
    /// The manager that got this manager's vote in that term; 0 for none.
    pub vote: u64,
    /// The last index known to be committed.
    pub commit: u64,
}

/// The raft configuration, by raft id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The voters.
    pub voters: Vec<u64>,
    /// The learners, which follow without a vote.
    pub learners: Vec<u64>,
    /// Voters of the configuration that a joint one leaves.
    pub voters_outgoing: Vec<u64>,
    /// Voters that become learners when the joint configuration is left.
    pub learners_next: Vec<u64>,
    /// Whether raft leaves the joint configuration by itself.
    pub auto_leave: bool,
    /// The raft id that this manager had before it continued alone with a new one.
    pub replaces: Option<u64>,
}

impl Membership {
    /// A cluster of one.
    pub fn single(voter: u64) -> Self {
        Self { voters: vec![voter], ..Self::default() }
    }

    /// The configuration of a manager that is not a member yet: itself, without a vote.
    pub fn joining(raft_id: u64) -> Self {
        Self { learners: vec![raft_id], ..Self::default() }
    }

    /// The manager that initialized its log with this configuration.
    pub fn own(&self) -> Option<u64> {
        self.voters.iter().chain(&self.learners).next().copied()
    }
}

/// A link of the chain of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameLink {
    /// The frame's index.
    pub index: u64,
    /// The hash of its stored bytes.
    pub hash: FrameHash,
}

/// How far history reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Everything up to this raft index has been applied.
    pub index: u64,
    /// The last frame at or before it: what history must end with.
    pub frame: Option<FrameLink>,
}

/// A frame for history, and the changes of its secrets for the keyring.
#[derive(Clone, PartialEq, Eq)]
pub struct AppliedFrame {
    /// The index of its raft entry.
    pub index: u64,
    /// The frame's stored bytes.
    pub bytes: Bytes,
    /// The secrets that its entry stores or destroys.
    pub secrets: Vec<VolatilePayload>,
}

redacted_debug! { AppliedFrame shows [index, secrets] hides [bytes] }

/// The last raft entry that was compacted; raft still asks for its term.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    pub index: u64,
    pub term: u64,
}

/// Encodes a record for storage.
pub(super) fn encode_record<T: Serialize>(record: &T) -> Vec<u8> {
    encode_record_into(Vec::new(), record)
}

/// The same, into an empty buffer.
pub(super) fn encode_record_into<T: Serialize>(mut buffer: Vec<u8>, record: &T) -> Vec<u8> {
    buffer.push(VERSION);
    postcard::to_extend(record, buffer).expect("a record of plain data is always written to memory")
}

/// Decodes a record.
///
/// # Errors
/// A sentence that describes the problem.
pub(super) fn decode_record<'a, T: Deserialize<'a>>(stored: &'a [u8]) -> Result<T, String> {
    let (&version, rest) = stored.split_first().ok_or("the record is empty")?;
    check_version(version)?;
    postcard::from_bytes(rest).map_err(|error| format!("the record is malformed: {error}"))
}

fn check_version(version: u8) -> Result<(), String> {
    if version == VERSION { Ok(()) } else { Err(format!("it has format {version}, this build reads format {VERSION}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_every_kind_come_back() {
        for kind in [EntryKind::Frame, EntryKind::Membership, EntryKind::JointMembership] {
            let entry = Entry { index: 7, term: 0x0102_0304_0506_0708, kind, payload: Bytes::from_static(b"payload") };
            let stored = [entry.head().as_slice(), &entry.payload].concat();
            assert_eq!(Entry::decode(7, stored.into()), Ok(entry));
        }
    }

    #[test]
    fn changes_of_members_come_back_with_what_they_carry() {
        for change in [MemberChange::AddLearner(1), MemberChange::AddVoter(u64::MAX), MemberChange::Remove(7)] {
            let carried = Bytes::from_static(b"frame");
            assert_eq!(MemberChange::parse(change.payload(&carried)), Ok((change, carried)));
        }
        assert!(MemberChange::parse(Bytes::from_static(b"short")).is_err());
        assert!(MemberChange::parse(Bytes::from_static(&[3; 9])).is_err());
    }

    #[test]
    fn foreign_bytes_are_refused_with_a_sentence() {
        assert_eq!(Entry::decode(1, Bytes::from_static(b"short")), Err("the entry is truncated".into()));
        let newer = Bytes::from_static(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Entry::decode(1, newer), Err("it has format 2, this build reads format 1".into()));
        assert!(decode_record::<HardState>(&[]).is_err());
        assert!(decode_record::<Applied>(&[VERSION, 0xff]).is_err());
    }

    #[test]
    fn records_come_back() {
        let applied = Applied { index: 300, frame: Some(FrameLink { index: 299, hash: [9; 32] }) };
        assert_eq!(decode_record(&encode_record(&applied)), Ok(applied));
        let members = Membership::single(u64::MAX);
        assert_eq!(decode_record(&encode_record(&members)), Ok(members));
    }
}
