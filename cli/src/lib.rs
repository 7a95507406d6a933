//! `swarmctl`, the command line client of a cluster.
//!
//! [`parse`] reads a command line, [`run`] executes it. Commands talk to a cluster through the trait [`Manager`], so that the
//! same commands run against the control socket of a real manager and against a simulated cluster. Building requests (`spec`,
//! `values`) and formatting replies (`format`) are functions of their arguments; only the verbs and `wait` talk to a manager.

mod apply;
mod archive;
pub mod completion;
mod compose;
mod failure;
mod format;
pub mod grpc;
mod identity;
mod manager;
mod reads;
mod script;
mod session;
mod spec;
mod trial;
pub mod ui;
mod undo;
mod usage;
mod values;
mod verbs;
mod wait;
mod yaml;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser};

pub use failure::{Failure, Kind};
pub use format::Format;
pub use manager::{
    ArchivedStream, BackupStream, DifferenceStream, EventStream, FrameStream, LogParts, Manager, TaskInputs,
    TaskOutputs, UsageParts, VerifiedStream,
};
pub use session::{Clock, Console, ConsoleOptions, Env, NoConsole, Wait};
pub use usage::Stop;

use session::Session;

/// The environment variable that names the control socket.
pub const SOCKET_VARIABLE: &str = "SWARM_SOCKET";
/// The environment variable that names a manager to talk to over the network.
pub const HOST_VARIABLE: &str = "SWARM_HOST";
/// The environment variable that names the directory of the operator's identity.
pub const IDENTITY_VARIABLE: &str = "SWARM_IDENTITY";
/// Maximum length of a reason, in bytes, as managers enforce it.
const REASON_BYTES_MAX: usize = 512;

/// How long before an identity expires `swarmctl` warns about it.
const IDENTITY_ENDS_SOON: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);

/// Nouns and verbs of SwarmKit and Docker that are not implemented.
const NOT_YET: &str = "Not in this version: network, volume";

/// Unsupported commands, and the exit codes for scripts.
const AFTER_HELP: &str = "Not in this version: network, volume

Exit codes:
   0  done
   1  another error
   2  wrong usage or input; --dry-run and plan: something would change; whatif: tasks would be left without a node
   3  object not found
   4  version conflict, or name taken
   5  update failed, paused or rolled back
   6  timed out waiting
   7  no manager answers, or it was stopped
   8  not allowed, or a certificate problem
 130  interrupted";

/// Operate a Swarmlog cluster: its nodes, its services, and the history of both
///
/// Objects are given by name, by id or by a unique prefix of an id. Every change is recorded permanently with who made
/// it; `--reason` records why, and `swarmctl events` shows the history.
#[derive(Debug, Parser)]
#[command(name = "swarmctl", version, max_term_width = 120, after_help = NOT_YET, after_long_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,

    #[command(subcommand)]
    command: verbs::Command,

    /// How to run the command: execute it, or only try it.
    #[arg(skip)]
    purpose: trial::Purpose,
}

/// Flags of every command.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Globals {
    /// Control socket of the manager to talk to; of several, separated by commas, the first that answers
    #[arg(short, long, global = true, value_name = "PATH", env = SOCKET_VARIABLE, default_value = wire::DEFAULT_SOCKET)]
    #[arg(value_delimiter = ',')]
    socket: Vec<PathBuf>,

    /// Manager to talk to over the network, as https://HOST[:PORT], with the identity in --identity; of several, separated by commas,
    /// the first that answers; comes before the command
    #[arg(long = "host", value_name = "URL", env = HOST_VARIABLE, value_parser = identity::address, value_delimiter = ',')]
    manager_host: Vec<String>,

    /// Directory of the operator's identity, which `swarmctl operator create` makes
    #[arg(long, global = true, value_name = "DIRECTORY", env = IDENTITY_VARIABLE)]
    identity: Option<PathBuf>,

    /// Show ids instead of names
    #[arg(short, long, global = true)]
    no_resolve: bool,

    /// Read the state as it is at the manager that answers, also if it lags behind or the managers have no quorum
    #[arg(long, global = true)]
    stale: bool,

    /// Show what the change would do, object by object and task by task, and change nothing; ends with 2 if it would change anything
    #[arg(long, global = true)]
    dry_run: bool,

    /// Reason for the change; recorded with it permanently
    #[arg(long, global = true, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,

    /// Format of the output, and of errors
    #[arg(long, global = true, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

fn reason(text: &str) -> Result<String, values::Invalid> {
    if text.len() > REASON_BYTES_MAX {
        return Err(values::Invalid::new("the reason is longer than 512 bytes", "use fewer words"));
    }
    Ok(text.to_owned())
}

impl Cli {
    /// The connection to the manager, or to the first of several control sockets that answers.
    ///
    /// # Errors
    /// When the manager is remote, and no identity is given.
    pub fn connection(&self) -> Result<grpc::Connection, Failure> {
        let Globals { manager_host, identity, socket, stale, .. } = &self.globals;
        let connection = match (manager_host.as_slice(), identity) {
            ([], _) => grpc::Connection::to_any(socket.iter().cloned()),
            (hosts, Some(identity)) => grpc::Connection::over_tls(hosts.iter().cloned(), identity),
            ([_, ..], None) => {
                let failure = Failure::new(Kind::Usage, "--host needs an identity");
                let hint = "give its directory with --identity; `swarmctl operator create` on a manager makes one";
                return Err(failure.hint(hint));
            }
        };
        Ok(connection.stale(*stale))
    }

    /// The format in which failures are reported.
    pub fn format(&self) -> Format {
        self.globals.format
    }
}

/// The parser, for completion and documentation.
pub fn command() -> clap::Command {
    take_negative_numbers(Cli::command())
}

/// A word like `-1` after a flag that takes a value is parsed as that value, for the flag to validate, and not as another flag.
fn take_negative_numbers(command: clap::Command) -> clap::Command {
    let takes_value = |argument: &clap::Arg| argument.get_long().is_some() && argument.get_action().takes_values();
    command
        .mut_args(|argument| if takes_value(&argument) { argument.allow_negative_numbers(true) } else { argument })
        .mut_subcommands(take_negative_numbers)
}

/// Parses a command line, the program's name first.
///
/// # Errors
/// When it asks for help, or is invalid.
pub fn parse(args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Cli, Stop> {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let mut outer = read(&args)?;
    outer.purpose = if outer.globals.dry_run { trial::Purpose::DryRun } else { outer.command.purpose() };
    let Some((words, purpose)) = outer.command.about() else { return Ok(outer) };
    // The command that a subcommand belongs to.
    let program = || args.first().cloned().unwrap_or_default();
    let inner = read(&std::iter::once(program()).chain(words).collect::<Vec<_>>())?;
    let defaults = read(&[program(), "version".into()])?.globals;
    Ok(Cli { globals: inner.globals.or(outer.globals, &defaults), purpose, command: inner.command })
}

fn read(args: &[OsString]) -> Result<Cli, Stop> {
    let matches = command().try_get_matches_from(args);
    matches.and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| usage::stop(error, args))
}

impl Globals {
    /// Whether at most a reason is given.
    fn is_reason_alone(&self, defaults: &Self) -> bool {
        let Self { socket, manager_host, identity, no_resolve, stale, dry_run, reason: _, format } = self;
        (socket, manager_host, identity, format)
            == (&defaults.socket, &defaults.manager_host, &defaults.identity, &defaults.format)
            && (*no_resolve, *stale, *dry_run) == (defaults.no_resolve, defaults.stale, defaults.dry_run)
    }

    /// These flags; those with their default value are taken from the enclosing command.
    fn or(self, outer: Self, defaults: &Self) -> Self {
        Self {
            socket: if self.socket == defaults.socket { outer.socket } else { self.socket },
            manager_host: if self.manager_host == defaults.manager_host {
                outer.manager_host
            } else {
                self.manager_host
            },
            identity: if self.identity == defaults.identity { outer.identity } else { self.identity },
            format: if self.format == defaults.format { outer.format } else { self.format },
            no_resolve: self.no_resolve || outer.no_resolve,
            stale: self.stale || outer.stale,
            dry_run: self.dry_run || outer.dry_run,
            reason: self.reason.or(outer.reason),
        }
    }
}

/// Runs a command line and returns the exit code. Data goes to `env.out`; a failure is reported on `env.err`.
pub async fn run<'a, M: Manager>(cli: &'a Cli, manager: &'a mut M, env: Env<'a>) -> u8 {
    let Env { out, err, interactive, width, coloured, clock, command_ids, interrupt, console } = env;
    let env = Env { out, err: &mut *err, interactive, width, coloured, clock, command_ids, interrupt, console };
    match attempt(cli, manager, env).await {
        Ok(code) => code,
        Err(failure) => report_failure(&failure, cli.globals.format, err),
    }
}

/// Runs a command line and returns the exit code or the failure.
async fn attempt<'a, M: Manager>(cli: &'a Cli, manager: &'a mut M, env: Env<'a>) -> Result<u8, Failure> {
    let trial = cli.purpose.is_trial().then(Vec::new);
    let globals = &cli.globals;
    let mut session = Session {
        manager,
        env,
        globals,
        operation: None,
        point: None,
        undoes: None,
        trial,
        read_after: 0,
        tentative: BTreeSet::new(),
        lines: Vec::new(),
        sources: apply::Sources::default(),
        leaves_tasks_over: false,
        exit_code: None,
    };
    let code = carry_out(cli, &mut session).await?;
    session.env.out.flush()?;
    Ok(code)
}

/// Executes or tries a command line and returns the exit code.
async fn carry_out<M: Manager>(cli: &Cli, session: &mut Session<'_, M>) -> Result<u8, Failure> {
    warn_of_the_end(session)?;
    if let trial::Purpose::WhatIf(at) = &cli.purpose {
        session.at(at).await?;
    }
    cli.command.run(session).await?;
    let code = trial::conclude(&cli.purpose, session).await?;
    Ok(session.exit_code.unwrap_or(code))
}

/// Warns on each call that the identity expires soon; there is a month to renew it.
fn warn_of_the_end<M: Manager>(session: &mut Session<'_, M>) -> Result<(), Failure> {
    let Globals { manager_host, identity: Some(identity), .. } = session.globals else { return Ok(()) };
    let Some(ends) = identity::ends_at(identity).filter(|_| !manager_host.is_empty()) else { return Ok(()) };
    let left = ends.since(session.env.clock.now());
    if left.is_zero() || left > IDENTITY_ENDS_SOON {
        return Ok(());
    }
    let left = match left.as_secs() / (24 * 3600) {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    };
    session.note(&format!(
        "warning: the identity in {} expires in {left}; `swarmctl operator renew` renews it",
        identity.display()
    ))
}

/// Reports a failure and returns the exit code.
pub fn report_failure(failure: &Failure, format: Format, err: &mut dyn std::io::Write) -> u8 {
    if failure.kind != Kind::OutputClosed {
        // If this cannot be written either, only the exit code is left.
        let _ = failure.write(format, err);
    }
    failure.kind.exit_code()
}

/// Shows the help of a command that was given without a subcommand, and returns the exit code.
pub fn print_help(help: &str, err: &mut dyn std::io::Write) -> u8 {
    // If this cannot be written either, only the exit code is left.
    let _ = err.write_all(help.as_bytes());
    Kind::Usage.exit_code()
}

#[cfg(test)]
mod tests;
