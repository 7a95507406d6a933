//! Mounts in the form of Docker's `--mount`: `type=volume,source=data,target=/data,volume-opt=size=1g`.

use events::{BindOptions, BindPropagation, Mount, MountConsistency, MountType, Named, TmpfsOptions, VolumeOptions};

use super::{Invalid, pair, size};

const HINT: &str = "write KEY=VALUE,... of type (bind, volume, tmpfs, npipe, image), source, target, readonly, consistency, \
                    bind-propagation, bind-recursive, bind-create-src, volume-nocopy, volume-label, volume-driver, volume-opt, \
                    volume-subpath, image-subpath, tmpfs-size, tmpfs-mode and tmpfs-options; put a part with commas in double quotes";

/// Reads a mount of any type with all of its options.
///
/// # Errors
/// When a key is unknown or belongs to another type, a value is malformed, or there is no target.
pub fn parse(text: &str) -> Result<Mount, Invalid> {
    let error = |why: String| Invalid::new(format!("mount \"{text}\" {why}"), HINT);
    let mut mount = Mount { r#type: MountType::Volume.into(), ..Default::default() };
    for part in parts(text).ok_or_else(|| error("has a double quote that is not closed".to_owned()))? {
        let (key, value) = part.split_once('=').map_or((part.as_str(), None), |(key, value)| (key, Some(value)));
        let known = common(&mut mount, key, value).or_else(|| of_type(&mut mount, key, value));
        match known {
            Some(Ok(())) => {}
            Some(Err(why)) => return Err(error(format!("has {why}"))),
            None => return Err(error(format!("has the unknown key \"{key}\""))),
        }
    }
    if mount.target.is_empty() {
        return Err(error("has no target".to_owned()));
    }
    let given = [
        (MountType::Bind, mount.bind.is_some()),
        (MountType::Volume, mount.volume.is_some()),
        (MountType::Tmpfs, mount.tmpfs.is_some()),
        (MountType::Image, mount.image.is_some()),
    ];
    let stray = given.iter().any(|(of, is_given)| *is_given && *of != mount.r#type());
    if stray {
        return Err(error(format!("is of type {} and has options of another type", mount.r#type().name())));
    }
    Ok(mount)
}

/// The parts between commas. As in CSV, a part in double quotes may hold commas, and quotes written twice.
fn parts(text: &str) -> Option<Vec<String>> {
    let (mut parts, mut part, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => part.extend(letters.next()),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => parts.push(std::mem::take(&mut part)),
            other => part.push(other),
        }
    }
    parts.push(part);
    (!is_quoted).then_some(parts)
}

/// The result for a key: `None` if it is unknown, an error if its value is malformed.
type Outcome = Option<Result<(), String>>;

/// The keys that all types share.
fn common(mount: &mut Mount, key: &str, value: Option<&str>) -> Outcome {
    Some(match key {
        "type" => named(value, key).map(|kind: MountType| mount.set_type(kind)),
        "source" | "src" => text(value, key).map(|path| mount.source = path),
        "target" | "dst" | "destination" => text(value, key).map(|path| mount.target = path),
        "readonly" | "ro" => switch(value, key).map(|on| mount.read_only = on),
        "consistency" => named(value, key).map(|of: MountConsistency| mount.set_consistency(of)),
        _ => return None,
    })
}

/// The keys that belong to one type.
fn of_type(mount: &mut Mount, key: &str, value: Option<&str>) -> Outcome {
    if let Some(key) = key.strip_prefix("bind-") {
        return bind(mount.bind.get_or_insert_default(), key, value);
    }
    if let Some(key) = key.strip_prefix("volume-") {
        return volume(mount.volume.get_or_insert_default(), key, value);
    }
    if key == "image-subpath" {
        return Some(text(value, key).map(|path| mount.image.get_or_insert_default().subpath = path));
    }
    key.strip_prefix("tmpfs-").and_then(|key| tmpfs(mount.tmpfs.get_or_insert_default(), key, value))
}

fn bind(bind: &mut BindOptions, key: &str, value: Option<&str>) -> Outcome {
    Some(match key {
        "propagation" => named(value, key).map(|of: BindPropagation| bind.set_propagation(of)),
        "create-src" => switch(value, key).map(|on| bind.create_mountpoint = on),
        "nonrecursive" => switch(value, key).map(|on| bind.non_recursive = on),
        "recursive" => {
            let (disabled, writable, readonly) = match value {
                Some("enabled") => (false, false, false),
                Some("disabled") => (true, false, false),
                Some("writable") => (false, true, false),
                Some("readonly") => (false, false, true),
                _ => return Some(Err(wrong(key, value))),
            };
            bind.non_recursive = disabled;
            bind.read_only_non_recursive = writable;
            bind.read_only_force_recursive = readonly;
            Ok(())
        }
        _ => return None,
    })
}

fn volume(volume: &mut VolumeOptions, key: &str, value: Option<&str>) -> Outcome {
    let entry = || pair::parse(value.unwrap_or_default()).map_err(|_| wrong(key, value));
    Some(match key {
        "nocopy" => switch(value, key).map(|on| volume.no_copy = on),
        "subpath" => text(value, key).map(|path| volume.subpath = path),
        "label" => entry().map(|(key, value)| drop(volume.labels.insert(key, value))),
        "driver" => text(value, key).map(|name| volume.driver.get_or_insert_default().name = name),
        "opt" => entry().map(|(key, value)| drop(volume.driver.get_or_insert_default().options.insert(key, value))),
        _ => return None,
    })
}

fn tmpfs(tmpfs: &mut TmpfsOptions, key: &str, value: Option<&str>) -> Outcome {
    let mode = |text: &str| u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    Some(match key {
        "size" => value.and_then(|text| size::parse(text).ok()).map(|bytes| tmpfs.size_bytes = bytes),
        "mode" => value.and_then(mode).map(|mode| tmpfs.mode = mode),
        "options" => value.map(|options| tmpfs.options = options.to_owned()),
        _ => return None,
    })
    .map(|read| read.ok_or_else(|| wrong(key, value)))
}

fn named<E: Named>(value: Option<&str>, key: &str) -> Result<E, String> {
    value.and_then(E::from_name).ok_or_else(|| wrong(key, value))
}

fn text(value: Option<&str>, key: &str) -> Result<String, String> {
    value.filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(|| wrong(key, value))
}

/// A key without a value means true.
fn switch(value: Option<&str>, key: &str) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(_) => Err(wrong(key, value)),
    }
}

fn wrong(key: &str, value: Option<&str>) -> String {
    value.map_or_else(|| format!("no value for {key}"), |value| format!("\"{value}\" for {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::{Driver, ImageOptions};

    fn of(kind: MountType, source: &str, target: &str) -> Mount {
        Mount { r#type: kind.into(), source: source.to_owned(), target: target.to_owned(), ..Default::default() }
    }

    #[test]
    fn every_option_has_its_key() {
        let map = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        let driver = Driver { name: "local".to_owned(), options: map("o", "addr=10.0.0.1,vers=4") };
        let propagation = BindPropagation::Rslave.into();
        let table = [
            ("target=/data", of(MountType::Volume, "", "/data")),
            (
                "type=bind,src=/a,dst=/b,readonly,consistency=cached,bind-propagation=rslave,bind-create-src",
                Mount {
                    read_only: true,
                    consistency: MountConsistency::Cached.into(),
                    bind: Some(BindOptions { propagation, create_mountpoint: true, ..Default::default() }),
                    ..of(MountType::Bind, "/a", "/b")
                },
            ),
            (
                r#"source=v,target=/v,volume-nocopy=true,volume-label=l=1,volume-driver=local,"volume-opt=o=addr=10.0.0.1,vers=4",volume-subpath=s"#,
                Mount {
                    volume: Some(VolumeOptions {
                        no_copy: true,
                        labels: map("l", "1"),
                        driver: Some(driver),
                        subpath: "s".to_owned(),
                    }),
                    ..of(MountType::Volume, "v", "/v")
                },
            ),
            (
                r#"type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=1770,"tmpfs-options=noexec,uid=1",ro=false"#,
                Mount {
                    tmpfs: Some(TmpfsOptions { size_bytes: 1 << 20, mode: 0o1770, options: "noexec,uid=1".to_owned() }),
                    ..of(MountType::Tmpfs, "", "/t")
                },
            ),
            (
                "type=image,source=models:1,target=/m,image-subpath=small",
                Mount {
                    image: Some(ImageOptions { subpath: "small".to_owned() }),
                    ..of(MountType::Image, "models:1", "/m")
                },
            ),
            (r"type=npipe,source=\\.\pipe\a,target=\\.\pipe\b", of(MountType::Npipe, r"\\.\pipe\a", r"\\.\pipe\b")),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn recursion_has_four_values() {
        for (value, expected) in [
            ("enabled", BindOptions::default()),
            ("disabled", BindOptions { non_recursive: true, ..Default::default() }),
            ("writable", BindOptions { read_only_non_recursive: true, ..Default::default() }),
            ("readonly", BindOptions { read_only_force_recursive: true, ..Default::default() }),
        ] {
            let mount = parse(&format!("type=bind,source=/a,target=/b,bind-recursive={value}")).expect(value);
            assert_eq!(mount.bind, Some(expected), "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("", "unknown key \"\""),
            ("type=volume", "no target"),
            ("target=/a,colour=red", "unknown key \"colour\""),
            ("target=/a,bind-colour=red", "unknown key \"bind-colour\""),
            ("target=/a,type=disk", "\"disk\" for type"),
            ("target=/a,readonly=maybe", "\"maybe\" for readonly"),
            ("target", "no value for target"),
            ("target=/a,tmpfs-size=1m", "options of another type"),
            ("target=/a,image-subpath=s", "options of another type"),
            ("type=image,source=a,target=/a,image-subpath", "no value for image-subpath"),
            ("type=tmpfs,target=/a,tmpfs-mode=9", "\"9\" for mode"),
            ("type=bind,source=/a,target=/a,bind-recursive=yes", "\"yes\" for recursive"),
            ("target=/a,volume-opt==x", "\"=x\" for opt"),
            ("target=/a,\"volume-opt=o", "not closed"),
        ] {
            let refused = parse(text).expect_err(text);
            assert!(refused.sentence.contains(why), "{text}: {refused}");
        }
    }
}
