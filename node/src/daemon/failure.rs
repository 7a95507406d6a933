//! Why `swarmd` exits: a message, a hint, and an exit code.

use std::fmt;

use events::escape;

/// Exit codes, the same as those of `swarmctl`.
pub mod code {
    /// Failures without a specific code.
    pub const OTHER: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 2;
    /// The cluster cannot be reached.
    pub const UNREACHABLE: u8 = 7;
    /// Not allowed, or a problem with a certificate or a token.
    pub const NOT_ALLOWED: u8 = 8;
}

/// Why `swarmd` cannot continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The message.
    pub sentence: String,
    /// What the operator can do about it.
    pub hint: String,
    /// The process's exit code.
    pub code: u8,
}

impl Failure {
    /// A failure without a specific exit code.
    pub fn new(sentence: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self { sentence: sentence.to_string(), hint: hint.into(), code: code::OTHER }
    }

    /// The same failure with this exit code.
    pub fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Both may repeat text from a command line or a file.
        write!(f, "swarmd: {}", escape::line(&self.sentence))?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\nhint: {}", escape::line(&self.hint)) }
    }
}

impl std::error::Error for Failure {}

impl From<clap::Error> for Failure {
    /// The first paragraph of clap's message on one line; its tip, if any, becomes the hint.
    fn from(error: clap::Error) -> Self {
        let text = error.render().to_string();
        // The only flag that another flag requires.
        if error.kind() == clap::error::ErrorKind::MissingRequiredArgument && text.contains("--join-token") {
            let hint =
                "`swarmctl cluster inspect` on a manager prints the join tokens; give one with --join-token-file";
            return Failure::new("a node needs a join token to join a cluster", hint).with_code(code::USAGE);
        }
        let paragraph: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let sentence = paragraph.join(" ");
        let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
        let hint = tip.unwrap_or("`swarmd --help` lists the flags and their forms");
        Failure::new(sentence.strip_prefix("error: ").unwrap_or(&sentence), hint).with_code(code::USAGE)
    }
}

impl From<crate::log::LogError> for Failure {
    fn from(error: crate::log::LogError) -> Self {
        let hint = error.hint();
        Failure::new(error, hint)
    }
}

impl From<crate::manager::fold::FoldError> for Failure {
    fn from(error: crate::manager::fold::FoldError) -> Self {
        Failure::new(
            error,
            "`swarmd replay --state-dir DIR` shows how far the log reads; restore the directory from a backup",
        )
    }
}

impl From<crate::manager::replica::FatalError> for Failure {
    fn from(error: crate::manager::replica::FatalError) -> Self {
        match error {
            crate::manager::replica::FatalError::Log(error) => error.into(),
            crate::manager::replica::FatalError::Fold(error) => error.into(),
        }
    }
}

impl From<crate::security::IdentityError> for Failure {
    fn from(error: crate::security::IdentityError) -> Self {
        let hint = error.hint();
        Failure::new(error, hint).with_code(code::NOT_ALLOWED)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::daemon::config::Cli;

    #[test]
    fn who_joins_without_a_token_is_told_where_it_is() {
        let error = Cli::try_parse_from(["swarmd", "--join-addr", "10.0.0.1:4242"]).expect_err("no token");
        let failure = Failure::from(error);
        assert_eq!(failure.sentence, "a node needs a join token to join a cluster");
        assert!(failure.hint.contains("swarmctl cluster inspect"), "{failure}");
    }

    #[test]
    fn a_value_on_the_command_line_cannot_move_the_cursor() {
        let error = Cli::try_parse_from(["swarmd", "--log-level", "\u{1b}[2Jdebug\u{202e}"]).expect_err("no level");
        let shown = Failure::from(error).to_string();
        assert!(shown.starts_with("swarmd: invalid value"), "{shown}");
        assert!(shown.contains(r"debug\u{202e}"), "{shown}");
        assert!(shown.chars().all(|c| c == '\n' || escape::is_harmless(c)), "{shown:?}");
    }
}
