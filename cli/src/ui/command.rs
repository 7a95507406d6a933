//! Commands after `:`.

use super::question::{Output, Subject};
use crate::failure::{Failure, Kind};
use crate::values::point::{self, Point};
use crate::values::words;

/// A command of the user interface.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Show this page.
    Show(Subject),
    /// Go to a point of history.
    To(Point),
    /// Go to the present.
    Now,
    /// Show the keys and commands.
    Help,
    /// Quit.
    Quit,
}

/// Read-only commands of `swarmctl`: their first words, and after how many of them `--at` is inserted, if they support it.
const QUESTIONS: [(&[&str], Option<usize>); 15] = [
    (&["whatif"], Some(1)),
    (&["explain"], Some(2)),
    (&["blame"], None),
    (&["history", "diff"], None),
    (&["history", "tags"], None),
    (&["task", "history"], None),
    (&["service", "inspect"], Some(2)),
    (&["service", "revisions"], Some(2)),
    (&["service", "explain"], Some(2)),
    (&["node", "inspect"], Some(2)),
    (&["task", "inspect"], Some(2)),
    (&["task", "explain"], Some(2)),
    (&["config", "inspect"], Some(2)),
    (&["secret", "inspect"], Some(2)),
    (&["raft"], None),
];

/// The names of commands, for completion with Tab.
pub const NAMES: [&str; 13] = [
    "at",
    "blame",
    "events",
    "explain",
    "help",
    "history diff",
    "history tags",
    "nodes",
    "now",
    "quit",
    "services",
    "tasks",
    "whatif",
];

/// Reads a command.
///
/// # Errors
/// When it is unknown.
pub fn parse(text: &str) -> Result<Command, Failure> {
    let wrong = |sentence: String| Failure::new(Kind::Usage, sentence).hint("press ? for keys and commands");
    let words = words::split(text)
        .ok_or_else(|| wrong("a quote is not closed, or the line ends with a backslash".to_owned()))?;
    let list: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(match list[..] {
        ["services" | "service" | "svc"] => Command::Show(Subject::Services),
        ["nodes" | "node" | "no"] => Command::Show(Subject::Nodes),
        ["tasks" | "task" | "ps"] => Command::Show(Subject::Tasks { of: None, finished: false }),
        ["events" | "event" | "ev"] => Command::Show(Subject::Events { about: None }),
        ["events" | "event" | "ev", about] => {
            Command::Show(Subject::Events { about: Some((about.to_owned(), about.to_owned())) })
        }
        ["at", ..] => Command::To(point(&list[1..].join(" "))?),
        ["now"] => Command::Now,
        ["help" | "h"] => Command::Help,
        ["quit" | "q" | "q!"] => Command::Quit,
        _ => Command::Show(Subject::Output(
            question(&words).ok_or_else(|| wrong(format!("\"{text}\" is no command here")))?,
        )),
    })
}

/// A point of history.
///
/// # Errors
/// When it is malformed.
pub fn point(text: &str) -> Result<Point, Failure> {
    Ok(point::parse(text.trim())?)
}

fn question(words: &[String]) -> Option<Output> {
    let begins = |beginning: &[&str]| beginning.iter().zip(words).filter(|(a, b)| a == b).count() == beginning.len();
    let (_, at_position) = QUESTIONS.iter().find(|(beginning, _)| begins(beginning))?;
    // A command with its own time does not get another.
    let says_when = words.iter().any(|word| word == "--at" || word.starts_with("--at="));
    let at_position = at_position.filter(|position| !says_when && *position <= words.len());
    Some(Output { title: crate::format::words(words), words: words.to_vec(), at_position, live: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_pages_and_questions_for_their_output() {
        for (text, subject) in [
            ("services", Subject::Services),
            (" svc ", Subject::Services),
            ("no", Subject::Nodes),
            ("tasks", Subject::Tasks { of: None, finished: false }),
            ("events web", Subject::Events { about: Some(("web".to_owned(), "web".to_owned())) }),
        ] {
            assert_eq!(parse(text), Ok(Command::Show(subject)), "{text}");
        }
        for (text, at_position) in [
            ("whatif lose n3", Some(1)),
            ("whatif --at 5 lose n3", None),
            ("explain service web", Some(2)),
            ("explain", None),
            ("blame service 'the web'", None),
        ] {
            let Ok(Command::Show(Subject::Output(output))) = parse(text) else { panic!("{text}") };
            assert_eq!((output.words, output.at_position), (words::split(text).expect("words"), at_position));
        }
        assert!(matches!(parse("at 2h ago"), Ok(Command::To(_))));
        assert_eq!(parse("q"), Ok(Command::Quit));
    }

    #[test]
    fn what_changes_something_is_no_command() {
        for text in ["service rm web", "node drain n1", "apply file", "undo", "audit verify", "", "whatif 'x", "at x/y"]
        {
            let failure = parse(text).expect_err(text);
            assert!(failure.kind == Kind::Usage && !failure.hint.is_empty(), "{text}: {failure:?}");
        }
    }

    /// For every allowed command, the whole line parses as a read-only command of `swarmctl`.
    #[test]
    fn questions_are_commands_of_swarmctl() {
        for (beginning, _) in QUESTIONS {
            let mut command = crate::command();
            command.build();
            let found = beginning.iter().try_fold(command, |within, name| within.find_subcommand(name).cloned());
            assert!(found.is_some(), "{beginning:?}");
        }
        for name in NAMES {
            let is_short = matches!(parse(name), Ok(Command::Show(_) | Command::Now | Command::Help | Command::Quit));
            assert!(is_short || name == "at", "{name}");
        }
    }
}
