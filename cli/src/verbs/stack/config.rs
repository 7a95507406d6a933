//! `swarmctl stack config`.

use serde_json::Value as Json;

use super::files::FileFlags;
use crate::failure::Failure;
use crate::format::Format;
use crate::manager::Manager;
use crate::session::Session;
use crate::yaml::{self, Node, Value};

/// Merge Compose files, interpolate variables and show the result
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: FileFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let files = args.files.read()?;
    let json = json(files.tree());
    match session.globals.format {
        Format::Json => session.json(&json),
        Format::Table => session.text(&yaml::to_text(&json)),
    }
}

/// The values of a tree: a scalar whose JSON form would differ, such as 1.10, becomes a string.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::Scalar { .. } if node.is_null() => Json::Null,
        Value::Scalar { text, plain } => {
            let number = text.parse::<i64>().ok().filter(|number| *plain && number.to_string() == *text);
            let truth = node.boolean().filter(|_| *plain);
            number.map(Json::from).or(truth.map(Json::from)).unwrap_or_else(|| Json::from(text.as_str()))
        }
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries.iter().map(|(key, node)| (key.text.clone(), json(node))).collect(),
    }
}
