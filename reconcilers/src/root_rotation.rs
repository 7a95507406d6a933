//! Completes a root rotation: once every node has moved to the new root, the old one is no longer trusted.

use events::{Kind, RootRotationCompleted};
use projections::Cluster;

use crate::{Correction, Ctx, Scope};

pub(crate) fn reconcile(cluster: &Cluster, _scope: &Scope, _ctx: &mut Ctx<'_>, out: &mut Correction) {
    if let Some(completed) = completed(cluster).filter(|_| !out.is_full()) {
        out.push(completed);
    }
}

/// The completion of the current rotation, if it is due.
fn completed(cluster: &Cluster) -> Option<Kind> {
    let rotation = cluster.settings.rotation.as_ref()?;
    if rotation.moved < cluster.nodes.len() as u64 {
        return None;
    }
    let (digest, destroyed_secrets) = (rotation.digest.clone(), cluster.settings.root_secrets());
    Some(Kind::RootRotationCompleted(RootRotationCompleted { digest, destroyed_secrets }))
}

#[cfg(test)]
mod tests {
    use events::{Id, NodeId, NodeMovedToRoot, NodeRemoved, NodeSpec, RootRotationStarted};
    use projections::check;

    use super::*;
    use crate::samples::Sample;

    fn started() -> Kind {
        let (cert_pem, digest) = ("new".to_owned(), "next".to_owned());
        Kind::RootRotationStarted(RootRotationStarted { cert_pem, digest, ..RootRotationStarted::default() })
    }

    fn moved(node: u128) -> Kind {
        Kind::NodeMovedToRoot(NodeMovedToRoot { node: NodeId::from_bits(node), digest: "next".to_owned() })
    }

    fn removed(node: u128) -> Kind {
        Kind::NodeRemoved(NodeRemoved { node: NodeId::from_bits(node), forced: true, forgotten: false })
    }

    #[test]
    fn a_rotation_ends_when_every_node_that_is_left_has_moved() {
        // The events, and whether they complete the rotation.
        let table: [(&[Kind], bool); 7] = [
            (&[], false),
            (&[started()], false),
            (&[started(), moved(1)], false),
            (&[started(), moved(1), moved(2)], true),
            (&[started(), moved(1), removed(2)], true),
            (&[started(), moved(1), removed(1)], false),
            (&[started(), removed(1), moved(2)], true),
        ];
        for (events, expected) in table {
            let mut sample = Sample::default().with_node(1, NodeSpec::default()).with_node(2, NodeSpec::default());
            for (at, event) in (1..).zip(events) {
                sample.apply(at, event.clone());
            }
            assert_eq!(check::check(&sample.cluster), [""; 0], "{events:?}");
            assert_eq!(completed(&sample.cluster).is_some(), expected, "{events:?}");
            if let Some(completed) = completed(&sample.cluster) {
                sample.apply(20, completed);
                let settings = &sample.cluster.settings;
                assert_eq!((settings.root_cert_pem.as_str(), settings.root_digest.as_str()), ("new", "next"));
                assert_eq!(settings.root_key(), "root-ca/key/1");
                assert!(settings.rotation.is_none() && settings.trusted_pem() == "new");
            }
        }
    }
}
