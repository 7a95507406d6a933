//! Mounts: `--bind SOURCE:TARGET[:OPTIONS]`, `--volume [NAME:]TARGET[:OPTIONS]`, `--tmpfs TARGET[:OPTIONS]`.

use events::{BindOptions, BindPropagation, Mount, MountType, Named, TmpfsOptions, VolumeOptions};

use super::{Invalid, size};

const BIND_HINT: &str = "write SOURCE:TARGET[:OPTIONS] with absolute paths; options are ro, rw, create and rprivate, \
                         private, rshared, shared, rslave or slave";
const VOLUME_HINT: &str =
    "write TARGET, or NAME:TARGET[:OPTIONS], with an absolute target; options are ro, rw and nocopy";
const TMPFS_HINT: &str = "write TARGET[:OPTIONS] with an absolute target; options are ro, rw, size=64m and mode=1777";

/// Reads a directory of the host: `/srv/data:/data:ro`.
///
/// # Errors
/// When a path is not absolute or an option is unknown.
pub fn parse_bind(text: &str) -> Result<Mount, Invalid> {
    let error = |why: String| Invalid::new(format!("bind mount \"{text}\" {why}"), BIND_HINT);
    let mut parts = text.splitn(3, ':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
        return Err(error("has no target".to_owned()));
    };
    if !is_path(source) || !is_path(target) {
        return Err(error("has a path that does not begin with /".to_owned()));
    }
    let mut mount = mount(MountType::Bind, source, target);
    let mut bind = BindOptions::default();
    for option in options(parts.next()) {
        match (option, BindPropagation::from_name(option)) {
            ("ro" | "rw", _) => mount.read_only = option == "ro",
            ("create", _) => bind.create_mountpoint = true,
            (_, Some(propagation)) => bind.set_propagation(propagation),
            (_, None) => return Err(error(format!("has the unknown option \"{option}\""))),
        }
    }
    mount.bind = (bind != BindOptions::default()).then_some(bind);
    Ok(mount)
}

/// Reads a volume of the engine, anonymous (`/data`) or named (`store:/data:ro`).
///
/// # Errors
/// When the target is not absolute, the name looks like a path or an option is unknown.
pub fn parse_volume(text: &str) -> Result<Mount, Invalid> {
    let error = |why: String| Invalid::new(format!("volume \"{text}\" {why}"), VOLUME_HINT);
    let named = text.split_once(':').filter(|(name, _)| !name.starts_with('/'));
    let (source, rest) = named.unwrap_or(("", text));
    let (target, choices) = rest.split_once(':').map_or((rest, None), |(target, choices)| (target, Some(choices)));
    if !is_path(target) {
        return Err(error("has a target that does not begin with /".to_owned()));
    }
    if source.contains('/') {
        return Err(error("has a path for a name; a directory of the host is a bind mount".to_owned()));
    }
    let mut mount = mount(MountType::Volume, source, target);
    for option in options(choices) {
        match option {
            "ro" | "rw" => mount.read_only = option == "ro",
            "nocopy" => mount.volume = Some(VolumeOptions { no_copy: true, ..Default::default() }),
            other => return Err(error(format!("has the unknown option \"{other}\""))),
        }
    }
    Ok(mount)
}

/// Reads a tmpfs mount: `/run:size=64m,mode=1777`.
///
/// # Errors
/// When the target is not absolute, an option is unknown or its value malformed.
pub fn parse_tmpfs(text: &str) -> Result<Mount, Invalid> {
    let error = |why: String| Invalid::new(format!("tmpfs \"{text}\" {why}"), TMPFS_HINT);
    let (target, choices) = text.split_once(':').map_or((text, None), |(target, choices)| (target, Some(choices)));
    if !is_path(target) {
        return Err(error("has a target that does not begin with /".to_owned()));
    }
    let mut mount = mount(MountType::Tmpfs, "", target);
    let mut tmpfs = TmpfsOptions::default();
    for option in options(choices) {
        match option.split_once('=') {
            None if option == "ro" || option == "rw" => mount.read_only = option == "ro",
            Some(("size", value)) => tmpfs.size_bytes = size::parse(value)?,
            Some(("mode", value)) => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                tmpfs.mode = mode.ok_or_else(|| error(format!("has \"{value}\" for a mode, which is not octal")))?;
            }
            Some(_) | None => return Err(error(format!("has the unknown option \"{option}\""))),
        }
    }
    mount.tmpfs = (tmpfs != TmpfsOptions::default()).then_some(tmpfs);
    Ok(mount)
}

/// An absolute path, or a template, which is checked after its expansion.
fn is_path(text: &str) -> bool {
    text.starts_with('/') || text.starts_with("{{")
}

fn mount(kind: MountType, source: &str, target: &str) -> Mount {
    Mount { r#type: kind.into(), source: source.to_owned(), target: target.to_owned(), ..Default::default() }
}

fn options(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.into_iter().flat_map(|text| text.split(',')).filter(|option| !option.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_have_two_absolute_paths() {
        let bind = parse_bind("/srv/data:/data:ro,rshared").expect("a valid bind");
        assert_eq!(
            (bind.r#type(), bind.source.as_str(), bind.target.as_str(), bind.read_only),
            (MountType::Bind, "/srv/data", "/data", true)
        );
        assert_eq!(bind.bind.map(|options| options.propagation()), Some(BindPropagation::Rshared));
        assert_eq!(parse_bind("/a:/b").expect("a valid bind").bind, None);
        assert!(parse_bind("{{.Service.Name}}:{{.Service.Name}}").is_ok());
        for text in ["", "/a", "a:/b", "/a:b", "/a:/b:xx"] {
            assert!(parse_bind(text).is_err(), "{text}");
        }
    }

    #[test]
    fn volumes_are_anonymous_or_named() {
        let anonymous = parse_volume("/data").expect("a valid volume");
        assert_eq!((anonymous.source.as_str(), anonymous.target.as_str()), ("", "/data"));
        let named = parse_volume("store:/data:ro,nocopy").expect("a valid volume");
        assert_eq!((named.source.as_str(), named.target.as_str(), named.read_only), ("store", "/data", true));
        assert!(named.volume.is_some_and(|options| options.no_copy));
        let of_task = parse_volume("data-{{.Task.Slot}}:/data").expect("a valid volume");
        assert_eq!(of_task.source, "data-{{.Task.Slot}}");
        for text in ["", "data", "store:data", "./a:/data", "store:/data:xx", "/a:/b"] {
            assert!(parse_volume(text).is_err(), "{text}");
        }
    }

    #[test]
    fn memory_has_a_size_and_a_mode() {
        let tmpfs = parse_tmpfs("/run:size=64m,mode=1777,ro").expect("a valid tmpfs");
        assert_eq!(tmpfs.tmpfs, Some(TmpfsOptions { size_bytes: 64 << 20, mode: 0o1777, options: String::new() }));
        assert!(tmpfs.read_only);
        for text in ["", "run", "/run:size=x", "/run:mode=9", "/run:mode=17777", "/run:exec"] {
            assert!(parse_tmpfs(text).is_err(), "{text}");
        }
    }
}
