//! The mapping of every spec field to the engine's API, as the JSON that the engine reads, and of the engine's responses back.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::events::*;
use bollard::models::ContainerInspectResponse;
use serde_json::{Value, json};

use super::features::{self, ApiVersion};
use super::observed::{self, Phase};
use super::*;

fn workload(spec: Value) -> Workload {
    let mut full = json!({ "annotations": { "name": "web" } });
    full.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    Workload {
        cluster: ClusterId::from_bits(1),
        node: NodeId::from_bits(2),
        node_hostname: "host-a".into(),
        task: TaskId::from_bits(3),
        name: "web.1.0000000000000000000000003".into(),
        slot: 1,
        service: ServiceId::from_bits(4),
        spec: Arc::new(serde_json::from_value(full).expect("a spec")),
        claims: vec![
            GenericResource { kind: "gpu".into(), amount: 0, names: vec!["a".into(), "b".into()] },
            GenericResource { kind: "fpga".into(), amount: 2, names: vec![] },
        ],
        registry_auth: None,
        env_secrets: BTreeMap::new(),
        configs: Default::default(),
        secrets: Default::default(),
        templates: Default::default(),
        secret_configs: Default::default(),
    }
}

fn container(spec: Value) -> Workload {
    workload(json!({ "task": { "container": spec } }))
}

fn body(workload: &Workload) -> Value {
    serde_json::to_value(config::create_body(workload)).expect("JSON")
}

/// Each row: the container spec, the JSON pointer in the body, and the expected value.
#[test]
fn each_field_of_a_container_has_its_place() {
    let rows = [
        (json!({ "image": "nginx:1" }), "/Image", json!("nginx:1")),
        (json!({ "labels": { "a": "b" } }), "/Labels/a", json!("b")),
        (json!({ "command": ["/bin/x"], "args": ["y"] }), "/Entrypoint", json!(["/bin/x"])),
        (json!({ "command": ["/bin/x"], "args": ["y"] }), "/Cmd", json!(["y"])),
        (json!({}), "/Cmd", Value::Null),
        (json!({ "hostname": "h" }), "/Hostname", json!("h")),
        (
            json!({ "env": ["A=1", "B"] }),
            "/Env",
            json!(["A=1", "B", "DOCKER_RESOURCE_FPGA=2", "DOCKER_RESOURCE_GPU=a,b"]),
        ),
        (json!({ "dir": "/srv" }), "/WorkingDir", json!("/srv")),
        (json!({ "user": "1:2" }), "/User", json!("1:2")),
        (json!({ "groups": ["audio"] }), "/HostConfig/GroupAdd", json!(["audio"])),
        (json!({ "init": true }), "/HostConfig/Init", json!(true)),
        (json!({}), "/HostConfig/Init", Value::Null),
        (json!({ "tty": true }), "/Tty", json!(true)),
        (json!({ "open_stdin": true }), "/OpenStdin", json!(true)),
        (json!({ "read_only": true }), "/HostConfig/ReadonlyRootfs", json!(true)),
        (json!({ "stop_signal": "SIGINT" }), "/StopSignal", json!("SIGINT")),
        (json!({}), "/StopTimeout", json!(10)),
        (json!({ "stop_grace_period_ns": 1_500_000_000 }), "/StopTimeout", json!(2)),
        (
            json!({ "hosts": ["10.0.0.1 db db.local # main", "::1 six"] }),
            "/HostConfig/ExtraHosts",
            json!(["db:10.0.0.1", "db.local:10.0.0.1", "six:::1"]),
        ),
        (json!({ "dns": { "nameservers": ["1.1.1.1"] } }), "/HostConfig/Dns", json!(["1.1.1.1"])),
        (json!({ "dns": { "search": ["a.b"] } }), "/HostConfig/DnsSearch", json!(["a.b"])),
        (json!({ "dns": { "options": ["ndots:2"] } }), "/HostConfig/DnsOptions", json!(["ndots:2"])),
        (json!({ "isolation": "hyperv" }), "/HostConfig/Isolation", json!("hyperv")),
        (json!({}), "/HostConfig/Isolation", Value::Null),
        (json!({ "network": "host" }), "/HostConfig/NetworkMode", json!("host")),
        (json!({ "network": "none" }), "/HostConfig/NetworkMode", json!("none")),
        (json!({}), "/HostConfig/NetworkMode", Value::Null),
        (json!({ "pids_limit": 7 }), "/HostConfig/PidsLimit", json!(7)),
        (json!({ "sysctls": { "net.x": "1" } }), "/HostConfig/Sysctls", json!({ "net.x": "1" })),
        (json!({ "capability_add": ["CAP_NET_ADMIN"] }), "/HostConfig/CapAdd", json!(["CAP_NET_ADMIN"])),
        (json!({ "capability_drop": ["ALL"] }), "/HostConfig/CapDrop", json!(["ALL"])),
        (
            json!({ "ulimits": [{ "name": "nofile", "soft": 1, "hard": -1 }] }),
            "/HostConfig/Ulimits",
            json!([{ "Name": "nofile", "Soft": 1, "Hard": -1 }]),
        ),
        (json!({ "oom_score_adj": -5 }), "/HostConfig/OomScoreAdj", json!(-5)),
        (json!({}), "/HostConfig/RestartPolicy/Name", json!("no")),
        (json!({ "privileged": true }), "/HostConfig/Privileged", json!(true)),
        (json!({}), "/HostConfig/Privileged", Value::Null),
        (json!({ "shm_size_bytes": 65_536 }), "/HostConfig/ShmSize", json!(65_536)),
        (json!({ "cgroup_parent": "/batch" }), "/HostConfig/CgroupParent", json!("/batch")),
        (json!({ "device_cgroup_rules": ["c 42:* rmw"] }), "/HostConfig/DeviceCgroupRules", json!(["c 42:* rmw"])),
    ];
    expect_places(&rows);
}

#[test]
fn health_checks_and_privileges_have_their_place() {
    let rows = [
        (json!({ "healthcheck": { "test": ["NONE"] } }), "/Healthcheck/Test", json!(["NONE"])),
        (json!({}), "/Healthcheck", Value::Null),
        (
            json!({ "healthcheck": { "test": ["CMD-SHELL", "true"], "interval_ns": 1, "timeout_ns": 2, "retries": 3,
                "start_period_ns": 4, "start_interval_ns": 5 } }),
            "/Healthcheck",
            json!({ "Test": ["CMD-SHELL", "true"], "Interval": 1, "Timeout": 2, "Retries": 3, "StartPeriod": 4,
                "StartInterval": 5 }),
        ),
        (
            json!({ "privileges": { "no_new_privileges": true, "apparmor": "disabled",
                "selinux": { "type": "t", "level": "s0" }, "seccomp": { "mode": "unconfined" } } }),
            "/HostConfig/SecurityOpt",
            json!([
                "label=type:t",
                "label=level:s0",
                "seccomp=unconfined",
                "apparmor=unconfined",
                "no-new-privileges=true"
            ]),
        ),
        (
            json!({ "privileges": { "apparmor": "custom", "apparmor_profile": "web" } }),
            "/HostConfig/SecurityOpt",
            json!(["apparmor=web"]),
        ),
        (
            json!({ "privileges": { "selinux": { "disable": true },
                "seccomp": { "mode": "custom", "profile": hex(b"{}") } } }),
            "/HostConfig/SecurityOpt",
            json!(["label=disable", "seccomp={}"]),
        ),
        (
            json!({ "privileges": { "credential_spec": { "file": "web.json" } } }),
            "/HostConfig/SecurityOpt",
            json!(["credentialspec=file://web.json"]),
        ),
        (
            json!({ "privileges": { "credential_spec": { "registry": "web" } } }),
            "/HostConfig/SecurityOpt",
            json!(["credentialspec=registry://web"]),
        ),
    ];
    expect_places(&rows);
}

#[test]
fn a_credential_spec_in_a_config_is_given_as_it_is_and_never_holds_a_secret() {
    let id = ConfigId::from_bits(7);
    let mut workload = container(json!({
        "privileges": { "credential_spec": { "config": "gmsa" } },
        "configs": [{ "config": id, "name": "gmsa", "runtime": true, "revision": 2 }],
    }));
    workload.configs = [((id, 2), "{\"CmsPlugins\":[]}".into())].into();
    assert_eq!(body(&workload)["HostConfig"]["SecurityOpt"], json!(["credentialspec=raw://{\"CmsPlugins\":[]}"]));
    assert_eq!(workload.config_files().count(), 0);
    assert_eq!(body(&workload)["HostConfig"]["Binds"], Value::Null);
    workload.configs.clear();
    workload.secret_configs = [((id, 2), SecretBytes(b"hunter2".to_vec()))].into();
    assert_eq!(workload.memory_files().len(), 0);
    assert_eq!(
        workload.credential_spec(),
        Err("config gmsa repeats a secret, which a credential spec must not contain".to_owned())
    );
    assert_eq!(body(&workload)["HostConfig"]["SecurityOpt"], Value::Null);
}

#[test]
fn devices_have_their_place() {
    let request = |spec: Value| json!({ "device_requests": [spec] });
    let rows = [
        (
            json!({ "devices": [{ "source": "/dev/fuse" }, { "source": "/dev/a", "target": "/dev/b", "permissions": "r" }] }),
            "/HostConfig/Devices",
            json!([
                { "PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm" },
                { "PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r" },
            ]),
        ),
        (
            request(json!({ "count": -1, "capabilities": ["gpu", "utility"] })),
            "/HostConfig/DeviceRequests/0",
            json!({ "Driver": "", "Count": -1, "Capabilities": [["gpu", "utility"]] }),
        ),
        (
            request(json!({ "driver": "nvidia", "ids": ["0"], "options": { "mode": "mig" } })),
            "/HostConfig/DeviceRequests/0",
            json!({ "Driver": "nvidia", "DeviceIDs": ["0"], "Options": { "mode": "mig" } }),
        ),
        // The devices of this kind that the task claims.
        (
            request(json!({ "claimed": "gpu", "capabilities": ["gpu"] })),
            "/HostConfig/DeviceRequests/0",
            json!({ "Driver": "", "DeviceIDs": ["a", "b"], "Capabilities": [["gpu"]] }),
        ),
    ];
    expect_places(&rows);
}

/// Checks each row: the spec, the JSON pointer in the engine's request, and the expected value.
fn expect_places(rows: &[(Value, &str, Value)]) {
    for (spec, place, wanted) in rows {
        let body = body(&container(spec.clone()));
        assert_eq!(body.pointer(place).unwrap_or(&Value::Null), wanted, "{spec} at {place}");
    }
}

fn hex(bytes: &[u8]) -> Value {
    let seccomp = Seccomp { profile: bytes.to_vec(), ..Default::default() };
    serde_json::to_value(seccomp).expect("JSON")["profile"].clone()
}

#[test]
fn each_field_of_a_task_has_its_place() {
    let limits = json!({ "limits": { "nano_cpus": 5, "memory_bytes": 6 }, "reservations": { "nano_cpus": 7, "memory_bytes": 4 },
        "swap_bytes": -1, "memory_swappiness": 0 });
    let body = body(&workload(json!({
        "task": { "resources": limits, "log_driver": { "name": "json-file", "options": { "max-size": "1m" } } },
    })));
    for (field, wanted) in [
        ("NanoCpus", json!(5)),
        ("Memory", json!(6)),
        ("MemoryReservation", json!(4)),
        ("MemorySwap", json!(-1)),
        ("MemorySwappiness", json!(0)),
        ("LogConfig", json!({ "Type": "json-file", "Config": { "max-size": "1m" } })),
    ] {
        assert_eq!(body["HostConfig"][field], wanted, "{field}");
    }
}

#[test]
fn swap_is_limited_together_with_memory() {
    for (swap, expected) in
        [(json!(null), json!(null)), (json!(-1), json!(-1)), (json!(0), json!(64)), (json!(36), json!(100))]
    {
        let resources = json!({ "limits": { "memory_bytes": 64 }, "swap_bytes": swap });
        let body = body(&workload(json!({ "task": { "resources": resources } })));
        assert_eq!(body["HostConfig"]["MemorySwap"], expected, "{swap}");
    }
}

#[test]
fn a_spec_cannot_take_the_labels_that_name_a_task() {
    let body = body(&container(json!({ "labels": { "com.docker.swarm.task.id": "mine" } })));
    assert_eq!(
        body["Labels"],
        json!({
            "com.docker.swarm.task": "",
            "com.docker.swarm.task.id": "0000000000000000000000003",
            "com.docker.swarm.task.name": "web.1.0000000000000000000000003",
            "com.docker.swarm.node.id": "0000000000000000000000002",
            "com.docker.swarm.service.id": "0000000000000000000000004",
            "com.docker.swarm.service.name": "web",
            "swarmlog.cluster": "0000000000000000000000001",
        })
    );
}

#[test]
fn host_ports_are_bound_and_ingress_ports_are_not() {
    let body = body(&workload(json!({ "endpoint": { "ports": [
        { "target_port": 80, "published_port": 8080, "publish_mode": "host" },
        { "target_port": 80, "published_port": 0, "publish_mode": "host" },
        { "target_port": 53, "published_port": 5353, "publish_mode": "host", "protocol": "udp" },
        { "target_port": 81, "published_port": 81, "publish_mode": "ingress" },
    ] } })));
    let bindings =
        json!({ "80/tcp": [{ "HostPort": "8080" }, { "HostPort": "" }], "53/udp": [{ "HostPort": "5353" }] });
    assert_eq!(body["HostConfig"]["PortBindings"], bindings);
    assert_eq!(body["ExposedPorts"], json!({ "80/tcp": {}, "53/udp": {} }));
}

#[test]
fn mounts_keep_all_their_options() {
    let body = body(&container(json!({ "mounts": [
        { "type": "bind", "source": "/a", "target": "/b", "read_only": true, "consistency": "cached",
          "bind": { "propagation": "rslave", "non_recursive": true } },
        { "type": "volume", "source": "v", "target": "/v",
          "volume": { "no_copy": true, "labels": { "l": "1" }, "subpath": "s",
                      "driver": { "name": "local", "options": { "type": "tmpfs" } } } },
        { "type": "tmpfs", "target": "/t", "tmpfs": { "size_bytes": 9, "mode": 0o700, "options": "noexec, uid=1" } },
        { "type": "npipe", "source": "p", "target": "q" },
        { "type": "image", "source": "models:1", "target": "/m", "image": { "subpath": "small" } },
        { "type": "bind", "source": "/made", "target": "/c", "read_only": true,
          "bind": { "create_mountpoint": true, "propagation": "shared" } },
        { "type": "bind", "source": "/odd:name", "target": "/d", "bind": { "create_mountpoint": true } },
    ] })));
    assert_eq!(body["HostConfig"]["Binds"], json!(["/made:/c:ro,shared"]));
    assert_eq!(
        body["HostConfig"]["Mounts"],
        json!([
            { "Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true, "Consistency": "cached",
              "BindOptions": { "Propagation": "rslave", "NonRecursive": true } },
            { "Type": "volume", "Source": "v", "Target": "/v", "ReadOnly": false,
              "VolumeOptions": { "NoCopy": true, "Labels": { "l": "1" }, "Subpath": "s",
                                 "DriverConfig": { "Name": "local", "Options": { "type": "tmpfs" } } } },
            { "Type": "tmpfs", "Target": "/t", "ReadOnly": false,
              "TmpfsOptions": { "SizeBytes": 9, "Mode": 0o700, "Options": [["noexec"], ["uid", "1"]] } },
            { "Type": "npipe", "Source": "p", "Target": "q", "ReadOnly": false },
            { "Type": "image", "Source": "models:1", "Target": "/m", "ReadOnly": false,
              "ImageOptions": { "Subpath": "small" } },
            { "Type": "bind", "Source": "/odd:name", "Target": "/d", "ReadOnly": false,
              "BindOptions": { "Propagation": "rprivate", "CreateMountpoint": true } },
        ])
    );
}

#[test]
fn what_an_engine_does_not_know_is_refused_or_warned_of_and_the_rest_is_not_asked_about() {
    let needs = |mount: Value| features::needs(&container(json!({ "mounts": [mount] })));
    assert_eq!(needs(json!({ "source": "/a", "target": "/b", "bind": { "create_mountpoint": true } })), []);
    let subpath = needs(json!({ "type": "volume", "source": "v", "target": "/b", "volume": { "subpath": "s" } }));
    let unmet = features::unmet(&subpath, ApiVersion(1, 41));
    assert_eq!(unmet, ["mount option volume-subpath needs engine API 1.45, and this engine has 1.41"]);
    assert!(features::unmet(&subpath, "1.45".parse().expect("a version")).is_empty());
    let image = needs(json!({ "type": "image", "source": "models:1", "target": "/m" }));
    let unmet = features::unmet(&image, ApiVersion(1, 41));
    assert_eq!(unmet, ["mount option type=image needs engine API 1.48, and this engine has 1.41"]);
    assert!(features::unmet(&image, ApiVersion(1, 48)).is_empty());
    let preferences = |health: Value| features::preferences(&container(json!({ "healthcheck": health })));
    assert_eq!(preferences(json!({ "interval_ns": 1_000_000 })), []);
    let preference = features::unmet(&preferences(json!({ "start_interval_ns": 1_000_000 })), ApiVersion(1, 43));
    assert_eq!(preference, ["the health check's start interval needs engine API 1.44, and this engine has 1.43"]);
}

fn inspection(state: Value, ports: Value) -> ContainerInspectResponse {
    serde_json::from_value(json!({ "Id": "c", "State": state, "NetworkSettings": { "Ports": ports } }))
        .expect("an answer")
}

#[test]
fn an_inspection_becomes_a_phase_and_a_status() {
    let rows = [
        (json!({ "Status": "created", "ExitCode": 0 }), Phase::Created, None),
        (json!({ "Status": "running", "ExitCode": 0, "Pid": 7 }), Phase::Running, None),
        (json!({ "Status": "paused", "ExitCode": 0, "Pid": 7 }), Phase::Running, None),
        (json!({ "Status": "running", "ExitCode": 0, "Health": { "Status": "starting" } }), Phase::Starting, None),
        (json!({ "Status": "running", "ExitCode": 0, "Health": { "Status": "healthy" } }), Phase::Running, None),
        (json!({ "Status": "running", "ExitCode": 0, "Health": { "Status": "unhealthy" } }), Phase::Unhealthy, None),
        (json!({ "Status": "exited", "ExitCode": 3, "Health": { "Status": "unhealthy" } }), Phase::Ended, Some(3)),
        (json!({ "Status": "dead", "ExitCode": 137 }), Phase::Ended, Some(137)),
    ];
    let workload = container(json!({}));
    for (state, phase, exit_code) in rows {
        let observed = observed::observe(inspection(state.clone(), json!({})), &workload);
        assert_eq!((observed.phase, observed.status.exit_code), (phase, exit_code), "{state}");
    }
}

#[test]
fn the_engine_says_why_a_container_ended() {
    let workload = container(json!({}));
    let oom = json!({ "Status": "exited", "ExitCode": 137, "OOMKilled": true });
    let observed = observed::observe(inspection(oom, json!({})), &workload);
    assert!(observed.status.oom_killed);
    assert_eq!(observed.exit().reason, None, "the task's error says it anyhow");
    let words = json!({ "Status": "exited", "ExitCode": 128, "Error": "disk gone" });
    assert_eq!(observed::observe(inspection(words, json!({})), &workload).exit().reason.as_deref(), Some("disk gone"));
}

#[test]
fn ports_that_the_engine_picked_are_filled_in() {
    let workload = workload(json!({ "endpoint": { "ports": [
        { "target_port": 80, "published_port": 0, "publish_mode": "host" },
        { "target_port": 80, "published_port": 8080, "publish_mode": "host" },
        { "target_port": 80, "published_port": 0, "publish_mode": "host" },
    ] } }));
    let bound = json!({ "80/tcp": [
        { "HostIp": "0.0.0.0", "HostPort": "8080" },
        { "HostIp": "0.0.0.0", "HostPort": "49153" }, { "HostIp": "::", "HostPort": "49153" },
        { "HostIp": "0.0.0.0", "HostPort": "49154" },
    ], "90/tcp": null });
    let observed = observed::observe(inspection(json!({ "Status": "running" }), bound), &workload);
    let numbers: Vec<u32> = observed.status.ports.iter().map(|port| port.published_port).collect();
    assert_eq!(numbers, [49153, 8080, 49154]);
}

#[test]
fn an_engine_address_is_a_unix_socket() {
    for address in ["", "/var/run/docker.sock", "tcp://127.0.0.1:2375", "unix://", "unix://relative"] {
        let refusal = DockerExecutor::new(address, PathBuf::new()).err().expect("a refusal");
        assert!(refusal.contains("unix:///var/run/docker.sock"), "{refusal}");
    }
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_temporary_and_named() {
    let executor = DockerExecutor::new("unix:///nonexistent/docker.sock", PathBuf::new()).expect("a valid address");
    let Err(ExecutorError::Temporary(words)) = executor.describe().await else { panic!("expected Temporary") };
    assert!(words.contains("unix:///nonexistent/docker.sock: no such socket. Is it running?"), "{words}");
}
