//! The control socket of the simulated manager: the real code of `swarmctl` on one side, and that of `swarmd` on the other.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cli::{
    ArchivedStream, BackupStream, DifferenceStream, EventStream, Failure, FrameStream, Kind, LogParts, TaskInputs,
    TaskOutputs, UsageParts, VerifiedStream,
};
use commands::{Actor, Rejection, SecretText};
use events::CommandId;
use futures_util::Stream;
use node::control::backup;
use node::control::command::{self, Received};
use node::control::event_reader::EventReader;
use node::control::preview::Draft;
use node::control::{Control, unreadable, views};
use node::manager::past::Past;
use node::manager::replica::Request;
use node::security::ExternalClient;
use wire::v1::{
    ArchiveHistoryRequest, AuditKey, BackupRequest, CheckpointReply, ClusterView, CommandReply, CommandRequest,
    CompareRequest, ConfigView, ConsistencyProof, CreateOperatorRequest, DescribeSecretsRequest, EventRecord,
    EventsRequest, ExplainPlacementRequest, FindPointRequest, FrameProof, Interaction, LeaveClusterReply,
    LeaveClusterRequest, ListNodesRequest, ListServicesRequest, ListSinksRequest, ListTasksRequest, LogsRequest,
    NodeSummary, NodeView, OperatorCertificate, OperatorView, PlacementExplanation, PlanUndoRequest, PointView,
    PreviewReply, PreviewRequest, ProveConsistencyRequest, RaftView, ReadAfterReply, ReadAfterRequest,
    ReadConfigsRequest, ReadFramesRequest, RenewOperatorRequest, ReplayReply, ReplayRequest, ResolveImageRequest,
    ResolvedImage, SecretView, ServiceSummary, ServiceView, SinkView, SurviveReply, SurviveRequest, TaskList, UndoPlan,
    UnlockKeyReply, UsageRequest, VersionReply,
};

use crate::load::UsageFollower;
use crate::logs::LogFollower;
use crate::world::World;

/// The user at the socket.
const USER: &str = "root";
/// Step size when a waiting client lets time pass without events.
pub(crate) const STRIDE: Duration = Duration::from_secs(1);

/// A client's connection to the world.
#[derive(Clone)]
pub struct Socket {
    /// The simulated world.
    pub world: Rc<RefCell<World>>,
    /// The point of history that this client reads.
    at: Option<u64>,
    draft: Rc<Draft>,
}

impl Socket {
    /// A connection of a client that reads the present.
    pub fn new(world: Rc<RefCell<World>>) -> Self {
        Self { world, at: None, draft: Rc::default() }
    }

    fn present(&self) -> Result<Control, Failure> {
        let world = self.world.borrow();
        let control = world.manager.control(world.clock.now());
        control.ok_or_else(|| Failure::new(Kind::Unreachable, "the manager is down"))
    }

    pub(crate) fn control(&self) -> Result<Control, Failure> {
        let Some(index) = self.at else { return self.present() };
        self.at_index(index)
    }

    fn at_index(&self, index: u64) -> Result<Control, Failure> {
        let control = self.present()?;
        let past = Past::of(Arc::clone(&control.store));
        control.at(index, &past, &|| false).map_err(refuse)
    }

    pub(crate) fn submit(&self, request: Request) -> Result<CommandReply, Failure> {
        let outcome = self.world.borrow_mut().execute(request).map_err(|error| broken(&error))?;
        command::reply(outcome).map_err(refuse)
    }
}

pub(crate) fn refuse(rejection: Rejection) -> Failure {
    views::refusal(rejection).into()
}

pub(crate) fn broken(error: &anyhow::Error) -> Failure {
    Failure::new(Kind::Other, format!("the simulation broke: {error:#}"))
}

impl cli::Manager for Socket {
    async fn execute(&mut self, request: CommandRequest) -> Result<CommandReply, Failure> {
        let actor = Actor::Operator(USER.to_owned());
        let joined: Vec<CommandId> = request.joined.iter().map(|joined| joined.id).collect();
        let reply = match self.control()?.receive(actor.clone(), request).map_err(refuse)? {
            Received::Answered(reply) => reply,
            Received::New(request) => self.submit(*request)?,
        };
        Ok(self.present()?.answer(reply, &actor, &joined))
    }

    async fn preview(&mut self, request: PreviewRequest) -> Result<PreviewReply, Failure> {
        let actor = Actor::Operator(USER.to_owned());
        self.control()?.preview(&actor, request, &|| false).map_err(refuse)
    }

    async fn read_after(&mut self, request: ReadAfterRequest) -> Result<Vec<ReadAfterReply>, Failure> {
        let actor = Actor::Operator(USER.to_owned());
        Ok(self.control()?.read_after(&actor, request, &self.draft, &|| false).map_err(refuse)?.collect())
    }

    async fn survive(&mut self, request: SurviveRequest) -> Result<SurviveReply, Failure> {
        self.control()?.survive(&request, &|| false).map_err(refuse)
    }

    async fn replay(&mut self, request: ReplayRequest) -> Result<ReplayReply, Failure> {
        self.control()?.replay(&request, &|| false).map_err(refuse)
    }

    async fn version(&mut self) -> Result<VersionReply, Failure> {
        Ok(self.control()?.version())
    }

    async fn cluster(&mut self, with_tokens: bool) -> Result<ClusterView, Failure> {
        if with_tokens && self.at.is_none() {
            let read = self.control()?.read_tokens(Actor::Operator(USER.to_owned()));
            self.submit(read)?;
        }
        self.control()?.cluster(with_tokens).map_err(refuse)
    }

    async fn unlock_key(&mut self) -> Result<UnlockKeyReply, Failure> {
        let read = self.control()?.read_unlock_key(Actor::Operator(USER.to_owned()));
        let key = self.control()?.unlock_key().map_err(refuse)?;
        self.submit(read)?;
        Ok(key)
    }

    async fn unlock(&mut self, _: SecretText) -> Result<(), Failure> {
        Err(Failure::new(Kind::Conflict, "this manager is not locked"))
    }

    async fn leave(&mut self, _: LeaveClusterRequest) -> Result<LeaveClusterReply, Failure> {
        Err(Failure::new(Kind::Usage, "a simulated node has no daemon that could leave"))
    }

    async fn explain_placement(&mut self, request: ExplainPlacementRequest) -> Result<PlacementExplanation, Failure> {
        self.control()?.explain_placement(&request).map_err(refuse)
    }

    async fn resolve_image(&mut self, request: ResolveImageRequest) -> Result<ResolvedImage, Failure> {
        let world = self.world.borrow();
        Ok(match world.registry.get(&request.image) {
            None => ResolvedImage::default(),
            Some(Some(digest)) => ResolvedImage {
                image: Some(format!("{}@{digest}", request.image)),
                problem: None,
                platforms: world.platforms.get(&request.image).cloned().unwrap_or_default(),
            },
            Some(None) => {
                ResolvedImage { problem: Some("the registry does not answer".to_owned()), ..ResolvedImage::default() }
            }
        })
    }

    async fn sinks(&mut self, sinks: Vec<String>) -> Result<Vec<SinkView>, Failure> {
        Ok(self.control()?.sinks(&ListSinksRequest { sinks }).map_err(refuse)?.sinks)
    }

    async fn operators(&mut self) -> Result<Vec<OperatorView>, Failure> {
        Ok(self.control()?.operators().operators)
    }

    async fn renew_operator(&mut self, _: RenewOperatorRequest) -> Result<OperatorCertificate, Failure> {
        Err(Failure::new(Kind::Forbidden, "the caller of a simulated manager has no certificate"))
    }

    async fn create_operator(&mut self, request: CreateOperatorRequest) -> Result<OperatorCertificate, Failure> {
        let csr_pem = request.csr_pem.clone();
        let asked = self.control()?.create_operator(Actor::Operator(USER.to_owned()), request).map_err(refuse)?;
        let reply = self.submit(asked)?;
        self.control()?.operator_certificate(&ExternalClient::anonymous(), &reply, &csr_pem).await.map_err(refuse)
    }

    async fn raft(&mut self) -> Result<RaftView, Failure> {
        Ok(self.control()?.raft())
    }

    async fn nodes(&mut self, references: Vec<String>) -> Result<Vec<NodeView>, Failure> {
        Ok(self.control()?.inspect_nodes(&references).map_err(refuse)?.nodes)
    }

    async fn services(&mut self, references: Vec<String>) -> Result<Vec<ServiceView>, Failure> {
        Ok(self.control()?.inspect_services(&references).map_err(refuse)?.services)
    }

    async fn list_nodes(&mut self, request: ListNodesRequest) -> Result<Vec<NodeSummary>, Failure> {
        Ok(self.control()?.list_nodes(&request).flat_map(|page| page.nodes).collect())
    }

    async fn list_services(&mut self, request: ListServicesRequest) -> Result<Vec<ServiceSummary>, Failure> {
        Ok(self.control()?.list_services(&request).flat_map(|page| page.services).collect())
    }

    async fn tasks(&mut self, request: ListTasksRequest) -> Result<TaskList, Failure> {
        let mut list = TaskList::default();
        for page in self.control()?.list_tasks(&request).map_err(refuse)? {
            (list.index, list.total) = (page.index, page.total);
            list.tasks.extend(page.tasks);
        }
        Ok(list)
    }

    async fn configs(&mut self, configs: Vec<String>) -> Result<Vec<ConfigView>, Failure> {
        let pages = self.control()?.read_configs(&ReadConfigsRequest { configs }).map_err(refuse)?;
        Ok(pages.flat_map(|page| page.configs).collect())
    }

    async fn secrets(&mut self, secrets: Vec<String>) -> Result<Vec<SecretView>, Failure> {
        let pages = self.control()?.describe_secrets(&DescribeSecretsRequest { secrets }).map_err(refuse)?;
        Ok(pages.flat_map(|page| page.secrets).collect())
    }

    async fn backup(&mut self, mut passphrase: events::SecretText) -> Result<BackupStream, Failure> {
        let request = BackupRequest { passphrase: std::mem::take(&mut passphrase.0) };
        let mut writer = self.control()?.backup(request).map_err(refuse)?;
        let parts =
            std::iter::from_fn(move || writer.part().map_err(|error| refuse(backup::unwritable(&error))).transpose());
        Ok(Box::pin(futures_util::stream::iter(parts)))
    }

    async fn audit_keys(&mut self) -> Result<Vec<AuditKey>, Failure> {
        Ok(self.control()?.audit_keys().map_err(refuse)?.keys)
    }

    async fn checkpoint(&mut self) -> Result<CheckpointReply, Failure> {
        let signed = self.control()?.checkpoint(None).map_err(refuse)?;
        Ok(CheckpointReply { note: signed.note.to_string(), index: signed.index, others: Vec::new() })
    }

    async fn prove_frame(&mut self, index: u64) -> Result<FrameProof, Failure> {
        let control = self.control()?;
        let signed = control.checkpoint(None).map_err(refuse)?;
        let proof = control.prove_frame(index, signed).map_err(refuse)?;
        Ok(FrameProof { proof: proof.to_string(), others: Vec::new() })
    }

    async fn prove_consistency(&mut self, request: ProveConsistencyRequest) -> Result<ConsistencyProof, Failure> {
        self.control()?.prove_consistency(&request).map_err(refuse)
    }

    async fn frames(&mut self, request: ReadFramesRequest) -> Result<FrameStream, Failure> {
        let mut frames = self.control()?.frames(&request);
        let pages = std::iter::from_fn(move || frames.page().map_err(refuse).transpose());
        Ok(Box::pin(futures_util::stream::iter(pages)))
    }

    async fn archive_history(&mut self, request: ArchiveHistoryRequest) -> Result<ArchivedStream, Failure> {
        let mut archiving = self.control()?.archive_history(&request).map_err(refuse)?;
        let made =
            std::iter::from_fn(move || archiving.make_next().map_err(|error| refuse(unreadable(&error))).transpose());
        Ok(Box::pin(futures_util::stream::iter(made)))
    }

    async fn verify_history(&mut self) -> Result<VerifiedStream, Failure> {
        let mut verification = self.control()?.verify_history();
        Ok(Box::pin(futures_util::stream::iter(std::iter::from_fn(move || verification.step().map(Ok)))))
    }

    async fn go_to(&mut self, point: FindPointRequest) -> Result<PointView, Failure> {
        let found = self.present()?.find_point(&point).map_err(refuse)?;
        self.at = Some(found.index);
        Ok(found)
    }

    fn return_to_present(&mut self) {
        self.at = None;
    }

    async fn find_point(&mut self, point: FindPointRequest) -> Result<PointView, Failure> {
        self.present()?.find_point(&point).map_err(refuse)
    }

    async fn plan_undo(&mut self, request: PlanUndoRequest) -> Result<UndoPlan, Failure> {
        let control = self.present()?;
        let past = Past::of(Arc::clone(&control.store));
        control.plan_undo(&request, &past, &|| false).map_err(refuse)
    }

    async fn compare(&mut self, request: CompareRequest) -> Result<DifferenceStream, Failure> {
        let (earlier, later) = (self.at_index(request.from)?, self.at_index(request.to)?);
        let pages = later.differences_since(&earlier).map_err(refuse)?;
        Ok(Box::pin(futures_util::stream::iter(pages.map(Ok))))
    }

    async fn events(&mut self, request: EventsRequest) -> Result<EventStream, Failure> {
        let follow = request.follow;
        let event_reader = self.present()?.history(request).map_err(refuse)?;
        Ok(Box::pin(HistoryFollower { world: Rc::clone(&self.world), event_reader, follow, pending: Vec::new() }))
    }

    async fn logs(&mut self, request: LogsRequest) -> Result<LogParts, Failure> {
        Ok(Box::pin(LogFollower::new(self.clone(), request)?))
    }

    async fn usage(&mut self, request: UsageRequest) -> Result<UsageParts, Failure> {
        Ok(Box::pin(UsageFollower::new(self.clone(), request)?))
    }

    async fn interact(&mut self, begin: Interaction, _: TaskInputs) -> Result<TaskOutputs, Failure> {
        self.interact_with(Actor::Operator(USER.to_owned()), &begin)
    }
}

/// History as a stream. A client that follows it lets time pass.
struct HistoryFollower {
    world: Rc<RefCell<World>>,
    event_reader: EventReader,
    follow: bool,
    /// Events that were read but not returned yet, newest first.
    pending: Vec<EventRecord>,
}

impl HistoryFollower {
    fn read(&mut self) -> Result<(), Failure> {
        // A manager that is down reports nothing new.
        let Ok(state) = self.world.borrow().state() else { return Ok(()) };
        while let Some(page) = self.event_reader.page(&state.cluster).map_err(refuse)? {
            self.pending.extend(page);
        }
        self.pending.reverse();
        Ok(())
    }
}

impl Stream for HistoryFollower {
    type Item = Result<EventRecord, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.pending.is_empty()
            && let Err(failure) = this.read()
        {
            return Poll::Ready(Some(Err(failure)));
        }
        match this.pending.pop() {
            Some(record) => Poll::Ready(Some(Ok(record))),
            None if !this.follow || this.event_reader.is_over() => Poll::Ready(None),
            None => {
                let until = this.world.borrow().clock.now() + STRIDE;
                if let Err(error) = this.world.borrow_mut().step(until) {
                    return Poll::Ready(Some(Err(broken(&error))));
                }
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cli::Manager;
    use events::service_spec::Mode;
    use events::{
        Annotations, ConfigReference, ConfigSpec, FileTarget, GlobalMode, Id, ReplicatedMode, Role, ServiceSpec,
    };
    use futures_util::FutureExt;
    use node::manager::replica::Intervals;
    use prost::Message;
    use wire::v1::command_request::Command as WireCommand;
    use wire::v1::{
        CreateConfig, CreateService, LabelFilter, RemoveService, ScaleService, Selection, ServiceMode, ServicePage,
    };

    use super::*;
    use crate::script::machine;

    #[test]
    fn a_repeated_command_gets_its_first_answer_also_when_what_it_names_is_gone() {
        let world = World::new(1, machine("n1"), 1, Intervals::default()).expect("a cluster");
        let mut socket = Socket::new(Rc::new(RefCell::new(world)));
        let mut ask = |id: u128, wish: WireCommand| {
            let request =
                CommandRequest { id: CommandId::from_bits(id), command: Some(wish), ..CommandRequest::default() };
            socket.execute(request).now_or_never().expect("the world answers at once")
        };
        let mut spec: ServiceSpec = ServiceSpec::default();
        spec.annotations.get_or_insert_default().name = "web".to_owned();
        spec.task.get_or_insert_default().container.get_or_insert_default().image = "x".to_owned();
        let workload = [
            WireCommand::CreateService(CreateService { spec: Box::new(spec), ..CreateService::default() }),
            WireCommand::ScaleService(ScaleService { service: "web".to_owned(), replicas: 2 }),
            WireCommand::RemoveService(RemoveService { service: "web".to_owned() }),
        ];
        let first: Vec<CommandReply> =
            (1..).zip(&workload).map(|(id, wish)| ask(id, wish.clone()).expect("it takes effect")).collect();
        for ((id, wish), first) in (1..).zip(&workload).zip(first) {
            assert_eq!(ask(id, wish.clone()).expect("the first answer"), first);
        }
        assert!(ask(9, workload[2].clone()).is_err(), "another command with the same words finds nothing");
    }

    #[test]
    fn commands_that_are_joined_are_one_frame_or_none_and_refer_to_each_others_objects_by_name() {
        let world = World::new(1, machine("n1"), 1, Intervals::default()).expect("a cluster");
        let mut socket = Socket::new(Rc::new(RefCell::new(world)));
        let annotations = |name: &str| Some(Annotations { name: name.to_owned(), ..Annotations::default() });
        let config = ConfigSpec { annotations: annotations("site"), ..ConfigSpec::default() };
        let config = WireCommand::CreateConfig(CreateConfig { spec: config, data: b"listen".to_vec() });
        let mut spec = ServiceSpec { annotations: annotations("web"), ..ServiceSpec::default() };
        let container = spec.task.get_or_insert_default().container.get_or_insert_default();
        let file = Some(FileTarget { name: "/etc/site".to_owned(), ..FileTarget::default() });
        let name = "site".to_owned();
        (container.image, container.configs) =
            ("x".to_owned(), vec![ConfigReference { name, file, ..ConfigReference::default() }]);
        let service = WireCommand::CreateService(CreateService { spec: Box::new(spec), ..CreateService::default() });
        let request = |id: u128, wish: &WireCommand, joined| {
            let (id, command) = (CommandId::from_bits(id), Some(wish.clone()));
            CommandRequest { id, command, joined, ..CommandRequest::default() }
        };
        let mut ask = |request| socket.execute(request).now_or_never().expect("the world answers at once");
        // The last one fails because the name was taken by the one before.
        let joined = vec![request(2, &service, Vec::new()), request(3, &service, Vec::new())];
        ask(request(1, &config, joined)).expect_err("the third is refused");
        let together = request(4, &config, vec![request(5, &service, Vec::new())]);
        let made = ask(together.clone()).expect("the first ones left nothing");
        assert_eq!(made.joined.iter().map(|reply| reply.index).collect::<Vec<_>>(), [made.index]);
        assert_eq!(ask(together).expect("the first answer"), made);
        let nested = request(7, &service, vec![request(8, &service, Vec::new())]);
        ask(request(6, &config, vec![nested])).expect_err("commands are joined to one, not to each other");
        let many = vec![request(9, &service, Vec::new()); 300];
        ask(request(10, &config, many)).expect_err("too many");
        let control = socket.control().expect("it runs");
        let cluster = &control.state.cluster;
        let config = cluster.config_named("site").expect("a config");
        let web = cluster.service_named("web").expect("a service");
        assert_eq!((config.id.to_string(), web.id.to_string()), {
            let subject = |reply: &CommandReply| reply.subject.clone().expect("an id");
            (subject(&made), subject(&made.joined[0]))
        });
        assert_eq!(web.spec.template().container().configs[0].config, Some(config.id));
    }

    #[test]
    fn a_list_of_tasks_does_not_repeat_what_they_run() {
        let world = World::new(1, machine("n1"), 1, Intervals::default()).expect("a cluster");
        let mut socket = Socket::new(Rc::new(RefCell::new(world)));
        let none = socket.tasks(ListTasksRequest::default()).now_or_never().expect("at once").expect("a list");
        assert!(none.tasks.is_empty() && none.index > 0, "there is a page also where there is no task");
        let mut spec: ServiceSpec = ServiceSpec::default();
        spec.annotations.get_or_insert_default().name = "web".to_owned();
        let container = spec.task.get_or_insert_default().container.get_or_insert_default();
        container.image = "x".to_owned();
        container.env = vec![format!("LARGE={}", "x".repeat(40_000))];
        spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas: 900 }));
        let command =
            Some(WireCommand::CreateService(CreateService { spec: Box::new(spec), ..CreateService::default() }));
        let request = CommandRequest { id: CommandId::from_bits(1), command, ..CommandRequest::default() };
        socket.execute(request).now_or_never().expect("at once").expect("it takes effect");
        let control = socket.control().expect("it runs");
        let list = |request| -> Vec<TaskList> { control.list_tasks(&request).expect("a list").collect() };
        let pages = list(ListTasksRequest::default());
        let bytes: Vec<usize> = pages.iter().map(Message::encoded_len).collect();
        assert!(pages.len() > 1 && bytes.iter().sum::<usize>() < 900 * 1_000, "{bytes:?}");
        assert!(bytes.iter().all(|bytes| *bytes < 150 * 1024), "{bytes:?}");
        let all: Vec<_> = pages.into_iter().flat_map(|page| page.tasks).collect();
        assert!(all.len() == 900 && all.iter().all(|task| task.image == "x" && task.current && task.spec.is_none()));
        let one = list(ListTasksRequest { tasks: vec![all[7].id.to_string()], ..Default::default() });
        assert!(one[0].tasks[0].spec.as_ref().is_some_and(|spec| spec.encoded_len() > 40_000));
        let named = |numbers: &[usize], service: &str| {
            let tasks = numbers.iter().map(|number| all[*number].id.to_string()).collect();
            let pages = list(ListTasksRequest { tasks, service: Some(service.to_owned()), ..Default::default() });
            pages.into_iter().flat_map(|page| page.tasks).map(|task| task.id).collect::<Vec<_>>()
        };
        assert_eq!(named(&[9, 7, 9], "web"), [all[7].id, all[9].id], "each once, in the order of the list");
    }

    #[test]
    fn lists_of_services_and_nodes_are_pages_of_what_is_selected() {
        let world = World::new(1, machine("n1"), 1_000, Intervals::default()).expect("a cluster");
        let mut socket = Socket::new(Rc::new(RefCell::new(world)));
        for number in 0..200_u32 {
            let mut spec: ServiceSpec = ServiceSpec::default();
            let annotations = spec.annotations.get_or_insert_default();
            annotations.name = format!("s{number:03}");
            let labels = [("half", (number % 2).to_string()), ("long", "x".repeat(1_000))];
            annotations.labels = labels.map(|(key, value)| (key.to_owned(), value)).into();
            let container = spec.task.get_or_insert_default().container.get_or_insert_default();
            container.image = "x".to_owned();
            container.env = vec![format!("LARGE={}", "x".repeat(10_000))];
            spec.mode = Some(if number == 7 {
                Mode::Global(GlobalMode {})
            } else {
                Mode::Replicated(ReplicatedMode { replicas: 0 })
            });
            let command =
                Some(WireCommand::CreateService(CreateService { spec: Box::new(spec), ..CreateService::default() }));
            let id = CommandId::from_bits(u128::from(number) + 1);
            let request = CommandRequest { id, command, ..CommandRequest::default() };
            socket.execute(request).now_or_never().expect("at once").expect("it takes effect");
        }
        let control = socket.control().expect("it runs");
        let pages = |request| -> Vec<ServicePage> { control.list_services(&request).collect() };
        let all = pages(ListServicesRequest::default());
        let bytes: Vec<usize> = all.iter().map(Message::encoded_len).collect();
        assert!(bytes.len() > 1 && bytes.iter().all(|bytes| *bytes < 150 * 1024), "{bytes:?}");
        assert!(all.windows(2).all(|pages| pages[0].index == pages[1].index), "one state");
        let names = |request| -> Vec<String> {
            pages(request).into_iter().flat_map(|page| page.services).map(|service| service.name).collect()
        };
        let everything = names(ListServicesRequest::default());
        assert!(everything.len() == 200 && everything.is_sorted());
        let label = LabelFilter { key: "half".to_owned(), value: Some("1".to_owned()) };
        let select = Selection { names: vec!["S00".to_owned()], labels: vec![label], ..Default::default() };
        let select = Some(select);
        let half = ListServicesRequest { select: select.clone(), mode: None };
        assert_eq!(names(half), ["s001", "s003", "s005", "s007", "s009"]);
        let mode = Some(ServiceMode::Global.into());
        assert_eq!(names(ListServicesRequest { select, mode }), ["s007"]);
        let nodes = |role: Role| {
            let request = ListNodesRequest { role: Some(role.into()), ..Default::default() };
            socket.clone().list_nodes(request).now_or_never().expect("at once").expect("a list").len()
        };
        assert_eq!((nodes(Role::Manager), nodes(Role::Worker)), (1, 0));
    }
}
