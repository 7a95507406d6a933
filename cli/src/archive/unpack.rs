//! Unpacks an archive into a directory.
//!
//! Each directory on the path is opened relative to its parent without following links. Each file is written under a temporary
//! name and then renamed: an existing file is neither written through nor left half overwritten.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown, futimens, linkat, mkdirat,
    openat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::entries::{Entries, Entry, Kind, damaged};

/// Maximum number of entries.
const ENTRIES_MAX: u64 = 1_000_000;
/// Maximum depth of nested directories.
const DEPTH_MAX: usize = 256;
/// Permission bits that are kept: no setuid, setgid or sticky bit.
const MODE_MASK: u32 = 0o777;
const OPEN_DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Limits and options.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum size of all files, in bytes.
    pub bytes: u64,
    /// Whether files get the owner that the archive states.
    pub keep_owner: bool,
}

/// Where the contents of the archive go, below the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// The archive holds one file or directory, which gets this name instead of the archive's.
    Named(OsString),
    /// The archive holds the contents of a directory.
    Contents,
}

/// What was unpacked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Size of all files, in bytes.
    pub bytes: u64,
    /// Devices and pipes, which were skipped.
    pub left_out: Vec<String>,
}

/// Unpacks an archive into a directory.
///
/// # Errors
/// When the archive is damaged, points outside the directory or is too large, or a file cannot be created. What was created so
/// far stays.
pub fn unpack(archive: impl Read, below: &Path, root: &Root, limits: Limits) -> io::Result<Unpacked> {
    let base = openat(CWD, below, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut unpacking = Unpacking { base, root, limits, made: Vec::new(), done: Unpacked::default(), temporary: 0 };
    let (mut entries, mut count) = (Entries::new(archive), 0);
    while let Some(entry) = entries.next()? {
        count += 1;
        if count > ENTRIES_MAX {
            return Err(damaged(&format!("it has more than {ENTRIES_MAX} entries")));
        }
        unpacking.take(&entry, entries.data())?;
    }
    unpacking.finish()
}

struct Unpacking<'a> {
    base: OwnedFd,
    root: &'a Root,
    limits: Limits,
    /// Directories that were created. Their mode and time are set at the end, when their contents are complete.
    made: Vec<(Vec<OsString>, u32, u64)>,
    done: Unpacked,
    temporary: u64,
}

impl Unpacking<'_> {
    fn take(&mut self, entry: &Entry, data: impl Read) -> io::Result<()> {
        let parts = self.parts(&entry.path)?;
        // The directory itself exists already.
        let Some((name, way)) = parts.split_last() else { return Ok(()) };
        let keep_owner = self.limits.keep_owner;
        let taken = self.directory(way).and_then(|parent| match &entry.kind {
            Kind::Directory => self.make_directory(&parent, name, &parts, entry),
            Kind::File(size) => self.make_file(&parent, name, *size, data, entry),
            Kind::Symlink(to) => self.place(&parent, name, |temp_name| {
                symlinkat(to, &parent, temp_name)?;
                if keep_owner {
                    let (user, group) = owner(entry)?;
                    chownat(&parent, temp_name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
                }
                Ok(())
            }),
            Kind::HardLink(to) => {
                let of = self.parts(to)?;
                let (linked, way) = of.split_last().ok_or_else(|| damaged("a link has no target"))?;
                let from = self.directory(way)?;
                // Where a link is, the hard link refers to the link and not to its target.
                self.place(&parent, name, |temp_name| Ok(linkat(&from, linked, &parent, temp_name, AtFlags::empty())?))
            }
            Kind::Special => {
                self.done.left_out.push(entry.path.display().to_string());
                Ok(())
            }
        });
        taken.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", entry.path.display())))
    }

    /// The path of an entry below the destination, as a list of names.
    fn parts(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut parts = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => parts.push(name.to_owned()),
                Component::CurDir | Component::RootDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(damaged(&format!("{} leads elsewhere", path.display())));
                }
            }
        }
        if parts.len() > DEPTH_MAX {
            return Err(damaged(&format!("directories are more than {DEPTH_MAX} deep")));
        }
        if let Root::Named(name) = self.root {
            match parts.first_mut() {
                Some(first) => first.clone_from(name),
                None => parts.push(name.clone()),
            }
        }
        Ok(parts)
    }

    /// Opens the directory with this path. Missing parents are created, and no link is followed.
    fn directory(&self, way: &[OsString]) -> io::Result<OwnedFd> {
        let mut directory = openat(&self.base, ".", OPEN_DIRECTORY, Mode::empty())?;
        for name in way {
            let opened = match openat(&directory, name, OPEN_DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) => {
                    mkdirat(&directory, name, Mode::from(0o755))?;
                    openat(&directory, name, OPEN_DIRECTORY, Mode::empty())
                }
                opened => opened,
            };
            directory = opened.map_err(|error| explain_obstacle(name, error))?;
        }
        Ok(directory)
    }

    fn make_directory(&mut self, parent: &OwnedFd, name: &OsStr, parts: &[OsString], entry: &Entry) -> io::Result<()> {
        match mkdirat(parent, name, Mode::from(0o700)) {
            Ok(()) => {
                if self.limits.keep_owner {
                    let (user, group) = owner(entry)?;
                    chownat(parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
                }
                self.made.push((parts.to_vec(), entry.mode, entry.modified));
                Ok(())
            }
            Err(Errno::EXIST) => openat(parent, name, OPEN_DIRECTORY, Mode::empty())
                .map(drop)
                .map_err(|error| explain_obstacle(name, error)),
            Err(error) => Err(error.into()),
        }
    }

    fn make_file(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        size: u64,
        mut data: impl Read,
        entry: &Entry,
    ) -> io::Result<()> {
        self.done.bytes = self.done.bytes.saturating_add(size);
        if self.done.bytes > self.limits.bytes {
            let sentence = format!("the files take more than {} bytes", self.limits.bytes);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, sentence));
        }
        let keep_owner = self.limits.keep_owner;
        self.place(parent, name, |temp_name| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(parent, temp_name, flags, Mode::from(0o600))?);
            io::copy(&mut data, &mut file)?;
            if keep_owner {
                let (user, group) = owner(entry)?;
                fchown(&file, Some(user), Some(group))?;
            }
            set_attributes(&file, entry.mode, entry.modified)
        })
    }

    /// Creates a file under a temporary name and then renames it.
    fn place(&mut self, parent: &OwnedFd, name: &OsStr, make: impl FnOnce(&OsStr) -> io::Result<()>) -> io::Result<()> {
        self.temporary += 1;
        let temp_name = OsString::from(format!(".swarmctl-{}-{}", std::process::id(), self.temporary));
        let placed = make(&temp_name).and_then(|()| Ok(renameat(parent, &temp_name, parent, name)?));
        // Renaming one hard link of a file over another one does nothing and keeps both names.
        match unlinkat(parent, &temp_name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => placed,
            Err(error) => placed.and(Err(error.into())),
        }
    }

    /// Sets modes and times of directories, the deepest first: before this, files had to be created in them.
    fn finish(mut self) -> io::Result<Unpacked> {
        for (parts, mode, modified) in std::mem::take(&mut self.made).into_iter().rev() {
            let directory = self.directory(&parts)?;
            set_attributes(&directory, mode, modified)?;
        }
        Ok(self.done)
    }
}

fn set_attributes(of: impl AsFd, mode: u32, modified: u64) -> io::Result<()> {
    fchmod(&of, Mode::from(mode & MODE_MASK))?;
    let at = Timespec { tv_sec: i64::try_from(modified).unwrap_or_default(), tv_nsec: 0 };
    Ok(futimens(&of, &Timestamps { last_access: at, last_modification: at })?)
}

fn owner(entry: &Entry) -> io::Result<(Uid, Gid)> {
    let id =
        |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| damaged("there is no such owner"));
    Ok((Uid::from_raw(id(entry.owner.0)?), Gid::from_raw(id(entry.owner.1)?)))
}

fn explain_obstacle(name: &OsStr, error: Errno) -> io::Error {
    match error {
        Errno::LOOP | Errno::NOTDIR => {
            let sentence = format!("{} is in the way: it is not a directory", name.display());
            io::Error::new(io::ErrorKind::NotADirectory, sentence)
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests;
