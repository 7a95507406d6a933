//! The control socket of the simulated manager: `swarmctl`'s own code asks here, and is answered with the views that the
//! real control API gives.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cli::{EventStream, Failure, Kind};
use commands::{Actor, Rejection, RejectionKind};
use futures_util::Stream;
use node::api::control::{self, Asked};
use node::api::narrator::Narrator;
use node::api::refusal;
use node::control::{lists, views};
use node::driver::Published;
use node::leader::Outcome;
use projections::views::overview::{resolve_node, resolve_service};
use wire::v1::{
    ClusterView, CommandReply, CommandRequest, EventRecord, EventsRequest, ListNodesRequest, ListServicesRequest,
    ListTasksRequest, NodeSummary, NodeView, ServiceSummary, ServiceView, TaskList, VersionReply,
};

use crate::manager::ADDRESS;
use crate::world::World;

/// The user at the socket.
const USER: &str = "root";
/// How far a client that waits lets time pass at once when nothing happens.
const STRIDE: Duration = Duration::from_secs(1);

/// A client's connection to the world.
#[derive(Clone)]
pub struct Socket(pub Rc<RefCell<World>>);

impl Socket {
    fn state(&self) -> Result<Published, Failure> {
        self.0.borrow().state().map_err(|_| Failure::new(Kind::Unreachable, "the manager is down"))
    }
}

fn refuse(rejection: impl Into<Rejection>) -> Failure {
    refusal::status(rejection.into()).into()
}

fn broken(error: &anyhow::Error) -> Failure {
    Failure::new(Kind::Other, format!("the simulation broke: {error:#}"))
}

impl cli::Manager for Socket {
    async fn execute(&mut self, request: CommandRequest) -> Result<CommandReply, Failure> {
        let actor = Actor::Operator(USER.to_owned());
        let request = match control::receive(&self.state()?.cluster, actor, request).map_err(refuse)? {
            Asked::Again(answer) => return Ok(answer),
            Asked::First(request) => request,
        };
        match self.0.borrow_mut().execute(request).map_err(|error| broken(&error))? {
            Outcome::Committed { index, subject } => Ok(CommandReply { index, subject }),
            Outcome::Rejected(rejection) => Err(refuse(rejection)),
            Outcome::Unknown => {
                let sentence = "leadership changed while the command was under way";
                Err(refuse(Rejection::new(RejectionKind::Unavailable, "cluster", sentence, "repeat it")))
            }
        }
    }

    async fn version(&mut self) -> Result<VersionReply, Failure> {
        self.state()?;
        Ok(VersionReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            feature_level: events::frame::FEATURE_LEVEL,
            node_id: self.0.borrow().manager.node.to_string(),
            hostname: "n1".to_owned(),
        })
    }

    async fn cluster(&mut self) -> Result<ClusterView, Failure> {
        let head = self.0.borrow().manager.store().and_then(|store| store.applied().ok()?.frame);
        Ok(views::cluster(&self.state()?, ADDRESS, head))
    }

    async fn nodes(&mut self, references: Vec<String>) -> Result<Vec<NodeView>, Failure> {
        let (cluster, leader) = (self.state()?.cluster, self.0.borrow().manager.node);
        let ids = references.iter().map(|reference| resolve_node(&cluster, reference));
        let ids: Vec<_> = ids.collect::<Result<_, _>>().map_err(refuse)?;
        let found = ids.into_iter().filter_map(|id| cluster.nodes.get(id));
        Ok(found.map(|node| views::node(&cluster, node, leader)).collect())
    }

    async fn services(&mut self, references: Vec<String>) -> Result<Vec<ServiceView>, Failure> {
        let (state, now) = (self.state()?, self.0.borrow().clock.now());
        let cluster = &state.cluster;
        let ids = references.iter().map(|reference| resolve_service(cluster, reference));
        let ids: Vec<_> = ids.collect::<Result<_, _>>().map_err(refuse)?;
        let found = ids.into_iter().filter_map(|id| cluster.services.get(id));
        Ok(found.map(|service| views::service(&state, service, now)).collect())
    }

    async fn list_nodes(&mut self, request: ListNodesRequest) -> Result<Vec<NodeSummary>, Failure> {
        let leader = self.0.borrow().manager.node;
        Ok(lists::nodes(Arc::new(self.state()?), &request, leader).flat_map(|page| page.nodes).collect())
    }

    async fn list_services(&mut self, request: ListServicesRequest) -> Result<Vec<ServiceSummary>, Failure> {
        let now = self.0.borrow().clock.now();
        Ok(lists::services(Arc::new(self.state()?), &request, now).flat_map(|page| page.services).collect())
    }

    async fn tasks(&mut self, request: ListTasksRequest) -> Result<TaskList, Failure> {
        let mut list = TaskList::default();
        let now = self.0.borrow().clock.now();
        for page in lists::tasks(Arc::new(self.state()?), &request, now).map_err(refuse)? {
            list.index = page.index;
            list.tasks.extend(page.tasks);
        }
        Ok(list)
    }

    async fn events(&mut self, request: EventsRequest) -> Result<EventStream, Failure> {
        let (cluster, follow) = (self.state()?.cluster, request.follow);
        let store = self.0.borrow().manager.store().map(Arc::clone);
        let store = store.ok_or_else(|| Failure::new(Kind::Unreachable, "the manager is down"))?;
        let narrator = Narrator::open(store, &cluster, request)?;
        Ok(Box::pin(Tale { world: Rc::clone(&self.0), narrator, follow, told: Vec::new() }))
    }
}

/// History as a stream. A client that follows it makes time pass.
struct Tale {
    world: Rc<RefCell<World>>,
    narrator: Narrator,
    follow: bool,
    /// What was read and not yet handed out, newest first.
    told: Vec<EventRecord>,
}

impl Tale {
    fn read(&mut self) -> Result<(), Failure> {
        // A manager that is down says nothing new.
        let Ok(state) = self.world.borrow().state() else { return Ok(()) };
        while let Some(page) = self.narrator.page(&state.cluster)? {
            self.told.extend(page);
        }
        self.told.reverse();
        Ok(())
    }
}

impl Stream for Tale {
    type Item = Result<EventRecord, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.told.is_empty()
            && let Err(failure) = this.read()
        {
            return Poll::Ready(Some(Err(failure)));
        }
        match this.told.pop() {
            Some(record) => Poll::Ready(Some(Ok(record))),
            None if !this.follow || this.narrator.is_over() => Poll::Ready(None),
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
    use events::{CommandId, GlobalMode, Id, ReplicatedMode, Role, ServiceSpec};
    use futures_util::FutureExt;
    use node::leader::Intervals;
    use prost::Message;
    use wire::v1::command_request::Command as Wish;
    use wire::v1::{CreateService, LabelFilter, RemoveService, ScaleService, Selection, ServiceMode, ServicePage};

    use super::*;
    use crate::script::machine;

    #[test]
    fn a_repeated_command_gets_its_first_answer_also_when_what_it_names_is_gone() {
        let world = World::new(1, machine("n1"), 1, Intervals::default()).expect("a cluster");
        let mut socket = Socket(Rc::new(RefCell::new(world)));
        let mut ask = |id: u128, wish: Wish| {
            let request =
                CommandRequest { id: CommandId::from_bits(id), command: Some(wish), reason: None, correlation: None };
            socket.execute(request).now_or_never().expect("the world answers at once")
        };
        let mut spec: ServiceSpec = ServiceSpec::default();
        spec.annotations.get_or_insert_default().name = "web".to_owned();
        spec.task.get_or_insert_default().container.get_or_insert_default().image = "x".to_owned();
        let wishes = [
            Wish::CreateService(CreateService { spec, ..CreateService::default() }),
            Wish::ScaleService(ScaleService { service: "web".to_owned(), replicas: 2 }),
            Wish::RemoveService(RemoveService { service: "web".to_owned() }),
        ];
        let first: Vec<CommandReply> =
            (1..).zip(&wishes).map(|(id, wish)| ask(id, wish.clone()).expect("it takes effect")).collect();
        for ((id, wish), first) in (1..).zip(&wishes).zip(first) {
            assert_eq!(ask(id, wish.clone()).expect("the first answer"), first);
        }
        assert!(ask(9, wishes[2].clone()).is_err(), "another command with the same words finds nothing");
    }

    #[test]
    fn a_list_of_tasks_does_not_repeat_what_they_run() {
        let world = World::new(1, machine("n1"), 1, Intervals::default()).expect("a cluster");
        let mut socket = Socket(Rc::new(RefCell::new(world)));
        let none = socket.tasks(ListTasksRequest::default()).now_or_never().expect("at once").expect("a list");
        assert!(none.tasks.is_empty() && none.index > 0, "there is a page also where there is no task");
        let mut spec: ServiceSpec = ServiceSpec::default();
        spec.annotations.get_or_insert_default().name = "web".to_owned();
        let container = spec.task.get_or_insert_default().container.get_or_insert_default();
        container.image = "x".to_owned();
        container.env = vec![format!("LARGE={}", "x".repeat(40_000))];
        spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas: 900 }));
        let command = Some(Wish::CreateService(CreateService { spec, ..CreateService::default() }));
        let request = CommandRequest { id: CommandId::from_bits(1), command, reason: None, correlation: None };
        socket.execute(request).now_or_never().expect("at once").expect("it takes effect");
        let state = Arc::new(socket.state().expect("it runs"));
        let list = |request| -> Vec<TaskList> {
            lists::tasks(Arc::clone(&state), &request, crate::clock::START).expect("a list").collect()
        };
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
        let mut socket = Socket(Rc::new(RefCell::new(world)));
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
            let command = Some(Wish::CreateService(CreateService { spec, ..CreateService::default() }));
            let id = CommandId::from_bits(u128::from(number) + 1);
            let request = CommandRequest { id, command, reason: None, correlation: None };
            socket.execute(request).now_or_never().expect("at once").expect("it takes effect");
        }
        let state = Arc::new(socket.state().expect("it runs"));
        let pages = |request| -> Vec<ServicePage> {
            lists::services(Arc::clone(&state), &request, crate::clock::START).collect()
        };
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
