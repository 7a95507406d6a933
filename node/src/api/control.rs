//! The control API over gRPC: authenticates the caller and translates the responses of [`Control`].

use std::pin::Pin;
use std::sync::Arc;

use ::events::{CommandId, Duration};
use commands::{Actor, Rejection, RejectionKind};
use futures_util::{Stream, stream};
use tokio::sync::{Semaphore, oneshot};
use tonic::{Request, Response, Status, Streaming};
use wire::Freshness;
use wire::v1::control_server::Control as ControlService;
use wire::v1::{
    ArchiveHistoryRequest, ArchivedRange, AuditKeyList, BackupPart, BackupRequest, CheckpointReply, ClusterView,
    CommandAnswer, CommandReply, CommandRequest, CompareRequest, ConfigPage, ConsistencyProof, CreateOperatorRequest,
    DescribeSecretsRequest, DifferencePage, EventRecord, EventsRequest, ExplainPlacementRequest, FindPointRequest,
    FrameProof, FramesPage, GetCheckpointRequest, GetClusterRequest, GetRaftRequest, InspectNodesRequest,
    InspectServicesRequest, InteractRequest, ListAuditKeysRequest, ListNodesRequest, ListOperatorsRequest,
    ListServicesRequest, ListSinksRequest, ListTasksRequest, LogsPart, LogsRequest, NodeList, NodePage,
    OperatorCertificate, OperatorList, PlacementExplanation, PlanUndoRequest, PointView, PreviewReply, PreviewRequest,
    ProveConsistencyRequest, ProveFrameRequest, RaftView, ReadAfterReply, ReadAfterRequest, ReadConfigsRequest,
    ReadFramesRequest, RenewOperatorRequest, ReplayReply, ReplayRequest, ResolveImageRequest, ResolvedImage,
    SecretPage, ServiceList, ServicePage, SinkList, SurviveReply, SurviveRequest, TaskList, TaskOutput, UndoPlan,
    UnlockKeyReply, UnlockKeyRequest, UsagePart, UsageRequest, VerifiedHistory, VerifyHistoryRequest, VersionReply,
    VersionRequest,
};

use crate::control::Control;
use crate::control::backup::unwritable;
use crate::control::command::Received;
use crate::control::lists::Pages;
use crate::control::preview::Draft;
use crate::control::unreadable;
use crate::manager::archiver::is_passing;
use crate::manager::past::Past;
use crate::manager::scrub::run_when_idle;
use crate::security::{Peer, access};

use super::streams::{interact, logs, usage};
use super::{Context, audit, command_stream, events as history, status};

/// Deadline for recording that secrets were read.
const NOTE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum concurrent backups: each reads the whole history.
const BACKUPS_MAX: usize = 2;
/// Maximum concurrent readers of history frames: each may read any amount of it.
const AUDITS_MAX: usize = 4;
/// Maximum states of the past, and drafts for previews, that are computed concurrently; other callers wait for their turn. Each
/// takes a thread with the lowest CPU priority, and the memory of a state.
const PASTS_MAX: usize = 2;
/// Maximum callers waiting for a state of the past: more are refused.
const PAST_WAITERS_MAX: usize = 64;

/// The service on the control socket.
pub struct ControlApi {
    context: Context,
    /// Limits backups.
    backups: Arc<Semaphore>,
    /// Limits readers of frames.
    audits: Arc<Semaphore>,
    /// Limits readers of logs and of resource usage.
    readers: Arc<Semaphore>,
    /// The interactive sessions in tasks.
    interactions: Arc<interact::Interactions>,
    /// States of the past, and the limit for computing them.
    past: Arc<Past>,
    /// The draft of the last preview.
    draft: Arc<Draft>,
    pasts: Arc<Semaphore>,
    past_waiters: Arc<Semaphore>,
}

impl ControlApi {
    /// The service of this manager.
    pub fn new(context: Context) -> Self {
        let backups = Arc::new(Semaphore::new(BACKUPS_MAX));
        let audits = Arc::new(Semaphore::new(AUDITS_MAX));
        let readers = Arc::new(Semaphore::new(logs::READERS_MAX));
        let past = Arc::new(Past::of(Arc::clone(&context.store)));
        let (pasts, waiters) = (Semaphore::new(PASTS_MAX), Semaphore::new(PAST_WAITERS_MAX));
        let (pasts, past_waiters) = (Arc::new(pasts), Arc::new(waiters));
        let (interactions, draft) = (Arc::default(), Arc::default());
        Self { context, backups, audits, readers, interactions, past, draft, pasts, past_waiters }
    }

    /// Records that the actor reads the join tokens. Returns whether they may be shown.
    async fn record_token_read(&self, actor: Actor) -> bool {
        let read = self.context.control().read_tokens(actor);
        if read.actor.may(&read.command).is_err() {
            return false;
        }
        // If that cannot be recorded, they are not shown: without a quorum, the cluster's other settings are still needed.
        tokio::time::timeout(NOTE_TIMEOUT, self.context.submit(read)).await.is_ok_and(|noted| noted.is_ok())
    }

    /// Checks the caller's access, then returns the manager's state and the request: the current state once it is as fresh as
    /// requested, or the state at the requested point.
    async fn authorised<T>(&self, request: Request<T>) -> Result<(Control, T), Status> {
        access::caller(&request)?;
        let freshness = Freshness::read(request.metadata())?;
        self.context.catch_up(freshness).await.map_err(status)?;
        let control = match freshness.at {
            Some(index) => self.at(self.context.control(), index).await?,
            None => self.context.control(),
        };
        Ok((control, request.into_inner()))
    }

    /// The state after the frame at this index.
    async fn at(&self, control: Control, index: u64) -> Result<Control, Status> {
        let past = Arc::clone(&self.past);
        self.when_idle(move |is_stopped| control.at(index, &past, is_stopped)).await
    }

    /// Runs long work on a separate thread with idle CPU priority. Cancelled when the caller disconnects.
    async fn when_idle<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, Rejection> + Send + 'static,
    ) -> Result<T, Status> {
        let waiting = Arc::clone(&self.past_waiters).try_acquire_owned();
        let _waiting = waiting.map_err(|_| status(too_many_waiters()))?;
        let broken = |_| Status::internal("the request failed: its thread panicked");
        let permit = Arc::clone(&self.pasts).acquire_owned().await.map_err(|_| status(too_many_waiters()))?;
        let stopping = self.context.stopping.clone();
        let (made, answer) = oneshot::channel();
        let thread = std::thread::Builder::new().name("idle".to_owned()).spawn(move || {
            run_when_idle();
            let result = work(&|| stopping.is_cancelled() || made.is_closed());
            // The caller may have disconnected.
            let _ = made.send(result);
            drop(permit);
        });
        thread.map_err(|error| status(history::no_thread(&error)))?;
        answer.await.map_err(broken)?.map_err(status)
    }
}

#[tonic::async_trait]
impl ControlService for ControlApi {
    async fn execute(&self, request: Request<CommandRequest>) -> Result<Response<CommandReply>, Status> {
        let actor = self.context.actor(&access::caller(&request)?);
        self.context.catch_up_with_leader().await.map_err(status)?;
        let request = request.into_inner();
        let joined: Vec<CommandId> = request.joined.iter().map(|joined| joined.id).collect();
        let reply = match self.context.receive(&actor, request).map_err(status)? {
            Received::Answered(reply) => reply,
            Received::New(mut request) => {
                let control = self.context.control();
                control.cross_sign(&self.context.external, &mut request.command).await.map_err(status)?;
                for joined in &mut request.joined {
                    control.cross_sign(&self.context.external, &mut joined.command).await.map_err(status)?;
                }
                self.context.submit(*request).await.map_err(status)?
            }
        };
        Ok(Response::new(self.context.control().answer(reply, &actor, &joined)))
    }

    type ExecuteStreamStream = Answers<CommandAnswer>;

    async fn execute_stream(
        &self,
        request: Request<Streaming<CommandRequest>>,
    ) -> Result<Response<Self::ExecuteStreamStream>, Status> {
        let actor = self.context.actor(&access::caller(&request)?);
        self.context.catch_up_with_leader().await.map_err(status)?;
        Ok(Response::new(Box::pin(command_stream::answers(self.context.clone(), actor, request.into_inner()))))
    }

    async fn preview(&self, request: Request<PreviewRequest>) -> Result<Response<PreviewReply>, Status> {
        let actor = self.context.actor(&access::caller(&request)?);
        let (control, asked) = self.authorised(request).await?;
        let work = move |is_stopped: &dyn Fn() -> bool| control.preview(&actor, asked, is_stopped);
        self.when_idle(work).await.map(Response::new)
    }

    type ReadAfterStream = Answers<ReadAfterReply>;

    async fn read_after(&self, request: Request<ReadAfterRequest>) -> Result<Response<Self::ReadAfterStream>, Status> {
        let actor = self.context.actor(&access::caller(&request)?);
        let (control, asked) = self.authorised(request).await?;
        let draft = Arc::clone(&self.draft);
        let work = move |is_stopped: &dyn Fn() -> bool| control.read_after(&actor, asked, &draft, is_stopped);
        let replies = self.when_idle(work).await?;
        paged(replies)
    }

    async fn survive(&self, request: Request<SurviveRequest>) -> Result<Response<SurviveReply>, Status> {
        let (control, asked) = self.authorised(request).await?;
        let work = move |is_stopped: &dyn Fn() -> bool| control.survive(&asked, is_stopped);
        self.when_idle(work).await.map(Response::new)
    }

    async fn replay(&self, request: Request<ReplayRequest>) -> Result<Response<ReplayReply>, Status> {
        let (control, asked) = self.authorised(request).await?;
        let work = move |is_stopped: &dyn Fn() -> bool| control.replay(&asked, is_stopped);
        self.when_idle(work).await.map(Response::new)
    }

    async fn get_version(&self, request: Request<VersionRequest>) -> Result<Response<VersionReply>, Status> {
        access::caller(&request)?;
        Ok(Response::new(self.context.control().version()))
    }

    async fn get_cluster(&self, request: Request<GetClusterRequest>) -> Result<Response<ClusterView>, Status> {
        let actor = self.context.actor(&access::caller(&request)?);
        // A state of the past contains no tokens, so nothing is recorded.
        let is_present = Freshness::read(request.metadata())?.at.is_none();
        let with_tokens = is_present && request.get_ref().with_tokens() && self.record_token_read(actor).await;
        let (control, _) = self.authorised(request).await?;
        let read = move || {
            let history_use = if is_present { Some(control.history_use()?) } else { None };
            Ok(ClusterView { history_use, ..control.cluster(with_tokens)? })
        };
        blocking(read).await?.map(Response::new).map_err(status)
    }

    async fn get_raft(&self, request: Request<GetRaftRequest>) -> Result<Response<RaftView>, Status> {
        // Works without a leader too, to report which managers are missing.
        access::caller(&request)?;
        Ok(Response::new(self.context.control().raft()))
    }

    async fn inspect_nodes(&self, request: Request<InspectNodesRequest>) -> Result<Response<NodeList>, Status> {
        let (control, asked) = self.authorised(request).await?;
        blocking(move || control.inspect_nodes(&asked.nodes)).await?.map(Response::new).map_err(status)
    }

    async fn inspect_services(
        &self,
        request: Request<InspectServicesRequest>,
    ) -> Result<Response<ServiceList>, Status> {
        let (control, asked) = self.authorised(request).await?;
        blocking(move || control.inspect_services(&asked.services)).await?.map(Response::new).map_err(status)
    }

    async fn explain_placement(
        &self,
        request: Request<ExplainPlacementRequest>,
    ) -> Result<Response<PlacementExplanation>, Status> {
        let (control, asked) = self.authorised(request).await?;
        blocking(move || control.explain_placement(&asked)).await?.map(Response::new).map_err(status)
    }

    async fn resolve_image(&self, request: Request<ResolveImageRequest>) -> Result<Response<ResolvedImage>, Status> {
        let (control, asked) = self.authorised(request).await?;
        if !commands::is_image_reference(&asked.image) {
            let sentence = format!("{} is not an image reference", commands::quote(&asked.image));
            return Err(status(Rejection::invalid("image", sentence, commands::IMAGE_HINT)));
        }
        let auth = control.registry_auth(asked.registry_auth, asked.service.as_deref()).map_err(status)?;
        Ok(Response::new(self.context.images.resolve(&asked.image, auth).await))
    }

    type ListNodesStream = Answers<NodePage>;

    async fn list_nodes(&self, request: Request<ListNodesRequest>) -> Result<Response<Self::ListNodesStream>, Status> {
        let (control, asked) = self.authorised(request).await?;
        pages(move || Ok(control.list_nodes(&asked))).await
    }

    type ListServicesStream = Answers<ServicePage>;

    async fn list_services(
        &self,
        request: Request<ListServicesRequest>,
    ) -> Result<Response<Self::ListServicesStream>, Status> {
        let (control, asked) = self.authorised(request).await?;
        pages(move || Ok(control.list_services(&asked))).await
    }

    type ListTasksStream = Answers<TaskList>;

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Result<Response<Self::ListTasksStream>, Status> {
        let (control, asked) = self.authorised(request).await?;
        pages(move || control.list_tasks(&asked)).await
    }

    type ReadConfigsStream = Answers<ConfigPage>;

    async fn read_configs(
        &self,
        request: Request<ReadConfigsRequest>,
    ) -> Result<Response<Self::ReadConfigsStream>, Status> {
        let (control, asked) = self.authorised(request).await?;
        pages(move || control.read_configs(&asked)).await
    }

    type DescribeSecretsStream = Answers<SecretPage>;

    async fn describe_secrets(
        &self,
        request: Request<DescribeSecretsRequest>,
    ) -> Result<Response<Self::DescribeSecretsStream>, Status> {
        let (control, asked) = self.authorised(request).await?;
        pages(move || control.describe_secrets(&asked)).await
    }

    async fn list_sinks(&self, request: Request<ListSinksRequest>) -> Result<Response<SinkList>, Status> {
        let (control, asked) = self.authorised(request).await?;
        control.sinks(&asked).map(Response::new).map_err(status)
    }

    async fn list_operators(&self, request: Request<ListOperatorsRequest>) -> Result<Response<OperatorList>, Status> {
        let (control, _) = self.authorised(request).await?;
        Ok(Response::new(control.operators()))
    }

    async fn create_operator(
        &self,
        request: Request<CreateOperatorRequest>,
    ) -> Result<Response<OperatorCertificate>, Status> {
        let actor = self.context.actor(&access::caller(&request)?);
        let asked = request.into_inner();
        let csr_pem = asked.csr_pem.clone();
        self.context.catch_up_with_leader().await.map_err(status)?;
        let request = self.context.control().create_operator(actor, asked).map_err(status)?;
        let reply = self.context.submit(request).await.map_err(status)?;
        self.context.core.applied(reply.index).await.map_err(status)?;
        let control = self.context.control();
        let certificate = control.operator_certificate(&self.context.external, &reply, &csr_pem).await;
        certificate.map(Response::new).map_err(status)
    }

    async fn renew_operator(
        &self,
        request: Request<RenewOperatorRequest>,
    ) -> Result<Response<OperatorCertificate>, Status> {
        let peer = access::caller(&request)?;
        let Peer::CertifiedOperator { operator, .. } = peer else {
            let hint = "use --host and --identity; `swarmctl operator create` makes an identity";
            let kind = RejectionKind::Forbidden;
            return Err(status(Rejection::new(
                kind,
                "certificate",
                "this call is for operators with a certificate",
                hint,
            )));
        };
        let (actor, asked) = (self.context.actor(&peer), request.into_inner());
        let csr_pem = asked.csr_pem.clone();
        self.context.catch_up_with_leader().await.map_err(status)?;
        let request = self.context.control().renew_operator(actor, operator, asked).map_err(status)?;
        let reply = self.context.submit(request).await.map_err(status)?;
        self.context.core.applied(reply.index).await.map_err(status)?;
        let control = self.context.control();
        let certificate = control.operator_certificate(&self.context.external, &reply, &csr_pem).await;
        certificate.map(Response::new).map_err(status)
    }

    async fn get_unlock_key(&self, request: Request<UnlockKeyRequest>) -> Result<Response<UnlockKeyReply>, Status> {
        let actor = self.context.actor(&access::caller(&request)?);
        self.context.catch_up_with_leader().await.map_err(status)?;
        let key = self.context.control().unlock_key().map_err(status)?;
        // Recorded first, so that no one sees the key without a trace in history.
        self.context.submit(self.context.control().read_unlock_key(actor)).await.map_err(status)?;
        Ok(Response::new(key))
    }

    type BackupStream = Answers<BackupPart>;

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let actor = self.context.actor(&access::caller(&request)?);
        let (control, asked) = self.authorised(request).await?;
        let permit = Arc::clone(&self.backups).try_acquire_owned().map_err(|_| status(too_many_backups()))?;
        let noted = control.read_all_secrets(actor);
        let writer = blocking(move || control.backup(asked)).await?.map_err(status)?;
        // Recorded first, so that no one gets a backup without a trace in history.
        self.context.submit(noted).await.map_err(status)?;
        let stream = stream::try_unfold((writer, permit), |(mut writer, permit)| async {
            let (part, writer) = blocking(move || (writer.part(), writer)).await?;
            let part = part.map_err(|error| status(unwritable(&error)))?;
            Ok(part.map(|part| (part, (writer, permit))))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_audit_keys(&self, request: Request<ListAuditKeysRequest>) -> Result<Response<AuditKeyList>, Status> {
        let (control, _) = self.authorised(request).await?;
        blocking(move || control.audit_keys()).await?.map(Response::new).map_err(status)
    }

    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<CheckpointReply>, Status> {
        let (control, _) = self.authorised(request).await?;
        let (signed, others) = audit::cosigned(&self.context, control).await?;
        Ok(Response::new(CheckpointReply { note: signed.note.to_string(), index: signed.index, others }))
    }

    async fn prove_frame(&self, request: Request<ProveFrameRequest>) -> Result<Response<FrameProof>, Status> {
        let (control, asked) = self.authorised(request).await?;
        let (signed, others) = audit::cosigned(&self.context, control.clone()).await?;
        let proof = blocking(move || control.prove_frame(asked.index, signed)).await?.map_err(status)?;
        Ok(Response::new(FrameProof { proof: proof.to_string(), others }))
    }

    async fn prove_consistency(
        &self,
        request: Request<ProveConsistencyRequest>,
    ) -> Result<Response<ConsistencyProof>, Status> {
        let (control, asked) = self.authorised(request).await?;
        blocking(move || control.prove_consistency(&asked)).await?.map(Response::new).map_err(status)
    }

    type ReadFramesStream = Answers<FramesPage>;

    async fn read_frames(
        &self,
        request: Request<ReadFramesRequest>,
    ) -> Result<Response<Self::ReadFramesStream>, Status> {
        let (control, asked) = self.authorised(request).await?;
        let permit = Arc::clone(&self.audits).try_acquire_owned().map_err(|_| status(too_many_audits()))?;
        let stream = stream::try_unfold((control.frames(&asked), permit), |(mut frames, permit)| async {
            let (page, frames) = blocking(move || (frames.page(), frames)).await?;
            Ok(page.map_err(status)?.map(|page| (page, (frames, permit))))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    type ArchiveHistoryStream = Answers<ArchivedRange>;

    async fn archive_history(
        &self,
        request: Request<ArchiveHistoryRequest>,
    ) -> Result<Response<Self::ArchiveHistoryStream>, Status> {
        let (control, asked) = self.authorised(request).await?;
        let permit = Arc::clone(&self.audits).try_acquire_owned().map_err(|_| status(too_many_audits()))?;
        let archiving = blocking(move || control.archive_history(&asked)).await?.map_err(status)?;
        let started = (archiving, self.context.core.clone(), permit);
        let stream = stream::try_unfold(started, |(mut archiving, core, permit)| async {
            let (made, archiving) = blocking(move || (archiving.make_next(), archiving)).await?;
            let made = made.map_err(|error| {
                let refused = status(unreadable(&error));
                if !is_passing(&error) {
                    core.fail(error);
                }
                refused
            });
            Ok(made?.map(|made| (made, (archiving, core, permit))))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    type VerifyHistoryStream = Answers<VerifiedHistory>;

    async fn verify_history(
        &self,
        request: Request<VerifyHistoryRequest>,
    ) -> Result<Response<Self::VerifyHistoryStream>, Status> {
        let (control, _) = self.authorised(request).await?;
        let permit = Arc::clone(&self.audits).try_acquire_owned().map_err(|_| status(too_many_audits()))?;
        let stream = stream::try_unfold((control.verify_history(), permit), |(mut verification, permit)| async {
            let (step, verification) = blocking(move || (verification.step(), verification)).await?;
            Ok(step.map(|step| (step, (verification, permit))))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn find_point(&self, request: Request<FindPointRequest>) -> Result<Response<PointView>, Status> {
        let (control, asked) = self.authorised(request).await?;
        blocking(move || control.find_point(&asked)).await?.map(Response::new).map_err(status)
    }

    async fn plan_undo(&self, request: Request<PlanUndoRequest>) -> Result<Response<UndoPlan>, Status> {
        let (control, asked) = self.authorised(request).await?;
        let past = Arc::clone(&self.past);
        let plan = self.when_idle(move |is_stopped| control.plan_undo(&asked, &past, is_stopped)).await?;
        Ok(Response::new(plan))
    }

    type CompareStream = Answers<DifferencePage>;

    async fn compare(&self, request: Request<CompareRequest>) -> Result<Response<Self::CompareStream>, Status> {
        let (control, asked) = self.authorised(request).await?;
        let CompareRequest { from, to } = asked;
        let (past, present) = (Arc::clone(&self.past), control.clone());
        let (earlier, later) = if to == control.state.cluster.position.index {
            (self.at(control.clone(), from).await?, control)
        } else if blocking(move || present.leads(&past, from, to)).await?.map_err(status)? {
            // The later state is computed from the earlier one, and shares with it what did not change.
            (self.at(control.clone(), from).await?, self.at(control, to).await?)
        } else {
            tokio::try_join!(self.at(control.clone(), from), self.at(control, to))?
        };
        pages(move || later.differences_since(&earlier)).await
    }

    type EventsStream = Answers<EventRecord>;

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        access::caller(&request)?;
        self.context.catch_up(Freshness::read(request.metadata())?).await.map_err(status)?;
        let stream = history::stream(&self.context, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    type LogsStream = Answers<LogsPart>;

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let (_, asked) = self.authorised(request).await?;
        let lines = logs::stream(&self.context, &self.readers, asked)?;
        Ok(Response::new(Box::pin(lines)))
    }

    type UsageStream = Answers<UsagePart>;

    async fn usage(&self, request: Request<UsageRequest>) -> Result<Response<Self::UsageStream>, Status> {
        let (_, asked) = self.authorised(request).await?;
        let readings = usage::stream(&self.context, &self.readers, asked)?;
        Ok(Response::new(Box::pin(readings)))
    }

    type InteractStream = Answers<TaskOutput>;

    async fn interact(
        &self,
        request: Request<Streaming<InteractRequest>>,
    ) -> Result<Response<Self::InteractStream>, Status> {
        let actor = self.context.actor(&access::caller(&request)?);
        let outputs = interact::stream(&self.context, &self.interactions, actor, request.into_inner()).await?;
        Ok(Response::new(Box::pin(outputs)))
    }
}

fn too_many_waiters() -> Rejection {
    let sentence = format!("{PAST_WAITERS_MAX} reads of the past, and of what would happen, wait already");
    Rejection::new(commands::RejectionKind::Exhausted, "history", sentence, "try again later, or ask another manager")
}

fn too_many_backups() -> Rejection {
    let sentence = format!("{BACKUPS_MAX} backups are being written already");
    Rejection::new(commands::RejectionKind::Exhausted, "backup", sentence, "wait for their end, or ask another manager")
}

fn too_many_audits() -> Rejection {
    let sentence = format!("{AUDITS_MAX} readers of the frames of history are active already");
    Rejection::new(commands::RejectionKind::Exhausted, "audit", sentence, "wait for their end, or ask another manager")
}

/// The responses of a streaming call.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The pages of a list, one at a time: selecting and sorting objects, and counting the tasks of each, may take long.
async fn pages<R: prost::Message + 'static, P: Send + 'static>(
    list: impl FnOnce() -> Result<Pages<R, P>, Rejection> + Send + 'static,
) -> Result<Response<Answers<P>>, Status> {
    paged(blocking(list).await?.map_err(status)?)
}

fn paged<P: Send + 'static>(pages: impl Iterator<Item = P> + Send + 'static) -> Result<Response<Answers<P>>, Status> {
    let stream = stream::try_unfold(pages, |mut pages| async {
        let (page, pages) = blocking(move || (pages.next(), pages)).await?;
        Ok(page.map(|page| (page, pages)))
    });
    Ok(Response::new(Box::pin(stream)))
}

/// Runs work whose duration grows with the number of tasks on a blocking thread, where it delays no other caller.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Status::internal(error.to_string()))
}
