//! Shared by the tests of whole turns.

use events::{
    Id, Kind, NodeDescribed, NodeDescription, NodeId, NodeJoined, NodeRegistered, NodeSpec, Resources, SessionId,
};

/// A node that joined, registered, and offers four cores and a gigabyte.
pub fn node(number: u128) -> [Kind; 3] {
    let node = NodeId::from_bits(number);
    let resources = Some(Resources { nano_cpus: 4_000_000_000, memory_bytes: 1 << 30, generic: Vec::new() });
    let description = NodeDescription { resources, ..NodeDescription::default() };
    let (hostname, addr) = (format!("node-{number}"), "10.0.0.1:1".to_owned());
    [
        Kind::NodeJoined(NodeJoined { node, spec: NodeSpec::default(), hostname, addr: addr.clone() }),
        Kind::NodeRegistered(NodeRegistered { node, session: SessionId::from_bits(number), addr }),
        Kind::NodeDescribed(Box::new(NodeDescribed { node, description })),
    ]
}
