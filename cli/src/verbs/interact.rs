//! What somebody does in a task: what is typed goes in, what comes out is shown.

use std::io::Write;

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use wire::v1::Interaction;
use wire::v1::task_output::Output;

use crate::failure::{Failure, Kind};
use crate::manager::{Manager, TaskInputs};
use crate::session::{Listening, Session};

/// Does something in a task until it has ended; swarmctl ends as it did.
pub async fn interact<M: Manager>(
    wanted: Interaction,
    how: Listening,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let (inputs, given) = mpsc::channel(1);
    let mut outputs = session.manager.interact(wanted, Box::pin(ReceiverStream::new(given))).await?;
    // Only now: a refusal is for a terminal as it was.
    let heard = session.around.console.listen(how).map_err(|error| {
        Failure::new(Kind::Other, format!("the terminal cannot be used: {error}")).hint("leave out -t")
    })?;
    let mut feeding = std::pin::pin!(feed(heard, inputs));
    loop {
        let output = tokio::select! {
            output = outputs.next() => output,
            () = &mut feeding => return Err(Failure::new(Kind::Interrupted, "ended by a signal; the command in the task is ended too")),
        };
        match output.transpose()? {
            Some(Output::Stdout(data)) => show(&data, session.around.out)?,
            Some(Output::Stderr(data)) => show(&data, session.around.err)?,
            Some(Output::ExitCode(code)) => {
                // What no exit code can be is an error all the same.
                session.exit_code = Some(u8::try_from(code).unwrap_or(u8::MAX));
                return Ok(());
            }
            None => {
                let failure =
                    Failure::new(Kind::Stopped, "the manager was stopped, which ends the command in the task");
                return Err(failure.hint("repeat the command at another manager, or once swarmd runs again"));
            }
        }
    }
}

/// Gives what is heard, as it is taken; ends with it.
async fn feed(mut heard: TaskInputs, inputs: mpsc::Sender<wire::v1::task_input::Input>) {
    while let Some(input) = heard.next().await {
        if inputs.send(input).await.is_err() {
            // The outputs say how it ended.
            std::future::pending::<()>().await;
        }
    }
}

fn show(data: &[u8], to: &mut dyn Write) -> Result<(), Failure> {
    to.write_all(data)?;
    Ok(to.flush()?)
}
