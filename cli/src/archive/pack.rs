//! Packs local files into an archive.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header, HeaderMode};

/// The source of an archive.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its path.
    pub path: PathBuf,
    /// Its name in the archive; `None` if it is a directory of which only the contents are packed.
    pub name: Option<OsString>,
    /// Whether files keep their owner; otherwise they belong to root.
    pub keep_owner: bool,
}

/// Packs a file, or a directory with its contents, and returns the size of the files in bytes. Links are packed as links.
///
/// # Errors
/// When a file cannot be read, a file changes meanwhile, or the reader of the archive is gone.
pub fn pack(source: &Source, archive: impl Write) -> io::Result<u64> {
    let mut builder = Builder::new(archive);
    let root = source.name.as_ref().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let (mut left, mut bytes) = (vec![(source.path.clone(), root)], 0);
    while let Some((path, name)) = left.pop() {
        let fail = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let metadata = fs::symlink_metadata(&path).map_err(fail)?;
        if metadata.is_dir() {
            let mut below = Vec::new();
            for child in fs::read_dir(&path).map_err(fail)? {
                let child = child.map_err(fail)?;
                below.push((child.path(), name.join(child.file_name())));
            }
            // The stack pops its last item first.
            below.sort_by(|one, other| other.cmp(one));
            left.append(&mut below);
        }
        bytes += append(&mut builder, &path, &name, &metadata, source.keep_owner).map_err(fail)?;
    }
    builder.into_inner()?.flush()?;
    Ok(bytes)
}

fn append(
    builder: &mut Builder<impl Write>,
    path: &Path,
    name: &Path,
    metadata: &Metadata,
    keep_owner: bool,
) -> io::Result<u64> {
    let kind = metadata.file_type();
    // A socket is of no use elsewhere.
    if kind.is_socket() {
        return Ok(0);
    }
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(metadata, HeaderMode::Complete);
    if !keep_owner {
        header.set_uid(0);
        header.set_gid(0);
    }
    if kind.is_symlink() {
        header.set_size(0);
        builder.append_link(&mut header, name, fs::read_link(path)?)?;
    } else if kind.is_file() {
        let file = ExactLength { file: File::open(path)?, left: metadata.len() };
        header.set_size(metadata.len());
        builder.append_data(&mut header, name, file)?;
        return Ok(metadata.len());
    } else if kind.is_dir() {
        header.set_size(0);
        builder.append_data(&mut header, name.join(""), io::empty())?;
    } else {
        header.set_size(0);
        if !kind.is_fifo() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "devices are not copied"));
        }
        header.set_entry_type(EntryType::Fifo);
        builder.append_data(&mut header, name, io::empty())?;
    }
    Ok(0)
}

/// Reads exactly as many bytes of a file as its header states, although the file may grow or shrink.
struct ExactLength {
    file: File,
    left: u64,
}

impl Read for ExactLength {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&mut self.file).take(self.left).read(buffer)?;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it shrank while it was copied"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
