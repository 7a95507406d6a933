//! Stores the output of a command in two files of bounded size: the newest, and the part before it.
//!
//! A file is a sequence of pieces as they arrived through the pipes, each with a header (see [`Head`]) and its bytes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use events::Timestamp;
use wire::v1::LogStream;

use crate::clock;

/// Size at which a file is rotated; twice this is kept per task. Docker's own default keeps everything, and fills disks.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Maximum bytes of a piece.
pub(super) const PIECE_BYTES_MAX: usize = 16 << 10;

/// The header of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// When it arrived.
    pub(super) at: Timestamp,
    /// The stream it arrived on.
    pub(super) stream: LogStream,
    /// How many bytes follow.
    pub(super) bytes: usize,
}

impl Head {
    /// Its encoded length.
    pub(super) const BYTES: usize = 13;

    fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.at.unix_ns().to_le_bytes());
        bytes[8] = match self.stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        };
        bytes[9..].copy_from_slice(&u32::try_from(self.bytes).unwrap_or(u32::MAX).to_le_bytes());
        bytes
    }

    /// Decodes a header; `None` if it is invalid.
    pub(super) fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, stream, size @ ..] = *bytes;
        let stream = match stream {
            1 => LogStream::Stdout,
            2 => LogStream::Stderr,
            _ => return None,
        };
        let bytes = usize::try_from(u32::from_le_bytes(size)).ok().filter(|bytes| *bytes <= PIECE_BYTES_MAX)?;
        Some(Self { at: Timestamp::from_unix_ns(i64::from_le_bytes([a, b, c, d, e, f, g, h])), stream, bytes })
    }
}

/// The path of the rotated file.
pub(super) fn previous(path: &Path) -> PathBuf {
    let mut previous = path.as_os_str().to_owned();
    previous.push(".1");
    PathBuf::from(previous)
}

/// The output files of one command.
pub(super) struct Output {
    path: PathBuf,
    bytes_max: u64,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    size: u64,
}

impl Output {
    /// Creates empty files: `path` and, after the first rotation, `path.1`.
    ///
    /// # Errors
    /// When they cannot be created.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Self::bounded(path, FILE_BYTES_MAX)
    }

    pub(super) fn bounded(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let open = Mutex::new(Open { file: File::create(path)?, size: 0 });
        Ok(Self { path: path.to_owned(), bytes_max, open })
    }

    /// Copies everything from `source`, until its end.
    ///
    /// # Errors
    /// When a file cannot be written. The rest is then read and discarded, so that the command never blocks.
    pub(super) fn keep(&self, stream: LogStream, mut source: impl Read) -> io::Result<()> {
        let kept = self.copy(stream, &mut source);
        if kept.is_err() {
            io::copy(&mut source, &mut io::sink())?;
        }
        kept
    }

    fn copy(&self, stream: LogStream, source: &mut impl Read) -> io::Result<()> {
        let mut piece = vec![0; Head::BYTES + PIECE_BYTES_MAX];
        loop {
            let bytes = match source.read(&mut piece[Head::BYTES..]) {
                Ok(0) => return Ok(()),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // No code panics while it holds the lock, so a poisoned one still guards valid data.
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            // The time is read under the lock, so that it never goes back from one piece to the next.
            let head = Head { at: clock::now(), stream, bytes };
            piece[..Head::BYTES].copy_from_slice(&head.encode());
            self.write(&mut open, &piece[..Head::BYTES + bytes])?;
        }
    }

    fn write(&self, open: &mut Open, piece: &[u8]) -> io::Result<()> {
        if open.size >= self.bytes_max {
            fs::rename(&self.path, previous(&self.path))?;
            *open = Open { file: File::create(&self.path)?, size: 0 };
        }
        open.file.write_all(piece)?;
        open.size += piece.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_and_what_is_none_is_not_taken_for_one() {
        let head = Head { at: Timestamp::from_unix_ns(-5), stream: LogStream::Stderr, bytes: PIECE_BYTES_MAX };
        assert_eq!(Head::decode(&head.encode()), Some(head));
        assert_eq!(Head::decode(&Head { bytes: PIECE_BYTES_MAX + 1, ..head }.encode()), None);
        assert_eq!(Head::decode(&[7; Head::BYTES]), None);
    }

    #[test]
    fn the_newest_output_is_kept_and_the_oldest_dropped() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("output");
        let text: Vec<u8> = (0..100u32 << 10).map(|n| (n / 16_384) as u8).collect();
        Output::bounded(&path, 32 << 10).and_then(|output| output.copy(LogStream::Stdout, &mut &*text)).expect("kept");
        let files = [previous(&path), path].map(|path| fs::read(path).expect("a file"));
        let mut kept = Vec::new();
        for mut rest in files.iter().map(Vec::as_slice) {
            while let Some((head, bytes)) = rest.split_first_chunk() {
                let head = Head::decode(head).expect("a head");
                kept.extend_from_slice(&bytes[..head.bytes]);
                rest = &bytes[head.bytes..];
            }
        }
        assert_eq!(kept, text[text.len() - kept.len()..]);
        assert!((32 << 10..=64 << 10).contains(&kept.len()), "{}", kept.len());
    }
}
