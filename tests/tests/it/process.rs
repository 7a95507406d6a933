//! Runs our two programs, and waits for their effects.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Time limit for everything here; a test that waits longer has failed.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// Polling interval for conditions without notification.
const LOOK: Duration = Duration::from_millis(50);

/// One of our programs, in the directory of this test's binary.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this test's path");
    let path = own.ancestors().nth(2).expect("the directory above deps").join(name);
    assert!(path.exists(), "{} is missing: `cargo build --workspace --bins` builds it", path.display());
    path
}

/// Whether this test runs as root, to whom some refusals do not apply.
pub fn is_root() -> bool {
    run(Command::new("id").arg("-u")).out.trim() == "0"
}

/// Polls until `condition` returns something; `None` on timeout.
pub fn poll<T>(timeout: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = condition() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

/// The result of a command.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Answer {
    fn new(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Checks that this is a well-formed refusal: this exit code, one sentence that contains `words`, a hint, and no internal
    /// details.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &str) {
        assert_eq!(self.code, code, "the exit code of {self:?}");
        let lines: Vec<&str> = self.err.lines().filter(|line| !line.starts_with('{')).collect();
        let [sentence, hint] = lines[..] else { panic!("not a sentence and a hint: {self:?}") };
        let sentence = sentence.strip_prefix("error: ").or_else(|| sentence.strip_prefix("swarmd: "));
        let sentence = sentence.unwrap_or_else(|| panic!("no sentence of ours: {self:?}"));
        assert!(sentence.contains(words), "\"{words}\" is not in: {sentence}");
        let hint = hint.strip_prefix("hint: ").unwrap_or_else(|| panic!("no hint: {self:?}"));
        assert!(hint.len() > 10, "hardly a hint: {hint}");
        for word in ["panicked", "RUST_BACKTRACE", "stack backtrace", "Some(", "Error {"] {
            assert!(!self.err.contains(word), "\"{word}\" is in: {}", self.err);
        }
    }
}

/// Runs a command to its end, within the time limit.
pub fn run(command: &mut Command) -> Answer {
    use std::process::Stdio;
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    // Read concurrently: a full pipe would block the command.
    let (out, err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let read = |mut from: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).expect("read");
            bytes
        })
    };
    let (out, err) = (read(Box::new(out)), read(Box::new(err)));
    let ended = poll(TIMEOUT, || child.try_wait().expect("waited"));
    if ended.is_none() {
        child.kill().expect("killed");
        child.wait().expect("waited");
    }
    let (stdout, stderr) = (out.join().expect("read"), err.join().expect("read"));
    match ended {
        Some(status) => Answer::new(Output { status, stdout, stderr }),
        None => panic!("{command:?} did not end: {}", String::from_utf8_lossy(&stderr)),
    }
}
