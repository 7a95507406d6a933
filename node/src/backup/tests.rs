//! A restored backup is complete, or refused.

use std::sync::Arc;

use events::SecretText;

use super::record::{Head, Record};
use super::restore::{Args, restore};
use super::sealed::{BackupError, Opener};
use super::writer::Writer;
use crate::daemon::state_dir::{self, StateDir};
use crate::log::{LogStore, MemoryDisk, MemoryStore, Permits, verify_all};
use crate::manager::core;
use crate::manager::core::tests::{lead, node};

const PASSPHRASE: &str = "correct horse battery";

fn secret(text: &str) -> SecretText {
    SecretText(text.to_owned())
}

/// A backup of a cluster with a few frames: its parts, and the log.
fn backup() -> (Vec<Vec<u8>>, Arc<dyn LogStore>) {
    let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(&MemoryDisk::default()).unwrap());
    let leader = lead(&store, 30);
    let cluster = leader.cluster();
    let head = Head {
        cluster: cluster.id().to_string(),
        node: node().to_string(),
        hostname: "m1".to_owned(),
        raft_id: leader.raft_id(),
        term: leader.term(),
        index: cluster.position.index,
        log_time: cluster.position.time.unix_ns(),
        version: "0.1.0".to_owned(),
    };
    let secrets = leader.keyring().payloads();
    let mut writer = Writer::begin(Arc::clone(&store), head, secrets, Permits::new(), &secret(PASSPHRASE)).unwrap();
    let mut parts = Vec::new();
    while let Some(part) = writer.part().unwrap() {
        assert!(part.index <= part.to);
        parts.push(part.data);
    }
    (parts, store)
}

fn opened(bytes: &[u8], passphrase: &str) -> Result<Vec<Record>, BackupError> {
    let mut opener = Opener::open(bytes, &secret(passphrase))?;
    let mut records = Vec::new();
    while let Some(content) = opener.chunk()? {
        records.push(Record::decode(&content)?);
    }
    Ok(records)
}

#[test]
fn a_file_opens_whole_with_its_passphrase_and_in_no_other_way() {
    let (parts, store) = backup();
    let whole = parts.concat();
    let root_key = store.keyring().unwrap().into_iter().find_map(|mut kept| kept.value.take()).unwrap();
    assert!(!whole.windows(root_key.len()).any(|window| window == root_key), "secrets are sealed");
    let records = opened(&whole, PASSPHRASE).unwrap();
    assert!(matches!(records.as_slice(), [Record::Head(_), Record::History(_), Record::Secrets(_), Record::End(_)]));
    assert!(matches!(opened(&whole, "another passphrase"), Err(BackupError::Passphrase)));
    assert!(matches!(opened(b"not a backup", PASSPHRASE), Err(BackupError::NotABackup)));
    let ends: Vec<usize> = parts
        .iter()
        .scan(0, |end, part| {
            *end += part.len();
            Some(*end)
        })
        .collect();
    // Truncated before the first part, within a part and between two.
    for cut in [3, 20].into_iter().chain(ends.iter().flat_map(|end| [end - 1, *end])).filter(|cut| *cut < whole.len()) {
        let error = opened(&whole[..cut], PASSPHRASE).unwrap_err();
        assert!(matches!(error, BackupError::CutShort(bytes) if bytes == cut as u64), "{cut}: {error}");
    }
    assert!(matches!(opened(b"", PASSPHRASE), Err(BackupError::NotABackup)));
    // Part by part, the second of them left out, and the middle two exchanged.
    let without: Vec<u8> = [&parts[0], &parts[2], &parts[3]].into_iter().flatten().copied().collect();
    let exchanged: Vec<u8> = [&parts[0], &parts[2], &parts[1], &parts[3]].into_iter().flatten().copied().collect();
    let mut turned = whole.clone();
    turned[ends[1] - 20] ^= 1;
    for damaged in [without, exchanged, turned] {
        assert!(matches!(opened(&damaged, PASSPHRASE), Err(BackupError::Damaged(_))));
    }
    assert!(matches!(opened(&[whole, vec![0]].concat(), PASSPHRASE), Err(BackupError::TooLong(_))));
}

/// Restores these bytes, and returns the directory and the output.
fn restored(bytes: &[u8], new_cluster_id: bool) -> (tempfile::TempDir, Result<String, String>) {
    let dir = tempfile::tempdir().unwrap();
    let (file, passphrase_file, state_dir) =
        (dir.path().join("backup"), dir.path().join("passphrase"), dir.path().join("state"));
    std::fs::write(&file, bytes).unwrap();
    std::fs::write(&passphrase_file, format!("{PASSPHRASE}\n")).unwrap();
    let args = Args { file, state_dir, passphrase_file, new_cluster_id, rotate_tokens: false };
    let mut out = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(restore(&args, &mut out));
    (dir, result.map(|()| String::from_utf8(out).unwrap()).map_err(|failure| failure.to_string()))
}

#[test]
fn a_restored_log_has_all_frames_and_secrets_and_continues_alone_with_a_new_raft_id() {
    let (parts, store) = backup();
    let before = store.applied().unwrap();
    for new_cluster_id in [false, true] {
        let (dir, output) = restored(&parts.concat(), new_cluster_id);
        let output = output.unwrap();
        assert!(output.contains("as manager m1") && output.contains("restored frame"), "{output}");
        let state_dir = StateDir::open(&dir.path().join("state")).unwrap();
        let log = core::read(&state_dir, None).unwrap();
        assert_eq!(log.node(), Some(node()));
        let store = crate::log::RocksStore::open_read_only(&state_dir::log(state_dir.path())).unwrap();
        let loaded = store.examine().unwrap();
        assert!(loaded.checkpoint >= before.frame.map(|frame| frame.index), "no start folds all of history again");
        let folded = core::fold(&store, &loaded).unwrap();
        let original = lead(&(Arc::new(MemoryStore::open(&MemoryDisk::default()).unwrap()) as Arc<dyn LogStore>), 30);
        assert_eq!(folded.cluster.id() != original.cluster().id(), new_cluster_id);
        let members: Vec<_> = folded.cluster.members.values().map(|member| (member.node, member.votes)).collect();
        assert_eq!(members, [(node(), true)]);
        assert!(folded.cluster.former_members.contains(original.raft_id()), "its old number is fenced");
        assert_eq!(folded.keyring.payloads(), original.keyring().payloads());
        // History is the same up to the backup's last frame, and continues from there.
        let mut hash = None;
        verify_all::<crate::log::LogError>(&store, |index, stored| {
            if before.frame.is_some_and(|frame| frame.index == index) {
                hash = Some(events::frame::hash(stored));
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(hash, before.frame.map(|frame| frame.hash));
    }
}

#[test]
fn what_is_not_whole_is_refused_and_leaves_nothing() {
    let (parts, _) = backup();
    let whole = parts.concat();
    let (dir, output) = restored(&whole[..whole.len() - 1], false);
    let output = output.unwrap_err();
    assert!(
        output.contains(&format!("was cut off after {} bytes", whole.len() - 1))
            && output.contains("nothing was restored"),
        "{output}"
    );
    let left: Vec<_> =
        std::fs::read_dir(dir.path().join("state")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
    // A directory in use is not changed.
    let state = dir.path().join("state");
    std::fs::create_dir(state.join("certificates")).unwrap();
    let args = Args {
        file: dir.path().join("backup"),
        state_dir: state,
        passphrase_file: dir.path().join("passphrase"),
        new_cluster_id: false,
        rotate_tokens: false,
    };
    std::fs::write(&args.file, whole).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(restore(&args, &mut Vec::new())).unwrap_err();
    assert!(refused.sentence.contains("is left of a node"), "{refused}");
}
