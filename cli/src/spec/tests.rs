//! From command lines to specs: what each flag changes, and that it changes nothing else.

use clap::{Args, FromArgMatches};
use events::*;

use super::*;
use crate::values::credential_spec;

fn flags(line: &[&str]) -> ServiceFlags {
    let command = ServiceFlags::augment_args(clap::Command::new("test").no_binary_name(true));
    let command = crate::take_negative_numbers(command);
    let matches = command.try_get_matches_from(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    ServiceFlags::from_arg_matches(&matches).expect("matches of the same command")
}

fn edited(mut spec: ServiceSpec, line: &[&str]) -> ServiceSpec {
    flags(line).apply(&mut spec).unwrap_or_else(|failure| panic!("{line:?}: {failure:?}"));
    spec
}

/// The spec that the flags in `line` create, and its container.
fn made(line: &[&str]) -> (ServiceSpec, ContainerSpec) {
    let spec = edited(ServiceSpec::default(), line);
    let container = spec.template().container().clone();
    (spec, container)
}

#[test]
fn without_flags_a_spec_stays_as_it_is() {
    let full = crate::format::samples::full_service().spec;
    assert_eq!(edited(full.clone(), &[]), full);
}

#[test]
fn flags_of_the_container_fill_its_fields() {
    let (_, container) = made(&[
        "--command",
        "sh",
        "--command",
        "-c",
        "--args",
        "--verbose",
        "--env",
        "A=b",
        "--env",
        "C",
        "--hostname",
        "h",
        "--workdir",
        "/w",
        "--tty",
        "--open-stdin=false",
        "--init",
        "--stop-signal",
        "SIGINT",
        "--stop-grace-period",
        "1m",
        "--container-label",
        "k=v",
        "--host",
        "db:10.0.0.7",
        "--dns",
        "10.0.0.1",
        "--dns-search",
        "a.b",
        "--dns-option",
        "ndots:2",
    ]);
    let expected = ContainerSpec {
        command: vec!["sh".to_owned(), "-c".to_owned()],
        args: vec!["--verbose".to_owned()],
        env: vec!["A=b".to_owned(), "C".to_owned()],
        hostname: "h".to_owned(),
        dir: "/w".to_owned(),
        tty: true,
        open_stdin: false,
        init: Some(true),
        stop_signal: "SIGINT".to_owned(),
        stop_grace_period_ns: Some(60_000_000_000),
        labels: [("k".to_owned(), "v".to_owned())].into(),
        hosts: vec!["10.0.0.7 db".to_owned()],
        dns: Some(DnsConfig {
            nameservers: vec!["10.0.0.1".to_owned()],
            search: vec!["a.b".to_owned()],
            options: vec!["ndots:2".to_owned()],
        }),
        ..Default::default()
    };
    assert_eq!(container, expected);
}

#[test]
fn flags_of_rights_and_limits_fill_their_fields() {
    let (_, container) = made(&[
        "--user",
        "1000:1000",
        "--group",
        "audio",
        "--read-only",
        "--cap-add",
        "NET_ADMIN",
        "--cap-drop",
        "ALL",
        "--sysctl",
        "net.core.somaxconn=1",
        "--ulimit",
        "nofile=1:2",
        "--pids-limit",
        "-1",
        "--oom-score-adj",
        "-500",
        "--security-opt",
        "no-new-privileges",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "apparmor=web",
        "--security-opt",
        "label=type:t",
        "--security-opt",
        "label=disable",
        "--credential-spec",
        "config://gmsa",
    ]);
    let expected = ContainerSpec {
        user: "1000:1000".to_owned(),
        groups: vec!["audio".to_owned()],
        read_only: true,
        capability_add: vec!["NET_ADMIN".to_owned()],
        capability_drop: vec!["ALL".to_owned()],
        sysctls: [("net.core.somaxconn".to_owned(), "1".to_owned())].into(),
        ulimits: vec![Ulimit { name: "nofile".to_owned(), soft: 1, hard: 2 }],
        pids_limit: -1,
        oom_score_adj: -500,
        privileges: Some(Privileges {
            selinux: Some(SelinuxContext { disable: true, r#type: "t".to_owned(), ..Default::default() }),
            seccomp: Some(Seccomp { mode: SeccompMode::Unconfined.into(), profile: Vec::new() }),
            apparmor: AppArmorMode::Custom.into(),
            no_new_privileges: true,
            apparmor_profile: "web".to_owned(),
            credential_spec: Some(CredentialSpec { config: "gmsa".to_owned(), ..Default::default() }),
        }),
        configs: vec![ConfigReference { name: "gmsa".to_owned(), runtime: true, ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(container, expected);
}

#[test]
fn a_credential_spec_is_apart_from_security_options_and_from_configs_that_are_files() {
    let mut spec = ServiceSpec::default();
    let mut give = |line: &[&str]| {
        flags(line).apply(&mut spec).expect("sound flags");
        let container = spec.template().container();
        let shown = container.privileges.as_ref().and_then(|of| of.credential_spec.as_ref()).map(credential_spec::show);
        let configs = container.configs.iter().map(|of| format!("{}{}", of.name, if of.runtime { "!" } else { "" }));
        (shown.unwrap_or_default(), configs.collect::<Vec<_>>().join(" "))
    };
    let is = |spec: &str, configs: &str| (spec.to_owned(), configs.to_owned());
    assert_eq!(give(&["--credential-spec", "config://a", "--config", "b"]), is("config://a", "a! b"));
    assert_eq!(give(&["--security-opt", "no-new-privileges"]), is("config://a", "a! b"));
    assert_eq!(give(&["--config", "a"]), is("config://a", "a! a"));
    assert_eq!(give(&["--credential-spec", "file://f"]), is("file://f", "a"));
    Field::SecurityOpt.reset(&mut spec);
    assert!(spec.template().container().privileges.as_ref().is_some_and(|of| of.credential_spec.is_some()));
    Field::CredentialSpec.reset(&mut spec);
    assert_eq!(spec.template().container().privileges, None);
}

#[test]
fn a_seccomp_profile_is_a_json_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("good"), "{}").expect("written");
    std::fs::write(path("bad"), "no JSON").expect("written");
    let (_, container) = made(&["--security-opt", &format!("seccomp={}", path("good"))]);
    let seccomp = container.privileges.and_then(|of| of.seccomp);
    assert_eq!(seccomp, Some(Seccomp { mode: SeccompMode::Custom.into(), profile: b"{}".to_vec() }));
    for (name, why) in [("bad", "is not a JSON object"), ("missing", "cannot be read")] {
        let flags = flags(&["--security-opt", &format!("seccomp={}", path(name))]);
        let refused = flags.apply(&mut ServiceSpec::default()).expect_err(name);
        assert!(format!("{refused:?}").contains(why), "{refused:?}");
    }
}

#[test]
fn flags_of_devices_fill_their_fields_and_keep_each_others() {
    let (spec, container) = made(&[
        "--device",
        "/dev/fuse",
        "--device",
        "n.com/gpu=0",
        "--gpus",
        "2",
        "--device-cgroup-rule",
        "c 42:* rmw",
        "--privileged",
        "--shm-size",
        "256M",
        "--cgroup-parent",
        "/batch",
        "--pull",
        "never",
        "--isolation",
        "hyperv",
        "--network",
        "host",
    ]);
    let cdi = DeviceRequest { driver: "cdi".to_owned(), ids: vec!["n.com/gpu=0".to_owned()], ..Default::default() };
    let gpus = DeviceRequest { count: 2, capabilities: vec!["gpu".to_owned()], ..Default::default() };
    let expected = ContainerSpec {
        devices: vec![Device { source: "/dev/fuse".to_owned(), ..Default::default() }],
        device_requests: vec![cdi.clone(), gpus.clone()],
        device_cgroup_rules: vec!["c 42:* rmw".to_owned()],
        privileged: true,
        shm_size_bytes: 256 << 20,
        cgroup_parent: "/batch".to_owned(),
        pull_policy: PullPolicy::Never.into(),
        isolation: Isolation::Hyperv.into(),
        network: NetworkMode::Host.into(),
        ..Default::default()
    };
    assert_eq!(container, expected);
    let requests = |spec: &ServiceSpec| spec.template().container().device_requests.clone();
    assert_eq!(requests(&edited(spec.clone(), &["--device", "/dev/a"])), std::slice::from_ref(&gpus));
    let all = DeviceRequest { count: -1, ..gpus };
    assert_eq!(requests(&edited(spec, &["--gpus", "all"])), [cdi, all]);
}

#[test]
fn a_health_check_is_a_shell_line_or_none() {
    let (_, container) =
        made(&["--health-cmd", "curl -f http://localhost", "--health-retries", "3", "--health-interval", "5s"]);
    let check = container.healthcheck.clone().expect("a check");
    assert_eq!(check.test, ["CMD-SHELL", "curl -f http://localhost"]);
    assert_eq!((check.retries, check.interval_ns), (3, 5_000_000_000));
    let spec =
        ServiceSpec { task: Some(TaskSpec { container: Some(container), ..Default::default() }), ..Default::default() };
    let off = edited(spec, &["--no-healthcheck"]);
    assert_eq!(
        off.template().container().healthcheck,
        Some(HealthConfig { test: vec!["NONE".to_owned()], ..Default::default() })
    );
    let again = edited(off, &["--health-timeout", "1s"]);
    let expected = HealthConfig { timeout_ns: 1_000_000_000, ..Default::default() };
    assert_eq!(again.template().container().healthcheck, Some(expected));
}

#[test]
fn each_type_of_mount_is_replaced_by_itself() {
    let before = made(&["--bind", "/a:/b", "--volume", "/c", "--tmpfs", "/d"]).0;
    let after = edited(before, &["--volume", "v:/e", "--volume", "w:/f"]);
    let targets: Vec<_> = after.template().container().mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/b", "/d", "/e", "/f"]);
    // Docker's form replaces only mounts of its own type; the short forms stay.
    let after = edited(after, &["--mount", "type=bind,src=/s,dst=/g", "--volume", "/h", "--mount", "target=/i"]);
    let targets: Vec<_> = after.template().container().mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/d", "/h", "/g", "/i"]);
    let after = changed(after, &["--mount-add", "type=tmpfs,target=/i", "--mount-rm", "/g"]);
    let targets: Vec<_> = after.template().container().mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/d", "/h", "/i"]);
    assert_eq!(edits(&["--mount-rm", "/g"]).absent(&after), ["--mount-rm: the service has no /g"]);
}

#[test]
fn flags_of_the_task_fill_its_fields() {
    let (spec, _) = made(&[
        "--memory-reservation",
        "1g",
        "--cpu-limit",
        "0.5",
        "--memory-swap",
        "-1",
        "--memory-swappiness",
        "60",
        "--generic-resources",
        "gpu=1",
        "--constraint",
        "node.role==worker",
        "--placement-pref",
        "spread=node.labels.zone",
        "--replicas-max-per-node",
        "2",
        "--restart-condition",
        "failure",
        "--restart-delay",
        "0s",
        "--restart-max-attempts",
        "3",
        "--restart-window",
        "1m",
        "--log-driver",
        "json-file",
        "--log-opt",
        "max-size=1m",
    ]);
    let expected = TaskSpec {
        container: Some(ContainerSpec::default()),
        resources: Some(ResourceRequirements {
            limits: Some(Resources { nano_cpus: 500_000_000, ..Default::default() }),
            reservations: Some(Resources {
                memory_bytes: 1 << 30,
                generic: vec![GenericResource { kind: "gpu".to_owned(), amount: 1, names: Vec::new() }],
                ..Default::default()
            }),
            swap_bytes: Some(-1),
            memory_swappiness: Some(60),
        }),
        placement: Some(Placement {
            constraints: vec!["node.role==worker".to_owned()],
            preferences: vec![PlacementPreference { spread: "node.labels.zone".to_owned() }],
            max_replicas: 2,
            ..Default::default()
        }),
        restart: Some(RestartPolicy {
            condition: Some(RestartCondition::OnFailure.into()),
            delay_ns: Some(0),
            max_attempts: 3,
            window_ns: 60_000_000_000,
        }),
        log_driver: Some(Driver {
            name: "json-file".to_owned(),
            options: [("max-size".to_owned(), "1m".to_owned())].into(),
        }),
        force_update: 0,
    };
    assert_eq!(spec.task, Some(expected));
}

#[test]
fn flags_of_rollouts_fill_their_fields_and_keep_the_others() {
    let (spec, _) = made(&[
        "--update-parallelism",
        "0",
        "--update-delay",
        "1s",
        "--update-on-failure",
        "rollback",
        "--update-monitor",
        "2s",
        "--update-max-failure-ratio",
        "0.25",
        "--update-order",
        "start-first",
        "--update-progress-deadline",
        "10m",
        "--rollback-parallelism",
        "3",
        "--rollback-progress-deadline",
        "1m",
        "--rollback-on-failure",
        "continue",
    ]);
    let expected = UpdateConfig {
        parallelism: Some(0),
        delay_ns: 1_000_000_000,
        failure_action: FailureAction::Rollback.into(),
        monitor_ns: Some(2_000_000_000),
        max_failure_ppm: 250_000,
        order: UpdateOrder::StartFirst.into(),
        progress_deadline_ns: Some(600_000_000_000),
    };
    assert_eq!(spec.update, Some(expected));
    let rollback = UpdateConfig {
        parallelism: Some(3),
        failure_action: FailureAction::Continue.into(),
        progress_deadline_ns: Some(60_000_000_000),
        ..Default::default()
    };
    assert_eq!(spec.rollback, Some(rollback));
    let later = edited(spec, &["--update-delay", "5s"]);
    assert_eq!(later.update, Some(UpdateConfig { delay_ns: 5_000_000_000, ..expected }));
}

#[test]
fn labels_and_ports_are_replaced_as_a_whole() {
    let full = crate::format::samples::full_service().spec;
    let spec = edited(full, &["--label", "a=b", "--ports", "x:1/udp:2", "--replicas", "7"]);
    assert_eq!(spec.annotations().labels, [("a".to_owned(), "b".to_owned())].into());
    assert_eq!(spec.host_ports().map(|port| port.published_port).collect::<Vec<_>>(), [2]);
    assert_eq!(spec.replicas(), Some(7));
    assert_eq!(spec.name(), "web");
}

#[test]
fn flags_that_do_not_fit_are_refused() {
    let mut global = ServiceSpec { mode: Some(service_spec::Mode::Global(GlobalMode {})), ..Default::default() };
    assert!(flags(&["--replicas", "2"]).apply(&mut global).is_err());
    assert!(flags(&["--log-opt", "a=b"]).apply(&mut ServiceSpec::default()).is_err());
}

#[test]
fn a_reset_puts_each_setting_back_and_touches_no_other() {
    use clap::ValueEnum;
    let (bare, _) = made(&[]);
    for field in Field::value_variants() {
        let mut spec = bare.clone();
        field.reset(&mut spec);
        assert_eq!(spec, bare, "{field:?} on a spec without it");
    }
    let mut spec = crate::format::samples::full_service().spec;
    let full = spec.clone();
    Field::Env.reset(&mut spec);
    assert!(spec.template().container().env.is_empty());
    container(&mut spec).env.clone_from(&full.template().container().env);
    assert_eq!(spec, full);
    for field in [Field::Label, Field::Ports, Field::Update, Field::Args, Field::Bind, Field::Limits, Field::Constraint]
    {
        let mut spec = full.clone();
        field.reset(&mut spec);
        assert_ne!(spec, full, "{field:?}");
    }
}

/// The additions and removals of an update.
fn edits(line: &[&str]) -> ListEdits {
    let command = ListEdits::augment_args(clap::Command::new("test").no_binary_name(true));
    let matches = command.try_get_matches_from(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    ListEdits::from_arg_matches(&matches).expect("matches of the same command")
}

/// A spec after such an update.
fn changed(mut spec: ServiceSpec, line: &[&str]) -> ServiceSpec {
    edits(line).apply(&mut spec).unwrap_or_else(|failure| panic!("{line:?}: {failure:?}"));
    spec
}

/// For each list: the flag that replaces it with two entries, an addition, a removal of the first entry, and the resulting list.
const LISTS: [(&str, [&str; 2], &str, &str, &str); 20] = [
    ("label", ["a=1", "b=2"], "b=3", "a", "b=3"),
    ("container-label", ["a=1", "b=2"], "c=3", "a", "b=2,c=3"),
    ("env", ["A=1", "B=2"], "B=3", "A", "B=3"),
    (
        "constraint",
        ["node.role==worker", "node.id!=x"],
        "node.role!=manager",
        "node.role==worker",
        "node.id!=x,node.role!=manager",
    ),
    (
        "placement-pref",
        ["spread=node.labels.a", "spread=node.labels.b"],
        "spread=node.labels.c",
        "spread=node.labels.a",
        "spread=node.labels.b,spread=node.labels.c",
    ),
    ("ports", ["a:1", "b:2"], "b:3", "a", "b:3"),
    ("bind", ["/s:/a", "/s:/b"], "/t:/b", "/a", "/t:/b"),
    ("volume", ["s:/a", "s:/b"], "t:/b", "/a", "t:/b"),
    ("tmpfs", ["/a", "/b"], "/c", "/a", "/b,/c"),
    ("host", ["a:10.0.0.1", "b:10.0.0.2"], "c:10.0.0.3", "a:10.0.0.1", "b:10.0.0.2,c:10.0.0.3"),
    ("dns", ["10.0.0.1", "10.0.0.2"], "10.0.0.3", "10.0.0.1", "10.0.0.2,10.0.0.3"),
    ("dns-search", ["a", "b"], "c", "a", "b,c"),
    ("dns-option", ["a", "b"], "c", "a", "b,c"),
    ("group", ["1", "2"], "3", "1", "2,3"),
    ("device", ["/dev/a", "n.com/gpu=0"], "/dev/b:/dev/c:r", "/dev/a", "n.com/gpu=0,/dev/b:/dev/c:r"),
    ("device-cgroup-rule", ["c 1:* r", "c 2:* r"], "a *:* m", "c 1:* r", "c 2:* r,a *:* m"),
    ("sysctl", ["a=1", "b=2"], "b=3", "a", "b=3"),
    ("ulimit", ["nofile=1", "nproc=2"], "nproc=3", "nofile", "nproc=3"),
    ("generic-resources", ["gpu=1", "fpga=2"], "fpga=3", "gpu", "fpga=3"),
    ("log-opt", ["a=1", "b=2"], "b=3", "a", "b=3"),
];

#[test]
fn entries_are_added_to_each_list_and_removed_from_it() {
    for (flag, [first, second], added, removed, left) in LISTS {
        let name = format!("--{flag}");
        let driver: &[&str] = if flag == "log-opt" { &["--log-driver", "local"] } else { &[] };
        let spec = |entries: &[&str]| {
            let words: Vec<&str> = entries.iter().flat_map(|entry| [name.as_str(), *entry]).collect();
            edited(ServiceSpec::default(), &[driver, &words].concat())
        };
        let both = spec(&[first, second]);
        let (add, rm) = (format!("{name}-add"), format!("{name}-rm"));
        assert_eq!(
            changed(both.clone(), &[&add, added, &rm, removed]),
            spec(&left.split(',').collect::<Vec<_>>()),
            "{flag}"
        );
        assert_eq!(changed(both.clone(), &[&add, second]), both, "{flag}");
        // A removal that matches nothing is reported.
        let edits = edits(&[&rm, removed]);
        assert_eq!(edits.absent(&both), [""; 0], "{flag}");
        let absent = edits.absent(&spec(&[second]));
        assert!(absent[0].starts_with(&format!("{rm}: the service has no ")), "{absent:?}");
        // The plain flag replaces the list, and the dropped entries are reported.
        let sentences = dropped(&both, &spec(&[second]));
        let key = removed.trim_start_matches("spread=").replace("a:10.0.0.1", "10.0.0.1 a");
        assert_eq!(sentences, [format!("{name} replaces the whole list: dropped {key}; {add} keeps what is there")]);
        assert!(dropped(&spec(&[second]), &both).is_empty(), "{flag}");
    }
}

#[test]
fn ports_in_dockers_form_are_added_and_removed_by_what_they_are_in_the_container() {
    let spec = edited(ServiceSpec::default(), &["-p", "8080:80", "--ports", "dns:53/udp"]);
    let shown = |spec: &ServiceSpec| {
        spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports).map(crate::values::port::show).collect::<Vec<_>>()
    };
    assert_eq!(shown(&spec), ["dns:53/udp", "80-tcp:80/tcp:8080"]);
    let changed = changed(spec, &["--publish-add", "81:80", "--publish-rm", "53/udp"]);
    assert_eq!(shown(&changed), ["80-tcp:80/tcp:81"]);
    let absent = edits(&["--publish-rm", "53/udp", "--publish-rm", "80"]).absent(&changed);
    assert_eq!(absent, ["--publish-rm: the service has no 53/udp"]);
}

#[test]
fn a_secret_variable_is_removed_by_its_name() {
    let mut spec = ServiceSpec::default();
    let secret = |name: &str| EnvSecret { name: name.to_owned(), key: String::new() };
    container(&mut spec).env_secrets = vec![secret("A"), secret("B")];
    let spec = changed(spec, &["--env-secret-rm", "A"]);
    assert_eq!(spec.template().container().env_secrets, [secret("B")]);
    assert_eq!(edits(&["--env-secret-rm", "A"]).absent(&spec), ["--env-secret-rm: the service has no A"]);
    let dropped = |flag, entry| dropped(&edited(spec.clone(), &[flag, "CHOWN"]), &edited(spec.clone(), &[flag, entry]));
    for flag in ["--cap-add", "--cap-drop"] {
        assert_eq!(
            dropped(flag, "KILL"),
            [format!("{flag} replaces the whole list: dropped CHOWN; name it again to keep it")]
        );
    }
}

#[test]
fn single_capabilities_are_added_and_taken_away_as_in_swarmkit() {
    for (added, dropped, flags, then_added, then_dropped) in [
        ("", "", ["--add-capability", "NET_ADMIN"], "NET_ADMIN", ""),
        ("CAP_KILL", "", ["--add-capability", "KILL"], "CAP_KILL", ""),
        ("", "CAP_KILL", ["--add-capability", "KILL"], "", ""),
        ("CAP_KILL CAP_CHOWN", "", ["--rm-capability", "KILL"], "CAP_CHOWN", ""),
        ("", "CAP_CHOWN", ["--rm-capability", "KILL"], "", "CAP_CHOWN KILL"),
    ] {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut spec = ServiceSpec::default();
        container(&mut spec).capability_add = words(added);
        container(&mut spec).capability_drop = words(dropped);
        let after = changed(spec, &flags);
        let after = after.template().container();
        assert_eq!(
            (&after.capability_add, &after.capability_drop),
            (&words(then_added), &words(then_dropped)),
            "{flags:?}"
        );
    }
}

#[test]
fn affinities_of_each_kind_are_replaced_added_and_removed_alone() {
    let of = |spec: &ServiceSpec| {
        let all = spec.template().placement().affinities.iter();
        all.map(|affinity| (affinity.expression.clone(), affinity.weight)).collect::<Vec<_>>()
    };
    let entry = |expression: &str, weight| (expression.to_owned(), weight);
    let line = ["--affinity", "service==db", "--affinity", "image!=old", "--affinity-pref", "service!=web,weight=5"];
    let (spec, _) = made(&line);
    let first = [entry("service==db", None), entry("image!=old", None), entry("service!=web", Some(5))];
    assert_eq!(of(&spec), first);
    let replaced = edited(spec.clone(), &["--affinity", "service==cache"]);
    assert_eq!(of(&replaced), [entry("service!=web", Some(5)), entry("service==cache", None)]);
    let mut changed = spec;
    let line =
        ["--affinity-rm", "service == db", "--affinity-pref-rm", "image!=old", "--affinity-pref-add", "service!=web"];
    edits(&line).apply(&mut changed).expect("edits");
    assert_eq!(of(&changed), [entry("image!=old", None), entry("service!=web", Some(1))]);
}
