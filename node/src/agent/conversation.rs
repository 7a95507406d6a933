//! An interactive session with a command. Input and output flow concurrently, each no faster than its reader, and the command
//! is terminated when the client disconnects.

use std::io;

use futures_util::stream::{self, BoxStream, StreamExt};
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use wire::v1::TerminalSize;
use wire::v1::task_input::Input;
use wire::v1::task_output::Output;

use super::executor::{ExecutorError, Inputs, Outputs};
use super::signal;
use crate::streams::MESSAGE_BYTES;

/// A running command.
#[tonic::async_trait]
pub(super) trait Command: Send + Sync + 'static {
    /// Resizes its terminal.
    async fn resize(&self, size: TerminalSize) -> Result<(), ExecutorError>;

    /// Sends it a signal.
    async fn signal(&self, signal: Signal) -> Result<(), ExecutorError>;

    /// Waits until it exits.
    async fn exit_code(&self) -> Result<i32, ExecutorError>;

    /// Terminates it, because no client waits for it.
    async fn hang_up(&self);
}

/// The command's standard streams.
pub(super) struct CommandStreams {
    /// Its standard input; `None` if it takes no input.
    pub(super) stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its output.
    pub(super) output: BoxStream<'static, io::Result<Output>>,
}

/// Runs the session until the command exits or the client disconnects. Returns the command's output.
pub(super) fn begin(streams: CommandStreams, command: impl Command, inputs: Inputs) -> Outputs {
    let (outputs, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let CommandStreams { stdin, output } = streams;
        let finished = tokio::select! {
            last = finish(output, &command, &outputs) => Some(last),
            () = feed(inputs, stdin, &command) => None,
            () = outputs.closed() => None,
        };
        match finished {
            // If the client has disconnected, the exit code is not needed.
            Some(last) => drop(outputs.send(last.map(Output::ExitCode)).await),
            None => command.hang_up().await,
        }
    });
    ReceiverStream::new(receiver).boxed()
}

/// Forwards the command's output, then waits for its exit.
async fn finish(
    mut output: BoxStream<'static, io::Result<Output>>,
    command: &impl Command,
    outputs: &mpsc::Sender<Result<Output, ExecutorError>>,
) -> Result<i32, ExecutorError> {
    while let Some(piece) = output.next().await {
        let piece = piece.map_err(|error| ExecutorError::Temporary(format!("its output was interrupted: {error}")))?;
        // A failed send means that the client has disconnected, which the caller detects.
        let _ = outputs.send(Ok(piece)).await;
    }
    command.exit_code().await
}

/// Forwards input to the command until the input ends.
async fn feed(mut inputs: Inputs, mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>, command: &impl Command) {
    while let Some(input) = inputs.next().await {
        let done = match input {
            Input::Data(data) => {
                // A command may close its input before it exits; later input is discarded.
                if let Some(open) = &mut stdin
                    && give(open, &data).await.is_err()
                {
                    stdin = None;
                }
                Ok(())
            }
            Input::End(_) => {
                if let Some(mut open) = stdin.take() {
                    // The command may already have closed its input, so an error is ignored.
                    let _ = open.shutdown().await;
                }
                Ok(())
            }
            Input::Size(size) => command.resize(size).await,
            Input::Signal(name) => match signal::named(&name) {
                Some(signal) => command.signal(signal).await,
                None => Err(ExecutorError::Fatal(format!("there is no signal \"{}\"", name.escape_debug()))),
            },
        };
        if let Err(error) = done {
            tracing::warn!(%error, "input cannot be delivered to a command in a task");
        }
    }
}

async fn give(to: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> io::Result<()> {
    to.write_all(data).await?;
    to.flush().await
}

/// Reads a stream piece by piece, as data arrives.
pub(super) fn pieces(
    reader: impl AsyncRead + Send + Unpin + 'static,
    output: fn(Vec<u8>) -> Output,
) -> BoxStream<'static, io::Result<Output>> {
    let buffer = vec![0; MESSAGE_BYTES];
    let pieces = stream::try_unfold((reader, buffer), move |(mut reader, mut buffer)| async move {
        let count = reader.read(&mut buffer).await?;
        let piece = buffer.get(..count).unwrap_or_default().to_vec();
        Ok((count > 0).then(|| (output(piece), (reader, buffer))))
    });
    pieces.boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::oneshot;

    use super::*;

    /// Records its calls, and exits when the input asks it to.
    struct Recorder {
        recorded: Arc<Mutex<Vec<String>>>,
        ends: tokio::sync::Mutex<oneshot::Receiver<i32>>,
    }

    impl Recorder {
        fn note(&self, what: String) {
            self.recorded.lock().expect("whole").push(what);
        }
    }

    #[tonic::async_trait]
    impl Command for Recorder {
        async fn resize(&self, size: TerminalSize) -> Result<(), ExecutorError> {
            self.note(format!("{}x{}", size.columns, size.rows));
            Err(ExecutorError::Fatal("it has no terminal".to_owned()))
        }

        async fn signal(&self, signal: Signal) -> Result<(), ExecutorError> {
            self.note(format!("signal {}", signal.as_raw()));
            Ok(())
        }

        async fn exit_code(&self) -> Result<i32, ExecutorError> {
            Ok((&mut *self.ends.lock().await).await.expect("it ends"))
        }

        async fn hang_up(&self) {
            self.note("hung up".to_owned());
        }
    }

    struct Talk {
        recorded: Arc<Mutex<Vec<String>>>,
        end: oneshot::Sender<i32>,
        inputs: mpsc::Sender<Input>,
        outputs: Outputs,
        /// The command's end of its streams.
        command: tokio::io::DuplexStream,
    }

    fn talk() -> Talk {
        let (ours, command) = tokio::io::duplex(16);
        let (reader, writer) = tokio::io::split(ours);
        let (inputs, receiver) = mpsc::channel(8);
        let (end, ends) = oneshot::channel();
        let recorded = Arc::default();
        let recorder = Recorder { recorded: Arc::clone(&recorded), ends: tokio::sync::Mutex::new(ends) };
        let ends = CommandStreams { stdin: Some(Box::new(writer)), output: pieces(reader, Output::Stdout) };
        let outputs = begin(ends, recorder, ReceiverStream::new(receiver).boxed());
        Talk { recorded, end, inputs, outputs, command }
    }

    #[tokio::test]
    async fn input_and_output_go_at_the_same_time_and_the_exit_code_comes_last() {
        let Talk { recorded, end, inputs, mut outputs, command } = talk();
        let (mut reader, mut writer) = tokio::io::split(command);
        // An echo command whose buffers are far smaller than the data sent through it.
        let echo = tokio::spawn(async move {
            tokio::io::copy(&mut reader, &mut writer).await.expect("copied");
            writer.shutdown().await.expect("closed");
        });
        let size = TerminalSize { columns: 80, rows: 24 };
        let given = [
            Input::Size(size),
            Input::Signal("SIGUSR1".to_owned()),
            Input::Signal("SIGNONE".to_owned()),
            Input::Data(vec![b'x'; 100_000]),
            Input::End(wire::v1::EndOfInput {}),
        ];
        let feeding = tokio::spawn(async move {
            for input in given {
                inputs.send(input).await.expect("it takes input");
            }
            inputs
        });
        let mut bytes = 0;
        while bytes < 100_000 {
            let Some(Ok(Output::Stdout(piece))) = outputs.next().await else { panic!("{bytes} bytes came back") };
            bytes += piece.len();
        }
        echo.await.expect("ended");
        end.send(7).expect("it waits");
        assert!(matches!(outputs.next().await, Some(Ok(Output::ExitCode(7)))));
        assert!(outputs.next().await.is_none());
        drop(feeding.await);
        assert_eq!(*recorded.lock().expect("whole"), ["80x24", "signal 10"], "what fails ends nothing");
    }

    #[tokio::test]
    async fn a_command_ends_when_nobody_gives_or_nobody_reads_any_more() {
        for reads_on in [true, false] {
            let Talk { recorded, end: _end, inputs, mut outputs, command: _command } = talk();
            if reads_on {
                drop(inputs);
                assert!(outputs.next().await.is_none());
            } else {
                drop(outputs);
                // The receiver is dropped with the session.
                inputs.closed().await;
            }
            assert_eq!(*recorded.lock().expect("whole"), ["hung up"]);
        }
    }
}
