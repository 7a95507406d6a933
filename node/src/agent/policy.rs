//! What tasks may have of this machine, whatever the cluster says: a node's operator decides by flags of `swarmd`, and a
//! task that asks for more is rejected. Whoever can mount the engine's socket, or the state directory of `swarmd`, is root
//! here and may be the whole cluster.
//!
//! Pure but for the file system's symbolic links, which are given. A container is made with the places that were judged, all
//! links followed, and judged again before it starts: a link that was changed in between leads nowhere. What is left is a
//! task that can write to a directory above a place and puts a link into the way while the engine mounts it, and volumes
//! that exist on the engine already.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use events::{AppArmorMode, ContainerSpec, Driver, Mount, MountType, Privileges, SeccompMode, SelinuxContext};

/// Capabilities that the engine gives every container by itself; asking for them is asking for nothing.
const ENGINE_DEFAULT: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Types of file systems that hold nothing of this machine: those of a network, and memory.
const HARMLESS_TYPES: [&str; 4] = ["nfs", "nfs4", "cifs", "tmpfs"];

/// What tasks may ask of a node.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    protected: Vec<PathBuf>,
    mounts: Vec<PathBuf>,
    capabilities: BTreeSet<String>,
    privileged: bool,
}

impl Policy {
    /// No capabilities but the engine's own, the engine's profiles, and binds of everything but the `protected` places.
    pub fn protecting(protected: Vec<PathBuf>) -> Self {
        Self { protected, ..Self::default() }
    }

    /// The same, but only these places, and what is in them, may be bound; all but the protected ones if there are none.
    pub fn allow_mounts(self, mounts: Vec<PathBuf>) -> Self {
        Self { mounts, ..self }
    }

    /// The same with these capabilities, of whatever spelling.
    pub fn allow_capabilities<'a>(self, names: impl IntoIterator<Item = &'a String>) -> Self {
        Self { capabilities: names.into_iter().map(|name| plain(name)).collect(), ..self }
    }

    /// The same with all capabilities and without confinement, if so.
    pub fn allow_privileged(self, privileged: bool) -> Self {
        Self { privileged, ..self }
    }

    /// Judges what a container asks for; gives its mounts with the places on this machine as `real` has them, which gives a
    /// path without symbolic links, or says why it cannot.
    ///
    /// # Errors
    /// A sentence for what is not allowed, with the flag that allows it.
    pub fn judge(&self, container: &ContainerSpec, real: impl Real) -> Result<Vec<Mount>, String> {
        let mounts = container.mounts.iter().map(|mount| self.mount(mount, real)).collect::<Result<_, _>>()?;
        self.capabilities(&container.capability_add)?;
        container.privileges.as_ref().map_or(Ok(()), |privileges| self.confinement(privileges))?;
        Ok(mounts)
    }

    fn mount(&self, mount: &Mount, real: impl Real) -> Result<Mount, String> {
        let mut judged = mount.clone();
        match mount.r#type() {
            MountType::Bind => judged.source = self.bind(&mount.source, real)?,
            MountType::Volume => {
                if let Some(driver) = judged.volume.as_mut().and_then(|volume| volume.driver.as_mut()) {
                    self.volume(driver, real)?;
                }
            }
            MountType::Tmpfs | MountType::Npipe => {}
        }
        Ok(judged)
    }

    /// The engine's own driver hands its options to mount(2), which can be a bind in other words, or any file system over
    /// anything on this machine. What another driver does with its options is for whoever installed it to know.
    fn volume(&self, driver: &mut Driver, real: impl Real) -> Result<(), String> {
        let binds = driver.options.get("o").is_some_and(|words| words.split(',').any(is_bind));
        // The kernel looks at no type where it is told to bind.
        if let Some(device) = driver.options.get_mut("device").filter(|_| binds) {
            *device = self.bind(device, real)?;
        }
        if binds {
            return Ok(());
        }
        let option = |name: &str| driver.options.get(name).map(String::as_str);
        let (device, kind) = (option("device"), option("type"));
        let engines_own = matches!(driver.name.as_str(), "" | "local");
        let mounts = if engines_own {
            (device.is_some() || kind.is_some()) && !kind.is_some_and(|kind| HARMLESS_TYPES.contains(&kind))
        } else {
            device.is_some_and(|device| device.starts_with('/'))
        };
        if !mounts {
            return Ok(());
        }
        let (device, kind) = (device.unwrap_or("none"), kind.unwrap_or("none"));
        self.needs_privileges(&format!("a volume of type {kind} on the device {device}"))
    }

    /// Judges a place on this machine, and gives it without symbolic links.
    fn bind(&self, source: &str, real: impl Real) -> Result<String, String> {
        let refused = |why: &str| {
            let what = format!("the bind mount of {source} is not allowed on this node");
            Err(format!("{what}: {why}; start its swarmd with --allow-mount {source} to allow it"))
        };
        let given = Path::new(source);
        if given.components().any(|part| part == Component::ParentDir) {
            return Err(format!("the bind mount of {source} is not allowed: give its path without \"..\""));
        }
        // Whatever it is relative to, it is not relative to where this process is.
        if !given.is_absolute() {
            return Err(format!("the bind mount of {source} is not allowed: give an absolute path"));
        }
        let path =
            real(given).map_err(|why| format!("the bind mount of {source} is not allowed on this node: {why}"))?;
        // Where swarmd cannot follow one of these, no path that it judges leads to what is behind it.
        let real_or_given = |place: &PathBuf| real(place).unwrap_or_else(|_| place.clone());
        let (protected, mounts) = (self.protected.iter().map(real_or_given), self.mounts.iter().map(real_or_given));
        let mounts: Vec<PathBuf> = mounts.collect();
        for place in protected.filter(|place| place.starts_with(&path) || path.starts_with(place)) {
            let named =
                |allowed: &PathBuf| *allowed == path || (allowed.starts_with(&place) && path.starts_with(allowed));
            if !mounts.iter().any(named) {
                return refused(&format!("it reaches {}, which rules this node", place.display()));
            }
        }
        if !mounts.is_empty() && !mounts.iter().any(|allowed| path.starts_with(allowed)) {
            return refused("its operator allows other places only");
        }
        path.into_os_string().into_string().or_else(|_| refused("it leads to a path that is not UTF-8"))
    }

    fn capabilities(&self, wanted: &[String]) -> Result<(), String> {
        let allowed = |name: &String| {
            let name = plain(name);
            self.privileged || ENGINE_DEFAULT.contains(&name.as_str()) || self.capabilities.contains(&name)
        };
        match wanted.iter().find(|name| !allowed(name)) {
            Some(name) => {
                let name = plain(name);
                let flag =
                    if name == "ALL" { "--allow-privileged".to_owned() } else { format!("--allow-capability {name}") };
                Err(format!(
                    "the capability {name} is not allowed on this node: start its swarmd with {flag} to allow it"
                ))
            }
            None => Ok(()),
        }
    }

    fn confinement(&self, privileges: &Privileges) -> Result<(), String> {
        let seccomp = privileges.seccomp.as_ref().map_or(SeccompMode::Default, |seccomp| seccomp.mode());
        let selinux = privileges.selinux.as_ref().is_some_and(|context| *context != SelinuxContext::default());
        let table = [
            (seccomp == SeccompMode::Unconfined, "running without a seccomp profile"),
            (seccomp == SeccompMode::Custom, "a seccomp profile of its own"),
            (privileges.apparmor() == AppArmorMode::Disabled, "running without AppArmor"),
            (selinux, "an SELinux context of its own"),
        ];
        table.into_iter().filter(|(asked, _)| *asked).try_for_each(|(_, what)| self.needs_privileges(what))
    }

    fn needs_privileges(&self, what: &str) -> Result<(), String> {
        if self.privileged {
            return Ok(());
        }
        Err(format!("{what} is not allowed on this node: start its swarmd with --allow-privileged to allow it"))
    }
}

/// Gives a path of this machine without symbolic links, or says why that cannot be known.
pub trait Real: Fn(&Path) -> Result<PathBuf, String> + Copy {}

impl<F: Fn(&Path) -> Result<PathBuf, String> + Copy> Real for F {}

/// A path without symbolic links, as far as it exists; what does not exist yet is left as it is.
///
/// # Errors
/// When something on the way exists and cannot be followed: the engine may follow it to a place that was never judged. So it
/// is with links to nowhere, which may lead somewhere when the engine looks, and with those in `/proc` to what other
/// processes have, for a `swarmd` without the capability SYS_PTRACE.
pub fn real_path(path: &Path) -> Result<PathBuf, String> {
    for above in path.ancestors() {
        match std::fs::canonicalize(above) {
            Ok(real) => {
                return Ok(match path.strip_prefix(above) {
                    // Part by part, which leaves out what means nothing, as the engine does.
                    Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest.components().collect::<PathBuf>()),
                    Ok(_) | Err(_) => real,
                });
            }
            Err(error) if is_there(above) => {
                return Err(format!("{} is there, and swarmd cannot follow it: {error}", above.display()));
            }
            Err(_) => {}
        }
    }
    Ok(path.to_owned())
}

/// Whether there is something with this name, a link to nowhere included, or it cannot be known that there is not.
fn is_there(path: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match std::fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), NotFound | NotADirectory),
    }
}

fn is_bind(word: &str) -> bool {
    matches!(word.trim(), "bind" | "rbind")
}

/// A capability's name as the table has it.
fn plain(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::{Seccomp, VolumeOptions};
    use rustix::thread::{CapabilitySet, CapabilitySets};

    fn judge(policy: &Policy, container: &ContainerSpec) -> Result<(), String> {
        // One symbolic link: /var/run is /run.
        let real = |path: &Path| {
            Ok(path.strip_prefix("/var/run").map_or(path.to_owned(), |rest| Path::new("/run").join(rest)))
        };
        policy.judge(container, real).map(drop)
    }

    fn policy(mounts: &[&str]) -> Policy {
        let protected = ["/run/docker.sock", "/var/lib/swarmd"].map(PathBuf::from);
        Policy::protecting(protected.into()).allow_mounts(mounts.iter().map(PathBuf::from).collect())
    }

    fn bind(source: &str) -> ContainerSpec {
        let mount = Mount { r#type: MountType::Bind.into(), source: source.to_owned(), ..Mount::default() };
        ContainerSpec { mounts: vec![mount], ..ContainerSpec::default() }
    }

    fn volume(driver: &str, options: &[(&str, &str)]) -> ContainerSpec {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let driver = Some(Driver { name: driver.to_owned(), options });
        let volume = Some(VolumeOptions { driver, ..VolumeOptions::default() });
        let mount = Mount { r#type: MountType::Volume.into(), volume, ..Mount::default() };
        ContainerSpec { mounts: vec![mount], ..ContainerSpec::default() }
    }

    #[test]
    fn binds_reach_what_they_may() {
        let cases: [(&[&str], &[&str], &[&str]); 4] = [
            (
                &[],
                &["/srv", "/var/lib", "/home/ada"],
                &[
                    "/",
                    "/run",
                    "/var/run",
                    "/var/run/docker.sock",
                    "/var/lib/swarmd",
                    "/var/lib/swarmd/raft",
                    "/srv/..",
                ],
            ),
            (&["/srv"], &["/srv", "/srv/a"], &["/srv2", "/home", "/", "/run/docker.sock"]),
            (&["/run/docker.sock"], &["/run/docker.sock", "/var/run/docker.sock"], &["/run", "/", "/srv"]),
            (&["/"], &["/", "/srv"], &["/run", "/run/docker.sock"]),
        ];
        for (allowed, good, bad) in cases {
            let policy = policy(allowed);
            for source in good.iter().filter(|source| **source != "/var/lib") {
                assert_eq!(judge(&policy, &bind(source)), Ok(()), "{allowed:?} {source}");
            }
            for source in bad {
                let sentence = judge(&policy, &bind(source)).expect_err(source);
                assert!(sentence.contains("--allow-mount") || sentence.contains("\"..\""), "{sentence}");
            }
        }
        assert!(judge(&policy(&[]), &bind("/var/lib")).is_err(), "it has the state directory in it");
    }

    #[test]
    fn a_volume_mounts_what_this_node_does_not_mind() {
        /// The driver, its options, and the words of the refusal.
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>);
        const LOWER: &str = "lowerdir=/var/lib/swarmd:/run,upperdir=/srv/a,workdir=/srv/b";
        let rows: [Row<'_>; 16] = [
            ("local", &[], None),
            ("local", &[("size", "1g")], None),
            ("local", &[("type", "nfs"), ("o", "addr=10.0.0.1"), ("device", ":/x")], None),
            ("local", &[("type", "cifs"), ("o", "username=ada"), ("device", "//10.0.0.1/x")], None),
            ("local", &[("type", "tmpfs"), ("o", "size=1m"), ("device", "tmpfs")], None),
            ("local", &[("type", "none"), ("o", "bind"), ("device", "/srv")], None),
            ("local", &[("type", "none"), ("o", "rw,rbind"), ("device", "/run")], Some("--allow-mount /run")),
            ("local", &[("type", "nfs"), ("o", "bind"), ("device", "/run")], Some("--allow-mount /run")),
            ("local", &[("type", "none"), ("o", "bind"), ("device", "run/docker.sock")], Some("an absolute path")),
            ("local", &[("type", "none"), ("o", "bind"), ("device", "/srv/../run")], Some("without \"..\"")),
            ("local", &[("type", "overlay"), ("o", LOWER), ("device", "overlay")], Some("--allow-privileged")),
            ("", &[("type", "overlay"), ("o", LOWER), ("device", "overlay")], Some("--allow-privileged")),
            ("local", &[("type", "ext4"), ("device", "/dev/sda1")], Some("--allow-privileged")),
            ("local", &[("device", "LABEL=root")], Some("--allow-privileged")),
            ("plugin", &[("type", "gp3"), ("device", "vol-1")], None),
            ("plugin", &[("device", "/dev/sda1")], Some("--allow-privileged")),
        ];
        for (driver, options, refusal) in rows {
            let judged = judge(&policy(&[]), &volume(driver, options));
            match refusal {
                None => assert_eq!(judged, Ok(()), "{driver} {options:?}"),
                Some(words) => {
                    let sentence = judged.expect_err(words);
                    assert!(sentence.contains(words), "{driver} {options:?}: {sentence}");
                }
            }
        }
        let disk = volume("local", &[("type", "ext4"), ("device", "/dev/sda1")]);
        assert_eq!(judge(&policy(&[]).allow_privileged(true), &disk), Ok(()));
    }

    #[test]
    fn capabilities_beyond_the_engines_own_are_named() {
        let adding = |name: &str| ContainerSpec { capability_add: vec![name.to_owned()], ..ContainerSpec::default() };
        let closed = Policy::default();
        for name in ["CHOWN", "cap_net_raw"] {
            assert_eq!(judge(&closed, &adding(name)), Ok(()), "{name}");
        }
        let sentence = judge(&closed, &adding("cap_net_admin")).expect_err("not by default");
        assert_eq!(
            sentence,
            "the capability NET_ADMIN is not allowed on this node: start its swarmd with --allow-capability NET_ADMIN to allow it"
        );
        assert!(judge(&closed, &adding("ALL")).expect_err("all").contains("--allow-privileged"));
        let open = Policy::default().allow_capabilities(&["Cap_Net_Admin".to_owned()]);
        assert_eq!(judge(&open, &adding("NET_ADMIN")), Ok(()));
        assert!(judge(&open, &adding("SYS_ADMIN")).is_err());
        assert_eq!(judge(&Policy::default().allow_privileged(true), &adding("ALL")), Ok(()));
    }

    #[test]
    fn confinement_is_left_only_where_that_is_allowed() {
        let seccomp = |mode: SeccompMode| Some(Seccomp { mode: mode.into(), profile: Vec::new() });
        let selinux = |context| Privileges { selinux: Some(context), ..Privileges::default() };
        let rows = [
            (Privileges::default(), true),
            (Privileges { no_new_privileges: true, ..Privileges::default() }, true),
            (Privileges { seccomp: seccomp(SeccompMode::Default), ..Privileges::default() }, true),
            (Privileges { seccomp: seccomp(SeccompMode::Unconfined), ..Privileges::default() }, false),
            (Privileges { seccomp: seccomp(SeccompMode::Custom), ..Privileges::default() }, false),
            (Privileges { apparmor: AppArmorMode::Disabled.into(), ..Privileges::default() }, false),
            (selinux(SelinuxContext::default()), true),
            (selinux(SelinuxContext { disable: true, ..SelinuxContext::default() }), false),
            (selinux(SelinuxContext { r#type: "spc_t".to_owned(), ..SelinuxContext::default() }), false),
        ];
        for (privileges, allowed) in rows {
            let container = ContainerSpec { privileges: Some(privileges), ..ContainerSpec::default() };
            assert_eq!(judge(&Policy::default(), &container).is_ok(), allowed, "{container:?}");
            assert_eq!(judge(&Policy::default().allow_privileged(true), &container), Ok(()));
        }
    }

    #[test]
    fn links_are_followed_as_far_as_a_path_exists() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = std::fs::canonicalize(dir.path()).expect("a path");
        std::fs::create_dir(root.join("real")).expect("made");
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).expect("linked");
        std::fs::write(root.join("real/file"), "").expect("written");
        assert_eq!(real_path(&root.join("link")), Ok(root.join("real")));
        assert_eq!(real_path(&root.join("link/later//on/./")), Ok(root.join("real/later/on")));
        assert_eq!(real_path(&root.join("link/file/below")), Ok(root.join("real/file/below")), "the engine refuses it");
    }

    #[test]
    fn what_exists_and_cannot_be_followed_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = std::fs::canonicalize(dir.path()).expect("a path");
        for (link, target) in [("nowhere", "later"), ("loop", "loop"), ("chain", "nowhere")] {
            std::os::unix::fs::symlink(root.join(target), root.join(link)).expect("linked");
        }
        let policy = Policy::protecting(vec![root.join("later"), root.join("loop")]);
        for place in ["nowhere", "loop", "chain", "nowhere/below", "loop/below/it"] {
            let source = root.join(place);
            let refused = policy.judge(&bind(source.to_str().expect("text")), real_path).expect_err(place);
            assert!(refused.contains("is there, and swarmd cannot follow it"), "{place}: {refused}");
        }
        for place in ["free", "free/below"] {
            let source = root.join(place);
            assert!(policy.judge(&bind(source.to_str().expect("text")), real_path).is_ok(), "{place}");
        }
    }

    /// Another process has other files: whoever may not look into it cannot know where its links in `/proc` lead.
    #[test]
    fn what_leads_through_another_process_is_refused_without_the_capability_and_nothing_else_is() {
        let judged = std::thread::spawn(|| {
            // Capabilities are a thread's own.
            let kept = CapabilitySet::DAC_OVERRIDE;
            let all = rustix::thread::capabilities(None).expect("read");
            let few = CapabilitySets { effective: all.effective & kept, ..all };
            rustix::thread::set_capabilities(None, few).expect("given up");
            let policy = Policy::protecting(vec!["/var/lib/swarmd".into()]);
            ["/proc/1/root/srv", "/proc/1/root", "/proc/1", "/srv", "/proc/self/cwd"]
                .map(|source| policy.judge(&bind(source), real_path).map(drop))
        });
        let [through, root, process, other, own] = judged.join().expect("judged");
        for refused in [through, root] {
            let refused = refused.expect_err("it could be anywhere");
            assert!(refused.contains("/proc/1/root") && refused.contains("Permission denied"), "{refused}");
        }
        assert_eq!([process, other, own], [Ok(()), Ok(()), Ok(())]);
    }

    #[test]
    fn what_is_mounted_is_what_was_judged_and_a_changed_link_is_judged_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = std::fs::canonicalize(dir.path()).expect("a path");
        for place in ["data", "state"] {
            std::fs::create_dir(root.join(place)).expect("made");
        }
        let link = root.join("link");
        let point_at = |place: &str| {
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(root.join(place), &link).expect("linked");
        };
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        let policy = Policy::protecting(vec![root.join("state")]);
        let in_volume = volume("local", &[("o", "bind"), ("device", &text(&link))]);
        let device = |mounts: &[Mount]| mounts[0].volume.as_ref()?.driver.as_ref()?.options.get("device").cloned();
        point_at("data");
        let judged = policy.judge(&bind(&text(&link)), real_path).expect("allowed");
        assert_eq!(judged[0].source, text(&root.join("data")), "the engine meets no link");
        let judged = policy.judge(&in_volume, real_path).expect("allowed");
        assert_eq!(device(&judged), Some(text(&root.join("data"))));
        point_at("state");
        for container in [bind(&text(&link)), in_volume] {
            let refused = policy.judge(&container, real_path).expect_err("it leads to the state directory now");
            assert!(refused.contains("which rules this node"), "{refused}");
        }
    }
}
