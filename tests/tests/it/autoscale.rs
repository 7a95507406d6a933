//! Services with autoscaling by resource usage.

use super::cluster::Cluster;
use super::units::{Executor, IMAGE};

/// Uses as much of a processor as possible until it is stopped, and thus more than it reserves.
const BURN: &str = "trap 'exit 0' TERM; while :; do :; done";

pub fn tasks_that_use_more_than_they_should_get_others_beside_them(executor: Executor) {
    let cluster = Cluster::start(executor, &["w"]);
    let mut words = vec!["service", "create", "--name", "busy", "--image", IMAGE, "--reserve-cpu", "0.01"];
    words.extend(["--autoscale", "min=1,max=3,cpu=50%,window=10s,cool-down=0s"]);
    words.extend(["--command", "sh", "--args", "-c", "--args", BURN]);
    let created = cluster.swarmctl_words(&words);
    assert_eq!(created.code, 0, "{created:?}");
    cluster.settled("busy", 3);
    let events = cluster.ok("events --kind service_scaled");
    assert!(events.contains("from 1 to 3 replicas: CPU at ") && events.contains("target 50%"), "{events}");
    assert!(cluster.ok("service ls").contains("3/3 (1-3)"), "{}", cluster.ok("service ls"));

    // Manual scaling is refused, and an idle service is scaled in.
    let refused = cluster.swarmctl("service scale busy=2");
    assert!(refused.code != 0 && refused.err.contains("is autoscaled between 1 and 3 replicas"), "{refused:?}");
    let updated = cluster.swarmctl_words(&["service", "update", "busy", "--args", "-c", "--args", "sleep 1000"]);
    assert_eq!(updated.code, 0, "{updated:?}");
    cluster.until("one replica", || {
        let services = cluster.list("service ls");
        services.iter().any(|service| service["desired_tasks"] == 1)
    });
}
