//! `swarmctl events export --as proto`: the stored bytes of frames, each preceded by its length as a protobuf varint, as in
//! `swarmd export`, and next to the file the checkpoint of these frames.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use events::codec;
use tokio_stream::StreamExt;
use verify::frames::FrameReader;
use wire::v1::ReadFramesRequest;

use super::unwritable;
use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;

/// The result.
pub(super) struct Written {
    /// The number of frames.
    pub(super) frames: u64,
    /// The index of the last frame in the file.
    pub(super) last: Option<u64>,
    /// The file of the checkpoint.
    pub(super) checkpoint: PathBuf,
}

/// Writes all frames, or those that the file does not contain yet, and the checkpoint.
pub(super) async fn export<M: Manager>(
    path: &Path,
    resume: bool,
    session: &mut Session<'_, M>,
) -> Result<Written, Failure> {
    let reply = session.manager.checkpoint().await?;
    let mut target = Target::open(path, resume)?;
    let request = ReadFramesRequest { from: target.last.map_or(0, |last| last + 1), to: reply.index };
    let written = copy(request, &mut target, session).await;
    // Frames that were received before a failure are kept: the export continues after them.
    let synced = target.finish();
    let frames = written?;
    synced?;
    let checkpoint = path.with_added_extension("checkpoint");
    let kept = std::fs::write(&checkpoint, &reply.note);
    kept.map_err(|error| unwritable(&checkpoint, &error))?;
    Ok(Written { frames, last: target.last, checkpoint })
}

async fn copy<M: Manager>(
    request: ReadFramesRequest,
    target: &mut Target,
    session: &mut Session<'_, M>,
) -> Result<u64, Failure> {
    let mut pages = session.manager.frames(request).await?;
    let mut frames = 0;
    while let Some(page) = pages.next().await {
        let page = page?;
        for stored in &page.stored {
            frames += u64::from(target.append(stored)?);
        }
        if let Some(damaged) = page.damaged {
            let sentence = format!("frame {} cannot be read: {}", damaged.from, damaged.reason);
            let hint = "ask another manager with --host; `swarmctl audit verify --live` names all damaged frames";
            return Err(Failure::new(Kind::Other, sentence).hint(hint));
        }
    }
    Ok(frames)
}

/// The output file.
struct Target {
    file: BufWriter<File>,
    path: PathBuf,
    /// The index of the last frame in it.
    last: Option<u64>,
}

impl Target {
    /// Creates a file, or opens one to continue it: an incomplete last frame is truncated.
    fn open(path: &Path, resume: bool) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| unwritable(path, &error);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = file.map_err(failed)?;
        let (last, end) = if resume { last_frame(&file, path)? } else { (None, 0) };
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(failed)?;
        Ok(Self { file: BufWriter::new(file), path: path.to_owned(), last })
    }

    /// Writes a frame unless the file contains it; returns whether it was written.
    fn append(&mut self, stored: &[u8]) -> Result<bool, Failure> {
        let frame = codec::decode_frame(stored);
        let damaged = |error| Failure::new(Kind::Other, format!("the manager sent an invalid frame: {error}"));
        let index = frame.map_err(damaged)?.header.index;
        if self.last.is_some_and(|last| index <= last) {
            return Ok(false);
        }
        let written = length(stored.len(), &mut self.file).and_then(|()| self.file.write_all(stored));
        written.map_err(|error| unwritable(&self.path, &error))?;
        self.last = Some(index);
        Ok(true)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| unwritable(&self.path, &error))
    }
}

/// A length as a protobuf varint: seven bits per byte, the lowest first.
fn length(mut bytes: usize, file: &mut impl Write) -> std::io::Result<()> {
    while bytes >= 0x80 {
        file.write_all(&[bytes as u8 | 0x80])?;
        bytes >>= 7;
    }
    file.write_all(&[bytes as u8])
}

/// The index of the last complete frame of a file, and the offset of its end.
fn last_frame(file: &File, path: &Path) -> Result<(Option<u64>, u64), Failure> {
    let (mut frames, mut last) = (FrameReader::new(BufReader::new(file)), None);
    loop {
        let end = frames.offset();
        let stored = match frames.next_frame() {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok((last, end)),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok((last, end)),
            Err(error) if error.kind() != std::io::ErrorKind::InvalidData => return Err(unwritable(path, &error)),
            Err(_) => return Err(no_export(path, end)),
        };
        let index = codec::decode_frame(&stored).map_err(|_| no_export(path, end))?.header.index;
        if last.is_some_and(|last| index <= last) {
            return Err(no_export(path, end));
        }
        last = Some(index);
    }
}

fn no_export(path: &Path, at: u64) -> Failure {
    let sentence = format!("{} is not an export of frames: byte {at} does not start a valid frame", path.display());
    Failure::new(Kind::Usage, sentence).hint("set the format of the file with --as, or choose another name")
}
