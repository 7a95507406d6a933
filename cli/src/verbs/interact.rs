//! Interaction with a task: input is forwarded to it, and its output is shown.

use std::io::Write;

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use wire::v1::Interaction;
use wire::v1::task_input::Input;
use wire::v1::task_output::Output;

use crate::failure::{Failure, Kind};
use crate::manager::{Manager, TaskInputs};
use crate::session::{ConsoleOptions, Session};
use crate::values::keys::{Finder, Keys};

/// What happens to the command in the task when swarmctl ends.
pub enum OnExit {
    /// The command ends too.
    Command,
    /// Nothing: these keys, and signals, only end swarmctl.
    Detach(Keys),
}

/// Interacts with a task until the interaction ends; swarmctl ends with the same exit code.
pub async fn interact<M: Manager>(
    wanted: Interaction,
    how: ConsoleOptions,
    on_exit: OnExit,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let (inputs, given) = mpsc::channel(1);
    let mut outputs = session.manager.interact(wanted, Box::pin(ReceiverStream::new(given))).await?;
    // Only now: if the request is refused, the terminal must be unchanged.
    let console_input = session.env.console.listen(how).map_err(|error| {
        Failure::new(Kind::Other, format!("the terminal cannot be used: {error}")).hint("leave out -t")
    })?;
    let mut detach = match on_exit {
        OnExit::Command => None,
        OnExit::Detach(keys) => Some(how.raw.then(|| Finder::new(keys))),
    };
    let detaches = detach.is_some();
    let mut feeding = std::pin::pin!(feed(console_input, inputs, &mut detach));
    loop {
        let output = tokio::select! {
            output = outputs.next() => output,
            () = &mut feeding => {
                if detaches {
                    return session.note("detached; the task keeps running");
                }
                let sentence = "ended by a signal; the command in the task is ended too";
                return Err(Failure::new(Kind::Interrupted, sentence));
            }
        };
        match output.transpose()? {
            Some(Output::Stdout(data)) => show(&data, session.env.out)?,
            Some(Output::Stderr(data)) => show(&data, session.env.err)?,
            // Only copies send this.
            Some(Output::Target(_)) => {}
            Some(Output::ExitCode(code)) => {
                // A value that is not a valid exit code is an error too.
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

/// Forwards input; returns at its end, or when the user detaches.
async fn feed(mut console_input: TaskInputs, inputs: mpsc::Sender<Input>, detach: &mut Option<Option<Finder>>) {
    while let Some(input) = console_input.next().await {
        let (input, is_last) = match detach {
            None => (Some(input), false),
            Some(finder) => until_detached(input, finder.as_mut()),
        };
        if let Some(input) = input
            && inputs.send(input).await.is_err()
        {
            // The output reports how the command ended.
            std::future::pending::<()>().await;
        }
        if is_last {
            return;
        }
    }
}

/// The part of an input that is for the task, and whether it detaches: a signal does, and so does the detach key sequence.
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
