//! Reads files written by `swarmctl events export --as proto`: the stored bytes of each frame, each preceded by its length as a
//! protobuf varint, so that usual tools can read them with the schema (`Frame` of `events.proto`).

use std::io::{self, Read};

use bytes::Bytes;

/// Maximum size of a frame in bytes: the log accepts no larger ones.
const FRAME_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Reads frames one by one.
pub struct FrameReader<R> {
    from: R,
    /// Offset of the next frame.
    offset: u64,
}

impl<R: Read> FrameReader<R> {
    /// Reads a file from its start.
    pub fn new(from: R) -> Self {
        Self { from, offset: 0 }
    }

    /// Offset of the next frame, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame, or `None` at the end of the file.
    ///
    /// # Errors
    /// When the file cannot be read, ends within a frame, or contains something else.
    pub fn next_frame(&mut self) -> io::Result<Option<Bytes>> {
        let Some(length) = self.length()? else { return Ok(None) };
        if length > FRAME_BYTES_MAX {
            let why = format!("a frame of {length} bytes cannot be: {FRAME_BYTES_MAX} at most");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let mut frame = Vec::new();
        let read = (&mut self.from).take(length).read_to_end(&mut frame)?;
        if (read as u64) < length {
            return Err(ended());
        }
        self.offset += length;
        Ok(Some(frame.into()))
    }

    /// A length as a protobuf varint: seven bits per byte, the lowest first.
    fn length(&mut self) -> io::Result<Option<u64>> {
        let (mut length, mut shift) = (0_u64, 0);
        loop {
            let mut byte = [0];
            match self.from.read(&mut byte) {
                Ok(0) if shift == 0 => return Ok(None),
                Ok(0) => return Err(ended()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.offset += 1;
            length |= u64::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] < 0x80 {
                return Ok(Some(length));
            }
            if shift > 28 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the length of a frame is malformed"));
            }
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends within a frame")
}
