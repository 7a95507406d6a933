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
use crate::values::point::{self, Point};
use crate::values::redact::{self, Redact};
use crate::values::start::Place;
use crate::values::{command, input};

/// Maximum size of a key, in bytes.
const KEY_BYTES_MAX: usize = 1_024;

/// Send events to a webhook or a file, from now on or from an earlier point
///
/// The leader sends events in order, each at least once: after a failure or a change of the leader some are repeated, with the
/// same CloudEvents `id`. A request is a JSON array (application/cloudevents-batch+json); any 2xx status accepts it; redirects
/// are not followed. A failed request is retried, with delays of up to 5 minutes; after a day the sink is parked until
/// `swarmctl sink resume`. The URL is part of history: it must not contain a secret.
///
/// Example: swarmctl sink create siem --webhook https://siem.example/in --secret-file key --kind service_created
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the sink
    #[arg(value_name = "NAME")]
    name: String,

    /// URL that events are posted to
    #[arg(long, value_name = "URL", required_unless_present = "file", conflicts_with = "file")]
    webhook: Option<String>,

    /// Name of a file that events are appended to, in the directory of `swarmd --sink-dir` on the leader's machine
    #[arg(long, value_name = "NAME")]
    file: Option<String>,

    /// File with a key, 16 to 1024 bytes: each request then has the header `swarmlog-signature`, which is `sha256=` and the
    /// HMAC-SHA256 of the body; - for standard input
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

    /// Redact these values; may be repeated. Each event states the redactions
    #[arg(long, value_name = "WHAT", value_enum)]
    redact: Vec<Redact>,

    /// Only events caused by commands of this user, operator or node; may be repeated
    #[arg(long, value_name = "NAME")]
    actor: Vec<String>,

    /// Only events caused by this command, such as service.update; may be repeated
    #[arg(long, value_name = "COMMAND", value_parser = command::parse)]
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
    session.execute_and_print(create, &args.name).await.map(drop)
}

/// The index of the first frame at or after a point.
async fn first_index<M: Manager>(point: Option<&Point>, session: &mut Session<'_, M>) -> Result<Option<u64>, Failure> {
    let now = session.env.clock.now();
    Ok(match session.start(point).await?.map(|start| start.at(now)) {
        None => None,
        Some(Place::Index(index)) => Some(index),
        Some(Place::Time(time)) => {
            let request = FindPointRequest { time: Some(time), ..Default::default() };
            Some(session.manager.find_point(request).await?.index + 1)
        }
    })
}

/// The key in a file, without the trailing newline.
fn key(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut key = input::read(path, "key", KEY_BYTES_MAX)?;
    for end in [b'\n', b'\r'] {
        key.pop_if(|last| *last == end);
    }
    Ok(key)
}
