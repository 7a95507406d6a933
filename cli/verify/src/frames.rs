//! The file that `swarmctl events export --as proto` writes: the stored bytes of each frame, each after their length as protobuf writes
//! it, so that whoever has the schema (`Frame` of `events.proto`) reads it with the usual tools.

use std::io::{self, Read};

use bytes::Bytes;

/// Bytes of a frame at most: the log takes none that is larger.
const FRAME_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Reads frames one after the other.
pub struct FrameReader<R> {
    from: R,
    /// Where the next frame begins.
    offset: u64,
}

impl<R: Read> FrameReader<R> {
    /// Reads a file from its beginning.
    pub fn new(from: R) -> Self {
        Self { from, offset: 0 }
    }

    /// Where the next frame begins, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame; nothing at the end of the file.
    ///
    /// # Errors
    /// When the file cannot be read, ends within a frame, or has something else there.
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

    /// A length as protobuf writes it: seven bits a byte, the lowest first.
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
                return Err(io::Error::new(io::ErrorKind::InvalidData, "there is no length of a frame"));
            }
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends within a frame")
}
