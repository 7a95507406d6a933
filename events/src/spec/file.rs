//! Files that containers are given: configs and secrets, and where each is put.

use crate::id::{ConfigId, SecretId};
use crate::schema::{ConfigReference, ContainerSpec, FileTarget, SecretReference};

/// Permission bits of a file: everybody in the container may read it.
const FILE_MODE: u32 = 0o444;
/// Permission bits that a file on a host may have: reading, writing and executing, and nothing else.
const HOST_MODE_MAX: u32 = 0o777;

/// A config or a secret as a file.
pub trait FileReference {
    /// What it is, for messages.
    fn noun(&self) -> &'static str;

    /// What the config or the secret is called.
    fn name(&self) -> &str;

    /// Where the spec puts it.
    fn target(&self) -> Option<&FileTarget>;

    /// The directory that a path is below which is not absolute, with a slash at its end.
    fn directory(&self) -> &'static str;

    /// The path as it is given: the target's, or the name.
    fn given_path(&self) -> &str {
        self.target().map(|file| file.name.as_str()).filter(|path| !path.is_empty()).unwrap_or(self.name())
    }

    /// Where the file is put.
    fn path(&self) -> String {
        let given = self.given_path();
        let directory = if given.starts_with('/') { "/" } else { self.directory() };
        format!("{directory}{}", given.trim_start_matches('/'))
    }

    /// Whether a template that names this target means the file: as the spec gives it, or as the container has it.
    fn is_at(&self, target: &str) -> bool {
        target == self.given_path() || target == self.path()
    }

    /// The permission bits of the file.
    fn mode(&self) -> u32 {
        self.target().and_then(|file| file.mode).unwrap_or(FILE_MODE)
    }

    /// Whether only a container can have it: a plain process sees the host's own files, where a file at an absolute path would
    /// be everybody's, and one with the setuid bit would give its owner's rights to whoever executes it.
    fn needs_container(&self) -> bool {
        self.given_path().starts_with('/') || self.mode() > HOST_MODE_MAX
    }

    /// Whether the spec says who owns the file.
    fn has_owner(&self) -> bool {
        self.target().is_some_and(|file| !(file.uid.is_empty() && file.gid.is_empty()))
    }

    /// The numbers of the file's owner and its group; `None` if one of them is no number.
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

/// What names the data of a config: the config, and the revision.
pub type ConfigKey = (ConfigId, u64);

impl ConfigReference {
    /// What names the data, where a config is named.
    pub fn key(&self) -> Option<ConfigKey> {
        self.config.map(|config| (config, self.revision))
    }
}

impl SecretReference {
    /// The name of the payload that holds the data. Empty, which no payload is called, where no secret is named.
    pub fn key(&self) -> String {
        self.secret.map(|secret| secret_key(secret, self.revision)).unwrap_or_default()
    }
}

/// The name of the payload that holds the data of a secret's revision.
pub fn secret_key(secret: SecretId, revision: u64) -> String {
    format!("secret/{secret}/{revision}")
}

impl ContainerSpec {
    /// The configs and secrets that the container is given as files.
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
