//! The process of `swarmctl`: its terminal, clock, signals and exit code.

mod console;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use cli::{Clock, Env, Stop, Wait};
use events::{CommandId, Id, Timestamp};
use tokio::signal::unix::SignalKind;

use console::ProcessConsole;

fn main() -> ExitCode {
    // Answers a completion request of the shell and exits, if this is one.
    clap_complete::CompleteEnv::with_factory(cli::command).complete();
    // Not locked: progress is drawn on the same terminal by another thread.
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let code = match cli::parse(std::env::args_os()) {
        Ok(cli) => run(&cli, &mut out, &mut err),
        Err(Stop::Help(help)) => u8::from(help.print().is_err()),
        Err(Stop::NoCommand(help)) => cli::print_help(&help, &mut err),
        Err(Stop::Wrong { failure, format }) => cli::report_failure(&failure, format, &mut err),
    };
    ExitCode::from(code)
}

fn run(cli: &cli::Cli, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            let hint = "raise this user's limits on processes and threads (ulimit -u) and on open files (ulimit -n)";
            let failure = cli::Failure::new(cli::Kind::Other, format!("the process cannot start: {error}")).hint(hint);
            return cli::report_failure(&failure, cli::Format::Table, err);
        }
    };
    let mut connection = match cli.connection() {
        Ok(connection) => connection,
        Err(failure) => return cli::report_failure(&failure, cli.format(), err),
    };
    let env = Env {
        out,
        err,
        interactive: std::io::stderr().is_terminal(),
        width: width(),
        coloured: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()),
        clock: &SystemClock,
        command_ids: &mut || CommandId::from_bits(rand::random()),
        interrupt: Box::pin(interrupted()),
        console: &mut ProcessConsole,
    };
    runtime.block_on(cli::run(cli, &mut connection, env))
}

/// A second thread answers the keepalive probes of the manager, even while this one is blocked by the reader of the output.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    // The runtime panics if no thread can be created; this reports an error instead.
    let thread = std::thread::Builder::new().spawn(|| ())?;
    thread.join().map_err(|_| std::io::Error::other("a thread panicked"))?;
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

/// Resolves at Ctrl-C, or when the process is asked to terminate; never, if signals are not available.
async fn interrupted() {
    let arrived = |kind| async move {
        match tokio::signal::unix::signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = arrived(SignalKind::interrupt()) => {}
        () = arrived(SignalKind::terminate()) => {}
    }
}

/// The width of the terminal that the output goes to.
fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 is wrong anyway; ages are zero then.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix_ns(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    fn sleep(&self, length: Duration) -> Wait<'static> {
        Box::pin(tokio::time::sleep(length))
    }
}
