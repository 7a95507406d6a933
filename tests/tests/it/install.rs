//! The files that `make install` installs, and systemd's assessment of them.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster::path;
use super::process::{program, run};

/// Runs the script of `make install`, or with `remove` that of `make uninstall`.
fn install(root: &Path, words: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/install");
    let binaries = program("swarmd");
    let mut command = Command::new(script);
    command.args(words).env_remove("DESTDIR").env("BINARIES", binaries.parent().expect("a directory"));
    let done = run(command.env("PREFIX", root.join("usr")).env("SYSCONFDIR", root.join("etc")));
    assert_eq!(done.code, 0, "{done:?}");
}

/// The files below a directory.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { [path].into() }).collect()
}

#[test]
fn what_is_installed_can_be_started_by_systemd_and_is_removed_but_for_the_config() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path();
    install(root, &[]);
    let config = root.join("etc/swarmlog/swarmd.toml");
    let mode = std::fs::metadata(&config).expect("a config").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it may hold a token");
    let unit = root.join("usr/lib/systemd/system/swarmd.service");
    let text = std::fs::read_to_string(&unit).expect("a unit");
    let start = format!("ExecStart={0}/bin/swarmd --config {1}\n", path(&root.join("usr")), path(&config));
    assert!(text.contains(&start) && !text.contains('@'), "{text}");
    // swarmd reads the installed config; its state directory here does not belong to any node.
    let state = format!("state-dir = \"{}\"\nexecutor = \"podman\"\n", path(&root.join("state")));
    let given =
        std::fs::read_to_string(&config).expect("a config").replace("state-dir = \"/var/lib/swarmd\"\n", &state);
    std::fs::write(&config, &given).expect("written");
    let refused = run(Command::new(program("swarmd")).arg("--config").arg(&config));
    refused.refused(2, "podman");

    // An upgrade does not touch the config.
    install(root, &[]);
    assert_eq!(std::fs::read_to_string(&config).expect("a config"), given);
    for (drop_in, what) in [(false, "the unit"), (true, "the drop-in")] {
        verify(&unit, drop_in.then(|| root.join("usr/share/doc/swarmlog/containers-only.conf")), what);
    }
    install(root, &["remove"]);
    std::fs::remove_dir_all(unit.with_extension("service.d")).expect("the copy of the drop-in");
    assert_eq!(files(root), [config].into());
}

/// Lets systemd analyze the unit, with a drop-in as an operator would copy it.
fn verify(unit: &Path, drop_in: Option<PathBuf>, what: &str) {
    let copies = unit.with_extension("service.d");
    std::fs::create_dir_all(&copies).expect("made");
    if let Some(drop_in) = drop_in {
        std::fs::copy(drop_in, copies.join("containers-only.conf")).expect("copied");
    }
    let probe = Command::new("systemd-analyze").arg("--version").output();
    if probe.is_err() {
        println!("SKIPPED what systemd says of {what}: systemd-analyze is not installed");
        return;
    }
    let judged = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit));
    assert_eq!((judged.code, judged.out.as_str(), judged.err.as_str()), (0, "", ""), "{what}: {judged:?}");
}
