//! A worker whose disk is full.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster::{Cluster, path};
use super::process::run;
use super::units::Executor;

/// A small disk in memory, until this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mounted_at(dir: &Path) -> Self {
        fs::create_dir(dir).expect("a directory");
        let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs", &path(dir)]));
        assert_eq!(mounted.code, 0, "{mounted:?}");
        Self(dir.to_owned())
    }

    /// Leaves no free space.
    fn fill(&self) {
        let mut filler = File::create(self.0.join("filler")).expect("a file");
        while filler.write_all(&[0; 512]).is_ok() {}
        while filler.write_all(&[0]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").args(["-l", &path(&self.0)]));
    }
}

#[test]
fn a_worker_on_a_full_disk_starts_again() {
    let mut cluster = Cluster::start(Executor::Process, &[]);
    let disk = SmallDisk::mounted_at(&cluster.state_dir("w1"));
    let (address, token) = (cluster.address().to_owned(), cluster.token("worker"));
    cluster.add("w1", &["--join-addr", &address, "--join-token", &token]);
    let sessions = |cluster: &Cluster| cluster.log("w1").matches("session opened").count();
    cluster.until("the worker to join", || sessions(&cluster) == 1);
    cluster.kill("w1");
    disk.fill();
    cluster.resume("w1");
    cluster.until("the worker to be back", || sessions(&cluster) == 2);
    cluster.end("w1");
}
