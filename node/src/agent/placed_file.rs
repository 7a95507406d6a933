//! A config or a secret as a file of this machine.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use events::spec::FileReference;

/// A file that is not whole yet is for its writer alone.
const UNFINISHED_MODE: u32 = 0o600;

/// Writes what is in it, with its owner and its mode, also once more. It is whole before it has its name: until then it is
/// `unfinished`.
pub(super) fn write(reference: &dyn FileReference, data: &[u8], path: &Path, unfinished: &Path) -> io::Result<()> {
    unless_absent(fs::remove_file(unfinished))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(UNFINISHED_MODE).open(unfinished)?;
    file.write_all(data)?;
    if let Some((uid, gid)) =
        reference.owner().filter(|_| reference.has_owner() || rustix::process::geteuid().is_root())
    {
        chown(unfinished, Some(uid), Some(gid))?;
    }
    fs::set_permissions(unfinished, Permissions::from_mode(reference.mode()))?;
    fs::rename(unfinished, path)
}

/// Refuses what the host's file system cannot be given, below the directory that a variable names.
pub(super) fn judge(reference: &dyn FileReference, variable: &str) -> Result<(), String> {
    let (noun, name, path) = (reference.noun(), reference.name(), reference.path());
    if !reference.needs_container() {
        return Ok(());
    }
    if reference.given_path().starts_with('/') {
        let relative = path.trim_start_matches('/');
        return Err(format!(
            "{noun} {name} has the absolute target {path}, which the process executor does not write to: give it as \
             {relative}, below the directory that ${variable} names"
        ));
    }
    Err(format!("{noun} {name} has the mode {:o}, and on a host may have at most 777", reference.mode()))
}

/// What was not there to be removed is as good as removed.
pub(super) fn unless_absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
