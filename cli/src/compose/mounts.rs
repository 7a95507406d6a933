//! `volumes` and `tmpfs` of a service: directories of the node, volumes of its engine, and tmpfs.

use events::{BindPropagation, Mount, MountConsistency, MountType, Named, ServiceSpec};

use super::scope::{KeyRule, Scope, put};
use crate::spec::container;
use crate::values::{Invalid, mount, size};
use crate::yaml::{At, Node, Value};

pub(super) fn read(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    for item in scope.items(node) {
        let mount = match &item.value {
            Value::Map(_) => long(item, scope),
            Value::Scalar { .. } | Value::List(_) => short(item, scope),
        };
        container(spec).mounts.extend(mount);
    }
}

pub(super) fn read_tmpfs(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    let mounts = scope.values(node, mount::parse_tmpfs);
    container(spec).mounts.extend(mounts);
}

/// `[SOURCE:]TARGET[:OPTIONS]`; a source that is a path is a directory of the node.
fn short(node: &Node, scope: &mut Scope<'_>) -> Option<Mount> {
    let text = scope.text(node)?;
    let Some((source, rest)) = text.split_once(':').filter(|(source, _)| !source.is_empty()) else {
        return scope.value(node, mount::parse_volume);
    };
    if is_path(source) {
        let source = absolute(source, scope);
        return scope.valid(&node.at, mount::parse_bind(&format!("{source}:{rest}")));
    }
    let mut mount = scope.value(node, mount::parse_volume)?;
    define(&mut mount, &node.at, scope);
    Some(mount)
}

fn is_path(source: &str) -> bool {
    source.starts_with(['/', '.', '~'])
}

/// An absolute path on the node: relative paths start at the directory of the file, `~` at the user's home directory.
fn absolute(source: &str, scope: &Scope<'_>) -> String {
    let home = source.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
    match (home, (scope.local.variable)("HOME")) {
        (Some(rest), Some(home)) => format!("{home}{rest}"),
        _ if source.starts_with('.') => {
            let mut path = scope.local.directory.to_path_buf();
            for part in source.split('/') {
                match part {
                    "" | "." => {}
                    ".." => {
                        path.pop();
                    }
                    part => path.push(part),
                }
            }
            path.display().to_string()
        }
        _ => source.to_owned(),
    }
}

/// Fills in the definition of a named volume from the file.
fn define(mount: &mut Mount, at: &At, scope: &mut Scope<'_>) {
    if mount.r#type() != MountType::Volume || mount.source.is_empty() {
        return;
    }
    let Some(volume) = scope.volumes.get(&mount.source).cloned() else {
        let sentence = format!("{}: the file does not define the volume {} below volumes", scope.path(), mount.source);
        return scope.wrong(at, sentence);
    };
    mount.source = volume.name;
    let options = mount.volume.get_or_insert_default();
    options.driver = volume.options.driver;
    options.labels.extend(volume.options.labels);
}

fn long(node: &Node, scope: &mut Scope<'_>) -> Option<Mount> {
    let mut mount = Mount::default();
    mount.set_type(MountType::Volume);
    scope.fields(&mut mount, node, &KEYS);
    if mount.target.is_empty() {
        let sentence = format!("{}: the mount has no target", scope.path());
        scope.wrong(&node.at, sentence);
        return None;
    }
    if mount.r#type() == MountType::Bind {
        mount.source = absolute(&mount.source, scope);
    }
    define(&mut mount, &node.at, scope);
    Some(mount)
}

const KEYS: [(&str, KeyRule<Mount>); 9] = [
    (
        "type",
        KeyRule::Read(|mount, node, scope| {
            let types = [
                ("bind", MountType::Bind),
                ("volume", MountType::Volume),
                ("tmpfs", MountType::Tmpfs),
                ("npipe", MountType::Npipe),
                ("image", MountType::Image),
            ];
            put(&mut mount.r#type, scope.word(node, &types).map(Into::into));
        }),
    ),
    ("source", KeyRule::Read(|mount, node, scope| put(&mut mount.source, scope.text(node).map(str::to_owned)))),
    ("target", KeyRule::Read(|mount, node, scope| put(&mut mount.target, scope.text(node).map(str::to_owned)))),
    ("read_only", KeyRule::Read(|mount, node, scope| put(&mut mount.read_only, scope.boolean(node)))),
    (
        "consistency",
        KeyRule::Read(|mount, node, scope| {
            let consistency = scope.value(node, |text| named::<MountConsistency>("consistency", text));
            put(&mut mount.consistency, consistency.map(Into::into));
        }),
    ),
    ("bind", KeyRule::Read(|mount, node, scope| scope.fields(mount, node, &BIND))),
    ("volume", KeyRule::Read(|mount, node, scope| scope.fields(mount, node, &VOLUME))),
    ("tmpfs", KeyRule::Read(|mount, node, scope| scope.fields(mount, node, &TMPFS))),
    ("image", KeyRule::Read(|mount, node, scope| scope.fields(mount, node, &IMAGE))),
];

fn named<E: Named>(what: &str, text: &str) -> Result<E, Invalid> {
    E::from_name(text)
        .ok_or_else(|| Invalid::new(format!("there is no {what} \"{text}\""), "leave it out for the default"))
}

const BIND: [(&str, KeyRule<Mount>); 4] = [
    (
        "propagation",
        KeyRule::Read(|mount, node, scope| {
            let propagation = scope.value(node, |text| named::<BindPropagation>("propagation", text));
            put(&mut mount.bind.get_or_insert_default().propagation, propagation.map(Into::into));
        }),
    ),
    (
        "create_host_path",
        KeyRule::Read(|mount, node, scope| {
            put(&mut mount.bind.get_or_insert_default().create_mountpoint, scope.boolean(node));
        }),
    ),
    (
        "recursive",
        KeyRule::Read(|mount, node, scope| {
            let bind = mount.bind.get_or_insert_default();
            match scope.word(node, &[("enabled", 0), ("disabled", 1), ("writable", 2), ("readonly", 3)]) {
                Some(1) => bind.non_recursive = true,
                Some(2) => bind.read_only_non_recursive = true,
                Some(3) => bind.read_only_force_recursive = true,
                Some(_) | None => {}
            }
        }),
    ),
    ("selinux", KeyRule::Unsupported("mounts are not relabelled in this version")),
];

const VOLUME: [(&str, KeyRule<Mount>); 3] = [
    (
        "nocopy",
        KeyRule::Read(|mount, node, scope| {
            put(&mut mount.volume.get_or_insert_default().no_copy, scope.boolean(node));
        }),
    ),
    (
        "subpath",
        KeyRule::Read(|mount, node, scope| {
            put(&mut mount.volume.get_or_insert_default().subpath, scope.text(node).map(str::to_owned));
        }),
    ),
    (
        "labels",
        KeyRule::Read(|mount, node, scope| {
            mount.volume.get_or_insert_default().labels.extend(scope.labels(node));
        }),
    ),
];

const IMAGE: [(&str, KeyRule<Mount>); 1] = [(
    "subpath",
    KeyRule::Read(|mount, node, scope| {
        put(&mut mount.image.get_or_insert_default().subpath, scope.text(node).map(str::to_owned));
    }),
)];

const TMPFS: [(&str, KeyRule<Mount>); 2] = [
    (
        "size",
        KeyRule::Read(|mount, node, scope| {
            put(&mut mount.tmpfs.get_or_insert_default().size_bytes, scope.value(node, size::parse));
        }),
    ),
    (
        "mode",
        KeyRule::Read(|mount, node, scope| {
            put(&mut mount.tmpfs.get_or_insert_default().mode, scope.value(node, octal));
        }),
    ),
];

/// Permission bits. They must start with a zero, because YAML parsers disagree about other numbers.
pub(super) fn octal(text: &str) -> Result<u32, Invalid> {
    let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'));
    let mode = digits.and_then(|digits| u32::from_str_radix(if digits.is_empty() { "0" } else { digits }, 8).ok());
    let hint = "write permission bits in octal with a zero in front, such as 0440";
    mode.filter(|mode| *mode <= 0o7777).ok_or_else(|| Invalid::new(format!("\"{text}\" is not a mode"), hint))
}
