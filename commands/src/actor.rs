//! Actors, and whether they may issue a command.

use events::{ActorKind, ActorRecord, Named, NodeId, OperatorRole, Role};

use crate::verb::AllowedActor;
use crate::{Command, Rejection, RejectionKind};

/// The source of a command: determined by the server from the connection, never taken from the client.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Actor {
    /// A person or a tool at a manager's local control API, by local user name.
    Operator(String),
    /// A person or a tool with an operator's certificate.
    CertifiedOperator {
        /// The operator's name.
        name: String,
        /// Their permissions.
        role: OperatorRole,
    },
    /// A node, by its certificate.
    Node {
        /// The node's id.
        id: NodeId,
        /// The role in its certificate.
        role: Role,
    },
    /// A client without a certificate, which may hold a join token; by network address.
    Joiner(String),
    /// The manager itself.
    Manager(NodeId),
}

impl Actor {
    /// The record of this actor in the log.
    pub fn record(&self, via: Option<NodeId>) -> ActorRecord {
        let (kind, subject) = match self {
            Actor::Operator(name) => (ActorKind::Operator, name.clone()),
            Actor::CertifiedOperator { name, .. } => (ActorKind::CertifiedOperator, name.clone()),
            Actor::Node { id, .. } => (ActorKind::Node, id.to_string()),
            Actor::Joiner(addr) => (ActorKind::Joiner, addr.clone()),
            Actor::Manager(id) => (ActorKind::Manager, id.to_string()),
        };
        ActorRecord { kind: kind.into(), subject, via }
    }

    /// Rejects commands that this actor may not issue: the only table of roles.
    ///
    /// # Errors
    /// Forbidden, with an explanation.
    pub fn may(&self, command: &Command) -> Result<(), Rejection> {
        let allowed = match command.verb().allowed_actor() {
            AllowedActor::Operator(least) => match self {
                Actor::Operator(_) | Actor::Node { role: Role::Manager, .. } => true,
                Actor::CertifiedOperator { role, .. } => *role >= least,
                Actor::Node { role: Role::Worker, .. } | Actor::Joiner(_) | Actor::Manager(_) => false,
            },
            AllowedActor::Node(node) => self.is(node),
            AllowedActor::NodeOrThisManager(node) => self.is(node) || matches!(self, Actor::Manager(_)),
            AllowedActor::Joiner => matches!(self, Actor::Joiner(_)),
            AllowedActor::ThisManager => matches!(self, Actor::Manager(_)),
        };
        if allowed { Ok(()) } else { Err(self.forbidden(command)) }
    }

    fn is(&self, node: NodeId) -> bool {
        matches!(self, Actor::Node { id, .. } if *id == node)
    }

    fn forbidden(&self, command: &Command) -> Rejection {
        let who = match self {
            Actor::Operator(name) => format!("operator {name}"),
            Actor::CertifiedOperator { name, role } => format!("operator {name}, who has the role {},", role.name()),
            Actor::Node { id, role: Role::Worker } => format!("worker {id}"),
            Actor::Node { id, role: Role::Manager } => format!("manager {id}"),
            Actor::Joiner(addr) => format!("a caller without a certificate at {addr}"),
            Actor::Manager(id) => format!("this manager ({id})"),
        };
        let hint = match self {
            Actor::CertifiedOperator { .. } => "ask an operator with a higher role, or use a manager's control socket",
            Actor::Operator(_) | Actor::Node { .. } | Actor::Joiner(_) | Actor::Manager(_) => {
                "ask on a manager's control socket, or with the certificate of the node that it is about"
            }
        };
        Rejection::new(
            RejectionKind::Forbidden,
            command.name(),
            format!("{who} may not ask for {}", command.name()),
            hint,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{initialise_request, joiner, manager, node, operator, session, this_manager, web, worker};
    use crate::{SecretText, ServiceSecrets};
    use events::{ClusterSpec, Id, NodeDescription, NodeSpec, ServiceId, TaskId, Timestamp};

    /// What each may do: a local operator, a manager's certificate, the node itself, another worker, a joiner, the manager, then
    /// operators with a certificate: a viewer, an operator, an admin.
    const ADMINS: [bool; 9] = [true, true, false, false, false, false, false, false, true];
    const OPERATORS: [bool; 9] = [true, true, false, false, false, false, false, true, true];
    const VIEWERS: [bool; 9] = [true, true, false, false, false, false, true, true, true];
    const NODE_ITSELF: [bool; 9] = [false, false, true, false, false, false, false, false, false];
    const THIS_MANAGER: [bool; 9] = [false, false, false, false, false, true, false, false, false];
    const JOINER: [bool; 9] = [false, false, false, false, true, false, false, false, false];
    const NODE_OR_THIS_MANAGER: [bool; 9] = [false, false, true, false, false, true, false, false, false];

    fn actors() -> [Actor; 9] {
        let other_manager = Actor::Node { id: manager(), role: Role::Manager };
        let certified = |role| Actor::CertifiedOperator { name: "ada".to_owned(), role };
        let [viewer, ops, admin] = [OperatorRole::Viewer, OperatorRole::Operator, OperatorRole::Admin].map(certified);
        let other_worker = node(NodeId::from_bits(9));
        [operator(), other_manager, node(worker()), other_worker, joiner(), this_manager(), viewer, ops, admin]
    }

    fn commands() -> Vec<(Command, [bool; 9])> {
        let (node, session, service, version) = (worker(), session(1), ServiceId::default(), None);
        let description = Box::new(NodeDescription::default());
        let (role, not_after, task) = (Role::Worker, Timestamp::default(), TaskId::default());
        let token = SecretText(String::new());
        vec![
            (Command::InitialiseCluster(Box::new(initialise_request())), THIS_MANAGER),
            (
                Command::AssumeLeadership(crate::AssumeLeadership {
                    node,
                    term: 1,
                    version: String::new(),
                    feature_level_max: 1,
                }),
                THIS_MANAGER,
            ),
            (Command::RecordStateHash(crate::RecordStateHash { index: 1, hash: [0; 16] }), THIS_MANAGER),
            (
                Command::UpdateCluster(crate::UpdateCluster {
                    spec: ClusterSpec::default(),
                    version,
                    unlock_key: None,
                    archive_key: None,
                }),
                ADMINS,
            ),
            (Command::RotateUnlockKey(crate::RotateUnlockKey { key: SecretText(String::new()) }), ADMINS),
            (Command::RotateJoinToken(crate::RotateJoinToken { role, token, secret_sha256: [0; 32] }), ADMINS),
            (
                Command::RotateRoot(Box::new(crate::RotateRoot {
                    cert_pem: String::new(),
                    digest: String::new(),
                    cross_cert_pem: String::new(),
                    key_pem: SecretText(String::new()),
                    worker_token: (SecretText(String::new()), [0; 32]),
                    manager_token: (SecretText(String::new()), [0; 32]),
                })),
                ADMINS,
            ),
            (Command::MoveNodeToRoot(crate::MoveNodeToRoot { node, digest: String::new() }), NODE_ITSELF),
            (
                Command::JoinNode(crate::JoinNode {
                    secret_sha256: [0; 32],
                    hostname: String::new(),
                    addr: String::new(),
                }),
                JOINER,
            ),
            (
                Command::CertifyNode(crate::CertifyNode { node, role, cert_pem: String::new(), not_after }),
                NODE_OR_THIS_MANAGER,
            ),
            (
                Command::AnnounceManager(crate::AnnounceManager {
                    node,
                    raft_id: 7,
                    addr: String::new(),
                    feature_level_max: 1,
                    audit_key: None,
                }),
                NODE_OR_THIS_MANAGER,
            ),
            (Command::ForceQuorum(crate::ForceQuorum { node, raft_id: 7, cluster: None }), THIS_MANAGER),
            (
                Command::RegisterNode(crate::RegisterNode { node, session, description, addr: String::new() }),
                NODE_ITSELF,
            ),
            (Command::HearNode(crate::HearNode { node, session }), NODE_ITSELF),
            (Command::DisconnectNode(crate::DisconnectNode { node, session }), THIS_MANAGER),
            (Command::UpdateNode(crate::UpdateNode { node, spec: NodeSpec::default(), version }), ADMINS),
            (Command::RemoveNode(crate::RemoveNode { node, force: false }), ADMINS),
            (Command::LeaveNode(crate::LeaveNode { node }), NODE_ITSELF),
            (
                Command::CreateService(crate::CreateService {
                    spec: Box::new(web()),
                    secrets: ServiceSecrets::default(),
                }),
                OPERATORS,
            ),
            (
                Command::UpdateService(crate::UpdateService {
                    service,
                    spec: Box::new(web()),
                    version,
                    secrets: ServiceSecrets::default(),
                }),
                OPERATORS,
            ),
            (Command::ScaleService(crate::ScaleService { service, replicas: 1 }), OPERATORS),
            (Command::RollbackService(crate::RollbackService { service, to: None }), OPERATORS),
            (Command::PauseUpdate(crate::PauseUpdate { service }), OPERATORS),
            (Command::ResumeUpdate(crate::ResumeUpdate { service }), OPERATORS),
            (Command::RemoveService(crate::RemoveService { service }), OPERATORS),
            (Command::ReportTasks(crate::ReportTasks { node, session, reports: Vec::new() }), NODE_ITSELF),
            (Command::RemoveTask(crate::RemoveTask { task }), OPERATORS),
            (
                Command::AccessTask(crate::AccessTask {
                    task,
                    access: crate::Access::Exec { argv: Vec::new(), user: None },
                }),
                OPERATORS,
            ),
            (Command::AccessTask(crate::AccessTask { task, access: crate::Access::Attach }), OPERATORS),
            (
                Command::AccessTask(crate::AccessTask {
                    task,
                    access: crate::Access::Copy { path: String::new(), to_task: true },
                }),
                OPERATORS,
            ),
            (Command::CreateConfig(crate::CreateConfig { spec: Default::default(), data: Vec::new() }), OPERATORS),
            (
                Command::UpdateConfig(crate::UpdateConfig {
                    config: Default::default(),
                    spec: None,
                    data: None,
                    version: None,
                }),
                OPERATORS,
            ),
            (Command::RemoveConfig(crate::RemoveConfig { config: Default::default() }), OPERATORS),
            (
                Command::CreateSecret(crate::CreateSecret { spec: Default::default(), data: Default::default() }),
                OPERATORS,
            ),
            (
                Command::UpdateSecret(crate::UpdateSecret {
                    secret: Default::default(),
                    spec: None,
                    data: None,
                    version: None,
                }),
                OPERATORS,
            ),
            (Command::RemoveSecret(crate::RemoveSecret { secret: Default::default() }), OPERATORS),
            (
                Command::CreateOperator(crate::CreateOperator {
                    name: String::new(),
                    role: OperatorRole::Viewer,
                    not_after,
                }),
                ADMINS,
            ),
            (Command::RevokeOperator(crate::RevokeOperator { operator: Default::default() }), ADMINS),
            (Command::RenewOperator(crate::RenewOperator { operator: Default::default(), not_after }), VIEWERS),
            (Command::TagHistory(crate::TagHistory { name: String::new(), index: 0, time: not_after }), OPERATORS),
            (Command::UntagHistory(crate::UntagHistory { name: String::new() }), OPERATORS),
            (
                Command::RedactHistory(crate::RedactHistory {
                    service,
                    field: String::new(),
                    value: Default::default(),
                    digest: String::new(),
                    key: None,
                    frames: Vec::new(),
                    read_to: 0,
                }),
                ADMINS,
            ),
            (Command::ReadSecrets(crate::ReadSecrets { names: Vec::new() }), ADMINS),
            (Command::RecordRefusals(crate::RecordRefusals(Default::default())), THIS_MANAGER),
            (Command::CreateSink(crate::CreateSink { spec: Default::default(), from: None, key: None }), ADMINS),
            (Command::RemoveSink(crate::RemoveSink { sink: Default::default() }), ADMINS),
            (Command::PauseSink(crate::PauseSink { sink: Default::default() }), ADMINS),
            (Command::ResumeSink(crate::ResumeSink { sink: Default::default() }), ADMINS),
            (Command::ReportSink(crate::ReportSink { sink: Default::default(), outcome: Ok(0) }), THIS_MANAGER),
        ]
    }

    #[test]
    fn each_role_may_ask_for_its_own() {
        for (command, expected) in commands() {
            let allowed = actors().map(|actor| actor.may(&command).is_ok());
            assert_eq!(allowed, expected, "{}", command.name());
        }
    }

    #[test]
    fn a_reason_may_be_required_for_whatever_operators_ask_themselves() {
        let by_programs = ["operator.renew", "secrets.read"];
        let asked = commands().into_iter().map(|(command, _)| command);
        let asked = asked.filter(|command| matches!(command.verb().allowed_actor(), AllowedActor::Operator(_)));
        let mut asked: Vec<&str> =
            asked.map(|command| command.name()).filter(|name| !by_programs.contains(name)).collect();
        asked.sort_unstable();
        assert_eq!(asked, crate::reason::MAY_REQUIRE);
    }

    #[test]
    fn the_catalogue_has_the_name_of_each_command() {
        let names: std::collections::BTreeSet<&str> = commands().iter().map(|(command, _)| command.name()).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), events::catalogue::COMMANDS);
    }

    #[test]
    fn a_refusal_names_the_actor_and_the_wish() {
        let refused = joiner()
            .may(&Command::RemoveTask(crate::RemoveTask { task: TaskId::default() }))
            .expect_err("not for a joiner");
        assert_eq!(refused.kind, RejectionKind::Forbidden);
        assert!(refused.sentence.contains("10.0.0.9") && refused.sentence.contains("task.remove"), "{refused}");
    }
}
