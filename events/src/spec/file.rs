//! Files in containers: configs and secrets, and where each is mounted.

use crate::id::{ConfigId, SecretId};
use crate::schema::{ConfigReference, ContainerSpec, FileTarget, SecretReference};

/// Permission bits of a file: all users in the container may read it.
const FILE_MODE: u32 = 0o444;
/// Permission bits that a file on a host may have: reading, writing and executing only.
const HOST_MODE_MAX: u32 = 0o777;

/// A config or a secret as a file.
pub trait FileReference {
    /// Its noun, for messages.
    fn noun(&self) -> &'static str;

    /// The name of the config or the secret.
    fn name(&self) -> &str;

    /// Its target in the spec.
    fn target(&self) -> Option<&FileTarget>;

    /// The parent directory of relative paths, with a trailing slash.
    fn directory(&self) -> &'static str;

    /// The path as written: the target's, or the name.
    fn given_path(&self) -> &str {
        self.target().map(|file| file.name.as_str()).filter(|path| !path.is_empty()).unwrap_or(self.name())
    }

    /// The absolute path of the file.
    fn path(&self) -> String {
        let given = self.given_path();
        let directory = if given.starts_with('/') { "/" } else { self.directory() };
        format!("{directory}{}", given.trim_start_matches('/'))
    }

    /// Whether a template that refers to this target means the file: by the path in the spec, or by the path in the container.
    fn is_at(&self, target: &str) -> bool {
        target == self.given_path() || target == self.path()
    }

    /// The permission bits of the file.
    fn mode(&self) -> u32 {
        self.target().and_then(|file| file.mode).unwrap_or(FILE_MODE)
    }

    /// Whether it requires a container: a plain process sees the host's own files, where a file at an absolute path would be
    /// visible to all, and one with the setuid bit would give its owner's rights to any user that executes it.
    fn needs_container(&self) -> bool {
        self.given_path().starts_with('/') || self.mode() > HOST_MODE_MAX
    }

    /// Whether the spec sets the file's owner.
    fn has_owner(&self) -> bool {
        self.target().is_some_and(|file| !(file.uid.is_empty() && file.gid.is_empty()))
    }

    /// The numeric owner and group of the file; `None` if one of them is not numeric.
    fn owner(&self) -> Option<(u32, u32)> {
        let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse().ok() };
        let Some(file) = self.target() else { return Some((0, 0)) };
        Some((number(&file.uid)?, number(&file.gid)?))
    }
}

impl FileReference for ConfigReference {
    fn noun(&self) -> &'static str {
        "config"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn target(&self) -> Option<&FileTarget> {
        self.file.as_ref()
    }

    fn directory(&self) -> &'static str {
        "/"
    }
}

impl FileReference for SecretReference {
    fn noun(&self) -> &'static str {
        "secret"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn target(&self) -> Option<&FileTarget> {
        self.file.as_ref()
    }

    fn directory(&self) -> &'static str {
        "/run/secrets/"
    }
}

/// Identifies the data of a config: the config, and the revision.
pub type ConfigKey = (ConfigId, u64);

impl ConfigReference {
    /// The key of the data, if a config is set.
    pub fn key(&self) -> Option<ConfigKey> {
        self.config.map(|config| (config, self.revision))
    }
}

impl SecretReference {
    /// The name of the payload with the data. Empty, which is no valid payload name, if no secret is set.
    pub fn key(&self) -> String {
        self.secret.map(|secret| secret_key(secret, self.revision)).unwrap_or_default()
    }
}

/// The name of the payload with the data of a secret's revision.
pub fn secret_key(secret: SecretId, revision: u64) -> String {
    format!("secret/{secret}/{revision}")
}

impl ContainerSpec {
    /// The configs and secrets that are files in the container.
    pub fn files(&self) -> impl Iterator<Item = &dyn FileReference> {
        let configs = self.configs.iter().filter(|of| !of.runtime).map(|reference| reference as &dyn FileReference);
        configs.chain(self.secrets.iter().map(|reference| reference as &dyn FileReference))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_put_where_its_target_says() {
        let table = [
            ("", "/app", "/run/secrets/app", false),
            ("a/b", "/a/b", "/run/secrets/a/b", false),
            ("/a/b", "/a/b", "/a/b", true),
            ("//a", "/a", "/a", true),
        ];
        for (target, config, secret, needs_container) in table {
            let file = Some(FileTarget { name: target.into(), ..FileTarget::default() });
            let config_reference = ConfigReference { name: "app".into(), file: file.clone(), ..Default::default() };
            let secret_reference = SecretReference { name: "app".into(), file, ..Default::default() };
            assert_eq!((config_reference.path(), secret_reference.path()), (config.to_owned(), secret.to_owned()));
            assert_eq!(config_reference.needs_container(), needs_container);
            assert_eq!(secret_reference.needs_container(), needs_container);
        }
    }
}
