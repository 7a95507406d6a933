//! Commands about the cluster itself: how it begins, who leads it, its settings and its join tokens.

use events::{
    CertificateIssued, ClusterId, ClusterInitialised, ClusterSpec, ClusterSpecUpdated, JoinTokenRotated, Kind,
    LeadershipAssumed, MemberAdded, NodeId, NodeJoined, NodeSpec, OperatorRole, Role, RootCaGenerated,
    StateHashRecorded, Timestamp, UnlockKeyChanged, VolatilePayload,
};
use projections::settings::{ARCHIVE_KEY, ROOT_KEY, UNLOCK_KEY, token_key};
use projections::{CLUSTER_NAME, Cluster, FOLD_VERSION};

use crate::verb::{Asker, Verb};
use crate::version::in_sequence;
use crate::{Ctx, Decision, Rejection, SecretText, validate};

const SUBJECT: &str = "cluster";

/// The first command of a cluster. Keys and tokens are made by the shell, because the core has no randomness.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InitialiseCluster {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Its settings.
    pub spec: ClusterSpec,
    /// The root certificate.
    pub root_cert_pem: String,
    /// Its digest as join tokens carry it.
    pub root_digest: String,
    /// Its key.
    pub root_key_pem: SecretText,
    /// Token for workers and SHA-256 of its secret part.
    pub worker_token: (SecretText, [u8; 32]),
    /// Token for managers and SHA-256 of its secret part.
    pub manager_token: (SecretText, [u8; 32]),
    /// The first manager.
    pub node: NodeId,
    /// Its number in raft, with which its log began.
    pub raft_id: u64,
    /// What it calls itself.
    pub hostname: String,
    /// Where it can be reached.
    pub addr: String,
    /// Its certificate.
    pub cert_pem: String,
    /// When that expires.
    pub cert_not_after: Timestamp,
    /// The highest feature level that its first manager knows.
    pub feature_level_max: u32,
    /// With what the signatures of its first manager are verified.
    pub audit_key: Option<String>,
}

/// A manager became leader.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AssumeLeadership {
    /// The manager.
    pub node: NodeId,
    /// Its raft term.
    pub term: u64,
    /// Its version.
    pub version: String,
    /// The highest feature level that it knows.
    pub feature_level_max: u32,
}

/// Notes the state's hash after a frame, which every manager compares with its own.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RecordStateHash {
    /// Index of the frame.
    pub index: u64,
    /// The hash.
    pub hash: [u8; 16],
}

/// Replaces the cluster's settings.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct UpdateCluster {
    /// The new settings.
    pub spec: ClusterSpec,
    /// The version that was read; `None`: whatever it is.
    pub version: Option<u64>,
    /// An unlock key, made by the shell, in case these settings are the first to ask for one.
    pub unlock_key: Option<SecretText>,
    /// A key for archives in base64, made by the shell, in case these settings are the first to ask for one.
    pub archive_key: Option<SecretText>,
}

/// Puts a new unlock key in the place of the old one.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RotateUnlockKey {
    /// The key, made by the shell.
    pub key: SecretText,
}

/// Puts a new join token for a role in the place of the old one, which is no longer valid.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RotateJoinToken {
    /// The role.
    pub role: Role,
    /// The whole token, made by the shell.
    pub token: SecretText,
    /// SHA-256 of its secret part.
    pub secret_sha256: [u8; 32],
}

impl Verb for InitialiseCluster {
    fn name(&self) -> &'static str {
        "cluster.initialise"
    }

    fn asker(&self) -> Asker {
        Asker::ThisManager
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        initialise(state, self)
    }
}

impl Verb for AssumeLeadership {
    fn name(&self) -> &'static str {
        "leadership.assume"
    }

    fn asker(&self) -> Asker {
        Asker::ThisManager
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, _state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let assumed = LeadershipAssumed {
            node: self.node,
            term: self.term,
            version: self.version.clone(),
            feature_level_max: self.feature_level_max,
        };
        Ok(Decision::one(self.node, Kind::LeadershipAssumed(assumed)))
    }
}

impl Verb for RecordStateHash {
    fn name(&self) -> &'static str {
        "state.hash"
    }

    fn asker(&self) -> Asker {
        Asker::ThisManager
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, _state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let (hash, fold_version) = (self.hash.to_vec(), Some(FOLD_VERSION));
        let recorded = StateHashRecorded { at_index: self.index, hash, fold_version };
        Ok(Decision::one(SUBJECT, Kind::StateHashRecorded(recorded)))
    }
}

impl Verb for UpdateCluster {
    fn name(&self) -> &'static str {
        "cluster.update"
    }

    fn asker(&self) -> Asker {
        Asker::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        // What settings should be takes little, and may be what makes room: a shorter history.
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        in_sequence("the cluster", state.settings.version, self.version)?;
        validate::cluster(&self.spec).map_err(|fault| fault.about(SUBJECT))?;
        if self.spec == *state.spec() {
            return Ok(Decision::nothing(state.id()));
        }
        let updated = ClusterSpecUpdated { spec: self.spec.clone() };
        let mut decision = Decision::one(state.id(), Kind::ClusterSpecUpdated(updated));
        match (state.settings.locked, self.spec.autolock(), &self.unlock_key) {
            (false, true, Some(key)) => decision.change_unlock_key(Some(key)),
            (false, true, None) => return Err(no_unlock_key()),
            (true, false, _) => decision.change_unlock_key(None),
            (true, true, _) | (false, false, _) => {}
        }
        if let (None, Some(_), Some(key)) = (state.spec().history_keep_ns, self.spec.history_keep_ns, &self.archive_key)
        {
            // A name of its own: no key of archives that were made ever goes.
            let name = format!("{ARCHIVE_KEY}{}", state.position.index);
            decision.volatile.push(VolatilePayload::keep(name, key.0.as_str()));
        }
        Ok(decision)
    }
}

impl Decision {
    fn change_unlock_key(&mut self, key: Option<&SecretText>) {
        self.events.push(Kind::UnlockKeyChanged(UnlockKeyChanged { locked: key.is_some() }));
        self.volatile.push(match key {
            Some(key) => VolatilePayload::keep(UNLOCK_KEY, key.0.as_str()),
            None => VolatilePayload { key: UNLOCK_KEY.to_owned(), value: None },
        });
    }
}

/// The settings asked for a key when the command was made, and meanwhile do again.
fn no_unlock_key() -> Rejection {
    Rejection::conflict(SUBJECT, "the settings were changed while this change was under way", "try again")
}

impl Verb for RotateUnlockKey {
    fn name(&self) -> &'static str {
        "cluster.rotate-unlock-key"
    }

    fn asker(&self) -> Asker {
        Asker::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        if !state.settings.locked {
            let hint = "turn it on first with `swarmctl cluster update --autolock`";
            return Err(Rejection::conflict("unlock key", "the cluster has no unlock key: autolock is off", hint));
        }
        let mut decision = Decision::nothing("unlock key");
        decision.change_unlock_key(Some(&self.key));
        Ok(decision)
    }
}

impl Verb for RotateJoinToken {
    fn name(&self) -> &'static str {
        "cluster.rotate-token"
    }

    fn asker(&self) -> Asker {
        Asker::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        Ok(Decision {
            events: vec![token_rotated(self.role, &self.secret_sha256)],
            volatile: vec![VolatilePayload::keep(state.settings.token_key(self.role), self.token.0.as_str())],
            subject: Some(token_key(self.role).to_owned()),
        })
    }
}

/// Creates the cluster with its root of trust, its join tokens and its first manager, all in one frame.
fn initialise(state: &Cluster, wish: &InitialiseCluster) -> Result<Decision, Rejection> {
    if state.id() != ClusterId::default() {
        let sentence = format!("this manager already has the cluster {}", state.id());
        let hint = "use another state directory for another cluster";
        return Err(Rejection::conflict(SUBJECT, sentence, hint));
    }
    validate::cluster(&wish.spec).map_err(|fault| fault.about(SUBJECT))?;
    validate::hostname(&wish.hostname).map_err(|fault| fault.about("node"))?;
    let (worker_token, worker_sha256) = &wish.worker_token;
    let (manager_token, manager_sha256) = &wish.manager_token;
    let initialised =
        ClusterInitialised { cluster: wish.cluster, name: CLUSTER_NAME.to_owned(), spec: wish.spec.clone() };
    let root = RootCaGenerated { cert_pem: wish.root_cert_pem.clone(), digest: wish.root_digest.clone() };
    let joined = NodeJoined {
        node: wish.node,
        spec: NodeSpec { role: Role::Manager.into(), ..NodeSpec::default() },
        hostname: wish.hostname.clone(),
        addr: wish.addr.clone(),
    };
    let certificate = CertificateIssued {
        node: wish.node,
        role: Role::Manager.into(),
        cert_pem: wish.cert_pem.clone(),
        not_after: wish.cert_not_after,
    };
    let member = MemberAdded {
        node: wish.node,
        raft_id: wish.raft_id,
        addr: wish.addr.clone(),
        voter: true,
        feature_level_max: wish.feature_level_max,
        audit_key: wish.audit_key.clone(),
    };
    Ok(Decision {
        events: vec![
            Kind::ClusterInitialised(initialised),
            Kind::RootCaGenerated(root),
            token_rotated(Role::Worker, worker_sha256),
            token_rotated(Role::Manager, manager_sha256),
            Kind::NodeJoined(joined),
            Kind::CertificateIssued(certificate),
            Kind::MemberAdded(member),
        ],
        volatile: vec![
            VolatilePayload::keep(ROOT_KEY, wish.root_key_pem.0.as_str()),
            keep_token(Role::Worker, worker_token),
            keep_token(Role::Manager, manager_token),
        ],
        subject: Some(wish.cluster.to_string()),
    })
}

fn token_rotated(role: Role, secret_sha256: &[u8; 32]) -> Kind {
    Kind::JoinTokenRotated(JoinTokenRotated { role: role.into(), secret_sha256: secret_sha256.to_vec() })
}

fn keep_token(role: Role, token: &SecretText) -> VolatilePayload {
    VolatilePayload::keep(token_key(role), token.0.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, initialise_wish, manager, operator, registered, removed, this_manager, worker};
    use crate::{Command, RejectionKind};
    use events::NodeDeclaredDown;
    use projections::Liveness;

    fn update(spec: ClusterSpec, version: Option<u64>) -> Command {
        Command::UpdateCluster(crate::UpdateCluster { spec, version, unlock_key: None, archive_key: None })
    }

    fn assume() -> Command {
        Command::AssumeLeadership(crate::AssumeLeadership {
            node: manager(),
            term: 7,
            version: "0.1.0".into(),
            feature_level_max: 2,
        })
    }

    #[test]
    fn a_cluster_begins_with_its_trust_its_tokens_and_its_first_manager() {
        let mut story = Story::empty();
        let wish = initialise_wish();
        let decision = story.accept(&this_manager(), Command::InitialiseCluster(Box::new(wish.clone())));
        let names: Vec<_> = decision.events.iter().map(Kind::name).collect();
        assert_eq!(
            names,
            [
                "cluster_initialised",
                "root_ca_generated",
                "join_token_rotated",
                "join_token_rotated",
                "node_joined",
                "certificate_issued",
                "member_added"
            ]
        );
        let secrets: Vec<_> = decision.volatile.iter().map(|payload| payload.key.as_str()).collect();
        assert_eq!(secrets, [ROOT_KEY, "join-token/worker", "join-token/manager"]);
        assert!(decision.volatile.iter().all(|payload| payload.value.as_ref().is_some_and(|value| !value.is_empty())));

        let settings = &story.state.settings;
        assert_eq!((settings.id, settings.name.as_str()), (wish.cluster, "default"));
        assert_eq!(settings.token_sha256(Role::Worker), wish.worker_token.1);
        assert_eq!(settings.token_sha256(Role::Manager), wish.manager_token.1);
        let node = story.state.nodes.get(manager()).expect("the first manager");
        assert_eq!((node.role, node.certificate_not_after), (Role::Manager, Some(wish.cert_not_after)));

        let again = story.refuse(&this_manager(), Command::InitialiseCluster(Box::new(wish)));
        assert_eq!(again.kind, RejectionKind::Conflict);
    }

    #[test]
    fn a_new_leader_knows_of_no_node() {
        let mut story = Story::with_worker();
        let [lost, silent] = [20, 21].map(|bits| story.join(bits));
        for (session, node) in [(1, manager()), (2, worker()), (3, lost)] {
            story.given([registered(node, session)]);
        }
        let last_heard = events::Timestamp::default();
        story.given([Kind::NodeDeclaredDown(NodeDeclaredDown { node: lost, last_heard, unheard: None })]);
        assert_eq!(story.accept(&this_manager(), assume()).events.len(), 1);
        let liveness = |node| story.state.nodes.get(node).map(|node| node.liveness);
        assert_eq!([manager(), worker(), silent].map(liveness), [Some(Liveness::Unknown); 3]);
        assert_eq!(liveness(lost), Some(Liveness::Down));
    }

    #[test]
    fn hashes_are_noted() {
        let mut story = Story::with_worker();
        let decision =
            story.accept(&this_manager(), Command::RecordStateHash(crate::RecordStateHash { index: 9, hash: [3; 16] }));
        let recorded = StateHashRecorded { at_index: 9, hash: vec![3; 16], fold_version: Some(FOLD_VERSION) };
        assert_eq!(decision.events, [Kind::StateHashRecorded(recorded)]);
    }

    #[test]
    fn settings_change_only_from_the_present_version_and_only_if_they_differ() {
        let mut story = Story::with_worker();
        let spec = ClusterSpec { heartbeat_grace: Some(5), ..Default::default() };
        let version = story.state.settings.version;
        let stale = story.refuse(&operator(), update(spec.clone(), Some(version + 1)));
        assert_eq!(stale.kind, RejectionKind::Conflict);
        assert!(stale.sentence.contains(&format!("version {version},")), "{}", stale.sentence);

        assert_eq!(story.accept(&operator(), update(spec.clone(), Some(version))).events.len(), 1);
        assert_eq!(story.state.spec().heartbeat_grace, Some(5));
        assert_eq!(story.accept(&operator(), update(spec, None)).events, []);

        let wrong = ClusterSpec { heartbeat_grace: Some(0), ..Default::default() };
        assert_eq!(story.refuse(&operator(), update(wrong, None)).kind, RejectionKind::Invalid);
    }

    #[test]
    fn a_new_token_replaces_the_old_one() {
        let mut story = Story::with_worker();
        let token = SecretText("SWMTKN-1-new".into());
        let command =
            Command::RotateJoinToken(crate::RotateJoinToken { role: Role::Worker, token, secret_sha256: [9; 32] });
        let decision = story.accept(&operator(), command);
        assert_eq!(decision.volatile, [VolatilePayload::keep("join-token/worker", "SWMTKN-1-new")]);
        assert_eq!(story.state.settings.token_sha256(Role::Worker), [9; 32]);
        assert_eq!(story.state.settings.token_sha256(Role::Manager), initialise_wish().manager_token.1);
    }

    #[test]
    fn a_removed_node_stays_unknown_to_a_new_leader() {
        let mut story = Story::with_worker();
        story.given([removed(worker())]);
        assert_eq!(story.accept(&this_manager(), assume()).events.len(), 1);
    }
}
