//! Monitors the free space of the disk of a manager's log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use commands::space::{Level, Space};
use tokio_util::sync::CancellationToken;

/// Time between two readings. The log grows by some ten MiB per second at most, so the space left at the last threshold is not
/// used up in between.
const PERIOD: Duration = Duration::from_secs(2);

/// Monitors the disk of this directory until `shutdown`, passes each reading to `note`, and logs when the disk fills up. If the
/// disk cannot be read, `note` gets `None`.
pub async fn watch(dir: PathBuf, note: impl Fn(Option<Space>), shutdown: CancellationToken) {
    let mut level = Level::Ample;
    while !shutdown.is_cancelled() {
        let path = dir.clone();
        // A disk that hangs blocks no other task of this process.
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        match read.map_err(std::io::Error::other).and_then(std::convert::identity) {
            Ok(space) => {
                note(Some(space));
                level = report(level, space, &dir);
            }
            Err(error) => {
                tracing::debug!(%error, path = %dir.display(), "the free disk space cannot be read");
                note(None);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Logs a change of the level. Returns the new level.
fn report(before: Level, space: Space, dir: &Path) -> Level {
    let (now, free_mib, dir) = (space.level(), space.free_bytes / 1024 / 1024, dir.display());
    if now == before {
        return now;
    }
    match now {
        Level::Ample => tracing::info!(free_mib, path = %dir, "the disk has enough free space again"),
        Level::Low => {
            tracing::warn!(free_mib, path = %dir, "the disk is nearly full: free some space, or commands will be refused")
        }
        Level::Full => {
            tracing::error!(
                free_mib, path = %dir,
                "the disk is full: commands that add something are refused, unless a manager with room can lead"
            )
        }
    }
    now
}

/// Reads the free space of the disk of a directory.
///
/// # Errors
/// When it cannot be read.
pub fn read(dir: &Path) -> std::io::Result<Space> {
    let found = rustix::fs::statvfs(dir)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Space { free_bytes: bytes(found.f_bavail), total_bytes: bytes(found.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_a_size() {
        let space = read(Path::new("/proc/self/cwd")).expect("a reading");
        assert!(space.total_bytes > 0 && space.free_bytes <= space.total_bytes, "{space:?}");
        assert!(read(Path::new("/no/such/directory")).is_err());
    }
}
