//! The connection to a Docker Engine, and the meaning of its errors for a task.

use std::sync::OnceLock;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};

use crate::agent::executor::ExecutorError;

/// Deadline for one response of the engine. A busy engine needs seconds for a create; after two minutes it is unresponsive.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A Docker Engine on a unix socket.
///
/// The client is created at the first use that finds the socket, so that an agent may start before its engine.
#[derive(Debug)]
pub(super) struct Engine {
    path: String,
    client: OnceLock<Docker>,
}

impl Engine {
    /// The engine at an address of the form `unix:///var/run/docker.sock`.
    ///
    /// A message when the address has another form.
    /// A sentence when the address is of another form.
    pub(super) fn new(address: &str) -> Result<Self, String> {
        match address.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(Self { path: path.to_owned(), client: OnceLock::new() }),
            Some(_) | None => Err(format!(
                "engine address \"{address}\" is not a unix socket: expected the form unix:///var/run/docker.sock"
            )),
        }
    }

    /// The client.
    ///
    /// # Errors
    /// Temporary when the socket does not exist.
    pub(super) fn client(&self) -> Result<&Docker, ExecutorError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Docker::connect_with_unix(&self.path, ANSWER_TIMEOUT.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| self.judge(error))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// A client with an extended deadline for the first response.
    ///
    /// # Errors
    /// Temporary when the socket does not exist.
    pub(super) fn client_with_extra_time(&self, extra: Duration) -> Result<Docker, ExecutorError> {
        Ok(self.client()?.clone().with_timeout(ANSWER_TIMEOUT + extra))
    }

    /// The path of its socket.
    pub(super) fn socket(&self) -> &str {
        &self.path
    }

    /// Classifies an error: no response, or a temporary one, is Temporary; a refusal is Fatal, with the engine's message.
    ///
    /// Docker answers 500 to everything without a class of its own, such as a port in use, so 500 counts as a refusal: a task
    /// that retried forever would never be placed on another node.
    pub(super) fn judge(&self, error: Error) -> ExecutorError {
        tracing::debug!(status = status(&error), %error, "a call of the engine did not succeed");
        match error {
            Error::DockerResponseServerError { status_code: 502..=504, message } => {
                ExecutorError::Temporary(message.trim().to_owned())
            }
            Error::DockerResponseServerError { message, .. } => ExecutorError::Fatal(message.trim().to_owned()),
            Error::DockerStreamError { error } => ExecutorError::Fatal(error.trim().to_owned()),
            Error::RequestTimeoutError => ExecutorError::Temporary(format!("{} does not answer", self.name())),
            error @ (Error::SocketNotFoundError(_)
            | Error::IOError { .. }
            | Error::HyperResponseError { .. }
            | Error::HyperLegacyError { .. }) => ExecutorError::Temporary(format!(
                "cannot reach {}: {}. Is it running? (--engine-addr names another socket)",
                self.name(),
                root_cause(&error)
            )),
            other => ExecutorError::Fatal(other.to_string()),
        }
    }

    fn name(&self) -> String {
        format!("the Docker Engine at unix://{}", self.path)
    }
}

/// The HTTP status of a refusal.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Treats a response with this status as success, such as "no such container" for a removal.
pub(super) fn unless_status<T: Default>(result: Result<T, Error>, ignored: u16) -> Result<T, Error> {
    result.or_else(|error| if status(&error) == Some(ignored) { Ok(T::default()) } else { Err(error) })
}

/// HTTP libraries wrap the operating system's error in three layers of "client error".
fn root_cause(error: &Error) -> String {
    if let Error::SocketNotFoundError(_) = error {
        return "no such socket".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
