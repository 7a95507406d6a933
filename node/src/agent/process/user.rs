//! Users and groups by name or number, from the text of /etc/passwd and /etc/group.

use serde::{Deserialize, Serialize};

/// A user id and a group id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ids {
    /// The user.
    pub(super) uid: u32,
    /// The group.
    pub(super) gid: u32,
}

/// User and group of a task whose spec names no user, if this machine has no user `nobody`: the ids that Linux reserves for it.
const NOBODY: Ids = Ids { uid: 65_534, gid: 65_534 };

/// The users of this machine, and the current one.
#[derive(Clone)]
pub(super) struct Users {
    /// The text of /etc/passwd.
    pub(super) passwd: String,
    /// The text of /etc/group.
    pub(super) group: String,
    /// The ids of this process.
    pub(super) own: Ids,
    /// Whether tasks may run as root, or in its group.
    pub(super) allow_root: bool,
}

impl Users {
    /// The users of this machine. An unreadable file counts as empty; numeric ids still work.
    pub(super) fn of_this_machine(allow_root: bool) -> Self {
        let own = Ids { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self { passwd: read("/etc/passwd"), group: read("/etc/group"), own, allow_root }
    }

    /// The ids for a spec's `user[:group]`; `None` to keep the current ones. Without a user it is `nobody` if this process is
    /// root, otherwise the current user.
    ///
    /// # Errors
    /// A message for an unknown user or group, for one that only root can switch to, and for root itself where it is not
    /// allowed.
    pub(super) fn resolve(&self, user: &str) -> Result<Option<Ids>, String> {
        if user.is_empty() {
            if self.own.uid == 0 {
                return Ok(Some(self.named("nobody").unwrap_or(NOBODY)));
            }
            return self.allowed(self.own).map(|()| None);
        }
        let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
        let known = self.named(name);
        // A uid without an entry on this machine gets the group of `nobody`: 0 would be root's.
        let number = || Some(Ids { uid: name.parse().ok()?, gid: NOBODY.gid });
        let mut ids = known.or_else(number).ok_or_else(|| format!("unknown user \"{name}\" on this host"))?;
        if let Some(group) = group {
            let gid = group.parse().ok().or_else(|| number_of(&entry(&self.group, group)?, 2));
            ids.gid = gid.ok_or_else(|| format!("unknown group \"{group}\" on this host"))?;
        }
        self.allowed(ids)?;
        if ids == self.own || (ids.uid == self.own.uid && group.is_none()) {
            return self.allowed(self.own).map(|()| None);
        }
        if self.own.uid != 0 {
            return Err(format!("cannot switch to user \"{user}\": only root can, and this node's agent is not root"));
        }
        Ok(Some(ids))
    }

    /// Checks that tasks may run as this user and group.
    fn allowed(&self, ids: Ids) -> Result<(), String> {
        if self.allow_root || (ids.uid != 0 && ids.gid != 0) {
            return Ok(());
        }
        let what = if ids.uid == 0 { "as root" } else { "in the group of root" };
        Err(format!("this node runs no process {what}: start its swarmd with --process-allow-root to allow it"))
    }

    /// A user of this machine, by name or uid, with its primary group.
    fn named(&self, name: &str) -> Option<Ids> {
        let entry = entry(&self.passwd, name)?;
        Some(Ids { uid: number_of(&entry, 2)?, gid: number_of(&entry, 3)? })
    }
}

/// The fields of the line with this name or number.
fn entry<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.first() == Some(&name) || fields.get(2) == Some(&name))
}

fn number_of(fields: &[&str], index: usize) -> Option<u32> {
    fields.get(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(uid: u32, allow_root: bool) -> Users {
        Users {
            passwd: "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/false\nsync:x:4:0::/:/bin/sync\n".into(),
            group: "root:x:0:\nlogs:x:50:web\n".into(),
            own: Ids { uid, gid: uid },
            allow_root,
        }
    }

    #[test]
    fn users_and_groups_go_by_name_or_number() {
        for (text, wanted) in [
            ("", Some(NOBODY)),
            ("web", Some(Ids { uid: 33, gid: 34 })),
            ("33", Some(Ids { uid: 33, gid: 34 })),
            ("web:logs", Some(Ids { uid: 33, gid: 50 })),
            ("77:78", Some(Ids { uid: 77, gid: 78 })),
            ("77", Some(Ids { uid: 77, gid: 65_534 })),
        ] {
            for allow_root in [false, true] {
                assert_eq!(users(0, allow_root).resolve(text), Ok(wanted), "{text}");
            }
        }
        let nobody = "nobody:x:99:98::/:/bin/false\n".to_owned();
        let users = Users { passwd: nobody, ..users(0, false) };
        assert_eq!(users.resolve(""), Ok(Some(Ids { uid: 99, gid: 98 })));
    }

    #[test]
    fn root_and_its_group_have_to_be_allowed() {
        for (text, allowed) in [
            ("root", None),
            ("0", None),
            ("0:50", Some(Ids { uid: 0, gid: 50 })),
            ("web:root", Some(Ids { uid: 33, gid: 0 })),
            ("77:0", Some(Ids { uid: 77, gid: 0 })),
            ("sync", Some(Ids { uid: 4, gid: 0 })),
        ] {
            let refusal = users(0, false).resolve(text).expect_err(text);
            assert!(refusal.ends_with("start its swarmd with --process-allow-root to allow it"), "{text}: {refusal}");
            assert_eq!(users(0, true).resolve(text), Ok(allowed), "{text}");
        }
    }

    #[test]
    fn who_stays_in_the_group_of_root_has_to_be_allowed() {
        let users = |allow_root| Users { own: Ids { uid: 33, gid: 0 }, ..users(33, allow_root) };
        for text in ["", "web", "33"] {
            let refusal = users(false).resolve(text).expect_err(text);
            assert!(refusal.starts_with("this node runs no process in the group of root"), "{text}: {refusal}");
            assert_eq!(users(true).resolve(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn strangers_are_refused_and_only_root_becomes_another() {
        assert_eq!(users(0, false).resolve("nobody-such"), Err("unknown user \"nobody-such\" on this host".into()));
        assert_eq!(users(0, false).resolve("web:none"), Err("unknown group \"none\" on this host".into()));
        assert!(users(33, true).resolve("root").is_err());
        assert_eq!(users(33, false).resolve("web"), Ok(None));
        assert_eq!(users(33, false).resolve(""), Ok(None));
    }
}
