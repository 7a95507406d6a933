//! The control API: commands and reads for operators.

use std::pin::Pin;
use std::sync::Arc;

use commands::{Actor, Command, Rejection, SecretText, ServiceSecrets};
use events::CommandId;
use futures_util::{Stream, stream};
use projections::Cluster;
use projections::views::overview::{resolve_node, resolve_service, resolve_task};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use wire::v1::command_request::Command as Wish;
use wire::v1::control_server::Control;
use wire::v1::{
    ClusterView, CommandReply, CommandRequest, EnvSecretValue, EventRecord, EventsRequest, GetClusterRequest,
    InspectNodesRequest, InspectServicesRequest, ListNodesRequest, ListServicesRequest, ListTasksRequest, NodeList,
    NodePage, ServiceList, ServicePage, TaskList, VersionReply, VersionRequest,
};

use crate::clock;
use crate::control::lists::{self, Pages};
use crate::control::views;
use crate::driver::Request as CoreRequest;
use crate::security::{Allowed, JoinToken, Peer, RootCertificate};

use super::{Context, events as history, refusal, status};

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
        let asked = receive(&self.context.state().cluster, actor, request.into_inner()).map_err(status)?;
        let request = match asked {
            Asked::Again(answer) => return Ok(Response::new(answer)),
            Asked::First(request) => request,
        };
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

    async fn inspect_nodes(&self, request: Request<InspectNodesRequest>) -> Result<Response<NodeList>, Status> {
        self.caller(&request)?;
        let state = self.context.state();
        let cluster = &state.cluster;
        let nodes = request.into_inner().nodes;
        let ids = nodes.iter().map(|reference| resolve_node(cluster, reference));
        let ids: Vec<_> = ids.collect::<Result<_, _>>().map_err(|error| status(error.into()))?;
        let found = ids.into_iter().filter_map(|id| cluster.nodes.get(id));
        let nodes = found.map(|node| views::node(cluster, node, self.context.node)).collect();
        Ok(Response::new(NodeList { nodes }))
    }

    async fn inspect_services(
        &self,
        request: Request<InspectServicesRequest>,
    ) -> Result<Response<ServiceList>, Status> {
        self.caller(&request)?;
        let state = self.context.state();
        let cluster = &state.cluster;
        let (services, now) = (request.into_inner().services, clock::now());
        let ids = services.iter().map(|reference| resolve_service(cluster, reference));
        let ids: Vec<_> = ids.collect::<Result<_, _>>().map_err(|error| status(error.into()))?;
        let found = ids.into_iter().filter_map(|id| cluster.services.get(id));
        let services = found.map(|service| views::service(&state, service, now)).collect();
        Ok(Response::new(ServiceList { services }))
    }

    type ListNodesStream = PageStream<NodePage>;

    async fn list_nodes(&self, request: Request<ListNodesRequest>) -> Result<Response<Self::ListNodesStream>, Status> {
        self.caller(&request)?;
        let (state, leader, request) = (self.context.state(), self.context.node, request.into_inner());
        pages(move || Ok(lists::nodes(state, &request, leader))).await
    }

    type ListServicesStream = PageStream<ServicePage>;

    async fn list_services(
        &self,
        request: Request<ListServicesRequest>,
    ) -> Result<Response<Self::ListServicesStream>, Status> {
        self.caller(&request)?;
        let (state, request) = (self.context.state(), request.into_inner());
        pages(move || Ok(lists::services(state, &request, clock::now()))).await
    }

    type ListTasksStream = PageStream<TaskList>;

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Result<Response<Self::ListTasksStream>, Status> {
        self.caller(&request)?;
        let (state, request) = (self.context.state(), request.into_inner());
        pages(move || lists::tasks(state, &request, clock::now())).await
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<EventRecord, Status>> + Send>>;

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        self.caller(&request)?;
        let stream = history::stream(&self.context, &self.streams, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Pages on their way to a client.
type PageStream<P> = Pin<Box<dyn Stream<Item = Result<P, Status>> + Send>>;

/// The pages of a list. To choose and sort objects, and to count the tasks of one, may take long: that is done where it does not
/// hold up the callers that share a serving thread, and a page at a time.
async fn pages<R: prost::Message + 'static, P: Send + 'static>(
    list: impl FnOnce() -> Result<Pages<R, P>, Rejection> + Send + 'static,
) -> Result<Response<PageStream<P>>, Status> {
    let pages = aside(list).await?.map_err(status)?;
    let stream = stream::try_unfold(pages, |mut pages| async {
        let (page, pages) = aside(move || (pages.next(), pages)).await?;
        Ok(page.map(|page| (page, pages)))
    });
    Ok(Response::new(Box::pin(stream)))
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Status::internal(error.to_string()))
}

/// What a request for a command comes to.
#[derive(Debug)]
pub enum Asked {
    /// It took effect already: its first answer.
    Again(CommandReply),
    /// The core is to judge it.
    First(CoreRequest),
}

/// Looks at a request for a command. The answer of a repeated one comes before anything else of it is judged: what it names may
/// be gone by that very command.
///
/// # Errors
/// When the request is malformed, or a reference names nothing, or more than one object.
pub fn receive(cluster: &Cluster, actor: Actor, request: CommandRequest) -> Result<Asked, Rejection> {
    let CommandRequest { id, reason, correlation, command } = request;
    if id == CommandId::default() {
        return Err(Rejection::invalid("command", "the command has no id", "make a random id for each command"));
    }
    if let Some(answer) = cluster.requests.answer(&actor.record(None), id) {
        let subject = answer.subject.as_deref().map(str::to_owned);
        return Ok(Asked::Again(CommandReply { index: answer.index, subject }));
    }
    if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
        let sentence = format!("the reason is longer than {REASON_BYTES_MAX} bytes");
        return Err(Rejection::invalid("reason", sentence, "give a shorter reason"));
    }
    let command = to_command(cluster, command.ok_or_else(unknown_command)?)?;
    Ok(Asked::First(CoreRequest { id, actor, command, reason, correlation }))
}

fn unknown_command() -> Rejection {
    Rejection::invalid(
        "command",
        "the request holds no command that this manager knows",
        "use the swarmctl of this version",
    )
}

/// What a client asks, with its references resolved.
///
/// # Errors
/// When a reference names nothing, or more than one object.
fn to_command(cluster: &Cluster, wish: Wish) -> Result<Command, Rejection> {
    Ok(match wish {
        Wish::UpdateCluster(wish) => {
            Command::UpdateCluster(commands::UpdateCluster { spec: wish.spec, version: wish.version })
        }
        Wish::RotateJoinToken(wish) => rotate(cluster, wish.role())?,
        Wish::UpdateNode(wish) => Command::UpdateNode(commands::UpdateNode {
            node: resolve_node(cluster, &wish.node)?,
            spec: wish.spec,
            version: wish.version,
        }),
        Wish::RemoveNode(wish) => {
            Command::RemoveNode(commands::RemoveNode { node: resolve_node(cluster, &wish.node)?, force: wish.force })
        }
        Wish::CreateService(wish) => Command::CreateService(commands::CreateService {
            spec: Box::new(wish.spec),
            secrets: service_secrets(wish.registry_auth, wish.env_secrets),
        }),
        Wish::UpdateService(wish) => Command::UpdateService(commands::UpdateService {
            service: resolve_service(cluster, &wish.service)?,
            spec: Box::new(wish.spec),
            version: wish.version,
            secrets: service_secrets(wish.registry_auth, wish.env_secrets),
        }),
        Wish::ScaleService(wish) => Command::ScaleService(commands::ScaleService {
            service: resolve_service(cluster, &wish.service)?,
            replicas: wish.replicas,
        }),
        Wish::RemoveService(wish) => {
            Command::RemoveService(commands::RemoveService { service: resolve_service(cluster, &wish.service)? })
        }
        Wish::RemoveTask(wish) => {
            Command::RemoveTask(commands::RemoveTask { task: resolve_task(cluster, &wish.task)? })
        }
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
    Ok(Command::RotateJoinToken(commands::RotateJoinToken {
        role,
        token: SecretText(token.to_string()),
        secret_sha256,
    }))
}
