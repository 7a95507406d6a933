//! The settings of a container, apart from its mounts and kernel settings.

use std::net::IpAddr;

use events::spec::{CONTAINER_HOSTNAME_HINT, is_container_hostname};
use events::{ContainerSpec, DnsConfig, HealthConfig, Isolation, NetworkMode, PullPolicy};

use super::image::{IMAGE_HINT, is_image_reference};
use super::{Fault, Verdict, devices, duration, file, kernel, known, mount, name};
use crate::text::quote;

/// Minimum time between probes: the engine's limit.
const PROBE_NS_MIN: u64 = 1_000_000;
/// Placeholder for the node's own address in a hosts line; the engine fills it in.
const HOST_GATEWAY: &str = "host-gateway";

/// Checks a container.
pub(super) fn container(spec: &ContainerSpec) -> Verdict {
    image(&spec.image)?;
    hostname(&spec.hostname)?;
    name::labels(&spec.labels)?;
    environment(&spec.env)?;
    directory(&spec.dir)?;
    hosts(&spec.hosts)?;
    if let Some(dns) = &spec.dns {
        nameservers(dns)?;
    }
    if let Some(health) = &spec.healthcheck {
        healthcheck(health)?;
    }
    duration(spec.stop_grace_period_ns.unwrap_or(0), "stop grace period")?;
    known::<Isolation>(spec.isolation, "isolation")?;
    known::<NetworkMode>(spec.network, "network")?;
    known::<PullPolicy>(spec.pull_policy, "pull policy")?;
    mount::mounts(&spec.mounts)?;
    file::files(spec)?;
    devices::devices(spec)?;
    kernel::kernel(spec)
}

fn image(reference: &str) -> Verdict {
    if reference.is_empty() {
        return Err(Fault::invalid("the container has no image", IMAGE_HINT));
    }
    if !is_image_reference(reference) {
        return Err(Fault::invalid(format!("{} is not an image reference", quote(reference)), IMAGE_HINT));
    }
    Ok(())
}

/// With an empty name, the engine chooses one.
fn hostname(name: &str) -> Verdict {
    if name.is_empty() || is_container_hostname(name) {
        return Ok(());
    }
    Err(Fault::invalid(format!("{} is not a host name for a container", quote(name)), CONTAINER_HOSTNAME_HINT))
}

fn environment(env: &[String]) -> Verdict {
    let unfit = |entry: &&String| entry.is_empty() || entry.starts_with('=') || entry.contains('\0');
    match env.iter().find(unfit) {
        // The value may be a secret, so only the name is repeated.
        Some(entry) => {
            let name = entry.split('=').next().unwrap_or_default();
            let sentence = format!("an environment variable has the name {}, or an invalid value", quote(name));
            Err(Fault::invalid(sentence, "write KEY=value, or KEY to unset what the image sets"))
        }
        None => Ok(()),
    }
}

/// This is the engine's rule, which it only reports when the container is created.
fn directory(dir: &str) -> Verdict {
    if dir.is_empty() || dir.starts_with('/') {
        return Ok(());
    }
    Err(Fault::invalid(
        format!("the working directory {} is not an absolute path", quote(dir)),
        "give a path such as /srv",
    ))
}

/// Lines of hosts(5): an address, then at least one name.
fn hosts(lines: &[String]) -> Verdict {
    for line in lines {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().is_some_and(|word| word == HOST_GATEWAY || word.parse::<IpAddr>().is_ok());
        if !address || words.next().is_none() {
            let sentence = format!("{} is not a line for the hosts file", quote(line));
            return Err(Fault::invalid(sentence, "write an address and then names, like \"10.0.0.1 db db.local\""));
        }
    }
    Ok(())
}

fn nameservers(dns: &DnsConfig) -> Verdict {
    match dns.nameservers.iter().find(|server| server.parse::<IpAddr>().is_err()) {
        Some(server) => {
            let sentence = format!("the name server {} is not an address", quote(server));
            Err(Fault::invalid(sentence, "give name servers by address, like 10.0.0.53"))
        }
        None => Ok(()),
    }
}

fn healthcheck(health: &HealthConfig) -> Verdict {
    let words: Vec<&str> = health.test.iter().map(String::as_str).collect();
    match words[..] {
        [] | ["NONE"] | ["CMD", _, ..] | ["CMD-SHELL", _] => {}
        _ => {
            let hint = "write NONE; CMD and the command's words; or CMD-SHELL and one line";
            return Err(Fault::invalid("the health check's test is malformed", hint));
        }
    }
    let times = [
        ("interval", health.interval_ns),
        ("timeout", health.timeout_ns),
        ("start period", health.start_period_ns),
        ("start interval", health.start_interval_ns),
    ];
    for (what, ns) in times {
        duration(ns, &format!("health check's {what}"))?;
        if (1..PROBE_NS_MIN).contains(&ns) {
            let sentence = format!("the health check's {what} of {ns} ns is too short");
            return Err(Fault::invalid(sentence, "give at least 1 ms, or 0 for the image's own"));
        }
    }
    if i32::try_from(health.retries).is_err() {
        let sentence = format!("{} retries of the health check are too many", health.retries);
        return Err(Fault::invalid(sentence, "give a number such as 3"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut ContainerSpec)) -> Verdict {
        let mut spec = ContainerSpec { image: "busybox".into(), ..Default::default() };
        change(&mut spec);
        container(&spec)
    }

    #[test]
    fn an_image_is_needed() {
        assert_eq!(check(|_| ()), Ok(()));
        for image in ["", "Upper", "a b"] {
            let fault = check(|spec| spec.image = image.into()).expect_err(image);
            assert!(fault.sentence.contains("image"), "{}", fault.sentence);
        }
    }

    #[test]
    fn a_host_name_is_a_word() {
        for name in ["", "web-1"] {
            assert_eq!(check(|spec| spec.hostname = name.into()), Ok(()), "{name}");
        }
        let fault = check(|spec| spec.hostname = "bad host name!".into()).expect_err("no host name");
        assert!(fault.sentence.contains("host name") && fault.hint.contains("63"), "{fault:?}");
    }

    #[test]
    fn variables_have_names_and_their_values_stay_secret() {
        for env in ["A=1", "A=", "A", "A=b=c", "a.b=1"] {
            assert_eq!(check(|spec| spec.env = vec![env.into()]), Ok(()), "{env}");
        }
        for env in ["", "=1", "KEY=hidden\0"] {
            let fault = check(|spec| spec.env = vec![env.into()]).expect_err(env);
            assert!(!fault.sentence.contains("hidden"), "{}", fault.sentence);
        }
    }

    #[test]
    fn the_working_directory_is_absolute() {
        assert_eq!(check(|spec| spec.dir = "/srv".into()), Ok(()));
        assert!(check(|spec| spec.dir = "srv".into()).is_err());
    }

    #[test]
    fn hosts_and_name_servers_have_addresses() {
        for line in ["10.0.0.1 db", "::1 a b", "host-gateway host.local"] {
            assert_eq!(check(|spec| spec.hosts = vec![line.into()]), Ok(()), "{line}");
        }
        for line in ["", "10.0.0.1", "db 10.0.0.1", "10.0.0.256 db"] {
            assert!(check(|spec| spec.hosts = vec![line.into()]).is_err(), "{line}");
        }
        let dns = |server: &str| Some(DnsConfig { nameservers: vec![server.into()], ..Default::default() });
        assert_eq!(check(|spec| spec.dns = dns("fd00::53")), Ok(()));
        assert!(check(|spec| spec.dns = dns("dns.local")).is_err());
    }

    #[test]
    fn health_checks_have_a_form_and_no_tiny_times() {
        let test = |words: &[&str]| {
            let test = words.iter().map(|&word| word.into()).collect();
            check(|spec| spec.healthcheck = Some(HealthConfig { test, ..Default::default() }))
        };
        for words in [&[][..], &["NONE"], &["CMD", "true"], &["CMD", "a", "b"], &["CMD-SHELL", "a || b"]] {
            assert_eq!(test(words), Ok(()), "{words:?}");
        }
        for words in [&["true"][..], &["CMD"], &["NONE", "x"], &["CMD-SHELL"], &["CMD-SHELL", "a", "b"]] {
            assert!(test(words).is_err(), "{words:?}");
        }
        let timed = |ns| {
            let of = |set: fn(&mut HealthConfig, u64)| {
                let mut health = HealthConfig::default();
                set(&mut health, ns);
                check(|spec| spec.healthcheck = Some(health)).is_ok()
            };
            [
                of(|health, ns| health.interval_ns = ns),
                of(|health, ns| health.timeout_ns = ns),
                of(|health, ns| health.start_period_ns = ns),
                of(|health, ns| health.start_interval_ns = ns),
            ]
        };
        assert_eq!(timed(PROBE_NS_MIN), [true; 4]);
        assert_eq!(timed(PROBE_NS_MIN - 1), [false; 4]);
        assert_eq!(timed(u64::MAX), [false; 4]);
        let retries = HealthConfig { retries: u32::MAX, ..Default::default() };
        assert!(check(|spec| spec.healthcheck = Some(retries)).is_err());
    }

    #[test]
    fn the_rest_is_passed_on() {
        assert!(check(|spec| spec.stop_grace_period_ns = Some(u64::MAX)).is_err());
        assert!(check(|spec| spec.isolation = 7).is_err());
        assert!(check(|spec| spec.network = 7).is_err());
        assert!(check(|spec| spec.pull_policy = 7).is_err());
        assert!(check(|spec| spec.devices = vec![events::Device::default()]).is_err());
        assert!(check(|spec| spec.mounts = vec![events::Mount::default()]).is_err());
        assert!(check(|spec| spec.stop_signal = "SIGNOTHING".into()).is_err());
        assert!(
            check(|spec| {
                spec.labels.insert("a b".into(), String::new());
            })
            .is_err()
        );
    }
}
