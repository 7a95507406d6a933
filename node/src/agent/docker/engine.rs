//! The connection to a Docker Engine, and what its errors mean to a task.

use std::sync::OnceLock;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};

use crate::agent::executor::ExecutorError;

/// Time for one answer of the engine. A busy one needs seconds for a create; two minutes mean that it hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A Docker Engine on a unix socket.
///
/// The client is made at the first use that finds the socket, so that an agent may start before its engine.
#[derive(Debug)]
pub(super) struct Engine {
    path: String,
    client: OnceLock<Docker>,
}

impl Engine {
    /// The engine at an address of the form `unix:///var/run/docker.sock`.
    ///
    /// # Errors
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
    /// Temporary when the socket is not there.
    pub(super) fn client(&self) -> Result<&Docker, ExecutorError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Docker::connect_with_unix(&self.path, ANSWER_TIMEOUT.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| self.judge(error))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// A client that waits longer for the first answer than usual.
    ///
    /// # Errors
    /// Temporary when the socket is not there.
    pub(super) fn patient_client(&self, extra: Duration) -> Result<Docker, ExecutorError> {
        Ok(self.client()?.clone().with_timeout(ANSWER_TIMEOUT + extra))
    }

    /// Where its socket is.
    pub(super) fn socket(&self) -> &str {
        &self.path
    }

    /// What an error means: no answer, or a passing one, is Temporary; a refusal is Fatal, in the engine's own words.
    ///
    /// Docker answers 500 to whatever it has no class for, such as a port in use, so 500 is a refusal like any other:
    /// a task that retried without end would never be placed elsewhere.
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

/// Success for an answer that says that there is nothing to do, such as "no such container".
pub(super) fn unless_status<T: Default>(result: Result<T, Error>, ignored: u16) -> Result<T, Error> {
    result.or_else(|error| if status(&error) == Some(ignored) { Ok(T::default()) } else { Err(error) })
}

/// HTTP libraries wrap what the kernel said in three layers of "client error".
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
