//! The contents of a backup's chunks: a head, pages of history, pages of secrets, and an end with their totals.

use bytes::Bytes;
use events::VolatileSection;
use prost::Message;
use zeroize::Zeroizing;

use super::BackupError;

/// The type of a chunk, its first byte.
const HEAD: u8 = 1;
const HISTORY: u8 = 2;
const SECRETS: u8 = 3;
const END: u8 = 4;

/// The origin and the time of a backup.
#[derive(Clone, PartialEq, Message)]
pub struct Head {
    /// The cluster.
    #[prost(string, required, tag = "1")]
    pub cluster: String,
    /// The manager that wrote it, which a restored one replaces.
    #[prost(string, required, tag = "2")]
    pub node: String,
    /// The host name of that manager.
    #[prost(string, required, tag = "3")]
    pub hostname: String,
    /// Its raft id.
    #[prost(fixed64, required, tag = "4")]
    pub raft_id: u64,
    /// The newest term that it had seen.
    #[prost(uint64, required, tag = "5")]
    pub term: u64,
    /// Index of the last frame.
    #[prost(uint64, required, tag = "6")]
    pub index: u64,
    /// Log time of the last frame, in nanoseconds since 1970.
    #[prost(int64, required, tag = "7")]
    pub log_time: i64,
    /// The version of the `swarmd` that wrote it.
    #[prost(string, required, tag = "8")]
    pub version: String,
}

/// A page of history.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct History {
    /// The frames.
    #[prost(message, repeated, tag = "1")]
    pub frames: Vec<StoredFrame>,
}

events::redacted_debug! { History shows [] hides [frames] }

/// A frame of history.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct StoredFrame {
    /// Its index.
    #[prost(uint64, required, tag = "1")]
    pub index: u64,
    /// Its stored bytes.
    #[prost(bytes = "bytes", required, tag = "2")]
    pub stored: Bytes,
}

events::redacted_debug! { StoredFrame shows [index] hides [stored] }

/// The totals.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct End {
    /// Frames of history.
    #[prost(uint64, required, tag = "1")]
    pub frames: u64,
    /// Secrets.
    #[prost(uint64, required, tag = "2")]
    pub secrets: u64,
}

/// The contents of a chunk.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// The first one.
    Head(Head),
    /// Frames, in order.
    History(History),
    /// Secrets.
    Secrets(VolatileSection),
    /// The last one.
    End(End),
}

impl Record {
    /// Encodes the chunk.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let (kind, body) = match self {
            Self::Head(head) => (HEAD, head.encode_to_vec()),
            Self::History(page) => (HISTORY, page.encode_to_vec()),
            Self::Secrets(page) => (SECRETS, page.encode_to_vec()),
            Self::End(end) => (END, end.encode_to_vec()),
        };
        let body = Zeroizing::new(body);
        Zeroizing::new([[kind].as_slice(), &body].concat())
    }

    /// Decodes a chunk.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode(content: &[u8]) -> Result<Self, BackupError> {
        let malformed = |error: prost::DecodeError| BackupError::Content(format!("a part of it is malformed: {error}"));
        let (kind, body) =
            content.split_first().ok_or_else(|| BackupError::Content("a part of it is empty".to_owned()))?;
        match *kind {
            HEAD => Head::decode(body).map(Self::Head),
            HISTORY => History::decode(body).map(Self::History),
            SECRETS => VolatileSection::decode(body).map(Self::Secrets),
            END => End::decode(body).map(Self::End),
            other => {
                let sentence = format!("it has a part of kind {other}, which this swarmd does not support");
                return Err(BackupError::Content(sentence));
            }
        }
        .map_err(malformed)
    }
}
