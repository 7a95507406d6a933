//! Copies files into and out of a task's container, as archives that the engine packs and unpacks.
//!
//! Engines lock a container during a copy: it can be neither inspected nor stopped until then. So a stalled copy is cancelled.

use std::io;
use std::time::Duration;

use bollard::body_try_stream;
use bollard::container::PathStatResponse;
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use wire::v1::task_input::Input;
use wire::v1::task_output::Output;
use wire::v1::{CopySpec, CopyTarget};

use super::DockerExecutor;
use super::engine::status;
use crate::agent::executor::{ExecutorError, Inputs, Outputs, Workload};
use crate::streams::MESSAGE_BYTES;

/// Maximum duration of one copy: the engine responds to an upload only when it is complete.
const COPY_MAX: Duration = Duration::from_secs(24 * 3600);
/// A copy without progress for this long has stalled.
const STALL_MAX: Duration = Duration::from_secs(30);
/// The bits of Go's file modes for a directory and a symbolic link.
const MODE_DIRECTORY: u32 = 1 << 31;
const MODE_SYMLINK: u32 = 1 << 27;

impl DockerExecutor {
    /// Copies files out of the container of a task, or into it.
    pub(super) async fn copy(
        &self,
        workload: &Workload,
        spec: CopySpec,
        inputs: Inputs,
    ) -> Result<Outputs, ExecutorError> {
        let container = self.container(workload).await?.and_then(|container| container.id);
        let container = container.ok_or_else(|| ExecutorError::Fatal("its container is gone".to_owned()))?;
        let (path, found) = self.look(&container, spec.path, spec.follow_link).await?;
        let (parent, name) = split(&path);
        let is_directory = found.as_ref().is_some_and(|found| found.file_mode & MODE_DIRECTORY != 0);
        let target = CopyTarget { exists: found.is_some(), is_directory, name: name.to_owned() };
        let first = stream::once(async { Ok(Output::Target(target)) });
        let rest = match (spec.to_task, is_directory) {
            (true, true) => self.upload(container, path, inputs)?,
            (true, false) => self.upload(container, parent.to_owned(), inputs)?,
            (false, _) if found.is_none() => {
                return Err(ExecutorError::Fatal(format!("there is no {path} in its container")));
            }
            (false, _) => self.download(&container, &path)?,
        };
        Ok(first.chain(rest).boxed())
    }

    /// The status of a path, and the path itself, or those of the link target if links are followed.
    async fn look(
        &self,
        container: &str,
        path: String,
        follow_link: bool,
    ) -> Result<(String, Option<PathStatResponse>), ExecutorError> {
        match self.stat(container, &path).await? {
            Some(found) if follow_link && found.file_mode & MODE_SYMLINK != 0 => {
                // The engine resolves chains of links.
                let found_there = self.stat(container, &found.link_target).await?;
                Ok((found.link_target, found_there))
            }
            found => Ok((path, found)),
        }
    }

    async fn stat(&self, container: &str, path: &str) -> Result<Option<PathStatResponse>, ExecutorError> {
        let options = ContainerArchiveInfoOptionsBuilder::new().path(path).build();
        match self.engine.client()?.get_container_archive_info(container, Some(options)).await {
            Ok(found) => Ok(Some(found)),
            // Also if the container was just removed, which the next call reports.
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.engine.judge(error)),
        }
    }

    /// The archive of a path.
    fn download(&self, container: &str, path: &str) -> Result<Outputs, ExecutorError> {
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let (engine, client) = (self.engine.clone(), self.engine.client()?);
        let archive = client.download_from_container(container, Some(options));
        let archive = archive.map(move |chunk| chunk.map_err(|error| engine.judge(error)));
        let (outputs, receiver) = mpsc::channel(1);
        tokio::spawn(give(archive.boxed(), outputs));
        Ok(ReceiverStream::new(receiver).boxed())
    }

    /// Unpacks the input below a directory. Input without an end is no complete archive, so the engine reports that it was
    /// truncated.
    fn upload(&self, container: String, below: String, inputs: Inputs) -> Result<Outputs, ExecutorError> {
        let (engine, client) = (self.engine.clone(), self.engine.client_with_extra_time(COPY_MAX)?);
        // A directory is never replaced by a file, as with `docker cp`.
        let options = UploadToContainerOptionsBuilder::new().path(&below).no_overwrite_dir_non_dir("true").build();
        let unpacked = async move {
            let uploaded = client.upload_to_container(&container, Some(options), body_try_stream(archive(inputs)));
            uploaded.await.map(|()| Output::ExitCode(0)).map_err(|error| engine.judge(error))
        };
        Ok(stream::once(unpacked).boxed())
    }
}

/// Sends an archive to its reader, unless the reader stalls.
async fn give(
    mut archive: BoxStream<'static, Result<Bytes, ExecutorError>>,
    outputs: mpsc::Sender<Result<Output, ExecutorError>>,
) {
    let end = loop {
        let chunk = match archive.next().await {
            None => break Ok(Output::ExitCode(0)),
            Some(Err(error)) => break Err(error),
            Some(Ok(chunk)) => chunk,
        };
        for piece in chunk.chunks(MESSAGE_BYTES) {
            match outputs.send_timeout(Ok(Output::Stdout(piece.to_vec())), STALL_MAX).await {
                Ok(()) => {}
                Err(SendTimeoutError::Closed(_)) => return,
                Err(SendTimeoutError::Timeout(_)) => {
                    // The engine is released before the error is reported.
                    drop(archive);
                    let _ = outputs.send(Err(ExecutorError::Temporary(stalled("read")))).await;
                    return;
                }
            }
        }
    };
    // Ignored: the reader may have disconnected.
    let _ = outputs.send(end).await;
}

fn stalled(done: &str) -> String {
    format!(
        "nothing was {done} for {} s, and the engine locks a container that is copied from or to",
        STALL_MAX.as_secs()
    )
}

/// The bytes of the input, up to its end.
fn archive(inputs: Inputs) -> impl stream::Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(Some(inputs), |inputs| async {
        let mut inputs = inputs?;
        loop {
            let Ok(input) = timeout(STALL_MAX, inputs.next()).await else {
                return Some((Err(io::Error::other(stalled("given"))), None));
            };
            match input {
                Some(Input::Data(data)) => return Some((Ok(Bytes::from(data)), Some(inputs))),
                Some(Input::End(_)) => return None,
                Some(Input::Size(_) | Input::Signal(_)) => {}
                None => return Some((Err(io::Error::other("who copies is gone")), None)),
            }
        }
    })
}

/// The parent directory of a path, and its name there.
fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches("/.").trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parent_and_name) => parent_and_name,
        None => ("/", path),
    }
}

#[cfg(test)]
mod tests {
    use wire::v1::EndOfInput;

    use super::*;

    #[test]
    fn a_path_is_a_directory_and_a_name() {
        let table = [
            ("/etc/hosts", ("/etc", "hosts")),
            ("/srv", ("/", "srv")),
            ("/srv/", ("/", "srv")),
            ("/srv/x/.", ("/srv", "x")),
            ("/", ("/", "")),
        ];
        for (path, expected) in table {
            assert_eq!(split(path), expected, "{path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_in_which_nothing_moves_is_ended() {
        let chunks = stream::iter((0..3).map(|_| Ok(Bytes::from(vec![b'x'; MESSAGE_BYTES + 1]))));
        let (outputs, mut receiver) = mpsc::channel(1);
        tokio::spawn(give(chunks.boxed(), outputs));
        let first = receiver.recv().await;
        assert!(matches!(&first, Some(Ok(Output::Stdout(piece))) if piece.len() == MESSAGE_BYTES), "{first:?}");
        tokio::time::sleep(STALL_MAX * 2).await;
        assert!(matches!(receiver.recv().await, Some(Ok(Output::Stdout(piece))) if piece.len() == 1));
        let last = receiver.recv().await;
        assert!(
            matches!(&last, Some(Err(error)) if error.to_string().starts_with("nothing was read for 30 s")),
            "{last:?}"
        );
        assert!(receiver.recv().await.is_none());

        let given: Vec<_> = archive(stream::pending().boxed()).collect().await;
        let [Err(error)] = &given[..] else { panic!("no error: {given:?}") };
        assert!(error.to_string().starts_with("nothing was given for 30 s"), "{error}");
    }

    #[tokio::test]
    async fn an_archive_without_an_end_is_an_error() {
        let read = |inputs: Vec<Input>| async {
            let pieces: Vec<_> = archive(stream::iter(inputs).boxed()).collect().await;
            pieces.into_iter().map(|piece| piece.map_err(|error| error.to_string())).collect::<Vec<_>>()
        };
        let data = || Input::Data(b"x".to_vec());
        assert_eq!(read(vec![data(), Input::End(EndOfInput {}), data()]).await, [Ok(Bytes::from("x"))]);
        assert_eq!(read(vec![data()]).await, [Ok(Bytes::from("x")), Err("who copies is gone".to_owned())]);
    }
}
