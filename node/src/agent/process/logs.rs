//! Reads the output of a command from its files, while its supervisor keeps writing them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use wire::v1::LogLine;

use super::files::TaskFiles;
use super::output::{Head, previous};
use crate::agent::executor::{ExecutorError, LogQuery};
use crate::agent::lines::Lines;
use crate::clock;

/// Bytes per read. Together with the incomplete lines, this is the memory of one reader.
const READ_BYTES: usize = 32 << 10;
/// How often a file is polled after it was read to its end.
const LOOK: Duration = Duration::from_millis(100);

/// The lines of a task.
pub(super) async fn lines(
    files: TaskFiles,
    query: LogQuery,
) -> io::Result<BoxStream<'static, Result<Vec<LogLine>, ExecutorError>>> {
    let reader = on_disk(move || Reader::open(files, query)).await?;
    let lines = stream::try_unfold(reader, |mut reader| async move {
        loop {
            let (reading, back) = on_disk(move || Ok((reader.read()?, reader))).await.map_err(super::broken)?;
            reader = back;
            match reading {
                Reading::Lines(lines) => return Ok(Some((lines, reader))),
                Reading::Nothing => tokio::time::sleep(LOOK).await,
                Reading::End => return Ok(None),
            }
        }
    });
    Ok(lines.boxed())
}

/// Runs a disk operation where it blocks no other task.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// The result of a read.
enum Reading {
    Lines(Vec<LogLine>),
    /// There may be more later.
    Nothing,
    End,
}

/// The position of a reader.
struct Reader {
    files: TaskFiles,
    query: LogQuery,
    /// The files still to be read, oldest first.
    parts: VecDeque<Part>,
    lines: Lines,
    /// Lines to skip, so that only the last ones are returned.
    skip: u64,
    finished: bool,
}

impl Reader {
    fn open(files: TaskFiles, query: LogQuery) -> io::Result<Self> {
        let mut reader =
            Self { query, parts: VecDeque::new(), lines: Lines::default(), skip: 0, finished: false, files };
        reader.parts = reader.present()?;
        if let Some(tail) = query.tail {
            reader.skip = reader.count()?.saturating_sub(tail);
        }
        Ok(reader)
    }

    /// The existing files, with their current lengths.
    fn present(&self) -> io::Result<VecDeque<Part>> {
        let path = self.files.output();
        // In this order, a file that is rotated in between is seen twice rather than missed.
        let newest = Part::open(&path)?;
        let older = Part::open(&previous(&path))?.filter(|older| newest.as_ref().is_none_or(|of| of.id != older.id));
        Ok(older.into_iter().chain(newest).collect())
    }

    /// The number of existing lines that match the query.
    fn count(&self) -> io::Result<u64> {
        let (mut parts, mut lines, mut count) = (self.present()?, Lines::default(), 0);
        let mut whole = Vec::new();
        while let Some(part) = parts.front_mut() {
            if !part.piece(true, |head, bytes| lines.take(head.stream, head.at, bytes, &mut whole))? {
                parts.pop_front();
            }
            count += whole.drain(..).filter(|line| self.query.wants(line.at)).count() as u64;
        }
        lines.finish(&mut whole);
        Ok(count + whole.into_iter().filter(|line| self.query.wants(line.at)).count() as u64)
    }

    fn read(&mut self) -> io::Result<Reading> {
        if self.finished {
            return Ok(Reading::End);
        }
        // Checked before reading the files, so that all output written before the exit is read.
        let over = !self.query.follow || self.is_finished()?;
        let (mut whole, mut more) = (Vec::new(), true);
        while whole.is_empty() && more {
            more = self.page(&mut whole)?;
            if !more && over {
                self.lines.finish(&mut whole);
                self.finished = true;
            }
            self.select(&mut whole);
        }
        Ok(match (whole.is_empty(), self.finished) {
            (false, _) => Reading::Lines(whole),
            (true, true) => Reading::End,
            (true, false) => Reading::Nothing,
        })
    }

    /// Reads some of the available output. Returns whether there may be more.
    fn page(&mut self, whole: &mut Vec<LogLine>) -> io::Result<bool> {
        let mut bytes = 0;
        while bytes < READ_BYTES {
            let Some(part) = self.parts.front_mut() else { return self.next_file(None) };
            let bounded = !self.query.follow;
            let lines = &mut self.lines;
            let read = part.piece(bounded, |head, piece| {
                bytes += piece.len();
                lines.take(head.stream, head.at, piece, whole);
            })?;
            let last = part.id;
            if !read && self.parts.len() > 1 {
                self.parts.pop_front();
            } else if !read {
                return self.next_file(Some(last));
            }
        }
        Ok(true)
    }

    /// Continues with the next file if the current one was rotated. Returns whether it was.
    fn next_file(&mut self, last: Option<(u64, u64)>) -> io::Result<bool> {
        if !self.query.follow {
            return Ok(false);
        }
        let next: VecDeque<Part> = self.present()?;
        let known = next.iter().position(|part| Some(part.id) == last);
        let mut next: VecDeque<Part> = next.into_iter().skip(known.map_or(0, |known| known + 1)).collect();
        if next.is_empty() {
            return Ok(false);
        }
        // Output may have been written to it after it was read to its end.
        if let Some(last) = self.parts.pop_back() {
            next.push_front(last);
        }
        self.parts = next;
        Ok(true)
    }

    /// Keeps only the lines that match the query.
    fn select(&mut self, lines: &mut Vec<LogLine>) {
        lines.retain(|line| self.query.wants(line.at));
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(lines.len());
        lines.drain(..skipped);
        self.skip -= skipped as u64;
    }

    /// Whether no more output, or none that matches the query, can follow.
    fn is_finished(&self) -> io::Result<bool> {
        if self.query.until.is_some_and(|until| until < clock::now()) {
            return Ok(true);
        }
        Ok(match self.files.started()? {
            Some(started) => !started.supervisor.is_alive(),
            None => self.files.is_stopped() || self.files.record()?.is_none(),
        })
    }
}

/// One of the files.
struct Part {
    file: File,
    /// Identifies the file, even when it is renamed.
    id: (u64, u64),
    /// Its length when it was opened.
    end: u64,
    /// The offset up to which it was read.
    offset: u64,
    /// Bytes that were read but not yet consumed.
    buffer: Vec<u8>,
    taken: usize,
}

impl Part {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let about = file.metadata()?;
        let (id, end) = ((about.dev(), about.ino()), about.len());
        Ok(Some(Self { file, id, end, offset: 0, buffer: Vec::new(), taken: 0 }))
    }

    /// Takes the next piece. Returns whether there was a complete one. `bounded`: only output present when the file was opened.
    fn piece(&mut self, bounded: bool, take: impl FnOnce(Head, &[u8])) -> io::Result<bool> {
        let Some(head) = self.peek(Head::BYTES, bounded)?.and_then(|bytes| bytes.first_chunk().copied()) else {
            return Ok(false);
        };
        let Some(head) = Head::decode(&head) else {
            return Err(io::Error::new(ErrorKind::InvalidData, "the file of the task's output is damaged"));
        };
        let Some(bytes) = self.peek(Head::BYTES + head.bytes, bounded)? else { return Ok(false) };
        take(head, &bytes[Head::BYTES..]);
        self.taken += Head::BYTES + head.bytes;
        Ok(true)
    }

    /// The next bytes, exactly this many; `None` if there are fewer.
    fn peek(&mut self, bytes: usize, bounded: bool) -> io::Result<Option<&[u8]>> {
        if self.buffer.len() - self.taken < bytes {
            self.buffer.drain(..self.taken);
            self.taken = 0;
            self.fill(bytes, bounded)?;
        }
        Ok(self.buffer[self.taken..].get(..bytes))
    }

    fn fill(&mut self, bytes: usize, bounded: bool) -> io::Result<()> {
        while self.buffer.len() < bytes {
            let left = if bounded { self.end.saturating_sub(self.offset) } else { u64::MAX };
            let room = READ_BYTES.min(usize::try_from(left).unwrap_or(usize::MAX));
            let start = self.buffer.len();
            self.buffer.resize(start + room, 0);
            let read = self.file.read_at(&mut self.buffer[start..], self.offset);
            self.buffer.truncate(start + read.as_ref().copied().unwrap_or_default());
            match read {
                Ok(0) => return Ok(()),
                Ok(read) => self.offset += read as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wire::v1::LogStream;

    use super::super::output::Output;
    use super::*;

    fn files() -> (tempfile::TempDir, TaskFiles) {
        let dir = tempfile::tempdir().expect("a directory");
        let files = TaskFiles::new(dir.path().to_owned());
        (dir, files)
    }

    fn print(output: &Output, numbers: std::ops::Range<u32>) {
        for number in numbers {
            output.keep(LogStream::Stdout, format!("line {number}\n").as_bytes()).expect("kept");
        }
    }

    /// All line numbers that a reader returns until it has no more.
    fn read(reader: &mut Reader) -> Vec<u32> {
        let mut numbers = Vec::new();
        while let Reading::Lines(lines) = reader.read().expect("read") {
            let number =
                |line: &LogLine| std::str::from_utf8(&line.data).ok()?.strip_prefix("line ")?.parse::<u32>().ok();
            numbers.extend(lines.iter().map(|line| number(line).expect("a line of the test")));
        }
        numbers
    }

    #[test]
    fn the_last_lines_are_counted_over_both_files() {
        let (_dir, files) = files();
        let output = Output::bounded(&files.output(), 200).expect("files");
        print(&output, 0..15);
        assert!(previous(&files.output()).exists(), "the test is about two files");
        let all = read(&mut Reader::open(files.clone(), LogQuery::default()).expect("opened"));
        assert!(all.len() > 3 && all.last() == Some(&14) && all.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        for tail in [0, 1, 3, all.len(), all.len() + 5] {
            let query = LogQuery { tail: Some(tail as u64), ..LogQuery::default() };
            let numbers = read(&mut Reader::open(files.clone(), query).expect("opened"));
            assert_eq!(numbers, all[all.len().saturating_sub(tail)..], "the last {tail}");
        }
    }

    #[test]
    fn who_follows_goes_on_where_a_file_is_set_aside_and_misses_nothing() {
        let (_dir, files) = files();
        let output = Output::bounded(&files.output(), 300).expect("files");
        files
            .create(&super::super::files::Record {
                cluster: events::ClusterId::default(),
                node: events::NodeId::default(),
                name: "web.1".to_owned(),
                image: String::new(),
            })
            .expect("a record");
        print(&output, 0..3);
        let query = LogQuery { follow: true, tail: Some(2), ..LogQuery::default() };
        let mut reader = Reader::open(files.clone(), query).expect("opened");
        let mut numbers = read(&mut reader);
        for begin in (3..60).step_by(7) {
            print(&output, begin..begin + 7);
            numbers.extend(read(&mut reader));
        }
        assert_eq!(numbers, (1..66).collect::<Vec<_>>());
        files.mark_stopped().expect("a mark");
        assert!(matches!(reader.read().expect("read"), Reading::End));
    }

    #[test]
    fn only_lines_of_the_time_that_is_asked_for_come() {
        let (_dir, files) = files();
        let output = Output::create(&files.output()).expect("files");
        print(&output, 0..2);
        let between = clock::now();
        print(&output, 2..4);
        for (since, until, expected) in [
            (None, Some(between), vec![0, 1]),
            (Some(between), None, vec![2, 3]),
            (Some(between), Some(between), vec![]),
        ] {
            let query = LogQuery { since, until, ..LogQuery::default() };
            assert_eq!(read(&mut Reader::open(files.clone(), query).expect("opened")), expected);
        }
        let query = LogQuery { until: Some(between), tail: Some(1), ..LogQuery::default() };
        assert_eq!(read(&mut Reader::open(files, query).expect("opened")), [1]);
    }
}
