//! The file of an archive: blocks of frames, compressed and sealed, then a table of the blocks. Everything read from it was
//! sealed with a key of the cluster, for this archive and this position in it; the hash of the last frame verifies all frames.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::log::entry::{FrameLink, decode_record, encode_record};
use crate::security::seal::{Seal, SealError};

/// The first bytes of a file, with the format version.
const MAGIC: &[u8; 16] = b"swarmlog arch. 1";
/// The last bytes: the length of the table before them, and a marker.
const END: &[u8; 8] = b"swarmend";
const END_BYTES: u64 = 4 + END.len() as u64;
/// Bytes of frames after which a block ends, but never before its first: reading a single frame decompresses one block.
const BLOCK_BYTES: usize = 256 * 1024;
/// The compression level: a third of the time of the next ones, for a few per cent more bytes.
const LEVEL: i32 = 3;
/// The number under which the table of blocks is sealed. No block has it.
const TABLE: u32 = u32::MAX;
/// The longest table that is read: an archive with one frame per block needs a tenth of it.
const TABLE_BYTES_MAX: u32 = 1024 * 1024;
/// Bytes before each frame in a block: its index and its length.
const FRAME_HEAD_BYTES: usize = 12;

/// Identifies the archive that a file belongs to. It is in the file name, and the contents are sealed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    /// The first index of its range.
    pub start: u64,
    /// Its last frame, whose hash stands for everything up to it.
    pub last: FrameLink,
}

impl Id {
    /// The name of the file: the same on every manager.
    pub fn file_name(&self) -> String {
        let hash: String = self.last.hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("frames-{:012}-{:012}-{hash}.archive", self.start, self.last.index)
    }

    fn place(&self, block: u32) -> Vec<u8> {
        let (start, last) = (self.start.to_be_bytes(), self.last.index.to_be_bytes());
        [MAGIC, start.as_slice(), &last, &self.last.hash, &block.to_be_bytes()].concat()
    }
}

/// A block in the table.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Block {
    first: u64,
    last: u64,
    offset: u64,
    stored: u32,
    bytes: u32,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It, or its directory, does not exist.
    #[error("it is missing")]
    Absent,
    /// The file system failed.
    #[error("cannot {0}: {1}")]
    Io(&'static str, io::Error),
    /// Its contents are not what was written.
    #[error("{0}")]
    Damaged(String),
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

fn reading(error: io::Error) -> FileError {
    match error.kind() {
        ErrorKind::NotFound => FileError::Absent,
        ErrorKind::UnexpectedEof => FileError::Damaged("it is truncated".to_owned()),
        _ => FileError::Io("read", error),
    }
}

fn writing(error: io::Error) -> FileError {
    FileError::Io("write", error)
}

/// A file that is being written. It gets its name once all of it is durable; until then a start ignores it.
pub(super) struct Writer<'a> {
    id: Id,
    seal: &'a Seal,
    path: PathBuf,
    aside: PathBuf,
    file: BufWriter<File>,
    offset: u64,
    blocks: Vec<Block>,
    /// The frames of the current block.
    block: Vec<u8>,
    indexes: Option<(u64, u64)>,
}

impl<'a> Writer<'a> {
    /// Starts the file in this directory, replacing what an earlier attempt left.
    pub fn begin(dir: &Path, id: Id, seal: &'a Seal) -> Result<Self, FileError> {
        let path = dir.join(id.file_name());
        let aside = path.with_extension("archive.new");
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
        let mut file = BufWriter::new(opened.map_err(writing)?);
        file.write_all(MAGIC).map_err(writing)?;
        let (blocks, block, offset) = (Vec::new(), Vec::new(), MAGIC.len() as u64);
        Ok(Self { id, seal, path, aside, file, offset, blocks, block, indexes: None })
    }

    /// Adds the next frame.
    pub fn add(&mut self, index: u64, stored: &[u8]) -> Result<(), FileError> {
        if !self.block.is_empty() && self.block.len() + stored.len() > BLOCK_BYTES {
            self.end_block()?;
        }
        let length = u32::try_from(stored.len()).map_err(|_| FileError::Damaged("a frame is too long".to_owned()))?;
        self.block.extend_from_slice(&index.to_be_bytes());
        self.block.extend_from_slice(&length.to_be_bytes());
        self.block.extend_from_slice(stored);
        self.indexes = Some((self.indexes.map_or(index, |(first, _)| first), index));
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), FileError> {
        let Some((first, last)) = self.indexes.take() else { return Ok(()) };
        let packed = zstd::bulk::compress(&self.block, LEVEL).map_err(writing)?;
        let number = self.blocks.len() as u32;
        let sealed = self.seal.seal(&self.id.place(number), &[], &packed)?;
        let (stored, bytes) = (sealed.len() as u32, self.block.len() as u32);
        self.file.write_all(&sealed).map_err(writing)?;
        self.blocks.push(Block { first, last, offset: self.offset, stored, bytes });
        self.offset += u64::from(stored);
        self.block.clear();
        Ok(())
    }

    /// Completes the file and gives it its name, durably.
    pub fn finish(mut self) -> Result<(), FileError> {
        self.end_block()?;
        let table = self.seal.seal(&self.id.place(TABLE), &[], &encode_record(&self.blocks))?;
        let length = table.len() as u32;
        let mut write = |bytes: &[u8]| self.file.write_all(bytes).map_err(writing);
        write(&table)?;
        write(&length.to_be_bytes())?;
        write(END)?;
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(writing)?;
        fs::rename(&self.aside, &self.path).map_err(writing)?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(writing)
    }

    /// Removes an unfinished file to free its space; if that fails, the error that caused this is the one to report.
    pub fn discard(dir: &Path, id: Id) {
        let aside = dir.join(id.file_name()).with_extension("archive.new");
        if let Err(error) = fs::remove_file(&aside)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %aside.display(), "cannot remove an unfinished archive");
        }
    }
}

/// A file that is open for reading.
pub(super) struct Reader<'a> {
    id: Id,
    seal: &'a Seal,
    file: File,
    blocks: Vec<Block>,
}

impl<'a> Reader<'a> {
    /// Opens the file of an archive in this directory.
    pub fn open(dir: &Path, id: Id, seal: &'a Seal) -> Result<Self, FileError> {
        let file = File::open(dir.join(id.file_name())).map_err(reading)?;
        let mut reader = Self { id, seal, file, blocks: Vec::new() };
        let bytes = reader.file.metadata().map_err(reading)?.len();
        let cut_short = || FileError::Damaged("it is truncated".to_owned());
        let end_at = bytes.checked_sub(END_BYTES).filter(|at| *at >= MAGIC.len() as u64).ok_or_else(cut_short)?;
        let (mut magic, mut length, mut end) = ([0; MAGIC.len()], [0; 4], [0; END.len()]);
        reader.file.read_exact_at(&mut magic, 0).map_err(reading)?;
        reader.file.read_exact_at(&mut length, end_at).map_err(reading)?;
        reader.file.read_exact_at(&mut end, end_at + length.len() as u64).map_err(reading)?;
        if &magic != MAGIC || &end != END {
            return Err(FileError::Damaged("it does not begin and end as an archive does".to_owned()));
        }
        let length = u32::from_be_bytes(length);
        let table_at = end_at.checked_sub(u64::from(length)).filter(|_| length <= TABLE_BYTES_MAX);
        let table_at = table_at.ok_or_else(cut_short)?;
        let table = reader.sealed(TABLE, table_at, length)?;
        reader.blocks = decode_record(&table).map_err(FileError::Damaged)?;
        Ok(reader)
    }

    fn sealed(&self, number: u32, offset: u64, length: u32) -> Result<Bytes, FileError> {
        let mut sealed = vec![0; length as usize];
        self.file.read_exact_at(&mut sealed, offset).map_err(reading)?;
        self.seal.open(&self.id.place(number), sealed).ok_or_else(|| {
            let what = if number == TABLE { "its table".to_owned() } else { format!("block {number}") };
            FileError::Damaged(format!("{what} was not sealed there with a key of this cluster"))
        })
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> Result<u64, FileError> {
        Ok(self.file.metadata().map_err(reading)?.len())
    }

    /// The frames, from an index on, of the block that holds the first of them; empty after the last.
    pub fn frames_from(&self, index: u64) -> Result<Vec<(u64, Bytes)>, FileError> {
        let number = self.blocks.partition_point(|block| block.last < index);
        let mut frames = self.block(number)?;
        frames.retain(|(found, _)| *found >= index);
        Ok(frames)
    }

    /// The last frame before an index; `None` before the first.
    pub fn frame_before(&self, index: u64) -> Result<Option<(u64, Bytes)>, FileError> {
        let Some(number) = self.blocks.partition_point(|block| block.first < index).checked_sub(1) else {
            return Ok(None);
        };
        Ok(self.block(number)?.into_iter().rfind(|(found, _)| *found < index))
    }

    fn block(&self, number: usize) -> Result<Vec<(u64, Bytes)>, FileError> {
        let Some(block) = self.blocks.get(number) else { return Ok(Vec::new()) };
        let packed = self.sealed(number as u32, block.offset, block.stored)?;
        let unpacked = zstd::bulk::decompress(&packed, block.bytes as usize);
        let mut rest = Bytes::from(unpacked.map_err(|error| FileError::Damaged(format!("block {number}: {error}")))?);
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let cut_short = || FileError::Damaged(format!("block {number} ends within a frame"));
            let head = rest.get(..FRAME_HEAD_BYTES).and_then(|head| head.split_first_chunk::<8>());
            let (index, length) = head.ok_or_else(cut_short)?;
            let index = u64::from_be_bytes(*index);
            let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            let mut frame = rest.split_off(FRAME_HEAD_BYTES);
            if length > frame.len() {
                return Err(cut_short());
            }
            rest = frame.split_off(length);
            frames.push((index, frame));
        }
        Ok(frames)
    }
}
