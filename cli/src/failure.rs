//! Why a command did not do what was asked: one sentence, one hint and one exit code.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use tonic::{Code, Status};
use wire::v1::{Refusal, RefusalKind};

use crate::format::{Format, escape};
use crate::values::{Invalid, duration};

/// What sort of failure; each has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// None of the others.
    Other,
    /// The command line, or a value in it, is wrong.
    Usage,
    /// What is named does not exist.
    NotFound,
    /// The name is taken.
    Exists,
    /// Somebody else changed the object, or its state forbids the change.
    Conflict,
    /// An update failed, was paused or rolled itself back.
    UpdateFailed,
    /// The time given for waiting is over.
    TimedOut,
    /// No manager answers, or it cannot decide anything now.
    Unreachable,
    /// The manager was told to stop, and ended in order what was under way.
    Stopped,
    /// The caller may not do this.
    Forbidden,
    /// The user ended the wait.
    Interrupted,
    /// The reader of the output has closed it, such as `head` after its last line.
    OutputClosed,
}

impl Kind {
    /// The exit code of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            // Whoever closed the pipe has all it wanted.
            Self::OutputClosed => 0,
            Self::Other => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Exists | Self::Conflict => 4,
            Self::UpdateFailed => 5,
            Self::TimedOut => 6,
            // Who asks again later gets further in both cases.
            Self::Unreachable | Self::Stopped => 7,
            Self::Forbidden => 8,
            Self::Interrupted => 130,
        }
    }

    /// What to do about it when nobody knows better.
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

/// What to look at when a manager is there and says nothing.
const SILENCE_HINT: &str = "swarmd may be suspended, or its disk may hang: look at its log, and try again";

/// A command's failure as people and scripts see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What sort of failure.
    #[serde(rename = "code")]
    pub kind: Kind,
    /// What it is about, such as `service web`, where the manager said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What happened.
    pub sentence: String,
    /// What to do next.
    pub hint: String,
}

impl Failure {
    /// A failure with the usual hint of its kind.
    pub fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        Self { kind, subject: None, sentence: sentence.into(), hint: kind.hint().to_owned() }
    }

    /// A manager has a call and says nothing.
    pub fn silent(patience: Duration) -> Self {
        let sentence = format!("the manager accepted the call but did not answer within {}", duration::show(patience));
        Self::new(Kind::Unreachable, sentence).hint(SILENCE_HINT)
    }

    /// The manager ended a stream that has no end of its own, in an orderly way.
    pub fn stopped() -> Self {
        Self::new(Kind::Stopped, "the manager was stopped, which ends the stream of events")
    }

    /// The same failure with a better hint.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// Writes the failure for its reader: two lines, or one object of JSON.
    ///
    /// # Errors
    /// When `err` cannot be written to.
    pub fn write(&self, format: Format, err: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Table => {
                // What is quoted in a sentence, or comes from an engine, may have more in it than words.
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
        // Only what this process made of a transport's error has a source; what the manager said has none.
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

/// The error at the beginning of a chain: those above it repeat it, or say where it went through.
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
            // The long way round: as a manager sends it.
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
        // What the manager itself says has the same code and is an answer.
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
