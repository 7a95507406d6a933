//! An event as one line of an exported file, for spreadsheets, databases and other tools. Each line identifies its event, so that
//! an interrupted export can continue after its last complete line.

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

/// The format of an export.
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
    /// The cluster that the events belong to.
    pub cluster: ClusterId,
    /// The redactions.
    pub redact: Redaction,
}

/// The event that a line is about: the index of its frame, and its position in the frame.
pub type EventPlace = (u64, u32);

impl Exporter {
    /// The header line, if the format has one. It states the redactions; in other formats each line does.
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

    /// Whether a file with this first line has the same redactions.
    fn begins(&self, line: &str) -> bool {
        if let Some(heading) = self.heading() {
            return heading == line;
        }
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        let record = if self.format == ExportFormat::Cloudevents { &value["data"] } else { &value };
        let redacted = self.redact.names();
        if redacted.is_empty() { record["redacted"].is_null() } else { record["redacted"] == json!(redacted) }
    }

    /// The flags of the export that wrote this first line, if they differ from these.
    pub fn other_flags(&self, line: &str) -> Option<String> {
        if self.begins(line) {
            return None;
        }
        let other = Redaction::ALL.into_iter().find(|redact| Self { redact: *redact, ..*self }.begins(line))?;
        let flags: Vec<String> = other.names().iter().map(|name| format!("--redact {name}")).collect();
        Some(flags.join(" "))
    }

    /// An event as a line, without the line end.
    ///
    /// # Errors
    /// When the event cannot be serialized to JSON.
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

    /// The event that a line of this format is about; `None` if the line has another form.
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

/// The metadata of an event besides its position and fields: time, kind, command, reconciler, the kind of the actor, the actor
/// and the reason.
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

/// A cell, quoted if necessary. Control characters are escaped, so that a line of the file is a row.
fn cell(text: &str) -> String {
    let text = escape::line(text);
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into_owned() }
}

#[cfg(test)]
mod tests;
