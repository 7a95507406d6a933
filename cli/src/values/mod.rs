//! Parsers for the values of flags: durations, sizes, ports, mounts and the like.
//!
//! Each module parses one kind of value and refuses everything else with a sentence and a hint. None of them looks at the
//! cluster, which checks the rest.

pub mod affinity;
pub mod at;
pub mod autoscale;
pub mod command;
pub mod config_file;
pub mod constraint;
pub mod container;
pub mod copy;
pub mod cpus;
pub mod credential_spec;
mod decimal;
pub mod device;
pub mod duration;
pub mod env;
pub mod env_secret;
pub mod external_ca;
pub mod filter;
pub mod generic;
pub mod host;
pub mod image;
pub mod input;
pub mod keep;
pub mod keys;
pub mod mount;
pub mod mount_keys;
pub mod name;
pub mod number;
pub mod pair;
pub mod point;
pub mod port;
pub mod publish;
pub mod ratio;
pub mod rebalance;
pub mod redact;
pub mod scale;
pub mod schedule;
pub mod security_opt;
pub mod size;
pub mod start;
pub mod tail;
pub mod ulimit;
pub mod words;

use std::fmt;

/// Why a text is not a valid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The error, with the text.
    pub sentence: String,
    /// The expected form.
    pub hint: &'static str,
}

impl Invalid {
    /// An error with a sentence and a hint.
    pub fn new(sentence: impl Into<String>, hint: &'static str) -> Self {
        Self { sentence: sentence.into(), hint }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Invalid {}
