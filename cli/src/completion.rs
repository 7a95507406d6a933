//! Names of existing objects for shell completion.

use std::path::PathBuf;
use std::time::Duration;

use clap_complete::engine::CompletionCandidate;
use wire::v1::{ListNodesRequest, ListServicesRequest, ListTasksRequest, TaskView};

use crate::SOCKET_VARIABLE;
use crate::failure::Failure;
use crate::format::task;
use crate::grpc::Connection;
use crate::manager::Manager;

/// How long the shell waits; then there are no names.
const TIMEOUT: Duration = Duration::from_millis(300);

/// Names of services.
pub fn services() -> Vec<CompletionCandidate> {
    ask(sockets(), async |manager: &mut Connection| {
        let services = manager.list_services(ListServicesRequest::default()).await?;
        Ok(services.iter().map(|service| CompletionCandidate::new(&service.name)).collect())
    })
}

/// Names of nodes.
pub fn nodes() -> Vec<CompletionCandidate> {
    ask(sockets(), async |manager: &mut Connection| {
        let nodes = manager.list_nodes(ListNodesRequest::default()).await?;
        Ok(nodes.iter().map(|found| CompletionCandidate::new(&found.name)).collect())
    })
}

/// Names of configs.
pub fn configs() -> Vec<CompletionCandidate> {
    ask(sockets(), async |manager: &mut Connection| {
        let configs = manager.configs(Vec::new()).await?;
        Ok(configs.iter().map(|found| CompletionCandidate::new(found.spec.name())).collect())
    })
}

/// Names of secrets.
pub fn secrets() -> Vec<CompletionCandidate> {
    ask(sockets(), async |manager: &mut Connection| {
        let secrets = manager.secrets(Vec::new()).await?;
        Ok(secrets.iter().map(|found| CompletionCandidate::new(found.spec.name())).collect())
    })
}

/// Names of sinks.
pub fn sinks() -> Vec<CompletionCandidate> {
    ask(sockets(), async |manager: &mut Connection| {
        let sinks = manager.sinks(Vec::new()).await?;
        Ok(sinks.iter().map(|found| CompletionCandidate::new(&found.spec.name)).collect())
    })
}

/// Names of services and nodes.
pub fn objects() -> Vec<CompletionCandidate> {
    services().into_iter().chain(nodes()).collect()
}

/// Ids of tasks, with their places in their services as help.
pub fn tasks() -> Vec<CompletionCandidate> {
    ask(sockets(), async |manager: &mut Connection| {
        let list = manager.tasks(ListTasksRequest::default()).await?;
        let candidate = |found: &TaskView| {
            CompletionCandidate::new(found.id.to_string()).help(Some(task::place(found, false).into()))
        };
        Ok(list.tasks.iter().map(candidate).collect())
    })
}

/// The sockets that the shell's environment names. A flag on the line being typed is not visible here.
fn sockets() -> Vec<PathBuf> {
    let named = std::env::var(SOCKET_VARIABLE).unwrap_or_else(|_| wire::DEFAULT_SOCKET.to_owned());
    named.split(',').map(PathBuf::from).collect()
}

/// Asks the manager for names. Completion cannot show errors, so any error results in no names.
fn ask<Q>(sockets: Vec<PathBuf>, question: Q) -> Vec<CompletionCandidate>
where
    Q: AsyncFnOnce(&mut Connection) -> Result<Vec<CompletionCandidate>, Failure>,
{
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let answer = runtime.block_on(async {
        // Slightly outdated names are acceptable.
        let mut manager = Connection::to_any(sockets).stale(true);
        tokio::time::timeout(TIMEOUT, question(&mut manager)).await
    });
    answer.ok().and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_manager_there_are_no_names_and_no_noise() {
        let directory = tempfile::tempdir().expect("a directory");
        let names = ask(vec![directory.path().join("none")], async |manager: &mut Connection| {
            manager.list_services(ListServicesRequest::default()).await.map(|_| vec![CompletionCandidate::new("never")])
        });
        assert!(names.is_empty());
    }

    #[test]
    fn a_manager_that_does_not_answer_is_given_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("silent");
        let silent = std::os::unix::net::UnixListener::bind(&socket).expect("a fresh directory takes a socket");
        let names = ask(vec![socket], async |manager: &mut Connection| {
            manager.list_services(ListServicesRequest::default()).await.map(|_| vec![CompletionCandidate::new("never")])
        });
        assert!(names.is_empty());
        drop(silent);
    }
}
