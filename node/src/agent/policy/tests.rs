//! What a node's policy allows, and the messages for what it forbids.

use super::*;
use events::{NetworkMode, Seccomp, VolumeOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};

fn judge(policy: &Policy, container: &ContainerSpec) -> Result<(), String> {
    // One symbolic link: /var/run is /run.
    let real =
        |path: &Path| Ok(path.strip_prefix("/var/run").map_or(path.to_owned(), |rest| Path::new("/run").join(rest)));
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
            &["/", "/run", "/var/run", "/var/run/docker.sock", "/var/lib/swarmd", "/var/lib/swarmd/raft", "/srv/.."],
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
    /// The driver, its options, and the text of the refusal.
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
        (Privileges { apparmor: AppArmorMode::Custom.into(), ..Privileges::default() }, false),
        (selinux(SelinuxContext::default()), true),
        (selinux(SelinuxContext { disable: true, ..SelinuxContext::default() }), false),
        (selinux(SelinuxContext { r#type: "spc_t".to_owned(), ..SelinuxContext::default() }), false),
    ];
    for (privileges, allowed) in rows {
        let container = ContainerSpec { privileges: Some(privileges), ..ContainerSpec::default() };
        assert_eq!(judge(&Policy::default(), &container).is_ok(), allowed, "{container:?}");
        assert_eq!(judge(&Policy::default().allow_privileged(true), &container), Ok(()));
    }
    for container in [
        ContainerSpec { privileged: true, ..ContainerSpec::default() },
        ContainerSpec { network: NetworkMode::Host.into(), ..ContainerSpec::default() },
        ContainerSpec { cgroup_parent: "/batch".to_owned(), ..ContainerSpec::default() },
        ContainerSpec { device_cgroup_rules: vec!["a *:* rwm".to_owned()], ..ContainerSpec::default() },
    ] {
        let sentence = judge(&Policy::default(), &container).expect_err("not by default");
        assert!(sentence.contains("--allow-privileged"), "{sentence}");
        assert_eq!(judge(&Policy::default().allow_privileged(true), &container), Ok(()));
    }
}

#[test]
fn devices_are_allowed_by_path_and_requests_by_driver_or_capability() {
    let device = |source: &str| {
        let device = Device { source: source.to_owned(), ..Device::default() };
        ContainerSpec { devices: vec![device], ..ContainerSpec::default() }
    };
    let request = |driver: &str, capabilities: &[&str]| {
        let capabilities = capabilities.iter().map(|&name| name.to_owned()).collect();
        let request = DeviceRequest { driver: driver.to_owned(), capabilities, ..DeviceRequest::default() };
        ContainerSpec { device_requests: vec![request], ..ContainerSpec::default() }
    };
    let open = policy(&[]).allow_devices(["/dev/dri", "/var/run/dev", "gpu", "cdi"].map(str::to_owned).into());
    for allowed in [
        device("/dev/dri"),
        device("/dev/dri/card0"),
        device("/run/dev/a"),
        device("/var/run/dev/a"),
        request("", &["gpu", "utility"]),
        request("", &["utility", "gpu"]),
        request("cdi", &[]),
    ] {
        assert_eq!(judge(&open, &allowed), Ok(()), "{allowed:?}");
        assert_eq!(judge(&Policy::default().allow_privileged(true), &allowed), Ok(()), "{allowed:?}");
    }
    for (asked, flag) in [
        (device("/dev/sda"), "--allow-device /dev/sda"),
        (device("/dev/drip"), "--allow-device /dev/drip"),
        (device("/dev"), "--allow-device /dev"),
        (device("gpu"), "--allow-device gpu"),
        (request("nvidia", &["gpu"]), "--allow-device nvidia"),
        (request("", &["tpu"]), "--allow-device tpu"),
    ] {
        let sentence = judge(&open, &asked).expect_err(flag);
        assert!(sentence.contains(flag), "{sentence}");
    }
    // The engine gets the resolved path, and the container the path that it requested.
    let real = |path: &Path| Ok(if path == Path::new("/dev/gpu") { "/dev/dri/card0".into() } else { path.to_owned() });
    let grant = open.judge(&device("/dev/gpu"), real).expect("it leads to one that is allowed");
    assert_eq!((grant.devices[0].source.as_str(), grant.devices[0].target.as_str()), ("/dev/dri/card0", "/dev/gpu"));
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

/// A process without the required capability cannot resolve links in `/proc` of another process.
#[test]
fn what_leads_through_another_process_is_refused_without_the_capability_and_nothing_else_is() {
    let judged = std::thread::spawn(|| {
        // Capabilities are per thread.
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
    let judged = policy.judge(&bind(&text(&link)), real_path).expect("allowed").mounts;
    assert_eq!(judged[0].source, text(&root.join("data")), "the engine meets no link");
    let judged = policy.judge(&in_volume, real_path).expect("allowed").mounts;
    assert_eq!(device(&judged), Some(text(&root.join("data"))));
    point_at("state");
    for container in [bind(&text(&link)), in_volume] {
        let refused = policy.judge(&container, real_path).expect_err("it leads to the state directory now");
        assert!(refused.contains("which controls this node"), "{refused}");
    }
}

#[test]
fn commands_in_tasks_are_allowed_unless_they_are_disabled() {
    assert_eq!(policy(&[]).judge_interaction(), Ok(()));
    let sentence = policy(&[]).disable_exec(true).judge_interaction().expect_err("disabled");
    assert!(sentence.contains("--disable-exec"), "{sentence}");
}
