//! The cluster: its settings and the tokens that let nodes in.

use wire::v1::ClusterView;

use super::block::Block;
use super::table::Table;
use super::view::View;
use super::{age, template};
use crate::values::duration;

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
    block.each("Address", cluster.manager_addrs.iter().cloned());
    let spec = &cluster.spec;
    block.section("Orchestration", |block| {
        let limit = spec.history_limit();
        block.field("Task history", if limit < 0 { "unlimited".to_owned() } else { limit.to_string() });
        block.optional("Log driver", spec.log_driver.as_ref().map_or_else(String::new, template::driver));
    });
    block.section("Dispatcher", |block| {
        block.field("Heartbeat period", duration::show(spec.heartbeat_period()));
        block.field("Node down after", duration::show(spec.heartbeat_timeout()));
        block.field("Maximum nodes", spec.node_limit());
    });
    block.section("Certificates", |block| {
        block.field("Validity", duration::show(spec.cert_expiry())).field("Root digest", &cluster.root_ca_digest);
    });
    block.section("Join tokens", |block| {
        block.field("Worker", &cluster.join_tokens.worker).field("Manager", &cluster.join_tokens.manager);
    });
    block.render(view.width)
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
Address            : 10.0.0.1:4242
Orchestration
  Task history     : 5
Dispatcher
  Heartbeat period : 5s
  Node down after  : 15s
  Maximum nodes    : 100000
Certificates
  Validity         : 2160h0m0s
  Root digest      : abc
Join tokens
  Worker           : SWMTKN-1-abc-worker
  Manager          : SWMTKN-1-abc-manager
";
        assert_eq!(block(&samples::cluster(), samples::VIEW), expected);
    }
}
