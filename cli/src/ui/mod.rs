//! `swarmctl ui`: the cluster on one screen, now and at any point of its past.
//!
//! [`Ui`] is a state that keys and answers change. The next question follows from it ([`Ui::next`]), and so does the screen
//! ([`draw`]). All three are functions of their arguments. Around them are the terminal and the manager: [`run`] asks one
//! question at a time, and skips points that the user has dragged past meanwhile. Pages show the output of the verbs of
//! `swarmctl`, with the same calls; nothing here changes the cluster.

mod ask;
mod command;
mod entry;
mod help;
mod keys;
mod log;
mod model;
mod page;
mod prompt;
mod question;
mod rows;
mod screen;
mod timeline;
mod view;

#[cfg(test)]
mod tests;

use tokio_stream::StreamExt;
use wire::v1::TerminalSize;
use wire::v1::task_input::Input;

pub use ask::PageLoader;
pub use keys::{Decoder, Key};
pub use model::{Next, Size, Ui};
pub use question::{Answer, Question};
pub use view::draw;

use crate::failure::{Failure, Kind};
use crate::manager::{LogParts, Manager};
use crate::session::{ConsoleOptions, Session};
use crate::values::at::At;
use log::Log;
use screen::Screen;

/// The log stream of a page.
struct OpenLog {
    page: u64,
    parts: LogParts,
    log: Log,
}

/// An event of the main loop.
enum UiEvent {
    Input(Option<Input>),
    /// The question was answered, or it is time to ask one.
    Answered(Option<(Question, Result<Answer, Failure>)>),
    Log(Option<Result<wire::v1::LogsPart, Failure>>),
}

/// Shows the screen until the user quits.
///
/// # Errors
/// When there is no terminal, no manager answers at the start, or a signal ends the program.
pub async fn run<M: Manager>(at: &At, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.refuse_trial("the user interface is read-only")?;
    let terminal = session.env.console.terminal().filter(|_| session.env.width.is_some());
    let Some(size) = terminal.map(size) else {
        let failure = Failure::new(Kind::Usage, "`swarmctl ui` needs a terminal");
        return Err(failure.hint("in scripts, use `swarmctl service ls` and the like, with --format json"));
    };
    let cluster = session.manager.cluster(false).await?;
    let point = match &at.at {
        Some(point) => Some(session.find_point(point).await?),
        None => None,
    };
    let how = ConsoleOptions { stdin: true, raw: true, page: true };
    let mut inputs = session.env.console.listen(how).map_err(|error| {
        Failure::new(Kind::Other, format!("the terminal cannot be used: {error}")).hint("use another terminal")
    })?;
    let clock = session.env.clock;
    let loader = PageLoader { clock, ids: session.globals.no_resolve };
    let mut ui = Ui::new(cluster.name, size, point, clock.now());
    let mut screen = Screen::new(session.env.out, size, session.env.coloured)?;
    let (mut decoder, mut log) = (Decoder::default(), None::<OpenLog>);
    while !ui.is_over() {
        let next = ui.next(clock.now());
        let asked_at = clock.now();
        if let Next::Ask(Question::Page { page, .. }) = &next {
            // A log that is requested again replaces the old stream.
            log = log.filter(|log| log.page != *page);
        }
        let mut asked = std::pin::pin!(ask(&next, loader, session.manager));
        loop {
            screen.draw(&ui)?;
            let happening = tokio::select! {
                // In this order, so that a key press never waits.
                biased;
                input = inputs.next() => UiEvent::Input(input),
                answer = &mut asked => UiEvent::Answered(answer),
                part = next_part(&mut log) => UiEvent::Log(part),
            };
            let now = clock.now();
            match happening {
                UiEvent::Input(input) => handle_input(&mut ui, &mut decoder, input, now)?,
                UiEvent::Answered(Some((Question::Page { page, .. }, Ok(Answer::Logs(parts))))) => {
                    ui.open_log(page);
                    log = Some(OpenLog { page, parts, log: Log::new(loader.ids) });
                    break;
                }
                UiEvent::Answered(answer) => {
                    if let Some((question, answer)) = answer {
                        ui.answered(&question, answer, asked_at, now);
                    }
                    break;
                }
                UiEvent::Log(part) => handle_log(&mut ui, &mut log, part, now),
            }
            log = log.filter(|log| ui.has_page(log.page));
            // An answer that is still needed is awaited, even if the user has moved on meanwhile.
            if ui.is_over() || !matches!(&next, Next::Ask(question) if ui.awaits(question)) {
                break;
            }
        }
    }
    Ok(())
}

/// Sends the next question, or waits until it is due.
async fn ask<M: Manager>(
    next: &Next,
    loader: PageLoader<'_>,
    manager: &mut M,
) -> Option<(Question, Result<Answer, Failure>)> {
    match next {
        Next::Ask(question) => Some((question.clone(), loader.ask(manager, question).await)),
        Next::Wait(length) => {
            loader.clock.sleep(*length).await;
            None
        }
        Next::Nothing => std::future::pending().await,
    }
}

async fn next_part(log: &mut Option<OpenLog>) -> Option<Result<wire::v1::LogsPart, Failure>> {
    match log {
        Some(log) => log.parts.next().await,
        None => std::future::pending().await,
    }
}

/// Handles input of the terminal.
fn handle_input(
    ui: &mut Ui,
    decoder: &mut Decoder,
    input: Option<Input>,
    now: events::Timestamp,
) -> Result<(), Failure> {
    match input {
        Some(Input::Data(typed)) => decoder.take(&typed).into_iter().for_each(|key| ui.press(key, now)),
        Some(Input::Size(of)) => ui.resize(size(of), now),
        // The terminal does not send signals here.
        Some(Input::Signal(_)) => {}
        Some(Input::End(_)) => return Err(Failure::new(Kind::Interrupted, "the terminal was closed")),
        None => return Err(Failure::new(Kind::Interrupted, "ended by a signal").hint("nothing was changed")),
    }
    Ok(())
}

/// Handles a part of a log, or its end.
fn handle_log(
    ui: &mut Ui,
    open: &mut Option<OpenLog>,
    part: Option<Result<wire::v1::LogsPart, Failure>>,
    now: events::Timestamp,
) {
    let Some(OpenLog { page, log, .. }) = open else { return };
    match part {
        Some(Ok(part)) => {
            let lines = log.lines(part);
            ui.print(*page, lines, log.last());
        }
        Some(Err(failure)) => {
            ui.close_log(*page, Some(failure), now);
            *open = None;
        }
        None => {
            ui.close_log(*page, None, now);
            *open = None;
        }
    }
}

fn size(of: TerminalSize) -> Size {
    let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    Size { columns: number(of.columns), rows: number(of.rows) }
}
