//! The values that `--redact` leaves out of events for other systems.

use wire::redaction::Redaction;

/// One kind of redacted values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Redact {
    /// Values of environment variables; their names are kept
    Env,
    /// Values of labels; their keys are kept
    Labels,
}

/// The combination of these redactions.
pub fn together(values: &[Redact]) -> Redaction {
    Redaction { env: values.contains(&Redact::Env), labels: values.contains(&Redact::Labels) }
}
