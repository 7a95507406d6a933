//! Stored records are read back unchanged; damaged, torn or foreign files are quarantined.

use super::*;
use std::os::unix::fs::PermissionsExt;

use events::{ConfigId, ConfigReference, ContainerSpec, ServiceSpec, TaskSpec, Timestamp};
use wire::v1::{EnvSecretValue, SecretItem};

fn record(task: u128, state: TaskState) -> Record {
    let assignment = Assignment {
        task: TaskId::from_bits(task),
        desired: TaskState::Running.into(),
        registry_auth: Some("credentials".into()),
        env_secrets: vec![EnvSecretValue { name: "TOKEN".into(), value: "secret-value".into() }],
        ..Assignment::default()
    };
    let at = Some(Timestamp::from_unix_ns(5));
    Record { assignment, status: TaskStatus { state: state.into(), at, ..TaskStatus::default() }, withdrawn: false }
}

fn open(dir: &Path) -> (Store, Found) {
    Store::open(dir, &KeyLock::default()).expect("a store")
}

/// The directory of an agent's files; the key is stored beside it.
fn worker() -> (tempfile::TempDir, PathBuf) {
    let state_dir = tempfile::tempdir().expect("a directory");
    let dir = state_dir.path().join("worker");
    (state_dir, dir)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn what_is_saved_is_found_again() {
    let (_state_dir, dir) = worker();
    let (store, found) = open(&dir);
    assert!(found.records.is_empty());
    for state in [TaskState::Accepted, TaskState::Preparing] {
        store.save(&record(1, state)).expect("saved");
    }
    store.save(&record(2, TaskState::Accepted)).expect("saved");
    store.remove(TaskId::from_bits(2)).expect("removed");
    store.remove(TaskId::from_bits(3)).expect("not there is fine");
    let (_, found) = open(&dir);
    assert_eq!(found.records, [record(1, TaskState::Preparing)]);
    assert!(found.damage.is_empty());
}

#[test]
fn a_config_is_kept_sealed_for_as_long_as_a_task_may_need_it() {
    let (state_dir, dir) = worker();
    let (store, _) = open(&dir);
    let item = |id, data: &'static str| ConfigItem {
        key: (ConfigId::from_bits(id), 0).into(),
        data: data.into(),
        template: false,
    };
    let mut needing = record(1, TaskState::Preparing);
    let reference = |id| ConfigReference { config: Some(ConfigId::from_bits(id)), ..ConfigReference::default() };
    let container = ContainerSpec { configs: vec![reference(5), reference(6)], ..ContainerSpec::default() };
    needing.assignment.spec.task = Some(TaskSpec { container: Some(container), ..TaskSpec::default() });
    store.save(&needing).expect("saved");
    let found_with = |kept: &[ConfigItem]| {
        store.keep_configs(kept).expect("kept");
        let found = open(&dir).1;
        assert_eq!(found.damage, Vec::<String>::new());
        found.records[0].assignment.configs.clone()
    };
    // A config that no task uses is kept as well: the next task may need it.
    let all = [item(5, "the-marker"), item(6, "other"), item(7, "of no task")];
    assert_eq!(found_with(&all), all[..2]);
    for (path, bytes) in bytes(state_dir.path()) {
        assert!(!bytes.windows(10).any(|window| window == b"the-marker"), "{}", path.display());
    }
    assert_eq!(found_with(&all[1..]), all[1..2]);
    assert_eq!(found_with(&[]), []);
    assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 1, "the task's own file");
}

#[test]
fn the_last_frame_of_history_is_kept_sealed_and_replaced() {
    let (_state_dir, dir) = worker();
    let (store, found) = open(&dir);
    assert_eq!(found.head, None);
    let head = |index| Head { index, ..Head::default() };
    for index in [7, 8] {
        store.save_head(&head(index)).expect("saved");
    }
    let (store, found) = open(&dir);
    assert_eq!((found.head, found.records.len(), found.damage), (Some(head(8)), 0, vec![]));
    // A task's record is not accepted in its place, and damage does not prevent a start.
    store.save(&record(1, TaskState::Running)).expect("saved");
    fs::copy(store.path(TaskId::from_bits(1)), dir.join(HEAD)).expect("copied");
    let (_, found) = open(&dir);
    assert_eq!((found.head, found.records.len(), found.damage.len()), (None, 1, 1));
    assert_eq!(open(&dir).1.damage, Vec::<String>::new(), "it was set aside");
}

#[test]
fn the_managers_are_kept_and_replaced() {
    let (_state_dir, dir) = worker();
    let (store, found) = open(&dir);
    assert_eq!(found.managers, Vec::<String>::new());
    for addrs in [["10.0.0.1:4242", "10.0.0.2:4242"], ["10.0.0.2:4242", "10.0.0.3:4242"]] {
        store.save_managers(&addrs.map(str::to_owned)).expect("saved");
        let found = open(&dir).1;
        assert_eq!((found.managers, found.records.len()), (addrs.map(str::to_owned).to_vec(), 0));
    }
}

/// The files in and beside a directory, with their content.
fn bytes(state_dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = |dir: &Path| {
        fs::read_dir(dir).map(|entries| entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>())
    };
    let mut found = Vec::new();
    for path in entries(state_dir).expect("a directory") {
        let inner = entries(&path).unwrap_or_else(|_| vec![path]);
        found.extend(inner.into_iter().map(|path| (path.clone(), fs::read(path).unwrap_or_default())));
    }
    found.sort();
    found
}

#[test]
fn what_is_examined_is_left_as_it_is() {
    let (state_dir, dir) = worker();
    let (store, _) = open(&dir);
    store.save(&record(1, TaskState::Running)).expect("saved");
    store.save_head(&Head { index: 7, ..Head::default() }).expect("saved");
    fs::write(dir.join("2.new"), b"half").expect("written");
    fs::write(dir.join("3"), b"garbage").expect("written");
    for (lost, records) in [(false, 1), (true, 0)] {
        if lost {
            fs::remove_file(dir.with_extension(KEY)).expect("removed");
        }
        let before = bytes(state_dir.path());
        assert_eq!(examine(&dir, &KeyLock::default()).expect("usable").records.len(), records);
        assert_eq!(bytes(state_dir.path()), before);
    }
    // A case that opening would refuse.
    fs::create_dir(dir.with_extension(KEY)).expect("made");
    assert!(examine(&dir, &KeyLock::default()).is_err() && Store::open(&dir, &KeyLock::default()).is_err());
    fs::remove_dir_all(&dir).expect("removed");
    assert!(examine(&dir, &KeyLock::default()).is_err(), "the key's place is taken, whatever is in the directory");
    fs::remove_dir(dir.with_extension(KEY)).expect("removed");
    assert!(examine(&dir, &KeyLock::default()).is_ok_and(|found| found.records.is_empty()), "there is none yet");
    assert!(!dir.exists());
    fs::write(&dir, b"").expect("written");
    assert!(examine(&dir, &KeyLock::default()).is_err());
}

#[test]
fn files_are_sealed_private_and_keep_credentials_for_the_pull_only() {
    let (_state_dir, dir) = worker();
    let (store, _) = open(&dir);
    let mut pulling = record(1, TaskState::Preparing);
    let container = ContainerSpec { env: vec!["PASSWORD=the-marker".into()], ..ContainerSpec::default() };
    let task = TaskSpec { container: Some(container), ..TaskSpec::default() };
    pulling.assignment.spec = ServiceSpec { task: Some(task), ..ServiceSpec::default() };
    store.save(&pulling).expect("saved");
    let path = store.path(TaskId::from_bits(1));
    assert_eq!((mode(&path), mode(&dir), mode(&dir.with_extension(KEY))), (0o600, 0o700, 0o600));
    let stored = fs::read(&path).expect("a file");
    for secret in ["the-marker", "credentials", "secret-value"] {
        assert!(!stored.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    assert_eq!(open(&dir).1.records, [pulling]);

    store.save(&record(1, TaskState::Ready)).expect("saved");
    let kept = open(&dir).1.records.remove(0).assignment;
    assert_eq!((kept.registry_auth, kept.env_secrets.len()), (None, 1), "a restart needs its environment");
    store.save(&record(1, TaskState::Complete)).expect("saved");
    assert_eq!(open(&dir).1.records[0].assignment.env_secrets, []);
}

#[test]
fn a_file_of_another_task_is_not_taken_for_this_ones() {
    let (_state_dir, dir) = worker();
    let (store, _) = open(&dir);
    store.save(&record(1, TaskState::Running)).expect("saved");
    fs::copy(store.path(TaskId::from_bits(1)), store.path(TaskId::from_bits(2))).expect("copied");
    let (_, found) = open(&dir);
    assert_eq!((found.records, found.damage.len()), (vec![without_credentials(1)], 1));
}

fn without_credentials(task: u128) -> Record {
    without_unneeded_credentials(&record(task, TaskState::Running))
}

#[test]
fn without_its_key_every_file_is_set_aside_and_the_next_ones_are_kept_again() {
    for (words, missing) in [("is missing", true), ("is damaged (it is empty)", false)] {
        let (_state_dir, dir) = worker();
        let (store, _) = open(&dir);
        for task in [1, 2] {
            store.save(&record(task, TaskState::Running)).expect("saved");
        }
        let key = dir.with_extension(KEY);
        fs::write(&key, b"").expect("written");
        if missing {
            fs::remove_file(&key).expect("removed");
        }
        let (store, found) = open(&dir);
        assert_eq!((found.records.len(), found.damage.len()), (0, 3), "the key, and two files");
        let sentence = &found.damage[0];
        assert!(sentence.contains(words) && sentence.contains(&key.display().to_string()), "{sentence}");
        assert!(sentence.ends_with(KEY_LOST), "{sentence}");
        store.save(&record(3, TaskState::Running)).expect("saved");
        let (_, found) = open(&dir);
        assert_eq!((found.records, found.damage.len()), (vec![without_credentials(3)], 0));
    }
}

#[test]
fn any_damage_sets_the_file_aside_and_spares_the_others() {
    let (_state_dir, dir) = worker();
    let (store, _) = open(&dir);
    let path = store.path(TaskId::from_bits(1));
    store.save(&record(1, TaskState::Running)).expect("saved");
    let whole = fs::read(&path).expect("a file");
    let mut flipped = whole.clone();
    flipped[20] ^= 1;
    for bytes in [&[][..], &whole[..4], &whole[..whole.len() - 1], &flipped] {
        fs::write(&path, bytes).expect("written");
        store.save(&record(2, TaskState::Running)).expect("saved");
        let (_, found) = open(&dir);
        assert_eq!(found.records, open(&dir).1.records, "set aside for good");
        assert_eq!(found.records.len(), 1);
        let [sentence] = &found.damage[..] else { panic!("one damage, not {:?}", found.damage) };
        assert!(sentence.contains(&path.display().to_string()), "{sentence}");
        assert!(path.with_extension(DAMAGED).exists());
    }
}

#[test]
fn a_write_that_was_cut_off_leaves_the_older_record() {
    let (_state_dir, dir) = worker();
    let (store, _) = open(&dir);
    store.save(&record(1, TaskState::Preparing)).expect("saved");
    fs::write(store.path(TaskId::from_bits(1)).with_extension(UNFINISHED), b"half").expect("written");
    let (_, found) = open(&dir);
    assert_eq!((found.records.len(), found.damage.len()), (1, 0));
    assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 1);
}

#[test]
fn a_place_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("worker");
    fs::write(&file, b"").expect("written");
    let error = Store::open(&file, &KeyLock::default()).err().expect("a file is no directory").to_string();
    assert!(error.starts_with(&format!("cannot create {}", file.display())), "{error}");
}

#[test]
fn the_key_is_wrapped_and_everything_sealed_again_when_there_is_an_unlock_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("worker");
    let lock = KeyLock::default();
    let key_file = dir.with_extension(KEY);
    let (store, _) = Store::open(&dir, &lock).expect("a store");
    let task = TaskId::from_bits(2);
    let assignment = Assignment { task, ..Assignment::default() };
    let record = Record { assignment, status: TaskStatus::default(), withdrawn: false };
    store.save(&record).expect("saved");
    store.save_managers(&["10.0.0.1:4242".to_owned()]).expect("saved");
    let old = Seal::with(&DataKeys::load(&key_file, false, None).expect("keys")).expect("a seal");
    let (first, second) = (UnlockKey::generate().expect("a key"), UnlockKey::generate().expect("a key"));
    store.rewrap(None, Some(&first)).expect("wrapped");
    store.rewrap(Some(&first), Some(&second)).expect("wrapped again");
    assert!(is_wrapped(&key_file));
    let stored = fs::read(store.path(task)).expect("a file");
    assert!(old.open(&place(task), stored).is_none(), "the old key opens nothing any more");
    assert_eq!(examine(&dir, &lock).expect("usable").records, [], "locked, it is as good as empty");
    lock.set(Some(second.clone()));
    let found = examine(&dir, &lock).expect("usable");
    assert_eq!((found.records, found.managers.len()), (vec![record.clone()], 1));
    store.rewrap(Some(&second), None).expect("unwrapped");
    let (_, found) = Store::open(&dir, &KeyLock::default()).expect("a store");
    assert_eq!((found.records, found.damage), (vec![record], vec![]));
}

#[test]
fn a_key_that_another_unlock_key_wrapped_is_set_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("worker");
    let (store, _) = Store::open(&dir, &KeyLock::default()).expect("a store");
    store.rewrap(None, Some(&UnlockKey::generate().expect("a key"))).expect("wrapped");
    let (_, found) = Store::open(&dir, &KeyLock::default()).expect("a store");
    assert!(found.damage.iter().any(|why| why.contains("another unlock key wrapped it")), "{:?}", found.damage);
}

#[test]
fn the_data_of_a_secret_is_never_on_the_disk() {
    let (_state_dir, dir) = worker();
    let (store, _) = open(&dir);
    let mut needing = record(1, TaskState::Running);
    needing.assignment.secrets =
        vec![SecretItem { key: "secret/5/1".into(), value: "the-marker".into(), template: false }];
    store.save(&needing).expect("saved");
    let kept = open(&dir).1.records.remove(0).assignment;
    assert_eq!((kept.task, kept.secrets), (needing.assignment.task, vec![]));
}
