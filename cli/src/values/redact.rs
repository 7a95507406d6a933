//! What `--redact` leaves out of events that go elsewhere.

use wire::redaction::Redaction;

/// One kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Redact {
    /// Values of environment variables; their names stay
    Env,
    /// Values of labels; their keys stay
    Labels,
}

/// What these leave out together.
pub fn together(values: &[Redact]) -> Redaction {
    Redaction { env: values.contains(&Redact::Env), labels: values.contains(&Redact::Labels) }
}
