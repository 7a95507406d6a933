//! What tasks may use of this machine, regardless of the cluster's decisions: the node's operator decides with flags of
//! `swarmd`, and a task that asks for more is rejected. Anyone who can mount the engine's socket or the state directory of
//! `swarmd` is root on this machine and may control the whole cluster.
//!
//! Pure, except that the file system's symbolic links are passed in. A container is created with the resolved paths that were
//! judged, and judged again before it starts, so a link changed in between has no effect. Two risks remain: a task that can
//! write to a directory above a path and inserts a link while the engine mounts it, and volumes that already exist on the
//! engine.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use events::{
    AppArmorMode, ContainerSpec, Device, DeviceRequest, Driver, Mount, MountType, NetworkMode, Privileges, SeccompMode,
    SelinuxContext,
};

/// Capabilities that the engine gives every container by default; requesting them needs no permission.
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

/// File system types that give no access to this machine: network file systems and memory.
const HARMLESS_TYPES: [&str; 4] = ["nfs", "nfs4", "cifs", "tmpfs"];

/// What tasks may request on a node.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    protected: Vec<PathBuf>,
    mounts: Vec<PathBuf>,
    capabilities: BTreeSet<String>,
    devices: Vec<String>,
    privileged: bool,
    exec_disabled: bool,
}

/// What a container gets of this machine, with symbolic links in paths resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// Its devices.
    pub devices: Vec<Device>,
}

impl Policy {
    /// The default policy: only the engine's own capabilities, the engine's profiles, and binds of all paths but the
    /// `protected` ones.
    pub fn protecting(protected: Vec<PathBuf>) -> Self {
        Self { protected, ..Self::default() }
    }

    /// The policy with bind mounts limited to these paths and what is below them; without any, all but the protected paths are
    /// allowed.
    pub fn allow_mounts(self, mounts: Vec<PathBuf>) -> Self {
        Self { mounts, ..self }
    }

    /// The policy with these capabilities allowed, in any spelling.
    pub fn allow_capabilities<'a>(self, names: impl IntoIterator<Item = &'a String>) -> Self {
        Self { capabilities: names.into_iter().map(|name| normalized(name)).collect(), ..self }
    }

    /// The policy with these devices allowed: a path and all that is below it, or a driver or capability of device requests.
    pub fn allow_devices(self, devices: Vec<String>) -> Self {
        Self { devices, ..self }
    }

    /// The policy with all capabilities and devices allowed and without confinement, if `privileged`.
    pub fn allow_privileged(self, privileged: bool) -> Self {
        Self { privileged, ..self }
    }

    /// The policy with operators' commands in tasks disabled, if `disabled`.
    pub fn disable_exec(self, disabled: bool) -> Self {
        Self { exec_disabled: disabled, ..self }
    }

    /// Judges whether operators may execute commands in running tasks.
    ///
    /// # Errors
    /// A message that names the flag that forbids it.
    pub fn judge_interaction(&self) -> Result<(), String> {
        if self.exec_disabled {
            return Err("its swarmd was started with --disable-exec, which forbids it".to_owned());
        }
        Ok(())
    }

    /// Judges what a container requests. Returns its mounts and devices with the paths on this machine resolved by `real`,
    /// which returns a path without symbolic links or why it cannot.
    ///
    /// # Errors
    /// A message for what is not allowed, with the flag that allows it.
    pub fn judge(&self, container: &ContainerSpec, real: impl ResolveLinks) -> Result<Grant, String> {
        let mounts = container.mounts.iter().map(|mount| self.mount(mount, real)).collect::<Result<_, _>>()?;
        let devices = container.devices.iter().map(|device| self.device(device, real)).collect::<Result<_, _>>()?;
        container.device_requests.iter().try_for_each(|request| self.device_request(request))?;
        self.capabilities(&container.capability_add)?;
        self.privileges(container)?;
        container.privileges.as_ref().map_or(Ok(()), |privileges| self.confinement(privileges))?;
        Ok(Grant { mounts, devices })
    }

    /// Judges a device of this machine, or a directory of devices, and returns its path without symbolic links.
    fn device(&self, device: &Device, real: impl ResolveLinks) -> Result<Device, String> {
        let given = &device.source;
        let refusal = |why: &str| format!("the device {given} is not allowed on this node: {why}");
        if Path::new(given).components().any(|part| part == Component::ParentDir) {
            return Err(refusal("give its path without \"..\""));
        }
        let path = real(Path::new(given)).map_err(|why| refusal(&why))?;
        let real_or_given = |place: &String| real(Path::new(place)).unwrap_or_else(|_| PathBuf::from(place));
        let allowed = self.devices.iter().filter(|allowed| allowed.starts_with('/')).map(real_or_given);
        if !self.privileged && !allowed.into_iter().any(|allowed| path.starts_with(allowed)) {
            return Err(refusal(&format!("start its swarmd with --allow-device {given} to allow it")));
        }
        let Ok(source) = path.into_os_string().into_string() else {
            return Err(refusal("it leads to a path that is not UTF-8"));
        };
        let target = if device.target.is_empty() { given.clone() } else { device.target.clone() };
        Ok(Device { source, target, permissions: device.permissions.clone() })
    }

    /// The driver decides which devices it provides, so the driver is judged if the request names one; otherwise a capability,
    /// which any driver that serves the request has.
    fn device_request(&self, request: &DeviceRequest) -> Result<(), String> {
        let names = match request.driver.as_str() {
            "" => request.capabilities.as_slice(),
            _ => std::slice::from_ref(&request.driver),
        };
        if self.privileged || names.iter().any(|name| self.devices.contains(name)) {
            return Ok(());
        }
        let name = names.first().map_or("", String::as_str);
        Err(format!(
            "the request for {name} devices is not allowed on this node: start its swarmd with --allow-device {name} to allow it"
        ))
    }

    fn privileges(&self, container: &ContainerSpec) -> Result<(), String> {
        let table = [
            (container.privileged, "a privileged container"),
            // Services that listen on the node's loopback interface trust every local client.
            (container.network() == NetworkMode::Host, "the network of the node"),
            // The cgroup limits a container, and so what it may use of this machine.
            (!container.cgroup_parent.is_empty(), "a parent cgroup of its own"),
            // Any container may create device files; such a rule makes them usable.
            (!container.device_cgroup_rules.is_empty(), "a device cgroup rule"),
        ];
        table.into_iter().filter(|(asked, _)| *asked).try_for_each(|(_, what)| self.needs_privileges(what))
    }

    fn mount(&self, mount: &Mount, real: impl ResolveLinks) -> Result<Mount, String> {
        let mut judged = mount.clone();
        match mount.r#type() {
            MountType::Bind => judged.source = self.bind(&mount.source, real)?,
            MountType::Volume => {
                if let Some(driver) = judged.volume.as_mut().and_then(|volume| volume.driver.as_mut()) {
                    self.volume(driver, real)?;
                }
            }
            MountType::Tmpfs | MountType::Npipe | MountType::Image => {}
        }
        Ok(judged)
    }

    /// The engine's local driver passes its options to mount(2), which can express a bind, or mount any file system over any
    /// path of this machine. What another driver does with its options is the responsibility of the operator who installed it.
    fn volume(&self, driver: &mut Driver, real: impl ResolveLinks) -> Result<(), String> {
        let binds = driver.options.get("o").is_some_and(|words| words.split(',').any(is_bind));
        // For a bind, the kernel ignores the type.
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

    /// Judges a path on this machine, and returns it without symbolic links.
    fn bind(&self, source: &str, real: impl ResolveLinks) -> Result<String, String> {
        let refused = |why: &str| {
            let what = format!("the bind mount of {source} is not allowed on this node");
            Err(format!("{what}: {why}; start its swarmd with --allow-mount {source} to allow it"))
        };
        let given = Path::new(source);
        if given.components().any(|part| part == Component::ParentDir) {
            return Err(format!("the bind mount of {source} is not allowed: give its path without \"..\""));
        }
        // A relative path would be resolved against the engine's working directory, not ours.
        if !given.is_absolute() {
            return Err(format!("the bind mount of {source} is not allowed: give an absolute path"));
        }
        let path =
            real(given).map_err(|why| format!("the bind mount of {source} is not allowed on this node: {why}"))?;
        // If swarmd cannot resolve one of these, no path that it judges leads behind it.
        let real_or_given = |place: &PathBuf| real(place).unwrap_or_else(|_| place.clone());
        let (protected, mounts) = (self.protected.iter().map(real_or_given), self.mounts.iter().map(real_or_given));
        let mounts: Vec<PathBuf> = mounts.collect();
        for place in protected.filter(|place| place.starts_with(&path) || path.starts_with(place)) {
            let named =
                |allowed: &PathBuf| *allowed == path || (allowed.starts_with(&place) && path.starts_with(allowed));
            if !mounts.iter().any(named) {
                return refused(&format!("it gives access to {}, which controls this node", place.display()));
            }
        }
        if !mounts.is_empty() && !mounts.iter().any(|allowed| path.starts_with(allowed)) {
            return refused("its operator allows only other paths");
        }
        path.into_os_string().into_string().or_else(|_| refused("it leads to a path that is not UTF-8"))
    }

    fn capabilities(&self, wanted: &[String]) -> Result<(), String> {
        let allowed = |name: &String| {
            let name = normalized(name);
            self.privileged || ENGINE_DEFAULT.contains(&name.as_str()) || self.capabilities.contains(&name)
        };
        match wanted.iter().find(|name| !allowed(name)) {
            Some(name) => {
                let name = normalized(name);
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
            (privileges.apparmor() == AppArmorMode::Custom, "an AppArmor profile of its own"),
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

/// Returns a path of this machine without symbolic links, or why it cannot be resolved.
pub trait ResolveLinks: Fn(&Path) -> Result<PathBuf, String> + Copy {}

impl<F: Fn(&Path) -> Result<PathBuf, String> + Copy> ResolveLinks for F {}

/// Resolves the symbolic links of the existing part of a path; the rest is kept unchanged.
///
/// # Errors
/// When a component exists but cannot be resolved: the engine could follow it to a path that was never judged. This includes
/// dangling links, which may resolve when the engine follows them, and links in `/proc` to files of other processes, for a
/// `swarmd` without the capability SYS_PTRACE.
pub fn real_path(path: &Path) -> Result<PathBuf, String> {
    for above in path.ancestors() {
        match std::fs::canonicalize(above) {
            Ok(real) => {
                return Ok(match path.strip_prefix(above) {
                    // Component by component, which drops redundant ones as the engine does.
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

/// Whether a file with this name exists, dangling links included, or its absence cannot be verified.
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

/// A capability's name as in the table above.
fn normalized(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

#[cfg(test)]
mod tests;
