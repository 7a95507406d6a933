//! Splits the output of a container into lines, independent of the pieces in which it arrives. Pure.

use bytes::Bytes;
use events::Timestamp;
use wire::v1::{LogLine, LogStream};

/// Maximum bytes of a line; a longer one is split. Docker's own limit is 16 KiB.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// The lines of one container.
#[derive(Debug, Default)]
pub struct Lines {
    stdout: PartialLine,
    stderr: PartialLine,
}

/// A line whose end has not arrived yet.
#[derive(Debug, Default)]
struct PartialLine {
    at: Timestamp,
    text: Vec<u8>,
}

impl Lines {
    /// Takes output that arrived at this time, and appends the complete lines to `lines`.
    pub fn take(&mut self, stream: LogStream, at: Timestamp, mut bytes: &[u8], lines: &mut Vec<LogLine>) {
        let partial = match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        };
        while !bytes.is_empty() {
            if partial.text.is_empty() {
                partial.at = at;
            }
            let room = LINE_BYTES_MAX - partial.text.len();
            let end = bytes.iter().position(|byte| *byte == b'\n').filter(|end| *end <= room);
            let (piece, rest) = match end {
                Some(end) => (&bytes[..end], &bytes[end + 1..]),
                None => bytes.split_at(bytes.len().min(room)),
            };
            bytes = rest;
            if end.is_some() || piece.len() == room {
                lines.push(partial.end_with(stream, piece));
            } else {
                partial.text.extend_from_slice(piece);
            }
        }
    }

    /// Appends the incomplete lines, which will never be completed.
    pub fn finish(&mut self, lines: &mut Vec<LogLine>) {
        for (stream, partial) in [(LogStream::Stdout, &mut self.stdout), (LogStream::Stderr, &mut self.stderr)] {
            if !partial.text.is_empty() {
                lines.push(partial.end_with(stream, &[]));
            }
        }
    }
}

impl PartialLine {
    fn end_with(&mut self, stream: LogStream, piece: &[u8]) -> LogLine {
        let data = if self.text.is_empty() {
            Bytes::copy_from_slice(piece)
        } else {
            self.text.extend_from_slice(piece);
            Bytes::from(std::mem::take(&mut self.text))
        };
        LogLine { at: self.at, stream: stream.into(), data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_ns(second)
    }

    fn shown(lines: &[LogLine]) -> Vec<(i64, LogStream, String)> {
        let text = |line: &LogLine| String::from_utf8_lossy(&line.data).into_owned();
        lines.iter().map(|line| (line.at.unix_ns(), line.stream(), text(line))).collect()
    }

    #[test]
    fn pieces_become_lines_with_the_time_of_their_beginning() {
        use LogStream::{Stderr, Stdout};
        let (mut of, mut lines) = (Lines::default(), Vec::new());
        for (stream, time, piece) in
            [(Stdout, 1, "one\ntw"), (Stderr, 2, "oops\n"), (Stdout, 3, "o\n\nthr"), (Stderr, 4, "last")]
        {
            of.take(stream, at(time), piece.as_bytes(), &mut lines);
        }
        of.finish(&mut lines);
        of.finish(&mut lines);
        let expected = [
            (1, Stdout, "one"),
            (2, Stderr, "oops"),
            (1, Stdout, "two"),
            (3, Stdout, ""),
            (3, Stdout, "thr"),
            (4, Stderr, "last"),
        ];
        assert_eq!(shown(&lines), expected.map(|(time, stream, text)| (time, stream, text.to_owned())));
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        for (length, pieces) in [
            (LINE_BYTES_MAX - 1, vec![LINE_BYTES_MAX - 1]),
            (LINE_BYTES_MAX, vec![LINE_BYTES_MAX]),
            (LINE_BYTES_MAX + 1, vec![LINE_BYTES_MAX, 1]),
            (2 * LINE_BYTES_MAX + 5, vec![LINE_BYTES_MAX, LINE_BYTES_MAX, 5]),
        ] {
            let (mut of, mut lines) = (Lines::default(), Vec::new());
            for piece in vec![b'x'; length].chunks(10_000) {
                of.take(LogStream::Stdout, at(1), piece, &mut lines);
            }
            of.finish(&mut lines);
            assert_eq!(lines.iter().map(|line| line.data.len()).collect::<Vec<_>>(), pieces);
        }
    }
}
