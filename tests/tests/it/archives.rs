//! Archives of old history: created by a real manager, read like the rest of history, and reported if a file is missing.

use std::fs;
use std::path::Path;
use std::process::Command;

use node::log::LogStore;

use super::cluster::{Cluster, MANAGER, path};
use super::process::{program, run};
use super::scrub::{fill, save_checkpoint};
use super::units::Executor;

/// Number of frames. The first 4,096 indexes may be archived: a start verifies the last 1,000, and the index has segments of 256.
const FRAMES: u64 = 5_600;

/// Writes two checkpoints after everything that is to be archived, as a manager does over time, and truncates the raft entries
/// there.
fn age(cluster: &mut Cluster, log: &Path) {
    for name in ["first", "second"] {
        assert_eq!(cluster.end(MANAGER), Some(0));
        let store = save_checkpoint(log);
        store.compact(u64::MAX).expect("cut");
        drop(store);
        cluster.resume(MANAGER);
        cluster.await_manager();
        cluster.create(name, "--replicas 0");
    }
}

fn only_file(dir: &Path) -> String {
    let mut files = fs::read_dir(dir).expect("a directory").map(|file| file.expect("a file").file_name());
    let file = files.next().expect("a file").into_string().expect("text");
    assert!(files.next().is_none(), "one range is old enough");
    file
}

#[test]
fn old_history_moves_into_an_archive_and_is_read_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = Cluster::start_with(Executor::Process, &[], &["--history-archive", &path(dir.path())]);
    let log = cluster.state_dir(MANAGER).join("raft");
    let refused = cluster.swarmctl("history archive");
    assert!(refused.code == 4 && refused.err.contains("no history can be archived"), "{refused:?}");
    fill(&cluster, FRAMES);
    let first = cluster.ok("events --limit 1 --format json");
    let early = cluster.ok("config ls --at 1000 --format json");
    cluster.ok("cluster update --history-keep 400d");
    age(&mut cluster, &log);

    cluster.until("the index to be past it", || cluster.swarmctl("history archive").code == 0);
    let name = only_file(dir.path());
    assert!(name.starts_with("frames-000000000000-000000004095-"), "{name}");
    assert!(cluster.log(MANAGER).contains("old history was moved into an archive"), "{}", cluster.log(MANAGER));
    let inspected = cluster.ok("cluster inspect");
    assert!(inspected.contains("Archives") && inspected.contains("up to index 4095"), "{inspected}");
    let reads = |cluster: &Cluster| {
        assert_eq!(cluster.ok("events --limit 1 --format json"), first);
        assert_eq!(cluster.ok("config ls --at 1000 --format json"), early);
        let verified = cluster.ok("history verify");
        assert!(verified.ends_with("are intact") && !verified.contains("not verified"), "{verified}");
    };
    reads(&cluster);

    // The file is moved away: commands that need it report that, and everything else works.
    let (file, elsewhere) = (dir.path().join(&name), dir.path().join("elsewhere"));
    fs::rename(&file, &elsewhere).expect("moved");
    let expected = format!("were archived in {}, which is missing", file.display());
    let refused = cluster.swarmctl("events --limit 1");
    assert!(refused.err.contains(&expected) && refused.err.contains("--history-archive"), "{refused:?}");
    let verified = cluster.ok("history verify");
    assert!(verified.contains("not verified: ") && verified.contains(&expected), "{verified}");
    assert_eq!(cluster.end(MANAGER), Some(0));
    cluster.resume(MANAGER);
    cluster.await_manager();
    cluster.create("third", "--replicas 0");
    let replay = || run(Command::new(program("swarmd")).args(["replay", "-d", &path(&cluster.state_dir(MANAGER))]));
    let refused = replay();
    assert!(refused.code == 1 && refused.err.contains(&expected), "{refused:?}");
    fs::rename(&elsewhere, &file).expect("moved");
    reads(&cluster);
    assert_eq!(replay().code, 0);
}
