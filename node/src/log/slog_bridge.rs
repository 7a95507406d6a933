//! Raft logs through slog; the rest of the node through tracing. This is the bridge.

use std::fmt::{Arguments, Write};

use slog::{Drain, KV, Key, Level, Logger, OwnedKVList, Record, Serializer};

/// A logger for raft whose lines appear among the node's own, with target `raft`.
pub(super) fn logger() -> Logger {
    Logger::root(ToTracing, slog::o!())
}

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, context: &OwnedKVList) -> Result<(), slog::Never> {
        // Raft's info level has a line for each internal step: detail, for an operator.
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", line(record, context)),
            Level::Warning => tracing::warn!(target: "raft", "{}", line(record, context)),
            Level::Info => tracing::debug!(target: "raft", "{}", line(record, context)),
            Level::Debug | Level::Trace => tracing::trace!(target: "raft", "{}", line(record, context)),
        }
        Ok(())
    }
}

/// The message and its fields; called only if the line is logged.
fn line(record: &Record<'_>, context: &OwnedKVList) -> String {
    let mut fields = Fields(record.msg().to_string());
    let serialized = record.kv().serialize(record, &mut fields).and_then(|()| context.serialize(record, &mut fields));
    match serialized {
        Ok(()) => fields.0,
        Err(error) => format!("{} (and a field that cannot be printed: {error})", fields.0),
    }
}

struct Fields(String);

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: Key, value: &Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(slog::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl Drain for Lines {
        type Ok = ();
        type Err = slog::Never;

        fn log(&self, record: &Record<'_>, context: &OwnedKVList) -> Result<(), slog::Never> {
            self.0.lock().unwrap().push(line(record, context));
            Ok(())
        }
    }

    #[test]
    fn a_line_has_its_own_fields_and_its_loggers() {
        let lines = Lines::default();
        let raft = Logger::root(lines.clone(), slog::o!("raft_id" => 7));
        slog::warn!(raft, "lost a vote at term {term}", term = 3; "from" => "somebody");
        slog::info!(raft, "became follower");
        let expected = ["lost a vote at term 3 term=3 from=somebody raft_id=7", "became follower raft_id=7"];
        let mut lines = lines.0.lock().unwrap().clone();
        // Slog does not promise an order of the fields of one line.
        lines[0] = lines[0].replace("from=somebody term=3", "term=3 from=somebody");
        assert_eq!(lines, expected);
    }
}
