//! Configs that are copied into a container before it starts, as one tar archive that the engine unpacks into the root
//! directory.

use bytes::Bytes;
use events::ConfigReference;
use events::spec::FileReference;

use super::config_mounts::is_mounted;
use crate::agent::executor::Workload;

/// The block size of a tar archive.
const BLOCK_BYTES: usize = 512;
/// Longest path that fits in a header; a longer one precedes it as a separate entry, as in GNU tar.
const NAME_BYTES: usize = 100;
const FILE: u8 = b'0';
const LONG_NAME: u8 = b'L';
/// Padding of the last block of an entry.
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
/// The end marker of an archive.
const END: Bytes = Bytes::from_static(&[0; 2 * BLOCK_BYTES]);

/// The configs of a workload that are not mounted, as an archive in pieces, so that all tasks with a config share its data.
/// `None` if there are none.
pub(super) fn archive(workload: &Workload) -> Option<Vec<Bytes>> {
    let mut archive = Vec::new();
    let copied = |of: &(&ConfigReference, &Bytes)| !is_mounted(of.0, workload.container());
    for (reference, data) in workload.config_files().filter(copied) {
        let path = reference.path();
        // References with an invalid owner were refused with their spec.
        let owner = reference.owner().unwrap_or_default();
        append(&mut archive, path.trim_start_matches('/').as_bytes(), reference.mode(), owner, data);
    }
    if archive.is_empty() {
        return None;
    }
    archive.push(END);
    Some(archive)
}

fn append(archive: &mut Vec<Bytes>, name: &[u8], mode: u32, owner: (u32, u32), data: &Bytes) {
    if name.len() > NAME_BYTES {
        entry(archive, b"././@LongLink", LONG_NAME, 0, (0, 0), &[name, b"\0"].concat().into());
    }
    entry(archive, &name[..name.len().min(NAME_BYTES)], FILE, mode, owner, data);
}

fn entry(archive: &mut Vec<Bytes>, name: &[u8], kind: u8, mode: u32, (uid, gid): (u32, u32), data: &Bytes) {
    let mut header = [0; BLOCK_BYTES];
    header[..name.len()].copy_from_slice(name);
    number(&mut header[100..108], u64::from(mode));
    number(&mut header[108..116], u64::from(uid));
    number(&mut header[116..124], u64::from(gid));
    number(&mut header[124..136], data.len() as u64);
    number(&mut header[136..148], 0);
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar  \0");
    // The checksum is computed with blanks in its own field.
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    number(&mut header[148..155], sum);
    let padding = data.len().next_multiple_of(BLOCK_BYTES) - data.len();
    archive.extend([Bytes::copy_from_slice(&header), data.clone(), Bytes::from_static(&ZEROS[..padding])]);
}

/// A number as NUL-terminated octal digits, or as base-256 marked by the first bit if it is too large.
fn number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let octal = format!("{value:0digits$o}");
    if octal.len() == digits {
        field[..digits].copy_from_slice(octal.as_bytes());
        return;
    }
    let bytes = value.to_be_bytes();
    let start = field.len().saturating_sub(bytes.len());
    let length = field.len() - start;
    field[start..].copy_from_slice(&bytes[bytes.len() - length..]);
    field[0] |= 0x80;
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// The listing of an archive by the system's tar.
    fn listed(archive: &[u8]) -> String {
        let mut tar = Command::new("tar");
        tar.args(["--numeric-owner", "-tvf", "-"]).env("TZ", "UTC").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut tar = tar.spawn().expect("tar is installed");
        tar.stdin.take().expect("piped").write_all(archive).expect("it reads");
        let listed = tar.wait_with_output().expect("it ends");
        assert!(listed.status.success(), "it is an archive");
        String::from_utf8(listed.stdout).expect("text")
    }

    #[test]
    fn an_archive_is_what_tar_reads() {
        let mut archive = Vec::new();
        let long = format!("etc/{}/app.conf", "d".repeat(200));
        append(&mut archive, b"web.conf", 0o444, (0, 0), &"hello".into());
        let data = Bytes::from(vec![7; 1_500]);
        append(&mut archive, long.as_bytes(), 0o640, (1_000, u32::MAX), &data);
        assert!(archive.iter().any(|piece| piece.as_ptr() == data.as_ptr()), "the data is not copied");
        archive.push(END);
        let archive = archive.concat();
        assert_eq!(archive.len() % BLOCK_BYTES, 0);
        let listed = listed(&archive);
        let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
        let shown = |line: &Vec<&str>| format!("{} {} {} {}", line[0], line[1], line[2], line[line.len() - 1]);
        let shown: Vec<String> = lines.iter().map(shown).collect();
        assert_eq!(shown, ["-r--r--r-- 0/0 5 web.conf".to_owned(), format!("-rw-r----- 1000/4294967295 1500 {long}")]);
    }
}
