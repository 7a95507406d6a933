//! `swarmctl service create`.

use clap::ValueEnum;
use events::{
    GlobalJobMode, GlobalMode, ReplicatedJobMode, ReplicatedMode, SecretText, ServiceSpec, service_spec::Mode,
};
use wire::v1::CreateService;
use wire::v1::command_request::Command;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::spec::{self, ServiceFlags};
use crate::values::{image, name};
use crate::wait::{self, Goal, WaitFlags};

/// Create a service and start its tasks
///
/// Example: swarmctl service create --name web --image nginx:1.27 --replicas 3 --ports http:80:8080
///
/// Example: swarmctl service create --name web -p 8080:80 nginx:1.27 nginx-debug -g "daemon off;"
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the service
    #[arg(long, value_name = "NAME", value_parser = name::parse)]
    name: String,

    /// Image of the containers
    #[arg(long = "image", value_name = "IMAGE", value_parser = image::parse, conflicts_with = "image")]
    image_flag: Option<String>,

    /// Image of the containers
    #[arg(value_name = "IMAGE", value_parser = image::parse, required_unless_present = "image_flag")]
    image: Option<String>,

    /// Arguments of the command, as --args
    #[arg(value_name = "ARG", trailing_var_arg = true, requires = "image")]
    words: Vec<String>,

    /// Mode of the service
    #[arg(long, value_name = "MODE", default_value = "replicated")]
    mode: ServiceMode,

    /// Credentials for the registry, in the form of Docker's X-Registry-Auth header; never shown again
    #[arg(long, value_name = "AUTH", env = "SWARM_REGISTRY_AUTH", hide_env_values = true)]
    registry_auth: Option<SecretText>,

    /// Do not resolve the image's tag; by default it is resolved to its present digest, so that all tasks run the same image
    #[arg(long)]
    no_resolve_image: bool,

    #[command(flatten)]
    wait: WaitFlags,

    #[command(flatten)]
    flags: ServiceFlags,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ServiceMode {
    /// A number of tasks, placed on any suitable nodes
    Replicated,
    /// One task on every suitable node
    Global,
    /// A number of tasks that run until they complete
    ReplicatedJob,
    /// One task on every suitable node that runs until it completes
    GlobalJob,
}

impl Args {
    /// The spec that the flags describe.
    fn spec(&self) -> Result<ServiceSpec, Failure> {
        let mode = match self.mode {
            ServiceMode::Replicated => Mode::Replicated(ReplicatedMode { replicas: 1 }),
            ServiceMode::Global => Mode::Global(GlobalMode {}),
            ServiceMode::ReplicatedJob => {
                Mode::ReplicatedJob(ReplicatedJobMode { max_concurrent: 0, total_completions: 1 })
            }
            ServiceMode::GlobalJob => Mode::GlobalJob(GlobalJobMode {}),
        };
        let mut spec = ServiceSpec { mode: Some(mode), ..Default::default() };
        spec.annotations.get_or_insert_default().name.clone_from(&self.name);
        let image = self.image.as_ref().or(self.image_flag.as_ref());
        spec::container(&mut spec).image = image.cloned().unwrap_or_default();
        self.flags.apply(&mut spec)?;
        spec::container(&mut spec).args.extend(self.words.iter().cloned());
        Ok(spec)
    }
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let mut spec = args.spec()?;
    spec::resolve_files(&mut spec, session).await?;
    if !args.no_resolve_image {
        spec::pin_image(&mut spec, None, args.registry_auth.as_ref(), session).await?;
    }
    let create = CreateService {
        spec: Box::new(spec),
        registry_auth: args.registry_auth.as_ref().map(|auth| auth.0.clone()),
        env_secrets: args.flags.env_secrets()?,
    };
    let reply = session.execute_and_print(Command::CreateService(create), &args.name).await?;
    wait::for_service(session, &args.wait, &args.name, Goal::New, reply.index).await
}
