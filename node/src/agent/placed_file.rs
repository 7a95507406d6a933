//! A config or a secret as a file on this machine.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use events::spec::FileReference;

/// Only its writer can read an unfinished file.
const UNFINISHED_MODE: u32 = 0o600;

/// Writes a file with its owner and mode, replacing an existing one. It is written as `unfinished` and then renamed, so it is
/// never seen incomplete.
pub(super) fn write(reference: &dyn FileReference, data: &[u8], path: &Path, unfinished: &Path) -> io::Result<()> {
    ignore_not_found(fs::remove_file(unfinished))?;
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

/// Refuses targets that cannot be created on the host, below the directory that an environment variable names.
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

/// Treats "not found" as success when removing.
pub(super) fn ignore_not_found(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
