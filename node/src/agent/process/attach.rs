//! The output of a running command, for a client that attaches. The command has no terminal, and takes no input.

use futures_util::stream::{self, StreamExt};
use wire::v1::LogStream;
use wire::v1::task_output::Output;

use super::files::{Started, TaskFiles};
use super::{ProcessExecutor, ended};
use crate::agent::executor::{Executor, ExecutorError, Inputs, LogQuery, Outputs, Workload};

impl ProcessExecutor {
    /// Streams what a task prints from now on, and finally its exit code.
    pub(super) async fn attach(
        &self,
        workload: &Workload,
        task: Started,
        mut inputs: Inputs,
    ) -> Result<Outputs, ExecutorError> {
        let query = LogQuery { follow: true, tail: Some(0), ..LogQuery::default() };
        let logs = self.logs(workload, query).await?;
        let printed = logs.lines.flat_map(|lines| {
            let lines = lines.map_or_else(|error| vec![Err(error)], |lines| lines.into_iter().map(Ok).collect());
            stream::iter(lines).map(|line| line.map(output))
        });
        let files = self.files(workload.task);
        let shown = printed.chain(stream::once(exit_code(files, task)));
        // Input is ignored, but its end means that the client has disconnected.
        let gone = async move { while inputs.next().await.is_some() {} };
        Ok(shown.take_until(gone).boxed())
    }
}

fn output(line: wire::v1::LogLine) -> Output {
    let text = [&line.data[..], b"\n"].concat();
    match line.stream() {
        LogStream::Stdout => Output::Stdout(text),
        LogStream::Stderr => Output::Stderr(text),
    }
}

async fn exit_code(files: TaskFiles, task: Started) -> Result<Output, ExecutorError> {
    ended(&files, &task).await.map(Output::ExitCode)
}
