//! Clients that send requests during faults, and a journal of their answers: commands with their ids, registers, and a
//! subscription.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use events::service_spec::Mode;
use events::{Annotations, CommandId, ConfigSpec, ContainerSpec, Id, ReplicatedMode, ServiceSpec, TaskSpec, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::linearizability::{Action, Operation};
use wire::v1::command_request::Command as WireCommand;
use wire::v1::{CommandRequest, CreateConfig, CreateService, EventsRequest, InspectServicesRequest, ScaleService};

/// How long a client waits for an answer before it tries another manager.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Delay between two requests of a client.
const PAUSE: Duration = Duration::from_millis(20);
/// The same for registers, whose histories are checked: longer, since the check takes quadratic time.
const REGISTER_PAUSE: Duration = Duration::from_millis(50);
/// Number of operations on one register, before the next one is used.
const OPERATIONS_MAX: u64 = 400;
/// Number of values of a register: few, so that many commands set the present value again.
const VALUES: u64 = 5;
/// One out of this many answered commands is repeated, at another manager.
const ASKED_AGAIN: u32 = 5;

/// The journal of all clients.
#[derive(Default)]
pub struct Journal {
    /// Acknowledged commands, with the index of their frame and the name of the config that they create.
    pub acknowledged: Mutex<Vec<(CommandId, u64, String)>>,
    /// Operations on registers.
    pub operations: Mutex<Vec<Operation>>,
    /// Counts the operations on registers.
    operation: AtomicU64,
    /// The events that a subscriber received, in this order.
    pub subscribed: Mutex<Vec<(u64, u32)>>,
    /// Number of subscriptions.
    pub subscriptions: AtomicU64,
    over: AtomicBool,
}

impl Journal {
    /// Number of acknowledged commands.
    pub fn count(&self) -> usize {
        self.acknowledged.lock().expect("no panic").len()
    }

    /// Stops the clients.
    pub fn close(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A client of several managers.
pub struct Client {
    pub number: u64,
    pub sockets: Vec<PathBuf>,
    pub journal: Arc<Journal>,
    pub started: Instant,
}

impl Client {
    /// Creates one config after the other. Each command is repeated until it is acknowledged, at one manager after the other and
    /// with the same id.
    pub async fn create(self) {
        let (mut random, mut last) = (StdRng::seed_from_u64(self.number), 0);
        let mut manager = self.number as usize;
        for sequence in 0.. {
            let name = format!("c{}-{sequence}", self.number);
            let id = CommandId::from_bits(random.random());
            let Some(index) = self.until_acknowledged(&mut manager, id, config(&name)).await else { return };
            assert!(index >= last, "{name} is in frame {index}, and what was acknowledged before in frame {last}");
            last = index;
            self.journal.acknowledged.lock().expect("no panic").push((id, index, name.clone()));
            if random.random_range(0..ASKED_AGAIN) == 0 {
                manager += 1;
                let Some(again) = self.until_acknowledged(&mut manager, id, config(&name)).await else { return };
                assert_eq!(again, index, "{name} has one effect");
            }
        }
    }

    /// Repeats a command until it is acknowledged; `None` once the journal is closed.
    async fn until_acknowledged(&self, manager: &mut usize, id: CommandId, command: WireCommand) -> Option<u64> {
        while !self.journal.is_over() {
            let asked = tokio::time::timeout(TIMEOUT, self.ask(*manager, id, command.clone())).await;
            if let Ok(Ok(index)) = asked {
                return Some(index);
            }
            *manager += 1;
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    async fn ask(&self, manager: usize, id: CommandId, command: WireCommand) -> Result<u64, ()> {
        let mut client = wire::connect(self.socket(manager)).await.map_err(drop)?;
        let answered = client.execute(CommandRequest { id, command: Some(command), ..CommandRequest::default() }).await;
        answered.map(|reply| reply.into_inner().index).map_err(drop)
    }

    fn socket(&self, manager: usize) -> &PathBuf {
        &self.sockets[manager % self.sockets.len()]
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ns(0) + self.started.elapsed()
    }

    /// Sets and reads registers, each time at a random manager. A register is the number of replicas of a service that no node
    /// can run.
    pub async fn use_registers(self) {
        let mut random = StdRng::seed_from_u64(self.number);
        let mut made = None;
        while !self.journal.is_over() {
            let key = self.journal.operation.fetch_add(1, Ordering::Relaxed) / OPERATIONS_MAX;
            let mut manager = random.random_range(0..self.sockets.len());
            if made != Some(key) {
                // All clients create it with the same command id.
                let id = CommandId::from_bits(u128::MAX - u128::from(key));
                if self.until_acknowledged(&mut manager, id, register(key)).await.is_none() {
                    return;
                }
                made = Some(key);
            }
            let value = random.random_bool(0.5).then(|| random.random_range(1..=VALUES));
            let id = CommandId::from_bits(random.random());
            let operation = self.operate(manager, key, value, id).await;
            self.journal.operations.lock().expect("no panic").extend(operation);
            tokio::time::sleep(REGISTER_PAUSE).await;
        }
    }

    /// Sets or reads a register; a read without an answer is not recorded.
    async fn operate(&self, manager: usize, key: u64, value: Option<u64>, id: CommandId) -> Option<Operation> {
        let called = self.now();
        let Some(replicas) = value else {
            let seen = tokio::time::timeout(TIMEOUT, self.read(manager, key)).await.ok()?.ok()?;
            return Some(Operation { key, action: Action::Read(Some(seen)), called, answered: Some(self.now()) });
        };
        let scale = WireCommand::ScaleService(ScaleService { service: format!("r{key}"), replicas });
        let asked = tokio::time::timeout(TIMEOUT, self.ask(manager, id, scale)).await;
        // A command that was refused or not answered may take effect at any time.
        let answered = matches!(asked, Ok(Ok(_))).then(|| self.now());
        Some(Operation { key, action: Action::Write(replicas), called, answered })
    }

    async fn read(&self, manager: usize, key: u64) -> Result<u64, ()> {
        let mut client = wire::connect(self.socket(manager)).await.map_err(drop)?;
        let asked = InspectServicesRequest { services: vec![format!("r{key}")] };
        let shown = client.inspect_services(asked).await.map_err(drop)?.into_inner();
        match shown.services.first().and_then(|service| service.spec.mode) {
            Some(Mode::Replicated(replicated)) => Ok(replicated.replicas),
            Some(Mode::Global(_) | Mode::ReplicatedJob(_) | Mode::GlobalJob(_)) | None => Err(()),
        }
    }

    /// Follows history from its start, at one manager after the other: if a stream breaks, the next one continues.
    pub async fn subscribe(self) {
        let mut manager = self.number as usize;
        while !self.journal.is_over() {
            // However it ends, the next one continues.
            let _ = self.follow(manager).await;
            manager += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&self, manager: usize) -> Result<(), tonic::Status> {
        let socket = self.socket(manager);
        let mut client = wire::connect(socket).await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let last = self.journal.subscribed.lock().expect("no panic").last().copied();
        let request = EventsRequest { from: last.map(|(index, _)| index), follow: true, ..EventsRequest::default() };
        let mut stream = client.events(request).await?.into_inner();
        self.journal.subscriptions.fetch_add(1, Ordering::Relaxed);
        while !self.journal.is_over() {
            match tokio::time::timeout(TIMEOUT, stream.message()).await {
                Ok(Ok(Some(event))) => {
                    // Part of the frame that it continues with was received before.
                    let place = (event.index, event.ordinal);
                    let mut subscribed = self.journal.subscribed.lock().expect("no panic");
                    if last.is_none_or(|last| place > last) {
                        subscribed.push(place);
                    }
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(broken)) => return Err(broken),
                // A partitioned manager has nothing new.
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }
}

fn config(name: &str) -> WireCommand {
    let spec = ConfigSpec {
        annotations: Some(Annotations { name: name.to_owned(), ..Annotations::default() }),
        ..Default::default()
    };
    WireCommand::CreateConfig(CreateConfig { spec, data: b"data".to_vec() })
}

fn register(key: u64) -> WireCommand {
    let container = ContainerSpec { image: "x".to_owned(), ..ContainerSpec::default() };
    let placement = events::Placement { constraints: vec!["node.hostname==nowhere".to_owned()], ..Default::default() };
    let spec = ServiceSpec {
        annotations: Some(Annotations { name: format!("r{key}"), ..Annotations::default() }),
        task: Some(TaskSpec { container: Some(container), placement: Some(placement), ..TaskSpec::default() }),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas: 0 })),
        ..ServiceSpec::default()
    };
    WireCommand::CreateService(CreateService { spec: Box::new(spec), ..CreateService::default() })
}
