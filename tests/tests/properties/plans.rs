//! A preview predicts exactly what then happens, task by task, and changes nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use cli::Manager;
use events::service_spec::Mode;
use events::{
    Availability, CommandId, Id, NodeSpec, ReplicatedMode, ResourceRequirements, Resources, ServiceSpec, UpdateConfig,
};
use futures_util::FutureExt;
use node::manager::replica::Intervals;
use projections::Cluster;
use proptest::prelude::*;
use tests::script::machine;
use tests::socket::Socket;
use tests::world::World;
use wire::v1::command_request::Command;
use wire::v1::preview_step::Step;
use wire::v1::{
    CommandRequest, CreateService, PreviewReply, PreviewRequest, PreviewStep, RemoveService, ScaleService, UpdateNode,
    UpdateService,
};

const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];
const SERVICES: [&str; 3] = ["a", "b", "c"];

/// One change, valid or not.
#[derive(Debug, Clone)]
enum Change {
    Create { service: usize, replicas: u64, cpus: u64 },
    Update { service: usize, image: u8, replicas: u64, parallelism: u64 },
    Scale { service: usize, replicas: u64 },
    Remove(usize),
    Drain { node: usize, drain: bool },
}

fn change() -> impl Strategy<Value = Change> {
    let (service, replicas) = (0..SERVICES.len(), 0..7_u64);
    prop_oneof![
        4 => (service.clone(), replicas.clone(), 0..2_u64)
            .prop_map(|(service, replicas, cpus)| Change::Create { service, replicas, cpus }),
        3 => (service.clone(), 0..3_u8, replicas.clone(), 0..3_u64).prop_map(|(service, image, replicas, parallelism)| {
            Change::Update { service, image, replicas, parallelism }
        }),
        3 => (service.clone(), replicas).prop_map(|(service, replicas)| Change::Scale { service, replicas }),
        1 => service.prop_map(Change::Remove),
        2 => (0..NODES.len(), any::<bool>()).prop_map(|(node, drain)| Change::Drain { node, drain }),
    ]
}

fn spec(name: &str, image: u8, replicas: u64, cpus: u64, parallelism: u64) -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    spec.annotations.get_or_insert_default().name = name.to_owned();
    let task = spec.task.get_or_insert_default();
    task.container.get_or_insert_default().image = format!("sim/ok:{image}");
    let reservations = Some(Resources { nano_cpus: cpus * 1_000_000_000, ..Resources::default() });
    task.resources = Some(ResourceRequirements { reservations, ..ResourceRequirements::default() });
    spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas }));
    spec.update = Some(UpdateConfig { parallelism: Some(parallelism), ..UpdateConfig::default() });
    spec
}

fn command(change: &Change) -> Command {
    let name = |service: &usize| SERVICES[*service].to_owned();
    match change {
        Change::Create { service, replicas, cpus } => {
            let spec = spec(SERVICES[*service], 0, *replicas, *cpus, 1);
            Command::CreateService(CreateService { spec: Box::new(spec), ..CreateService::default() })
        }
        Change::Update { service, image, replicas, parallelism } => {
            let spec = spec(SERVICES[*service], *image, *replicas, 0, *parallelism);
            Command::UpdateService(UpdateService {
                service: name(service),
                spec: Box::new(spec),
                ..UpdateService::default()
            })
        }
        Change::Scale { service, replicas } => {
            Command::ScaleService(ScaleService { service: name(service), replicas: *replicas })
        }
        Change::Remove(service) => Command::RemoveService(RemoveService { service: name(service) }),
        Change::Drain { node, drain } => {
            let availability = if *drain { Availability::Drain } else { Availability::Active };
            let spec = NodeSpec { availability: availability.into(), ..NodeSpec::default() };
            Command::UpdateNode(UpdateNode { node: NODES[*node].to_owned(), spec, version: None })
        }
    }
}

/// The node of each slot's task; `None` if it waits.
type Places = BTreeMap<String, Option<String>>;

fn places(cluster: &Cluster) -> Places {
    let live = cluster.tasks.values().filter(|task| task.is_live());
    let place = |task: &projections::Task| {
        let slot = task.instance().slot().expect("all services are replicated");
        let node = task.node.and_then(|node| cluster.nodes.get(node)).map(|node| node.hostname().to_owned());
        (format!("{}.{slot}", cluster.spec_of(task).name()), node)
    };
    live.map(place).collect()
}

/// The slots after the changes, as predicted by a preview.
fn predicted(mut places: Places, preview: &PreviewReply) -> Places {
    for task in &preview.tasks {
        if task.to.is_none() && task.waiting.is_none() {
            places.remove(&task.place);
        } else {
            places.insert(task.place.clone(), task.to.clone());
        }
    }
    places
}

struct Trial {
    socket: Socket,
    commands: u128,
}

impl Trial {
    fn begin() -> Self {
        let mut world = World::new(3, machine(NODES[0]), 1_000, Intervals::default()).expect("a cluster");
        for name in &NODES[1..] {
            world.join(machine(name), None).expect("a node joins");
        }
        world.settle().expect("it comes to rest");
        Self { socket: Socket::new(Rc::new(RefCell::new(world))), commands: 0 }
    }

    fn cluster(&self) -> Cluster {
        self.socket.world.borrow().state().expect("it runs").cluster
    }

    /// The applied index of the log.
    fn applied(&self) -> u64 {
        self.socket.world.borrow().manager.store().expect("it runs").applied().expect("it can be read").index
    }

    fn check(&mut self, change: &Change) {
        self.commands += 1;
        let command = Some(command(change));
        let request = CommandRequest { id: CommandId::from_bits(self.commands), command, ..CommandRequest::default() };
        let step = PreviewStep { at_rest: false, step: Some(Step::Command(request.clone())) };
        let (before, log) = (self.cluster(), self.applied());
        let preview = self
            .socket
            .preview(PreviewRequest { steps: vec![step], ..Default::default() })
            .now_or_never()
            .expect("at once");
        let preview = preview.expect("an answer");
        assert_eq!((self.cluster().state_hash(), self.applied()), (before.state_hash(), log), "nothing happened");
        let answer = self.socket.execute(request).now_or_never().expect("at once");
        self.socket.world.borrow_mut().settle().expect("it comes to rest");
        match (&preview.refusal, answer) {
            (Some(refusal), Err(failure)) => assert_eq!(refusal.sentence, failure.sentence),
            (None, Ok(_)) => assert_eq!(predicted(places(&before), &preview), places(&self.cluster()), "{change:?}"),
            (refusal, answer) => panic!("{change:?}: predicted {refusal:?}, was {answer:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_is_planned_is_what_then_happens(changes in prop::collection::vec(change(), 1..8)) {
        let mut trial = Trial::begin();
        changes.iter().for_each(|change| trial.check(change));
    }
}
