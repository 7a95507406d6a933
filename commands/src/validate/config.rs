//! Configs, and how a container refers to them. The limits are SwarmKit's (`manager/controlapi/config.go`).

use std::collections::BTreeSet;

use events::{ConfigId, ConfigReference, ConfigSpec, ContainerSpec, Mount};

use super::name::{is_word, labels};
use super::{Fault, Verdict};
use crate::RejectionKind;
use crate::text::quote;

/// Largest config in bytes: below 1000 KiB.
pub(crate) const CONFIG_BYTES_MAX: usize = 1_000 * 1024 - 1;
/// Bytes of all configs together: each manager holds them in memory, and every checkpoint has them.
pub(crate) const CONFIGS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest name of a config.
const NAME_MAX: usize = 64;
/// Most configs of one container: each is a file to put in place before it starts.
const REFERENCES_MAX: usize = 100;
/// Longest path of a file in a container.
const PATH_BYTES_MAX: usize = 4_096;
/// All permission bits, with setuid, setgid and the sticky bit.
const MODE_MAX: u32 = 0o7777;

/// Judges a config.
pub(crate) fn config(spec: &ConfigSpec, data: &[u8]) -> Verdict {
    name(spec.name())?;
    labels(&spec.annotations().labels)?;
    match data.len() {
        0 => Err(Fault::invalid("the config is empty", "give a file that is not empty")),
        bytes if bytes > CONFIG_BYTES_MAX => {
            let sentence = format!("the config has {bytes} bytes; the maximum is {CONFIG_BYTES_MAX}");
            Err(Fault::new(RejectionKind::Exhausted, sentence, "split it, or put it into the image or a volume"))
        }
        _ => Ok(()),
    }
}

fn name(name: &str) -> Verdict {
    let hint = "use up to 64 letters, digits, - _ and ., with a letter or digit at both ends";
    if name.is_empty() {
        return Err(Fault::invalid("the config has no name", hint));
    }
    if name.len() > NAME_MAX || !is_word(name, "-_.") {
        return Err(Fault::invalid(format!("{} is not a name for a config", quote(name)), hint));
    }
    if name.to_ascii_lowercase().parse::<ConfigId>().is_ok() {
        let hint = "choose another name: this one could be the id of a config";
        return Err(Fault::invalid(format!("the name {} has the form of an id", quote(name)), hint));
    }
    Ok(())
}

/// Judges what a container refers to. Whether the configs exist is judged with the state.
pub(super) fn references(container: &ContainerSpec) -> Verdict {
    targets(&container.configs)?;
    container.configs.iter().try_for_each(|reference| placeable(reference, container))
}

/// A mount hides the file at its target, and needs a directory on the way to it.
fn placeable(reference: &ConfigReference, container: &ContainerSpec) -> Verdict {
    let (name, path) = (quote(&reference.name), reference.path());
    let hides = |mount: &&Mount| {
        let target = mount.target.trim_end_matches('/');
        target.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match container.mounts.iter().find(hides) {
        Some(mount) => {
            let sentence =
                format!("config {name} has the target {}, where the mount {} is", quote(&path), quote(&mount.target));
            Err(Fault::invalid(sentence, "give the config or the mount another target"))
        }
        None => Ok(()),
    }
}

fn targets(references: &[ConfigReference]) -> Verdict {
    if references.len() > REFERENCES_MAX {
        let sentence = format!("the container has {} configs; the maximum is {REFERENCES_MAX}", references.len());
        return Err(Fault::new(RejectionKind::Exhausted, sentence, "put several files into one config"));
    }
    let mut paths = BTreeSet::new();
    for reference in references {
        file(reference)?;
        if !paths.insert(reference.path()) {
            let sentence = format!("two configs have the target {}", quote(&reference.path()));
            return Err(Fault::invalid(sentence, "give each config its own target"));
        }
    }
    for path in &paths {
        let inside = |other: &&String| other.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'));
        if let Some(other) = paths.iter().find(inside) {
            let sentence =
                format!("the config target {} is a parent directory of the target {}", quote(path), quote(other));
            return Err(Fault::invalid(
                sentence,
                "give each config a target that is not a parent directory of another",
            ));
        }
    }
    Ok(())
}

fn file(reference: &ConfigReference) -> Verdict {
    let path = reference.path();
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.len() > PATH_BYTES_MAX || path.contains('\0') || !path[1..].split('/').all(is_plain) {
        let sentence =
            format!("config {} has the target {}, which is not a path", quote(&reference.name), quote(&path));
        return Err(Fault::invalid(sentence, "give a path such as /etc/app.conf, without . and .. and a / at its end"));
    }
    if reference.owner().is_none() {
        let sentence = format!("config {} has an owner that is not a number", quote(&reference.name));
        return Err(Fault::invalid(sentence, "give uid and gid as numbers"));
    }
    if reference.mode() > MODE_MAX {
        let sentence = format!("config {} has the mode {:o}", quote(&reference.name), reference.mode());
        return Err(Fault::invalid(sentence, "give permission bits in octal, such as 0444"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use events::{Annotations, FileTarget, MountType};

    use super::*;

    fn spec(name: &str) -> ConfigSpec {
        ConfigSpec { annotations: Some(Annotations { name: name.into(), ..Annotations::default() }) }
    }

    #[test]
    fn a_config_has_a_name_and_a_size() {
        let longest = "a".repeat(NAME_MAX);
        for (name, sound) in [
            ("web.conf", true),
            ("a", true),
            ("A_b-c.1", true),
            (longest.as_str(), true),
            ("", false),
            (".a", false),
            ("a.", false),
            ("a/b", false),
            ("a b", false),
            (&"a".repeat(NAME_MAX + 1), false),
            ("0123456789abcdefghijklmno", false),
        ] {
            assert_eq!(config(&spec(name), b"x").is_ok(), sound, "{name}");
        }
        for (bytes, sound) in [(0, false), (1, true), (1_023_999, true), (1_024_000, false)] {
            assert_eq!(config(&spec("a"), &vec![0; bytes]).is_ok(), sound, "{bytes}");
        }
    }

    #[test]
    fn a_reference_has_a_path_an_owner_and_a_mode() {
        let reference = |target: &str, uid: &str, mode: Option<u32>| ConfigReference {
            config: None,
            name: "web.conf".into(),
            file: Some(FileTarget { name: target.into(), uid: uid.into(), gid: String::new(), mode }),
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
            let judged = targets(&[reference(target, uid, mode)]);
            assert_eq!(judged.is_ok(), sound, "{target:?} {uid:?} {mode:?}");
        }
        let twice = [reference("/web.conf", "", None), reference("", "", None)];
        assert_eq!(targets(&twice).expect_err("one path").sentence(), "two configs have the target \"/web.conf\"");
        for (inner, sound) in [("/a/b", false), ("a/b/c", false), ("/ab", true), ("/a.unfinished", true)] {
            let both = [reference("a", "", None), reference(inner, "", None)];
            assert_eq!(targets(&both).is_ok(), sound, "{inner}");
        }
    }

    #[test]
    fn a_config_has_a_place_that_no_mount_takes() {
        let file = Some(FileTarget { name: "/run/web.conf".into(), ..FileTarget::default() });
        let reference = ConfigReference { config: None, name: "web.conf".into(), file };
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
                assert_eq!(references(&container), Ok(()), "without a config");
                let judged = references(&ContainerSpec { configs: vec![reference.clone()], ..container });
                assert_eq!(judged.is_ok(), sound, "{target}");
            }
        }
    }
}
