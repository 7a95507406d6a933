//! What the verbs that change a node have in common: read it, edit its spec, ask for the edited one.

use events::{Availability, NodeSpec};
use wire::v1::UpdateNode;
use wire::v1::command_request::Command;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Edits the spec of one node. The version that was read goes along, so that nobody's change in between is lost.
pub(super) async fn change<M: Manager>(
    session: &mut Session<'_, M>,
    reference: &str,
    edit: impl FnOnce(&mut NodeSpec),
) -> Result<u64, Failure> {
    let node = session.node(reference).await?;
    let mut spec = node.spec.clone();
    edit(&mut spec);
    let update = UpdateNode { node: node.id.to_string(), spec, version: Some(node.meta.version) };
    session.execute_and_tell(Command::UpdateNode(update), reference).await.map(|reply| reply.index)
}

/// Sets the availability of several nodes; the index from which on history says what came of it.
pub(super) async fn set_availability<M: Manager>(
    session: &mut Session<'_, M>,
    nodes: &[String],
    availability: Availability,
) -> Result<u64, Failure> {
    session.require_nodes(nodes).await?;
    let mut index = 0;
    for node in nodes {
        index = change(session, node, |spec| spec.set_availability(availability)).await?;
    }
    Ok(index)
}
