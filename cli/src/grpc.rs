//! The manager behind a control socket.

use std::path::PathBuf;
use std::time::Duration;

use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Status};
use wire::v1::control_client::ControlClient;
use wire::v1::*;

use crate::failure::{Failure, Kind, innermost};
use crate::manager::{EventStream, Manager};

/// How often a command is sent when connections break; its id makes sure that it has one effect.
const ATTEMPTS_MAX: u32 = 3;
/// Pause before a command is sent again.
const PAUSE: Duration = Duration::from_millis(300);

/// Connects when it is first needed.
#[derive(Debug)]
pub struct Connection {
    socket: PathBuf,
    client: Option<ControlClient<Channel>>,
}

impl Connection {
    /// The manager that listens on `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, client: None }
    }

    async fn client(&mut self) -> Result<&mut ControlClient<Channel>, Failure> {
        let client = match self.client.take() {
            Some(client) => client,
            None => wire::connect(&self.socket).await.map_err(|error| unreachable_manager(&error))?,
        };
        Ok(self.client.insert(client))
    }
}

/// Why there is no connection, with the system's reason where it gave one.
fn unreachable_manager(error: &wire::ConnectError) -> Failure {
    let cause = std::error::Error::source(error).map(innermost);
    let io = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let why = cause.map_or_else(String::new, |cause| format!(": {cause}"));
    let kind = match io.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::PermissionDenied) => Kind::Forbidden,
        Some(_) | None => Kind::Unreachable,
    };
    Failure::new(kind, format!("{error}{why}"))
}

/// Whether the fate of a command is unknown, so that it may be sent again.
fn is_broken(status: &Status) -> bool {
    let lost = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
        || std::error::Error::source(status).is_some();
    lost && Refusal::from_status(status).is_none()
}

impl Manager for Connection {
    async fn execute(&mut self, request: CommandRequest) -> Result<CommandReply, Failure> {
        let mut attempt = 1;
        loop {
            match self.client().await?.execute(request.clone()).await {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status) if is_broken(&status) && attempt < ATTEMPTS_MAX => {
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(status) => return Err(status.into()),
            }
        }
    }

    async fn version(&mut self) -> Result<VersionReply, Failure> {
        Ok(self.client().await?.get_version(VersionRequest {}).await?.into_inner())
    }

    async fn cluster(&mut self) -> Result<ClusterView, Failure> {
        Ok(self.client().await?.get_cluster(GetClusterRequest {}).await?.into_inner())
    }

    async fn nodes(&mut self, nodes: Vec<String>) -> Result<Vec<NodeView>, Failure> {
        Ok(self.client().await?.list_nodes(ListNodesRequest { nodes }).await?.into_inner().nodes)
    }

    async fn services(&mut self, services: Vec<String>) -> Result<Vec<ServiceView>, Failure> {
        Ok(self.client().await?.list_services(ListServicesRequest { services }).await?.into_inner().services)
    }

    async fn tasks(&mut self, request: ListTasksRequest) -> Result<TaskList, Failure> {
        Ok(self.client().await?.list_tasks(request).await?.into_inner())
    }

    async fn events(&mut self, request: EventsRequest) -> Result<EventStream, Failure> {
        let stream = self.client().await?.events(request).await?.into_inner();
        Ok(Box::pin(stream.map(|record| record.map_err(Failure::from))))
    }
}
