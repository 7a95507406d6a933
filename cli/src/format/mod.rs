//! How replies are shown: tables and blocks for people, JSON for scripts. Everything here is a function of its arguments.

pub mod age;
pub mod blame;
pub mod block;
pub mod chain;
pub mod changes;
pub mod cluster;
pub mod config;
pub mod difference;
pub mod escape;
pub mod event_lines;
pub mod export;
pub mod job;
pub mod log;
mod names;
pub mod node;
pub mod operations;
pub mod operator;
mod phrase;
pub mod place;
pub mod placing;
pub mod preview;
pub mod raft;
pub mod replay;
mod restarts;
pub mod revision;
pub mod secret;
pub mod service;
pub mod sink;
pub mod survive;
pub mod table;
pub mod task;
mod template;
pub mod usage;
pub mod view;
mod wrap;

pub use names::RecordNames;
pub use wrap::wrap;

/// The forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Tables and blocks for people
    #[default]
    Table,
    /// One JSON object a line
    Json,
}

/// The name of an enum value as shown in tables: `RUNNING`.
pub fn state(value: impl events::Named) -> String {
    value.name().to_ascii_uppercase()
}

/// Several words as typed in a shell, quoted where necessary.
pub fn words(words: &[String]) -> String {
    let plain = |word: &&String| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c))
    };
    let quoted = |word: &String| {
        if plain(&word) { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_can_be_typed_again() {
        let list = ["sh", "-c", "echo 'a b'", ""].map(str::to_owned);
        assert_eq!(words(&list), r"sh -c 'echo '\''a b'\''' ''");
    }
}
