//! Security options in the form of Docker's `--security-opt`.

use std::path::PathBuf;

use events::{AppArmorMode, Privileges, SeccompMode};

use super::Invalid;

const HINT: &str = "write no-new-privileges, seccomp=unconfined, seccomp=FILE, apparmor=unconfined, apparmor=PROFILE, label=disable or \
                    label=user|role|type|level:VALUE";

/// One option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityOption {
    /// Whether a process may gain privileges that its parent does not have.
    NoNewPrivileges(bool),
    /// No seccomp filter.
    SeccompUnconfined,
    /// A seccomp profile from a local file.
    SeccompFile(PathBuf),
    /// No AppArmor profile.
    AppArmorUnconfined,
    /// An AppArmor profile that is loaded on the nodes.
    AppArmorProfile(String),
    /// No SELinux confinement.
    LabelDisable,
    /// A part of the SELinux label, and its value.
    Label(LabelPart, String),
}

/// A part of an SELinux label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are SELinux's")]
pub enum LabelPart {
    User,
    Role,
    Type,
    Level,
}

/// Reads one option, with `=` or `:` after its name, as in Docker.
///
/// # Errors
/// When the option is unknown, or its value malformed.
pub fn parse(text: &str) -> Result<SecurityOption, Invalid> {
    let unknown = || Invalid::new(format!("\"{text}\" is not a security option"), HINT);
    let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
    match (name, value) {
        ("no-new-privileges", "" | "true") => Ok(SecurityOption::NoNewPrivileges(true)),
        ("no-new-privileges", "false") => Ok(SecurityOption::NoNewPrivileges(false)),
        ("seccomp" | "apparmor" | "label", "") => Err(unknown()),
        ("seccomp", "unconfined") => Ok(SecurityOption::SeccompUnconfined),
        ("seccomp", file) => Ok(SecurityOption::SeccompFile(file.into())),
        ("apparmor", "unconfined") => Ok(SecurityOption::AppArmorUnconfined),
        ("apparmor", profile) => Ok(SecurityOption::AppArmorProfile(profile.to_owned())),
        ("label", "disable") => Ok(SecurityOption::LabelDisable),
        ("label", value) => label(value).ok_or_else(unknown),
        _ => Err(unknown()),
    }
}

fn label(value: &str) -> Option<SecurityOption> {
    let (part, value) = value.split_once(':').filter(|(_, value)| !value.is_empty())?;
    let part = match part {
        "user" => LabelPart::User,
        "role" => LabelPart::Role,
        "type" => LabelPart::Type,
        "level" => LabelPart::Level,
        _ => return None,
    };
    Some(SecurityOption::Label(part, value.to_owned()))
}

/// Writes privileges as options; a seccomp profile is shown as its size.
pub fn show(privileges: &Privileges) -> Vec<String> {
    let mut options = Vec::new();
    options.extend(privileges.no_new_privileges.then(|| "no-new-privileges".to_owned()));
    if let Some(seccomp) = &privileges.seccomp {
        match seccomp.mode() {
            SeccompMode::Default => {}
            SeccompMode::Unconfined => options.push("seccomp=unconfined".to_owned()),
            SeccompMode::Custom => options.push(format!("seccomp=a profile of {} bytes", seccomp.profile.len())),
        }
    }
    match privileges.apparmor() {
        AppArmorMode::Default => {}
        AppArmorMode::Disabled => options.push("apparmor=unconfined".to_owned()),
        AppArmorMode::Custom => options.push(format!("apparmor={}", privileges.apparmor_profile)),
    }
    if let Some(label) = &privileges.selinux {
        options.extend(label.disable.then(|| "label=disable".to_owned()));
        let parts = [("user", &label.user), ("role", &label.role), ("type", &label.r#type), ("level", &label.level)];
        let given = parts.into_iter().filter(|(_, value)| !value.is_empty());
        options.extend(given.map(|(part, value)| format!("label={part}:{value}")));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_docker_writes_them() {
        use SecurityOption::*;
        for (text, option) in [
            ("no-new-privileges", NoNewPrivileges(true)),
            ("no-new-privileges:true", NoNewPrivileges(true)),
            ("no-new-privileges=false", NoNewPrivileges(false)),
            ("seccomp=unconfined", SeccompUnconfined),
            ("seccomp=./p=q.json", SeccompFile("./p=q.json".into())),
            ("apparmor=unconfined", AppArmorUnconfined),
            ("apparmor:docker-nginx", AppArmorProfile("docker-nginx".to_owned())),
            ("label=disable", LabelDisable),
            ("label=type:svirt_t", Label(LabelPart::Type, "svirt_t".to_owned())),
            ("label:level:s0:c1", Label(LabelPart::Level, "s0:c1".to_owned())),
        ] {
            assert_eq!(parse(text), Ok(option), "{text}");
        }
        for text in [
            "",
            "seccomp",
            "seccomp=",
            "apparmor=",
            "label=",
            "label=type",
            "label=colour:red",
            "no-new-privileges=x",
            "x=y",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
