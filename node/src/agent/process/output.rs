//! What a command prints, kept in two files of bounded size: the newest, and the part before it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Size at which a file is set aside; twice this is kept of a task. Docker's own default keeps everything, and fills disks.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Copies everything from `source` to the files at `path` and `path.1`, until its end.
///
/// # Errors
/// When a file cannot be written. The rest is then read and dropped, so that the command never waits for us.
pub(super) fn keep(mut source: impl Read, path: &Path) -> io::Result<()> {
    let kept = copy(&mut source, path, FILE_BYTES_MAX);
    if kept.is_err() {
        io::copy(&mut source, &mut io::sink())?;
    }
    kept
}

fn copy(source: &mut impl Read, path: &Path, bytes_max: u64) -> io::Result<()> {
    let mut previous = path.as_os_str().to_owned();
    previous.push(".1");
    let previous = PathBuf::from(previous);
    let mut file = File::create(path)?;
    let mut size = 0;
    let mut buffer = [0; 16 << 10];
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if size >= bytes_max {
            fs::rename(path, &previous)?;
            file = File::create(path)?;
            size = 0;
        }
        file.write_all(&buffer[..count])?;
        size += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_output_is_kept_and_the_oldest_dropped() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("output");
        let text: Vec<u8> = (0..100u32 << 10).map(|n| (n / 16_384) as u8).collect();
        copy(&mut text.as_slice(), &path, 32 << 10).expect("copied");
        let (old, new) = (fs::read(dir.path().join("output.1")).expect("old"), fs::read(&path).expect("new"));
        let kept = [old, new].concat();
        assert_eq!(kept, text[text.len() - kept.len()..]);
        assert!((32 << 10..=64 << 10).contains(&kept.len()), "{}", kept.len());
    }
}
