//! Flags of containers, verified with the engine's own tools: in its inspection, and from inside the container.

use std::process::Command;

use serde_json::Value;

use super::cluster::{Cluster, make_shared, path};
use super::process::{Answer, run};
use super::units::{Executor, IMAGE, containers};

/// A seccomp profile in which only system calls that create directories fail.
const SECCOMP: &str =
    r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;

/// The node policy of the test.
const ALLOWED: [&str; 5] = ["--allow-privileged", "--allow-device", "/dev/fuse", "--allow-device", "gpu"];

/// Flags with their values; the path in the engine's inspection of the container; and the expected JSON. `DIR` stands for a
/// directory, `SECCOMP` for the profile in it.
const ROWS: [(&[&str], &str, &str); 37] = [
    (&["--hostname", "box"], "/Config/Hostname", r#""box""#),
    (&["--dir", "/tmp"], "/Config/WorkingDir", r#""/tmp""#),
    (&["--user", "0:7"], "/Config/User", r#""0:7""#),
    (&["--group", "44"], "/HostConfig/GroupAdd", r#"["44"]"#),
    (&["--container-label", "a=b"], "/Config/Labels/a", r#""b""#),
    (&["--tty"], "/Config/Tty", "true"),
    (&["--open-stdin"], "/Config/OpenStdin", "true"),
    (&["--init"], "/HostConfig/Init", "true"),
    (&["--stop-signal", "SIGKILL"], "/Config/StopSignal", r#""SIGKILL""#),
    (&["--stop-grace-period", "3s"], "/Config/StopTimeout", "3"),
    (&["--host", "db:10.0.0.7"], "/HostConfig/ExtraHosts", r#"["db:10.0.0.7"]"#),
    (&["--dns", "10.0.0.53"], "/HostConfig/Dns", r#"["10.0.0.53"]"#),
    (&["--dns-search", "a.b"], "/HostConfig/DnsSearch", r#"["a.b"]"#),
    (&["--dns-option", "ndots:2"], "/HostConfig/DnsOptions", r#"["ndots:2"]"#),
    (&["--network", "none"], "/HostConfig/NetworkMode", r#""none""#),
    (&["--read-only"], "/HostConfig/ReadonlyRootfs", "true"),
    (&["--cap-add", "CAP_NET_ADMIN"], "/HostConfig/CapAdd", r#"["CAP_NET_ADMIN"]"#),
    (&["--cap-drop", "CAP_MKNOD"], "/HostConfig/CapDrop", r#"["CAP_MKNOD"]"#),
    (&["--sysctl", "net.core.somaxconn=99"], "/HostConfig/Sysctls", r#"{"net.core.somaxconn":"99"}"#),
    (&["--ulimit", "nofile=100:200"], "/HostConfig/Ulimits", r#"[{"Name":"nofile","Soft":100,"Hard":200}]"#),
    (&["--pids-limit", "40"], "/HostConfig/PidsLimit", "40"),
    (&["--oom-score-adj", "500"], "/HostConfig/OomScoreAdj", "500"),
    (&["--shm-size", "3M"], "/HostConfig/ShmSize", "3145728"),
    (&["--memory-limit", "64M"], "/HostConfig/Memory", "67108864"),
    (&["--memory-reservation", "32M"], "/HostConfig/MemoryReservation", "33554432"),
    (&["--memory-swap", "32M"], "/HostConfig/MemorySwap", "100663296"),
    (&["--memory-swappiness", "60"], "/HostConfig/MemorySwappiness", "60"),
    (&["--cpu-limit", "0.5"], "/HostConfig/NanoCpus", "500000000"),
    (&["--device", "/dev/fuse:/dev/f:rw"], "/HostConfig/Devices/0/PathInContainer", r#""/dev/f""#),
    (&["--device-cgroup-rule", "c 42:* rmw"], "/HostConfig/DeviceCgroupRules", r#"["c 42:* rmw"]"#),
    (&["--log-driver", "json-file", "--log-opt", "max-size=1m"], "/HostConfig/LogConfig/Config/max-size", r#""1m""#),
    (
        &["--health-cmd", "true", "--health-retries", "9", "--health-interval", "100ms"],
        "/Config/Healthcheck",
        r#"{"Test":["CMD-SHELL","true"],"Retries":9,"Interval":100000000}"#,
    ),
    (
        &[
            "--security-opt=seccomp=DIR/seccomp.json",
            "--security-opt=no-new-privileges",
            "--security-opt=apparmor=unconfined",
            "--security-opt=label=type:svirt_t",
        ],
        "/HostConfig/SecurityOpt",
        r#"["label=type:svirt_t","seccomp=SECCOMP","apparmor=unconfined","no-new-privileges=true"]"#,
    ),
    (
        &[
            "--mount",
            "type=bind,source=DIR,target=/b,readonly,consistency=cached,bind-propagation=private,bind-recursive=disabled",
        ],
        "/HostConfig/Mounts/0",
        r#"{"Type":"bind","Source":"DIR","Target":"/b","ReadOnly":true,"Consistency":"cached",
            "BindOptions":{"Propagation":"private","NonRecursive":true}}"#,
    ),
    (
        &[
            "--mount",
            r#"target=/v,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,"volume-opt=o=size=1m,uid=5",volume-label=l=1,volume-nocopy"#,
        ],
        "/HostConfig/Mounts/1/VolumeOptions",
        r#"{"NoCopy":true,"Labels":{"l":"1"},
            "DriverConfig":{"Name":"local","Options":{"type":"tmpfs","device":"tmpfs","o":"size=1m,uid=5"}}}"#,
    ),
    (
        &["--mount", "type=bind,source=DIR/made,target=/m,bind-create-src,bind-propagation=private"],
        "/HostConfig/Binds",
        r#"["DIR/made:/m:rw,private"]"#,
    ),
    (
        &["--mount", "type=tmpfs,target=/t,tmpfs-size=2m,tmpfs-mode=1770"],
        "/HostConfig/Mounts/2/TmpfsOptions",
        r#"{"SizeBytes":2097152,"Mode":1016}"#,
    ),
];

/// A command in the container, and its output if the flags have taken effect.
const SEEN: [(&str, &str); 14] = [
    ("hostname", "box"),
    ("pwd", "/tmp"),
    ("ls /sys/class/net", "lo"),
    ("id -G", "7 44"),
    ("cat /proc/sys/net/core/somaxconn", "99"),
    ("cat /proc/1/oom_score_adj", "500"),
    ("ulimit -n; ulimit -Hn", "100\n200"),
    ("df -k /dev/shm | awk 'NR == 2 { print $2 }'", "3072"),
    ("stat -c %u /v; df -k /v | awk 'NR == 2 { print $2 }'", "5\n1024"),
    ("stat -c %a /t", "1770"),
    ("test -d /m && echo made", "made"),
    ("test -c /dev/f && echo there", "there"),
    ("awk '/NoNewPrivs|Seccomp:/ { print $2 }' /proc/1/status", "1\n2"),
    ("mkdir /t/made 2>/dev/null || echo refused; touch /made 2>/dev/null || echo read-only", "refused\nread-only"),
];

/// A mount, the API version and the option that it needs, its path in the inspection of an engine that supports it, and the
/// expected JSON.
type Newer = (&'static str, (u32, u32), &'static str, &'static str, &'static str);

/// Mount options that require a newer API than the oldest supported engine has.
const NEWER: [Newer; 6] = [
    (
        "type=bind,source=DIR,target=/b:c,bind-create-src",
        (1, 42),
        "bind-create-src",
        "BindOptions/CreateMountpoint",
        "true",
    ),
    (
        "type=bind,source=DIR,target=/b,readonly,bind-recursive=writable",
        (1, 44),
        "bind-recursive=writable",
        "BindOptions/ReadOnlyNonRecursive",
        "true",
    ),
    (
        "type=bind,source=DIR,target=/b,readonly,bind-recursive=readonly",
        (1, 44),
        "bind-recursive=readonly",
        "BindOptions/ReadOnlyForceRecursive",
        "true",
    ),
    ("source=v,target=/v,volume-subpath=s", (1, 45), "volume-subpath", "VolumeOptions/Subpath", r#""s""#),
    ("type=image,source=IMAGE,target=/m,image-subpath=etc", (1, 48), "type=image", "ImageOptions/Subpath", r#""etc""#),
    ("type=tmpfs,target=/t,tmpfs-options=noexec", (1, 46), "tmpfs-options", "TmpfsOptions/Options", r#"[["noexec"]]"#),
];

fn docker(args: &[&str]) -> Answer {
    run(Command::new("docker").args(args))
}

/// The container of a service's only task.
fn container_of(cluster: &Cluster, service: &str) -> String {
    cluster.settled(service, 1)[0].container["container_id"].as_str().expect("an id").to_owned()
}

fn inspected(id: &str) -> Value {
    let inspected: Value = serde_json::from_str(&docker(&["inspect", id]).out).expect("JSON");
    inspected[0].clone()
}

pub fn every_option_reaches_its_container() {
    let cluster = Cluster::start_with(Executor::Docker, &[], &ALLOWED);
    let shared = cluster.path("shared");
    make_shared(&shared);
    let dir = path(&std::fs::canonicalize(&shared).expect("a path"));
    std::fs::write(shared.join("seccomp.json"), SECCOMP).expect("written");
    let filled = |text: &str| text.replace("DIR", &dir);
    let rows = ROWS.map(|(words, place, wanted)| {
        let profile = SECCOMP.replace('"', r#"\""#);
        let wanted: Value = serde_json::from_str(&filled(wanted).replace("SECCOMP", &profile)).expect("JSON");
        (words.iter().map(|word| filled(word)).collect::<Vec<_>>(), place, wanted)
    });
    let mut words =
        vec!["service", "create", "--name", "web", "--image", IMAGE, "--command", "sleep", "--args", "3600"];
    words.extend(rows.iter().flat_map(|(words, ..)| words.iter().map(String::as_str)));
    let created = cluster.swarmctl_words(&words);
    assert_eq!(created.code, 0, "{created:?}");
    let id = container_of(&cluster, "web");
    let container = inspected(&id);
    let differs = |(words, place, wanted): &(Vec<String>, &str, Value)| {
        let found = container.pointer(place).unwrap_or(&Value::Null);
        (found != wanted).then(|| format!("{words:?}: {found} and not {wanted} at {place}"))
    };
    let wrong: Vec<String> = rows.iter().filter_map(differs).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (line, seen) in SEEN {
        let said = docker(&["exec", &id, "sh", "-c", line]);
        assert_eq!(said.out.trim(), seen, "{line}: {said:?}");
    }
}

/// A supported option reaches the engine; otherwise the task's error names the required and the present version.
pub fn newer_options_of_mounts_reach_their_container_or_are_refused() {
    let cluster = Cluster::start_with(Executor::Docker, &[], &ALLOWED);
    let shared = cluster.path("shared");
    make_shared(&shared);
    let dir = path(&std::fs::canonicalize(&shared).expect("a path"));
    let cluster_id = cluster.inspect()["id"].as_str().expect("an id").to_owned();
    let version = docker(&["version", "--format", "{{.Server.APIVersion}}"]).out;
    let (major, minor) = version.trim().split_once('.').expect("an API version");
    let engine: (u32, u32) = (major.parse().expect("a number"), minor.parse().expect("a number"));
    for (number, (mount, since, option, place, wanted)) in NEWER.iter().enumerate() {
        let (name, mount) = (format!("newer{number}"), mount.replace("DIR", &dir).replace("IMAGE", IMAGE));
        let words =
            ["service", "create", "-d", "--name", &name, "--image", IMAGE, "--no-resolve-image", "--mount", &mount];
        let created =
            cluster.swarmctl_words(&[&words[..], &["--restart-condition", "none", "--command", "true"]].concat());
        assert_eq!(created.code, 0, "{created:?}");
        if engine < *since {
            let ((major, minor), has) = (since, version.trim());
            let sentence = format!("mount option {option} needs engine API {major}.{minor}, and this engine has {has}");
            let why = || cluster.tasks(&name).first().map(|task| task.error.clone()).unwrap_or_default();
            cluster.until(&sentence, || why().contains(&sentence));
            continue;
        }
        let wanted: Value = serde_json::from_str(wanted).expect("JSON");
        let filter = format!("label=com.docker.swarm.service.name={name}");
        cluster.until(option, || {
            let made = containers(&cluster_id, &["--all", "--filter", &filter], "{{.ID}}");
            made.iter().any(|id| inspected(id).pointer(&format!("/HostConfig/Mounts/0/{place}")) == Some(&wanted))
        });
    }
}

pub fn privileges_and_what_an_engine_lacks() {
    let cluster = Cluster::start_with(Executor::Docker, &[], &ALLOWED);
    // The engine's own default, in the form of its cgroup driver.
    let driver = docker(&["info", "--format", "{{.CgroupDriver}}"]).out;
    let parent = if driver.trim() == "systemd" { "system.slice" } else { "/docker" };
    cluster.ok(&format!(
        "service create -d --name root --image {IMAGE} --no-resolve-image --privileged --network host --cgroup-parent {parent} --command true"
    ));
    let cluster_id = cluster.inspect()["id"].as_str().expect("an id").to_owned();
    // The task ends, or on a machine without all capabilities does not start: each attempt is another container.
    cluster.until("a privileged container", || {
        let created = containers(&cluster_id, &["--all"], "{{.ID}}");
        created.iter().map(|id| inspected(id)).any(|container| {
            let host = &container["HostConfig"];
            host["Privileged"] == true && host["NetworkMode"] == "host" && host["CgroupParent"] == parent
        })
    });

    let refused = [
        ("gpus", "--gpus all", "could not select device driver"),
        ("hyper", "--isolation hyperv", "isolation"),
        ("account", "--credential-spec file://web.json", "credentialspec=file://web.json"),
        ("absent", "--image localhost:1/absent:v1 --pull never", "is not on this node, and its pull policy is never"),
        ("stale", "--no-resolve-image --pull always --image localhost:1/absent:v1", "connection refused"),
    ];
    for (name, flags, words) in refused {
        let image = if flags.contains("--image") { String::new() } else { format!("--image {IMAGE} ") };
        let line = format!("service create -d --name {name} {image}{flags} --restart-condition none --command true");
        let created = cluster.swarmctl(&line);
        assert_eq!(created.code, 0, "{created:?}");
        // The engine's error about the registry is passed on, if the registry was queried.
        assert_eq!(!flags.contains("--no-resolve-image"), created.err.contains("has no digest"), "{created:?}");
        assert_eq!(name == "absent", created.err.contains("localhost:1/v2/"), "{created:?}");
        let why = || cluster.tasks(name).first().map(|task| task.error.clone()).unwrap_or_default();
        cluster.until(words, || why().contains(words));
    }
}
