//! Archives as a malicious node would make them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use tar::{Builder, EntryType, Header};

use super::*;
use crate::archive::{Source, pack};

const LIMITS: Limits = Limits { bytes: 1 << 20, keep_owner: false };

struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Writes names unchecked: the crate's own builder refuses some of these.
    fn entry(mut self, kind: EntryType, path: &str, link: &str, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        let field = header.as_old_mut();
        field.name[..path.len()].copy_from_slice(path.as_bytes());
        field.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).expect("appended");
        self
    }

    fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", data)
    }

    fn unpack(self, below: &Path, root: &Root) -> io::Result<Unpacked> {
        unpack(&self.0.into_inner().expect("complete")[..], below, root, LIMITS)
    }
}

fn named(name: &str) -> Root {
    Root::Named(name.into())
}

/// A directory in which nothing but `in` may change.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("in")).expect("made");
        fs::write(dir.path().join("outside"), "untouched").expect("written");
        Self { dir }
    }

    fn below(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    fn assert_outside_is_untouched(&self, case: &str) {
        let text = fs::read_to_string(self.dir.path().join("outside")).expect("there");
        assert_eq!(text, "untouched", "{case}");
        let count = fs::read_dir(self.dir.path()).expect("there").count();
        assert_eq!(count, 2, "{case}");
    }
}

#[test]
fn nothing_is_made_outside_whatever_an_archive_says() {
    let link = EntryType::Symlink;
    let rows: [(&str, Archive, Option<&str>); 8] = [
        ("up", Archive::new().file("../outside", b"x"), Some("leads elsewhere")),
        ("up from below", Archive::new().file("a/../../outside", b"x"), Some("leads elsewhere")),
        ("from the root", Archive::new().file("/outside", b"x"), None),
        (
            "through a link to a directory",
            Archive::new().entry(link, "a/l", "../..", b"").file("a/l/outside", b"x"),
            Some("l is in the way: it is not a directory"),
        ),
        ("through a link to a file", Archive::new().entry(link, "a/l", "../../outside", b"").file("a/l", b"x"), None),
        (
            "a directory in the place of a link",
            Archive::new().entry(link, "a/l", "../..", b"").entry(EntryType::Directory, "a/l", "", b""),
            Some("l is in the way: it is not a directory"),
        ),
        (
            "a name of a file outside",
            Archive::new().entry(EntryType::Link, "a/h", "../outside", b""),
            Some("elsewhere"),
        ),
        (
            "through a name of a link",
            Archive::new()
                .entry(link, "a/l", "../../outside", b"")
                .entry(EntryType::Link, "a/h", "a/l", b"")
                .file("a/h", b"x"),
            None,
        ),
    ];
    for (case, archive, refusal) in rows {
        let place = Place::new();
        let unpacked = archive.unpack(&place.below(), &named("a"));
        match (unpacked, refusal) {
            (Ok(_), None) => {}
            (Err(error), Some(words)) => assert!(error.to_string().contains(words), "{case}: {error}"),
            (unpacked, _) => panic!("{case}: {unpacked:?}"),
        }
        place.assert_outside_is_untouched(case);
    }
}

#[test]
fn links_that_are_there_are_not_followed_either() {
    let place = Place::new();
    symlink("../outside", place.below().join("file")).expect("linked");
    symlink("..", place.below().join("dir")).expect("linked");
    Archive::new().file("x", b"new").unpack(&place.below(), &named("file")).expect("in the place of the link");
    assert!(!place.below().join("file").is_symlink());
    let refused = Archive::new().file("x/outside", b"new").unpack(&place.below(), &named("dir"));
    assert!(refused.expect_err("a link").to_string().contains("dir is in the way"));
    place.assert_outside_is_untouched("links");
}

#[test]
fn one_thing_that_is_asked_for_is_one_thing_that_is_made() {
    let place = Place::new();
    let archive = Archive::new().file("hosts", b"1").file(".bashrc", b"2").file("dir/.profile", b"3");
    assert!(archive.unpack(&place.below(), &named("hosts")).is_err(), "a file has nothing below it");
    let names: Vec<_> =
        fs::read_dir(place.below()).expect("there").map(|entry| entry.expect("read").file_name()).collect();
    assert_eq!(names, ["hosts"]);
}

#[test]
fn what_is_too_much_or_damaged_is_refused() {
    let large = vec![b'x'; 600 << 10];
    let archive = Archive::new().file("a", &large).file("b", &large);
    let place = Place::new();
    let error = archive.unpack(&place.below(), &Root::Contents).expect_err("too much").to_string();
    assert_eq!(error, "b: the files take more than 1048576 bytes");
    assert!(place.below().join("a").exists() && !place.below().join("b").exists());

    let whole = Archive::new().file("a", b"text").0.into_inner().expect("complete");
    let mut rows: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "ends early"),
        ("half a header", whole[..300].to_vec(), "ends early"),
        ("half a file", whole[..514].to_vec(), "ends early"),
        ("no end", whole[..1024].to_vec(), "ends early"),
    ];
    let mut flipped = whole.clone();
    flipped[3] ^= 1;
    rows.push(("another name", flipped, "another sum"));
    // A name whose declared length is that of a whole disk.
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    rows.push(("a long name", header.as_bytes().to_vec(), "a name takes 1099511627776 bytes"));
    header.set_entry_type(EntryType::Regular);
    header.set_size(u64::MAX);
    header.set_cksum();
    rows.push(("a large file", header.as_bytes().to_vec(), "too large"));
    for (case, bytes, words) in rows {
        let place = Place::new();
        let error = unpack(&bytes[..], &place.below(), &Root::Contents, LIMITS).expect_err(case).to_string();
        assert!(error.contains(words), "{case}: {error}");
        // Only complete files exist.
        let whole = usize::from(case == "no end");
        assert_eq!(fs::read_dir(place.below()).expect("there").count(), whole, "{case}");
    }
}

#[test]
fn devices_are_left_out_and_nothing_runs_as_somebody_else() {
    let place = Place::new();
    let archive = Archive::new().entry(EntryType::Block, "disk", "", b"").entry(EntryType::Fifo, "pipe", "", b"");
    let unpacked = archive.file("tool", b"#!").unpack(&place.below(), &Root::Contents).expect("unpacked");
    assert_eq!((unpacked.left_out, unpacked.bytes), (vec!["disk".to_owned(), "pipe".to_owned()], 2));
    let mode = fs::metadata(place.below().join("tool")).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn what_is_packed_comes_out_as_it_was() {
    let (from, place) = (tempfile::tempdir().expect("a directory"), Place::new());
    let long = "n".repeat(200);
    fs::create_dir_all(from.path().join("tree/deep/er")).expect("made");
    fs::write(from.path().join("tree/deep").join(&long), "long").expect("written");
    fs::write(from.path().join("tree/empty"), "").expect("written");
    symlink("deep/er", from.path().join("tree/link")).expect("linked");
    fs::set_permissions(from.path().join("tree/deep"), fs::Permissions::from_mode(0o500)).expect("set");
    for (name, root, below) in [(Some("tree"), named("copy"), "copy"), (None, Root::Contents, "")] {
        let source = Source { path: from.path().join("tree"), name: name.map(OsString::from), keep_owner: false };
        let mut archive = Vec::new();
        assert_eq!(pack(&source, &mut archive).expect("packed"), 4);
        let unpacked = unpack(&archive[..], &place.below(), &root, LIMITS).expect("unpacked");
        assert_eq!(unpacked, Unpacked { bytes: 4, left_out: Vec::new() });
        let copy = place.below().join(below);
        assert_eq!(fs::read_to_string(copy.join("deep").join(&long)).expect("there"), "long");
        assert_eq!(fs::read_link(copy.join("link")).expect("a link"), Path::new("deep/er"));
        let [one, other] =
            [copy.join("deep"), from.path().join("tree/deep")].map(|path| fs::metadata(path).expect("there"));
        assert_eq!((one.mode(), one.mtime()), (other.mode(), other.mtime()));
    }
}
