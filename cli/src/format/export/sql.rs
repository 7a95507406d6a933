//! An export as SQL that `sqlite3` reads: a table for each kind of event with its fields as columns and indexes on the ids of
//! objects, a view of all events, and a view of the times at which tasks ran. It is text, so that it is streamed and continued
//! like the other formats and needs no database here.

use std::fmt::Write as _;

use events::catalogue::FIELDS;
use serde_json::Value;

use super::EventPlace;
use crate::format::escape;

/// Without syncing, each statement is cheap although it is a transaction of its own: a crash of the machine costs only a file
/// that can be exported again.
const SETTINGS: &str = "PRAGMA synchronous=OFF;";

/// The columns of every table, before the fields of its kind.
const COLUMNS: [&str; 9] =
    ["frame", "ordinal", "time", "command", "reconciler", "actor_kind", "actor", "reason", "names"];

/// Fields that hold the id of an object, by which events are queried.
const OBJECTS: [&str; 7] = ["task", "service", "node", "config", "secret", "operator", "sink"];

/// The kind of an event that this program does not know: it has no fields here.
pub const UNKNOWN: &str = "unknown";

/// When and where tasks ran, as reported by their nodes; one report may contain several states. Those that ran on n3 in May:
/// `SELECT * FROM task_runs WHERE node_name = 'n3' AND since < '2026-06' AND (until IS NULL OR until >= '2026-05')`.
const TASK_RUNS: &str = "CREATE VIEW IF NOT EXISTS task_runs AS WITH \
    placed AS (SELECT task, node, json_extract(names, '$.\"' || node || '\"') AS node_name FROM task_assigned UNION ALL \
    SELECT task, node, json_extract(names, '$.\"' || node || '\"') FROM task_created WHERE node IS NOT NULL), \
    states AS (SELECT task, json_extract(status, '$.state') AS state, json_extract(status, '$.at') AS at FROM task_reported UNION ALL \
    SELECT task, json_extract(phase.value, '$.state'), json_extract(phase.value, '$.at') FROM task_reported, \
    json_each(status, '$.phases') AS phase UNION ALL SELECT value, 'orphaned', time FROM task_orphaned, json_each(tasks)), \
    ran AS (SELECT task, min(at) AS since FROM states WHERE state = 'running' GROUP BY task), \
    ended AS (SELECT task, min(at) AS until FROM states \
    WHERE state IN ('complete', 'shutdown', 'failed', 'rejected', 'remove', 'orphaned') GROUP BY task) \
    SELECT created.task, created.service, json_extract(created.names, '$.\"' || created.service || '\"') AS service_name, created.slot, \
    placed.node, placed.node_name, ran.since, ended.until FROM task_created AS created JOIN ran USING (task) \
    LEFT JOIN placed USING (task) LEFT JOIN ended USING (task);";

/// The text before the name of a row's table.
const INSERT: &str = "INSERT OR IGNORE INTO \"";
/// The text between the table's name and the cells.
const VALUES: &str = "\" VALUES(";

/// The first line: the schema.
pub fn heading() -> String {
    let (mut schema, mut all) = (SETTINGS.to_owned(), String::new());
    for (kind, fields) in kinds() {
        let _ = write!(schema, " CREATE TABLE IF NOT EXISTS \"{kind}\"(frame INTEGER, ordinal INTEGER");
        for column in &COLUMNS[2..] {
            let _ = write!(schema, ", {column} TEXT");
        }
        for field in fields {
            let _ = write!(schema, ", \"{}\"", column(field));
        }
        schema.push_str(", PRIMARY KEY(frame, ordinal)) WITHOUT ROWID;");
        for object in OBJECTS.iter().filter(|object| fields.contains(object)) {
            let _ = write!(schema, " CREATE INDEX IF NOT EXISTS {kind}_by_{object} ON \"{kind}\"(\"{object}\");");
        }
        let union = if all.is_empty() { "" } else { " UNION ALL " };
        let _ = write!(all, "{union}SELECT {}, '{kind}' AS kind FROM \"{kind}\"", COLUMNS.join(", "));
    }
    let _ = write!(schema, " CREATE VIEW IF NOT EXISTS events AS {all}; {TASK_RUNS}");
    schema
}

fn kinds() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    FIELDS.iter().copied().chain([(UNKNOWN, &[][..])])
}

/// The column of a field; renamed if it has the name of a common column.
fn column(field: &str) -> String {
    if COLUMNS.contains(&field) { format!("event_{field}") } else { field.to_owned() }
}

/// A row: the metadata columns after the position, and the fields of the event.
pub fn row((index, ordinal): EventPlace, kind: &str, texts: &[String], event: &Value) -> String {
    let mut row = format!("{INSERT}{kind}{VALUES}{index},{ordinal}");
    texts.iter().for_each(|text| push_text(&mut row, text));
    let fields = kinds().find(|(name, _)| *name == kind).map_or(&[][..], |(_, fields)| fields);
    for field in fields {
        match &event[*field] {
            Value::Null => row.push_str(",NULL"),
            Value::Bool(is) => row.push_str(if *is { ",1" } else { ",0" }),
            Value::Number(number) => row.extend([",", &number.to_string()]),
            Value::String(text) => push_text(&mut row, &escape::line(text)),
            document @ (Value::Array(_) | Value::Object(_)) => {
                push_text(&mut row, &escape::json(&document.to_string()));
            }
        }
    }
    row + ");"
}

fn push_text(row: &mut String, text: &str) {
    let _ = write!(row, ",'{}'", text.replace('\'', "''"));
}

/// The event that a row is about.
pub fn place(line: &str) -> Option<EventPlace> {
    let (_, cells) = line.strip_prefix(INSERT)?.strip_suffix(");")?.split_once(VALUES)?;
    let mut numbers = cells.split(',');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use events::{Named, TaskState};
    use serde_json::json;

    use super::*;

    #[test]
    fn every_state_that_ends_a_task_ends_its_run_and_every_kind_has_a_table() {
        use TaskState::{Complete, Failed, Orphaned, Rejected, Remove, Running, Shutdown, Starting};
        for state in [Starting, Running, Complete, Shutdown, Failed, Rejected, Remove, Orphaned] {
            let ends =
                TASK_RUNS.split(" IN (").nth(1).is_some_and(|list| list.contains(&format!("'{}'", state.name())));
            assert_eq!(ends, state.is_terminal(), "{}", state.name());
        }
        let heading = heading();
        for kind in events::catalogue::NAMES {
            assert!(heading.contains(&format!("TABLE IF NOT EXISTS \"{kind}\"(frame INTEGER")), "{kind}");
        }
        assert!(heading.contains("CREATE INDEX IF NOT EXISTS task_assigned_by_node ON \"task_assigned\"(\"node\")"));
        assert!(!heading.contains('\n'), "{heading}");
    }

    #[test]
    fn no_table_has_a_column_twice_and_a_row_has_a_cell_for_each() {
        for (kind, fields) in kinds() {
            let mut columns: Vec<String> = COLUMNS.iter().map(|&column| column.to_owned()).collect();
            columns.extend(fields.iter().map(|field| column(field)));
            let count = columns.len();
            columns.sort();
            columns.dedup();
            assert_eq!(columns.len(), count, "{kind}");
            let texts = vec![String::new(); COLUMNS.len() - 2];
            let row = row((1, 2), kind, &texts, &Value::Null);
            assert_eq!((row.split(',').count(), place(&row)), (count, Some((1, 2))), "{row}");
        }
    }

    #[test]
    fn a_cell_is_what_its_value_is() {
        let event = json!({ "task": "it's", "slot": 7, "spec_version": 3, "reaped": ["a", "b"], "desired": "running" });
        let texts = vec![String::new(); COLUMNS.len() - 2];
        let row = row((12, 3), "task_created", &texts, &event);
        for cell in [",'it''s',", ",7,", ",'[\"a\",\"b\"]'", ",'running',", ",NULL,"] {
            assert!(row.contains(cell), "{cell}: {row}");
        }
    }
}
