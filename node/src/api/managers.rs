//! The service for other managers, over gRPC: authenticates the caller, and translates its messages for the replica.

use std::sync::Arc;

use commands::{Actor, AnnounceManager, Command, Rejection, RejectionKind};
use events::{NodeId, Role};
use tonic::{Request, Response, Status, Streaming};
use wire::v1::managers_server::Managers;
use wire::v1::{
    AnnounceRequest, CommandReply, DeliverReply, HandOverReply, HandOverRequest, HistoryFrame, PeerBatch, PeerHello,
    ReadHistoryReply, ReadHistoryRequest, Refusal, RefusalKind, SignCheckpointRequest, SignedCheckpoint,
};

use crate::log::HistoryReader;
use crate::manager::driver::stopping;
use crate::manager::replica::{PEER_PAGE, Request as CoreRequest};
use crate::peering::{Other, PeerRefused, from_wire};
use crate::security::{Peer, access};

use super::{Context, status};

/// The service that other managers call.
pub struct ManagerApi {
    context: Context,
}

impl ManagerApi {
    /// The service of this manager.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    /// The calling manager, by its certificate.
    fn caller<T>(request: &Request<T>) -> Result<NodeId, Status> {
        match access::caller(request)? {
            Peer::Node { subject, .. } => Ok(subject.node),
            Peer::Operator { .. } | Peer::CertifiedOperator { .. } | Peer::Anonymous { .. } => {
                let (kind, sentence) = (RejectionKind::Forbidden, "this call is for managers");
                Err(status(Rejection::new(
                    kind,
                    "managers",
                    sentence,
                    "managers call over TLS, with their certificate",
                )))
            }
        }
    }

    /// Delivers the messages of another manager, until its stream ends or it is no longer a member.
    async fn listen(&self, node: NodeId, mut batches: Streaming<PeerBatch>) -> Result<(), Status> {
        let mut introduced = None;
        while let Some(PeerBatch { hello, messages }) = batches.message().await? {
            if let Some(PeerHello { from, to, addr }) = hello {
                self.context.peering.introduce(from, to, Other { node, addr }).map_err(|why| refusal(&why))?;
                introduced = Some(from);
            }
            let raft_id = introduced.ok_or_else(|| Status::invalid_argument("the first message is an introduction"))?;
            self.context.peering.judge(node, raft_id).map_err(|why| refusal(&why))?;
            for message in messages.into_iter().filter_map(from_wire) {
                self.context.core.receive(raft_id, message);
            }
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Managers for ManagerApi {
    async fn deliver(&self, request: Request<Streaming<PeerBatch>>) -> Result<Response<DeliverReply>, Status> {
        let node = Self::caller(&request)?;
        tracing::debug!(%node, "another manager calls");
        let ended = tokio::select! {
            ended = self.listen(node, request.into_inner()) => ended,
            () = self.context.stopping.cancelled() => Err(status(stopping())),
        };
        tracing::debug!(%node, ?ended, "another manager's call has ended");
        ended.map(|()| Response::new(DeliverReply {}))
    }

    async fn announce(&self, request: Request<AnnounceRequest>) -> Result<Response<CommandReply>, Status> {
        let node = Self::caller(&request)?;
        let AnnounceRequest { raft_id, addr, feature_level_max, audit_key } = request.into_inner();
        let announce = AnnounceManager { node, raft_id, addr, feature_level_max, audit_key };
        let actor = Actor::Node { id: node, role: Role::Manager };
        let request = CoreRequest::unnamed(actor, Command::AnnounceManager(announce));
        self.context.submit(request).await.map(Response::new).map_err(status)
    }

    async fn read_history(&self, request: Request<ReadHistoryRequest>) -> Result<Response<ReadHistoryReply>, Status> {
        let node = Self::caller(&request)?;
        let (from, store) = (request.into_inner().from, Arc::clone(&self.context.store));
        tracing::info!(%node, from, "another manager fetches history");
        let read = move || HistoryReader::starting_at(from).page(&*store, u64::MAX, PEER_PAGE);
        let page = tokio::task::spawn_blocking(read).await.map_err(|error| Status::internal(error.to_string()))?;
        let page = page.map_err(|error| Status::data_loss(error.to_string()))?;
        let frames = page.into_iter().map(|(index, stored)| HistoryFrame { index, stored }).collect();
        Ok(Response::new(ReadHistoryReply { frames }))
    }

    async fn sign_checkpoint(
        &self,
        request: Request<SignCheckpointRequest>,
    ) -> Result<Response<SignedCheckpoint>, Status> {
        Self::caller(&request)?;
        let SignCheckpointRequest { size, index } = request.into_inner();
        self.context.core.applied(index).await.map_err(status)?;
        let control = self.context.control();
        let signed = tokio::task::spawn_blocking(move || control.checkpoint(Some(size))).await;
        let signed = signed.map_err(|error| Status::internal(error.to_string()))?.map_err(status)?;
        Ok(Response::new(SignedCheckpoint { note: signed.note.to_string() }))
    }

    async fn hand_over(&self, request: Request<HandOverRequest>) -> Result<Response<HandOverReply>, Status> {
        Self::caller(&request)?;
        let taken = self.context.streams.hand_over(request.into_inner().orders);
        Ok(Response::new(HandOverReply { taken }))
    }
}

fn refusal(why: &PeerRefused) -> Status {
    let kind = match why {
        PeerRefused::Former { .. } => RefusalKind::NotMember,
        PeerRefused::Impostor { .. } | PeerRefused::WrongReceiver { .. } => RefusalKind::Forbidden,
    };
    let hint = match why {
        PeerRefused::Former { .. } => "a former manager that is promoted again must join with an empty log",
        PeerRefused::Impostor { .. } => "two managers must not run on copies of one state directory",
        PeerRefused::WrongReceiver { .. } => "it resolves itself once both managers have applied the change",
    };
    let hint = Some(hint.to_owned());
    Refusal { kind: kind.into(), subject: "manager".to_owned(), sentence: why.to_string(), hint }.into()
}
