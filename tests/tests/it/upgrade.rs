//! Managers of two builds in one cluster: they are upgraded one by one, without interruption.

use std::process::Command;

use events::frame::FEATURE_LEVEL;

use super::cluster::{Cluster, MANAGER};
use super::process::{program, run};
use super::quorum::{create_at_any, managers_of, services_at};

/// The program of the previous feature level.
const OLDER: &str = "swarmd-older";

/// Two changes that are made atomically.
const TOGETHER: &str = "cluster update --taskhistory 3 --rotate-join-token worker";

/// How often the feature level was raised, according to a manager's history.
fn raised(cluster: &Cluster, at: &str) -> usize {
    let result = cluster.swarmctl_at(at, "events --kind feature_level_raised --format json");
    assert_eq!(result.code, 0, "{result:?}");
    result.out.lines().filter(|line| line.contains(&format!("\"level\":{FEATURE_LEVEL}"))).count()
}

#[test]
fn managers_are_upgraded_one_by_one_and_the_last_raises_the_feature_level() {
    let mut cluster = managers_of(OLDER, &["m2", "m3"]);
    let all = ["m2", "m3", MANAGER];
    create_at_any(&cluster, &all, "before");
    cluster.change_program("swarmd");
    let mut expected = vec!["before".to_owned()];
    for (number, name) in all.into_iter().enumerate() {
        assert_eq!(raised(&cluster, name), 0, "{name} does not know it yet");
        assert_eq!(cluster.end(name), Some(0));
        let others: Vec<&str> = all.into_iter().filter(|other| *other != name).collect();
        let meanwhile = format!("during-{number}");
        create_at_any(&cluster, &others, &meanwhile);
        expected.push(meanwhile);
        cluster.resume(name);
        cluster.until(&format!("{name} to have everything"), || services_at(&cluster, name) == expected);
        if number == 0 {
            // The leader may be of the older build, and would rotate the token without the update.
            cluster.swarmctl_at(name, TOGETHER).refused(4, "not every manager");
        }
    }
    cluster.until("all to use what all know", || all.iter().all(|name| raised(&cluster, name) == 1));
    let result = cluster.swarmctl_at(MANAGER, TOGETHER);
    assert_eq!(result.code, 0, "{result:?}");

    // There is no way back.
    assert_eq!(cluster.end("m3"), Some(0));
    let refused = run(Command::new(program(OLDER)).args(cluster.flags("m3")));
    refused.refused(1, &format!("the log uses feature level {FEATURE_LEVEL}"));
    cluster.resume("m3");
    cluster.until("m3 to be back", || services_at(&cluster, "m3") == expected);
}
