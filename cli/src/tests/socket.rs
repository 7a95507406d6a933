//! The same commands over a real control socket.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};
use wire::v1::control_server::{Control, ControlServer};
use wire::v1::*;

use super::{World, run};
use crate::format::samples;
use crate::grpc::Connection;

/// A manager that breaks its first answer off, and knows of one service.
#[derive(Default)]
struct Server {
    attempts: AtomicU32,
}

#[tonic::async_trait]
impl Control for Server {
    type EventsStream = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<EventRecord, Status>> + Send>>;

    async fn execute(&self, request: Request<CommandRequest>) -> Result<Response<CommandReply>, Status> {
        let Some(command_request::Command::RemoveService(_)) = request.into_inner().command else {
            let refusal = Refusal {
                kind: RefusalKind::Conflict.into(),
                subject: "service web".to_owned(),
                sentence: "somebody else changed it".to_owned(),
                hint: None,
            };
            return Err(refusal.into());
        };
        match self.attempts.fetch_add(1, Ordering::SeqCst) {
            0 => Err(Status::unknown("leadership was lost")),
            _ => Ok(Response::new(CommandReply { index: 1, subject: None })),
        }
    }

    async fn get_version(&self, _: Request<VersionRequest>) -> Result<Response<VersionReply>, Status> {
        Err(Status::permission_denied("only root may ask"))
    }

    async fn get_cluster(&self, _: Request<GetClusterRequest>) -> Result<Response<ClusterView>, Status> {
        Ok(Response::new(samples::cluster()))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<NodeList>, Status> {
        Ok(Response::new(NodeList { nodes: samples::nodes() }))
    }

    async fn list_services(&self, _: Request<ListServicesRequest>) -> Result<Response<ServiceList>, Status> {
        Ok(Response::new(ServiceList { services: vec![samples::service()] }))
    }

    async fn list_tasks(&self, _: Request<ListTasksRequest>) -> Result<Response<TaskList>, Status> {
        Ok(Response::new(TaskList { tasks: samples::tasks(), index: 1 }))
    }

    async fn events(&self, _: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let broken: EventResult = Err(Status::unavailable("the manager stops"));
        Ok(Response::new(Box::pin(tokio_stream::iter([broken]))))
    }
}

type EventResult = Result<EventRecord, Status>;

fn serve(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a fresh directory takes a socket");
    let server = tonic::transport::Server::builder().add_service(ControlServer::new(Server::default()));
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
}

#[tokio::test]
async fn answers_refusals_and_broken_connections_come_through() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("swarmd.sock");
    serve(&socket);
    let table = [
        ("service ls", 0),
        ("cluster inspect", 0),
        // The first answer is lost; the same command is sent again.
        ("service rm web", 0),
        ("service scale web=1", 4),
        ("version", 8),
        ("events", 7),
    ];
    for (line, code) in table {
        let ran = run(line, &mut Connection::new(socket.clone()), World::default()).await;
        assert_eq!(ran.code, code, "{line}: {}", ran.err);
        assert_eq!(ran.err.is_empty(), code == 0, "{line}: {}", ran.err);
    }
}

#[tokio::test]
async fn nobody_at_the_socket_is_code_7() {
    let directory = tempfile::tempdir().expect("a directory");
    let ran = run("service ls", &mut Connection::new(directory.path().join("none")), World::default()).await;
    assert_eq!(ran.code, 7);
    assert!(ran.err.contains("none: No such file") && ran.err.contains("hint: check that swarmd runs"), "{}", ran.err);
}
