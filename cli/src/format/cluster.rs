//! The cluster: its settings and join tokens.

use std::time::Duration;

use events::Named;
use wire::v1::{ClusterView, HistoryUse, RootRotationView};

use super::block::Block;
use super::table::Table;
use super::view::View;
use super::{age, raft, template};
use crate::values::{duration, keep, size};

/// The table of `cluster ls`.
pub fn table(clusters: &[ClusterView], view: View) -> String {
    let mut table = Table::new(&["ID", "NAME", "CREATED", "MANAGER ADDRESS"]);
    for cluster in clusters {
        let created = age::ago(cluster.meta.created_at, view.now);
        table.row([cluster.id.to_string(), cluster.name.clone(), created, cluster.manager_addrs.join(", ")]);
    }
    table.render(view.width)
}

/// The cluster in full.
pub fn block(cluster: &ClusterView, view: View) -> String {
    let mut block = Block::default();
    block.field("ID", cluster.id).field("Name", &cluster.name).field("Version", cluster.meta.version);
    block.field("Created", age::ago(cluster.meta.created_at, view.now)).field("Log index", cluster.index);
    if let Some(head) = &cluster.head {
        block.field("Log head", format!("frame {} {}", head.index, head.frame_hash));
    }
    block.field("Feature level", cluster.feature_level);
    block.each("Address", cluster.manager_addrs.iter().cloned());
    if let Some(view) = &cluster.raft {
        block.section("Raft", |block| raft::fields(block, view));
    }
    let spec = &cluster.spec;
    block.section("Orchestration", |block| {
        let limit = spec.history_limit();
        block.field("Task history", if limit < 0 { "unlimited".to_owned() } else { limit.to_string() });
        block.field("Placement", spec.placement_strategy().name());
        block.optional("Log driver", spec.log_driver.as_ref().map_or_else(String::new, template::driver));
    });
    block.section("Dispatcher", |block| {
        let (period, longest) = (Duration::from_nanos(cluster.heartbeat_period_ns), spec.heartbeat_period());
        let longest = if period < longest { format!(", up to {}", duration::show(longest)) } else { String::new() };
        block.field("Heartbeat period", duration::show(period) + &longest);
        block.field("Node down after", duration::show(Duration::from_nanos(cluster.node_down_after_ns)));
        block.field("Maximum nodes", spec.node_limit());
    });
    block.section("Certificates", |block| {
        block.field("Validity", duration::show(spec.cert_expiry())).field("Root digest", &cluster.root_ca_digest);
        block.each("External authority", spec.external_cas.iter().map(|ca| ca.url.clone()));
        block.optional("Rotation", cluster.root_rotation.as_ref().map_or_else(String::new, rotation));
    });
    if let Some(keep_ns) = spec.history_keep_ns {
        block.field("History", format!("older than {} is archived", keep::show(Duration::from_nanos(keep_ns))));
    }
    if let Some(history) = &cluster.history_use {
        block.section("Disk of this manager", |block| disk(block, history, spec.history_keep_ns.is_some()));
    }
    if spec.autolock() {
        block.field("Autolock", "managers need the unlock key after a restart");
    }
    block.optional("Reason required", spec.require_reason.join(", "));
    block.section("Join tokens", |block| {
        let shown =
            |token: &str| if token.is_empty() { "hidden from this caller".to_owned() } else { token.to_owned() };
        block.field("Worker", shown(&cluster.join_tokens.worker)).field("Manager", shown(&cluster.join_tokens.manager));
    });
    block.render(view.width)
}

/// The disk usage of history, and where archived history is.
fn disk(block: &mut Block, history: &HistoryUse, moves_old: bool) {
    block.field("History", size::show(history.history_bytes));
    block.field("Checkpoints", size::show(history.checkpoint_bytes));
    block.field("Index", size::show(history.index_bytes)).field("Tree", size::show(history.tree_bytes));
    let dir = history.archive_dir.as_deref();
    let archives = match (history.archived_to, dir) {
        (Some(to), dir) => {
            let (dir, bytes) =
                (dir.map_or_else(String::new, |dir| format!(", in {dir}")), size::show(history.archive_bytes));
            let absent = if history.absent == 0 { String::new() } else { format!("; not there: {}", history.absent) };
            format!("{} with {bytes}, up to index {to}{dir}{absent}", history.archives)
        }
        (None, Some(dir)) => format!("none yet in {dir}"),
        (None, None) if moves_old => "no directory for them: start swarmd with --history-archive DIR".to_owned(),
        (None, None) => String::new(),
    };
    block.optional("Archives", archives);
}

/// The progress of a root rotation.
pub fn rotation(rotation: &RootRotationView) -> String {
    let RootRotationView { digest, nodes, moved, waits_for, .. } = rotation;
    let more = nodes.saturating_sub(moved + waits_for.len() as u64);
    let waiting = match (waits_for.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!("; waiting for {}", waits_for.join(", ")),
        (false, more) => format!("; waiting for {} and {more} more", waits_for.join(", ")),
    };
    format!("{moved} of {nodes} nodes have moved to {digest}{waiting}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::samples;

    #[test]
    fn the_cluster_is_told_in_full() {
        let expected = "\
ID                 : 0000000000000000000000007
Name               : default
Version            : 2
Created            : 3 minutes ago
Log index          : 42
Log head           : frame 42 c0ffee
Feature level      : 4
Address            : 10.0.0.1:4242
Raft
  Leader           : m1
  Term             : 3
  Committed        : 42
  Applied          : 42
  Voting managers  : 2, of which 2 must be reachable
  Warning          : 2 managers are too few
Orchestration
  Task history     : 5
  Placement        : spread
Dispatcher
  Heartbeat period : 1s, up to 5s
  Node down after  : 3s
  Maximum nodes    : 100000
Certificates
  Validity         : 2160h0m0s
  Root digest      : abc
  Rotation         : 3 of 9 nodes have moved to def; waiting for worker-1, worker-2 and 4 more
Disk of this manager
  History          : 3MiB
  Checkpoints      : 1MiB
  Index            : 512KiB
  Tree             : 64KiB
  Archives         : 2 with 700KiB, up to index 8191, in /srv/archive; not there: 1
Join tokens
  Worker           : SWMTKN-1-abc-worker
  Manager          : SWMTKN-1-abc-manager
";
        assert_eq!(block(&samples::cluster(), samples::VIEW), expected);
    }
}
