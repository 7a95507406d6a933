//! How a node leaves the cluster by itself: a worker is removed, a manager is demoted first.

use events::{Kind, NodeId, NodeSpec, NodeSpecUpdated, Role};
use projections::Cluster;
use projections::views::quorum;

use crate::node::{is_only_manager, member, removal, subject};
use crate::verb::{AllowedActor, Verb};
use crate::{Ctx, Decision, Rejection};

/// Removes the requesting node from the cluster. A manager becomes a worker first, and repeats the request as one.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LeaveNode {
    /// The node.
    pub node: NodeId,
}

impl Verb for LeaveNode {
    fn name(&self) -> &'static str {
        "node.leave"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Node(self.node)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let id = self.node;
        let node = member(state, id)?;
        if is_only_manager(state, node) {
            let sentence =
                format!("{} cannot leave: it is the only manager, and the cluster would end", node.hostname());
            let hint = "promote another node first; or leave with --force, after `swarmctl cluster backup` if the cluster is needed \
                        again";
            return Err(Rejection::conflict(subject(id), sentence, hint));
        }
        if node.spec.role() == Role::Manager {
            require_quorum(state, node, ctx)?;
            let spec = NodeSpec { role: Role::Worker.into(), ..(*node.spec).clone() };
            return Ok(Decision::one(id, Kind::NodeSpecUpdated(NodeSpecUpdated { node: id, spec })));
        }
        // It waits until the others have recorded that it is no longer a manager.
        if state.members.contains(id) { Ok(Decision::nothing(id)) } else { removal(state, id, false) }
    }
}

/// Refuses to let a manager leave if the other reachable ones would not be a majority.
fn require_quorum(state: &Cluster, node: &projections::Node, ctx: &Ctx) -> Result<(), Rejection> {
    let Some(member) = state.members.get(node.id) else { return Ok(()) };
    let Some(loss) = quorum::loss(state, member, |voter| ctx.reached.contains(&voter.raft_id)) else { return Ok(()) };
    let sentence = format!("{} cannot leave: {loss}", node.hostname());
    let hint = "start the managers that are down, or add one first; with --force it leaves all the same, and the cluster can change \
                nothing until enough managers are back";
    Err(Rejection::conflict(subject(node.id), sentence, hint))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use events::{MemberAdded, MemberDemoted, MemberRemoved};

    use super::*;
    use crate::testing::{Fixture, manager, node, operator, registered, worker};
    use crate::{Command, RejectionKind};

    fn leave(id: NodeId) -> Command {
        Command::LeaveNode(LeaveNode { node: id })
    }

    fn names(decision: &Decision) -> Vec<&'static str> {
        decision.events.iter().map(Kind::name).collect()
    }

    #[test]
    fn a_worker_goes_for_itself_alone_and_once() {
        let mut fixture = Fixture::with_worker();
        fixture.given([registered(worker(), 1)]);
        assert_eq!(fixture.refuse(&node(worker()), leave(manager())).kind, RejectionKind::Forbidden);
        assert_eq!(fixture.refuse(&operator(), leave(worker())).kind, RejectionKind::Forbidden);
        assert_eq!(names(&fixture.accept(&node(worker()), leave(worker()))), ["node_removed"]);
        assert!(fixture.refuse(&node(worker()), leave(worker())).sentence.contains("was removed"));
    }

    #[test]
    fn a_manager_is_demoted_first_if_the_others_can_then_decide() {
        let mut fixture = Fixture::with_worker();
        let only = fixture.refuse(&node(manager()), leave(manager()));
        assert!(only.sentence.contains("it is the only manager") && only.hint.contains("--force"), "{only}");
        let (id, raft_id, addr, role) = (worker(), 2, String::new(), Role::Manager.into());
        let spec = NodeSpec { role, ..NodeSpec::default() };
        fixture.given([
            Kind::NodeSpecUpdated(NodeSpecUpdated { node: id, spec }),
            Kind::MemberAdded(MemberAdded {
                node: id,
                raft_id,
                addr,
                voter: true,
                feature_level_max: 1,
                audit_key: None,
            }),
        ]);
        let lost = fixture.refuse(&node(manager()), leave(manager()));
        assert_eq!(
            lost.sentence,
            "manager-1 cannot leave: that would leave 0 of 1 managers reachable, and 1 are needed"
        );
        fixture.reached = Arc::new([1, 2].into());
        assert_eq!(names(&fixture.accept(&node(manager()), leave(manager()))), ["node_spec_updated"]);
        assert_eq!(names(&fixture.accept(&node(manager()), leave(manager()))), [""; 0], "it votes still");
        fixture.given([
            Kind::MemberDemoted(MemberDemoted { node: manager(), raft_id: 1 }),
            Kind::MemberRemoved(MemberRemoved { node: manager(), raft_id: 1 }),
        ]);
        assert_eq!(names(&fixture.accept(&node(manager()), leave(manager()))), ["node_removed"]);
    }
}
