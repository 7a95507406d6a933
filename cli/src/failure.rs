//! Why a command failed: one sentence, one hint and one exit code.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use tonic::{Code, Status};
use wire::v1::{Refusal, RefusalKind};

use crate::format::{Format, escape};
use crate::values::{Invalid, duration};

/// The kind of a failure; it determines the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Any other failure.
    Other,
    /// The command line, or a value in it, is invalid.
    Usage,
    /// The object does not exist.
    NotFound,
    /// The name is taken.
    Exists,
    /// Another client changed the object, or its state does not allow the change.
    Conflict,
    /// An update failed, was paused or rolled itself back.
    UpdateFailed,
    /// The wait timed out.
    TimedOut,
    /// No manager answers, or the managers have no quorum.
    Unreachable,
    /// The manager was shut down, and ended this request in an orderly way.
    Stopped,
    /// The caller may not do this.
    Forbidden,
    /// The user interrupted the wait.
    Interrupted,
    /// The reader of the output closed it, such as `head` after its last line.
    OutputClosed,
}

impl Kind {
    /// The exit code of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            // The reader that closed the pipe had all it wanted.
            Self::OutputClosed => 0,
            Self::Other => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Exists | Self::Conflict => 4,
            Self::UpdateFailed => 5,
            Self::TimedOut => 6,
            // In both cases it makes sense to retry later.
            Self::Unreachable | Self::Stopped => 7,
            Self::Forbidden => 8,
            Self::Interrupted => 130,
        }
    }

    /// The default hint.
    fn hint(self) -> &'static str {
        match self {
            Self::Usage => "`swarmctl help` lists the commands, and `--help` after a command its flags",
            Self::NotFound => "the `ls` command of the noun shows what exists; a unique prefix of an id works as well",
            Self::Exists => "choose another name, or update the object that has it",
            Self::Conflict => "read the object again and repeat the change",
            Self::UpdateFailed => {
                "`swarmctl service inspect` shows the state of the update, `swarmctl task ls -a` what failed"
            }
            Self::TimedOut => "the operation continues; `swarmctl service inspect` shows its progress",
            Self::Unreachable => "check that swarmd runs on this machine and that --socket names its control socket",
            Self::Stopped => "repeat the command once swarmd runs again",
            Self::Forbidden => "the control socket belongs to the user who started swarmd: become that user, or root",
            Self::Interrupted | Self::OutputClosed => "nothing was undone",
            Self::Other => "the manager's log may say more",
        }
    }
}

/// The hint if a manager accepts a call but does not answer.
const SILENCE_HINT: &str = "swarmd may be suspended, or its disk may hang: look at its log, and try again";

/// A command's failure as shown to people and scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The kind of failure.
    #[serde(rename = "code")]
    pub kind: Kind,
    /// The subject, such as `service web`, if the manager named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What happened.
    pub sentence: String,
    /// What to do next.
    pub hint: String,
}

impl Failure {
    /// A failure with the default hint of its kind.
    pub fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        Self { kind, subject: None, sentence: sentence.into(), hint: kind.hint().to_owned() }
    }

    /// A manager accepted a call but did not answer.
    pub fn silent(timeout: Duration) -> Self {
        let sentence = format!("the manager accepted the call but did not answer within {}", duration::show(timeout));
        Self::new(Kind::Unreachable, sentence).hint(SILENCE_HINT)
    }

    /// The manager ended an endless stream in an orderly way.
    pub fn stopped() -> Self {
        Self::new(Kind::Stopped, "the manager was stopped, which ends the stream of events")
    }

    /// The same failure with a more specific hint.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// Writes the failure: two lines of text, or one JSON object.
    ///
    /// # Errors
    /// When `err` cannot be written to.
    pub fn write(&self, format: Format, err: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Table => {
                // A quoted value, or text from an engine, may contain control characters.
                writeln!(err, "error: {}\nhint: {}", escape::line(&self.sentence), escape::line(&self.hint))
            }
            Format::Json => {
                #[derive(Serialize)]
                struct Document<'a> {
                    error: &'a Failure,
                }
                let document = serde_json::to_string(&Document { error: self })?;
                writeln!(err, "{}", escape::json(&document))
            }
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.kind() {
            RefusalKind::NotFound => Kind::NotFound,
            RefusalKind::Exists => Kind::Exists,
            RefusalKind::Invalid => Kind::Usage,
            RefusalKind::Conflict => Kind::Conflict,
            RefusalKind::Forbidden | RefusalKind::Removed | RefusalKind::NotMember => Kind::Forbidden,
            RefusalKind::Exhausted => Kind::Other,
            RefusalKind::Unavailable => Kind::Unreachable,
        };
        let subject = Some(refusal.subject).filter(|subject| !subject.is_empty());
        let hint = refusal.hint.unwrap_or_else(|| kind.hint().to_owned());
        Self { kind, subject, sentence: refusal.sentence, hint }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if let Some(refusal) = Refusal::from_status(&status) {
            return refusal.into();
        }
        if wire::is_silence(&status) {
            return Self::new(Kind::Unreachable, "the manager no longer answers").hint(SILENCE_HINT);
        }
        // Only transport errors of this process have a source; errors from the manager have none.
        if let Some(cause) = std::error::Error::source(&status) {
            return Self::new(Kind::Unreachable, format!("the connection to the manager broke: {}", innermost(cause)));
        }
        let kind = match status.code() {
            Code::NotFound => Kind::NotFound,
            Code::AlreadyExists => Kind::Exists,
            Code::InvalidArgument | Code::OutOfRange => Kind::Usage,
            Code::FailedPrecondition | Code::Aborted => Kind::Conflict,
            Code::PermissionDenied | Code::Unauthenticated => Kind::Forbidden,
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => Kind::Unreachable,
            Code::Ok
            | Code::Unknown
            | Code::ResourceExhausted
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss => Kind::Other,
        };
        let said = if status.message().is_empty() { status.code().to_string() } else { status.message().to_owned() };
        if kind == Kind::Unreachable {
            return Self::new(kind, format!("the connection to the manager was lost: {said}"));
        }
        Self::new(kind, format!("the manager answered: {said}"))
    }
}

/// The root cause of an error chain: the errors above repeat it, or add where it passed through.
pub fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::new(Kind::Usage, invalid.sentence).hint(invalid.hint)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::OutputClosed, "the reader of the output has closed it"),
            _ => Self::new(Kind::Other, format!("the output cannot be written: {error}"))
                .hint("check where the output goes: the disk may be full"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_exit_code_and_a_hint() {
        let table = [
            (RefusalKind::NotFound, 3),
            (RefusalKind::Exists, 4),
            (RefusalKind::Invalid, 2),
            (RefusalKind::Conflict, 4),
            (RefusalKind::Forbidden, 8),
            (RefusalKind::Exhausted, 1),
            (RefusalKind::Unavailable, 7),
        ];
        for (kind, code) in table {
            let refusal =
                Refusal { kind: kind.into(), subject: "service web".to_owned(), sentence: "no".to_owned(), hint: None };
            // Through the wire format, as a manager sends it.
            let failure = Failure::from(Status::from(refusal));
            assert_eq!(failure.kind.exit_code(), code, "{kind:?}");
            assert_eq!(failure.subject.as_deref(), Some("service web"));
            assert!(!failure.hint.is_empty());
        }
    }

    #[test]
    fn a_broken_connection_is_no_refusal() {
        let failure = Failure::from(Status::unavailable("tcp connect error"));
        assert_eq!(failure.kind.exit_code(), 7);
        assert!(failure.hint.contains("--socket"));
    }

    #[test]
    fn an_answer_that_breaks_off_is_a_lost_manager() {
        let failure = Failure::from(Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionReset))));
        let said = (failure.kind, failure.sentence.as_str());
        assert_eq!(said, (Kind::Unreachable, "the connection to the manager broke: connection reset"));
        // An error from the manager itself has the same code but is an answer.
        assert_eq!(Failure::from(Status::unknown("disk full")).sentence, "the manager answered: disk full");
    }

    #[test]
    fn a_reader_gets_two_lines_and_a_script_one_object() {
        let failure = Failure::new(Kind::NotFound, "there is no service web").hint("look again");
        let mut text = Vec::new();
        failure.write(Format::Table, &mut text).expect("a vector takes everything");
        assert_eq!(String::from_utf8_lossy(&text), "error: there is no service web\nhint: look again\n");
        text.clear();
        let torn = Failure::new(Kind::Usage, "\"a\nb\" is no name").hint("c\r\nd");
        torn.write(Format::Table, &mut text).expect("a vector takes everything");
        assert_eq!(String::from_utf8_lossy(&text), "error: \"a b\" is no name\nhint: c  d\n");
        text.clear();
        failure.write(Format::Json, &mut text).expect("a vector takes everything");
        let expected = r#"{"error":{"code":"not_found","sentence":"there is no service web","hint":"look again"}}"#;
        assert_eq!(String::from_utf8_lossy(&text).trim_end(), expected);
    }

    #[test]
    fn a_closed_pipe_is_not_an_error() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.kind.exit_code(), 0);
    }
}
