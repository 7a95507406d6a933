//! Users and groups by name or number, from the text of /etc/passwd and /etc/group.

use serde::{Deserialize, Serialize};

/// A user's and a group's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ids {
    /// The user.
    pub(super) uid: u32,
    /// The group.
    pub(super) gid: u32,
}

/// Who there is on this machine, and who we are.
pub(super) struct Users {
    /// The text of /etc/passwd.
    pub(super) passwd: String,
    /// The text of /etc/group.
    pub(super) group: String,
    /// Whom this process runs as.
    pub(super) own: Ids,
}

impl Users {
    /// The users of this machine. A file that cannot be read knows nobody, and numbers still work.
    pub(super) fn of_this_machine() -> Self {
        let own = Ids { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self { passwd: read("/etc/passwd"), group: read("/etc/group"), own }
    }

    /// Whom to become for a spec's `user[:group]`; `None` to stay who we are.
    ///
    /// # Errors
    /// A sentence for an unknown user or group, and for one that only root can become.
    pub(super) fn resolve(&self, user: &str) -> Result<Option<Ids>, String> {
        if user.is_empty() {
            return Ok(None);
        }
        let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
        let entry = entry(&self.passwd, name);
        let uid = name.parse().ok().or_else(|| number(entry.as_ref()?, 2));
        let uid = uid.ok_or_else(|| format!("unknown user \"{name}\" on this host"))?;
        let gid = match group {
            Some(group) => {
                let gid = group.parse().ok().or_else(|| number(&self::entry(&self.group, group)?, 2));
                gid.ok_or_else(|| format!("unknown group \"{group}\" on this host"))?
            }
            None => entry.and_then(|entry| number(&entry, 3)).unwrap_or(0),
        };
        let ids = Ids { uid, gid };
        if ids == self.own || (ids.uid == self.own.uid && group.is_none()) {
            return Ok(None);
        }
        if self.own.uid != 0 {
            return Err(format!("cannot run as user \"{user}\": only root can, and this node's agent is not root"));
        }
        Ok(Some(ids))
    }
}

/// The fields of the line whose first field, or whose number, is this.
fn entry<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.first() == Some(&name) || fields.get(2) == Some(&name))
}

fn number(fields: &[&str], index: usize) -> Option<u32> {
    fields.get(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(uid: u32) -> Users {
        Users {
            passwd: "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/false\n".into(),
            group: "root:x:0:\nlogs:x:50:web\n".into(),
            own: Ids { uid, gid: uid },
        }
    }

    #[test]
    fn users_and_groups_go_by_name_or_number() {
        for (text, wanted) in [
            ("", None),
            ("root", None),
            ("0", None),
            ("web", Some(Ids { uid: 33, gid: 34 })),
            ("33", Some(Ids { uid: 33, gid: 34 })),
            ("web:logs", Some(Ids { uid: 33, gid: 50 })),
            ("77:78", Some(Ids { uid: 77, gid: 78 })),
            ("77", Some(Ids { uid: 77, gid: 0 })),
        ] {
            assert_eq!(users(0).resolve(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn strangers_are_refused_and_only_root_becomes_another() {
        assert_eq!(users(0).resolve("nobody-such"), Err("unknown user \"nobody-such\" on this host".into()));
        assert_eq!(users(0).resolve("web:none"), Err("unknown group \"none\" on this host".into()));
        assert!(users(33).resolve("root").is_err());
        assert_eq!(users(33).resolve("web"), Ok(None));
    }
}
