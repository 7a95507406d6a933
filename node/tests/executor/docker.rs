//! What only a container engine has: images, registries, mounts, bound ports, and strangers on the same engine.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, RemoveContainerOptionsBuilder, StartContainerOptions,
};
use events::{
    BindOptions, ConfigId, ConfigReference, EndpointSpec, FileTarget, Id, Mount, MountType, PortConfig, PublishMode,
    VolumeOptions,
};
use futures_util::poll;
use node::agent::docker::DockerExecutor;
use node::agent::executor::{Executor, ExecutorError, RegistryAuth, Workload};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::bench::{Bench, ENGINE, container};
use crate::cases::fatal;

fn engine() -> Docker {
    Docker::connect_with_unix(ENGINE, 60, bollard::API_DEFAULT_VERSION).expect("the engine's socket")
}

/// An executor that reaches the engine over this socket.
fn proxied(socket: &Path) -> DockerExecutor {
    DockerExecutor::new(&format!("unix://{}", socket.display()), std::env::temp_dir()).expect("a valid address")
}

#[tokio::test]
#[ignore = "needs a Docker Engine"]
async fn a_missing_image_is_fatal_in_the_engines_words() {
    let bench = Bench::docker().await;
    bench
        .run(async {
            let mut workload = bench.shell("true");
            // Nothing listens there.
            container(&mut workload).image = "localhost:1/no-such-image:v1".into();
            let words = fatal(bench.executor.prepare(&workload).await);
            assert!(words.contains("connection refused"), "{words}");
        })
        .await;
}

#[tokio::test]
#[ignore = "needs a Docker Engine"]
async fn a_bad_mount_is_fatal_in_the_engines_words() {
    let bench = Bench::docker().await;
    bench
        .run(async {
            let mut workload = bench.shell("true");
            container(&mut workload).mounts =
                vec![Mount { source: "/no/such/dir".into(), target: "/data".into(), ..Default::default() }];
            let words = fatal(bench.executor.prepare(&workload).await);
            assert!(words.contains("/no/such/dir"), "{words}");
        })
        .await;
}

#[tokio::test]
#[ignore = "needs a Docker Engine"]
async fn configs_are_there_under_a_read_only_root_and_in_a_tmpfs() {
    let bench = Bench::docker().await;
    bench
        .run(async {
            for read_only in [true, false] {
                // Whoever runs may read them all, write none, and write beside them only in the tmpfs.
                let mut workload = bench.shell(
                    r#"test "$(cat /web.conf)" = hello && test "$(cat /run/app/own.conf)" = mine &&
                       test "$(stat -c '%u:%g %a' /run/app/own.conf)" = "1000:1001 440" && touch /run/beside &&
                       ! echo x >/run/app/own.conf && cat /proc/mounts >/run/mounts && grep -q /run/app/own.conf /run/mounts"#,
                );
                let reference = |id, file| ConfigReference {
                    config: Some(ConfigId::from_bits(id)),
                    name: "web.conf".into(),
                    file,
                    ..ConfigReference::default()
                };
                let target = FileTarget {
                    name: "/run/app/own.conf".into(),
                    uid: "1000".into(),
                    gid: "1001".into(),
                    mode: Some(0o440),
                };
                container(&mut workload).configs = vec![reference(1, None), reference(2, Some(target))];
                let tmpfs = Mount { r#type: MountType::Tmpfs.into(), target: "/run".into(), ..Default::default() };
                container(&mut workload).mounts = vec![tmpfs];
                container(&mut workload).read_only = read_only;
                let data = [((ConfigId::from_bits(1), 0), "hello".into()), ((ConfigId::from_bits(2), 0), "mine".into())];
                workload.configs = data.into();
                bench.executor.prepare(&workload).await.expect("prepared");
                // Once more, as after a crash of the agent; and then without the data, which a restarted agent may not have.
                bench.executor.prepare(&workload).await.expect("prepared");
                workload.configs.clear();
                bench.executor.start(&workload).await.expect("started");
                let ended = bench.executor.wait(&workload).await.expect("ended");
                assert_eq!(ended.container.exit_code, Some(0), "read only: {read_only}");
                assert_eq!(bench.kept_configs(), [workload.task.to_string()]);
                bench.executor.remove(workload.task).await.expect("removed");
                assert!(bench.kept_configs().is_empty(), "they go with the task");
                // Files that outlived their container and the agent's memory are found, and go like a stray container.
                std::fs::create_dir_all(bench.configs().join(workload.task.to_string())).expect("made");
                let strays = bench.executor.inventory(bench.cluster, bench.node).await.expect("an inventory");
                assert_eq!(strays, [workload.task]);
                bench.executor.remove(workload.task).await.expect("removed");
                assert!(bench.kept_configs().is_empty(), "they go, too");
            }
        })
        .await;
}

#[tokio::test]
#[ignore = "needs a Docker Engine"]
async fn a_container_whose_path_leads_elsewhere_by_now_is_not_started() {
    let bench = Bench::docker().await;
    let dir = tempfile::tempdir().expect("a directory");
    bench
        .run(async {
            let places = ["one", "two"].map(|name| std::fs::canonicalize(dir.path()).expect("a path").join(name));
            let mounting = |mut workload: Workload, place: &Path, create_mountpoint| {
                container(&mut workload).mounts = vec![Mount {
                    source: place.to_str().expect("text").to_owned(),
                    target: "/data".into(),
                    bind: Some(BindOptions { create_mountpoint, ..Default::default() }),
                    ..Default::default()
                }];
                workload
            };
            // In both forms in which an engine gets a bind.
            for create_mountpoint in [true, false] {
                places.iter().for_each(|place| std::fs::create_dir_all(place).expect("made"));
                let made = mounting(bench.lasting("exit 7"), &places[0], create_mountpoint);
                bench.executor.prepare(&made).await.expect("prepared");
                let judged_since = mounting(made.clone(), &places[1], create_mountpoint);
                let words = fatal(bench.executor.start(&judged_since).await);
                assert!(words.contains("points elsewhere since the container was created"), "{words}");
                bench.executor.start(&made).await.expect("started as it was made");
                bench.executor.remove(made.task).await.expect("removed");
            }
        })
        .await;
}

#[tokio::test]
#[ignore = "needs a Docker Engine"]
async fn an_option_that_the_engine_does_not_know_is_refused() {
    let bench = Bench::docker().await;
    bench
        .run(async {
            let mut workload = bench.shell("true");
            container(&mut workload).mounts = vec![Mount {
                r#type: MountType::Volume.into(),
                source: "no-volume-is-made".into(),
                target: "/data".into(),
                volume: Some(VolumeOptions { subpath: "a".into(), ..Default::default() }),
                ..Default::default()
            }];
            // What a newer engine says of it is its own business.
            let version = engine().version().await.expect("a version").api_version.expect("an API version");
            if ["1.40", "1.41", "1.42", "1.43", "1.44"].contains(&version.as_str()) {
                let words = fatal(bench.executor.prepare(&workload).await);
                assert!(words.starts_with("mount option volume-subpath needs engine API 1.45"), "{words}");
            }
        })
        .await;
}

#[tokio::test]
#[ignore = "needs a Docker Engine"]
async fn ports_that_the_engine_picks_are_reported() {
    let bench = Bench::docker().await;
    bench
        .run(async {
            let mut workload = bench.lasting("exit 7");
            let mut port = PortConfig { target_port: 80, ..Default::default() };
            port.set_publish_mode(PublishMode::Host);
            Arc::make_mut(&mut workload.spec).endpoint = Some(EndpointSpec { ports: vec![port] });
            bench.executor.prepare(&workload).await.expect("prepared");
            let started = bench.executor.start(&workload).await.expect("started");
            assert_eq!((started.ports.len(), started.ports[0].target_port), (1, 80));
            assert!(started.ports[0].published_port > 1024, "{:?}", started.ports);
        })
        .await;
}

#[tokio::test]
#[ignore = "needs a Docker Engine"]
async fn a_container_that_somebody_removes_has_ended() {
    let bench = Bench::docker().await;
    bench
        .run(async {
            let workload = bench.lasting("exit 7");
            bench.executor.prepare(&workload).await.expect("prepared");
            bench.executor.start(&workload).await.expect("started");
            let mut wait = bench.executor.wait(&workload);
            assert!(poll!(&mut wait).is_pending());
            let force = RemoveContainerOptionsBuilder::new().force(true).build();
            let (exit, removed) =
                tokio::join!(wait, async { engine().remove_container(&workload.name, Some(force)).await });
            removed.expect("removed");
            let exit = exit.expect("an end");
            // Whichever is seen first: the kill or the removal.
            assert_eq!(exit.container.exit_code, Some(137), "{exit:?}");
            let again = bench.executor.wait(&workload).await.expect("an end");
            assert_eq!(again.reason.as_deref(), Some("the container was removed from outside"));
        })
        .await;
}

#[tokio::test]
#[ignore = "needs a Docker Engine"]
async fn a_stranger_under_the_tasks_name_is_left_alone() {
    let bench = Bench::docker().await;
    bench
        .run(async {
            let workload = bench.lasting("exit 7");
            let body = ContainerCreateBody {
                image: Some("swarmlog/demo:v1".into()),
                cmd: Some(vec!["sleep".into(), "1000".into()]),
                labels: Some(HashMap::from([("com.docker.swarm.task.id".into(), "another".into())])),
                ..Default::default()
            };
            let options = CreateContainerOptionsBuilder::new().name(&workload.name).build();
            let stranger = engine().create_container(Some(options), body).await.expect("a stranger").id;
            engine().start_container(&stranger, None::<StartContainerOptions>).await.expect("started");
            let words = fatal(bench.executor.prepare(&workload).await);
            let stopped = bench.executor.shutdown(&workload).await;
            bench.executor.remove(workload.task).await.expect("nothing to remove");
            let seen = engine().inspect_container(&stranger, None::<InspectContainerOptions>).await;
            let force = RemoveContainerOptionsBuilder::new().force(true).build();
            engine().remove_container(&stranger, Some(force)).await.expect("cleaned up");
            assert!(words.contains("already in use"), "{words}");
            assert_eq!(stopped.expect("nothing to stop"), None);
            assert_eq!(seen.expect("still there").state.and_then(|state| state.running), Some(true));
        })
        .await;
}

/// A way to the engine that can be cut: connections are dropped and new ones refused.
fn way(path: &Path) -> JoinSet<()> {
    let listener = UnixListener::bind(path).expect("a socket");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut near, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut far = UnixStream::connect(ENGINE.trim_start_matches("unix://")).await.expect("the engine");
                // However a connection ends is the two sides' affair.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    tasks
}

#[tokio::test]
#[ignore = "needs a Docker Engine"]
async fn an_engine_that_goes_away_is_waited_for() {
    let bench = Bench::docker().await;
    bench
        .run(async {
            let dir = tempfile::tempdir().expect("a directory");
            let socket = dir.path().join("engine.sock");
            let mut open = way(&socket);
            let executor = proxied(&socket);
            let workload = bench.lasting("exit 7");
            executor.prepare(&workload).await.expect("prepared");
            executor.start(&workload).await.expect("started");
            let mut wait = executor.wait(&workload);
            assert!(poll!(&mut wait).is_pending());
            open.shutdown().await;
            assert!(matches!(executor.start(&workload).await, Err(ExecutorError::Temporary(_))));
            std::fs::remove_file(&socket).expect("removed");
            // It ends while nobody can tell.
            bench.executor.shutdown(&workload).await.expect("stopped");
            assert!(poll!(&mut wait).is_pending());
            let _open = way(&socket);
            assert_eq!(wait.await.expect("an end").container.exit_code, Some(7));
        })
        .await;
}

/// What becomes of the engine's answer to a start.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// The connection breaks instead.
    Lost,
    /// It is another one.
    Error,
}

/// A way to the engine on which starts arrive, and their answers do not.
fn faithless_way(path: &Path, answer: Answer) -> JoinSet<()> {
    let listener = UnixListener::bind(path).expect("a socket");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            connections.spawn(async move {
                let far = UnixStream::connect(ENGINE.trim_start_matches("unix://")).await.expect("the engine");
                // However a connection ends is the two sides' affair.
                let _ = spoil_starts(near, far, answer).await;
            });
        }
    });
    tasks
}

async fn spoil_starts(mut near: UnixStream, mut far: UnixStream, answer: Answer) -> std::io::Result<()> {
    const ERROR: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n\
                         Content-Length: 28\r\nConnection: close\r\n\r\n{\"message\":\"it went wrong\"} ";
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.split(), far.split());
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            bytes = from_near.read(&mut asked) => {
                let bytes = &asked[..bytes?];
                if bytes.is_empty() {
                    return Ok(());
                }
                to_far.write_all(bytes).await?;
                if String::from_utf8_lossy(bytes).lines().next().is_some_and(|line| line.contains("/start")) {
                    // The engine has answered: it is done.
                    assert!(from_far.read(&mut answered).await? > 0);
                    return match answer {
                        Answer::Lost => Ok(()),
                        Answer::Error => to_near.write_all(ERROR.as_bytes()).await,
                    };
                }
            }
            bytes = from_far.read(&mut answered) => {
                let bytes = &answered[..bytes?];
                if bytes.is_empty() {
                    return Ok(());
                }
                to_near.write_all(bytes).await?;
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs a Docker Engine"]
async fn a_start_that_the_engine_denies_is_looked_at() {
    let bench = Bench::docker().await;
    bench
        .run(async {
            for answer in [Answer::Lost, Answer::Error] {
                let dir = tempfile::tempdir().expect("a directory");
                let socket = dir.path().join("engine.sock");
                let _way = faithless_way(&socket, answer);
                let executor = proxied(&socket);
                let workload = bench.lasting("exit 7");
                executor.prepare(&workload).await.expect("prepared");
                let started = executor.start(&workload).await.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
                assert!(started.pid > 0, "it runs: {started:?}");
                let stopped = bench.executor.shutdown(&workload).await.expect("stopped").expect("a status");
                assert_eq!(stopped.exit_code, Some(7));
            }
        })
        .await;
}

/// The registry first asks who is there, then hears it: exactly the service's credentials, of which a wrong alphabet of
/// base64 would make others, or none. It then never answers, and a shutdown gives the pull up.
#[tokio::test]
#[ignore = "needs a Docker Engine"]
async fn a_pull_carries_the_credentials_and_is_given_up_by_a_shutdown() {
    let bench = Bench::docker().await;
    bench
        .run(async {
            let registry = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = registry.local_addr().expect("an address").port();
            let mut workload = bench.shell("true");
            container(&mut workload).image = format!("localhost:{port}/private/web:v1");
            let credentials =
                format!(r#"{{"username":"me","password":"a>>>b???c~~~","serveraddress":"localhost:{port}"}}"#);
            let header = URL_SAFE.encode(&credentials);
            assert_ne!(header, STANDARD.encode(&credentials), "the alphabets must differ for this test to tell");
            workload.registry_auth = Some(RegistryAuth(header));
            let prepare = bench.executor.prepare(&workload);
            let shutdown = async {
                let (authorization, _unanswered) = authorization(&registry).await;
                (authorization, bench.executor.shutdown(&workload).await)
            };
            let (prepared, (authorization, stopped)) = tokio::join!(prepare, shutdown);
            assert_eq!(authorization, format!("Basic {}", STANDARD.encode("me:a>>>b???c~~~")));
            assert!(matches!(prepared, Err(ExecutorError::Temporary(_))), "{prepared:?}");
            assert_eq!(stopped.expect("nothing to stop"), None);
        })
        .await;
}

/// Refuses requests until one says who asks: its Authorization header, and the connection, which is left without an answer.
async fn authorization(registry: &TcpListener) -> (String, TcpStream) {
    loop {
        let (socket, _) = registry.accept().await.expect("a connection");
        let mut lines = BufReader::new(socket).lines();
        // A client that speaks TLS first sends no lines of text, and its connection is just closed.
        while let Ok(Some(line)) = lines.next_line().await {
            if line.to_lowercase().starts_with("authorization: ") {
                return (line["authorization: ".len()..].to_owned(), lines.into_inner().into_inner());
            }
            if line.is_empty() {
                let answer = concat!(
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"r\"\r\n",
                    "Content-Length: 0\r\nConnection: close\r\n\r\n"
                );
                lines.get_mut().write_all(answer.as_bytes()).await.expect("an answer");
                break;
            }
        }
    }
}
