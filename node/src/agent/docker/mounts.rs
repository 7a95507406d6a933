//! Converts mounts to the engine's API. Pure.
//!
//! Engines before API 1.42 cannot create a missing bind source in the long form, but all can in the short form
//! (`source:target:options`). So a bind that requests it uses the short form if that can express all its options.

use bollard::models::{
    Mount as EngineMount, MountBindOptions, MountBindOptionsPropagationEnum as EnginePropagation, MountImageOptions,
    MountTmpfsOptions, MountType as EngineMountType, MountVolumeOptions, MountVolumeOptionsDriverConfig,
};
use events::{BindOptions, BindPropagation, Mount, MountConsistency, MountType, TmpfsOptions, VolumeOptions};

use super::config::{number, signed, text};
use super::host::map;

/// The mounts in short form and those in long form.
pub(super) fn mounts(mounts: &[Mount]) -> (Vec<String>, Vec<EngineMount>) {
    let (short, long): (Vec<&Mount>, Vec<&Mount>) = mounts.iter().partition(|mount| fits_short_form(mount));
    (short.into_iter().map(short_form).collect(), long.into_iter().map(long_form).collect())
}

/// Whether a mount is a bind that creates its source and needs no option that the short form lacks.
pub(super) fn fits_short_form(mount: &Mount) -> bool {
    let Some(bind) = mount.bind.filter(|bind| mount.r#type() == MountType::Bind && bind.create_mountpoint) else {
        return false;
    };
    let plain = !bind.non_recursive && !bind.read_only_non_recursive && !bind.read_only_force_recursive;
    plain && !mount.source.contains(':') && !mount.target.contains(':')
}

fn short_form(mount: &Mount) -> String {
    let mut options = vec![if mount.read_only { "ro" } else { "rw" }];
    options.extend(consistency(mount.consistency()));
    match mount.bind.unwrap_or_default().propagation() {
        // The engine's default.
        BindPropagation::Rprivate => {}
        BindPropagation::Private => options.push("private"),
        BindPropagation::Rshared => options.push("rshared"),
        BindPropagation::Shared => options.push("shared"),
        BindPropagation::Rslave => options.push("rslave"),
        BindPropagation::Slave => options.push("slave"),
    }
    format!("{}:{}:{}", mount.source, mount.target, options.join(","))
}

fn long_form(mount: &Mount) -> EngineMount {
    let typ = match mount.r#type() {
        MountType::Bind => EngineMountType::BIND,
        MountType::Volume => EngineMountType::VOLUME,
        MountType::Tmpfs => EngineMountType::TMPFS,
        MountType::Npipe => EngineMountType::NPIPE,
        MountType::Image => EngineMountType::IMAGE,
    };
    EngineMount {
        typ: Some(typ),
        source: text(&mount.source),
        target: text(&mount.target),
        read_only: Some(mount.read_only),
        consistency: consistency(mount.consistency()).map(str::to_owned),
        bind_options: mount.bind.as_ref().map(bind_options),
        volume_options: mount.volume.as_ref().map(volume_options),
        tmpfs_options: mount.tmpfs.as_ref().map(tmpfs_options),
        image_options: mount.image.as_ref().map(|image| MountImageOptions { subpath: text(&image.subpath) }),
    }
}

fn consistency(consistency: MountConsistency) -> Option<&'static str> {
    match consistency {
        MountConsistency::Default => None,
        MountConsistency::Consistent => Some("consistent"),
        MountConsistency::Cached => Some("cached"),
        MountConsistency::Delegated => Some("delegated"),
    }
}

fn bind_options(bind: &BindOptions) -> MountBindOptions {
    let propagation = match bind.propagation() {
        BindPropagation::Rprivate => EnginePropagation::RPRIVATE,
        BindPropagation::Private => EnginePropagation::PRIVATE,
        BindPropagation::Rshared => EnginePropagation::RSHARED,
        BindPropagation::Shared => EnginePropagation::SHARED,
        BindPropagation::Rslave => EnginePropagation::RSLAVE,
        BindPropagation::Slave => EnginePropagation::SLAVE,
    };
    MountBindOptions {
        propagation: Some(propagation),
        non_recursive: flag(bind.non_recursive),
        create_mountpoint: flag(bind.create_mountpoint),
        read_only_non_recursive: flag(bind.read_only_non_recursive),
        read_only_force_recursive: flag(bind.read_only_force_recursive),
    }
}

fn volume_options(volume: &VolumeOptions) -> MountVolumeOptions {
    let driver = volume
        .driver
        .as_ref()
        .map(|driver| MountVolumeOptionsDriverConfig { name: text(&driver.name), options: map(&driver.options) });
    MountVolumeOptions {
        no_copy: flag(volume.no_copy),
        labels: map(&volume.labels),
        driver_config: driver,
        subpath: text(&volume.subpath),
    }
}

/// Options have the form `noexec,uid=1`; the engine expects a list of one or two words each.
fn tmpfs_options(tmpfs: &TmpfsOptions) -> MountTmpfsOptions {
    let words = tmpfs.options.split(',').map(str::trim).filter(|option| !option.is_empty());
    let options: Vec<Vec<String>> = words.map(|option| option.splitn(2, '=').map(str::to_owned).collect()).collect();
    MountTmpfsOptions {
        size_bytes: number(signed(tmpfs.size_bytes)),
        mode: number(i64::from(tmpfs.mode)),
        options: (!options.is_empty()).then_some(options),
    }
}

/// `None` for false, so that the field is not sent to engines without it.
fn flag(value: bool) -> Option<bool> {
    value.then_some(true)
}
