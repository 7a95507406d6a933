//! Scripts with one command per line, tried one after the other: each command sees the state that the commands before it lead to.
//! All lines are parsed before the first is tried.

use std::path::Path;

use wire::v1::preview_step::Step;
use wire::v1::{PreviewRequest, PreviewStep};

use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;
use crate::trial::Purpose;
use crate::usage::Stop;
use crate::values::{input, words};
use crate::{Cli, parse};

/// Maximum size of a script in bytes, and its maximum number of commands: as many as a manager tries at once.
const BYTES_MAX: usize = 1024 * 1024;
const COMMANDS_MAX: usize = 1_000;
/// A line may start with the program's own name.
const PROGRAM: &str = "swarmctl";
const HINT: &str = "write one changing command per line, without `plan` and without connection options";

/// A command of a script.
#[derive(Debug)]
struct Line {
    /// Its location: `FILE:7`.
    place: String,
    cli: Cli,
}

/// Collects the changes of all commands of a script.
///
/// # Errors
/// When a line is malformed, or fails before a manager tries it.
pub async fn run<M: Manager>(path: &Path, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let data = input::read(path, "script", BYTES_MAX)?;
    let shown = path.display();
    let text =
        String::from_utf8(data).map_err(|_| Failure::new(Kind::Usage, format!("{shown} is not text")).hint(HINT))?;
    for Line { place, cli } in read(&shown.to_string(), &text)? {
        let before = session.trial.as_ref().map_or(0, Vec::len);
        session.read_after = before;
        if let Err(failure) = Box::pin(cli.command.run(session)).await {
            return Err(first_refusal(before, session).await?.unwrap_or_else(|| at(failure, &place)));
        }
        let steps = session.trial.iter_mut().flatten().skip(before);
        for step in steps {
            session.lines.push(place.clone());
            if let (Some(Step::Command(request)), Some(reason)) = (&mut step.step, &cli.globals.reason) {
                request.reason = Some(reason.clone());
            }
        }
    }
    session.read_after = 0;
    Ok(())
}

/// If a line fails, an earlier line may be the cause: tries the earlier ones, and returns their refusal.
async fn first_refusal<M: Manager>(before: usize, session: &mut Session<'_, M>) -> Result<Option<Failure>, Failure> {
    let steps: Vec<PreviewStep> = session.trial.iter().flatten().take(before).cloned().collect();
    if steps.is_empty() {
        return Ok(None);
    }
    let reply = session.manager.preview(PreviewRequest { steps, what_if: false }).await?;
    Ok(reply.refusal.map(|refusal| refused(refusal.into(), reply.steps.len(), &session.lines)))
}

/// The refusal of a step, with the location of its line.
pub fn refused(failure: Failure, step: usize, lines: &[String]) -> Failure {
    match lines.get(step) {
        Some(place) => at(failure, place),
        None => failure,
    }
}

fn at(failure: Failure, place: &str) -> Failure {
    Failure { sentence: format!("{place}: {}", failure.sentence), ..failure }
}

fn read(file: &str, text: &str) -> Result<Vec<Line>, Failure> {
    let lines = text.lines().map(str::trim).enumerate();
    let commands = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let read: Vec<Line> =
        commands.map(|(number, line)| read_line(format!("{file}:{}", number + 1), line)).collect::<Result<_, _>>()?;
    if read.is_empty() || read.len() > COMMANDS_MAX {
        let sentence = format!("{file} has {} commands; a script has from 1 to {COMMANDS_MAX}", read.len());
        return Err(Failure::new(Kind::Usage, sentence).hint(HINT));
    }
    Ok(read)
}

fn read_line(place: String, line: &str) -> Result<Line, Failure> {
    let wrong = |why: &str| Failure::new(Kind::Usage, format!("{place}: {why}")).hint(HINT);
    let words = words::split(line).ok_or_else(|| wrong("a quote is not closed, or the line ends with a backslash"))?;
    let words = words.into_iter().skip_while(|word| word == PROGRAM);
    let with_program = |words: Vec<String>| parse(std::iter::once(PROGRAM.to_owned()).chain(words));
    let cli = with_program(words.collect()).map_err(|stop| match stop {
        Stop::Wrong { failure, .. } => at(failure, &place),
        Stop::Help(_) | Stop::NoCommand(_) => wrong("this is not a command that changes something"),
    })?;
    let usual = with_program(vec!["version".to_owned()]).map_err(|_| wrong("this is not a command"))?;
    if !matches!(cli.purpose, Purpose::Do) || !cli.globals.is_reason_alone(&usual.globals) {
        return Err(wrong("of the options of every command, a script line may only have --reason"));
    }
    Ok(Line { place, cli })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_a_command_a_line() {
        let text = "# the new version\n\nswarmctl service scale web=3 --reason 'more load'\n  node drain n1\n";
        let lines = read("f", text).expect("two commands");
        let places: Vec<&str> = lines.iter().map(|line| line.place.as_str()).collect();
        assert_eq!(places, ["f:3", "f:4"]);
        assert_eq!(lines[0].cli.globals.reason.as_deref(), Some("more load"));
    }

    #[test]
    fn what_is_no_command_is_refused_with_its_place() {
        let many = "node ls\n".repeat(COMMANDS_MAX + 1);
        for (text, words) in [
            ("", "f has 0 commands"),
            (many.as_str(), "f has 1001 commands"),
            ("node ls\nservice scale 'web", "f:2: a quote"),
            ("frob", "f:1: "),
            ("service", "f:1: this is not a command"),
            ("plan -o x service rm web", "f:1: of the options"),
            ("whatif drain n1", "f:1: of the options"),
            ("service rm web --dry-run", "f:1: of the options"),
            ("service rm web --socket /tmp/x", "f:1: of the options"),
        ] {
            let failure = read("f", text).expect_err(text);
            assert!(failure.sentence.starts_with(words), "{}", failure.sentence);
        }
    }
}
