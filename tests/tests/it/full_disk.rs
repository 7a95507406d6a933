//! A manager whose disk fills up.

use std::path::{Path, PathBuf};
use std::process::Command;

use node::daemon::disk_space;

use super::cluster::{Cluster, MANAGER};
use super::process::run;
use super::units::Executor;

/// The size of the disk, and the size of a file that leaves less than is needed to add anything.
const DISK_MIB: usize = 160;
const FREE_MIB: usize = 40;

/// A small disk mounted at a directory until this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Moves a directory to a new disk, which is mounted in its place.
    fn in_place_of(dir: &Path) -> Self {
        let moved = dir.with_extension("moved");
        std::fs::rename(dir, &moved).expect("renamed");
        std::fs::create_dir(dir).expect("a directory");
        let size = format!("size={DISK_MIB}m,mode=0700");
        let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir));
        assert_eq!(mounted.code, 0, "only root can mount a disk: {mounted:?}");
        let disk = Self(dir.to_owned());
        let copied = run(Command::new("cp").args(["-a", "--"]).arg(moved.join(".")).arg(dir));
        assert_eq!(copied.code, 0, "{copied:?}");
        disk
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Even if a daemon still uses it.
        run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

pub fn on_a_full_disk_nothing_is_added_and_everything_else_goes_on() {
    let mut cluster = Cluster::start(Executor::Process, &[]);
    assert_eq!(cluster.end(MANAGER), Some(0));
    let dir = cluster.state_dir(MANAGER);
    let _disk = SmallDisk::in_place_of(&dir);
    cluster.resume(MANAGER);
    cluster.await_manager();
    cluster.create("web", "--replicas 2");
    cluster.settled("web", 2);
    cluster.until("the warning", || cluster.log(MANAGER).contains("the disk is nearly full"));

    let filler = dir.join("filler");
    let free = disk_space::read(&dir).expect("a reading").free_bytes as usize;
    std::fs::write(&filler, vec![1; free - FREE_MIB * 1024 * 1024]).expect("written");
    cluster.until("the refusal", || cluster.log(MANAGER).contains("the disk is full"));
    for line in ["service create --name more --image x", "service scale --detach web=3"] {
        cluster.swarmctl(line).refused(1, "MiB free, and below 64 MiB nothing can be added");
    }
    assert_eq!(cluster.list("node ls")[0]["state"], "ready");
    cluster.ok("service scale web=1");
    cluster.settled("web", 1);
    cluster.ok("service rm web");
    cluster.until("the service to be gone", || cluster.list("task ls -a").is_empty());

    std::fs::remove_file(&filler).expect("removed");
    cluster.until("room", || cluster.swarmctl("service create --name more --image x --detach").code == 0);
}
