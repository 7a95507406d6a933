//! From command lines to specs: what each flag changes, and that nothing else changes.

use clap::{Args, FromArgMatches};
use events::*;

use super::*;

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

/// A spec after `line`, beginning with nothing, and its container.
fn made(line: &[&str]) -> (ServiceSpec, ContainerSpec) {
    let spec = edited(ServiceSpec::default(), line);
    let container = spec.template().runs().clone();
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
        ..Default::default()
    };
    assert_eq!(container, expected);
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
        off.template().runs().healthcheck,
        Some(HealthConfig { test: vec!["NONE".to_owned()], ..Default::default() })
    );
    let again = edited(off, &["--health-timeout", "1s"]);
    let expected = HealthConfig { timeout_ns: 1_000_000_000, ..Default::default() };
    assert_eq!(again.template().runs().healthcheck, Some(expected));
}

#[test]
fn each_type_of_mount_is_replaced_by_itself() {
    let before = made(&["--bind", "/a:/b", "--volume", "/c", "--tmpfs", "/d"]).0;
    let after = edited(before, &["--volume", "v:/e", "--volume", "w:/f"]);
    let targets: Vec<_> = after.template().runs().mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/b", "/d", "/e", "/f"]);
}

#[test]
fn flags_of_the_task_fill_its_fields() {
    let (spec, _) = made(&[
        "--memory-reservation",
        "1g",
        "--cpu-limit",
        "0.5",
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
            ..Default::default()
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
        "--rollback-parallelism",
        "3",
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
    };
    assert_eq!(spec.update, Some(expected));
    let rollback =
        UpdateConfig { parallelism: Some(3), failure_action: FailureAction::Continue.into(), ..Default::default() };
    assert_eq!(spec.rollback, Some(rollback));
    let later = edited(spec, &["--update-delay", "5s"]);
    assert_eq!(later.update, Some(UpdateConfig { delay_ns: 5_000_000_000, ..expected }));
}

#[test]
fn labels_and_ports_are_replaced_as_a_whole() {
    let full = crate::format::samples::full_service().spec;
    let spec = edited(full, &["--label", "a=b", "--ports", "x:1/udp:2", "--replicas", "7"]);
    assert_eq!(spec.named().labels, [("a".to_owned(), "b".to_owned())].into());
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
    assert!(spec.template().runs().env.is_empty());
    container(&mut spec).env.clone_from(&full.template().runs().env);
    assert_eq!(spec, full);
    for field in [Field::Label, Field::Ports, Field::Update, Field::Args, Field::Bind, Field::Limits, Field::Constraint]
    {
        let mut spec = full.clone();
        field.reset(&mut spec);
        assert_ne!(spec, full, "{field:?}");
    }
}
