//! `swarmctl service update`.

use clap_complete::ArgValueCandidates;
use events::{SecretText, ServiceSpec};
use wire::v1::UpdateService;
use wire::v1::command_request::Command;

use crate::apply;
use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::spec::{self, Field, ListEdits, ServiceFlags};
use crate::values::image;
use crate::wait::{self, Goal, WaitFlags};

/// Change a service; its tasks are replaced according to its update settings
///
/// Only the given settings change. A flag such as --env replaces the whole list; --env-add and --env-rm change single entries,
/// and --reset empties it.
///
/// Example: swarmctl service update web --image nginx:1.28 --update-parallelism 2
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service: a name, an id or a unique prefix of an id
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    service: String,

    /// Image of the containers
    #[arg(long, value_name = "IMAGE", value_parser = image::parse)]
    image: Option<String>,

    /// Replace every task even if nothing else changes
    #[arg(long)]
    force: bool,

    /// Setting to reset to its default before the other flags apply; may be repeated
    #[arg(long, value_name = "SETTING", value_delimiter = ',', ignore_case = true)]
    reset: Vec<Field>,

    /// Credentials for the registry, in the form of Docker's X-Registry-Auth header; never shown again
    #[arg(long, value_name = "AUTH", env = "SWARM_REGISTRY_AUTH", hide_env_values = true)]
    registry_auth: Option<SecretText>,

    /// Do not resolve the tag of --image; by default it is resolved to its present digest, so that all tasks run the same image
    #[arg(long, requires = "image")]
    no_resolve_image: bool,

    #[command(flatten)]
    wait: WaitFlags,

    #[command(flatten)]
    flags: ServiceFlags,

    #[command(flatten)]
    edits: ListEdits,
}

impl Args {
    /// The present spec with the changes of the flags, and notes about entries that were dropped from lists implicitly, and about
    /// removals that matched nothing.
    fn edit(&self, present: &ServiceSpec) -> Result<(ServiceSpec, Vec<String>), Failure> {
        let mut spec = present.clone();
        self.reset.iter().for_each(|field| field.reset(&mut spec));
        let before = spec.clone();
        self.flags.apply(&mut spec)?;
        let mut notes = spec::dropped(&before, &spec);
        notes.extend(self.edits.absent(&spec));
        self.edits.apply(&mut spec)?;
        if let Some(image) = &self.image {
            spec::container(&mut spec).image.clone_from(image);
        }
        if self.force {
            spec.task.get_or_insert_default().force_update += 1;
        }
        Ok((spec.without_empty_messages(), notes))
    }
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let present = session.service(&args.service).await?;
    let name = present.spec.name();
    let (mut spec, notes) = args.edit(&present.spec)?;
    spec::resolve_files(&mut spec, session).await?;
    if args.image.is_some() && !args.no_resolve_image {
        // They belonged to the previous image.
        if let Some(placement) = spec::task(&mut spec).placement.as_mut() {
            placement.platforms.clear();
        }
        spec::pin_image(&mut spec, Some(&present), args.registry_auth.as_ref(), session).await?;
    }
    let env_secrets = args.flags.env_secrets()?;
    let brings_secrets = args.registry_auth.is_some() || !env_secrets.is_empty();
    if spec == present.spec && !brings_secrets {
        notes.iter().try_for_each(|sentence| session.note(sentence))?;
        if let Some(paused) = wait::paused_update(session, &present).await? {
            return Err(paused);
        }
        return session.note("no changes; use --force to restart its tasks");
    }
    let goal = if brings_secrets { Goal::Spec } else { apply::goal(&present.spec, &spec) };
    let update = UpdateService {
        // The id and the version that were read: no concurrent change is lost.
        service: session.reference(present.id, present.spec.name()),
        version: Some(present.meta.version),
        spec: Box::new(spec),
        registry_auth: args.registry_auth.as_ref().map(|auth| auth.0.clone()),
        env_secrets,
    };
    let reply = session.execute_and_print(Command::UpdateService(update), name).await?;
    notes.iter().try_for_each(|sentence| session.note(sentence))?;
    wait::for_service(session, &args.wait, name, goal, reply.index).await
}
