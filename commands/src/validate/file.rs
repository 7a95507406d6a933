//! The files of a container: its configs and secrets.

use std::collections::BTreeMap;

use events::spec::FileReference;
use events::{ContainerSpec, Mount};

use super::{Fault, Verdict};
use crate::RejectionKind;
use crate::text::quote;

/// Maximum number of configs and secrets of one container: each is a file to install before it starts.
const FILES_MAX: usize = 100;
/// Maximum length of a file's path in a container.
const PATH_BYTES_MAX: usize = 4_096;
/// All permission bits, with setuid, setgid and the sticky bit.
const MODE_MAX: u32 = 0o7777;

/// Checks the files of a container. Whether the configs and secrets exist is checked against the state.
pub(super) fn files(container: &ContainerSpec) -> Verdict {
    let files: Vec<&dyn FileReference> = container.files().collect();
    targets(&files)?;
    files.iter().try_for_each(|file| placeable(*file, container))
}

/// A mount hides the file at its target, and needs a directory at each parent of it.
fn placeable(file: &dyn FileReference, container: &ContainerSpec) -> Verdict {
    let (noun, name, path) = (file.noun(), quote(file.name()), file.path());
    let hides = |mount: &&Mount| {
        let target = mount.target.trim_end_matches('/');
        target.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match container.mounts.iter().find(hides) {
        Some(mount) => {
            let sentence =
                format!("{noun} {name} has the target {}, where the mount {} is", quote(&path), quote(&mount.target));
            Err(Fault::invalid(sentence, format!("give the {noun} or the mount another target")))
        }
        None => Ok(()),
    }
}

fn targets(files: &[&dyn FileReference]) -> Verdict {
    if files.len() > FILES_MAX {
        let sentence =
            format!("the container has {} configs and secrets; the maximum is {FILES_MAX} together", files.len());
        return Err(Fault::new(RejectionKind::Exhausted, sentence, "put several files into one config"));
    }
    let mut paths: BTreeMap<String, &str> = BTreeMap::new();
    for file in files {
        check_file(*file)?;
        if let Some(other) = paths.insert(file.path(), file.noun()) {
            let noun = file.noun();
            let both = if other == noun { format!("two {noun}s") } else { format!("a {other} and a {noun}") };
            let sentence = format!("{both} have the target {}", quote(&file.path()));
            return Err(Fault::invalid(sentence, format!("give each {noun} its own target")));
        }
    }
    for (path, noun) in &paths {
        let inside = |other: &&String| other.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'));
        if let Some(other) = paths.keys().find(inside) {
            let sentence =
                format!("the {noun} target {} is a parent directory of the target {}", quote(path), quote(other));
            let hint = format!("give each {noun} a target that is not a parent directory of another");
            return Err(Fault::invalid(sentence, hint));
        }
    }
    Ok(())
}

fn check_file(file: &dyn FileReference) -> Verdict {
    let (noun, name, path) = (file.noun(), quote(file.name()), file.path());
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.len() > PATH_BYTES_MAX || path.contains('\0') || !path[1..].split('/').all(is_plain) {
        let sentence = format!("{noun} {name} has the target {}, which is not a path", quote(&path));
        return Err(Fault::invalid(sentence, "give a path such as /etc/app.conf, without . and .. and a / at its end"));
    }
    if file.owner().is_none() {
        let sentence = format!("{noun} {name} has an owner that is not a number");
        return Err(Fault::invalid(sentence, "give uid and gid as numbers"));
    }
    if file.mode() > MODE_MAX {
        let sentence = format!("{noun} {name} has the mode {:o}", file.mode());
        return Err(Fault::invalid(sentence, "give permission bits in octal, such as 0444"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use events::{ConfigReference, FileTarget, MountType, SecretReference};

    use super::*;

    fn judged(references: &[ConfigReference]) -> Verdict {
        targets(&references.iter().map(|reference| reference as &dyn FileReference).collect::<Vec<_>>())
    }

    #[test]
    fn a_reference_has_a_path_an_owner_and_a_mode() {
        let reference = |target: &str, uid: &str, mode: Option<u32>| ConfigReference {
            config: None,
            name: "web.conf".into(),
            file: Some(FileTarget { name: target.into(), uid: uid.into(), gid: String::new(), mode }),
            ..ConfigReference::default()
        };
        for (target, uid, mode, sound) in [
            ("", "", None, true),
            ("/etc/web.conf", "0", Some(0o400), true),
            ("etc/web.conf", "1000", Some(0o7777), true),
            ("/etc/../web.conf", "", None, false),
            ("/etc/", "", None, false),
            ("/", "", None, false),
            ("/a\0b", "", None, false),
            ("", "root", None, false),
            ("", "-1", None, false),
            ("", "", Some(0o10_000), false),
        ] {
            let judged = targets(&[&reference(target, uid, mode)]);
            assert_eq!(judged.is_ok(), sound, "{target:?} {uid:?} {mode:?}");
        }
        let twice = [reference("/web.conf", "", None), reference("", "", None)];
        assert_eq!(judged(&twice).expect_err("one path").sentence(), "two configs have the target \"/web.conf\"");
        for (inner, sound) in [("/a/b", false), ("a/b/c", false), ("/ab", true), ("/a.unfinished", true)] {
            let both = [reference("a", "", None), reference(inner, "", None)];
            assert_eq!(judged(&both).is_ok(), sound, "{inner}");
        }
    }

    #[test]
    fn a_config_and_a_secret_have_targets_of_their_own() {
        let config = ConfigReference { name: "run/secrets/key".into(), ..ConfigReference::default() };
        let secret = SecretReference { name: "key".into(), ..SecretReference::default() };
        let judged = targets(&[&config, &secret]).expect_err("one path");
        assert_eq!(judged.sentence(), "a config and a secret have the target \"/run/secrets/key\"");
    }

    #[test]
    fn a_config_has_a_place_that_no_mount_takes() {
        let file = Some(FileTarget { name: "/run/web.conf".into(), ..FileTarget::default() });
        let reference = ConfigReference { name: "web.conf".into(), file, ..ConfigReference::default() };
        for kind in [MountType::Tmpfs, MountType::Volume, MountType::Bind] {
            let table = [
                ("/run", true),
                ("/run/web", true),
                ("/run/web.config", true),
                ("/run/web.conf", false),
                ("/run/web.conf/", false),
                ("/run/web.conf/d", false),
            ];
            for (target, sound) in table {
                let mount = Mount { target: target.into(), r#type: kind.into(), ..Mount::default() };
                let container = ContainerSpec { read_only: true, mounts: vec![mount], ..ContainerSpec::default() };
                assert_eq!(files(&container), Ok(()), "without a config");
                let judged = files(&ContainerSpec { configs: vec![reference.clone()], ..container });
                assert_eq!(judged.is_ok(), sound, "{target}");
            }
        }
    }
}
