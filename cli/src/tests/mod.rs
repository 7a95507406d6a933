//! Whole commands, from the command line to the output, against a fake manager.

mod audit;
mod export;
mod fake;
mod help;
mod identity;
mod interact;
mod logs;
mod output;
mod plans;
mod requests;
mod resume;
mod socket;
mod swarmkit;
mod usage;
mod waiting;

use std::time::Duration;

use events::{CommandId, Id, Timestamp};

use crate::format::samples;
use crate::{Cli, Clock, Env, Manager, Stop, Wait};

/// The results of a command.
#[derive(Debug)]
struct RunResult {
    code: u8,
    out: String,
    err: String,
}

/// The simulated environment of a command.
#[derive(Debug, Clone, Copy, Default)]
struct TestEnv {
    /// The user presses Ctrl-C as soon as the command waits.
    interrupt: bool,
    /// Every sleep ends at once.
    skip_sleeps: bool,
}

impl Clock for TestEnv {
    fn now(&self) -> Timestamp {
        samples::NOW
    }

    fn sleep(&self, _: Duration) -> Wait<'static> {
        if self.skip_sleeps { Box::pin(std::future::ready(())) } else { Box::pin(std::future::pending()) }
    }
}

/// Commands that wait by default.
const WAITING: [&str; 6] =
    ["service create", "svc create", "service update", "service scale", "node drain", "node pause"];

/// Parses a command line and adds `--detach` unless it mentions waiting: most tests are not about that.
fn parsed(line: &str) -> Cli {
    let says = ["--detach", " -d", "--timeout"].iter().any(|flag| line.contains(flag));
    let detached = WAITING.iter().find(|command| !says && line.starts_with(**command));
    let line =
        detached.map_or_else(|| line.to_owned(), |command| line.replacen(command, &format!("{command} --detach"), 1));
    parsed_as_given(&line)
}

fn parsed_as_given(line: &str) -> Cli {
    let words = std::iter::once("swarmctl").chain(line.split(' '));
    match crate::parse(words) {
        Ok(cli) => cli,
        Err(Stop::Help(help)) => panic!("{line}: {help}"),
        Err(Stop::NoCommand(help)) => panic!("{line}: {help}"),
        Err(Stop::Wrong { failure, .. }) => panic!("{line}: {failure:?}"),
    }
}

/// Runs a command line, given without the program's name.
async fn run(line: &str, manager: &mut impl Manager, world: TestEnv) -> RunResult {
    let (mut out, mut err, mut issued) = (Vec::new(), Vec::new(), 0);
    let interrupt: Wait =
        if world.interrupt { Box::pin(std::future::ready(())) } else { Box::pin(std::future::pending()) };
    let mut command_ids = || {
        issued += 1;
        CommandId::from_bits(issued)
    };
    let env = Env {
        out: &mut out,
        err: &mut err,
        interactive: false,
        width: None,
        coloured: false,
        clock: &world,
        command_ids: &mut command_ids,
        interrupt,
        console: &mut crate::NoConsole,
    };
    let code = crate::run(&parsed(line), manager, env).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
    RunResult { code, out: text(out), err: text(err) }
}
