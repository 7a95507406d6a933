//! What operators want of nodes, and what nodes say of themselves.

use events::{Availability, NodeDescription, NodeSpec, Role};
use prost::Message;

use super::{Fault, Verdict, known, name, resources};

/// Largest description of a node in bytes; every manager keeps one for each node.
const DESCRIPTION_BYTES_MAX: usize = 64 * 1024;
/// Largest spec of a node in bytes: its labels.
const SPEC_BYTES_MAX: usize = 64 * 1024;

/// Judges what an operator wants of a node.
pub(crate) fn node_spec(spec: &NodeSpec) -> Verdict {
    known::<Role>(spec.role, "role")?;
    known::<Availability>(spec.availability, "availability")?;
    within(spec.encoded_len(), SPEC_BYTES_MAX, "spec", "give the node fewer or shorter labels")?;
    spec.annotations.as_ref().map_or(Ok(()), |of| name::node(&of.name).and_then(|()| name::labels(&of.labels)))
}

/// Judges what a node says of itself, so that no node can harm the managers with it.
pub(crate) fn node_description(description: &NodeDescription) -> Verdict {
    name::hostname(&description.hostname)?;
    let hint = "give the node's engine fewer labels, plugins or generic resources";
    within(description.encoded_len(), DESCRIPTION_BYTES_MAX, "description", hint)?;
    description.resources.as_ref().map_or(Ok(()), resources::offered)
}

fn within(bytes: usize, bytes_max: usize, what: &str, hint: &str) -> Verdict {
    if bytes > bytes_max {
        let sentence = format!("the node's {what} has {bytes} bytes, and may have {bytes_max}");
        return Err(Fault::new(crate::RejectionKind::Exhausted, sentence, hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::{Annotations, Resources};

    #[test]
    fn specs_of_nodes_are_judged() {
        let annotated = |name: &str, key: &str| {
            let annotations = Annotations { name: name.into(), labels: [(key.into(), String::new())].into() };
            node_spec(&NodeSpec { annotations: Some(annotations), ..Default::default() })
        };
        assert_eq!(annotated("db-1", "zone"), Ok(()));
        assert!(annotated("a b", "zone").is_err());
        assert!(annotated("", "").is_err());
        assert!(annotated("", &"k".repeat(SPEC_BYTES_MAX)).is_err());
        assert!(node_spec(&NodeSpec { role: 5, ..Default::default() }).is_err());
        assert!(node_spec(&NodeSpec { availability: 5, ..Default::default() }).is_err());
    }

    #[test]
    fn descriptions_are_judged() {
        let good = NodeDescription { hostname: "h".into(), ..Default::default() };
        assert_eq!(node_description(&good), Ok(()));
        assert!(node_description(&NodeDescription::default()).is_err());
        let version = "v".repeat(DESCRIPTION_BYTES_MAX);
        assert!(node_description(&NodeDescription { version, ..good.clone() }).is_err());
        let resources = Some(Resources { memory_bytes: u64::MAX, ..Default::default() });
        assert!(node_description(&NodeDescription { resources, ..good }).is_err());
    }
}
