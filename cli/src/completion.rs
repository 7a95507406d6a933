//! Names of living objects for the shell's completion.

use std::path::PathBuf;
use std::time::Duration;

use clap_complete::engine::CompletionCandidate;
use wire::v1::ListTasksRequest;

use crate::SOCKET_VARIABLE;
use crate::failure::Failure;
use crate::format::node;
use crate::grpc::Connection;
use crate::manager::Manager;

/// A shell waits this long; after it there are no names.
const PATIENCE: Duration = Duration::from_millis(300);

/// Names of services.
pub fn services() -> Vec<CompletionCandidate> {
    ask(async |manager: &mut Connection| {
        let services = manager.services(Vec::new()).await?;
        Ok(services.iter().map(|service| CompletionCandidate::new(service.spec.name())).collect())
    })
}

/// Names of nodes.
pub fn nodes() -> Vec<CompletionCandidate> {
    ask(async |manager: &mut Connection| {
        let nodes = manager.nodes(Vec::new()).await?;
        Ok(nodes.iter().map(|found| CompletionCandidate::new(node::name(found))).collect())
    })
}

/// Ids of tasks, with their names as help.
pub fn tasks() -> Vec<CompletionCandidate> {
    ask(async |manager: &mut Connection| {
        let list = manager.tasks(ListTasksRequest::default()).await?;
        let candidate = |task: &wire::v1::TaskView| {
            let place = format!("{}.{}", task.service_name, task.slot);
            CompletionCandidate::new(task.id.to_string()).help(Some(place.into()))
        };
        Ok(list.tasks.iter().map(candidate).collect())
    })
}

/// Asks the manager for names. A shell that completes has no place for an error, so any error means no names.
fn ask(
    question: impl AsyncFnOnce(&mut Connection) -> Result<Vec<CompletionCandidate>, Failure>,
) -> Vec<CompletionCandidate> {
    let socket = std::env::var_os(SOCKET_VARIABLE).map_or_else(|| PathBuf::from(wire::DEFAULT_SOCKET), PathBuf::from);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let answer = runtime.block_on(async {
        let mut manager = Connection::new(socket);
        tokio::time::timeout(PATIENCE, question(&mut manager)).await
    });
    answer.ok().and_then(Result::ok).unwrap_or_default()
}
