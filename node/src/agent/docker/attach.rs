//! A container's own streams, for a client that attaches.

use std::sync::Arc;

use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::{InspectContainerOptions, ResizeContainerTTYOptionsBuilder, WaitContainerOptions};
use futures_util::StreamExt;
use rustix::process::Signal;
use wire::v1::{AttachSpec, TerminalSize};

use super::engine::Engine;
use super::exec::clamped;
use super::{DockerExecutor, UNKNOWN_EXIT_CODE, hijack};
use crate::agent::conversation;
use crate::agent::executor::{ExecutorError, Inputs, Outputs, Workload};

/// A container that a client is attached to.
struct Attached {
    engine: Arc<Engine>,
    container: String,
    has_terminal: bool,
}

impl DockerExecutor {
    /// Attaches to the container of a task.
    pub(super) async fn attach(
        &self,
        workload: &Workload,
        spec: AttachSpec,
        inputs: Inputs,
    ) -> Result<Outputs, ExecutorError> {
        let gone = || ExecutorError::Fatal("its container is gone".to_owned());
        let known = self.container(workload).await?.ok_or_else(gone)?;
        let status = known.state.and_then(|state| state.status);
        if status != Some(ContainerStateStatusEnum::RUNNING) {
            return Err(ExecutorError::Fatal("it is not running".to_owned()));
        }
        let container = known.id.ok_or_else(gone)?;
        let config = known.config.unwrap_or_default();
        let (has_terminal, takes_input) = (config.tty == Some(true), spec.stdin && config.open_stdin == Some(true));
        let path = format!("/containers/{container}/attach?stream=1&stdout=1&stderr=1&stdin={}", u8::from(takes_input));
        let hijacked = hijack::call(&self.engine, &path, String::new()).await?;
        let attached = Attached { engine: Arc::clone(&self.engine), container, has_terminal };
        if let Some(size) = spec.terminal.filter(|_| has_terminal) {
            conversation::Command::resize(&attached, size).await?;
        }
        Ok(conversation::begin(hijacked.ends(takes_input, has_terminal), attached, inputs))
    }
}

#[tonic::async_trait]
impl conversation::Command for Attached {
    async fn resize(&self, size: TerminalSize) -> Result<(), ExecutorError> {
        if !self.has_terminal {
            return Ok(());
        }
        let (w, h) = (i32::from(clamped(size.columns)), i32::from(clamped(size.rows)));
        let options = ResizeContainerTTYOptionsBuilder::new().h(h).w(w).build();
        let resized = self.engine.client()?.resize_container_tty(&self.container, options).await;
        resized.map_err(|error| self.engine.judge(error))
    }

    /// Ignored: a task is stopped by its cluster, not by an attached client.
    async fn signal(&self, _: Signal) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn exit_code(&self) -> Result<i32, ExecutorError> {
        let client = self.engine.client()?;
        // An exit code other than 0 is also returned as an error; the inspection reports it in either case.
        client.wait_container(&self.container, None::<WaitContainerOptions>).next().await;
        let known = client.inspect_container(&self.container, None::<InspectContainerOptions>).await;
        let state = known.map_err(|error| self.engine.judge(error))?.state;
        let code = state.and_then(|state| state.exit_code).and_then(|code| i32::try_from(code).ok());
        Ok(code.unwrap_or(UNKNOWN_EXIT_CODE))
    }

    /// Does nothing: the task continues.
    async fn hang_up(&self) {}
}
