//! A machine's own disk: an ext4 file system in a file, which can be filled up and lose power.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use node::daemon::disk_space;

use crate::process::run;

/// Its size; the file is sparse.
const SIZE_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// Free space of a full disk: less than a second of the log.
const LEFT_BYTES: u64 = 64 * 1024;
/// The file that fills it.
const FILLER: &str = "filler";

/// A disk that is mounted at a directory until this is dropped.
pub struct Disk {
    image: PathBuf,
    place: PathBuf,
    cutter: PathBuf,
}

impl Disk {
    /// Mounts an empty disk at this directory.
    pub fn new(place: &Path, cutter: &Path) -> Self {
        let disk = Self { image: place.with_extension("img"), place: place.to_owned(), cutter: cutter.to_owned() };
        File::create(&disk.image).and_then(|file| file.set_len(SIZE_BYTES)).expect("an image");
        std::fs::create_dir(place).expect("a directory");
        disk.format();
        disk
    }

    /// Replaces it by an empty disk.
    pub fn replace(&self) {
        self.command(&["umount"], &self.place);
        self.format();
    }

    /// Drops unsynced data, and refuses writes until power is back.
    pub fn cut_power(&self) {
        let cut = run(Command::new(&self.cutter).arg(&self.place));
        assert_eq!(cut.code, 0, "{cut:?}");
    }

    /// Restores power. The disk must not be in use.
    pub fn restore_power(&self) {
        self.command(&["umount"], &self.place);
        self.mount();
    }

    /// Fills the disk up.
    pub fn fill(&self) {
        let free = disk_space::read(&self.place).expect("a reading").free_bytes - LEFT_BYTES;
        self.command(&["fallocate", "-l", &free.to_string()], &self.place.join(FILLER));
    }

    /// Frees space again.
    pub fn make_room(&self) {
        std::fs::remove_file(self.place.join(FILLER)).expect("removed");
    }

    fn format(&self) {
        let options = ["mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=16", "-E", "lazy_itable_init=1,nodiscard"];
        self.command(&options, &self.image);
        self.mount();
    }

    fn mount(&self) {
        let place = self.place.to_str().expect("a path that is text");
        let mounted = run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(place));
        assert_eq!(mounted.code, 0, "{mounted:?}");
        let private = run(Command::new("chmod").args(["0700", place]));
        assert_eq!(private.code, 0, "{private:?}");
    }

    fn command(&self, words: &[&str], on: &Path) {
        let answer = run(Command::new(words[0]).args(&words[1..]).arg(on));
        assert_eq!(answer.code, 0, "{words:?}: {answer:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Even if a daemon still uses it.
        run(Command::new("umount").arg("--lazy").arg(&self.place));
    }
}
