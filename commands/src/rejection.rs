//! Refusals: what is wrong with a wish, about what, and what to do next.

use std::fmt;

use projections::views::overview::ReferenceError;

/// The sort of a refusal; one table in the shell maps it to gRPC codes and to Docker's HTTP statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum RejectionKind {
    /// The object is not there.
    NotFound,
    /// An object with that name is there already.
    Exists,
    /// The request makes no sense in any state.
    Invalid,
    /// The request does not fit the state: a stale version, an object in use.
    Conflict,
    /// The actor may not do this.
    Forbidden,
    /// A limit is reached.
    Exhausted,
    /// It cannot be done now, and may be later.
    Unavailable,
}

/// Why a command has no effect.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rejection {
    /// The sort of refusal.
    pub kind: RejectionKind,
    /// What it is about, such as `service web`.
    pub subject: String,
    /// One sentence for the user.
    pub sentence: String,
    /// What to do next.
    pub hint: String,
}

impl Rejection {
    /// A refusal.
    pub fn new(
        kind: RejectionKind,
        subject: impl Into<String>,
        sentence: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { kind, subject: subject.into(), sentence: sentence.into(), hint: hint.into() }
    }

    /// A request that makes no sense in any state.
    pub fn invalid(subject: impl Into<String>, sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(RejectionKind::Invalid, subject, sentence, hint)
    }

    /// A request that does not fit the state.
    pub fn conflict(subject: impl Into<String>, sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(RejectionKind::Conflict, subject, sentence, hint)
    }

    /// An object that is not there.
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
