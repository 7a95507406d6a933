//! The control API: commands and reads for operators.

use std::pin::Pin;
use std::sync::Arc;

use commands::{Actor, Command, Rejection, SecretText, ServiceSecrets};
use events::CommandId;
use futures_util::Stream;
use projections::views::overview::{resolve_node, resolve_service, resolve_task};
use projections::{Cluster, Task};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use wire::v1::command_request::Command as Wish;
use wire::v1::control_server::Control;
use wire::v1::{
    ClusterView, CommandReply, CommandRequest, EnvSecretValue, EventRecord, EventsRequest, GetClusterRequest,
    ListNodesRequest, ListServicesRequest, ListTasksRequest, NodeList, ServiceList, TaskList, VersionReply,
    VersionRequest,
};

use crate::driver::Request as CoreRequest;
use crate::security::{Allowed, JoinToken, Peer, RootCertificate};

use super::{Context, events as history, refusal, status, views};

/// Longest reason that is kept, in bytes.
const REASON_BYTES_MAX: usize = 512;

/// The service behind the control socket.
pub struct ControlApi {
    context: Context,
    /// Room for streams of events.
    streams: Arc<Semaphore>,
}

impl ControlApi {
    /// The service of this manager.
    pub fn new(context: Context) -> Self {
        Self { context, streams: Arc::new(Semaphore::new(history::STREAMS_MAX)) }
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<Peer, Status> {
        Ok(self.context.gate().require(request, Allowed::Managers)?)
    }
}

#[tonic::async_trait]
impl Control for ControlApi {
    async fn execute(&self, request: Request<CommandRequest>) -> Result<Response<CommandReply>, Status> {
        let actor = self.context.actor(&self.caller(&request)?);
        let request = request.into_inner();
        if request.id == CommandId::default() {
            return Err(status(Rejection::invalid(
                "command",
                "the command has no id",
                "make a random id for each command",
            )));
        }
        if request.reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
            let sentence = format!("the reason is longer than {REASON_BYTES_MAX} bytes");
            return Err(status(Rejection::invalid("reason", sentence, "give a shorter reason")));
        }
        let state = self.context.state();
        if let Some(first) = first_answer(&state.cluster, &actor, request.id) {
            return Ok(Response::new(first));
        }
        let wish = request.command.ok_or_else(unknown_command)?;
        let command = to_command(&state.cluster, wish).map_err(status)?;
        let (id, reason, correlation) = (request.id, request.reason, request.correlation);
        let request = CoreRequest { id, actor, command, reason, correlation };
        let (index, subject) = refusal::execute(&self.context, request).await?;
        Ok(Response::new(CommandReply { index, subject }))
    }

    async fn get_version(&self, request: Request<VersionRequest>) -> Result<Response<VersionReply>, Status> {
        self.caller(&request)?;
        Ok(Response::new(VersionReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            feature_level: events::frame::FEATURE_LEVEL,
            node_id: self.context.node.to_string(),
            hostname: self.context.hostname.clone(),
        }))
    }

    async fn get_cluster(&self, request: Request<GetClusterRequest>) -> Result<Response<ClusterView>, Status> {
        self.caller(&request)?;
        let head = self.context.store.applied().map_err(|error| Status::internal(error.to_string()))?.frame;
        Ok(Response::new(views::cluster(&self.context.state(), &self.context.remote_addr, head)))
    }

    async fn list_nodes(&self, request: Request<ListNodesRequest>) -> Result<Response<NodeList>, Status> {
        self.caller(&request)?;
        let state = self.context.state();
        let cluster = &state.cluster;
        let wanted = request.into_inner().nodes;
        let nodes = if wanted.is_empty() {
            cluster.nodes.values().map(|node| views::node(cluster, node, self.context.node)).collect()
        } else {
            let ids = wanted.iter().map(|reference| resolve_node(cluster, reference));
            let ids: Vec<_> = ids.collect::<Result<_, _>>().map_err(|error| status(error.into()))?;
            let found = ids.into_iter().filter_map(|id| cluster.nodes.get(id));
            found.map(|node| views::node(cluster, node, self.context.node)).collect()
        };
        Ok(Response::new(NodeList { nodes }))
    }

    async fn list_services(&self, request: Request<ListServicesRequest>) -> Result<Response<ServiceList>, Status> {
        self.caller(&request)?;
        let state = self.context.state();
        let cluster = &state.cluster;
        let wanted = request.into_inner().services;
        let services = if wanted.is_empty() {
            cluster.services.values().map(|service| views::service(&state, service)).collect()
        } else {
            let ids = wanted.iter().map(|reference| resolve_service(cluster, reference));
            let ids: Vec<_> = ids.collect::<Result<_, _>>().map_err(|error| status(error.into()))?;
            ids.into_iter()
                .filter_map(|id| cluster.services.get(id))
                .map(|service| views::service(&state, service))
                .collect()
        };
        Ok(Response::new(ServiceList { services }))
    }

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Result<Response<TaskList>, Status> {
        self.caller(&request)?;
        let state = self.context.state();
        let request = request.into_inner();
        let tasks = select_tasks(&state.cluster, &request).map_err(status)?;
        Ok(Response::new(views::tasks(&state.cluster, &request, tasks)))
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<EventRecord, Status>> + Send>>;

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        self.caller(&request)?;
        let stream = history::stream(&self.context, &self.streams, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }
}

/// The answer that a command got when it took effect. It is looked for before anything else of a repetition is judged: what it
/// names may be gone by that very command.
pub fn first_answer(cluster: &Cluster, actor: &Actor, id: CommandId) -> Option<CommandReply> {
    let answer = cluster.requests.answer(&actor.record(None), id)?;
    Some(CommandReply { index: answer.index, subject: answer.subject.as_deref().map(str::to_owned) })
}

fn unknown_command() -> Status {
    status(Rejection::invalid(
        "command",
        "the request holds no command that this manager knows",
        "use the swarmctl of this version",
    ))
}

/// What a client asks, with its references resolved.
///
/// # Errors
/// When a reference names nothing, or more than one object.
pub fn to_command(cluster: &Cluster, wish: Wish) -> Result<Command, Rejection> {
    Ok(match wish {
        Wish::UpdateCluster(wish) => Command::UpdateCluster { spec: wish.spec, version: wish.version },
        Wish::RotateJoinToken(wish) => rotate(cluster, wish.role())?,
        Wish::UpdateNode(wish) => {
            Command::UpdateNode { node: resolve_node(cluster, &wish.node)?, spec: wish.spec, version: wish.version }
        }
        Wish::RemoveNode(wish) => Command::RemoveNode { node: resolve_node(cluster, &wish.node)?, force: wish.force },
        Wish::CreateService(wish) => Command::CreateService {
            spec: Box::new(wish.spec),
            secrets: service_secrets(wish.registry_auth, wish.env_secrets),
        },
        Wish::UpdateService(wish) => Command::UpdateService {
            service: resolve_service(cluster, &wish.service)?,
            spec: Box::new(wish.spec),
            version: wish.version,
            secrets: service_secrets(wish.registry_auth, wish.env_secrets),
        },
        Wish::ScaleService(wish) => {
            Command::ScaleService { service: resolve_service(cluster, &wish.service)?, replicas: wish.replicas }
        }
        Wish::RemoveService(wish) => Command::RemoveService { service: resolve_service(cluster, &wish.service)? },
        Wish::RemoveTask(wish) => Command::RemoveTask { task: resolve_task(cluster, &wish.task)? },
    })
}

fn service_secrets(registry_auth: Option<String>, env: Vec<EnvSecretValue>) -> ServiceSecrets {
    let env = env.into_iter().map(|secret| (secret.name, SecretText(secret.value)));
    ServiceSecrets { registry_auth: registry_auth.map(SecretText), env: env.collect() }
}

/// A new token needs randomness, which the core does not have.
fn rotate(cluster: &Cluster, role: events::Role) -> Result<Command, Rejection> {
    let broken =
        |why: String| Rejection::new(commands::RejectionKind::Unavailable, "join token", why, "report this as a bug");
    let root = RootCertificate::from_pem(&cluster.settings.root_cert_pem).map_err(|error| broken(error.to_string()))?;
    let token = JoinToken::generate(&root).ok_or_else(|| broken("this machine gives no random bytes".to_owned()))?;
    let secret_sha256 = token.secret_sha256();
    Ok(Command::RotateJoinToken { role, token: SecretText(token.to_string()), secret_sha256 })
}

/// The tasks that a request names, in the order of their services, slots and ages.
///
/// # Errors
/// When a reference names nothing, or more than one object.
pub fn select_tasks<'a>(cluster: &'a Cluster, request: &ListTasksRequest) -> Result<Vec<&'a Task>, Rejection> {
    let mut tasks: Vec<&Task> = match (&request.service, &request.node) {
        (Some(service), _) => cluster.tasks_of_service(resolve_service(cluster, service)?).collect(),
        (None, Some(node)) => cluster.tasks_of_node(resolve_node(cluster, node)?).collect(),
        (None, None) => cluster.tasks.values().collect(),
    };
    if let (Some(_), Some(node)) = (&request.service, &request.node) {
        let node = resolve_node(cluster, node)?;
        tasks.retain(|task| task.node == Some(node));
    }
    if !request.tasks.is_empty() {
        let wanted = request.tasks.iter().map(|reference| resolve_task(cluster, reference));
        let wanted: Vec<_> = wanted.collect::<Result<_, _>>()?;
        tasks.retain(|task| wanted.contains(&task.id));
    }
    if request.live == Some(true) {
        tasks.retain(|task| task.is_wanted());
    }
    tasks.sort_by_key(|task| {
        (cluster.spec_of(task).name(), task.instance(), std::cmp::Reverse(task.created_index), task.id)
    });
    Ok(tasks)
}
