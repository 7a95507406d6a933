//! Commands: converts client requests into core requests, and outcomes into responses.

use std::collections::BTreeSet;
use std::mem::take;

use commands::{
    Actor, Command, ExpectedVersion, Rejection, RejectionKind, SecretBytes, SecretText, ServiceSecrets, require_level,
};
use events::frame::JOINED_LEVEL;
use events::spec::secret_key;
use events::{CommandId, ServiceSpec};
use projections::Cluster;
use projections::views::overview::{
    resolve_config, resolve_node, resolve_operator, resolve_secret, resolve_service, resolve_sink, resolve_task,
};
use wire::v1::command_request::Command as Asked;
use wire::v1::{
    CommandReply, CommandRequest, CreateService, EnvSecretValue, FindPointRequest, ReadObject, TagHistory,
    UpdateCluster, UpdateSecret, UpdateService,
};

use crate::manager::replica::{Outcome, Request};
use crate::security::{JoinToken, RootCertificate};

use super::Control;
use super::unlock::unlock_key;

/// Maximum bytes of a reason.
const REASON_BYTES_MAX: usize = 512;

/// Maximum objects that a command may require to be unchanged: more than the largest stack has.
const UNCHANGED_MAX: usize = 4_000;

/// Maximum commands joined to another one: all of them are judged in one turn.
const JOINED_MAX: usize = 256;

/// The result of receiving a command request.
#[derive(Debug)]
pub enum Received {
    /// It already took effect: the original response.
    Answered(CommandReply),
    /// It must be judged by the core.
    New(Box<Request>),
}

impl Control {
    /// Receives a command request. If it cannot be resolved, it may be a repetition, which gets the original response: the
    /// command itself may have removed what it refers to. Any other repetition is detected where it is judged.
    ///
    /// # Errors
    /// When the request is malformed, or a reference matches no object or more than one.
    pub fn receive(&self, actor: Actor, request: CommandRequest) -> Result<Received, Rejection> {
        let id = request.id;
        if id == CommandId::default() {
            return Err(Rejection::invalid("command", "the command has no id", "make a random id for each command"));
        }
        self.resolve(&actor, request).map(Received::New).or_else(|refused| {
            let answer = self.state.cluster.requests.answer(&actor.record(None), id).ok_or(refused)?;
            Ok(Received::Answered(CommandReply { index: answer.index, subject: answer.subject, joined: Vec::new() }))
        })
    }

    /// The response to a request, including the responses of joined commands.
    pub fn answer(&self, reply: CommandReply, actor: &Actor, joined: &[CommandId]) -> CommandReply {
        let (actor, requests) = (actor.record(None), &self.state.cluster.requests);
        let joined = joined.iter().map(|id| {
            let answer = requests.answer(&actor, *id);
            let index = answer.as_ref().map_or(reply.index, |answer| answer.index);
            CommandReply { index, subject: answer.and_then(|answer| answer.subject), joined: Vec::new() }
        });
        CommandReply { joined: joined.collect(), ..reply }
    }

    /// Resolves a request and those joined to it. They may refer to objects that previous commands among them create.
    fn resolve(&self, actor: &Actor, mut request: CommandRequest) -> Result<Box<Request>, Rejection> {
        let joined = take(&mut request.joined);
        may_be_joined(&self.state.cluster, &joined)?;
        let mut created = CreatedNames::default();
        created.note(&request);
        let mut first = self.resolve_one(actor, request, &CreatedNames::default())?;
        for request in joined {
            created.note(&request);
            first.joined.push(*self.resolve_one(actor, request, &created)?);
        }
        Ok(first)
    }

    fn resolve_one(
        &self,
        actor: &Actor,
        request: CommandRequest,
        created: &CreatedNames,
    ) -> Result<Box<Request>, Rejection> {
        let CommandRequest { id, reason, correlation, undoes, unchanged, command, joined: _ } = request;
        check_reason(reason.as_deref())?;
        let command = to_command(self, command.ok_or_else(unknown_command)?, created)?;
        if unchanged.len() > UNCHANGED_MAX {
            let sentence =
                format!("{} objects that are to be as they were are more than {UNCHANGED_MAX}", unchanged.len());
            return Err(Rejection::invalid("plan", sentence, "make several plans"));
        }
        let unchanged = unchanged.into_iter().map(expected_version).collect();
        let actor = actor.clone();
        let (causation, joined) = (undoes, Vec::new());
        Ok(Box::new(Request { id, actor, command, reason, correlation, causation, unchanged, joined }))
    }
}

/// Checks whether these commands may be joined to another one.
fn may_be_joined(cluster: &Cluster, joined: &[CommandRequest]) -> Result<(), Rejection> {
    let invalid = |sentence: String| Rejection::invalid("command", sentence, "do it in several steps");
    if joined.len() > JOINED_MAX {
        return Err(invalid(format!("{} commands joined to one are more than {JOINED_MAX}", joined.len())));
    }
    if joined.iter().any(|joined| joined.id == CommandId::default() || !joined.joined.is_empty()) {
        return Err(invalid("a command that is joined to another has an id, and none joined to it".to_owned()));
    }
    if joined.is_empty() {
        Ok(())
    } else {
        require_level(cluster, JOINED_LEVEL, "command", "changes that are made together")
    }
}

/// Names of configs and secrets created by commands in the same turn, which have no ids yet.
#[derive(Debug, Default)]
pub(super) struct CreatedNames {
    configs: BTreeSet<String>,
    secrets: BTreeSet<String>,
}

impl CreatedNames {
    fn note(&mut self, request: &CommandRequest) {
        if let Some(Asked::CreateConfig(create)) = &request.command {
            self.configs.insert(create.spec.name().to_owned());
        }
        if let Some(Asked::CreateSecret(create)) = &request.command {
            self.secrets.insert(create.spec.name().to_owned());
        }
    }
}

fn expected_version(read: ReadObject) -> ExpectedVersion {
    ExpectedVersion { subject: format!("{} {}", read.kind, read.name), id: read.id, version: read.version }
}

/// The response to the caller: the index of the frame and the object of the command.
///
/// # Errors
/// When the command was refused, or its outcome is unknown.
pub fn reply(outcome: Outcome) -> Result<CommandReply, Rejection> {
    match outcome {
        Outcome::Committed { index, subject } => Ok(CommandReply { index, subject, joined: Vec::new() }),
        Outcome::Rejected(rejection) => Err(rejection),
        Outcome::Unknown => {
            let sentence = "the manager stopped or lost its leadership while the command was in progress: it may have taken effect";
            let hint = "check whether it did, and repeat it if not; repeated with the same command id, it never takes effect twice";
            Err(Rejection::new(RejectionKind::Unavailable, "cluster", sentence, hint))
        }
    }
}

/// Refuses a reason that is too long.
pub(super) fn check_reason(reason: Option<&str>) -> Result<(), Rejection> {
    if reason.is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
        let sentence = format!("the reason is longer than {REASON_BYTES_MAX} bytes");
        return Err(Rejection::invalid("reason", sentence, "give a shorter reason"));
    }
    Ok(())
}

pub(super) fn unknown_command() -> Rejection {
    Rejection::invalid(
        "command",
        "the request contains no command that this manager supports",
        "use the swarmctl of this version",
    )
}

/// The command of a client, with its references resolved, except those to objects created in the same turn.
pub(super) fn to_command(control: &Control, asked: Asked, created: &CreatedNames) -> Result<Command, Rejection> {
    let cluster = &control.state.cluster;
    let node = |reference: &str| resolve_node(cluster, reference);
    let service = |reference: &str| resolve_service(cluster, reference);
    let config = |reference: &str| resolve_config(cluster, reference);
    let sink = |reference: &str| resolve_sink(cluster, reference);
    Ok(match asked {
        Asked::UpdateCluster(asked) => update_cluster(control, asked)?.into(),
        Asked::RotateJoinToken(asked) => new_join_token(cluster, asked.role())?,
        Asked::RotateRoot(asked) => control.rotate_root(asked.cert_pem.as_deref())?,
        Asked::RotateUnlockKey(_) => commands::RotateUnlockKey { key: unlock_key()? }.into(),
        Asked::TagHistory(asked) => tag_history(control, asked)?.into(),
        Asked::UntagHistory(asked) => commands::UntagHistory { name: asked.name }.into(),
        Asked::RedactHistory(asked) => control.redact_history(asked)?.into(),
        Asked::UpdateNode(asked) => {
            commands::UpdateNode { node: node(&asked.node)?, spec: asked.spec, version: asked.version }.into()
        }
        Asked::RemoveNode(asked) => commands::RemoveNode { node: node(&asked.node)?, force: asked.force }.into(),
        Asked::CreateService(asked) => create_service(cluster, asked, created)?.into(),
        Asked::UpdateService(asked) => update_service(cluster, asked, created)?.into(),
        Asked::ScaleService(asked) => {
            commands::ScaleService { service: service(&asked.service)?, replicas: asked.replicas }.into()
        }
        Asked::RollbackService(asked) => {
            let service = service(&asked.service)?;
            let to = asked.revision.map(|revision| control.revision(service, revision)).transpose()?;
            commands::RollbackService { service, to: to.map(Box::new) }.into()
        }
        Asked::PauseUpdate(asked) => commands::PauseUpdate { service: service(&asked.service)? }.into(),
        Asked::ResumeUpdate(asked) => commands::ResumeUpdate { service: service(&asked.service)? }.into(),
        Asked::RemoveService(asked) => commands::RemoveService { service: service(&asked.service)? }.into(),
        Asked::RemoveTask(asked) => commands::RemoveTask { task: resolve_task(cluster, &asked.task)? }.into(),
        Asked::CreateConfig(asked) => commands::CreateConfig { spec: asked.spec, data: asked.data }.into(),
        Asked::UpdateConfig(asked) => {
            let (config, version) = (config(&asked.config)?, asked.version);
            commands::UpdateConfig { config, spec: asked.spec, data: asked.data, version }.into()
        }
        Asked::RemoveConfig(asked) => commands::RemoveConfig { config: config(&asked.config)? }.into(),
        Asked::CreateSecret(mut asked) => {
            let data = SecretBytes(take(&mut asked.data));
            commands::CreateSecret { spec: take(&mut asked.spec), data }.into()
        }
        Asked::UpdateSecret(asked) => update_secret(control, asked)?.into(),
        Asked::RemoveSecret(asked) => commands::RemoveSecret { secret: resolve_secret(cluster, &asked.secret)? }.into(),
        Asked::RevokeOperator(asked) => {
            commands::RevokeOperator { operator: resolve_operator(cluster, &asked.operator)? }.into()
        }
        Asked::CreateSink(mut asked) => {
            let (mut spec, key) = (take(&mut asked.spec), asked.key.take().map(SecretBytes));
            super::sinks::require_directory(&spec, control.manager.has_sink_dir)?;
            super::sinks::resolve_filters(cluster, &mut spec)?;
            commands::CreateSink { spec, from: asked.from, key }.into()
        }
        Asked::RemoveSink(asked) => commands::RemoveSink { sink: sink(&asked.sink)? }.into(),
        Asked::PauseSink(asked) => commands::PauseSink { sink: sink(&asked.sink)? }.into(),
        Asked::ResumeSink(asked) => commands::ResumeSink { sink: sink(&asked.sink)? }.into(),
    })
}

fn update_cluster(control: &Control, asked: UpdateCluster) -> Result<commands::UpdateCluster, Rejection> {
    control.judge_external_cas(&asked.spec)?;
    Ok(commands::UpdateCluster {
        unlock_key: control.first_unlock_key(&asked.spec)?,
        archive_key: control.first_archive_key(&asked.spec)?,
        spec: asked.spec,
        version: asked.version,
    })
}

fn tag_history(control: &Control, asked: TagHistory) -> Result<commands::TagHistory, Rejection> {
    let index = asked.index.unwrap_or(control.state.cluster.position.index);
    let point = control.find_point(&FindPointRequest { index: Some(index), ..Default::default() })?;
    Ok(commands::TagHistory { name: asked.name, index: point.index, time: point.log_time })
}

fn create_service(
    cluster: &Cluster,
    asked: CreateService,
    created: &CreatedNames,
) -> Result<commands::CreateService, Rejection> {
    Ok(commands::CreateService {
        spec: with_files(cluster, asked.spec, created)?,
        secrets: service_secrets(asked.registry_auth, asked.env_secrets),
    })
}

fn update_service(
    cluster: &Cluster,
    asked: UpdateService,
    created: &CreatedNames,
) -> Result<commands::UpdateService, Rejection> {
    Ok(commands::UpdateService {
        service: resolve_service(cluster, &asked.service)?,
        spec: with_files(cluster, asked.spec, created)?,
        version: asked.version,
        secrets: service_secrets(asked.registry_auth, asked.env_secrets),
    })
}

/// Adds ids to the configs and secrets that the spec refers to only by name, if they exist.
fn with_files(
    cluster: &Cluster,
    mut spec: Box<ServiceSpec>,
    created: &CreatedNames,
) -> Result<Box<ServiceSpec>, Rejection> {
    let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut()) else { return Ok(spec) };
    let configs = container.configs.iter_mut().filter(|reference| reference.config.is_none());
    for reference in configs.filter(|reference| !created.configs.contains(&reference.name)) {
        reference.config = Some(resolve_config(cluster, &reference.name)?);
    }
    let secrets = container.secrets.iter_mut().filter(|reference| reference.secret.is_none());
    for reference in secrets.filter(|reference| !created.secrets.contains(&reference.name)) {
        reference.secret = Some(resolve_secret(cluster, &reference.name)?);
    }
    Ok(spec)
}

/// An update of a secret. The data is omitted if it is unchanged, because only the keyring can compare it.
fn update_secret(control: &Control, mut asked: UpdateSecret) -> Result<commands::UpdateSecret, Rejection> {
    let secret = resolve_secret(&control.state.cluster, &asked.secret)?;
    let (mut spec, mut data) = (take(&mut asked.spec), take(&mut asked.data).map(SecretBytes));
    let present = control.state.cluster.secrets.get(secret).filter(|_| asked.if_changed);
    let newest = present.and_then(|present| control.state.keyring.get(&secret_key(secret, present.newest())));
    if let (Some(present), Some(newest), Some(given)) = (present, newest, &data)
        && newest.reveal() == given.0.as_slice()
    {
        data = None;
        spec = spec.or_else(|| Some((*present.spec).clone()));
    }
    Ok(commands::UpdateSecret { secret, spec, data, version: asked.version })
}

fn service_secrets(registry_auth: Option<String>, env: Vec<EnvSecretValue>) -> ServiceSecrets {
    let taken = |mut secret: EnvSecretValue| (take(&mut secret.name), SecretText(take(&mut secret.value)));
    let env = env.into_iter().map(taken);
    ServiceSecrets { registry_auth: registry_auth.map(SecretText), env: env.collect() }
}

/// A new join token. It is created here because it needs randomness, which the core does not have.
///
/// # Errors
/// When the system provides no random bytes.
pub(crate) fn new_join_token(cluster: &Cluster, role: events::Role) -> Result<Command, Rejection> {
    let broken = |why: String| Rejection::new(RejectionKind::Unavailable, "join token", why, "report this as a bug");
    let root = RootCertificate::from_pem(&cluster.settings.root_cert_pem).map_err(|error| broken(error.to_string()))?;
    let token = JoinToken::generate(&root).ok_or_else(|| broken("the system provides no random bytes".to_owned()))?;
    let secret_sha256 = token.secret_sha256();
    Ok(Command::RotateJoinToken(commands::RotateJoinToken {
        role,
        token: SecretText(token.to_string()),
        secret_sha256,
    }))
}

#[cfg(test)]
mod tests {
    use events::{Event, FeatureLevelRaised, Id, Kind};
    use projections::Stamp;

    use super::*;

    #[test]
    fn commands_are_joined_where_every_manager_knows_what_that_means() {
        let mut cluster = Cluster::default();
        let named = CommandRequest { id: CommandId::from_bits(1), ..CommandRequest::default() };
        let (many, nested) = (vec![named.clone(); JOINED_MAX + 1], vec![named.clone()]);
        let nested = CommandRequest { joined: nested, ..named.clone() };
        let refusal = |cluster: &Cluster, joined: &[CommandRequest]| {
            may_be_joined(cluster, joined).err().map(|refused| (refused.kind, refused.sentence))
        };
        let (kind, sentence) = refusal(&cluster, &many[..1]).expect("it would do each alone");
        assert!(kind == RejectionKind::Conflict && sentence.contains("not every manager"), "{sentence}");
        assert_eq!(refusal(&cluster, &[]), None);
        let raised = Kind::FeatureLevelRaised(FeatureLevelRaised { level: JOINED_LEVEL });
        cluster.apply(&Event::by_command(0, raised), &Stamp::default());
        assert_eq!(refusal(&cluster, &many[1..]), None);
        for joined in [&many[..], &[CommandRequest::default()], &[nested]] {
            assert_eq!(refusal(&cluster, joined).map(|(kind, _)| kind), Some(RejectionKind::Invalid));
        }
    }
}
