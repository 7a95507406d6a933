//! Nodes: as rows of a table, and one by one.

use events::Named;
use wire::v1::{ManagerStatus, MemberState, NodeSummary, NodeView, Reachability};

use super::block::Block;
use super::table::Table;
use super::template::{generic, pairs};
use super::view::View;
use super::{age, raft, state};
use crate::values::{cpus, size};

/// The table of `node ls`.
pub fn table(nodes: &[NodeSummary], view: View) -> String {
    rows(nodes, view).render(view.width)
}

/// The same, not yet fitted to a terminal.
pub fn rows(nodes: &[NodeSummary], view: View) -> Table {
    let mut table = Table::new(&["ID", "NAME", "MEMBERSHIP", "STATUS", "AVAILABILITY", "MANAGER STATUS"]);
    for node in nodes {
        table.row([
            node.id.to_string(),
            format!("{}{}", node.name, if answers(node.manager.as_ref()) { " *" } else { "" }),
            membership(node).to_owned(),
            status(node, view),
            state(node.availability()),
            manager_status(node.leader, node.manager.as_ref()).to_owned(),
        ]);
    }
    table
}

/// A node that joined is a member once it has a certificate; nodes that left are not listed.
fn membership(node: &NodeSummary) -> &'static str {
    if node.certificate_not_after.is_some() { "ACCEPTED" } else { "PENDING" }
}

/// The status of a node. A flapping node has a session, but counts as down for a while anyway.
fn status(node: &NodeSummary, view: View) -> String {
    match node.held_until {
        Some(until) => format!("{} (flapping, {})", state(node.state()), age::until(until.since(view.now))),
        None => state(node.state()),
    }
}

/// The name of a node: as set by its operator, or else its host name.
pub fn name(node: &NodeView) -> &str {
    let given = node.spec.annotations.as_ref().map_or("", |annotations| annotations.name.as_str());
    let own = node.description.as_ref().map_or("", |description| description.hostname.as_str());
    if given.is_empty() { own } else { given }
}

/// Whether this is the manager that answers.
fn answers(manager: Option<&ManagerStatus>) -> bool {
    manager.is_some_and(|manager| manager.answers)
}

fn manager_status(leader: bool, manager: Option<&ManagerStatus>) -> &'static str {
    match manager.map(|manager| (manager.state(), manager.reachability())) {
        None => "",
        Some((MemberState::Joining, _)) => raft::state(MemberState::Joining),
        Some((MemberState::Learner, Reachability::Reachable)) => raft::state(MemberState::Learner),
        Some((MemberState::Learner | MemberState::Voter, reachability)) => raft::status(leader, reachability),
    }
}

/// One node, with its labels, status and resources.
pub fn block(node: &NodeView, view: View) -> String {
    let mut block = Block::default();
    block.field("ID", node.id).optional("Name", name(node));
    block.each("Label", node.spec.annotations.iter().flat_map(|annotations| pairs(&annotations.labels)));
    block
        .field("Role", node.role().name())
        .optional("Manager status", manager_status(node.leader, node.manager.as_ref()));
    if let Some(manager) = &node.manager {
        block.optional("Manager address", &manager.addr);
        block.prose("Stays a manager", manager.obstacle.as_deref().unwrap_or_default());
    }
    block.section("Status", |block| {
        block.field("State", state(node.state())).prose("Message", &node.message);
        block.field("Availability", state(node.spec.availability())).optional("Address", &node.addr);
    });
    block.field("Version", node.meta.version).field("Joined", age::ago(node.meta.created_at, view.now));
    block.optional("Certificate valid until", node.certificate_not_after.map_or_else(String::new, |at| at.to_string()));
    block.field("Tasks", node.tasks);
    description(&mut block, node);
    block.render(view.width)
}

fn description(block: &mut Block, node: &NodeView) {
    let Some(description) = &node.description else { return };
    block.optional("Hostname", &description.hostname);
    if let Some(platform) = &description.platform {
        block.field("Platform", format!("{}/{}", platform.os, platform.architecture));
    }
    block.optional("swarmd", &description.version).optional("Executor", &description.executor);
    if let Some(engine) = &description.engine {
        block.section("Engine", |block| {
            block
                .optional("Version", &engine.version)
                .optional("API", &engine.api_version)
                .each("Label", pairs(&engine.labels));
        });
    }
    let Some(offered) = &description.resources else { return };
    let reserved = &node.reserved;
    block.section("Resources (reserved of offered)", |block| {
        block.field("CPU", format!("{} of {}", cpus::show(reserved.nano_cpus), cpus::show(offered.nano_cpus)));
        block.field("Memory", format!("{} of {}", size::show(reserved.memory_bytes), size::show(offered.memory_bytes)));
        block.each("Generic", offered.generic.iter().map(generic));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::samples;

    #[test]
    fn rows_say_who_decides() {
        let expected = "\
ID                          NAME        MEMBERSHIP   STATUS    AVAILABILITY   MANAGER STATUS
0000000000000000000000001   manager *   ACCEPTED     READY     ACTIVE         LEADER
0000000000000000000000002   worker-1    PENDING      DOWN      DRAIN          \n";
        assert_eq!(table(&samples::node_summaries(), samples::VIEW), expected);
    }

    #[test]
    fn a_node_that_flaps_says_for_how_long_it_counts_as_down() {
        let mut nodes = samples::node_summaries();
        nodes[1].held_until = Some(samples::VIEW.now + std::time::Duration::from_secs(65));
        let shown = table(&nodes, samples::VIEW);
        assert!(shown.contains("  DOWN (flapping, 1m5s)   DRAIN  "), "{shown}");
    }

    #[test]
    fn one_node_is_told_in_full() {
        let expected = "\
ID             : 0000000000000000000000002
Name           : worker-1
Label          : zone=east
Role           : worker
Status
  State        : DOWN
  Message      : no heartbeat for 15s
  Availability : DRAIN
  Address      : 10.0.0.2
Version        : 3
Joined         : 3 minutes ago
Tasks          : 2
Hostname       : worker-1
Platform       : linux/x86_64
Executor       : docker
Resources (reserved of offered)
  CPU          : 0.5 of 2
  Memory       : 512MiB of 4GiB
  Generic      : gpu=a, gpu=b
";
        assert_eq!(block(&samples::nodes()[1], samples::VIEW), expected);
    }
}
