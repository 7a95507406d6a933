//! Scenarios: a script of CLI commands and its transcript, in one text.
//!
//! ```text
//! # A comment stays as it is.
//! ! nodes 3
//! $ swarmctl service create --name web --image sim/ok --replicas 2
//! (what it said)
//! ! settle
//! ```
//!
//! Files that a command writes are named `scratch/...`. Lines that start with `$` are commands, lines that start with `!` are
//! directives to the world (see [`directive`]); everything else is their output. Running a transcript must reproduce it: any
//! difference means that the behaviour has changed.

pub mod diff;
mod directive;
pub mod page;
mod screen;

pub use directive::machine;

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Context;
use cli::{Env, Stop};
use events::{CommandId, Id};
use tempfile::TempDir;

use crate::clock::Clock;
use crate::mask::Mask;
use crate::socket::Socket;
use crate::world::World;

/// The prefix of files that a script writes: they are in a temporary directory of the run.
const SCRATCH: &str = "scratch/";

/// The flag whose value must never be shown.
const SECRET_FLAG: &str = "--registry-auth";

/// Runs a script and returns its transcript.
///
/// # Errors
/// When the script is malformed, or the simulation fails.
pub fn run(script: &str) -> anyhow::Result<String> {
    let mut player = Player::default();
    let mut transcript = Transcript::default();
    for (number, line) in script.lines().enumerate() {
        if line.starts_with(['#', '$', '!']) {
            transcript.add(line, player.line(line, number)?.as_deref());
        }
    }
    player.world()?.borrow_mut().finish()?;
    Ok(transcript.text)
}

/// The number of commands in a script.
pub fn commands(script: &str) -> usize {
    script.lines().filter(|line| line.starts_with('$')).count()
}

/// The transcript so far, with an empty line before comments and after output.
#[derive(Default)]
struct Transcript {
    text: String,
    in_comment: bool,
    gap: bool,
}

impl Transcript {
    fn add(&mut self, line: &str, output: Option<&str>) {
        let comment = output.is_none();
        if !self.text.is_empty() && (self.gap || (comment && !self.in_comment)) {
            self.text.push('\n');
        }
        self.text.push_str(line);
        self.text.push('\n');
        let output = output.unwrap_or_default();
        output.lines().for_each(|line| {
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        });
        self.gap = !output.is_empty();
        self.in_comment = comment;
    }
}

/// Runs one script.
#[derive(Default)]
struct Player {
    world: Option<Rc<RefCell<World>>>,
    mask: Mask,
    commands: u128,
    scratch: Option<TempDir>,
    screen: Option<cli::ui::Ui>,
}

impl Player {
    fn world(&self) -> anyhow::Result<Rc<RefCell<World>>> {
        self.world.clone().context("a script begins with `! nodes <number>`")
    }

    /// Executes a line and returns its output; a comment has none.
    fn line(&mut self, line: &str, number: usize) -> anyhow::Result<Option<String>> {
        let output = match line.split_at(1) {
            ("$", command) => Some(self.command(command)),
            ("!", words) => Some(self.directive(words)),
            _ => None,
        };
        output.transpose().with_context(|| format!("line {}: {line}", number + 1))
    }

    /// Runs `swarmctl` and returns its output.
    fn command(&mut self, line: &str) -> anyhow::Result<String> {
        let world = self.world()?;
        let words = words(line).context("a quote is not closed")?;
        let words: Vec<String> = words.into_iter().map(|word| world.borrow().oracle.names.resolve(word)).collect();
        let words = detached(words);
        let scratch = self.scratch()?;
        let words: Vec<String> = words.into_iter().map(|word| word.replace(SCRATCH, &scratch)).collect();
        for pair in words.windows(2).filter(|pair| pair[0] == SECRET_FLAG) {
            world.borrow_mut().oracle.keep_secret(&pair[1]);
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = match cli::parse(&words) {
            Ok(cli) => self.execute(&cli, &world, &mut out, &mut err)?,
            Err(Stop::Help(help)) => {
                out.extend(help.render().to_string().into_bytes());
                0
            }
            Err(Stop::NoCommand(help)) => cli::print_help(&help, &mut err),
            Err(Stop::Wrong { failure, format }) => cli::report_failure(&failure, format, &mut err),
        };
        let mut text = String::from_utf8(out)? + &String::from_utf8(err)?;
        if code != 0 {
            text.push_str(&format!("[exit code {code}]\n"));
        }
        let world = world.borrow();
        world.oracle.shows_no_secret(&text);
        Ok(self.mask.apply(&text.replace(&scratch, SCRATCH), &world.oracle.names))
    }

    /// The directory of files that the script writes.
    fn scratch(&mut self) -> anyhow::Result<String> {
        let folder = match self.scratch.take() {
            Some(folder) => folder,
            None => TempDir::new()?,
        };
        Ok(format!("{}/", self.scratch.insert(folder).path().display()))
    }

    fn execute(
        &mut self,
        cli: &cli::Cli,
        world: &Rc<RefCell<World>>,
        out: &mut Vec<u8>,
        err: &mut Vec<u8>,
    ) -> anyhow::Result<u8> {
        let clock: Clock = world.borrow().clock.clone();
        let env = Env {
            out,
            err,
            interactive: false,
            width: None,
            coloured: false,
            clock: &clock,
            command_ids: &mut || {
                self.commands += 1;
                CommandId::from_bits(self.commands)
            },
            interrupt: Box::pin(std::future::pending()),
            console: &mut cli::NoConsole,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(runtime.block_on(cli::run(cli, &mut Socket::new(Rc::clone(world)), env)))
    }
}

/// Adds `--detach` to a line of `swarmctl` that does not mention waiting: the script itself lets time pass.
pub fn detached<W: AsRef<str> + From<&'static str>>(mut words: Vec<W>) -> Vec<W> {
    const WAITING: [(&str, &[&str]); 3] = [
        ("service", &["create", "update", "scale"]),
        ("svc", &["create", "update", "scale"]),
        ("node", &["drain", "pause", "update", "promote", "demote"]),
    ];
    let says = |word: &W| ["--detach", "-d", "--timeout", "--help"].iter().any(|flag| word.as_ref().starts_with(flag));
    let waits = |pair: &[W]| {
        let (noun, verb) = (pair[0].as_ref(), pair[1].as_ref());
        WAITING.iter().any(|(waiting, verbs)| *waiting == noun && verbs.contains(&verb))
    };
    let verb = words.windows(2).position(waits).filter(|_| !words.iter().any(says));
    if let Some(noun) = verb {
        words.insert(noun + 2, "--detach".into());
    }
    words
}

/// The words of a command line, split as by a shell; `None` if a quote is not closed.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote): (Vec<String>, Option<String>, Option<char>) = (Vec::new(), None, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (Some(_) | None, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let list = words(r#" swarmctl --reason "it's 'new'" '' a"b"c "#).expect("the quotes are closed");
        assert_eq!(list, ["swarmctl", "--reason", "it's 'new'", "", "abc"]);
        assert_eq!(words("say 'no"), None);
    }

    #[test]
    fn a_command_waits_only_where_it_says_so() {
        let line = |line: &'static str| detached(line.split(' ').collect::<Vec<&str>>()).join(" ");
        assert_eq!(line("swarmctl service scale web=1"), "swarmctl service scale --detach web=1");
        for same in
            ["service scale web=1 --detach=false", "node drain n1 --timeout 5s", "service ls", "service update -d x"]
        {
            assert_eq!(line(same), same);
        }
    }

    #[test]
    fn a_transcript_is_its_own_script() {
        let script = "# One node.\n! nodes 1\n$ swarmctl service create --name web --image sim/ok\n";
        let once = run(script).expect("the script runs");
        assert_eq!(run(&once).expect("the transcript runs"), once);
        assert_eq!(commands(&once), 1);
    }
}
