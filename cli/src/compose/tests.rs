//! The meaning of files: each row is a part of a file and the resulting spec.

use std::io;
use std::path::Path;

use events::spec::FileReference;
use serde_json::{Value, json};

use super::{LocalEnv, Problem, Problems, Stack, merge, read, stack};

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("/stack/app.conf") => Ok(b"listen :80\n".to_vec()),
        Some("/stack/profile.json") => Ok(b"{}".to_vec()),
        Some("/stack/app.env") => Ok(b"A=file\nB=file\n".to_vec()),
        Some(_) | None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn variable(name: &str) -> Option<String> {
    match name {
        "TAG" => Some("1.27".to_owned()),
        "HOME" => Some("/root".to_owned()),
        _ => None,
    }
}

/// The stack of some files, and their problems.
fn load(files: &[&str]) -> (Stack, Problems) {
    let local = LocalEnv { read: &read_file, variable: &variable, directory: Path::new("/stack") };
    let trees = files.iter().map(|text| read("f", text, &local).expect(text).expect(text));
    let file = trees.reduce(merge).expect("a file");
    let mut problems = Problems::new();
    (stack("shop", &file, &local, &mut problems), problems)
}

/// A service with additional lines, indented by one step each.
fn service(lines: &str) -> String {
    let body: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "configs:\n  app: {{file: app.conf}}\n  old: {{external: true}}\nvolumes:\n  data: {{driver: nfs, driver_opts: {{a: b}}}}\n  \
         own: {{external: true}}\nservices:\n  web:\n    image: nginx:${{TAG}}\n{body}"
    )
}

#[test]
fn every_key_makes_its_field_of_the_spec() {
    let table: &[(&str, &str, Value)] = &[
        ("", "/task/container/image", json!("nginx:1.27")),
        ("command: nginx -g 'daemon off;'", "/task/container/args", json!(["nginx", "-g", "daemon off;"])),
        ("depends_on: [web]", "/depends_on", json!(["shop_web"])),
        ("depends_on: {web: {condition: service_healthy}}", "/depends_on", json!(["shop_web"])),
        ("command: [a, b c]", "/task/container/args", json!(["a", "b c"])),
        ("entrypoint: /bin/run", "/task/container/command", json!(["/bin/run"])),
        (
            "environment: {A: 1.10, B: true, TAG: , NONE: }",
            "/task/container/env",
            json!(["A=1.10", "B=true", "TAG=1.27"]),
        ),
        ("environment: [A=x=y, TAG, NONE]", "/task/container/env", json!(["A=x=y", "TAG=1.27"])),
        ("env_file: app.env\nenvironment: {B: own}", "/task/container/env", json!(["A=file", "B=own"])),
        (
            "environment: {B: own}\nenv_file: [app.env, {path: none.env, required: false}]",
            "/task/container/env",
            json!(["A=file", "B=own"]),
        ),
        (
            "labels: [a=b, c]",
            "/task/container/labels",
            json!({"a": "b", "c": "", "com.docker.stack.namespace": "shop"}),
        ),
        ("hostname: w", "/task/container/hostname", json!("w")),
        ("working_dir: /w", "/task/container/dir", json!("/w")),
        ("user: 1000:1000", "/task/container/user", json!("1000:1000")),
        ("group_add: [1, x]", "/task/container/groups", json!(["1", "x"])),
        ("tty: true", "/task/container/tty", json!(true)),
        ("stdin_open: \"true\"", "/task/container/open_stdin", json!(true)),
        ("init: false", "/task/container/init", json!(false)),
        ("read_only: true", "/task/container/read_only", json!(true)),
        ("stop_signal: SIGINT", "/task/container/stop_signal", json!("SIGINT")),
        ("stop_grace_period: 1m", "/task/container/stop_grace_period_ns", json!(60_000_000_000_u64)),
        ("extra_hosts: ['db:10.0.0.7', 'v6=[::1]']", "/task/container/hosts", json!(["10.0.0.7 db", "::1 v6"])),
        ("extra_hosts: {db: 10.0.0.7}", "/task/container/hosts", json!(["10.0.0.7 db"])),
        ("dns: 10.0.0.1", "/task/container/dns/nameservers", json!(["10.0.0.1"])),
        ("dns_search: [a.b]", "/task/container/dns/search", json!(["a.b"])),
        ("dns_opt: [ndots:1]", "/task/container/dns/options", json!(["ndots:1"])),
        ("sysctls: {a.b: 1}", "/task/container/sysctls", json!({"a.b": "1"})),
        (
            "ulimits: {nofile: {soft: 1, hard: 2}, core: 0}",
            "/task/container/ulimits",
            json!([{"name": "nofile", "soft": 1, "hard": 2}, {"name": "core", "soft": 0, "hard": 0}]),
        ),
        ("cap_add: [NET_ADMIN]", "/task/container/capability_add", json!(["NET_ADMIN"])),
        ("cap_drop: [ALL]", "/task/container/capability_drop", json!(["ALL"])),
        ("pids_limit: 7", "/task/container/pids_limit", json!(7)),
        ("oom_score_adj: -5", "/task/container/oom_score_adj", json!(-5)),
        ("isolation: hyperv", "/task/container/isolation", json!("hyperv")),
        ("network_mode: host", "/task/container/network", json!("host")),
        ("network_mode: none", "/task/container/network", json!("none")),
        (
            "deploy: {placement: {affinities: [service==db], affinity_preferences: ['image!=old,weight=7']}}",
            "/task/placement/affinities",
            json!([{"expression": "service==db", "weight": null}, {"expression": "image!=old", "weight": 7}]),
        ),
        ("ports: [8080:80]", "/endpoint/ports/0/published_port", json!(8080)),
        (
            "ports: [{target: 53, published: 53, protocol: udp, mode: host}]",
            "/endpoint/ports/0",
            json!({"name": "53-udp", "protocol": "udp", "target_port": 53, "published_port": 53, "publish_mode": "host"}),
        ),
        ("volumes: [./x:/x:ro]", "/task/container/mounts/0/source", json!("/stack/x")),
        ("volumes: [../x:/x]", "/task/container/mounts/0/source", json!("/x")),
        ("volumes: [~/x:/x]", "/task/container/mounts/0/source", json!("/root/x")),
        ("volumes: [/x]", "/task/container/mounts/0/target", json!("/x")),
        ("volumes: ['data:/x']", "/task/container/mounts/0/source", json!("shop_data")),
        (
            "volumes: ['data:/x']",
            "/task/container/mounts/0/volume/driver",
            json!({"name": "nfs", "options": {"a": "b"}}),
        ),
        ("volumes: ['own:/x']", "/task/container/mounts/0/source", json!("own")),
        (
            "volumes: [{type: bind, source: ., target: /x, bind: {propagation: rslave}}]",
            "/task/container/mounts/0/bind/propagation",
            json!("rslave"),
        ),
        (
            "volumes: [{type: volume, source: data, target: /x, volume: {nocopy: true, subpath: s}}]",
            "/task/container/mounts/0/volume/subpath",
            json!("s"),
        ),
        (
            "volumes: [{type: tmpfs, target: /x, tmpfs: {size: 1m, mode: 01777}}]",
            "/task/container/mounts/0/tmpfs",
            json!({"size_bytes": 1_048_576, "mode": 0o1777, "options": ""}),
        ),
        ("tmpfs: /run:size=1m", "/task/container/mounts/0/type", json!("tmpfs")),
        (
            "configs: [old]",
            "/task/container/configs/0",
            json!({"config": null, "name": "old", "file": {"name": "/old", "uid": "", "gid": "", "mode": null}, "revision": 0, "pinned": false, "runtime": false}),
        ),
        (
            "configs: [{source: old, target: /etc/o, uid: 5, mode: 0440}]",
            "/task/container/configs/0/file",
            json!({"name": "/etc/o", "uid": "5", "gid": "", "mode": 0o440}),
        ),
        (
            "healthcheck: {test: curl x, interval: 1s, retries: 3}",
            "/task/container/healthcheck/test",
            json!(["CMD-SHELL", "curl x"]),
        ),
        (
            "healthcheck: {test: [CMD, a], start_period: 1s}",
            "/task/container/healthcheck/start_period_ns",
            json!(1_000_000_000),
        ),
        ("healthcheck: {disable: true}", "/task/container/healthcheck/test", json!(["NONE"])),
        (
            "logging: {driver: syslog, options: {tag: x}}",
            "/task/log_driver",
            json!({"name": "syslog", "options": {"tag": "x"}}),
        ),
        ("deploy: {replicas: 3}", "/mode", json!({"replicated": {"replicas": 3}})),
        ("deploy: {mode: global}", "/mode", json!({"global": {}})),
        (
            "deploy: {replicas: 4, mode: replicated-job}",
            "/mode",
            json!({"replicated_job": {"max_concurrent": 0, "total_completions": 4}}),
        ),
        ("deploy: {labels: {a: b}}", "/annotations/labels", json!({"a": "b", "com.docker.stack.namespace": "shop"})),
        (
            "deploy: {update_config: {parallelism: 2, delay: 1s, order: start-first, failure_action: rollback, max_failure_ratio: 0.25}}",
            "/update",
            json!({"parallelism": 2, "delay_ns": 1_000_000_000, "failure_action": "rollback", "monitor_ns": null, "max_failure_ppm": 250_000,
                "order": "start_first", "progress_deadline_ns": null}),
        ),
        ("deploy: {rollback_config: {monitor: 1s}}", "/rollback/monitor_ns", json!(1_000_000_000)),
        (
            "deploy: {restart_policy: {condition: on-failure, delay: 1s, max_attempts: 3, window: 2s}}",
            "/task/restart",
            json!({"condition": "on_failure", "delay_ns": 1_000_000_000, "max_attempts": 3, "window_ns": 2_000_000_000_u64}),
        ),
        (
            "deploy: {placement: {constraints: [node.role == worker], max_replicas_per_node: 2}}",
            "/task/placement/max_replicas",
            json!(2),
        ),
        (
            "deploy: {placement: {preferences: [{spread: node.labels.zone}]}}",
            "/task/placement/preferences/0/spread",
            json!("node.labels.zone"),
        ),
        (
            "deploy: {resources: {limits: {cpus: '0.50', memory: 50M, pids: 9}}}",
            "/task/resources/limits/nano_cpus",
            json!(500_000_000),
        ),
        ("deploy: {resources: {limits: {cpus: '0.50', memory: 50M, pids: 9}}}", "/task/container/pids_limit", json!(9)),
        (
            "deploy: {resources: {reservations: {memory: 1g, generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}}}",
            "/task/resources/reservations/generic/0",
            json!({"kind": "gpu", "amount": 2, "names": []}),
        ),
        (
            "devices: ['/dev/fuse:/dev/f:rw']",
            "/task/container/devices/0",
            json!({"source": "/dev/fuse", "target": "/dev/f", "permissions": "rw"}),
        ),
        ("gpus: all", "/task/container/device_requests/0/count", json!(-1)),
        (
            "gpus: [{device_ids: [a], driver: d}]",
            "/task/container/device_requests/0",
            json!({"driver": "d", "count": 0, "ids": ["a"], "capabilities": ["gpu"], "options": {}, "claimed": ""}),
        ),
        (
            "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], count: 2}]}}}",
            "/task/container/device_requests/0/count",
            json!(2),
        ),
        ("device_cgroup_rules: ['c 42:* rmw']", "/task/container/device_cgroup_rules", json!(["c 42:* rmw"])),
        ("privileged: true", "/task/container/privileged", json!(true)),
        ("credential_spec: {registry: web}", "/task/container/privileges/credential_spec/registry", json!("web")),
        (
            "security_opt: ['no-new-privileges:true', seccomp=profile.json]",
            "/task/container/privileges/no_new_privileges",
            json!(true),
        ),
        ("shm_size: 1m", "/task/container/shm_size_bytes", json!(1_048_576)),
        ("cgroup_parent: g", "/task/container/cgroup_parent", json!("g")),
        ("pull_policy: always", "/task/container/pull_policy", json!("always")),
        ("platform: linux/amd64", "/task/placement/platforms/0", json!({"os": "linux", "architecture": "amd64"})),
        ("mem_swappiness: 5", "/task/resources/memory_swappiness", json!(5)),
        (
            "memswap_limit: 3m\ndeploy: {resources: {limits: {memory: 1m}}}",
            "/task/resources/swap_bytes",
            json!(2_097_152),
        ),
        ("x-note: {any: thing}", "/annotations/name", json!("shop_web")),
    ];
    for (lines, path, value) in table {
        let (stack, problems) = load(&[&service(lines)]);
        assert_eq!(problems, [], "{lines}");
        let spec = serde_json::to_value(&stack.services[0]).expect("a value");
        assert_eq!(spec.pointer(path), Some(value), "{lines}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (lines, sentences) in [
        ("networks: [a]", &["?f:10:5: services.web.networks is not supported: there are no networks"][..]),
        ("comand: x", &["?f:10:5: services.web.comand is not a key of Compose files; did you mean command?"]),
        ("zzz: x", &["?f:10:5: services.web.zzz is not a key of Compose files"]),
        (
            "build: .\nrestart: always",
            &[
                "?f:10:5: services.web.build",
                "?f:11:5: services.web.restart is not supported: write deploy.restart_policy",
            ],
        ),
        ("depends_on: [db]", &["!f:10:18: services.web.depends_on: the file does not define the service db"]),
        (
            "depends_on: {web: {condition: service_completed_successfully}}",
            &["!f:10:35: services.web.depends_on.web.condition: services of a stack are never"],
        ),
        ("depends_on: {web: {restart: true}}", &["?f:10:24: services.web.depends_on.web.restart is not supported"]),
        ("secrets: [x]", &["!f:10:15: services.web.secrets: the file does not define the secret \"x\""]),
        ("image: NGINX", &["!f:10:5: the key image is given twice"]),
        ("tty: maybe", &["!f:10:10: services.web.tty: \"maybe\" is neither true nor false"]),
        (
            "deploy: {replicas: many}",
            &["!f:10:24: services.web.deploy.replicas: \"many\" is not a whole number from 0"],
        ),
        (
            "deploy: {mode: global, replicas: 3}",
            &["!f:10:38: services.web.deploy.replicas: a global service has no number"],
        ),
        (
            "deploy: {mode: sideways}",
            &["!f:10:20: services.web.deploy.mode: \"sideways\" is none of replicated, global"],
        ),
        (
            "deploy: {update_config: {order: x}}",
            &["!f:10:37: services.web.deploy.update_config.order: \"x\" is none of stop-first, start-first"],
        ),
        ("deploy:\n  endpoint_mode: vip", &["?f:11:7: services.web.deploy.endpoint_mode is not supported"]),
        ("stop_grace_period: 5", &["!f:10:24: services.web.stop_grace_period: missing unit"]),
        ("command: \"a 'b\"", &["!f:10:14: services.web.command: \"a 'b\" has an open quote"]),
        ("command: {a: b}", &["!f:10:14: services.web.command has a map, where a single value is expected"]),
        ("environment: {A: [1]}", &["!f:10:22: services.web.environment has a list, where a single value is expected"]),
        ("env_file: none.env", &["!f:10:15: cannot read none.env"]),
        ("volumes: ['gone:/x']", &["!f:10:15: services.web.volumes: the file does not define the volume gone"]),
        ("volumes: ['data:x']", &["!f:10:15: services.web.volumes: volume \"data:x\" has a target"]),
        ("volumes: [{source: data}]", &["!f:10:15: services.web.volumes: the mount has no target"]),
        ("configs: [gone]", &["!f:10:15: services.web.configs: the file does not define the config \"gone\""]),
        ("configs: [{source: app, mode: 288}]", &["!f:10:35: services.web.configs.mode: \"288\" is not a mode"]),
        (
            "ports: [{target: 80, mode: ingress}]",
            &["?f:10:32: services.web.ports.mode: the routing mesh is not in this version"],
        ),
        ("ports: ['127.0.0.1:80:80']", &["!f:10:13: services.web.ports: port \"127.0.0.1:80:80\" names an address"]),
        ("memswap_limit: 3m", &["!f:10:20: services.web.memswap_limit is memory and swap together"]),
        ("security_opt: [seccomp=gone.json]", &["!f:10:19: services.web.security_opt: the seccomp profile"]),
        ("healthcheck: {test: [curl]}", &["!f:10:25: services.web.healthcheck.test: the list has to begin with NONE"]),
        ("ulimits: {nofile: many}", &["!f:10:23: services.web.ulimits: ulimit \"nofile=many\""]),
    ] {
        let text = service(lines);
        let local = LocalEnv { read: &read_file, variable: &variable, directory: Path::new("/stack") };
        let problems: Problems = match read("f", &text, &local) {
            Ok(file) => {
                let mut problems = Problems::new();
                stack("shop", &file.expect(lines), &local, &mut problems);
                problems
            }
            Err(fault) => vec![Problem::Wrong(fault)],
        };
        let reported: Vec<String> = problems
            .iter()
            .map(|problem| match problem {
                Problem::Wrong(fault) => format!("!{fault}"),
                Problem::Unsupported(fault) => format!("?{fault}"),
            })
            .collect();
        assert_eq!(reported.len(), sentences.len(), "{lines}: {reported:?}");
        for (reported, sentence) in reported.iter().zip(sentences) {
            assert!(reported.starts_with(sentence), "{lines}: {reported}");
        }
    }
}

#[test]
fn the_rest_of_a_file_is_read_as_strictly() {
    for (text, sentence) in [
        ("services: {}\n", "!f:1:1: the file has no services"),
        (
            "version: '3.8'\nservices: {a: {image: b}}\nnetwork: {}\n",
            "?f:3:1: network is not a key of Compose files; did you mean networks?",
        ),
        ("services: {a: {image: b}}\nsecrets: {c: {}}\n", "!f:2:11: secrets.c has no data"),
        ("services: {a: {image: b}}\nsecrets: {c: {driver: x}}\n", "?f:2:15: secrets.c.driver is not supported"),
        ("services: {a: {image: b}}\nconfigs: {c: {driver: x}}\n", "?f:2:15: configs.c.driver is not a key"),
        ("services: {a: {}}\n", "!f:1:12: services.a has no image"),
        ("services: {a b: {image: c}}\n", "!f:1:12: services.a b: "),
        ("services: [a]\n", "!f:1:11: services has a list, where a map is expected"),
        ("services: {a: {image: b}}\nconfigs: {c: {}}\n", "!f:2:11: configs.c has no data"),
        ("services: {a: {image: b}}\nconfigs: {c: {external: true, content: x}}\n", "!f:2:11: configs.c is external"),
        ("services: {a: {image: b}}\nconfigs: {c: {file: gone}}\n", "!f:2:21: cannot read gone"),
        ("services: {a: {image: b}}\nconfigs: {c: {environment: GONE}}\n", "!f:2:28: the variable GONE has no value"),
        (
            "services: {a: {image: b}}\nvolumes: {v: {drivr: x}}\n",
            "?f:2:15: volumes.v.drivr is not a key of Compose files; did you mean driver?",
        ),
    ] {
        let (_, problems) = load(&[text]);
        let reported: Vec<String> = problems
            .iter()
            .map(|problem| match problem {
                Problem::Wrong(fault) => format!("!{fault}"),
                Problem::Unsupported(fault) => format!("?{fault}"),
            })
            .collect();
        assert!(reported.iter().any(|reported| reported.starts_with(sentence)), "{text}: {reported:?}");
    }
}

#[test]
fn a_config_is_called_after_the_stack_whatever_is_in_it() {
    let named = |text: &str| {
        let (stack, problems) = load(&[text]);
        assert_eq!(problems, [], "{text}");
        let [config] = &stack.configs[..] else { panic!("one config: {stack:?}") };
        assert_eq!(stack.services[0].template().container().configs[0].name, config.annotations.name);
        (config.annotations.name.clone(), config.data.0.clone())
    };
    let file = |config: &str| format!("configs: {{app: {config}}}\nservices: {{a: {{image: b, configs: [app]}}}}\n");
    let (name, data) = named(&file("{file: app.conf}"));
    assert_eq!((name.as_str(), data.as_slice()), ("shop_app", &b"listen :80\n"[..]));
    assert_eq!(named(&file("{content: other}")).0, name);
    assert_eq!(named(&file("{content: other, name: own}")).0, "own");
    assert_eq!(named(&file("{environment: TAG}")).1, b"1.27");
}

#[test]
fn a_secret_is_called_after_the_stack_and_nothing_prints_it() {
    let text = "secrets: {app: {content: hunter2, labels: {a: b}, template_driver: golang}, own: {environment: TAG, name: mine}, \
                old: {external: true}}\nservices: {a: {image: b, secrets: [app, old, {source: own, target: /k, mode: 0400}]}}\n";
    let (stack, problems) = load(&[text]);
    assert_eq!(problems, []);
    assert!(!format!("{stack:?}").contains("hunter2"));
    let made: Vec<_> = stack.secrets.iter().map(|of| (of.annotations.name.as_str(), of.data.0.as_slice())).collect();
    assert_eq!(made, [("shop_app", &b"hunter2"[..]), ("mine", b"1.27")]);
    assert_eq!(
        (stack.secrets[0].template_driver.as_str(), stack.secrets[0].annotations.labels["a"].as_str()),
        ("golang", "b")
    );
    let given = &stack.services[0].template().container().secrets;
    let given: Vec<_> = given.iter().map(|of| (of.name.as_str(), of.path(), of.mode())).collect();
    let expected = [("shop_app", "/run/secrets/app", 0o444), ("old", "/run/secrets/old", 0o444), ("mine", "/k", 0o400)];
    assert_eq!(given, expected.map(|(name, path, mode)| (name, path.to_owned(), mode)));
}

#[test]
fn a_later_file_changes_what_an_earlier_one_says() {
    let earlier = "services:\n  web:\n    image: a\n    command: [x, y]\n    environment: [A=1, B=1]\n    ports: ['80:80']\n    \
                   volumes: ['/a:/x', '/b:/y']\n  db: {image: d}\n";
    let later = "services:\n  web:\n    image: b\n    command: z\n    environment: {B: 2, C: 3}\n    ports: ['80:80', '81:81']\n    \
                 volumes: ['/c:/x']\n";
    let (stack, problems) = load(&[earlier, later]);
    assert_eq!(problems, []);
    assert_eq!(stack.services.iter().map(|spec| spec.name()).collect::<Vec<_>>(), ["shop_web", "shop_db"]);
    let container = stack.services[0].template().container().clone();
    assert_eq!((container.image.as_str(), container.args), ("b", vec!["z".to_owned()]));
    assert_eq!(container.env, ["A=1", "B=2", "C=3"]);
    assert_eq!(stack.services[0].endpoint.as_ref().map(|endpoint| endpoint.ports.len()), Some(2));
    let sources: Vec<&str> = container.mounts.iter().map(|mount| mount.source.as_str()).collect();
    assert_eq!(sources, ["/c", "/b"]);
}

#[test]
fn the_number_of_replicas_is_only_said_where_the_file_says_it() {
    let (stack, _) = load(&["services: {a: {image: b}, c: {image: d, deploy: {replicas: 1}}}\n"]);
    assert_eq!(stack.unscaled, ["shop_a"]);
}
