//! Mounts of a container.

use std::collections::BTreeSet;

use events::{BindOptions, BindPropagation, Mount, MountConsistency, MountType, Named};

use super::{Fault, IMAGE_HINT, Verdict, is_image_reference, known};
use crate::text::quote;

/// Every mount has a unique target and a source that fits its type.
pub(super) fn mounts(mounts: &[Mount]) -> Verdict {
    let mut targets = BTreeSet::new();
    for mount in mounts {
        known::<MountType>(mount.r#type, "mount type")?;
        known::<MountConsistency>(mount.consistency, "mount consistency")?;
        if let Some(bind) = &mount.bind {
            known::<BindPropagation>(bind.propagation, "bind propagation")?;
        }
        target(mount)?;
        source(mount)?;
        options(mount)?;
        if !targets.insert(mount.target.trim_end_matches('/')) {
            let sentence = format!("two mounts have the target {}", quote(&mount.target));
            return Err(Fault::invalid(sentence, "give every mount a path of its own in the container"));
        }
    }
    Ok(())
}

fn target(mount: &Mount) -> Verdict {
    if !is_absolute(&mount.target) || mount.target == "/" {
        let sentence = format!("the mount target {} is not an absolute path below /", quote(&mount.target));
        return Err(Fault::invalid(sentence, "give a path in the container such as /data"));
    }
    Ok(())
}

fn source(mount: &Mount) -> Verdict {
    let shown = quote(&mount.source);
    match mount.r#type() {
        MountType::Bind if !is_absolute(&mount.source) => Err(Fault::invalid(
            format!("the source {shown} of a bind mount is not an absolute path"),
            "give a path on the node such as /srv/data, or use a volume",
        )),
        MountType::Volume if !is_volume_name(&mount.source) => Err(Fault::invalid(
            format!("the source {shown} of a volume mount is not a volume's name"),
            "use letters, digits, - . and _, or no name for a volume of the task's own; paths are for bind mounts",
        )),
        MountType::Tmpfs if !mount.source.is_empty() => {
            Err(Fault::invalid(format!("a tmpfs mount has the source {shown}"), "omit the source of a tmpfs mount"))
        }
        MountType::Npipe if mount.source.is_empty() => {
            Err(Fault::invalid("a named pipe has no source", "give the pipe's path on the node"))
        }
        MountType::Image if !mount.source.contains("{{") && !is_image_reference(&mount.source) => {
            Err(Fault::invalid(format!("the source {shown} of an image mount is not an image"), IMAGE_HINT))
        }
        MountType::Bind | MountType::Volume | MountType::Tmpfs | MountType::Npipe | MountType::Image => Ok(()),
    }
}

/// Options of another type of mount would be silently ignored.
fn options(mount: &Mount) -> Verdict {
    let of = mount.r#type();
    let given = [
        (MountType::Bind, mount.bind.is_some()),
        (MountType::Volume, mount.volume.is_some()),
        (MountType::Tmpfs, mount.tmpfs.is_some()),
        (MountType::Image, mount.image.is_some()),
    ];
    let stray = given.iter().any(|(its, is_given)| *is_given && *its != of);
    if stray {
        let sentence = format!("the {} mount at {} has options of another type", of.name(), quote(&mount.target));
        return Err(Fault::invalid(sentence, "give bind, volume, tmpfs and image options only to mounts of that type"));
    }
    mount.bind.as_ref().map_or(Ok(()), |bind| recursion(mount, bind))?;
    let of_volume = mount.volume.as_ref().map(|volume| volume.subpath.as_str());
    let subpath = of_volume.or(mount.image.as_ref().map(|image| image.subpath.as_str())).unwrap_or_default();
    if is_absolute(subpath) && !subpath.starts_with("{{") || subpath.split(['/', '\\']).any(|part| part == "..") {
        let (what, target) = (of.name(), quote(&mount.target));
        let sentence = format!("the subpath {} leads out of the {what} at {target}", quote(subpath));
        return Err(Fault::invalid(sentence, format!("give a path within the {what}, such as site/html")));
    }
    Ok(())
}

/// Options for submounts only apply to a read-only bind mount, and so require one.
fn recursion(mount: &Mount, bind: &BindOptions) -> Verdict {
    let asked = [bind.non_recursive, bind.read_only_non_recursive, bind.read_only_force_recursive];
    let fault =
        |why: &str, hint: &str| Err(Fault::invalid(format!("the bind mount at {} {why}", quote(&mount.target)), hint));
    if asked.iter().filter(|of| **of).count() > 1 {
        return fault("sets the recursion of the bind mount twice", "give bind-recursive once");
    }
    if (bind.read_only_non_recursive || bind.read_only_force_recursive) && !mount.read_only {
        return fault("is not read-only, as bind-recursive=writable and readonly need it", "add readonly");
    }
    if bind.read_only_force_recursive && bind.propagation() != BindPropagation::Rprivate {
        let why = "has bind-recursive=readonly and another propagation than rprivate";
        return fault(why, "omit bind-propagation, or give bind-propagation=rprivate");
    }
    Ok(())
}

/// Absolute on Linux or Windows, or a template that the node expands.
fn is_absolute(path: &str) -> bool {
    let mut start = path.chars();
    let drive = start.next().is_some_and(|c| c.is_ascii_alphabetic()) && start.next() == Some(':');
    path.starts_with('/') || path.starts_with("\\\\") || path.starts_with("{{") || drive
}

fn is_volume_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    name.is_empty()
        || name.contains("{{")
        || (name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(of: MountType, source: &str, target: &str) -> Mount {
        Mount { r#type: of.into(), source: source.into(), target: target.into(), ..Default::default() }
    }

    #[test]
    fn sources_fit_their_type() {
        use MountType::{Bind, Image, Npipe, Tmpfs, Volume};
        for (of, source, sound) in [
            (Bind, "/srv", true),
            (Bind, "C:\\data", true),
            (Bind, "{{.Node.Hostname}}", true),
            (Bind, "", false),
            (Bind, "srv", false),
            (Volume, "data-1", true),
            (Volume, "", true),
            (Volume, "{{.Service.Name}}-data", true),
            (Volume, "/srv", false),
            (Volume, "-data", false),
            (Tmpfs, "", true),
            (Tmpfs, "/tmp", false),
            (Npipe, "\\\\.\\pipe\\x", true),
            (Npipe, "", false),
            (Image, "models:1", true),
            (Image, "{{.Service.Name}}:1", true),
            (Image, "", false),
            (Image, "/srv", false),
        ] {
            assert_eq!(mounts(&[mount(of, source, "/data")]).is_ok(), sound, "{of:?} {source}");
        }
    }

    #[test]
    fn targets_are_absolute_and_unique() {
        for target in ["", "data", "/"] {
            assert!(mounts(&[mount(MountType::Tmpfs, "", target)]).is_err(), "{target}");
        }
        let at = |target| mount(MountType::Tmpfs, "", target);
        assert_eq!(mounts(&[at("/a"), at("/a/b")]), Ok(()));
        assert!(mounts(&[at("/a"), at("/b"), at("/a")]).is_err());
        assert!(mounts(&[at("/a"), at("/a/")]).is_err());
    }

    #[test]
    fn how_far_a_mount_is_read_only_is_said_once_of_one_that_is() {
        let bind = |read_only, bind| Mount { read_only, bind: Some(bind), ..mount(MountType::Bind, "/srv", "/data") };
        let writable = BindOptions { read_only_non_recursive: true, ..BindOptions::default() };
        let readonly = BindOptions { read_only_force_recursive: true, ..BindOptions::default() };
        let shared = BindOptions { propagation: BindPropagation::Rshared.into(), ..readonly };
        let twice = BindOptions { non_recursive: true, ..readonly };
        for (made, sound) in [
            (bind(true, writable), true),
            (bind(false, writable), false),
            (bind(true, readonly), true),
            (bind(false, readonly), false),
            (bind(true, shared), false),
            (bind(true, twice), false),
        ] {
            assert_eq!(mounts(std::slice::from_ref(&made)).is_ok(), sound, "{made:?}");
        }
    }

    #[test]
    fn a_subpath_stays_in_its_volume_or_image() {
        for (subpath, sound) in [
            ("", true),
            ("site/html", true),
            ("a/..b", true),
            ("/etc", false),
            ("..", false),
            ("a/../../etc", false),
            ("C:\\data", false),
        ] {
            let volume = events::VolumeOptions { subpath: subpath.into(), ..Default::default() };
            let made = Mount { volume: Some(volume), ..mount(MountType::Volume, "v", "/data") };
            assert_eq!(mounts(&[made]).is_ok(), sound, "{subpath}");
            let image = Some(events::ImageOptions { subpath: subpath.into() });
            let made = Mount { image, ..mount(MountType::Image, "models:1", "/data") };
            assert_eq!(mounts(&[made]).is_ok(), sound, "{subpath}");
        }
    }

    #[test]
    fn options_belong_to_the_type() {
        let mut volume = mount(MountType::Volume, "v", "/data");
        volume.volume = Some(events::VolumeOptions::default());
        assert_eq!(mounts(std::slice::from_ref(&volume)), Ok(()));
        volume.bind = Some(events::BindOptions::default());
        assert!(mounts(&[volume]).is_err());
        let mut tmpfs = mount(MountType::Tmpfs, "", "/data");
        tmpfs.image = Some(events::ImageOptions::default());
        assert!(mounts(&[tmpfs]).is_err());
        let mut bind = mount(MountType::Bind, "/srv", "/data");
        bind.bind = Some(events::BindOptions { propagation: 9, ..Default::default() });
        assert!(mounts(&[bind]).is_err());
    }
}
