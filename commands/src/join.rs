//! How a node joins, and how its certificate is recorded.

use events::{CertificateIssued, Kind, NodeId, NodeJoined, NodeSpec, Role, Timestamp};
use projections::Cluster;

use crate::node::member;
use crate::verb::{AllowedActor, Verb};
use crate::{Ctx, Decision, Rejection, RejectionKind, validate};

/// Admits a node with the role of its token; the subject is its new id. The certificate follows once the id is known.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct JoinNode {
    /// SHA-256 of the token's secret part.
    pub secret_sha256: [u8; 32],
    /// The node's host name.
    pub hostname: String,
    /// The network address of its connection.
    pub addr: String,
}

/// Records a certificate, which must have the node's desired role.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CertifyNode {
    /// The node.
    pub node: NodeId,
    /// The role in the certificate.
    pub role: Role,
    /// The certificate.
    pub cert_pem: String,
    /// When it expires.
    pub not_after: Timestamp,
}

impl Verb for JoinNode {
    fn name(&self) -> &'static str {
        "node.join"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Joiner
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let role = admitted(state, &self.secret_sha256)?;
        validate::hostname(&self.hostname).map_err(|fault| fault.about("node"))?;
        room(state, role)?;
        let node: NodeId = ctx.ids.next();
        let spec = NodeSpec { role: role.into(), ..NodeSpec::default() };
        let joined = NodeJoined { node, spec, hostname: self.hostname.clone(), addr: self.addr.clone() };
        Ok(Decision::one(node, Kind::NodeJoined(joined)))
    }
}

impl Verb for CertifyNode {
    fn name(&self) -> &'static str {
        "node.certify"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::NodeOrThisManager(self.node)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let (node, role) = (self.node, self.role);
        let wanted = member(state, node)?.spec.role();
        if wanted != role {
            let sentence = format!("node {node} has the role {}, not {}", noun(wanted), noun(role));
            return Err(Rejection::conflict(format!("node {node}"), sentence, "ask for a certificate again"));
        }
        let (cert_pem, not_after) = (self.cert_pem.clone(), self.not_after);
        let issued = CertificateIssued { node, role: role.into(), cert_pem, not_after };
        Ok(Decision::one(node, Kind::CertificateIssued(issued)))
    }
}

/// Maximum number of workers that joined and did not register. An honest one registers within seconds; an attacker with a token
/// could otherwise add any number.
pub(crate) const NEWCOMERS_MAX: usize = 1_000;

/// Rejects a node if the cluster has no room. A client with only the workers' token cannot keep managers out.
fn room(state: &Cluster, role: Role) -> Result<(), Rejection> {
    let full = |sentence, hint| Err(Rejection::new(RejectionKind::Exhausted, "cluster", sentence, hint));
    let (nodes, limit) = (state.nodes.len(), state.spec().node_limit());
    if nodes >= limit {
        let hint = "remove old nodes with `swarmctl node rm`, or raise `swarmctl cluster update --max-nodes`";
        return full(format!("the cluster has {nodes} nodes; the maximum is {limit}"), hint);
    }
    if role == Role::Worker && state.newcomers() >= NEWCOMERS_MAX {
        let hint = "wait until they have registered, or an hour until they are removed; if you do not know them, rotate \
                    the join token (`swarmctl cluster update --rotate-join-token worker`)";
        return full(format!("{NEWCOMERS_MAX} nodes have joined and never registered"), hint);
    }
    Ok(())
}

/// Checks a join token, all parts of it, against the current state: a manager also does this for a join that was already
/// answered, so that a rotated token yields no certificate again.
///
/// # Errors
/// A sentence that does not reveal which part was wrong.
pub fn admit(state: &Cluster, root_digest: &str, secret_sha256: &[u8; 32]) -> Result<Role, Rejection> {
    let of_this_cluster = is_equal(state.settings.root_digest.as_bytes(), root_digest.as_bytes());
    let role = admitted(state, secret_sha256);
    match role {
        role if of_this_cluster => role,
        Ok(_) | Err(_) => Err(not_valid()),
    }
}

/// The role of the token with this secret. Both tokens are compared completely, so that the timing reveals nothing.
fn admitted(state: &Cluster, secret_sha256: &[u8; 32]) -> Result<Role, Rejection> {
    let is_of = |role| is_equal(state.settings.token_sha256(role), secret_sha256);
    match (is_of(Role::Worker), is_of(Role::Manager)) {
        (true, _) => Ok(Role::Worker),
        (false, true) => Ok(Role::Manager),
        (false, false) => Err(not_valid()),
    }
}

fn not_valid() -> Rejection {
    let sentence = "the join token is not valid for this cluster";
    let hint = "get the present token with `swarmctl cluster inspect` on a manager; the old token is no longer valid after a rotation";
    Rejection::new(RejectionKind::Forbidden, "join token", sentence, hint)
}

/// Whether two texts are equal, in a time that depends on their lengths only. Nothing equals an empty text, which represents a
/// missing token.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    differences(one.iter().zip(other)) == 0 && one.len() == other.len() && !one.is_empty()
}

/// The bits in which any pair of bytes differs. Visits every pair, wherever the first difference is.
fn differences<'a>(pairs: impl Iterator<Item = (&'a u8, &'a u8)>) -> u8 {
    std::hint::black_box(pairs.fold(0, |found, (one, other)| found | (one ^ other)))
}

fn noun(role: Role) -> &'static str {
    match role {
        Role::Worker => "worker",
        Role::Manager => "manager",
    }
}

#[cfg(test)]
mod tests {
    use events::{ClusterSpec, ClusterSpecUpdated, NodeDescribed, NodeDescription};

    use super::*;
    use crate::testing::{Fixture, initialise_request, joiner, manager, node, removed, this_manager, worker};
    use crate::{Command, RejectionKind};

    fn join(secret_sha256: [u8; 32], hostname: &str) -> Command {
        Command::JoinNode(crate::JoinNode { secret_sha256, hostname: hostname.into(), addr: "10.0.0.9:1".into() })
    }

    #[test]
    fn a_cluster_has_room_for_so_many_nodes_and_fewer_that_are_not_there() {
        let token = initialise_request().worker_token.1;
        let mut fixture = Fixture::initialised();
        for _ in 0..NEWCOMERS_MAX {
            fixture.accept(&joiner(), join(token, "host"));
        }
        let refused = fixture.refuse(&joiner(), join(token, "host"));
        assert_eq!(refused.kind, RejectionKind::Exhausted);
        assert_eq!(refused.sentence, "1000 nodes have joined and never registered");
        fixture.accept(&joiner(), join(initialise_request().manager_token.1, "manager"));
        let newcomer = fixture.state.nodes.values().find(|node| node.is_newcomer()).map(|node| node.id);
        let description = NodeDescription { hostname: "host".into(), ..Default::default() };
        fixture
            .given([Kind::NodeDescribed(Box::new(NodeDescribed { node: newcomer.expect("a newcomer"), description }))]);
        fixture.accept(&joiner(), join(token, "host"));

        let mut fixture = Fixture::initialised();
        let spec = ClusterSpec { nodes_max: Some(2), ..Default::default() };
        fixture.given([Kind::ClusterSpecUpdated(ClusterSpecUpdated { spec })]);
        fixture.accept(&joiner(), join(token, "host"));
        let refused = fixture.refuse(&joiner(), join(token, "host"));
        assert_eq!(refused.kind, RejectionKind::Exhausted);
        assert_eq!(refused.sentence, "the cluster has 2 nodes; the maximum is 2");
        assert_eq!(ClusterSpec::default().node_limit(), 100_000);
    }

    fn certify(node: NodeId, role: Role) -> Command {
        Command::CertifyNode(crate::CertifyNode {
            node,
            role,
            cert_pem: "pem".into(),
            not_after: Timestamp::from_unix_ns(5),
        })
    }

    #[test]
    fn the_workers_token_lets_a_worker_in() {
        let mut fixture = Fixture::initialised();
        let decision = fixture.accept(&joiner(), join(initialise_request().worker_token.1, "host"));
        let id: NodeId = decision.subject.expect("a subject").parse().expect("a node's id");
        let node = fixture.state.nodes.get(id).expect("the node that joined");
        assert_eq!((node.spec.role(), node.hostname(), node.addr.as_str()), (Role::Worker, "host", "10.0.0.9:1"));
        assert_eq!(fixture.state.nodes.len(), 2);
    }

    #[test]
    fn the_managers_token_makes_a_manager() {
        let (mut fixture, request) = (Fixture::initialised(), initialise_request());
        assert_eq!(admit(&fixture.state, &request.root_digest, &request.manager_token.1), Ok(Role::Manager));
        let decision = fixture.accept(&joiner(), join(request.manager_token.1, "host"));
        let id: NodeId = decision.subject.expect("a subject").parse().expect("a node's id");
        assert_eq!(fixture.state.nodes.get(id).map(|node| node.spec.role()), Some(Role::Manager));
    }

    #[test]
    fn another_token_admits_no_node() {
        let fixture = Fixture::initialised();
        let refused = fixture.refuse(&joiner(), join([0; 32], "host"));
        assert_eq!(refused.kind, RejectionKind::Forbidden);
        assert_eq!(refused.sentence, "the join token is not valid for this cluster");
        // Without a cluster there is no token, not even an empty one.
        assert_eq!(Fixture::empty().refuse(&joiner(), join([0; 32], "host")).kind, RejectionKind::Forbidden);
    }

    #[test]
    fn every_part_of_a_token_is_judged_by_the_present_state() {
        let mut fixture = Fixture::initialised();
        let (request, refused) = (initialise_request(), "the join token is not valid for this cluster");
        let digest = request.root_digest.as_str();
        assert_eq!(admit(&fixture.state, digest, &request.worker_token.1), Ok(Role::Worker));
        for (digest, secret) in [("", request.worker_token.1), ("another", request.worker_token.1), (digest, [0; 32])] {
            assert_eq!(admit(&fixture.state, digest, &secret).expect_err(digest).sentence, refused);
        }
        let rotate = Command::RotateJoinToken(crate::RotateJoinToken {
            role: Role::Worker,
            token: crate::SecretText("new".into()),
            secret_sha256: [7; 32],
        });
        fixture.accept(&crate::testing::operator(), rotate);
        assert_eq!(admit(&fixture.state, digest, &request.worker_token.1).expect_err("rotated").sentence, refused);
        assert_eq!(admit(&fixture.state, digest, &[7; 32]), Ok(Role::Worker));
        assert!(admit(&Fixture::empty().state, "", &[0; 32]).is_err());
    }

    #[test]
    fn texts_are_compared_to_their_end() {
        for (one, other, equal) in
            [("a", "a", true), ("a", "b", false), ("ab", "a", false), ("a", "ab", false), ("", "", false)]
        {
            assert_eq!(is_equal(one.as_bytes(), other.as_bytes()), equal, "{one:?} {other:?}");
        }
        // The amount of work does not depend on how much of a secret is right.
        for different in 0..32 {
            let (one, mut other) = ([7_u8; 32], [7_u8; 32]);
            other[different] = 8;
            let mut looked_at = 0;
            let found = differences(one.iter().zip(&other).inspect(|_| looked_at += 1));
            assert_eq!((found, looked_at), (15, 32), "the byte {different} is wrong");
        }
    }

    #[test]
    fn a_host_name_has_to_be_one() {
        let fixture = Fixture::initialised();
        let token = initialise_request().worker_token.1;
        for hostname in ["", "a b", "a\u{1b}[2J", "a\u{202e}b", &"h".repeat(300), &worker().to_string()] {
            assert_eq!(fixture.refuse(&joiner(), join(token, hostname)).kind, RejectionKind::Invalid, "{hostname}");
        }
    }

    #[test]
    fn a_certificate_is_noted_for_a_member_in_its_role() {
        let mut fixture = Fixture::with_worker();
        fixture.accept(&this_manager(), certify(worker(), Role::Worker));
        fixture.accept(&node(worker()), certify(worker(), Role::Worker));
        let member = fixture.state.nodes.get(worker()).expect("the worker");
        assert_eq!((member.role, member.certificate_not_after), (Role::Worker, Some(Timestamp::from_unix_ns(5))));

        assert_eq!(fixture.refuse(&node(worker()), certify(worker(), Role::Manager)).kind, RejectionKind::Conflict);
        assert_eq!(fixture.refuse(&node(worker()), certify(manager(), Role::Manager)).kind, RejectionKind::Forbidden);
        fixture.given([removed(worker())]);
        assert_eq!(fixture.refuse(&node(worker()), certify(worker(), Role::Worker)).kind, RejectionKind::Forbidden);
    }
}
