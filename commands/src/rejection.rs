//! Rejections: what is wrong with a command, which object it concerns, and what to do next.

use std::fmt;

use projections::views::overview::ReferenceError;

/// The kind of a rejection; one table in the shell maps it to gRPC codes and to Docker's HTTP statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum RejectionKind {
    /// The object does not exist.
    NotFound,
    /// An object with that name already exists.
    Exists,
    /// The request is invalid in any state.
    Invalid,
    /// The request conflicts with the state: a stale version, an object in use.
    Conflict,
    /// The actor may not do this.
    Forbidden,
    /// A limit is reached.
    Exhausted,
    /// It is impossible now, and may be possible later.
    Unavailable,
}

/// Why a command has no effect.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rejection {
    /// Its kind.
    pub kind: RejectionKind,
    /// The object concerned, such as `service web`.
    pub subject: String,
    /// One sentence for the user.
    pub sentence: String,
    /// What to do next.
    pub hint: String,
}

impl Rejection {
    /// A rejection.
    pub fn new(
        kind: RejectionKind,
        subject: impl Into<String>,
        sentence: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { kind, subject: subject.into(), sentence: sentence.into(), hint: hint.into() }
    }

    /// A request that is invalid in any state.
    pub fn invalid(subject: impl Into<String>, sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(RejectionKind::Invalid, subject, sentence, hint)
    }

    /// A request that conflicts with the state.
    pub fn conflict(subject: impl Into<String>, sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(RejectionKind::Conflict, subject, sentence, hint)
    }

    /// An object that does not exist.
    pub fn not_found(noun: &str, reference: impl fmt::Display) -> Self {
        let sentence = format!("there is no {noun} \"{reference}\"");
        Self::new(RejectionKind::NotFound, format!("{noun} {reference}"), sentence, list_hint(noun))
    }
}

fn list_hint(noun: &str) -> String {
    format!("`swarmctl {noun} ls` lists what there is")
}

impl From<ReferenceError> for Rejection {
    fn from(error: ReferenceError) -> Self {
        let sentence = error.to_string();
        match error {
            ReferenceError::NotFound { noun, reference } => Rejection::not_found(noun, reference),
            ReferenceError::Ambiguous { noun, reference, .. } => {
                let hint = "give more characters of the id, or the whole id";
                Rejection::invalid(format!("{noun} {reference}"), sentence, hint)
            }
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Rejection {}
