//! The terminal and the signals of this process, for a command that runs in a task.

use std::io::{self, IsTerminal, Read, Write};

use cli::{Console, ConsoleOptions, TaskInputs};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, SignalStream};
use wire::v1::task_input::Input;
use wire::v1::{EndOfInput, TerminalSize};

/// Maximum size of one chunk of standard input, in bytes.
const INPUT_BYTES: usize = 16 << 10;
/// After this many termination signals the process exits, even if the command has not ended.
const END_SIGNALS_MAX: u32 = 3;

/// The console of this process.
pub struct ProcessConsole;

impl Console for ProcessConsole {
    fn terminal(&self) -> Option<TerminalSize> {
        io::stdin().is_terminal().then(size).flatten()
    }

    fn listen(&mut self, how: ConsoleOptions) -> io::Result<TaskInputs> {
        let raw = how.raw.then(Raw::enter).transpose()?;
        let page = how.page.then(AlternateScreen::enter).transpose()?;
        let signals = Signals::of_process(how.raw)?;
        let keys = how.stdin.then(keys).transpose()?;
        let keys = keys.map_or_else(|| ReceiverStream::new(mpsc::channel(1).1), ReceiverStream::new);
        let sizes = SignalStream::new(signal(SignalKind::window_change())?);
        let sizes = sizes.filter_map(|()| size().map(Input::Size));
        let given = keys.merge(sizes).map(Some);
        let inputs = given.merge(signals.stream());
        // The terminal is restored as soon as the stream is dropped.
        Ok(Box::pin(inputs.map_while(move |input| {
            let _ = (&page, &raw);
            input
        })))
    }
}

fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(io::stdin()).ok()?;
    Some(TerminalSize { columns: size.ws_col.into(), rows: size.ws_row.into() })
}

/// Reads standard input on a separate thread that runs until the process exits: a blocking read cannot be cancelled.
fn keys() -> io::Result<mpsc::Receiver<Input>> {
    let (sender, keys) = mpsc::channel(1);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let (mut stdin, mut buffer) = (io::stdin().lock(), vec![0; INPUT_BYTES]);
        loop {
            let input = match stdin.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // An error counts as end of input.
                Ok(0) | Err(_) => Input::End(EndOfInput {}),
                Ok(count) => Input::Data(buffer.get(..count).unwrap_or_default().to_vec()),
            };
            let is_last = matches!(input, Input::End(_));
            if sender.blocking_send(input).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(keys)
}

/// The signals of this process, by the names under which they are forwarded to the command.
struct Signals {
    named: Vec<(&'static str, Signal)>,
    /// Whether the terminal is in raw mode: keys go to the command, and a signal is for this process.
    raw: bool,
}

impl Signals {
    fn of_process(raw: bool) -> io::Result<Self> {
        let kinds = [
            ("INT", SignalKind::interrupt()),
            ("TERM", SignalKind::terminate()),
            ("HUP", SignalKind::hangup()),
            ("QUIT", SignalKind::quit()),
            ("USR1", SignalKind::user_defined1()),
            ("USR2", SignalKind::user_defined2()),
        ];
        let named = kinds.into_iter().map(|(name, kind)| Ok((name, signal(kind)?))).collect::<io::Result<_>>()?;
        Ok(Self { named, raw })
    }

    /// The signals to forward; the stream ends when this process should exit.
    fn stream(self) -> impl tokio_stream::Stream<Item = Option<Input>> {
        let raw = self.raw;
        let mut all: tokio_stream::StreamMap<&str, SignalStream> = tokio_stream::StreamMap::new();
        for (name, signal) in self.named {
            all.insert(name, SignalStream::new(signal));
        }
        let mut asked = 0;
        all.map(move |(name, ())| {
            let asks = matches!(name, "INT" | "TERM" | "HUP");
            asked += u32::from(asks);
            let ends = asks && (raw || asked >= END_SIGNALS_MAX);
            (!ends).then(|| Input::Signal(name.to_owned()))
        })
    }
}

/// A terminal in raw mode, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // If this fails too, the terminal is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Switches to the alternate screen and hides the cursor.
const ENTER_SCREEN: &[u8] = b"\x1b[?1049h\x1b[?25l";
/// Switches back, shows the cursor and resets colours.
const LEAVE_SCREEN: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";

/// The alternate screen of the terminal, until this is dropped.
struct AlternateScreen;

impl AlternateScreen {
    fn enter() -> io::Result<Self> {
        show(ENTER_SCREEN)?;
        let report = std::panic::take_hook();
        // A message on the alternate screen would be lost with it.
        std::panic::set_hook(Box::new(move |panic| {
            let _ = show(LEAVE_SCREEN);
            report(panic);
        }));
        Ok(Self)
    }
}

impl Drop for AlternateScreen {
    fn drop(&mut self) {
        // If this fails too, the terminal is gone.
        let _ = show(LEAVE_SCREEN);
    }
}

fn show(sequence: &[u8]) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(sequence)?;
    out.flush()
}
