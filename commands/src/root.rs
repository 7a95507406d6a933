//! Commands about the replacement of the cluster's root certificate.

use events::{Kind, NodeId, NodeMovedToRoot, OperatorRole, RootRotationStarted, VolatilePayload};
use projections::Cluster;

use crate::node::member;
use crate::verb::{AllowedActor, Verb};
use crate::{Ctx, Decision, Rejection, SecretText};

const SUBJECT: &str = "root certificate";

/// Starts to replace the root certificate. The shell generates keys and tokens, because the core has no randomness.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RotateRoot {
    /// The new root certificate.
    pub cert_pem: String,
    /// Its digest as in join tokens.
    pub digest: String,
    /// The new root signed by the old one.
    pub cross_cert_pem: String,
    /// Its key; empty if it is outside the cluster.
    pub key_pem: SecretText,
    /// Token for workers once every node has moved, and SHA-256 of its secret part.
    pub worker_token: (SecretText, [u8; 32]),
    /// Token for managers once every node has moved, and SHA-256 of its secret part.
    pub manager_token: (SecretText, [u8; 32]),
}

/// Records that a node has moved to the new root of a rotation.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MoveNodeToRoot {
    /// The node.
    pub node: NodeId,
    /// Digest of the root.
    pub digest: String,
}

impl Verb for RotateRoot {
    fn name(&self) -> &'static str {
        "cluster.rotate-root"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        if let Some(rotation) = &state.settings.rotation {
            let (moved, nodes) = (rotation.moved, state.nodes.len());
            let sentence = format!("a rotation is under way: {moved} of {nodes} nodes have moved to the new root");
            let hint = "wait until it is completed; `swarmctl cluster ca` shows which nodes it waits for, and `swarmctl node \
                        rm --force` removes one that does not come back";
            return Err(Rejection::conflict(SUBJECT, sentence, hint));
        }
        if self.cross_cert_pem.is_empty() {
            let sentence = "the new root is not signed by the present one, whose key is outside the cluster";
            return Err(Rejection::conflict(SUBJECT, sentence, "rotate it with `swarmctl cluster ca --rotate`"));
        }
        let key_outside = self.key_pem.0.is_empty();
        let (worker, worker_sha256) = &self.worker_token;
        let (manager, manager_sha256) = &self.manager_token;
        let started = RootRotationStarted {
            cert_pem: self.cert_pem.clone(),
            digest: self.digest.clone(),
            cross_cert_pem: self.cross_cert_pem.clone(),
            worker_token_sha256: worker_sha256.to_vec(),
            manager_token_sha256: manager_sha256.to_vec(),
            key_outside: key_outside.then_some(true),
        };
        let names = state.settings.next_root_secrets(key_outside);
        let keep = |(name, secret): (String, &SecretText)| VolatilePayload::keep(name, secret.0.as_str());
        Ok(Decision {
            events: vec![Kind::RootRotationStarted(started)],
            volatile: names.into_iter().zip([worker, manager, &self.key_pem]).map(keep).collect(),
            subject: Some(self.digest.clone()),
        })
    }
}

impl Verb for MoveNodeToRoot {
    fn name(&self) -> &'static str {
        "node.move-to-root"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Node(self.node)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let node = member(state, self.node)?;
        let rotation = state.settings.rotation.as_ref().filter(|rotation| rotation.digest == self.digest);
        if rotation.is_none_or(|rotation| node.has_moved(rotation)) {
            return Ok(Decision::nothing(self.node));
        }
        let moved = NodeMovedToRoot { node: self.node, digest: self.digest.clone() };
        Ok(Decision::one(self.node, Kind::NodeMovedToRoot(moved)))
    }
}

#[cfg(test)]
mod tests {
    use events::Id;

    use super::*;
    use crate::testing::{Fixture, node, operator, worker};
    use crate::{Command, RejectionKind};

    fn rotate() -> Command {
        let secret = |text: &str| SecretText(text.to_owned());
        Command::RotateRoot(Box::new(RotateRoot {
            cert_pem: "new".to_owned(),
            digest: "next".to_owned(),
            cross_cert_pem: "cross".to_owned(),
            key_pem: secret("key"),
            worker_token: (secret("worker"), [1; 32]),
            manager_token: (secret("manager"), [2; 32]),
        }))
    }

    fn moved(digest: &str) -> Command {
        Command::MoveNodeToRoot(MoveNodeToRoot { node: worker(), digest: digest.to_owned() })
    }

    #[test]
    fn one_rotation_at_a_time_and_its_secrets_are_of_the_next_generation() {
        let mut fixture = Fixture::with_worker();
        let decision = fixture.accept(&operator(), rotate());
        let names: Vec<&str> = decision.volatile.iter().map(|payload| payload.key.as_str()).collect();
        assert_eq!(names, ["join-token/worker/1", "join-token/manager/1", "root-ca/key/1"]);
        let refused = fixture.refuse(&operator(), rotate());
        assert_eq!(refused.kind, RejectionKind::Conflict);
        assert!(refused.sentence.contains("0 of 2 nodes have moved"), "{refused}");
    }

    #[test]
    fn a_root_comes_signed_by_the_present_one_and_may_leave_its_key_outside() {
        let mut fixture = Fixture::with_worker();
        let with = |change: fn(&mut RotateRoot)| match rotate() {
            Command::RotateRoot(mut rotate) => {
                change(&mut rotate);
                Command::RotateRoot(rotate)
            }
            other => panic!("{other:?}"),
        };
        let refused = fixture.refuse(&operator(), with(|rotate| rotate.cross_cert_pem.clear()));
        assert_eq!(refused.kind, RejectionKind::Conflict);
        let decision = fixture.accept(&operator(), with(|rotate| rotate.key_pem.0.clear()));
        let names: Vec<&str> = decision.volatile.iter().map(|payload| payload.key.as_str()).collect();
        assert_eq!(names, ["join-token/worker/1", "join-token/manager/1"]);
    }

    #[test]
    fn a_node_moves_once_and_only_to_the_root_that_is_on_its_way() {
        let mut fixture = Fixture::with_worker();
        let itself = node(worker());
        assert_eq!(fixture.accept(&itself, moved("next")).events, []);
        fixture.accept(&operator(), rotate());
        assert_eq!(fixture.accept(&itself, moved("another")).events, []);
        assert_eq!(fixture.accept(&itself, moved("next")).events.len(), 1);
        assert_eq!(fixture.accept(&itself, moved("next")).events, []);
        assert_eq!(fixture.refuse(&node(NodeId::from_bits(9)), moved("next")).kind, RejectionKind::Forbidden);
    }
}
