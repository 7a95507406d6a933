//! Commands about managers, such as the announcement that a log is ready to follow. The reconcilers decide who becomes a member
//! and when, since raft takes one change at a time.

use events::{ClusterId, Kind, ManagerAnnounced, NodeId, QuorumForced, Role};
use projections::{Cluster, Member};

use crate::node::member;
use crate::verb::{AllowedActor, Verb};
use crate::{Ctx, Decision, Rejection, RejectionKind, validate};

/// Announces that the log of a node's manager is ready to follow.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AnnounceManager {
    /// The node.
    pub node: NodeId,
    /// Its raft id, drawn when its log was initialized; a new one if an earlier log was lost.
    pub raft_id: u64,
    /// The address for other managers.
    pub addr: String,
    /// The highest feature level that it supports.
    pub feature_level_max: u32,
    /// The key that verifies its signatures; an older build has none.
    #[serde(default)]
    pub audit_key: Option<String>,
}

/// Maximum length of a key, including the names of the cluster and the node.
const AUDIT_KEY_MAX: usize = 256;

/// Lets a manager continue alone, whose log was reset with a new raft id.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ForceQuorum {
    /// Its node.
    pub node: NodeId,
    /// Its new raft id.
    pub raft_id: u64,
    /// The cluster's new id, if it should become another cluster.
    pub cluster: Option<ClusterId>,
}

impl Verb for ForceQuorum {
    fn name(&self) -> &'static str {
        "quorum.force"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::ThisManager
    }

    fn adds(&self, _state: &Cluster) -> bool {
        // It may rescue a cluster.
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let Self { node, raft_id, cluster } = *self;
        let subject = format!("node {node}");
        let Some(own) = state.members.get(node) else {
            let sentence = format!("node {node} is no manager of this cluster");
            return Err(Rejection::conflict(subject, sentence, "restore the state directory from a backup"));
        };
        if own.raft_id == raft_id {
            return Ok(Decision::nothing(node));
        }
        if raft_id == 0 || state.knows_raft_id(raft_id) {
            let sentence = format!("the raft id {raft_id} is not free: it is or was another manager's");
            return Err(Rejection::conflict(subject, sentence, "start swarmd again with --force-new-cluster"));
        }
        let fenced = state.members.values().map(|member| member.raft_id).collect();
        let forced = QuorumForced { node, raft_id, addr: own.addr.clone(), fenced, cluster };
        Ok(Decision::one(node, Kind::QuorumForced(forced)))
    }
}

impl Verb for AnnounceManager {
    fn name(&self) -> &'static str {
        "manager.announce"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::NodeOrThisManager(self.node)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        // A second manager may rescue a cluster whose first one runs out of space.
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let Self { node: id, raft_id, addr, feature_level_max, audit_key } = self;
        let (id, raft_id, level, subject) = (*id, *raft_id, *feature_level_max, format!("node {}", self.node));
        let node = member(state, id)?;
        if node.spec.role() != Role::Manager || node.role != Role::Manager {
            let sentence = format!("node {id} is a worker");
            let hint = "promote it first, and wait until it has renewed its certificate";
            return Err(Rejection::new(RejectionKind::Forbidden, subject, sentence, hint));
        }
        validate::addr(addr).map_err(|fault| fault.about(&subject))?;
        if level < state.feature_level() {
            let sentence =
                format!("node {id} supports feature level {level}, the cluster is at {}", state.feature_level());
            let hint = "install the version of swarmd that the other managers run";
            return Err(Rejection::new(RejectionKind::Forbidden, subject, sentence, hint));
        }
        if audit_key
            .as_ref()
            .is_some_and(|key| key.len() > AUDIT_KEY_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let sentence = format!("the audit key of node {id} is not a line of up to {AUDIT_KEY_MAX} letters");
            return Err(Rejection::new(
                RejectionKind::Invalid,
                subject,
                sentence,
                "report this as a bug of that manager",
            ));
        }
        let is_member = |raft_id| state.members.get(id).is_some_and(|member| member.raft_id == raft_id);
        // An older build announces no key.
        let same = |raft: u64, at: &String, knows: u32, key: &Option<String>| {
            (raft, at, knows) == (raft_id, addr, level) && (audit_key.is_none() || key == audit_key)
        };
        let is_same = |member: &Member| same(member.raft_id, &member.addr, member.feature_level_max, &member.audit_key);
        let waits = state.announced.get(id);
        let waits =
            waits.is_some_and(|waits| same(waits.raft_id, &waits.addr, waits.feature_level_max, &waits.audit_key));
        if waits || state.members.get(id).is_some_and(is_same) {
            return Ok(Decision::nothing(id));
        }
        let own = is_member(raft_id) || state.announced.get(id).is_some_and(|waits| waits.raft_id == raft_id);
        if raft_id == 0 || (!own && state.knows_raft_id(raft_id)) {
            let sentence = format!("the raft id {raft_id} is not free: it is or was another manager's");
            let hint = "stop swarmd, remove the directory `raft` of its state directory and start it again";
            return Err(Rejection::conflict(subject, sentence, hint));
        }
        let (addr, audit_key) = (addr.clone(), audit_key.clone());
        let announced = ManagerAnnounced { node: id, raft_id, addr, feature_level_max: level, audit_key };
        Ok(Decision::one(id, Kind::ManagerAnnounced(announced)))
    }
}

#[cfg(test)]
mod tests {
    use events::{CertificateIssued, MemberAdded, MemberRemoved, NodeSpec, NodeSpecUpdated, Timestamp};

    use super::*;
    use crate::Command;
    use crate::testing::{Fixture, this_manager, worker};

    const ADDR: &str = "10.0.0.2:1";

    fn announce(node: NodeId, raft_id: u64, addr: &str) -> Command {
        let (addr, audit_key) = (addr.to_owned(), None);
        Command::AnnounceManager(AnnounceManager { node, raft_id, addr, feature_level_max: 1, audit_key })
    }

    /// A cluster whose worker was promoted and has a manager's certificate.
    fn promoted() -> Fixture {
        let mut fixture = Fixture::with_worker();
        let (node, role) = (worker(), Role::Manager.into());
        let spec = NodeSpec { role, ..NodeSpec::default() };
        let not_after = Timestamp::from_unix_ns(90);
        fixture.given([
            Kind::NodeSpecUpdated(NodeSpecUpdated { node, spec }),
            Kind::CertificateIssued(CertificateIssued { node, role, cert_pem: String::new(), not_after }),
        ]);
        fixture
    }

    #[test]
    fn a_manager_announces_itself_once_and_again_when_its_address_or_its_log_is_another() {
        let mut fixture = promoted();
        let names = |fixture: &mut Fixture, raft_id, addr| {
            let decision = fixture.accept(&this_manager(), announce(worker(), raft_id, addr));
            decision.events.iter().map(Kind::name).collect::<Vec<_>>()
        };
        assert_eq!(names(&mut fixture, 7, ADDR), ["manager_announced"]);
        assert_eq!(names(&mut fixture, 7, ADDR), [""; 0]);
        assert_eq!(names(&mut fixture, 7, "10.0.0.3:1"), ["manager_announced"]);
        let (node, addr) = (worker(), "10.0.0.3:1".to_owned());
        fixture.given([Kind::MemberAdded(MemberAdded {
            node,
            raft_id: 7,
            addr,
            voter: false,
            feature_level_max: 1,
            audit_key: None,
        })]);
        assert_eq!(names(&mut fixture, 7, "10.0.0.3:1"), [""; 0]);
        assert_eq!(names(&mut fixture, 7, ADDR), ["manager_announced"]);
        assert!(fixture.state.announced.is_empty(), "it is a member, and has moved");
        assert_eq!(names(&mut fixture, 8, ADDR), ["manager_announced"]);
    }

    #[test]
    fn a_member_says_its_key_once_and_again_when_it_is_another() {
        let mut fixture = promoted();
        let announce = |key: &str| {
            let (node, addr, audit_key) = (worker(), ADDR.to_owned(), Some(key.to_owned()));
            Command::AnnounceManager(AnnounceManager { node, raft_id: 7, addr, feature_level_max: 1, audit_key })
        };
        let count = |fixture: &mut Fixture, key| fixture.accept(&this_manager(), announce(key)).events.len();
        assert_eq!([count(&mut fixture, "one"), count(&mut fixture, "one")], [1, 0], "it waits");
        let (node, addr, audit_key) = (worker(), ADDR.to_owned(), Some("one".to_owned()));
        let added = MemberAdded { node, raft_id: 7, addr, voter: false, feature_level_max: 1, audit_key };
        fixture.given([Kind::MemberAdded(added)]);
        assert_eq!([count(&mut fixture, "one"), count(&mut fixture, "two"), count(&mut fixture, "two")], [0, 1, 0]);
        for no_key in ["a key", "\u{1b}[31m", &"a".repeat(AUDIT_KEY_MAX + 1)] {
            assert_eq!(fixture.refuse(&this_manager(), announce(no_key)).kind, RejectionKind::Invalid);
        }
    }

    #[test]
    fn a_manager_that_continues_alone_fences_all_earlier_ones_once() {
        let mut fixture = promoted();
        let (node, raft_id) = (worker(), 7);
        fixture.given([Kind::MemberAdded(MemberAdded {
            node,
            raft_id,
            addr: ADDR.to_owned(),
            voter: true,
            feature_level_max: 1,
            audit_key: None,
        })]);
        let force = |raft_id| Command::ForceQuorum(ForceQuorum { node, raft_id, cluster: None });
        for taken in [0, 1] {
            assert_eq!(fixture.refuse(&this_manager(), force(taken)).kind, RejectionKind::Conflict);
        }
        let decision = fixture.accept(&this_manager(), force(70));
        let forced = QuorumForced { node, raft_id: 70, addr: ADDR.to_owned(), fenced: vec![1, 7], cluster: None };
        assert_eq!(decision.events, [Kind::QuorumForced(forced)]);
        assert_eq!(fixture.accept(&this_manager(), force(70)).events, []);
        let announced = fixture.refuse(&this_manager(), announce(worker(), 7, ADDR));
        assert!(announced.sentence.contains("is or was another manager's"), "{}", announced.sentence);
    }

    #[test]
    fn a_raft_id_belongs_to_one_manager_permanently_and_workers_have_none() {
        let mut fixture = promoted();
        assert_eq!(fixture.refuse(&this_manager(), announce(worker(), 1, ADDR)).kind, RejectionKind::Conflict);
        assert_eq!(fixture.refuse(&this_manager(), announce(worker(), 0, ADDR)).kind, RejectionKind::Conflict);
        assert_eq!(fixture.refuse(&this_manager(), announce(worker(), 7, "nowhere")).kind, RejectionKind::Invalid);
        let (node, raft_id) = (worker(), 7);
        fixture.given([
            Kind::MemberAdded(MemberAdded {
                node,
                raft_id,
                addr: ADDR.to_owned(),
                voter: false,
                feature_level_max: 1,
                audit_key: None,
            }),
            Kind::MemberRemoved(MemberRemoved { node, raft_id }),
        ]);
        assert_eq!(fixture.refuse(&this_manager(), announce(worker(), 7, ADDR)).kind, RejectionKind::Conflict);
        let fixture = Fixture::with_worker();
        assert_eq!(fixture.refuse(&this_manager(), announce(worker(), 7, ADDR)).kind, RejectionKind::Forbidden);
    }

    #[test]
    fn a_build_that_does_not_know_what_the_cluster_writes_is_no_manager_of_it() {
        let mut fixture = promoted();
        let announce = |feature_level_max| {
            let (node, addr) = (worker(), ADDR.to_owned());
            Command::AnnounceManager(AnnounceManager { node, raft_id: 7, addr, feature_level_max, audit_key: None })
        };
        let names = |fixture: &mut Fixture, level| {
            let decision = fixture.accept(&this_manager(), announce(level));
            decision.events.iter().map(Kind::name).collect::<Vec<_>>()
        };
        assert_eq!(names(&mut fixture, 1), ["manager_announced"]);
        assert_eq!(names(&mut fixture, 1), [""; 0]);
        assert_eq!(names(&mut fixture, 3), ["manager_announced"], "it was upgraded");
        fixture.given([Kind::FeatureLevelRaised(events::FeatureLevelRaised { level: 3 })]);
        let refused = fixture.refuse(&this_manager(), announce(2));
        assert!(refused.sentence.contains("feature level 2, the cluster is at 3"), "{}", refused.sentence);
    }
}
