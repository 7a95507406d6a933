//! A state as a stream of chunks, and back. A snapshot is a cache of the fold: one with another fold version is ignored, and the
//! state is folded again from history.
//!
//! Each chunk is its length, then its bytes. The first holds the [`Header`]; each of the others the name of a part of the state
//! and some of its rows, part by part in the order of their declaration; the last is empty. So neither the writer nor the reader
//! ever holds more than one chunk in addition to the state.

use std::fmt;

use events::Timestamp;
use serde::{Deserialize, Serialize};

use crate::parts::Part;
use crate::{Cluster, FOLD_VERSION, Stamp};

/// A chunk ends with the first row that reaches this many bytes: small enough to be sealed and written without a pause.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Maximum length of a chunk in bytes: more is damage. A single row, such as a spec or a config, has at most 2 MiB.
const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of the length before each chunk.
const LENGTH_BYTES: usize = 4;

/// Why bytes are not a usable snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotError {
    /// Created by a build with another fold version.
    FoldVersion(u32),
    /// It contains a part of the state that this build does not have.
    UnknownTable(String),
    /// It lacks a part of the state.
    MissingTable(&'static str),
    /// The bytes are malformed.
    Malformed(String),
    /// The state in it does not have the hash that was stored beside it.
    Hash,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FoldVersion(version) => {
                write!(f, "the snapshot has fold version {version}, this build has {FOLD_VERSION}")
            }
            Self::UnknownTable(name) => {
                write!(f, "the snapshot has the table {}, which this build does not support", name.escape_debug())
            }
            Self::MissingTable(name) => write!(f, "the snapshot is damaged: it lacks the table {name}"),
            Self::Malformed(why) => write!(f, "the snapshot is damaged: {why}"),
            Self::Hash => write!(f, "the snapshot's state does not have the hash recorded in it"),
        }
    }
}

impl std::error::Error for SnapshotError {}

impl From<postcard::Error> for SnapshotError {
    fn from(error: postcard::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// The header is read first, separately, because the format of the rest depends on the fold version.
#[derive(Serialize, Deserialize)]
struct Header {
    fold_version: u32,
    index: u64,
    time: Timestamp,
    state_hash: [u8; 16],
}

/// The chunks of a state. Equal states have equal chunks.
pub fn chunks(cluster: &Cluster) -> impl Iterator<Item = Vec<u8>> {
    let header = Header {
        fold_version: FOLD_VERSION,
        index: cluster.position.index,
        time: cluster.position.time,
        state_hash: cluster.state_hash(),
    };
    let header = postcard::to_allocvec(&header).expect("a header is plain data, which always encodes");
    let parts = cluster.parts().into_iter().flat_map(|(name, part)| chunks_of(name, part));
    std::iter::once(framed(header)).chain(parts).chain(std::iter::once(framed(Vec::new())))
}

/// The chunks of one part: at least one, so that an empty part is not missing.
fn chunks_of<'a>(name: &'static str, part: &'a dyn Part) -> impl Iterator<Item = Vec<u8>> + use<'a> {
    let mut rows = part.rows().peekable();
    let mut is_first = true;
    std::iter::from_fn(move || {
        if !std::mem::take(&mut is_first) && rows.peek().is_none() {
            return None;
        }
        let mut chunk = postcard::to_allocvec(name).expect("a name always encodes");
        while let Some(row) = rows.next_if(|_| chunk.len() < CHUNK_BYTES) {
            chunk.extend(row);
        }
        Some(framed(chunk))
    })
}

/// A chunk, preceded by its length.
fn framed(mut chunk: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(chunk.len()).expect("a chunk is far shorter than 4 GiB");
    chunk.splice(..0, length.to_le_bytes());
    chunk
}

/// The state in the chunks of a snapshot.
///
/// # Errors
/// When they are damaged or come from a build with another fold version.
pub fn read<B: AsRef<[u8]>>(chunks: impl IntoIterator<Item = B>) -> Result<Cluster, SnapshotError> {
    let mut reader = Reader::default();
    chunks.into_iter().for_each(|chunk| reader.push(chunk.as_ref()));
    reader.finish()
}

/// Reads a state from a stream of bytes, in pieces of any size.
#[derive(Default)]
pub struct Reader {
    cluster: Cluster,
    header: Option<Header>,
    /// Names of the parts that were read.
    seen: Vec<String>,
    /// The start of an incomplete chunk.
    rest: Vec<u8>,
    ended: bool,
    /// The first error; bytes after it are ignored.
    fault: Option<SnapshotError>,
}

impl Reader {
    /// Takes the next bytes. Errors are reported at the end.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.fault.is_none() {
            self.rest.extend_from_slice(bytes);
            self.fault = self.take_whole_chunks().err();
        }
    }

    fn take_whole_chunks(&mut self) -> Result<(), SnapshotError> {
        let mut bytes = std::mem::take(&mut self.rest);
        let mut left = &bytes[..];
        while let Some((length, after)) = left.split_first_chunk::<LENGTH_BYTES>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            if length > CHUNK_BYTES_MAX {
                return Err(SnapshotError::Malformed(format!("a chunk of {length} bytes")));
            }
            let Some((chunk, after)) = after.split_at_checked(length) else { break };
            self.take_chunk(chunk)?;
            left = after;
        }
        let taken = bytes.len() - left.len();
        bytes.drain(..taken);
        self.rest = bytes;
        Ok(())
    }

    fn take_chunk(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        if self.header.is_none() {
            let (header, _): (Header, _) = postcard::take_from_bytes(chunk)?;
            if header.fold_version != FOLD_VERSION {
                return Err(SnapshotError::FoldVersion(header.fold_version));
            }
            self.header = Some(header);
            return Ok(());
        }
        if self.ended {
            return Err(SnapshotError::Malformed("it continues after its end".into()));
        }
        self.ended = chunk.is_empty();
        if self.ended { Ok(()) } else { self.take_rows(chunk) }
    }

    fn take_rows(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        let (name, mut rows): (&str, _) = postcard::take_from_bytes(chunk)?;
        let part = self.cluster.part_mut(name).ok_or_else(|| SnapshotError::UnknownTable(name.to_owned()))?;
        while !rows.is_empty() {
            rows = part.read_row(rows)?;
        }
        if self.seen.last().is_none_or(|last| last != name) {
            self.seen.push(name.to_owned());
        }
        Ok(())
    }

    /// The state that was read.
    ///
    /// # Errors
    /// When the bytes are damaged or incomplete, or come from a build with another fold version.
    pub fn finish(self) -> Result<Cluster, SnapshotError> {
        let Self { mut cluster, header, seen, ended, fault, .. } = self;
        let header = match (fault, header) {
            (Some(fault), _) => return Err(fault),
            (None, Some(header)) if ended => header,
            (None, _) => return Err(SnapshotError::Malformed("its end is missing".into())),
        };
        if let Some((missing, _)) = cluster.parts().into_iter().find(|(name, _)| !seen.iter().any(|seen| seen == name))
        {
            return Err(SnapshotError::MissingTable(missing));
        }
        cluster.position = Stamp { index: header.index, time: header.time };
        cluster.derive_indices();
        if cluster.state_hash() != header.state_hash {
            return Err(SnapshotError::Hash);
        }
        Ok(cluster)
    }
}

#[cfg(test)]
mod tests;
