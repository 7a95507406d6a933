//! A manager that needs more history than fits in one message, and is killed while catching up.

use std::path::Path;

use events::{Annotations, CommandId, ConfigSpec, Id};
use wire::v1::command_request::Command;
use wire::v1::{CommandRequest, CreateConfig, RemoveConfig};

use super::cluster::{Cluster, MANAGER};
use super::quorum::await_votes;
use super::units::Executor;

/// Number of configs that are created and removed again, each of nearly the maximum size: together more than 64 MiB of history.
const CONFIGS: u64 = 72;
const CONFIG_BYTES: usize = 950_000;
/// Size of the disk data at which a manager is killed half way.
const HALF_WAY_BYTES: u64 = 24 * 1024 * 1024;

fn commands(number: u64) -> [CommandRequest; 2] {
    let name = format!("c{number}");
    let spec = ConfigSpec {
        annotations: Some(Annotations { name: name.clone(), ..Annotations::default() }),
        ..Default::default()
    };
    // No two pages of it are the same.
    let data =
        (0..CONFIG_BYTES as u64 / 8).flat_map(|word| (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number).to_ne_bytes());
    let create = Command::CreateConfig(CreateConfig { spec, data: data.collect() });
    let remove = Command::RemoveConfig(RemoveConfig { config: name });
    let request = |id, command| CommandRequest { id, command: Some(command), ..CommandRequest::default() };
    [
        request(CommandId::from_bits(u128::from(number) * 2 + 1), create),
        request(CommandId::from_bits(u128::from(number) * 2 + 2), remove),
    ]
}

/// Bytes of the files below a directory.
fn size(dir: &Path) -> u64 {
    // Files come and go while a manager is running.
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let sizes = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let found = entry.metadata().ok()?;
        Some(if found.is_dir() { size(&entry.path()) } else { found.len() })
    });
    sizes.sum()
}

#[test]
fn a_manager_catches_up_over_64_mib_though_it_is_killed_half_way() {
    let mut cluster = Cluster::start(Executor::Process, &[]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut client = wire::connect(&cluster.socket(MANAGER)).await.expect("a connection");
        for number in 0..CONFIGS {
            for request in commands(number) {
                client.execute(request).await.expect("taken");
            }
        }
    });
    let (address, token) = (cluster.address().to_owned(), cluster.token("manager"));
    cluster.add("m2", &["--join-addr", &address, "--join-token", &token]);
    let log = cluster.state_dir("m2").join("raft");
    cluster.until("it to be half way", || size(&log) > HALF_WAY_BYTES);
    cluster.kill("m2");
    assert!(!cluster.log("m2").contains("this manager has the history that it lacked"), "it was killed too late");
    cluster.resume("m2");
    await_votes(&cluster, "m2", 1);
    let history =
        |name: &str| cluster.swarmctl_at(name, "events --kind config_removed --format json").out.lines().count() as u64;
    assert_eq!([MANAGER, "m2"].map(history), [CONFIGS, CONFIGS]);
}
