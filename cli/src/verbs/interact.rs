//! What somebody does in a task: what is typed goes in, what comes out is shown.

use std::io::Write;

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use wire::v1::Interaction;
use wire::v1::task_input::Input;
use wire::v1::task_output::Output;

use crate::failure::{Failure, Kind};
use crate::manager::{Manager, TaskInputs};
use crate::session::{Listening, Session};
use crate::values::keys::{Finder, Keys};

/// What the end of swarmctl is for what goes on in the task.
pub enum Ends {
    /// The end of the command too.
    Command,
    /// Nothing: these keys, and signals, only end swarmctl.
    Detach(Keys),
}

/// Does something in a task until it has ended; swarmctl ends as it did.
pub async fn interact<M: Manager>(
    wanted: Interaction,
    how: Listening,
    ends: Ends,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let (inputs, given) = mpsc::channel(1);
    let mut outputs = session.manager.interact(wanted, Box::pin(ReceiverStream::new(given))).await?;
    // Only now: a refusal is for a terminal as it was.
    let heard = session.around.console.listen(how).map_err(|error| {
        Failure::new(Kind::Other, format!("the terminal cannot be used: {error}")).hint("leave out -t")
    })?;
    let mut detach = match ends {
        Ends::Command => None,
        Ends::Detach(keys) => Some(how.raw.then(|| Finder::new(keys))),
    };
    let detaches = detach.is_some();
    let mut feeding = std::pin::pin!(feed(heard, inputs, &mut detach));
    loop {
        let output = tokio::select! {
            output = outputs.next() => output,
            () = &mut feeding => {
                if detaches {
                    return session.note("detached; the task goes on");
                }
                let sentence = "ended by a signal; the command in the task is ended too";
                return Err(Failure::new(Kind::Interrupted, sentence));
            }
        };
        match output.transpose()? {
            Some(Output::Stdout(data)) => show(&data, session.around.out)?,
            Some(Output::Stderr(data)) => show(&data, session.around.err)?,
            // Only a copy says that.
            Some(Output::Target(_)) => {}
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

/// Gives what is heard, as it is taken; ends with it, or where it detaches.
async fn feed(mut heard: TaskInputs, inputs: mpsc::Sender<Input>, detach: &mut Option<Option<Finder>>) {
    while let Some(input) = heard.next().await {
        let (input, is_last) = match detach {
            None => (Some(input), false),
            Some(finder) => until_detached(input, finder.as_mut()),
        };
        if let Some(input) = input
            && inputs.send(input).await.is_err()
        {
            // The outputs say how it ended.
            std::future::pending::<()>().await;
        }
        if is_last {
            return;
        }
    }
}

/// What of an input is for the task, and whether it detaches: a signal does, and the keys that a finder finds.
fn until_detached(input: Input, finder: Option<&mut Finder>) -> (Option<Input>, bool) {
    match (input, finder) {
        (Input::Signal(_), _) => (None, true),
        (Input::Data(typed), Some(finder)) => {
            let (data, found) = finder.take(&typed);
            ((!data.is_empty()).then_some(Input::Data(data)), found)
        }
        (input @ (Input::Data(_) | Input::End(_) | Input::Size(_)), _) => (Some(input), false),
    }
}

fn show(data: &[u8], to: &mut dyn Write) -> Result<(), Failure> {
    to.write_all(data)?;
    Ok(to.flush()?)
}
