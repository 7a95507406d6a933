//! A config as a file of this machine.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use events::ConfigReference;

/// A file that is not whole yet is for its writer alone.
const UNFINISHED_MODE: u32 = 0o600;

/// Writes a config, with its owner and its mode, also once more. It is whole before it has its name: until then it is
/// `unfinished`.
pub(super) fn write(reference: &ConfigReference, data: &[u8], path: &Path, unfinished: &Path) -> io::Result<()> {
    unless_absent(fs::remove_file(unfinished))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(UNFINISHED_MODE).open(unfinished)?;
    file.write_all(data)?;
    let is_given = reference.file.as_ref().is_some_and(|file| !(file.uid.is_empty() && file.gid.is_empty()));
    if let Some((uid, gid)) = reference.owner().filter(|_| is_given || rustix::process::geteuid().is_root()) {
        chown(unfinished, Some(uid), Some(gid))?;
    }
    fs::set_permissions(unfinished, Permissions::from_mode(reference.mode()))?;
    fs::rename(unfinished, path)
}

/// What was not there to be removed is as good as removed.
pub(super) fn unless_absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
