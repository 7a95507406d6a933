//! The user and the privileges of a container.

use std::path::Path;

use clap::Args;
use events::spec::limits::{OOM_SCORES, PIDS_LIMITS};
use events::{
    AppArmorMode, ConfigReference, ContainerSpec, CredentialSpec, Privileges, Seccomp, SeccompMode, ServiceSpec, Ulimit,
};

use super::{container, replace, set};
use crate::failure::{Failure, Kind};
use crate::values::container::capability;
use crate::values::security_opt::{LabelPart, SecurityOption};
use crate::values::{credential_spec, number, pair, security_opt, ulimit};

/// Reads a local file.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> std::io::Result<Vec<u8>>;

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Capabilities and limits of the container")]
pub(super) struct SecurityFlags {
    /// User, by name or id, and optionally a group
    #[arg(long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Supplementary group; replaces all
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,

    /// Make the container's root filesystem read-only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    read_only: Option<bool>,

    /// Capability to add, such as NET_ADMIN; replaces all
    #[arg(long, value_name = "CAPABILITY", value_parser = capability)]
    cap_add: Vec<String>,

    /// Capability to drop, or ALL; replaces all
    #[arg(long, value_name = "CAPABILITY", value_parser = capability)]
    cap_drop: Vec<String>,

    /// Security option, such as no-new-privileges, seccomp=FILE, apparmor=PROFILE or label=type:TYPE; replaces all
    #[arg(long, value_name = "OPTION", value_parser = security_opt::parse)]
    security_opt: Vec<SecurityOption>,

    /// Credential spec of a Windows container, which names its service account: file://NAME of the engine, registry://NAME of the
    /// node, or config://NAME
    #[arg(long, value_name = "PLACE", value_parser = credential_spec::parse)]
    credential_spec: Option<CredentialSpec>,

    /// Kernel parameter of the container; replaces all
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    sysctl: Vec<(String, String)>,

    /// Ulimit of the process, such as nofile=1024:2048; replaces all
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit::parse)]
    ulimit: Vec<Ulimit>,

    /// Maximum number of processes in the container; 0 or -1 for no limit
    #[arg(long, value_name = "NUMBER", value_parser = number::within(PIDS_LIMITS))]
    pids_limit: Option<i64>,

    /// OOM score adjustment, from -1000 (killed last) to 1000 (killed first)
    #[arg(long, value_name = "NUMBER", value_parser = number::within(OOM_SCORES))]
    oom_score_adj: Option<i64>,
}

impl SecurityFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) -> Result<(), Failure> {
        let container = container(spec);
        if !self.security_opt.is_empty() {
            let made = privileges(&self.security_opt, &|path| std::fs::read(path))?;
            set_privileges(container, Some(made));
        }
        if let Some(of) = &self.credential_spec {
            set_credential_spec(container, Some(of.clone()));
        }
        set(&mut container.user, &self.user);
        replace(&mut container.groups, &self.group);
        set(&mut container.read_only, &self.read_only);
        replace(&mut container.capability_add, &self.cap_add);
        replace(&mut container.capability_drop, &self.cap_drop);
        if !self.sysctl.is_empty() {
            container.sysctls = self.sysctl.iter().cloned().collect();
        }
        replace(&mut container.ulimits, &self.ulimit);
        set(&mut container.pids_limit, &self.pids_limit);
        set(&mut container.oom_score_adj, &self.oom_score_adj);
        Ok(())
    }
}

/// Sets or clears the security options of a container, except its credential spec.
pub fn set_privileges(container: &mut ContainerSpec, made: Option<Privileges>) {
    let credential_spec = container.privileges.take().and_then(|of| of.credential_spec);
    let made = made.or_else(|| credential_spec.is_some().then(Privileges::default));
    container.privileges = made.map(|made| Privileges { credential_spec, ..made });
}

/// Sets or clears the credential spec of a container, with a reference to its config.
pub fn set_credential_spec(container: &mut ContainerSpec, made: Option<CredentialSpec>) {
    container.configs.retain(|of| !of.runtime);
    let config = made.as_ref().map(|of| of.config.clone()).filter(|name| !name.is_empty());
    let reference = |name| ConfigReference { name, runtime: true, ..ConfigReference::default() };
    container.configs.extend(config.map(reference));
    let others = container.privileges.take().unwrap_or_default();
    let privileges = Privileges { credential_spec: made, ..others };
    container.privileges = Some(privileges).filter(|made| *made != Privileges::default());
}

/// The privileges that these options describe; a later option of the same kind wins.
///
/// # Errors
/// When a seccomp profile cannot be read.
pub fn privileges(options: &[SecurityOption], read: ReadFile<'_>) -> Result<Privileges, Failure> {
    let mut made = Privileges::default();
    for option in options {
        match option {
            SecurityOption::NoNewPrivileges(on) => made.no_new_privileges = *on,
            SecurityOption::SeccompUnconfined => {
                made.seccomp = Some(Seccomp { mode: SeccompMode::Unconfined.into(), profile: Vec::new() });
            }
            SecurityOption::SeccompFile(path) => {
                made.seccomp = Some(Seccomp { mode: SeccompMode::Custom.into(), profile: profile(path, read)? });
            }
            SecurityOption::AppArmorUnconfined => {
                made.set_apparmor(AppArmorMode::Disabled);
                made.apparmor_profile.clear();
            }
            SecurityOption::AppArmorProfile(name) => {
                made.set_apparmor(AppArmorMode::Custom);
                made.apparmor_profile.clone_from(name);
            }
            SecurityOption::LabelDisable => made.selinux.get_or_insert_default().disable = true,
            SecurityOption::Label(part, value) => {
                let context = made.selinux.get_or_insert_default();
                let field = match part {
                    LabelPart::User => &mut context.user,
                    LabelPart::Role => &mut context.role,
                    LabelPart::Type => &mut context.r#type,
                    LabelPart::Level => &mut context.level,
                };
                field.clone_from(value);
            }
        }
    }
    Ok(made)
}

/// Reads a seccomp profile. The engine would only report invalid JSON when a container is created.
fn profile(path: &Path, read: ReadFile<'_>) -> Result<Vec<u8>, Failure> {
    let refuse = |why: String| {
        Failure::new(Kind::Usage, format!("the seccomp profile {} {why}", path.display()))
            .hint("name a JSON file, such as Docker's default profile with changes, or write seccomp=unconfined")
    };
    let bytes = read(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(refuse(format!("is not a JSON object: {error}"))),
    }
}
