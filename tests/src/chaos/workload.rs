//! The commands of users in the simulation.

use std::time::Duration;

use commands::{Actor, Command, SecretBytes, SecretText, ServiceSecrets};
use events::service_spec::Mode;
use events::{
    Annotations, Availability, CommandId, ContainerSpec, FailureAction, GlobalMode, Id, NodeSpec, ReplicatedMode,
    Resources, RestartPolicy, SecretId, SecretReference, SecretSpec, ServiceSpec, TaskSpec, UpdateConfig, UpdateOrder,
};
use node::manager::replica::Request;
use rand::Rng;

use super::Chaos;

/// The user who sends commands.
const USER: &str = "user";
/// The images of services: most of them run well.
const IMAGES: [&str; 10] = [
    "sim/ok:1",
    "sim/ok:2",
    "sim/ok:3",
    "sim/exit-0-after-5s",
    "sim/exit-1",
    "sim/exit-1-after-3s",
    "sim/missing",
    "sim/slow-pull",
    "sim/ignores-term",
    "sim/busy",
];
/// The image of every service at the end.
const LAST_IMAGE: &str = "sim/ok:last";
/// Probability that a service has registry credentials.
const WITH_CREDENTIALS: f64 = 0.3;
/// Maximum number of services at a time, and of replicas of one.
const SERVICES_MAX: usize = 4;
const REPLICAS_MAX: u64 = 8;
/// Maximum number of secrets at a time.
const SECRETS_MAX: usize = 3;

impl Chaos {
    /// The next command of a user.
    pub(super) fn next_request(&mut self) -> anyhow::Result<Request> {
        let cluster = self.cluster();
        let services: Vec<_> = cluster.services.values().map(|service| service.id).collect();
        let tasks: Vec<_> = cluster.tasks.values().map(|task| task.id).collect();
        let choice = if services.is_empty() { 0 } else { self.random.random_range(0..100) };
        let command = match choice {
            0..20 if services.len() < SERVICES_MAX => self.create(),
            0..45 => {
                let service = self.pick(&services)?;
                Command::ScaleService(commands::ScaleService {
                    service,
                    replicas: self.random.random_range(0..=REPLICAS_MAX),
                })
            }
            45..70 => {
                let service = self.pick(&services)?;
                let spec = cluster.services.get(service).map(|service| (*service.spec).clone()).unwrap_or_default();
                let image = self.pick(&IMAGES)?;
                self.update(service, spec, image)
            }
            70..75 => Command::RemoveService(commands::RemoveService { service: self.pick(&services)? }),
            75..80 if !tasks.is_empty() => Command::RemoveTask(commands::RemoveTask { task: self.pick(&tasks)? }),
            80..88 => self.change_secret()?,
            _ => self.change_node()?,
        };
        Ok(self.request(command))
    }

    /// Commands after which every service can be placed, and every task keeps running.
    pub(super) fn final_requests(&mut self) -> anyhow::Result<Vec<Request>> {
        let cluster = self.world.state()?.cluster;
        let mut requests = Vec::new();
        for node in cluster.nodes.values() {
            let spec = NodeSpec { availability: Availability::Active.into(), ..(*node.spec).clone() };
            requests.push(self.request(Command::UpdateNode(commands::UpdateNode {
                node: node.id,
                spec,
                version: None,
            })));
        }
        for service in cluster.services.values() {
            let command = self.update(service.id, (*service.spec).clone(), LAST_IMAGE);
            requests.push(self.request(command));
        }
        Ok(requests)
    }

    fn create(&mut self) -> Command {
        let name = format!("s{}", self.asked + 1);
        let mode = if self.random.random_bool(0.2) {
            Mode::Global(GlobalMode {})
        } else {
            Mode::Replicated(ReplicatedMode { replicas: self.random.random_range(0..=REPLICAS_MAX) })
        };
        let image = IMAGES[self.random.random_range(0..IMAGES.len())].to_owned();
        let delay = Duration::from_secs(self.random.random_range(0..4));
        let container = ContainerSpec { image, secrets: self.references(), ..ContainerSpec::default() };
        let restart = RestartPolicy { delay_ns: Some(delay.as_nanos() as u64), ..RestartPolicy::default() };
        let mut task = TaskSpec { container: Some(container), restart: Some(restart), ..TaskSpec::default() };
        let reservations = Resources { memory_bytes: self.random.random_range(0..3) << 27, ..Resources::default() };
        task.resources.get_or_insert_default().reservations = Some(reservations);
        let order = if self.random.random_bool(0.5) { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
        let actions = [FailureAction::Pause, FailureAction::Continue, FailureAction::Rollback];
        let update = UpdateConfig {
            parallelism: Some(self.random.random_range(0..3)),
            failure_action: actions[self.random.random_range(0..actions.len())].into(),
            order: order.into(),
            ..UpdateConfig::default()
        };
        let spec = ServiceSpec {
            annotations: Some(Annotations { name, ..Annotations::default() }),
            task: Some(task),
            mode: Some(mode),
            update: Some(update),
            ..ServiceSpec::default()
        };
        Command::CreateService(commands::CreateService { spec: Box::new(spec), secrets: self.secrets() })
    }

    fn update(&mut self, service: events::ServiceId, mut spec: ServiceSpec, image: &str) -> Command {
        let task = spec.task.get_or_insert_default();
        let container = task.container.get_or_insert_default();
        container.image = image.to_owned();
        container.secrets = self.references();
        task.force_update += 1;
        Command::UpdateService(commands::UpdateService {
            service,
            spec: Box::new(spec),
            version: None,
            secrets: self.secrets(),
        })
    }

    /// New secrets, which must not appear in any history.
    fn secrets(&mut self) -> ServiceSecrets {
        if !self.random.random_bool(WITH_CREDENTIALS) {
            return ServiceSecrets::default();
        }
        let [auth, value] = ["registry-password", "variable-value"].map(|what| {
            let text = format!("{what}-{}", self.asked);
            self.world.oracle.keep_secret(&text);
            SecretText(text)
        });
        ServiceSecrets { registry_auth: Some(auth), env: [("TOKEN".to_owned(), value)].into() }
    }

    /// The secrets of a service: none, or an existing one.
    fn references(&mut self) -> Vec<SecretReference> {
        let known: Vec<_> =
            self.cluster().secrets.values().map(|secret| (secret.id, secret.spec.name().to_owned())).collect();
        let Ok((id, name)) = self.pick(&known) else { return Vec::new() };
        let reference = SecretReference { secret: Some(id), name, ..SecretReference::default() };
        Some(reference).filter(|_| self.random.random_bool(0.5)).into_iter().collect()
    }

    /// Creates a secret, gives it new data, or removes it if no service needs it.
    fn change_secret(&mut self) -> anyhow::Result<Command> {
        let known: Vec<SecretId> = self.cluster().secrets.values().map(|secret| secret.id).collect();
        let choice = if known.is_empty() { 0 } else { self.random.random_range(0..4) };
        if choice == 1 {
            return Ok(Command::RemoveSecret(commands::RemoveSecret { secret: self.pick(&known)? }));
        }
        let text = format!("secret-file-{}", self.asked);
        self.world.oracle.keep_secret(&text);
        let data = SecretBytes(text.into_bytes());
        if choice == 0 && known.len() < SECRETS_MAX {
            let annotations = Some(Annotations { name: format!("f{}", self.asked), ..Annotations::default() });
            return Ok(Command::CreateSecret(commands::CreateSecret {
                spec: SecretSpec { annotations, ..Default::default() },
                data,
            }));
        }
        let secret = self.pick(&known)?;
        Ok(Command::UpdateSecret(commands::UpdateSecret { secret, spec: None, data: Some(data), version: None }))
    }

    fn change_node(&mut self) -> anyhow::Result<Command> {
        let nodes = self.nodes();
        let node = self.pick(&nodes)?;
        let choices = [Availability::Active, Availability::Active, Availability::Pause, Availability::Drain];
        let availability = self.pick(&choices)?;
        let cluster = self.cluster();
        let spec = cluster.nodes.get(node).map(|node| (*node.spec).clone()).unwrap_or_default();
        let mut spec = NodeSpec { availability: availability.into(), ..spec };
        let label = self.random.random_range(0..3).to_string();
        spec.annotations.get_or_insert_default().labels.insert("zone".to_owned(), label);
        Ok(Command::UpdateNode(commands::UpdateNode { node, spec, version: None }))
    }

    fn request(&mut self, command: Command) -> Request {
        self.asked += 1;
        let (id, actor) = (CommandId::from_bits(self.asked), Actor::Operator(USER.to_owned()));
        Request::named(id, actor, command)
    }
}
