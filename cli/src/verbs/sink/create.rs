//! `swarmctl sink create`.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap_complete::ArgValueCandidates;
use events::SinkSpec;
use wire::v1::command_request::Command;
use wire::v1::{CreateSink, FindPointRequest};

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::input;
use crate::values::point::{self, Point};
use crate::values::redact::{self, Redact};
use crate::values::start::Place;

/// Bytes of a key at most.
const KEY_BYTES_MAX: usize = 1_024;

/// Send events to a webhook or a file, from now on or from an earlier point
///
/// The manager that leads sends them in order, each at least once: after a failure or with another leader some come again, with the same
/// CloudEvents `id`. A request is a JSON array (application/cloudevents-batch+json) that any status of 2xx accepts; redirects are not
/// followed. What fails is tried again, up to every 5 minutes, and parked after a day until `swarmctl sink resume`. The address is part
/// of history: it must hold no secret.
///
/// Example: swarmctl sink create siem --webhook https://siem.example/in --secret-file key --kind service_created
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the sink
    #[arg(value_name = "NAME")]
    name: String,

    /// Address that events are posted to
    #[arg(long, value_name = "URL", required_unless_present = "file", conflicts_with = "file")]
    webhook: Option<String>,

    /// Name of a file that events are appended to, in the directory of `swarmd --sink-dir` on the machine of the manager that leads
    #[arg(long, value_name = "NAME")]
    file: Option<String>,

    /// File with a key, 16 to 1024 bytes: the header `swarmlog-signature` of each request is then `sha256=` and the HMAC-SHA256 of the
    /// body; - for standard input
    #[arg(long, value_name = "FILE", requires = "webhook")]
    secret_file: Option<PathBuf>,

    /// Start at this point of history instead of now
    #[arg(long, visible_alias = "since", value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    from: Option<Point>,

    /// Only events of this kind, such as service_created; may be repeated
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(events::catalogue::NAMES), hide_possible_values = true)]
    kind: Vec<String>,

    /// Only events about this object, and events that changed its tasks, such as a drain of their node; for a service also events about
    /// its tasks
    #[arg(long, value_name = "REFERENCE", add = ArgValueCandidates::new(completion::objects))]
    object: Option<String>,

    /// Only events about this node and the tasks on it
    #[arg(long, value_name = "REFERENCE", add = ArgValueCandidates::new(completion::nodes))]
    node: Option<String>,

    /// Leave these values out; may be repeated. Each event says which
    #[arg(long, value_name = "WHAT", value_enum)]
    redact: Vec<Redact>,

    /// Only what a command of this user, operator or node caused; may be repeated
    #[arg(long, value_name = "NAME")]
    actor: Vec<String>,

    /// Only what a command of this name caused, such as service.update; may be repeated
    #[arg(long, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let redaction = redact::together(&args.redact);
    let spec = SinkSpec {
        name: args.name.clone(),
        webhook: args.webhook.clone().unwrap_or_default(),
        file: args.file.clone().unwrap_or_default(),
        kinds: args.kind.clone(),
        actors: args.actor.clone(),
        commands: args.command.clone(),
        object: args.object.clone().unwrap_or_default(),
        node: args.node.clone().unwrap_or_default(),
        redact_env: redaction.env,
        redact_labels: redaction.labels,
    };
    let from = first_index(args.from.as_ref(), session).await?;
    let key = args.secret_file.as_deref().map(key).transpose()?;
    let create = Command::CreateSink(CreateSink { spec, from, key });
    session.execute_and_tell(create, &args.name).await.map(drop)
}

/// The index of the first frame from a point on.
async fn first_index<M: Manager>(point: Option<&Point>, session: &mut Session<'_, M>) -> Result<Option<u64>, Failure> {
    let now = session.around.clock.now();
    Ok(match session.start(point).await?.map(|start| start.at(now)) {
        None => None,
        Some(Place::Index(index)) => Some(index),
        Some(Place::Time(time)) => {
            let request = FindPointRequest { time: Some(time), ..Default::default() };
            Some(session.manager.find_point(request).await?.index + 1)
        }
    })
}

/// The key in a file, without the end of its line.
fn key(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut key = input::read(path, "key", KEY_BYTES_MAX)?;
    for end in [b'\n', b'\r'] {
        key.pop_if(|last| *last == end);
    }
    Ok(key)
}
