//! A machine whose clock is wrong by years, and is then corrected.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::cluster::{Cluster, MANAGER, path};
use super::faults::compile;
use super::units::Executor;

const YEAR_SECONDS: i64 = 365 * 24 * 3_600;

/// The preloaded library that shifts the clock of processes.
pub struct Shift {
    dir: TempDir,
    library: PathBuf,
}

impl Shift {
    /// Builds it.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let library = compile(dir.path(), "preload.c", "preload.so", &["-shared", "-fPIC", "-ldl"]);
        Self { dir, library }
    }

    /// Starts a stopped node, on a machine whose clock is ahead.
    pub fn resume(&self, cluster: &mut Cluster, name: &str, ahead_seconds: i64) {
        let file = self.dir.path().join("ahead");
        fs::write(&file, ahead_seconds.to_ne_bytes()).expect("written");
        cluster.resume_in(name, &[("LD_PRELOAD", &path(&self.library)), ("CLOCK", &path(&file))]);
    }
}

#[test]
fn a_manager_goes_on_once_its_clock_is_right_again() {
    let shift = Shift::new();
    let mut cluster = Cluster::start(Executor::Process, &[]);
    cluster.create("web", "--replicas 1");
    cluster.settled("web", 1);
    assert_eq!(cluster.end(MANAGER), Some(0));

    shift.resume(&mut cluster, MANAGER, 300 * YEAR_SECONDS);
    assert_eq!(cluster.await_end(MANAGER), Some(1));
    let log_text = cluster.log(MANAGER);
    assert!(log_text.contains("this machine's clock says a time after the year 2261"), "{log_text}");

    shift.resume(&mut cluster, MANAGER, 2 * YEAR_SECONDS);
    cluster.await_manager();
    cluster.ok("service scale web=2");
    cluster.settled("web", 2);
    assert_eq!(cluster.end(MANAGER), Some(0));

    cluster.resume(MANAGER);
    cluster.await_manager();
    cluster.ok("service scale web=3");
    cluster.settled("web", 3);
}
