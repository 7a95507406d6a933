//! The process `swarmd`, from its command line to its exit code.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use super::config::{Cli, LogFormat, Offline, RunArgs};
use super::config_file::{self, Arguments, Refused};
use super::failure::Failure;
use super::{descriptors, dev, leave, limits, log_lines, reseed, run};
use crate::backup::restore;
use crate::manager::{export, replay};
use crate::security::hardening;

/// Runs the command line.
pub fn main() -> ExitCode {
    let Arguments { cli: Cli { command, run: args, .. }, file } = match config_file::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Refused::Line(error)) if !error.use_stderr() => return ExitCode::from(u8::from(error.print().is_err())),
        Err(Refused::Line(error)) => return tell(&error.into()),
        Err(Refused::File(failure)) => return tell(&failure),
    };
    let result = match command {
        Some(Offline::Supervise { task_dir, open_files }) => {
            if let Some(soft) = open_files {
                descriptors::lower(soft);
            }
            return crate::agent::process::supervise(&task_dir);
        }
        Some(Offline::Replay { state_dir, unlock_key_file }) => {
            replay::replay(&state_dir, unlock_key_file.as_deref(), &mut std::io::stdout())
        }
        Some(Offline::Export(args)) => export::export(&args, &mut std::io::stdout()),
        Some(Offline::Restore(args)) => restored(&args),
        Some(Offline::Reseed(args)) => reseed::reseed(&args, &mut std::io::stdout()),
        Some(Offline::Leave(args)) => left(&args),
        None => start(args, file),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => tell(&failure),
    }
}

fn tell(failure: &Failure) -> ExitCode {
    eprintln!("{failure}");
    ExitCode::from(failure.code)
}

fn restored(args: &restore::Args) -> Result<(), Failure> {
    for failed in hardening::harden(false) {
        eprintln!("swarmd: {failed}");
    }
    runtime()?.block_on(restore::restore(args, &mut std::io::stdout()))
}

fn left(args: &leave::Args) -> Result<(), Failure> {
    for failed in hardening::harden(false) {
        eprintln!("swarmd: {failed}");
    }
    runtime()?.block_on(leave::leave(args, &mut std::io::stdout()))
}

/// With one worker thread per processor, the default of the runtime.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(format!("no threads for the runtime: {error}"), "free some memory"))
}

fn start(args: RunArgs, file: Option<PathBuf>) -> Result<(), Failure> {
    // The runtime panics if it cannot create threads, and a failed allocation aborts the process.
    limits::require()?;
    log_to_stderr(&args);
    if let Some(file) = file {
        tracing::info!(path = %file.display(), "the config file was read");
    }
    for failed in hardening::harden(args.allow_core_dumps) {
        tracing::warn!("{failed}");
    }
    runtime()?.block_on(async { if args.dev { dev::run(args).await } else { run::run(args).await } })
}

/// Human-readable lines on a terminal, JSON otherwise, unless the flag sets the format.
fn log_to_stderr(args: &RunArgs) {
    let filter = EnvFilter::new(args.log_level.directive());
    let terminal = std::io::stderr().is_terminal();
    let format = args.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    // No colours: all control characters are escaped.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    match format {
        LogFormat::Text => lines.with_target(false).with_writer(log_lines::text).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_writer(log_lines::json).init(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_many_threads_serve_as_there_are_processors() {
        let processors = std::thread::available_parallelism().expect("a number").get();
        let runtime = super::runtime().unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(runtime.metrics().num_workers(), processors);
    }
}
