//! An event as one line of an exported file: what spreadsheets, databases and other tools read. Each line says which event it is, so
//! that an export that was cut short continues after its last whole line.

mod sql;

use std::borrow::Cow;

use events::{Cause, ClusterId, Kind, Named, Reconciler};
use serde_json::{Value, json};
use wire::cloudevents;
use wire::redaction::Redaction;
use wire::v1::EventRecord;

use super::escape;

/// The columns of a CSV file.
const COLUMNS: &str = "index,ordinal,time,kind,command,reconciler,actor_kind,actor,reason,subjects,names,event";

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// JSON objects.
    Jsonl,
    /// Comma-separated values.
    Csv,
    /// CloudEvents.
    Cloudevents,
    /// SQL.
    Sql,
}

/// Writes events as lines.
#[derive(Debug)]
pub struct Exporter {
    /// The format.
    pub format: ExportFormat,
    /// Whose events they are.
    pub cluster: ClusterId,
    /// What is left out.
    pub redact: Redaction,
}

/// Which event a line is about: its frame's index, and its place in the frame.
pub type EventPlace = (u64, u32);

impl Exporter {
    /// The line before all events, where the format has one. It says what is left out; in other formats each line does.
    pub fn heading(&self) -> Option<Cow<'static, str>> {
        let redacted = self.redact.names();
        match self.format {
            ExportFormat::Csv => {
                let columns = redacted.iter().map(|name| format!(",redacted_{name}"));
                Some((COLUMNS.to_owned() + &columns.collect::<String>()).into())
            }
            ExportFormat::Sql if redacted.is_empty() => Some(sql::heading().into()),
            ExportFormat::Sql => Some(format!("{} -- redacted: {}", sql::heading(), redacted.join(" ")).into()),
            ExportFormat::Jsonl | ExportFormat::Cloudevents => None,
        }
    }

    /// Whether a file whose first line this is has the same values left out.
    fn begins(&self, line: &str) -> bool {
        if let Some(heading) = self.heading() {
            return heading == line;
        }
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        let record = if self.format == ExportFormat::Cloudevents { &value["data"] } else { &value };
        let redacted = self.redact.names();
        if redacted.is_empty() { record["redacted"].is_null() } else { record["redacted"] == json!(redacted) }
    }

    /// The flags with which a file was begun whose first line this is, if they are others than these.
    pub fn other_flags(&self, line: &str) -> Option<String> {
        if self.begins(line) {
            return None;
        }
        let other = Redaction::ALL.into_iter().find(|redact| Self { redact: *redact, ..*self }.begins(line))?;
        let flags: Vec<String> = other.names().iter().map(|name| format!("--redact {name}")).collect();
        Some(flags.join(" "))
    }

    /// An event as a line, without its end.
    ///
    /// # Errors
    /// When it has no JSON.
    pub fn line(&self, record: &EventRecord) -> serde_json::Result<String> {
        if self.format == ExportFormat::Jsonl && self.redact.is_nothing() {
            return Ok(escape::json(&serde_json::to_string(record)?).into_owned());
        }
        let mut value = serde_json::to_value(record)?;
        self.redact.leave_out(&mut value);
        match self.format {
            ExportFormat::Jsonl => Ok(escape::json(&value.to_string()).into_owned()),
            ExportFormat::Cloudevents => {
                Ok(escape::json(&cloudevents::envelope(self.cluster, record, value).to_string()).into_owned())
            }
            ExportFormat::Csv => Ok(row(record, &value) + &",true".repeat(self.redact.names().len())),
            ExportFormat::Sql => Ok(sql_row(record, &value)),
        }
    }

    /// Which event a line of this format is about; nothing if it is no such line.
    pub fn place(&self, line: &str) -> Option<EventPlace> {
        match self.format {
            ExportFormat::Csv => {
                let mut cells = line.split(',');
                Some((cells.next()?.parse().ok()?, cells.next()?.parse().ok()?))
            }
            ExportFormat::Sql => sql::place(line),
            ExportFormat::Jsonl => {
                let value: Value = serde_json::from_str(line).ok()?;
                Some((value.get("index")?.as_u64()?, value.get("ordinal")?.as_u64()?.try_into().ok()?))
            }
            ExportFormat::Cloudevents => {
                let value: Value = serde_json::from_str(line).ok()?;
                cloudevents::place(value.get("id")?.as_str()?)
            }
        }
    }
}

/// What an event says besides its place and its fields: time, kind, command, reconciler, the kind of the actor, the actor and the reason.
fn circumstances(record: &EventRecord) -> [String; 7] {
    let reconciler = match record.event.cause {
        Some(Cause::Reconciler(number)) => {
            Reconciler::try_from(number).map_or_else(|_| number.to_string(), Named::name)
        }
        Some(Cause::Command(_)) | None => String::new(),
    };
    let command = record.command.as_ref();
    [
        record.log_time.to_string(),
        kind(record).to_owned(),
        command.map_or_else(String::new, |command| command.kind.clone()),
        reconciler,
        command.map_or_else(String::new, |command| command.actor.kind().name()),
        command.map_or_else(String::new, |command| command.actor.subject.clone()),
        command.and_then(|command| command.reason.clone()).unwrap_or_default(),
    ]
}

fn kind(record: &EventRecord) -> &'static str {
    record.event.kind.as_ref().map_or(sql::UNKNOWN, Kind::name)
}

/// An event as the cells of [`COLUMNS`].
fn row(record: &EventRecord, value: &Value) -> String {
    let names = record.subjects.iter().map(|id| record.names.get(id).map_or("", String::as_str));
    let place = [record.index.to_string(), record.ordinal.to_string()];
    let about = [record.subjects.join(" "), names.collect::<Vec<_>>().join(" "), value["event"].to_string()];
    let cells: Vec<String> = place.iter().chain(&circumstances(record)).chain(&about).map(|text| cell(text)).collect();
    cells.join(",")
}

/// An event as a row of its table in [`sql`].
fn sql_row(record: &EventRecord, value: &Value) -> String {
    let [time, kind, command, reconciler, actor_kind, actor, reason] = circumstances(record);
    let texts = [time, command, reconciler, actor_kind, actor, reason].map(|text| escape::line(&text).into_owned());
    let names = escape::json(&value["names"].to_string()).into_owned();
    let texts: Vec<String> = texts.into_iter().chain([names]).collect();
    sql::row((record.index, record.ordinal), &kind, &texts, &value["event"]["kind"][kind.as_str()])
}

/// A cell: quoted where its text would end it. Control characters are written out, so that a line of the file is a row.
fn cell(text: &str) -> String {
    let text = escape::line(text);
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into_owned() }
}

#[cfg(test)]
mod tests;
