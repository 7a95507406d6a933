//! `swarmctl task cp`.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use wire::v1::interaction::What;
use wire::v1::task_input::Input;
use wire::v1::task_output::Output;
use wire::v1::{CopySpec, CopyTarget, EndOfInput, Interaction};

use crate::archive::{Limits, Root, Source, Unpacked, pack, unpack};
use crate::failure::{Failure, Kind};
use crate::manager::{Manager, TaskInputs, TaskOutputs};
use crate::session::{ConsoleOptions, Session};
use crate::values::copy::{self, Place};
use crate::values::size;

/// Size of one chunk of an archive, in bytes.
const CHUNK_BYTES: usize = 16 << 10;
/// Maximum number of chunks that wait to be unpacked.
const QUEUED_CHUNKS_MAX: usize = 4;

/// Copy files between a running task and this machine
///
/// Follows the rules of `docker cp`: a directory is copied into an existing directory, or becomes a new one; `PATH/.` stands for
/// its contents. With - instead of a local path, a tar archive is read from standard input or written to standard output. History
/// permanently records who copied which path, but not the contents.
///
/// Example: swarmctl task cp web.1:/etc/nginx/nginx.conf .
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep user and group ids; otherwise files belong to the user of swarmctl, or to root in the task
    #[arg(short, long)]
    archive: bool,

    /// If the source is a symbolic link, copy its target
    #[arg(short = 'L', long)]
    follow_link: bool,

    /// Do not print what was copied
    #[arg(short, long)]
    quiet: bool,

    /// Maximum size of all files that are written to this machine
    #[arg(long, value_name = "SIZE", default_value = "10GiB", value_parser = size::parse)]
    max_size: u64,

    /// Source: TASK:PATH, a local path, or - for a tar archive on standard input
    #[arg(value_name = "SOURCE", value_parser = copy::parse)]
    source: Place,

    /// Destination: TASK:PATH, a local path, or - for a tar archive on standard output
    #[arg(value_name = "DESTINATION", value_parser = copy::parse)]
    destination: Place,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.refuse_trial("copying cannot be previewed")?;
    match (&args.source, &args.destination) {
        (Place::Task { task, path }, Place::Stdio) => to_stdout(args, task, path, session).await,
        (Place::Task { task, path }, Place::Local(to)) => to_here(args, task, path, to, session).await,
        (Place::Stdio, Place::Task { task, path }) => from_stdin(task, path, session).await,
        (Place::Local(from), Place::Task { task, path }) => from_here(args, from, task, path, session).await,
        (Place::Task { .. }, Place::Task { .. }) => {
            let failure = Failure::new(Kind::Usage, "cannot copy from one task to another directly");
            Err(failure.hint("pipe one into the other: `swarmctl task cp A:/x - | swarmctl task cp - B:/`"))
        }
        (Place::Local(_) | Place::Stdio, Place::Local(_) | Place::Stdio) => {
            let failure = Failure::new(Kind::Usage, "neither the source nor the destination is in a task");
            Err(failure.hint("write TASK:PATH for one of them, such as web.1:/etc/hosts"))
        }
    }
}

/// Starts a copy; returns what the node found at the path.
async fn begin<M: Manager>(
    task: &str,
    copy: CopySpec,
    inputs: TaskInputs,
    session: &mut Session<'_, M>,
) -> Result<(CopyTarget, TaskOutputs), Failure> {
    let reason = session.globals.reason.clone();
    let wanted = Interaction { task: task.to_owned(), reason, what: Some(What::Copy(copy)) };
    let mut outputs = session.manager.interact(wanted, inputs).await?;
    match outputs.next().await.transpose()? {
        Some(Output::Target(target)) => Ok((target, outputs)),
        Some(Output::Stdout(_) | Output::Stderr(_) | Output::ExitCode(_)) => {
            Err(Failure::new(Kind::Other, "the node did not report what is at the path"))
        }
        None => Err(cut_short()),
    }
}

fn cut_short() -> Failure {
    let failure = Failure::new(Kind::Stopped, "the manager was stopped, which ends the copy");
    failure.hint("repeat the command at another manager, or once swarmd runs again")
}

fn from_task(args: &Args, path: &str) -> CopySpec {
    CopySpec { path: path.to_owned(), to_task: false, follow_link: args.follow_link }
}

fn no_inputs() -> TaskInputs {
    Box::pin(tokio_stream::pending())
}

async fn to_stdout<M: Manager>(
    args: &Args,
    task: &str,
    path: &str,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let (_, mut outputs) = begin(task, from_task(args, path), no_inputs(), session).await?;
    while let Some(data) = next_data(&mut outputs).await? {
        session.env.out.write_all(&data)?;
    }
    Ok(session.env.out.flush()?)
}

/// The next chunk of an archive; `None` once it is complete.
async fn next_data(outputs: &mut TaskOutputs) -> Result<Option<Vec<u8>>, Failure> {
    loop {
        match outputs.next().await.transpose()? {
            Some(Output::Stdout(data)) => return Ok(Some(data)),
            Some(Output::ExitCode(_)) => return Ok(None),
            Some(Output::Stderr(_) | Output::Target(_)) => {}
            None => return Err(cut_short()),
        }
    }
}

async fn to_here<M: Manager>(
    args: &Args,
    task: &str,
    path: &str,
    to: &Path,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let (target, mut outputs) = begin(task, from_task(args, path), no_inputs(), session).await?;
    let (below, root) = destination(path, &target, to)?;
    let limits = Limits { bytes: args.max_size, keep_owner: args.archive };
    let (pieces, given) = mpsc::channel(QUEUED_CHUNKS_MAX);
    let unpacked = on_thread("unpack", move || unpack(ChunkReader::new(given), &below, &root, limits))?;
    let mut relayed = Ok(());
    loop {
        match next_data(&mut outputs).await {
            // The unpacker has everything, or its error is reported below.
            Ok(Some(data)) => {
                if pieces.send(data).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(failure) => {
                relayed = Err(failure);
                break;
            }
        }
    }
    drop(pieces);
    let unpacked = ended(unpacked).await;
    // An interrupted archive is damaged as well, but that error says less.
    relayed?;
    let Unpacked { bytes, left_out } = unpacked.map_err(|error| {
        Failure::new(Kind::Other, format!("cannot copy to {}: {error}", to.display()))
            .hint("files that were complete stay; use `-` instead of the local path to get the archive")
    })?;
    for path in left_out {
        session.note(&format!("left out {path}: devices and pipes are not copied"))?;
    }
    said(args, bytes, &to.display().to_string(), session)
}

/// The local destination of a copy: the directory, and the name for the archive's root.
fn destination(path: &str, target: &CopyTarget, to: &Path) -> Result<(PathBuf, Root), Failure> {
    let refuse = |sentence: String, hint: &str| Err(Failure::new(Kind::Usage, sentence).hint(hint));
    let name = copy::name(path);
    // Links of the destination are followed, even if their target does not exist yet.
    match std::fs::metadata(to) {
        Ok(known) if known.is_dir() => Ok((to.to_owned(), name.map_or(Root::Contents, Root::Named))),
        Ok(_) if target.is_directory => {
            refuse(format!("{path} is a directory, and {} is not", to.display()), "choose another destination")
        }
        known => {
            let real = if known.is_ok() { std::fs::canonicalize(to)? } else { to.to_owned() };
            let (Some(parent), Some(own)) = (real.parent(), real.file_name()) else {
                return refuse(format!("{} cannot be created", to.display()), "choose an existing directory");
            };
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            let must_exist = !target.is_directory && copy::means_directory(&to.to_string_lossy());
            let missing = if must_exist { to } else { parent };
            if must_exist || !parent.is_dir() {
                return refuse(format!("there is no directory {}", missing.display()), "create it first");
            }
            if name.is_none() {
                std::fs::create_dir(&real)?;
                return Ok((real, Root::Contents));
            }
            Ok((parent.to_owned(), Root::Named(own.to_owned())))
        }
    }
}

async fn from_here<M: Manager>(
    args: &Args,
    from: &Path,
    task: &str,
    path: &str,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let unreadable = |error: io::Error| {
        let kind = if error.kind() == io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Other };
        Failure::new(kind, format!("cannot read {}: {error}", from.display())).hint("check the path of the source")
    };
    let is_link = std::fs::symlink_metadata(from).map_err(unreadable)?.is_symlink();
    let real =
        if is_link && args.follow_link { std::fs::canonicalize(from).map_err(unreadable)? } else { from.to_owned() };
    let is_directory = std::fs::symlink_metadata(&real).map_err(unreadable)?.is_dir();
    let (inputs, given) = mpsc::channel(1);
    let copy = CopySpec { path: path.to_owned(), to_task: true, follow_link: true };
    let (target, mut outputs) = begin(task, copy, Box::pin(ReceiverStream::new(given)), session).await?;
    let name = name_there(from, is_directory, path, &target)?;
    let source = Source { path: real, name, keep_owner: args.archive };
    let packed = on_thread("pack", move || {
        let mut archive = io::BufWriter::with_capacity(CHUNK_BYTES, Inputs(inputs));
        let bytes = pack(&source, &mut archive)?;
        archive.flush()?;
        archive.get_mut().end().map(|()| bytes)
    })?;
    let finished = complete(&mut outputs).await;
    // The node accepts no more input of a copy that it refused.
    drop(outputs);
    let packed = ended(packed).await;
    match (finished, packed) {
        (Ok(()), Ok(bytes)) => said(args, bytes, &format!("{task}:{path}"), session),
        (Err(failure), Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Err(failure),
        (_, Err(error)) => Err(unreadable(error)),
        (Err(failure), Ok(_)) => Err(failure),
    }
}

/// The name of the source in the task; `None` if only its contents are copied there.
fn name_there(from: &Path, is_directory: bool, path: &str, target: &CopyTarget) -> Result<Option<OsString>, Failure> {
    if target.is_directory {
        return Ok(copy::name(&from.to_string_lossy()).and_then(|_| from.file_name().map(OsString::from)));
    }
    if target.exists && is_directory {
        let failure = Failure::new(Kind::Usage, format!("{} is a directory, and {path} is not", from.display()));
        return Err(failure.hint("choose another destination"));
    }
    if !is_directory && copy::means_directory(path) {
        let failure = Failure::new(Kind::NotFound, format!("there is no directory {path} in the task"));
        return Err(failure.hint("create it there first, with `swarmctl task exec`"));
    }
    Ok(Some(OsString::from(&target.name)))
}

async fn from_stdin<M: Manager>(task: &str, path: &str, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let (inputs, given) = mpsc::channel(1);
    let copy = CopySpec { path: path.to_owned(), to_task: true, follow_link: true };
    let (target, mut outputs) = begin(task, copy, Box::pin(ReceiverStream::new(given)), session).await?;
    if !target.is_directory {
        let failure =
            Failure::new(Kind::Usage, format!("{path} is not a directory that an archive could be unpacked into"));
        return Err(failure.hint("choose an existing directory"));
    }
    let mut console_input = session.env.console.listen(ConsoleOptions { stdin: true, raw: false, page: false })?;
    let give = async {
        while let Some(input) = console_input.next().await {
            match input {
                Input::Data(_) | Input::End(_) => {
                    let is_last = matches!(input, Input::End(_));
                    if inputs.send(input).await.is_err() || is_last {
                        break;
                    }
                }
                Input::Signal(_) => {
                    return Failure::new(Kind::Interrupted, "ended by a signal; the copy is incomplete");
                }
                Input::Size(_) => {}
            }
        }
        // The node reports the result.
        std::future::pending().await
    };
    tokio::select! {
        completed = complete(&mut outputs) => completed,
        failure = give => Err(failure),
    }
}

/// Waits until the node has received everything.
async fn complete(outputs: &mut TaskOutputs) -> Result<(), Failure> {
    while next_data(outputs).await?.is_some() {}
    Ok(())
}

fn said<M>(args: &Args, bytes: u64, to: &str, session: &mut Session<'_, M>) -> Result<(), Failure>
where
    M: Manager,
{
    if args.quiet { Ok(()) } else { session.note(&format!("copied {} to {to}", size::show(bytes))) }
}

/// Runs blocking file operations on a separate thread.
fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<mpsc::Receiver<io::Result<T>>, Failure> {
    let (sender, receiver) = mpsc::channel(1);
    // If the command has failed already, the result is not needed.
    std::thread::Builder::new().name(name.to_owned()).spawn(move || drop(sender.blocking_send(work())))?;
    Ok(receiver)
}

async fn ended<T>(mut thread: mpsc::Receiver<io::Result<T>>) -> io::Result<T> {
    thread.recv().await.unwrap_or_else(|| Err(io::Error::other("its thread panicked")))
}

/// Writes an archive to a task.
struct Inputs(mpsc::Sender<Input>);

impl Inputs {
    fn give(&self, input: Input) -> io::Result<()> {
        self.0
            .blocking_send(input)
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the node accepts no more data"))
    }

    fn end(&mut self) -> io::Result<()> {
        self.give(Input::End(EndOfInput {}))
    }
}

impl Write for Inputs {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let piece = data.get(..CHUNK_BYTES).unwrap_or(data);
        self.give(Input::Data(piece.to_vec()))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads an archive as it arrives.
struct ChunkReader {
    given: mpsc::Receiver<Vec<u8>>,
    piece: io::Cursor<Vec<u8>>,
}

impl ChunkReader {
    fn new(given: mpsc::Receiver<Vec<u8>>) -> Self {
        Self { given, piece: io::Cursor::default() }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.piece.read(buffer)? {
                0 if !buffer.is_empty() => match self.given.blocking_recv() {
                    Some(piece) => self.piece = io::Cursor::new(piece),
                    None => return Ok(0),
                },
                count => return Ok(count),
            }
        }
    }
}
