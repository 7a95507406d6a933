//! Events as lines of a file, in the directory set by the daemon's flag.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Appends lines to a file, durably. Only a regular file with a bare name is written, and no link is followed.
///
/// # Errors
/// When the file cannot be written; then its length is unchanged.
pub fn append(dir: &Path, name: &str, lines: &[String]) -> Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(flags.bits().cast_signed());
    let mut file = options.open(dir.join(name))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(Error::new(ErrorKind::InvalidInput, "it is not a plain file with one name"));
    }
    let length = metadata.len();
    let mut text = String::new();
    if is_cut_short(&mut file, length)? {
        text.push('\n');
    }
    lines.iter().for_each(|line| text.extend([&events::escape::json(line), "\n"]));
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
    if written.is_err() {
        // Readers find whole lines, or one truncated at the end.
        let _ = file.set_len(length);
    }
    written
}

/// Whether the last line is incomplete: the machine went down while it was written.
fn is_cut_short(file: &mut File, length: u64) -> Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut byte)?;
    Ok(byte != [b'\n'])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn lines_are_appended_after_a_whole_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let lines = ["one".to_owned(), "two\u{202e}".to_owned()];
        append(dir.path(), "a", &lines).expect("written");
        append(dir.path(), "a", &lines[..1]).expect("written");
        let path = dir.path().join("a");
        let read = || std::fs::read_to_string(&path).expect("there");
        assert_eq!(read(), "one\ntwo\\u202e\none\n");
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        std::fs::write(&path, "one\ntw").expect("cut short");
        append(dir.path(), "a", &lines[..1]).expect("written");
        assert_eq!(read(), "one\ntw\none\n");
    }

    #[test]
    fn nothing_else_is_written_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let (kept, at) = (dir.path().join("kept"), |name: &str| dir.path().join(name));
        std::fs::write(&kept, "kept").expect("written");
        symlink(&kept, at("link")).expect("a link");
        symlink(at("nowhere"), at("dangling")).expect("a link");
        std::fs::hard_link(&kept, at("hard")).expect("a link");
        std::fs::create_dir(at("directory")).expect("a directory");
        let fifo = std::process::Command::new("mkfifo").arg(at("fifo")).status().expect("run");
        assert!(fifo.success());
        for name in ["link", "dangling", "hard", "directory", "fifo"] {
            assert!(append(dir.path(), name, &["line".to_owned()]).is_err(), "{name}");
        }
        assert_eq!(std::fs::read_to_string(&kept).expect("there"), "kept");
        assert!(!at("nowhere").exists());
        assert!(append(&at("missing"), "a", &["line".to_owned()]).is_err());
    }
}
