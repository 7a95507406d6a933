//! Reads the entries of an archive one by one. The `tar` crate's own reader keeps names of any length in memory.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use tar::{EntryType, Header, PaxExtensions};

/// All sizes in an archive are multiples of this.
const BLOCK_BYTES: u64 = 512;
/// Maximum length of a long name, or of all extended attributes of an entry, in bytes.
const ATTRIBUTES_BYTES_MAX: u64 = 64 << 10;

/// The kind of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory.
    Directory,
    /// A file with its size in bytes.
    File(u64),
    /// A symbolic link with its target.
    Symlink(PathBuf),
    /// A hard link to an earlier entry.
    HardLink(PathBuf),
    /// A device, a pipe or another entry without data.
    Special,
}

/// The header of an entry, without its data.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    /// User id and group id.
    pub(super) owner: (u64, u64),
    /// Unix time in seconds.
    pub(super) modified: u64,
}

/// Reads an archive.
pub(super) struct Entries<R> {
    reader: R,
    /// Unread bytes of the current entry, and the padding of its last block.
    data: u64,
    padding: u64,
}

/// Extension headers, which precede the entry that they belong to.
#[derive(Default)]
struct Attributes {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, data: 0, padding: 0 }
    }

    /// The next entry, or `None` at the end of the archive. Unread data of the entry before is skipped.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut attributes = Attributes::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            self.begin(header.entry_size()?)?;
            match header.entry_type() {
                EntryType::GNULongName => attributes.path = Some(self.name()?),
                EntryType::GNULongLink => attributes.link = Some(self.name()?),
                EntryType::XHeader => attributes.take(&self.short()?)?,
                // It records when and by which program the archive was made.
                EntryType::XGlobalHeader => {}
                kind => return self.entry(kind, &header, attributes).map(Some),
            }
        }
    }

    /// The unread data of the current entry.
    pub(super) fn data(&mut self) -> impl Read {
        Data(self)
    }

    fn entry(&mut self, kind: EntryType, header: &Header, attributes: Attributes) -> io::Result<Entry> {
        if let Some(size) = attributes.size {
            self.begin(size)?;
        }
        let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
        let link = || {
            let named = attributes.link.clone().or_else(|| header.link_name_bytes().map(|bytes| bytes.into_owned()));
            named.map(path).ok_or_else(|| damaged("a link has no target"))
        };
        let kind = match kind {
            EntryType::Directory => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File(self.data),
            EntryType::Symlink => Kind::Symlink(link()?),
            EntryType::Link => Kind::HardLink(link()?),
            EntryType::Char | EntryType::Block | EntryType::Fifo => Kind::Special,
            _ => return Err(damaged("an entry has an unknown type")),
        };
        Ok(Entry {
            path: path(attributes.path.unwrap_or_else(|| header.path_bytes().into_owned())),
            kind,
            mode: header.mode()?,
            owner: (header.uid()?, header.gid()?),
            modified: header.mtime()?,
        })
    }

    /// The next header, or `None` at the end marker of the archive.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let read = self.reader.read_exact(header.as_mut_bytes());
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged("it ends early"),
            _ => error,
        })?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The checksum field itself counts as spaces.
        let (before, after) = (bytes.iter().take(148), bytes.iter().skip(156));
        let sum = before.chain(after).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
        if header.cksum()? != sum {
            return Err(damaged("a header has another sum than it says"));
        }
        Ok(Some(header))
    }

    fn begin(&mut self, size: u64) -> io::Result<()> {
        let whole = size.checked_next_multiple_of(BLOCK_BYTES).ok_or_else(|| damaged("an entry is too large"))?;
        (self.data, self.padding) = (size, whole - size);
        Ok(())
    }

    fn skip(&mut self) -> io::Result<()> {
        let rest = self.data + self.padding;
        let skipped = io::copy(&mut (&mut self.reader).take(rest), &mut io::sink())?;
        (self.data, self.padding) = (0, 0);
        if skipped < rest { Err(damaged("it ends early")) } else { Ok(()) }
    }

    /// All data of the current entry, whose size is bounded.
    fn short(&mut self) -> io::Result<Vec<u8>> {
        if self.data > ATTRIBUTES_BYTES_MAX {
            return Err(damaged(&format!("a name takes {} bytes", self.data)));
        }
        let mut bytes = Vec::new();
        self.data().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A long name; it ends with a zero byte.
    fn name(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = self.short()?;
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            bytes.truncate(end);
        }
        Ok(bytes)
    }
}

impl Attributes {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        for attribute in PaxExtensions::new(bytes) {
            let attribute = attribute?;
            match attribute.key_bytes() {
                b"path" => self.path = Some(attribute.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(attribute.value_bytes().to_vec()),
                b"size" => {
                    let size = attribute.value().ok().and_then(|size| size.parse().ok());
                    self.size = Some(size.ok_or_else(|| damaged("a size is not a number"))?);
                }
                key if key.starts_with(b"GNU.sparse.") => return Err(damaged("it has sparse files")),
                _ => {}
            }
        }
        Ok(())
    }
}

struct Data<'a, R>(&'a mut Entries<R>);

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Entries { reader, data, .. } = &mut *self.0;
        let count = reader.take(*data).read(buffer)?;
        if count == 0 && *data > 0 && !buffer.is_empty() {
            return Err(damaged("it ends early"));
        }
        *data -= count as u64;
        Ok(count)
    }
}

pub(super) fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive cannot be used: {why}"))
}
