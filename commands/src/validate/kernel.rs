//! Kernel settings of a container: signals, capabilities, limits, sysctls, security profiles.

use std::collections::BTreeSet;

use events::spec::limits::{OOM_SCORES, PIDS_LIMITS};
use events::spec::{CAPABILITY_HINT, is_capability};
use events::{AppArmorMode, ContainerSpec, CredentialSpec, Privileges, SeccompMode, Ulimit};

use super::{Fault, Verdict, known};
use crate::text::quote;

/// Signals of Linux, without their common prefix. Real-time signals are counted from `RTMIN` and `RTMAX`.
const SIGNALS: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "RTMAX", "RTMIN", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];
/// Maximum length of the name of a credential spec: that of a path.
const CREDENTIAL_SPEC_BYTES_MAX: usize = 4_096;
/// Highest number of a signal.
const SIGNAL_MAX: u8 = 64;
/// Limits of setrlimit(2), by the engine's names.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];
/// No limit.
const UNLIMITED: i64 = -1;

/// Checks the kernel settings of a container.
pub(super) fn kernel(spec: &ContainerSpec) -> Verdict {
    stop_signal(&spec.stop_signal)?;
    for capability in spec.capability_add.iter().chain(&spec.capability_drop) {
        if !is_capability(capability) {
            return Err(Fault::invalid(format!("there is no capability {}", quote(capability)), CAPABILITY_HINT));
        }
    }
    for (key, value) in &spec.sysctls {
        if !is_sysctl(key) || value.is_empty() || value.contains(['\0', '\n']) {
            let hint = "write sysctls like net.core.somaxconn=1024";
            return Err(Fault::invalid(format!("the sysctl {} is malformed", quote(key)), hint));
        }
    }
    ulimits(&spec.ulimits)?;
    if !PIDS_LIMITS.contains(&spec.pids_limit) {
        let sentence = format!("{} is not a limit of processes", spec.pids_limit);
        let hint = format!("give a number up to {}, or 0 or -1 for no limit", PIDS_LIMITS.end());
        return Err(Fault::invalid(sentence, hint));
    }
    if !OOM_SCORES.contains(&spec.oom_score_adj) {
        let sentence = format!("{} is not an OOM score adjustment", spec.oom_score_adj);
        return Err(Fault::invalid(sentence, "give a number from -1000 to 1000"));
    }
    credential_spec(spec)?;
    spec.privileges.as_ref().map_or(Ok(()), privileges)
}

fn stop_signal(signal: &str) -> Verdict {
    if signal.is_empty() || is_signal(signal) {
        return Ok(());
    }
    Err(Fault::invalid(format!("{} is not a signal", quote(signal)), "name a signal like SIGTERM, TERM or 15"))
}

/// A number, a name with or without `SIG`, or `RTMIN+1` to `RTMIN+15` and `RTMAX-1` to `RTMAX-14`.
fn is_signal(signal: &str) -> bool {
    if let Ok(number) = signal.parse::<u8>() {
        return (1..=SIGNAL_MAX).contains(&number);
    }
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str, last: u8| text.parse::<u8>().is_ok_and(|offset| (1..=last).contains(&offset));
    SIGNALS.contains(&name)
        || name.strip_prefix("RTMIN+").is_some_and(|rest| offset(rest, 15))
        || name.strip_prefix("RTMAX-").is_some_and(|rest| offset(rest, 14))
}

fn is_sysctl(key: &str) -> bool {
    let parts: Vec<&str> = key.split(['.', '/']).collect();
    let is_part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    parts.len() > 1 && parts.iter().all(|part| is_part(part))
}

fn ulimits(list: &[Ulimit]) -> Verdict {
    let mut names = BTreeSet::new();
    for limit in list {
        let name = quote(&limit.name);
        if !ULIMITS.contains(&limit.name.as_str()) {
            let hint = format!("name one of {}", ULIMITS.join(", "));
            return Err(Fault::invalid(format!("{name} is not a limit of setrlimit"), hint));
        }
        if !names.insert(&limit.name) {
            return Err(Fault::invalid(format!("the ulimit {name} is given twice"), "give each ulimit once"));
        }
        let bounded = limit.hard != UNLIMITED && (limit.soft == UNLIMITED || limit.soft > limit.hard);
        if limit.soft < UNLIMITED || limit.hard < UNLIMITED || bounded {
            let sentence =
                format!("the ulimit {name} has the soft limit {} and the hard limit {}", limit.soft, limit.hard);
            return Err(Fault::invalid(sentence, "give soft:hard with soft at most hard; -1 is unlimited"));
        }
    }
    Ok(())
}

/// A credential spec has exactly one source, and the container has the config that it refers to, which has no other use.
fn credential_spec(spec: &ContainerSpec) -> Verdict {
    let given = spec.privileges.as_ref().and_then(|of| of.credential_spec.as_ref());
    let hint = "write file://NAME, registry://NAME or config://NAME";
    if let Some(CredentialSpec { file, registry, config }) = given {
        let places = [file, registry, config];
        if places.iter().filter(|place| !place.is_empty()).count() != 1 {
            return Err(Fault::invalid("a credential spec is in a file, in the registry or in a config", hint));
        }
        let is_sound = |place: &str| place.len() <= CREDENTIAL_SPEC_BYTES_MAX && !place.chars().any(char::is_control);
        if !places.iter().all(|place| is_sound(place)) {
            let sentence = format!(
                "the name of a credential spec has control characters, or more than {CREDENTIAL_SPEC_BYTES_MAX} bytes"
            );
            return Err(Fault::invalid(sentence, hint));
        }
    }
    let named = given.map_or("", |of| of.config.as_str());
    let configs: Vec<&str> = spec.configs.iter().filter(|of| of.runtime).map(|of| of.name.as_str()).collect();
    let expected: &[&str] = if named.is_empty() { &[] } else { &[named] };
    if configs != expected {
        let sentence = "the config of a credential spec and the configs that are no files are not the same";
        return Err(Fault::invalid(sentence, "give the config with --credential-spec config://NAME"));
    }
    Ok(())
}

fn privileges(of: &Privileges) -> Verdict {
    known::<AppArmorMode>(of.apparmor, "AppArmor mode")?;
    if (of.apparmor() == AppArmorMode::Custom) == of.apparmor_profile.is_empty() {
        let sentence = "an AppArmor profile belongs to the custom mode, and the custom mode to a profile";
        return Err(Fault::invalid(sentence, "give the mode custom together with the name of a profile"));
    }
    let Some(seccomp) = &of.seccomp else { return Ok(()) };
    known::<SeccompMode>(seccomp.mode, "seccomp mode")?;
    if (seccomp.mode() == SeccompMode::Custom) == seccomp.profile.is_empty() {
        let sentence = "a seccomp profile belongs to the custom mode, and the custom mode to a profile";
        return Err(Fault::invalid(sentence, "give the mode custom together with a JSON profile"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use events::ConfigReference;

    use super::*;

    fn check(change: impl FnOnce(&mut ContainerSpec)) -> bool {
        let mut spec = ContainerSpec::default();
        change(&mut spec);
        kernel(&spec).is_ok()
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for signal in ["", "SIGTERM", "term", "15", "1", "64", "SIGRTMIN+3", "RTMAX-14", "USR1", "SIGXFSZ", "SIGWINCH"]
        {
            assert!(check(|spec| spec.stop_signal = signal.into()), "{signal}");
        }
        for signal in ["0", "65", "SIG", "SIGNONE", "RTMIN+16", "RTMIN+0", "TERM ", "-9"] {
            assert!(!check(|spec| spec.stop_signal = signal.into()), "{signal}");
        }
    }

    #[test]
    fn capabilities_are_the_kernels() {
        for capability in ["ALL", "cap_sys_ptrace"] {
            assert!(check(|spec| spec.capability_add = vec![capability.into()]), "{capability}");
        }
        for capability in ["", "NOT_A_CAP"] {
            assert!(!check(|spec| spec.capability_add = vec![capability.into()]), "{capability}");
            assert!(!check(|spec| spec.capability_drop = vec![capability.into()]), "{capability}");
        }
    }

    #[test]
    fn a_credential_spec_is_in_one_place_and_has_its_config() {
        let with = |file: &str, config: &str, references: &[(&str, bool)]| {
            check(|spec| {
                let credential_spec =
                    Some(CredentialSpec { file: file.into(), config: config.into(), ..CredentialSpec::default() });
                spec.privileges = Some(Privileges { credential_spec, ..Privileges::default() });
                let reference = |(name, runtime): &(&str, bool)| ConfigReference {
                    name: (*name).into(),
                    runtime: *runtime,
                    ..ConfigReference::default()
                };
                spec.configs = references.iter().map(reference).collect();
            })
        };
        assert!(with("web.json", "", &[]));
        assert!(with("", "gmsa", &[("gmsa", false), ("gmsa", true)]));
        let long = "x".repeat(CREDENTIAL_SPEC_BYTES_MAX + 1);
        for (file, config, references) in [
            ("", "", &[][..]),
            ("web.json", "gmsa", &[("gmsa", true)]),
            ("", "gmsa", &[]),
            ("", "gmsa", &[("gmsa", false)]),
            ("", "gmsa", &[("other", true)]),
            ("", "gmsa", &[("gmsa", true), ("gmsa", true)]),
            ("web.json", "", &[("gmsa", true)]),
            ("a\0b", "", &[]),
            (long.as_str(), "", &[]),
        ] {
            assert!(!with(file, config, references), "{file:?} {config} {references:?}");
        }
    }

    #[test]
    fn sysctls_are_dotted_keys_with_values() {
        let with = |key: &str, value: &str| {
            check(|spec| {
                spec.sysctls.insert(key.into(), value.into());
            })
        };
        assert!(with("net.core.somaxconn", "1024"));
        assert!(with("net/ipv4/conf/eth0.1/rp_filter", "1"));
        for (key, value) in
            [("", "1"), ("net", "1"), ("net.", "1"), ("net core.x", "1"), ("net.a", ""), ("net.a", "1\n")]
        {
            assert!(!with(key, value), "{key}={value}");
        }
    }

    #[test]
    fn a_soft_limit_is_not_above_the_hard_one() {
        let with = |name: &str, soft, hard| check(|spec| spec.ulimits = vec![Ulimit { name: name.into(), soft, hard }]);
        for (soft, hard) in [(0, 0), (1, 2), (5, -1), (-1, -1)] {
            assert!(with("nofile", soft, hard), "{soft}:{hard}");
        }
        for (soft, hard) in [(2, 1), (-1, 1), (-2, -1), (1, -2)] {
            assert!(!with("nofile", soft, hard), "{soft}:{hard}");
        }
        assert!(!with("files", 1, 1));
        let twice = Ulimit { name: "core".into(), soft: 1, hard: 1 };
        assert!(!check(|spec| spec.ulimits = vec![twice.clone(), twice]));
    }

    #[test]
    fn numbers_and_profiles_are_in_range() {
        assert!(check(|spec| spec.pids_limit = -1) && !check(|spec| spec.pids_limit = -2));
        assert!(check(|spec| spec.pids_limit = 4_194_304) && !check(|spec| spec.pids_limit = 4_194_305));
        assert!(check(|spec| spec.oom_score_adj = -1_000) && !check(|spec| spec.oom_score_adj = 1_001));
        let seccomp = |mode: i32, profile: &[u8]| {
            let seccomp = Some(events::Seccomp { mode, profile: profile.to_vec() });
            check(|spec| spec.privileges = Some(Privileges { seccomp, ..Default::default() }))
        };
        let custom = SeccompMode::Custom.into();
        assert!(seccomp(custom, b"{}") && seccomp(0, b""));
        assert!(!seccomp(custom, b"") && !seccomp(0, b"{}") && !seccomp(9, b""));
        let apparmor = |mode: i32, profile: &str| {
            let of = Privileges { apparmor: mode, apparmor_profile: profile.into(), ..Default::default() };
            check(|spec| spec.privileges = Some(of))
        };
        let custom = AppArmorMode::Custom.into();
        assert!(apparmor(custom, "web") && apparmor(0, ""));
        assert!(!apparmor(custom, "") && !apparmor(0, "web") && !apparmor(9, ""));
    }
}
